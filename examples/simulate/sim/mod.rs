//! The life of one seed: a week of a service, its portal and its people, then the end of all faults, then the accounts.
//!
//! Everything is drawn from the seed and time is paused, so that a seed always gives the same history; its hash proves
//! it. Everything of a seed runs in one thread, the store's closures included.

mod actions;
mod checks;
mod end;
mod ledger;
mod listener;
mod oracle;
mod people;
pub(crate) mod pool;
pub(crate) mod report;
mod spec;
mod wires;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use b24_janitor::sandbox::{BatchCharge, Language, NotFoundStyle, SandboxOptions};
use fastrand::Rng;

use checks::Seen;
use report::{Counts, Report};
use spec::Spec;
use world::{Checked, World};

/// How long the faults go on.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// At most so long between two things that happen.
const PAUSE_SECONDS: u64 = 6 * 3600;

/// Lives through one seed; the last `shown` lines of its history are kept.
pub(crate) fn live(seed: u64, shown: usize) -> Report {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        match runtime {
            Ok(runtime) => runtime.block_on(story(seed, shown)),
            Err(error) => failed(seed, format!("no runtime: {error}")),
        }
    }));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        failed(seed, format!("the simulation panicked: {}", text.unwrap_or_default()))
    })
}

fn failed(seed: u64, failure: String) -> Report {
    Report { seed, hash: 0, counts: Counts::default(), failure: Some(failure), history: Vec::new() }
}

fn portal(rng: &mut Rng, seed: u64) -> SandboxOptions {
    let charges = [BatchCharge::Method, BatchCharge::MethodBatched, BatchCharge::Batch];
    let styles = [NotFoundStyle::Item, NotFoundStyle::Lead, NotFoundStyle::Documented];
    SandboxOptions {
        leads: rng.usize(20..100),
        seed,
        language: if rng.bool() { Language::English } else { Language::Russian },
        not_found: styles[rng.usize(..3)],
        store_short_runs: rng.bool(),
        batch_charge: charges[rng.usize(..3)],
        delete_seconds: 0.01 + rng.f64() * rng.f64() * 3.0,
        list_seconds: 0.01 + rng.f64() * 0.3,
        sleep_scale: 1.0,
        ..SandboxOptions::default()
    }
}

async fn story(seed: u64, shown: usize) -> Report {
    let mut rng = Rng::with_seed(seed);
    let options = portal(&mut rng, seed);
    let spec = Spec::random(&mut rng);
    let mut world = match World::new(seed, options, spec) {
        Ok(world) => world,
        Err(error) => return failed(seed, error),
    };
    world.wire.ledger().shown = shown;
    world.skews = rng.u8(0..5) == 0;
    world.shared = rng.u8(0..5) == 0;
    let mut seen = Seen::default();
    let lived = week(&mut world, &mut rng, &mut seen).await;
    let stats = world.sandbox.stats();
    let counts = &mut world.counts;
    counts.days = world.clock.now().duration_since(world.begun).as_secs_f64() / 86_400.0;
    counts.deletions = stats.deletions.iter().filter(|gone| gone.by != "colleague").count() as u64;
    (counts.requests, counts.faults_struck) = (stats.requests, stats.faults);
    let ledger = world.wire.ledger();
    counts.events = ledger.heard.values().sum();
    counts.notices = ledger.told.len() as u64;
    let (hash, history) = (ledger.hash(), ledger.tail());
    drop(ledger);
    Report { seed, hash, counts: world.counts.clone(), failure: lived.err(), history }
}

async fn week(world: &mut World, rng: &mut Rng, seen: &mut Seen) -> Checked {
    world.start().await?;
    while world.clock.now().duration_since(world.begun).unsigned_abs() < WEEK {
        world.act(rng).await?;
        revive(world).await?;
        // Many things happen at once, others hours apart.
        let pause = match rng.u8(0..6) {
            0 | 1 => Duration::from_millis(rng.u64(0..3_000)),
            2 | 3 => Duration::from_secs(rng.u64(1..600)),
            _ => Duration::from_secs(rng.u64(60..PAUSE_SECONDS)),
        };
        world.advance(pause).await;
        revive(world).await?;
        world.check(seen).await?;
    }
    world.finish(seen).await
}

/// Starts a service again that died at a commit.
async fn revive(world: &mut World) -> Checked {
    if world.is_dead() {
        world.service = None;
        world.counts.crashes += 1;
        world.dies_at = 0;
        world.start().await?;
    }
    Ok(())
}
