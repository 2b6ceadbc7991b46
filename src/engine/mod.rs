//! The loops that join rules, store and portal: scheduler, inbox, evaluator, worker and control.
//!
//! ```text
//! scheduler ─▶ evaluator ─▶ jobs ─▶ lanes ─▶ portal
//! inbox ─────▶                        └─▶ settle
//! ```
//!
//! Decisions are taken in [`crate::core`]; this layer fetches what they need, passes the time, and writes down what
//! came of it. Every loop ends when [`Context::stop`] is cancelled, after finishing what is in flight.

mod approve;
mod by_event;
pub mod context;
mod control;
pub mod evaluator;
pub mod explain;
mod guards;
mod inbox;
mod lane;
pub mod notify;
pub mod online;
pub mod pace;
pub mod plan;
mod probe;
mod pulse;
mod recheck;
pub mod reload;
pub mod restore;
pub mod scheduler;
mod settle;
pub mod simulate;
pub mod survey;
mod sweep;
mod unchecked;

use std::collections::VecDeque;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::watch;
use jiff::{SignedDuration, Timestamp};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use approve::{Approver, approve};
pub use context::{Context, EngineError, remedy_of};
pub use control::{FOREIGN_CHANGES_EVERY, note_downtime};
pub use guards::{Guards, silence};
pub use notify::Courier;
pub use pulse::{Part, Pulse};
pub use unchecked::Unchecked;

use crate::clock::Clock;
use crate::core::batch_size::BatchSize;
use crate::core::rule::RuleSet;
use crate::metrics::Metrics;
use crate::portal::{CallError, Portal};
use crate::store::runs::{self, RunFilter};
use crate::store::{Store, control as state, recover};

/// Most lanes that a rules file can ask for (`portal.concurrency`).
const LANES: usize = 8;

/// What an engine is made of.
pub struct Parts {
    /// The database; the caller holds its lock.
    pub store: Store,
    /// The portal.
    pub portal: Portal,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
    /// Seeds the jitter of retries.
    pub seed: u64,
}

/// The service without its listeners.
pub struct Engine {
    ctx: Context,
    rules: watch::Sender<Arc<RuleSet>>,
    tasks: TaskTracker,
    guards: Guards,
}

impl Engine {
    /// Recovers what the previous process left, and takes rules into force that the portal has confirmed. Nothing runs
    /// yet.
    pub async fn start(parts: Parts, rules: RuleSet) -> Result<Engine, EngineError> {
        Engine::begin(parts, rules, None).await
    }

    /// The same with rules that the portal could not be asked about: they neither run nor delete until it was.
    pub async fn start_unchecked(
        parts: Parts,
        rules: RuleSet,
        why: &CallError,
    ) -> Result<Engine, EngineError> {
        Engine::begin(parts, rules, Some(why)).await
    }

    async fn begin(parts: Parts, rules: RuleSet, why: Option<&CallError>) -> Result<Engine, EngineError> {
        let (sender, receiver) = watch::channel(Arc::new(rules));
        let ctx = Context::new(parts, receiver);
        let now = ctx.clock.now();
        let recovered = ctx
            .store
            .write(move |db| {
                // A restart is how a person resumes a stopped portal.
                state::clear_portal_stop(db)?;
                recover::recover(db, now)
            })
            .await?;
        if recovered.released + recovered.unknown > 0 {
            info!(
                released = recovered.released,
                unknown = recovered.unknown,
                "recovered jobs of the previous process: released ones wait again, unknown ones are read later"
            );
        }
        control::note_downtime(&ctx.store, now, control::SILENCE_IS_A_GAP).await?;
        let guards = Guards::default();
        let engine = Engine { ctx, rules: sender, tasks: TaskTracker::new(), guards };
        let rules = engine.ctx.rules();
        let unchecked = match why {
            None => Unchecked::none(Arc::clone(&rules)),
            Some(why) => {
                let all = rules.rules.iter().map(|rule| rule.name.to_string()).collect();
                Unchecked {
                    rules: all,
                    why: vec![why.fault.to_string()],
                    ..Unchecked::none(Arc::clone(&rules))
                }
            }
        };
        engine.put(unchecked, why).await?;
        engine.publish_last_runs(&rules).await?;
        Ok(engine)
    }

    /// The same with an eye on the disk and on events that do not come.
    #[must_use]
    pub fn guarding(self, guards: Guards) -> Engine {
        Engine { guards, ..self }
    }

    /// The same with somebody to bring notices to their targets; without it only those in the portal itself arrive.
    #[must_use]
    pub fn notifying(self, courier: Courier) -> Engine {
        Engine { ctx: self.ctx.delivering(courier), ..self }
    }

