//! What `/readyz` says, and what the admin page says of the last reload.

use std::sync::{Arc, Mutex, PoisonError};

use crate::watch;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::engine::{Unchecked, remedy_of, silence};
use crate::http::admin::ReloadProblem;
use crate::http::health::{Readiness, ReadyReport};
use crate::portal::{Observer, Portal};
use crate::store::{Room, Store, control};

/// How long an answer of the portal, or of a probe, counts as "it is there".
const FRESH: SignedDuration = SignedDuration::from_secs(5);

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
        self.state().unchecked.as_ref()?.borrow().says()
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

    /// What was wrong with the last reload of the rules.
    pub(super) fn reload_problem(&self) -> ReloadProblem {
        let health = self.clone();
        Arc::new(move || health.state().reload_problem.clone())
    }
}
