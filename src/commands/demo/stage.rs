//! The set of the demo: the simulated portal on a loopback port, the service with its listener on another, and a clock
//! that shows 03:14:57 when the curtain rises.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::time;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::DemoArgs;
use crate::clock::Clock;
use crate::commands::failure::Failure;
use crate::commands::{intake, workshop};
use crate::engine::{Engine, Parts};
use crate::http::{self, listen};
use crate::metrics::Metrics;
use crate::portal::{Access, Portal, PortalOptions};
use crate::rules;
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::store::{Lock, Store};

/// The rules that the demo plays with, as they are written to disk.
const RULES: &str = include_str!("rules.yaml");
/// The demo's outgoing webhook's token.
const TOKEN: &str = "demo-application-token";
/// How long a deletion takes in the demo, in seconds: slow enough to see a bar, fast enough not to wait.
const DELETE_SECONDS: f64 = 0.004;
/// How long the engine may take to stop at the end; there is nothing left to do then.
const GRACE: Duration = Duration::from_secs(10);

/// Everything on stage.
pub(super) struct Stage {
    pub portal: Sandbox,
    pub engine: Engine,
    pub zone: TimeZone,
    /// Where the demo's files are.
    pub dir: PathBuf,
    /// When the curtain rose, by the demo's clock.
    pub began: Timestamp,
    store: Store,
    lock: Lock,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    /// Builds it.
    pub(super) async fn set(args: &DemoArgs) -> Result<Stage, Failure> {
        let zone = super::zone()?;
        let dir = directory(args)?;
        let rules_file = dir.join("rules.yaml");
        std::fs::write(&rules_file, RULES)?;
        let loaded = rules::load(&rules_file).map_err(|problems| {
            Failure::Usage(problems.iter().map(|problem| problem.render(false)).collect())
        })?;
        let began = just_before_three(&zone)?;
        let clock = Clock::starting_at(began);

        let portal_listener = listen::bind("127.0.0.1:0").await?;
        let portal_address = portal_listener.local_addr()?;
        let events_listener = listen::bind("127.0.0.1:0").await?;
        let events_address = events_listener.local_addr()?;
        let portal = Sandbox::new(
            SandboxOptions {
                leads: usize::try_from(args.leads).unwrap_or(usize::MAX),
                seed: args.seed,
                delete_seconds: DELETE_SECONDS,
                sleep_scale: 1.0,
                events_url: Some(format!("http://{events_address}/bitrix24/events")),
                application_token: TOKEN.to_owned(),
                domain: "127.0.0.1".to_owned(),
                ..SandboxOptions::raised()
            },
            clock,
        );
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (served, until) = (portal.clone(), stop.clone());
        tasks.spawn(async move { served.serve(portal_listener, until.cancelled_owned()).await });

        let db = dir.join("janitor.db");
        let lock = Lock::acquire(&db).map_err(|error| Failure::Failed(anyhow::Error::new(error)))?;
        let store = workshop::open_store(&db, true)?;
        let metrics = Metrics::new();
        let transport = Portal::http().map_err(|error| Failure::Failed(anyhow::Error::new(error)))?;
        let client = Portal::new(
            transport,
            PortalOptions {
                access: Access::Webhook(SecretString::from(portal.webhook_url(portal_address))),
                limits: loaded.rules.portal,
                clock,
                observer: Some(workshop::counting(metrics.clone())),
                pace: None,
            },
        );
        let parts = Parts { store: store.clone(), portal: client, clock, metrics, seed: args.seed };
        let engine = Engine::start(parts, loaded.rules).await?;
        let host = Some("127.0.0.1".to_owned());
        let intake =
            intake::intake(engine.context(), vec![SecretString::from(TOKEN.to_owned())], host, &tasks);
        tasks.spawn(listen::serve(
            events_listener,
            http::public(Some(intake)),
            stop.clone().cancelled_owned(),
            Duration::from_secs(1),
        ));
        Ok(Stage { portal, engine, zone, dir, began, store, lock, stop, tasks })
    }

    /// Ends everything; the files stay.
    pub(super) async fn clear(self) {
        self.engine.stop(GRACE).await;
        self.stop.cancel();
        self.tasks.close();
        // What does not end by itself ends with the process; nothing of it writes.
        let _ = tokio::time::timeout(GRACE, self.tasks.wait()).await;
        self.store.close().await;
        drop(self.lock);
    }

    /// The engine's store.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }
}

fn directory(args: &DemoArgs) -> Result<PathBuf, Failure> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("b24-janitor-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&dir)?;
    for name in ["janitor.db", "rules.yaml"] {
        if dir.join(name).exists() {
            return Err(Failure::usage(format!(
                "{} has a {name} already: give the demo a directory of its own with --dir",
                dir.display()
            )));
        }
    }
    Ok(dir)
}

/// Today at 03:14:57 in the demo's zone: the schedule is due three seconds later.
fn just_before_three(zone: &TimeZone) -> Result<Timestamp, Failure> {
    let today = Clock::System.now().to_zoned_datetime(zone.clone()).date();
    let at = today.to_datetime(time(3, 14, 57, 0));
    let at =
        at.to_zoned_datetime(zone.clone()).map_err(|error| Failure::Failed(anyhow::Error::new(error)))?;
    Ok(at.timestamp())
}
