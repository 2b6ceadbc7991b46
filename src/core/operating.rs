//! How many seconds of the portal's work a method has left, and when it has more.
//!
//! The portal adds up what each method costs it over a window of baskets, reports the sum as `time.operating`, says in
//! `time.operating_reset_at` when the oldest basket drops out, and refuses the method with `OPERATION_TIME_LIMIT` once
//! the sum has passed its limit (<https://apidocs.bitrix24.com/limits.html>). The invariant: with true costs up to the
//! estimates, no call is started that would take the sum past the budget; what is in flight counts with its estimate;
//! with nothing in the baskets and nothing in flight one call is always allowed, however long it may be.
//!
//! The sum is what the portal said last. We remember in which order it grew, so that we know what drops when; once
//! something has dropped by our reckoning only, one call at a time goes out until the portal has reported again.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

/// Growth within this time is one basket of ours. The portal's are a minute long; finer ones only cost memory.
const BASKET: SignedDuration = SignedDuration::from_secs(5);

/// The most baskets kept a counter: with [`BASKET`] that is more than an hour. Beyond it the oldest two become one.
const MAX_BASKETS: usize = 1024;

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
    /// When the first basket drops.
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

#[derive(Debug, Clone, Copy)]
struct Basket {
    opened: Timestamp,
    grown: Timestamp,
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
        counter.may_start(seconds, budget, now)?;
        counter.in_flight += seconds;
        counter.flights += 1;
        Ok(())
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

impl Counter {
    fn may_start(&self, seconds: f64, budget: f64, now: Timestamp) -> Result<(), Timestamp> {
        let ask_again = now.checked_add(ASK_AGAIN).unwrap_or(Timestamp::MAX);
        if let Some(until) = self.blocked_until.filter(|until| now < *until) {
            return Err(until);
        }
        if self.stale && self.flights > 0 {
            return Err(ask_again);
        }
        let fits = |at| {
            let used = self.used_at(at);
            used + self.in_flight + seconds <= budget || (used <= 0.0 && self.flights == 0)
        };
        if fits(now) {
            return Ok(());
        }
        let mut drops: Vec<Timestamp> = (0..self.baskets.len()).map(|index| self.drop_of(index)).collect();
        drops.extend(self.assumed.iter().map(|(until, _)| *until));
        drops.retain(|at| *at > now);
        drops.sort_unstable();
        Err(drops.into_iter().find(|at| fits(*at)).unwrap_or(ask_again))
    }

    /// When a basket drops: the first when the portal said, a later one as much later as it is younger, and not before
    /// the longest window seen has passed over it.
    fn drop_of(&self, index: usize) -> Timestamp {
        let (Some(first), Some(basket)) = (self.baskets.front(), self.baskets.get(index)) else {
            return Timestamp::MIN;
        };
        let Some(reset_at) = self.reset_at else {
            return basket.grown.checked_add(WINDOW_UNSAID).unwrap_or(Timestamp::MAX);
        };
        if index == 0 {
            return reset_at;
        }
        let younger = basket.grown.duration_since(first.grown);
        let by_order = reset_at.checked_add(younger).unwrap_or(Timestamp::MAX);
        basket.grown.checked_add(self.window).unwrap_or(Timestamp::MAX).max(by_order)
    }

    fn used_at(&self, at: Timestamp) -> f64 {
        let reported: f64 = self
            .baskets
            .iter()
            .enumerate()
            .filter(|(index, _)| self.drop_of(*index) > at)
            .map(|(_, basket)| basket.seconds)
            .sum();
        reported
            + self.assumed.iter().filter(|(until, _)| *until > at).map(|(_, seconds)| seconds).sum::<f64>()
    }

    fn expire(&mut self, now: Timestamp) {
        self.assumed.retain(|(until, _)| *until > now);
        while !self.baskets.is_empty() && self.drop_of(0) <= now {
            let next = (self.baskets.len() > 1).then(|| self.drop_of(1));
            self.baskets.pop_front();
            self.reset_at = next;
            self.stale = true;
        }
    }

    fn observe(&mut self, operating: f64, reset_at: Option<Timestamp>, now: Timestamp) {
        self.expire(now);
        let known: f64 = self.baskets.iter().map(|basket| basket.seconds).sum();
        // Nothing drops before the announced moment: a smaller sum until then is an older reply that came late.
        let late = !self.stale && operating < known && self.reset_at.is_some_and(|reset_at| now < reset_at);
        if operating > known {
            self.grow(operating - known, now);
        } else if !late {
            self.shrink(known - operating);
        }
        if let Some(reset_at) = reset_at {
            let distance = reset_at.duration_since(now);
            self.window = self.window.max(distance);
            if !late && distance.is_positive() {
                self.reset_at = Some(reset_at);
            }
        }
        if self.baskets.is_empty() {
            self.reset_at = None;
        }
        self.charged |= operating > 0.0;
        self.stale = false;
        self.assumed.clear();
        self.blocks = 0;
    }

    fn grow(&mut self, seconds: f64, now: Timestamp) {
        match self.baskets.back_mut() {
            Some(last) if now.duration_since(last.opened) < BASKET => {
                last.seconds += seconds;
                last.grown = now.max(last.grown);
            }
            Some(_) | None => self.baskets.push_back(Basket { opened: now, grown: now, seconds }),
        }
        while self.baskets.len() > MAX_BASKETS {
            let oldest = self.baskets.pop_front().map_or(0.0, |basket| basket.seconds);
            if let Some(first) = self.baskets.front_mut() {
                first.seconds += oldest;
            }
        }
    }

    fn shrink(&mut self, mut seconds: f64) {
        // Differences of sums leave dust; a basket of less than a microsecond is none.
        const DUST: f64 = 1e-6;
        while let Some(first) = self.baskets.front_mut() {
            if first.seconds > seconds + DUST {
                first.seconds -= seconds;
                return;
            }
            seconds = (seconds - first.seconds).max(0.0);
            self.baskets.pop_front();
            if seconds <= DUST && self.baskets.front().is_none_or(|next| next.seconds > DUST) {
                return;
            }
        }
    }
}