    /// So that an alert on a rule that did not run sees a rule that has not run since the start.
    async fn publish_last_runs(&self, rules: &RuleSet) -> Result<(), EngineError> {
        for rule in &rules.rules {
            let filter = RunFilter { rule: Some(rule.name.to_string()), limit: 1, ..RunFilter::default() };
            let last = self.ctx.store.read(move |db| runs::list(db, &filter)).await?;
            if let Some(at) = last.first().map(|run| run.started_at) {
                self.ctx.metrics.rule_ran(rule.name.as_str(), at);
            }
        }
        Ok(())
    }

    /// Adjusts the waiting jobs to a version of the rules, then puts it into force.
    async fn put(&self, unchecked: Unchecked, why: Option<&CallError>) -> Result<(), EngineError> {
        let rules = Arc::clone(&unchecked.of);
        reload::apply(&self.ctx, &rules, unchecked.record()).await?;
        self.ctx.put_into_force(&self.rules, unchecked);
        if let Some(why) = why {
            self.ctx.note(why).await;
        }
        Ok(())
    }

    /// What the loops share.
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// Resolves when one of the loops has panicked: the process should end, since a restart recovers all it left.
    pub async fn crashed(&self) {
        self.ctx.crashed.cancelled().await;
    }

    /// Starts every loop. `look_every` is how often other processes' writes to the database are looked for.
    pub fn spawn(&self, look_every: SignedDuration) {
        self.spawn_worker();
        self.ctx.spawn(&self.tasks, inbox::run(self.ctx.clone(), self.tasks.clone()));
        self.ctx.spawn(&self.tasks, recheck::run(self.ctx.clone()));
        self.ctx.spawn(&self.tasks, scheduler::run(self.ctx.clone(), self.tasks.clone()));
        self.ctx.spawn(&self.tasks, probe::run(self.ctx.clone()));
        self.ctx.spawn(&self.tasks, restore::run(self.ctx.clone()));
        self.ctx.spawn(&self.tasks, notify::run(self.ctx.clone(), self.tasks.clone()));
        self.ctx.spawn(
            &self.tasks,
            control::run(self.ctx.clone(), self.tasks.clone(), look_every, self.guards.clone()),
        );
    }

    /// Starts the worker's lanes alone, for a command that drains without a service.
    pub fn spawn_worker(&self) {
        let size = Arc::new(Mutex::new(BatchSize::default()));
        let handed_over = Arc::new(Mutex::new(VecDeque::new()));
        for index in 0..LANES {
            let (ctx, size) = (self.ctx.clone(), Arc::clone(&size));
            let handed_over = Arc::clone(&handed_over);
            let lane = lane::Lane {
                ctx,
                index,
                size,
                handed_over,
                claims: Mutex::default(),
                failed_reads: AtomicU32::new(0),
                resting_until: Mutex::new(Timestamp::MIN),
            };
            self.ctx.spawn(&self.tasks, lane.run());
        }
    }

    /// Puts new rules into force, whole, which the portal has confirmed.
    pub async fn reload(&self, rules: RuleSet) -> Result<(), EngineError> {
        self.replace(rules, None).await
    }

    /// The same with rules that the portal could not be asked about: those that changed, or all where a protection
    /// did, neither run nor delete until it was.
    pub async fn reload_unchecked(&self, rules: RuleSet, why: &CallError) -> Result<(), EngineError> {
        self.replace(rules, Some(why)).await
    }

    async fn replace(&self, rules: RuleSet, why: Option<&CallError>) -> Result<(), EngineError> {
        let before = self.ctx.rules();
        let rules = Arc::new(rules);
        for name in reload::vanished_protections(&before, &rules) {
            warn!(protection = name, "a protection is gone from the rules");
        }
        self.ctx.store.write(state::clear_portal_stop).await?;
        let unchecked = match why {
            None => Unchecked::none(rules),
            Some(why) => self.ctx.unchecked().after(&before, rules, why.fault.to_string()),
        };
        self.put(unchecked, why).await
    }

    /// Begins no new work, finishes what is in flight, and waits for it at most `grace`. `false` if that was not
    /// enough: the jobs of requests still open are recorded as sent, and the next start reads their leads. The portal's
    /// pace is kept for the next process.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.ctx.stop.cancel();
        self.tasks.close();
        let in_time = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        let (store, portal, now) = (&self.ctx.store, &self.ctx.portal, self.ctx.clock.now());
        let kept = if in_time {
            pace::close(store, portal, now).await
        } else {
            pace::keep(store, portal, now).await
        };
        if let Err(error) = kept {
            warn!(%error, "the portal's pace could not be kept: the next start waits for an empty bucket");
        }
        in_time
    }
}
