//! What every loop of the engine shares: the store, the portal, the clock, the rules in force, and the two things
//! that happen everywhere: trying again patiently, and stopping when the portal refuses everything.

use std::collections::{BTreeSet, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;

use crate::watch;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::Parts;
use super::notify::Courier;
use super::pulse::Pulse;
use super::unchecked::Unchecked;
use crate::clock::Clock;
use crate::core::outcome::Fault;
use crate::core::retry;
use crate::core::rule::RuleSet;
use crate::metrics::Metrics;
use crate::portal::{CallError, Class, Portal};
use crate::store::control::{self, PortalStop};
use crate::store::{Room, Store, StoreError};

/// Shared by the loops; cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The database.
    pub store: Store,
    /// The portal.
    pub portal: Portal,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// The rules in force; a new version replaces the old one whole.
    pub rules: watch::Receiver<Arc<RuleSet>>,
    /// Cancelled when the service is to stop: no new work is begun.
    pub stop: CancellationToken,
    /// Cancelled when a loop has panicked.
    pub(super) crashed: CancellationToken,
    /// How often a read is tried.
    read_tries: u32,
    pub(super) rng: Arc<Mutex<fastrand::Rng>>,
    pub(super) evaluating: Arc<Mutex<HashSet<String>>>,
    unchecked: Arc<watch::Sender<Unchecked>>,
    /// What the database's disk has room for; [`Room::Enough`] where nobody looks.
    pub(super) room: Arc<watch::Sender<Room>>,
    /// Which loops are alive.
    pub(super) pulse: Pulse,
    /// Who brings notices to their targets.
    pub(super) courier: Courier,
}

/// How often a read is tried before its caller hears of the failure. With the delays of [`retry`] that is about ten
/// minutes, after which a run fails and the next one comes by schedule.
const READ_TRIES: u32 = 7;
/// The same where a person waits for the answer: about fifteen seconds.
const HURRIED_TRIES: u32 = 3;

impl Context {
    pub(super) fn new(parts: Parts, rules: watch::Receiver<Arc<RuleSet>>) -> Context {
        let Parts { store, portal, clock, metrics, seed } = parts;
        let unchecked = Unchecked::none(rules.borrow().clone());
        Context {
            store,
            portal,
            clock,
            metrics,
            rules,
            stop: CancellationToken::new(),
            crashed: CancellationToken::new(),
            read_tries: READ_TRIES,
            rng: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
            evaluating: Arc::default(),
            unchecked: Arc::new(watch::Sender::new(unchecked)),
            room: Arc::new(watch::Sender::new(Room::Enough)),
            pulse: Pulse::default(),
            courier: Courier::default(),
        }
    }

    /// A context that only looks: for a command that plans without a service. Nothing is recovered and no rule is
    /// taken into force.
    pub fn observing(parts: Parts, rules: RuleSet) -> Context {
        Context::new(parts, watch::channel(Arc::new(rules)).1)
    }

    /// The same context for work that a person waits for: it gives up on a portal that does not answer sooner.
    #[must_use]
    pub fn hurried(&self) -> Context {
        Context { read_tries: HURRIED_TRIES, ..self.clone() }
    }

    /// The same context with somebody to bring notices to their targets.
    #[must_use]
    pub fn delivering(&self, courier: Courier) -> Context {
        Context { courier, ..self.clone() }
    }

