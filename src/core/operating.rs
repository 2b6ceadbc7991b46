//! How many seconds of the portal's work a method has left, and when it has more.
//!
//! The portal adds up what each method costs it over a window of baskets, reports the sum as `time.operating`, says in
//! `time.operating_reset_at` when the oldest basket drops out, and refuses the method with `OPERATION_TIME_LIMIT` once
//! the sum has passed its limit (<https://apidocs.bitrix24.com/limits.html>). The invariant: with true costs up to the
//! estimates, no call is started that would take the sum past the budget; what is in flight counts with its estimate;
//! with nothing in the baskets and nothing in flight one call is always allowed, however long it may be.
//!
//! The sum is what the portal said last. We remember when it grew by how much, so that we know what drops when; where
//! that is uncertain by a basket of the portal's, the later moment counts. But at the announced moment something drops
//! for certain: one small call may then find out what, so that the budget is used from the first second on. Once
//! something has dropped by our reckoning only, one call at a time goes out until the portal has reported again.

mod saved;

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

pub use saved::SavedOperating;

/// The most baskets kept a counter: at the fastest plan's five requests a second a window has 3,000 replies. Beyond it
/// the newest two become one, which drops when the later one would.
const MAX_BASKETS: usize = 4096;

/// How much of the window a distance to `operating_reset_at` may hide: the portal's baskets are a minute long, and the
/// moment belongs to the beginning of one.
const PORTAL_BASKET: SignedDuration = SignedDuration::from_secs(60);

/// Announcements this close to each other are the same: the portal rounds to seconds, and replies take their time.
const ROUNDING: SignedDuration = SignedDuration::from_secs(5);

/// Less than this many seconds is nothing: differences of sums leave dust.
const DUST: f64 = 1e-6;

/// The most counters: we call a dozen methods, each alone and in a batch. Beyond it nothing new is counted.
const MAX_COUNTERS: usize = 64;

/// How long a charge is kept that the portal never gave a time for: the documentation's ten one-minute baskets.
const WINDOW_UNSAID: SignedDuration = SignedDuration::from_secs(600);

/// The shortest pause after `OPERATION_TIME_LIMIT`; the official SDK takes the same.
const SHORTEST_BLOCK: SignedDuration = SignedDuration::from_secs(10);

/// The longest pause after `OPERATION_TIME_LIMIT` where no moment was announced: a basket is a minute long.
const LONGEST_BLOCK: SignedDuration = SignedDuration::from_secs(60);

/// When to ask again where only the end of a call in flight can help; the end of one is to wake the caller anyway.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// The budgets of all methods. A key is the name of a method, or of whatever else the portal counts by itself.
#[derive(Debug, Clone)]
pub struct Operating {
    budget: f64,
    counters: BTreeMap<String, Counter>,
}

#[derive(Debug, Clone, Default)]
struct Counter {
    /// Oldest first; their sum is what the portal reported last, less what has dropped since.
    baskets: VecDeque<Basket>,
    /// When the portal's oldest basket drops.
    reset_at: Option<Timestamp>,
    /// The longest distance to a `reset_at` that was ever reported: the window is at least that long.
    window: SignedDuration,
    /// Something has dropped that the portal has not confirmed yet.
    stale: bool,
    /// Costs of calls whose answer never came, with the moment at which they are forgotten.
    assumed: Vec<(Timestamp, f64)>,
    in_flight: f64,
    flights: usize,
    blocked_until: Option<Timestamp>,
    blocks: u32,
    /// Whether a cost was ever reported.
    charged: bool,
}

/// What the sum grew by from one reply to the next. Not fewer and larger: one that lay across the border of two of the
/// portal's baskets would drop in part too early.
#[derive(Debug, Clone, Copy)]
struct Basket {
    at: Timestamp,
    seconds: f64,
}

impl Operating {
    /// Budgets of `method_seconds` each, more than 0.
    pub fn new(method_seconds: f64) -> Operating {
        Operating { budget: method_seconds, counters: BTreeMap::new() }
    }

