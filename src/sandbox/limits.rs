//! The portal's two limits: a leaky bucket of requests and an operating time per method.
//!
//! Bitrix24 docs: `limits.md`. The check comes before a call: the call that crosses the operating limit finishes and
//! the next is refused. Both take the time as an argument.

use std::collections::{HashMap, VecDeque};

/// An operating window is this many baskets.
const BASKETS: i64 = 10;

/// Runs of this many seconds and less are not stored by the portal's own counter.
const SHORT_RUN_SECONDS: f64 = 0.1;

/// Requests drain at a rate; one that doesn't fit is refused and adds nothing.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    level: f64,
    at_us: i64,
}

impl Bucket {
    /// Takes a place at `now_us` (unix microseconds); false when the bucket is full.
    pub(super) fn take(&mut self, now_us: i64, rate: f64, burst: f64) -> bool {
        let passed = (now_us - self.at_us).max(0) as f64 / 1e6;
        self.level = (self.level - passed * rate).max(0.0);
        self.at_us = now_us;
        // A hair of tolerance, so that a client that waits exactly long enough is not refused for a rounding error.
        let fits = self.level + 1.0 <= burst + 1e-4;
        if fits {
            self.level += 1.0;
        }
        fits
    }
}

/// Operating seconds by counter, in baskets.
#[derive(Debug, Default)]
pub(super) struct Operating {
    counters: HashMap<String, VecDeque<(i64, f64)>>,
}

/// What a `time` object tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// Seconds used in the window.
    pub(super) seconds: f64,
    /// Unix second at which the oldest basket drops.
    pub(super) reset_at: i64,
}

impl Operating {
    /// The use of a counter at `now`, with a window of `window` seconds.
    pub(super) fn usage(&mut self, counter: &str, now: f64, window: u32) -> Usage {
        let basket = basket_seconds(window);
        let current = (now as i64).div_euclid(basket);
        let none = Usage { seconds: 0.0, reset_at: (current + BASKETS) * basket };
        let Some(baskets) = self.counters.get_mut(counter) else { return none };
        while baskets.front().is_some_and(|(at, _)| at + BASKETS <= current) {
            baskets.pop_front();
        }
        match baskets.front() {
            Some((oldest, _)) => Usage {
                seconds: baskets.iter().map(|(_, seconds)| seconds).sum(),
                reset_at: (oldest + BASKETS) * basket,
            },
            None => none,
        }
    }

    /// Adds a run that ended at `now`.
    pub(super) fn charge(&mut self, counter: &str, now: f64, window: u32, seconds: f64, short_too: bool) {
        if seconds <= SHORT_RUN_SECONDS && !short_too {
            return;
        }
        let current = (now as i64).div_euclid(basket_seconds(window));
        let baskets = self.counters.entry(counter.to_owned()).or_default();
        match baskets.back_mut() {
            Some((at, sum)) if *at == current => *sum += seconds,
            Some(_) | None => baskets.push_back((current, seconds)),
        }
    }
}

fn basket_seconds(window: u32) -> i64 {
    (i64::from(window) / BASKETS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_holds_the_burst_and_drains_at_the_rate() {
        let mut bucket = Bucket::default();
        let taken =
            |bucket: &mut Bucket, ms: i64| (0..100).filter(|_| bucket.take(ms * 1000, 2.0, 50.0)).count();
        assert_eq!(taken(&mut bucket, 1_000_000), 50);
        assert_eq!(taken(&mut bucket, 1_000_400), 0);
        assert_eq!(taken(&mut bucket, 1_003_000), 6);
        assert_eq!(taken(&mut bucket, 2_000_000), 50);
    }

    #[test]
    fn a_basket_drops_when_it_leaves_the_window() {
        let mut operating = Operating::default();
        operating.charge("m", 0.0, 600, 100.0, true);
        operating.charge("m", 59.0, 600, 100.0, true);
        operating.charge("m", 60.0, 600, 50.0, true);
        assert_eq!(operating.usage("m", 599.0, 600), Usage { seconds: 250.0, reset_at: 600 });
        assert_eq!(operating.usage("m", 600.0, 600), Usage { seconds: 50.0, reset_at: 660 });
        assert_eq!(operating.usage("m", 660.0, 600).seconds, 0.0);
    }

    #[test]
    fn short_runs_are_stored_only_on_request() {
        let mut operating = Operating::default();
        operating.charge("m", 0.0, 600, 0.1, false);
        assert_eq!(operating.usage("m", 0.0, 600).seconds, 0.0);
        operating.charge("m", 0.0, 600, 0.1, true);
        assert_eq!(operating.usage("m", 0.0, 600).seconds, 0.1);
    }
}
