//! When a request may go out: the bucket of all requests and the operating budgets of the methods, in one place.
//!
//! The invariants: nothing is sent without a [`Permit`]; a permit holds its place in the bucket and its estimates until
//! its request has ended, and dropping it gives the estimates back; waiting for a method's budget holds up no other
//! method, since the place in the bucket is taken last. Both waits can be abandoned without losing anything. While
//! listings and everything else both wait for the bucket, they get its places in turn, however many there are of each.
//!
//! Time here is the monotonic clock's: a system clock that is set must neither stop the service nor let it burst.

mod permit;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::envelope::Cost;
use super::levels::Levels;
use super::snapshot::PaceSnapshot;
use crate::clock::Clock;
use crate::core::estimate::{ASSUMED_SECONDS, Load};
use crate::core::operating::Operating;
use crate::core::pace::Bucket;
use crate::core::rule::PortalLimits;
pub(super) use permit::Flight;
use permit::Held;
pub use permit::Permit;

/// What one deletion or one read is taken to cost until the portal has said what it does.
const FIRST_ESTIMATE: f64 = ASSUMED_SECONDS;

/// How much a cheaper call lowers an estimate; a dearer one raises it at once.
const LOWERING: f64 = 0.3;

/// How long a lane may wait for its place, in seconds, so that what it read ahead (good for two) is still fresh.
const PLACE_WITHIN: f64 = 1.0;

/// The most methods whose costs are remembered: we call a dozen.
const MAX_COSTS: usize = 64;

/// What a permit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A request that deletes, and may read the next leads with its last command.
    Delete {
        /// How many leads.
        leads: usize,
    },
    /// The same for as many leads as the budgets have left, at least one: what is left is used rather than kept until
    /// a whole batch fits. [`Permit::leads`] says how many it became.
    DeleteUpTo {
        /// How many leads at most.
        leads: usize,
    },
    /// A request that only reads. The reads of [`super::Portal`] take such a permit by themselves.
    Read,
}

/// What the portal counts a method's calls in a batch under: in current sources apart from its calls alone, for all
/// webhooks of the portal together. Evidence differs on whether it is one sum in truth, so a call must fit into both;
/// it is charged where its reply reports it.
pub(super) fn batched(method: &str) -> String {
    format!("batch:{method}")
}

/// Waits for a place in the bucket of the process whose pace is shared.
pub type Places = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

pub(super) struct Gate {
    clock: Clock,
    /// Where each place is taken first, in a process beside the one that keeps the pace.
    elsewhere: Option<Places>,
    state: Mutex<State>,
    /// Told whenever waiting may have become shorter.
    changed: Notify,
    /// The queue for the bucket, at most one from each of the two lines behind it; fair, so that they take turns.
    requests: tokio::sync::Mutex<()>,
    /// The line of those who list: there may be many, and none may keep a due deletion waiting.
    listings: tokio::sync::Mutex<()>,
    /// The line of everyone else.
    others: tokio::sync::Mutex<()>,
    /// The queue of deletions for their budget.
    deletions: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    limits: PortalLimits,
    bucket: Bucket,
    operating: Operating,
    /// Seconds a call, or a deletion, by method.
    costs: BTreeMap<String, f64>,
    /// How long a request that deletes takes, in seconds.
    batch_seconds: Option<f64>,
    /// Grows with everything that a snapshot of a running process tells the next one: not with places, since its
    /// bucket counts as full anyway.
    changes: u64,
}