    /// Another budget from now on.
    pub fn set_budget(&mut self, method_seconds: f64) {
        self.budget = method_seconds;
    }

    /// Takes `seconds` of the method's budget for a call that starts now, to be ended by [`Operating::finish`] or
    /// [`Operating::release`]. Otherwise takes nothing and says when to ask again; asking when a call has ended may
    /// help earlier.
    pub fn reserve(&mut self, method: &str, seconds: f64, now: Timestamp) -> Result<(), Timestamp> {
        let budget = self.budget;
        let Some(counter) = self.counter(method) else { return Ok(()) };
        counter.expire(now);
        if counter.stale && counter.flights > 0 {
            return Err(ask_again(now));
        }
        counter.may_start(seconds, budget, now)?;
        counter.in_flight += seconds;
        counter.flights += 1;
        Ok(())
    }

    /// How many seconds of calls may start at `now`: none while the method is blocked. A single call may start where
    /// nothing is in the baskets and nothing in flight, whatever this says.
    pub fn room(&self, method: &str, now: Timestamp) -> f64 {
        self.counters.get(method).map_or(self.budget, |counter| counter.room(self.budget, now))
    }

    /// Takes `seconds` for a call that does not fit by our books, after the announced moment: something has dropped
    /// then, and perhaps everything. The portal refuses nothing that begins below its limit, so the least call that is
    /// of use may be made with what is left, and its reply tells the truth. Nothing else may be in flight.
    pub fn probe(&mut self, method: &str, seconds: f64, now: Timestamp) -> bool {
        let budget = self.budget;
        let Some(counter) = self.counters.get_mut(method) else { return false };
        counter.expire(now);
        let may = counter.may_probe(budget, now);
        if may {
            counter.in_flight += seconds;
            counter.flights += 1;
        }
        may
    }

    /// Whether [`Operating::probe`] would take it; takes nothing.
    pub fn may_probe(&self, method: &str, now: Timestamp) -> bool {
        self.counters.get(method).is_some_and(|counter| counter.may_probe(self.budget, now))
    }

    /// Whether a call that costs `seconds` would fit as well if it were counted under this name; takes nothing.
    pub fn check(&self, method: &str, seconds: f64, now: Timestamp) -> Result<(), Timestamp> {
        self.counters.get(method).map_or(Ok(()), |counter| counter.may_start(seconds, self.budget, now))
    }

    /// The reserved call will not be made.
    pub fn release(&mut self, method: &str, seconds: f64) {
        if let Some(counter) = self.counters.get_mut(method) {
            counter.flights = counter.flights.saturating_sub(1);
            counter.in_flight =
                if counter.flights == 0 { 0.0 } else { (counter.in_flight - seconds).max(0.0) };
        }
    }

    /// The reserved call has ended. If `unreported`, nobody knows what it cost: its estimate counts until the portal
    /// reports the next time.
    pub fn finish(&mut self, method: &str, seconds: f64, unreported: bool, now: Timestamp) {
        self.release(method, seconds);
        if let (true, Some(counter)) = (unreported, self.counters.get_mut(method)) {
            let kept = if counter.window.is_zero() { WINDOW_UNSAID } else { counter.window };
            counter.assumed.push((now.checked_add(kept).unwrap_or(Timestamp::MAX), seconds));
        }
    }

    /// The portal reported this sum for the method in a reply that arrived at `now`.
    pub fn observe(&mut self, method: &str, operating: f64, reset_at: Option<Timestamp>, now: Timestamp) {
        if !operating.is_finite() || operating < 0.0 {
            return;
        }
        if let Some(counter) = self.counter(method) {
            counter.observe(operating, reset_at, now);
        }
    }