    /// Spawns a loop, or a piece of work of one; a panic in it ends the service rather than one lane in silence.
    pub(super) fn spawn(&self, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
        let crashed = self.crashed.clone();
        tasks.spawn(async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                error!("a part of the service panicked; this is a bug, and the message above says where");
                crashed.cancel();
            }
        });
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<RuleSet> {
        self.rules.borrow().clone()
    }

    /// The rules that the portal has not confirmed.
    pub fn unchecked(&self) -> Unchecked {
        self.unchecked.borrow().clone()
    }

    /// What the database's disk has room for.
    pub fn room(&self) -> Room {
        *self.room.borrow()
    }

    /// Hears of every change of the room on the disk.
    pub fn room_changes(&self) -> watch::Receiver<Room> {
        self.room.subscribe()
    }

    /// Which loops are alive.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Hears of every change of the unchecked rules.
    pub fn unchecked_changes(&self) -> watch::Receiver<Unchecked> {
        self.unchecked.subscribe()
    }

    /// The rules in force, with the names of those that are unchecked: of one version.
    pub(super) fn in_force(&self) -> (Arc<RuleSet>, BTreeSet<String>) {
        let unchecked = self.unchecked.borrow();
        (self.rules(), unchecked.rules.clone())
    }

    /// Puts a version of the rules into force together with its unchecked rules; nobody sees one without the other.
    pub(super) fn put_into_force(&self, rules: &watch::Sender<Arc<RuleSet>>, unchecked: Unchecked) {
        self.unchecked.send_modify(|state| {
            rules.send_replace(Arc::clone(&unchecked.of));
            *state = unchecked;
        });
    }

    /// Replaces what is unchecked, unless another version of the rules is in force by now.
    pub(super) async fn set_unchecked(&self, next: Unchecked) -> Result<(), EngineError> {
        let now = self.clock.now();
        let (record, current) = (next.record(), self.unchecked());
        if !Arc::ptr_eq(&current.of, &next.of) {
            return Ok(());
        }
        let refused = next.refused.then(|| next.why.join("; "));
        self.store
            .write(move |db| {
                if let Some(why) = &refused {
                    control::set_last_error(db, Some(why), now)?;
                }
                control::set_unchecked(db, &record, now)
            })
            .await?;
        let mut stale = None;
        self.unchecked.send_if_modified(|state| {
            let same = Arc::ptr_eq(&state.of, &next.of);
            if same {
                *state = next;
            } else {
                stale = Some(state.record());
            }
            same
        });
        if let Some(record) = stale {
            // A reload came between: what it wrote down was overwritten here.
            self.store.write(move |db| control::set_unchecked(db, &record, now)).await?;
        }
        Ok(())
    }

    /// Refuses a run of a rule that is unchecked.
    pub(super) fn require_checked(&self, rule: &str) -> Result<(), EngineError> {
        let unchecked = self.unchecked.borrow();
        if !unchecked.rules.contains(rule) {
            return Ok(());
        }
        Err(EngineError::NotChecked { rule: rule.to_owned(), why: unchecked.why.join("; ") })
    }

    /// A random number in 0 … 1.
    pub fn jitter(&self) -> f64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    /// When to try again after `tries` failures.
    pub fn retry_at(&self, now: Timestamp, tries: u32) -> Timestamp {
        retry::at(now, tries, self.jitter())
    }

    /// Makes a read call, and makes it again while the portal's answer asks for another try. A portal-level error is
    /// recorded, so that the worker stops, and returned at once.
    pub async fn patiently<T, Call, Reply>(&self, mut call: Call) -> Result<T, CallError>
    where
        Call: FnMut() -> Reply,
        Reply: Future<Output = Result<T, CallError>>,
    {
        let mut tries = 0;
        loop {
            let error = match call().await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            self.note(&error).await;
            tries += 1;
            match error.class {
                Class::Retry | Class::PausePortal | Class::PauseMethod | Class::Malformed
                    if tries < self.read_tries =>
                {
                    let at = self.retry_at(self.clock.now(), tries - 1);
                    let wait = at.duration_since(self.clock.now());
                    warn!(
                        error = %error.fault, remedy = error.remedy, again_in = %format_args!("{}s", wait.as_secs()),
                        tries, of = self.read_tries, "the portal did not answer a read; trying again"
                    );
                    tokio::select! {
                        biased;
                        () = self.clock.sleep_until(at) => {}
                        () = self.stop.cancelled() => return Err(error),
                    }
                }
                Class::Retry
                | Class::PausePortal
                | Class::PauseMethod
                | Class::Malformed
                | Class::RefreshToken
                | Class::StopPortal
                | Class::StopPortalForPerson
                | Class::Final
                | Class::Confirm => return Err(error),
            }
        }
    }

    /// Records an error that concerns the whole portal; others are the caller's business.
    pub async fn note(&self, error: &CallError) {
        match error.class {
            Class::StopPortal | Class::RefreshToken => {
                self.stop_portal(&error.fault, error.remedy, false).await
            }
            Class::StopPortalForPerson => self.stop_portal(&error.fault, error.remedy, true).await,
            Class::Retry
            | Class::PausePortal
            | Class::PauseMethod
            | Class::Malformed
            | Class::Final
            | Class::Confirm => {}
        }
    }

    /// Stops the worker, not the jobs: nothing is claimed until the portal is back.
    pub async fn stop_portal(&self, fault: &Fault, remedy: &str, needs_person: bool) {
        let now = self.clock.now();
        error!(error = %fault, remedy, "the portal refuses every call: deletions wait, nothing is lost");
        let stop =
            PortalStop { code: fault.code.clone(), text: fault.text.clone(), since: now, needs_person };
        let stored = self
            .store
            .write(move |db| {
                control::set_last_error(db, Some(&format!("{}: {}", stop.code, stop.text)), now)?;
                control::set_portal_stop(db, &stop)
            })
            .await;
        if let Err(error) = stored {
            error!(%error, "could not record that the portal stopped");
        }
    }

    /// Marks a rule as being evaluated, so that it never overlaps itself; `None` if it is.
    pub(super) fn begin(&self, rule: &str) -> Option<Evaluating> {
        let mut evaluating = self.evaluating.lock().unwrap_or_else(PoisonError::into_inner);
        evaluating
            .insert(rule.to_owned())
            .then(|| Evaluating { rule: rule.to_owned(), set: Arc::clone(&self.evaluating) })
    }
}

