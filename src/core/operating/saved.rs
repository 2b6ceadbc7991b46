//! What of the operating budgets outlives its process: the portal goes on counting while we restart.
//!
//! All times are seconds from the moment of saving, so that a system clock that was set in between can be corrected by
//! whoever knows that it was. Read from a file: nothing in it is believed beyond what a counter can be. The invariant:
//! what is restored never drops earlier than what was saved, and what was in flight counts as spent.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Basket, Counter, MAX_COUNTERS, Operating, WINDOW_UNSAID};

/// The most baskets saved a counter: a window of ten minutes to ten seconds. More are joined, and drop when the latest
/// of them does.
const MAX_SAVED: usize = 60;

/// No time in a file is believed farther away than this: windows are ten minutes long.
const FARTHEST: f64 = 3600.0;

/// The saved budgets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SavedOperating(BTreeMap<String, SavedCounter>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedCounter {
    /// How long ago, and seconds of work; oldest first.
    baskets: Vec<(f64, f64)>,
    reset_in: Option<f64>,
    window: f64,
    /// Costs that nobody reported, and how long they still count.
    assumed: (f64, f64),
    in_flight: f64,
    blocked_for: f64,
    blocks: u32,
    charged: bool,
}

impl Operating {
    /// What is to be kept at `now`.
    pub fn saved(&self, now: Timestamp) -> SavedOperating {
        SavedOperating(
            self.counters.iter().map(|(name, counter)| (name.clone(), counter.saved(now))).collect(),
        )
    }

    /// Goes on from what was saved at `saved_at`. Where the portal reports costs, one call at a time goes out until it
    /// has reported again.
    pub fn restore(&mut self, saved: &SavedOperating, saved_at: Timestamp) {
        for (name, counter) in saved.0.iter().take(MAX_COUNTERS) {
            self.counters.insert(name.clone(), counter.restored(saved_at));
        }
    }
}

impl Counter {
    fn saved(&self, now: Timestamp) -> SavedCounter {
        let from_now = |at: Timestamp| at.duration_since(now).as_secs_f64();
        let baskets: Vec<Basket> = self.baskets.iter().copied().collect();
        let joined = baskets.chunks(baskets.len().div_ceil(MAX_SAVED).max(1)).filter_map(|part| {
            let last = part.last()?;
            Some((-from_now(last.at), part.iter().map(|basket| basket.seconds).sum()))
        });
        SavedCounter {
            baskets: joined.collect(),
            reset_in: self.reset_at.map(from_now),
            window: self.window.as_secs_f64(),
            assumed: (
                self.assumed.iter().map(|(_, seconds)| seconds).sum(),
                self.assumed.iter().map(|(until, _)| from_now(*until)).fold(0.0, f64::max),
            ),
            in_flight: self.in_flight,
            blocked_for: self.blocked_until.map_or(0.0, from_now).max(0.0),
            blocks: self.blocks,
            charged: self.charged,
        }
    }
}

impl SavedCounter {
    fn restored(&self, saved_at: Timestamp) -> Counter {
        let baskets: VecDeque<Basket> = self
            .baskets
            .iter()
            .take(MAX_SAVED)
            .map(|(ago, seconds)| Basket { at: moment(saved_at, -ago), seconds: amount(*seconds) })
            .filter(|basket| basket.seconds > 0.0)
            .collect();
        let window = if self.window > 0.0 { span(self.window) } else { SignedDuration::ZERO };
        let kept = if window.is_zero() { WINDOW_UNSAID } else { window };
        let lost = (saved_at.checked_add(kept).unwrap_or(Timestamp::MAX), amount(self.in_flight));
        let (assumed, counts_for) = self.assumed;
        let assumed = (moment(saved_at, counts_for), amount(assumed));
        Counter {
            reset_at: self.reset_in.filter(|_| !baskets.is_empty()).map(|ahead| moment(saved_at, ahead)),
            window,
            stale: self.charged,
            assumed: [assumed, lost].into_iter().filter(|(_, seconds)| *seconds > 0.0).collect(),
            in_flight: 0.0,
            flights: 0,
            blocked_until: (self.blocked_for > 0.0).then(|| moment(saved_at, self.blocked_for)),
            blocks: self.blocks,
            charged: self.charged,
            baskets,
        }
    }
}

/// Seconds of work: finite, and not below nothing.
fn amount(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.max(0.0) } else { 0.0 }
}

fn span(seconds: f64) -> SignedDuration {
    let believed = if seconds.is_finite() { seconds.clamp(-FARTHEST, FARTHEST) } else { 0.0 };
    // What the file rounds off must not make anything drop too early.
    SignedDuration::try_from_secs_f64(believed + 1e-6).unwrap_or(SignedDuration::ZERO)
}

fn moment(saved_at: Timestamp, ahead: f64) -> Timestamp {
    saved_at.checked_add(span(ahead)).unwrap_or(saved_at)
}