    /// The portal refused the method with `OPERATION_TIME_LIMIT`: nothing of it is started before the announced
    /// moment, and not within ten seconds where none was announced or it has passed. Repeated refusals double that.
    pub fn blocked(&mut self, method: &str, now: Timestamp) {
        let Some(counter) = self.counter(method) else { return };
        if counter.blocked_until.is_some_and(|until| now < until) {
            return;
        }
        let pause = SHORTEST_BLOCK.saturating_mul(1_i32 << counter.blocks.min(4)).min(LONGEST_BLOCK);
        counter.blocks = counter.blocks.saturating_add(1);
        let least = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        counter.blocked_until = Some(counter.reset_at.map_or(least, |reset_at| reset_at.max(least)));
    }

    /// The seconds in the method's baskets at `now`, as far as known; without what is in flight.
    pub fn used(&self, method: &str, now: Timestamp) -> f64 {
        self.counters.get(method).map_or(0.0, |counter| counter.used_at(now))
    }

    /// What every method has used at `now`, by name; methods that have used nothing and wait for nothing left out.
    pub fn report(&self, now: Timestamp) -> Vec<Used> {
        let used = self.counters.iter().map(|(method, counter)| Used {
            method: method.clone(),
            seconds: counter.used_at(now) + counter.in_flight,
            drops_at: counter.next_drop(now),
            blocked_until: counter.blocked_until.filter(|until| now < *until),
        });
        used.filter(|used| used.seconds > DUST || used.blocked_until.is_some()).collect()
    }

    /// Whether the portal has ever reported a cost under this name.
    pub fn is_charged(&self, method: &str) -> bool {
        self.counters.get(method).is_some_and(|counter| counter.charged)
    }

    fn counter(&mut self, method: &str) -> Option<&mut Counter> {
        if !self.counters.contains_key(method) {
            if self.counters.len() >= MAX_COUNTERS {
                return None;
            }
            self.counters.insert(method.to_owned(), Counter::default());
        }
        self.counters.get_mut(method)
    }
}

/// What a method has used of its budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Used {
    /// The name it is counted under.
    pub method: String,
    /// The seconds in its baskets, and those that calls in flight are expected to take.
    pub seconds: f64,
    /// When the next of them drop, as far as known.
    pub drops_at: Option<Timestamp>,
    /// Until when nothing of it is started, because the portal refused it.
    pub blocked_until: Option<Timestamp>,
}

fn ask_again(now: Timestamp) -> Timestamp {
    now.checked_add(ASK_AGAIN).unwrap_or(Timestamp::MAX)
}

impl Counter {
    fn may_start(&self, seconds: f64, budget: f64, now: Timestamp) -> Result<(), Timestamp> {
        if let Some(until) = self.blocked_until.filter(|until| now < *until) {
            return Err(until);
        }
        let fits = |used: f64| {
            used + self.in_flight + seconds <= budget + DUST || (used <= DUST && self.flights == 0)
        };
        let mut used = self.used_at(now);
        if fits(used) {
            return Ok(());
        }
        let reported = self.baskets.iter().map(|basket| (self.drop_of(basket), basket.seconds));
        let mut drops: Vec<(Timestamp, f64)> = reported.chain(self.assumed.iter().copied()).collect();
        drops.retain(|(at, _)| *at > now);
        drops.sort_unstable_by_key(|(at, _)| *at);
        let announced = self.reset_at.filter(|at| *at > now).unwrap_or(Timestamp::MAX);
        for (at, seconds) in drops {
            used -= seconds;
            if fits(used) {
                return Err(at.min(announced));
            }
        }
        Err(ask_again(now).min(announced))
    }

    fn may_probe(&self, budget: f64, now: Timestamp) -> bool {
        let passed = self.reset_at.is_some_and(|reset_at| reset_at <= now);
        let blocked = self.blocked_until.is_some_and(|until| now < until);
        passed && !blocked && self.flights == 0 && self.used_at(now) <= budget + DUST
    }