/// What must be free for a request.
#[derive(Debug)]
struct Wanted {
    /// Where it is charged: taken until it ends.
    held: Vec<Held>,
    /// Where it must fit as well.
    checked: Vec<Held>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Gate {
    pub(super) fn new(
        limits: PortalLimits,
        clock: Clock,
        pace: Option<&PaceSnapshot>,
        elsewhere: Option<Places>,
    ) -> Gate {
        let clock = Clock::starting_at(clock.now());
        let mut state = State {
            limits,
            bucket: Bucket::new(limits.requests_per_second, limits.burst),
            operating: Operating::new(limits.method_seconds),
            costs: BTreeMap::new(),
            batch_seconds: None,
            changes: 0,
        };
        if let Some(pace) = pace {
            pace.restore(&mut state.bucket, &mut state.operating, clock.now());
            state.costs = pace.costs().take(MAX_COSTS).collect();
        }
        Gate {
            clock,
            elsewhere,
            state: Mutex::new(state),
            changed: Notify::new(),
            requests: tokio::sync::Mutex::new(()),
            listings: tokio::sync::Mutex::new(()),
            others: tokio::sync::Mutex::new(()),
            deletions: tokio::sync::Mutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before it can panic, so a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> PortalLimits {
        self.state().limits
    }

    pub(super) fn set_limits(&self, limits: PortalLimits) {
        let now = self.clock.now();
        let mut state = self.state();
        state.limits = limits;
        state.bucket.set_limits(limits.requests_per_second, limits.burst, now);
        state.operating.set_budget(limits.method_seconds);
        drop(state);
        self.changed.notify_waiters();
    }

    /// What is to be kept over a restart, as of now; `portal` and `wall` are of whose pace it is and when.
    pub(super) fn snapshot(&self, portal: &str, wall: Timestamp) -> PaceSnapshot {
        let now = self.clock.now();
        let state = self.state();
        PaceSnapshot::new(portal, wall, (state.bucket.saved(now), state.operating.saved(now)), &state.costs)
    }

    /// What is used of both limits now.
    pub(super) fn levels(&self) -> Levels {
        let (now, state) = (self.clock.now(), self.state());
        Levels::of(state.limits, &state.bucket, &state.operating, now)
    }

    /// A number that differs once there is something new to keep.
    pub(super) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// How many requests that delete make sense side by side: the configured number, scaled down while others share our
    /// address; and where the bucket is what everybody waits for, only so many that each gets its place within
    /// [`PLACE_WITHIN`]. More would wait longer, what they read ahead would be stale, and each would need a second
    /// request for reading.
    pub(super) fn lanes(&self) -> u8 {
        let now = self.clock.now();
        let state = self.state();
        let configured = state.limits.concurrency.max(1);
        let share = state.bucket.share(now);
        let mut lanes = f64::from(configured) * share;
        if state.bucket.free(now) < f64::from(configured) {
            let took = state.batch_seconds.unwrap_or_default();
            lanes = lanes.min(state.limits.requests_per_second * share * (took + PLACE_WITHIN));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 … 255: at most a u8, and never negative"
        )]
        let whole = lanes.floor() as u8;
        whole.clamp(1, configured)
    }

    /// How long a request that deletes took.
    pub(super) fn took(&self, seconds: f64) {
        if seconds.is_finite() && seconds >= 0.0 {
            let mut state = self.state();
            let known = state.batch_seconds.unwrap_or(seconds);
            state.batch_seconds = Some(known + LOWERING * (seconds - known));
        }
    }

    /// What a drain of so many leads starts from.
    pub(super) fn load(&self, leads: u64) -> Load {
        let now = self.clock.now();
        let state = self.state();
        let method = state.limits.delete_method.as_str();
        let used = |counter: &str| state.operating.used(counter, now);
        Load {
            leads,
            limits: state.limits,
            seconds_per_delete: state.costs.get(method).copied(),
            level: state.bucket.level(now),
            used_seconds: used(&batched(method)).max(used(method)),
        }
    }

    /// Waits for the right to call a method that reads, by itself.
    pub(super) async fn read(self: &Arc<Gate>, method: &str) -> Permit {
        let permit = self.hold_alone(method).await;
        self.place().await;
        permit
    }

    /// Waits for the right to list one page by itself.
    pub(super) async fn list(self: &Arc<Gate>) -> Permit {
        let permit = self.hold_alone(super::leads::LIST).await;
        self.place_in(&self.listings).await;
        permit
    }

    /// Waits for the right to make a call that nobody waits for, behind those who list.
    pub(super) async fn aside(self: &Arc<Gate>, method: &str) -> Permit {
        let permit = self.hold_alone(method).await;
        self.place_in(&self.listings).await;
        permit
    }

    /// Waits for the right to list so many pages in one batch.
    pub(super) async fn chain(self: &Arc<Gate>, pages: usize) -> Permit {
        let permit = self.hold(|state, _| (state.chain(pages), 0)).await;
        self.place_in(&self.listings).await;
        permit
    }

    async fn hold_alone(self: &Arc<Gate>, method: &str) -> Permit {
        self.hold(|state, _| (state.call_alone(method), 0)).await
    }

    /// How many deletions a request could hold now, by the budgets alone: 0 to `leads`.
    pub(super) fn deletions(&self, leads: usize) -> usize {
        let now = self.clock.now();
        self.state().deletions_that_fit(leads, now)
    }

    /// Waits for the right to send a request.
    pub(super) async fn permit(self: &Arc<Gate>, what: Work) -> Permit {
        let permit = match what {
            Work::Read => Permit { gate: Arc::clone(self), held: Vec::new(), leads: 0 },
            Work::Delete { leads } => {
                let _turn = self.deletions.lock().await;
                self.hold(|state, _| (state.deletion(leads), leads)).await
            }
            Work::DeleteUpTo { leads } => {
                let _turn = self.deletions.lock().await;
                self.hold(|state, now| {
                    let leads = state.deletions_that_fit(leads, now).max(1);
                    (state.deletion(leads), leads)
                })
                .await
            }
        };
        self.place().await;
        permit
    }

    /// Waits until all these estimates fit, and takes them together: holding one while waiting for another would keep
    /// others from the first.
    async fn hold(self: &Arc<Gate>, wanted: impl Fn(&State, Timestamp) -> (Wanted, usize)) -> Permit {
        loop {
            // Registered before looking, so that a change between the look and the wait is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.clock.now();
            let at = {
                let mut state = self.state();
                let (wanted, leads) = wanted(&state, now);
                let probing = leads == 1;
                match state.try_hold(&wanted, probing, now) {
                    Ok(()) => return Permit { gate: Arc::clone(self), held: wanted.held, leads },
                    Err(at) => at,
                }
            };
            tokio::select! {
                biased;
                () = self.clock.sleep_until(at) => {}
                () = changed => {}
            }
        }
    }

    /// Waits for a place in the bucket among those who do not list.
    pub(super) async fn place(&self) {
        self.place_in(&self.others).await;
    }

    /// Waits for a place in the bucket and takes it at the moment it is free, so that a 503 met by others meanwhile
    /// still counts, and giving up while waiting takes nothing.
    async fn place_in(&self, line: &tokio::sync::Mutex<()>) {
        let _head_of_line = line.lock().await;
        let _turn = self.requests.lock().await;
        if let Some(places) = &self.elsewhere {
            places().await;
        }
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.clock.now();
            let at = {
                let mut state = self.state();
                let at = state.bucket.earliest(now);
                if at <= now {
                    state.bucket.reserve(now);
                    return;
                }
                at
            };
            tokio::select! {
                biased;
                () = self.clock.sleep_until(at) => {}
                () = changed => {}
            }
        }
    }

    /// The portal answered 503.
    pub(super) fn refused(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        state.bucket.refused(now);
        state.changes += 1;
    }

    /// The portal refused this counter with `OPERATION_TIME_LIMIT`.
    pub(super) fn blocked(&self, counter: &str) {
        let now = self.clock.now();
        let mut state = self.state();
        state.operating.blocked(counter, now);
        state.changes += 1;
    }

    /// What `time` said about a counter. `portal_now` is the portal's time where `cost` does not say it itself.
    pub(super) fn observe(&self, counter: &str, cost: &Cost, portal_now: Option<f64>) {
        if let Some(operating) = cost.operating {
            let now = self.clock.now();
            let mut state = self.state();
            let reset_at = cost.reset_at(now, portal_now);
            state.operating.observe(counter, operating, reset_at, now);
            state.changes += 1;
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// What one call, or one deletion, of a method took.
    pub(super) fn learn(&self, method: &str, seconds: f64) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        let mut state = self.state();
        if let Some(known) = state.costs.get_mut(method) {
            *known = seconds.max(*known + LOWERING * (seconds - *known));
        } else if state.costs.len() < MAX_COSTS {
            state.costs.insert(method.to_owned(), seconds);
        }
    }
}

impl State {
    fn cost(&self, method: &str) -> f64 {
        self.costs.get(method).copied().unwrap_or(FIRST_ESTIMATE)
    }

    fn call_alone(&self, method: &str) -> Wanted {
        let seconds = self.cost(method);
        Wanted {
            held: vec![Held { counter: method.to_owned(), seconds }],
            checked: vec![Held { counter: batched(method), seconds }],
        }
    }

    fn chain(&self, pages: usize) -> Wanted {
        let list = super::leads::LIST;
        let seconds = self.cost(list) * f64::from(u32::try_from(pages).unwrap_or(u32::MAX));
        let mut held = vec![Held { counter: batched(list), seconds }];
        if self.operating.is_charged(super::batch::BATCH) {
            held.push(Held { counter: super::batch::BATCH.to_owned(), seconds });
        }
        Wanted { held, checked: vec![Held { counter: list.to_owned(), seconds }] }
    }

    fn deletion(&self, leads: usize) -> Wanted {
        let method = self.limits.delete_method.as_str();
        let one = self.cost(method);
        let all = one * f64::from(u32::try_from(leads).unwrap_or(u32::MAX));
        let reading = self.cost(super::leads::LIST);
        let alone = Held { counter: method.to_owned(), seconds: all };
        let mut wanted = Wanted {
            held: vec![
                Held { counter: batched(method), seconds: all },
                Held { counter: batched(super::leads::LIST), seconds: reading },
            ],
            checked: vec![Held { counter: super::leads::LIST.to_owned(), seconds: reading }],
        };
        // One lead may be deleted alone or in a batch: the permit does not say.
        if leads == 1 {
            wanted.held.push(alone)
        } else {
            wanted.checked.push(alone)
        }
        if self.operating.is_charged(super::batch::BATCH) {
            wanted.held.push(Held { counter: super::batch::BATCH.to_owned(), seconds: all + reading });
        }
        wanted
    }

    /// How many deletions, `leads` at most, the room in all the counters has space for.
    fn deletions_that_fit(&self, leads: usize, now: Timestamp) -> usize {
        let method = self.limits.delete_method.as_str();
        let alone = self.operating.room(method, now);
        let mut room = alone.min(self.operating.room(&batched(method), now));
        if self.operating.is_charged(super::batch::BATCH) {
            let reading = self.cost(super::leads::LIST);
            room = room.min(self.operating.room(super::batch::BATCH, now) - reading);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of a float saturates, and what is below nothing becomes 0"
        )]
        let fit = (room / self.cost(method)) as usize;
        fit.min(leads)
    }

    /// Takes all of it or nothing; then when to ask again. A deletion of one lead may find out whether the announced
    /// moment has freed more than is known for certain.
    fn try_hold(&mut self, wanted: &Wanted, probing: bool, now: Timestamp) -> Result<(), Timestamp> {
        for held in &wanted.checked {
            if let Err(at) = self.operating.check(&held.counter, held.seconds, now)
                && !(probing && self.operating.may_probe(&held.counter, now))
            {
                return Err(at);
            }
        }
        for (index, held) in wanted.held.iter().enumerate() {
            if let Err(at) = self.operating.reserve(&held.counter, held.seconds, now)
                && !(probing && self.operating.probe(&held.counter, held.seconds, now))
            {
                for taken in wanted.held.iter().take(index) {
                    self.operating.release(&taken.counter, taken.seconds);
                }
                return Err(at);
            }
        }
        Ok(())
    }
}
