//! A command that only looks, without a service: it takes the portal's pace and the database, or a scratch one where
//! there is none, and leaves nothing but the pace and what it was to remember.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::failure::Failure;
use super::workshop;
use crate::core::rule::RuleSet;
use crate::engine::{Context, pace};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::{Lock, Store};

/// Does the work under the lock, until it is done or the command is told to stop.
pub(super) async fn look<T>(
    settings: &Settings,
    rules: RuleSet,
    lock: Lock,
    work: impl AsyncFnOnce(&Context) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // A local application's renewed tokens must not go with a scratch file.
    let kept = settings.db.exists() || settings.oauth.is_some();
    let scratch = if kept { None } else { Some(Scratch::new()?) };
    let path = scratch.as_ref().map_or_else(|| settings.db.clone(), |scratch| scratch.0.join("plan.db"));
    let asked_to_stop = super::serve::asked_to_stop();
    let store = workshop::open_store(&path, true)?;
    let done = tokio::select! {
        done = observe(settings, rules, store.clone(), work) => done,
        () = asked_to_stop => Err(Failure::of("interrupted: nothing was deleted or enqueued")),
    };
    store.close().await;
    drop(scratch);
    drop(lock);
    done
}

async fn observe<T>(
    settings: &Settings,
    rules: RuleSet,
    store: Store,
    work: impl AsyncFnOnce(&Context) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let metrics = Metrics::new();
    let portal = workshop::portal(settings, &rules, Some(&store), &metrics).await?;
    let ctx = Context::observing(workshop::parts(store, portal, metrics), rules);
    let done = work(&ctx).await?;
    pace::close(&ctx.store, &ctx.portal, ctx.clock.now()).await?;
    Ok(done)
}

/// A directory for a database that nobody needs afterwards; nobody else can read it, and it goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Failure> {
        let name = format!("b24-janitor-plan-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        // Fails where the name is taken, so that nobody can put a database or a link there first.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where it can't be removed, the system's tidying does it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