    fn room(&self, budget: f64, now: Timestamp) -> f64 {
        if self.blocked_until.is_some_and(|until| now < until) {
            return 0.0;
        }
        (budget + DUST - self.used_at(now) - self.in_flight).max(0.0)
    }

    /// When a basket drops, at the latest: what surely belongs to the portal's oldest basket when the portal said, all
    /// else when the longest window seen, and the part of it that may be hidden, have passed over it.
    fn drop_of(&self, basket: &Basket) -> Timestamp {
        let Some(reset_at) = self.reset_at else {
            return basket.at.checked_add(WINDOW_UNSAID).unwrap_or(Timestamp::MAX);
        };
        if basket.at.checked_add(self.window).is_ok_and(|drop| drop <= reset_at) {
            return reset_at;
        }
        basket.at.checked_add(self.window.saturating_add(PORTAL_BASKET)).unwrap_or(Timestamp::MAX)
    }

    fn next_drop(&self, now: Timestamp) -> Option<Timestamp> {
        let reported = self.baskets.iter().map(|basket| self.drop_of(basket));
        reported.chain(self.assumed.iter().map(|(until, _)| *until)).filter(|at| *at > now).min()
    }

    fn used_at(&self, at: Timestamp) -> f64 {
        let reported =
            self.baskets.iter().filter(|basket| self.drop_of(basket) > at).map(|basket| basket.seconds);
        let assumed = self.assumed.iter().filter(|(until, _)| *until > at).map(|(_, seconds)| *seconds);
        reported.chain(assumed).sum()
    }

    fn expire(&mut self, now: Timestamp) {
        self.assumed.retain(|(until, _)| *until > now);
        while self.baskets.front().is_some_and(|first| self.drop_of(first) <= now) {
            self.baskets.pop_front();
            self.stale = true;
        }
    }

    fn observe(&mut self, operating: f64, reset_at: Option<Timestamp>, now: Timestamp) {
        self.expire(now);
        let known: f64 = self.baskets.iter().map(|basket| basket.seconds).sum();
        let growth = if self.may_have_dropped(reset_at, now) {
            // The sum grew by the calls' costs and fell by what dropped, and only the difference is known. The costs
            // were at most their estimates; taking all of that as new makes it drop late, which is the safe mistake.
            (operating - known).max(self.in_flight).min(operating)
        } else if operating < known {
            // Nothing drops before the announced moment: this is an older reply that came late.
            return;
        } else {
            operating - known
        };
        self.shrink(known + growth - operating);
        if growth > DUST {
            self.grow(growth, now);
        }
        self.reset_at = reset_at.or(self.reset_at).filter(|_| !self.baskets.is_empty());
        if let Some(reset_at) = reset_at {
            self.window = self.window.max(reset_at.duration_since(now));
        }
        self.charged |= operating > 0.0;
        self.stale = false;
        self.assumed.clear();
        self.blocks = 0;
    }

    /// Whether a basket of the portal's may have dropped since its last report.
    fn may_have_dropped(&self, reset_at: Option<Timestamp>, now: Timestamp) -> bool {
        let passed = self.reset_at.is_none_or(|announced| now >= announced);
        let another =
            reset_at.zip(self.reset_at).is_some_and(|(new, old)| new.duration_since(old) > ROUNDING);
        self.stale || passed || another
    }

    fn grow(&mut self, seconds: f64, now: Timestamp) {
        let full = self.baskets.len() >= MAX_BASKETS;
        match self.baskets.back_mut() {
            Some(last) if full || last.at == now => {
                last.seconds += seconds;
                last.at = now.max(last.at);
            }
            Some(_) | None => self.baskets.push_back(Basket { at: now, seconds }),
        }
    }

    fn shrink(&mut self, mut seconds: f64) {
        while let Some(first) = self.baskets.front_mut()
            && seconds > DUST
        {
            if first.seconds > seconds + DUST {
                first.seconds -= seconds;
                return;
            }
            seconds -= first.seconds;
            self.baskets.pop_front();
        }
    }
}