/// What the administrator does about a portal that refuses every call.
pub fn remedy_of(stop: &PortalStop) -> &'static str {
    crate::portal::remedy(&Fault::new(stop.code.clone(), &stop.text))
}

/// A rule under evaluation; the mark goes with it.
pub(super) struct Evaluating {
    rule: String,
    set: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Evaluating {
    fn drop(&mut self) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.rule);
    }
}

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The portal answered with an error.
    #[error("{}: {}", .0.fault, .0.remedy)]
    Portal(Box<CallError>),
    /// The portal returned a lead that the filter excludes: nothing it listed can be trusted.
    #[error("filter_not_honoured: lead {lead}: {clause}; nothing was enqueued")]
    FilterNotHonoured {
        /// The lead.
        lead: crate::core::lead::LeadId,
        /// What contradicts the filter.
        clause: String,
    },
    /// No target of notices has that name.
    #[error("there is no target of notices `{0}`")]
    NoSuchTarget(String),
    /// No rule has that name.
    #[error("there is no rule `{0}`")]
    NoSuchRule(String),
    /// The portal has not confirmed what the rule names, so it does not run.
    #[error("rule `{rule}` is not checked against the portal yet: {why}")]
    NotChecked {
        /// The rule.
        rule: String,
        /// What the portal does not know, or why it could not be asked.
        why: String,
    },
    /// The rule is being evaluated already.
    #[error("rule `{0}` is being evaluated already")]
    AlreadyRunning(String),
    /// More leads than one restore may have.
    #[error("more than {0} leads: restore them by parts, by run or by a later --since")]
    TooManyToRestore(u32),
    /// The disk is nearly full.
    #[error("the disk is nearly full: nothing is restored until there is room")]
    NoRoom,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
}

impl From<CallError> for EngineError {
    fn from(error: CallError) -> EngineError {
        EngineError::Portal(Box::new(error))
    }
}
