//! What `/readyz` and the overview of the admin listener say.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use crate::watch;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::engine::{Unchecked, remedy_of};
use crate::http::admin::{Order, Overview};
use crate::http::health::{Readiness, ReadyReport};
use crate::portal::{Observer, Portal};
use crate::store::{Room, Store, control, events, jobs};

/// How long an answer of the portal, or of a probe, counts as "it is there".
const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// What it means that no event comes, and what to do.
pub(super) fn silence(since: impl Display) -> String {
    format!(
        "no event came since {since}: see in Bitrix24 whether the outgoing webhook still exists and leads here, and whether \
         its address is reached from outside"
    )
}

/// What is known of the service's health; cheap to clone.
#[derive(Clone)]
pub(super) struct Health {
    store: Store,
    state: Arc<Mutex<State>>,
    /// One probe at a time: whoever asks meanwhile gets its answer.
    probing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    portal: Option<Portal>,
    /// The last time the portal answered a call of ours properly.
    answered: Option<Timestamp>,
    /// The last probe: when, and what was wrong.
    probed: Option<(Timestamp, Option<String>)>,
    reload_problem: Option<String>,
    unchecked: Option<watch::Receiver<Unchecked>>,
    room: Option<watch::Receiver<Room>>,
}

impl Health {
    /// Health of a service with this store.
    pub(super) fn new(store: Store) -> Health {
        Health { store, state: Arc::default(), probing: Arc::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The portal to probe.
    pub(super) fn set_portal(&self, portal: Portal) {
        self.state().portal = Some(portal);
    }

    /// Where the unchecked rules are told.
    pub(super) fn set_unchecked(&self, unchecked: watch::Receiver<Unchecked>) {
        self.state().unchecked = Some(unchecked);
    }

    /// Where the room on the disk is told.
    pub(super) fn set_room(&self, room: watch::Receiver<Room>) {
        self.state().room = Some(room);
    }

    /// What is wrong with the disk, if anything.
    fn disk(&self) -> Option<String> {
        self.state().room.as_ref()?.borrow().says()
    }

    /// Which rules neither run nor delete, and why, if there are any.
    fn unchecked(&self) -> Option<String> {
        let unchecked = self.state().unchecked.as_ref()?.borrow().clone();
        let names: Vec<&str> = unchecked.rules.iter().map(String::as_str).collect();
        let names = (!names.is_empty()).then(|| names.join(", "))?;
        let what =
            if unchecked.refused { "refused by the portal" } else { "not checked against the portal yet" };
        Some(format!("{what}, so they neither run nor delete: {names}\n{}", unchecked.why.join("\n")))
    }

    /// Hears of every exchange with the portal.
    pub(super) fn observer(&self) -> Observer {
        let health = self.clone();
        Arc::new(move |call| {
            if call.result == "ok" {
                health.state().answered = Some(Clock::System.now());
            }
        })
    }

    /// The outcome of the last reload: `None`, or what was wrong.
    pub(super) fn reloaded(&self, problem: Option<String>) {
        self.state().reload_problem = problem;
    }

    /// The check behind `/readyz`: the database answers, and the portal did or does.
    pub(super) fn readiness(&self) -> Readiness {
        let health = self.clone();
        Arc::new(move || {
            let health = health.clone();
            Box::pin(async move { health.report().await })
        })
    }

    async fn report(&self) -> ReadyReport {
        let mut wrong = Vec::new();
        let mut notes = Vec::new();
        wrong.extend(self.disk());
        let read = |db: &_| Ok((control::paused(db)?, control::portal_stop(db)?, control::silent_since(db)?));
        match self.store.read(read).await {
            Err(error) => wrong.push(format!("database: {error}")),
            Ok((paused, stop, silent)) => {
                notes.extend(silent.map(silence));
                if paused {
                    notes.push("paused: nothing is deleted".to_owned());
                }
                if let Some(stop) = stop {
                    wrong.push(format!("portal: {} {}; {}", stop.code, stop.text, remedy_of(&stop)));
                }
            }
        }
        if wrong.is_empty()
            && let Some(problem) = self.portal_problem().await
        {
            wrong.push(format!("portal: {problem}"));
        }
        if let Some(problem) = &self.state().reload_problem {
            notes.push(format!("the last reload failed, the old rules stay in force:\n{problem}"));
        }
        if let Some(unchecked) = self.unchecked() {
            notes.push(format!("rules {unchecked}"));
        }
        let ready = wrong.is_empty();
        let mut lines = vec![if ready { "ready".to_owned() } else { "not ready".to_owned() }];
        lines.extend(wrong);
        lines.extend(notes);
        ReadyReport { ready, body: lines.join("\n") + "\n" }
    }

    /// Asks the portal, unless traffic or an earlier probe answered just now.
    async fn portal_problem(&self) -> Option<String> {
        let _turn = self.probing.lock().await;
        let now = Clock::System.now();
        let recent = |at: &Timestamp| now.duration_since(*at) < FRESH;
        let portal = {
            let state = self.state();
            if state.answered.as_ref().is_some_and(recent) {
                return None;
            }
            if let Some((at, problem)) = &state.probed
                && recent(at)
            {
                return problem.clone();
            }
            state.portal.clone()?
        };
        let problem = portal.probe().await.err().map(|error| format!("{}; {}", error.fault, error.remedy));
        self.state().probed = Some((Clock::System.now(), problem.clone()));
        problem
    }

    /// The rows of the overview page.
    pub(super) fn overview(&self) -> Overview {
        let health = self.clone();
        Arc::new(move || {
            let health = health.clone();
            Box::pin(async move { health.rows().await })
        })
    }

    /// What the page's buttons do, the same as `pause` and `resume`.
    pub(super) fn order(&self, pause: bool) -> Order {
        let store = self.store.clone();
        Arc::new(move || {
            let store = store.clone();
            Box::pin(async move {
                let now = Clock::System.now();
                let write = store.write(move |db| {
                    if !pause {
                        control::clear_portal_stop(db)?;
                    }
                    control::set_paused(db, pause, now)
                });
                write.await.map_err(|error| error.to_string())?;
                tracing::info!(pause, "ordered on the admin page");
                Ok(())
            })
        })
    }

    async fn rows(&self) -> Vec<(String, String)> {
        let row = |name: &str, value: String| (name.to_owned(), value);
        let read = self
            .store
            .read(|db| {
                Ok((
                    events::counts(db)?,
                    jobs::counts(db)?,
                    control::paused(db)?,
                    control::portal_stop(db)?,
                    control::last_error(db)?,
                    control::silent_since(db)?,
                ))
            })
            .await;
        let (events, jobs, paused, stop, last_error, silent) = match read {
            Ok(read) => read,
            Err(error) => return vec![row("database", error.to_string())],
        };
        let mut rows = vec![
            row("events", format!("{} pending, {} received", events.pending, events.total)),
            row("jobs", format!("{} waiting, {} running", jobs.waiting, jobs.running)),
            row(
                "finished",
                format!(
                    "{} deleted, {} already gone, {} spared, {} cancelled, {} failed",
                    jobs.deleted, jobs.already_gone, jobs.spared, jobs.cancelled, jobs.failed
                ),
            ),
            row("paused", if paused { "yes: b24-janitor resume".to_owned() } else { "no".to_owned() }),
        ];
        if let Some(stop) = stop {
            rows.push(row("portal", format!("stopped: {} {}; {}", stop.code, stop.text, remedy_of(&stop))));
        }
        rows.extend(self.disk().map(|problem| row("disk", problem)));
        rows.extend(silent.map(|since| row("silence", silence(since))));
        if let Some(problem) = &self.state().reload_problem {
            rows.push(row("rules", format!("the last reload failed; the old ones stay in force: {problem}")));
        }
        if let Some(unchecked) = self.unchecked() {
            rows.push(row("unchecked rules", unchecked));
        }
        if let Some((error, at)) = last_error {
            rows.push(row("last error", format!("{at}: {error}")));
        }
        rows
    }
}
