//! What of the operating budgets outlives its process: the portal goes on counting while we restart.
//!
//! All times are nanoseconds from the moment of saving, so that a system clock that was set in between can be corrected
//! by whoever knows that it was; whole ones, since a basket that is rounded past the announced moment would wait for a
//! window more. Read from a file: nothing in it is believed beyond what a counter can be. The invariant: what is
//! restored never drops earlier than what was saved, and what was in flight counts as spent.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Basket, Counter, MAX_COUNTERS, Operating, WINDOW_UNSAID};

/// The most baskets saved a counter: a window of ten minutes to ten seconds. More are joined, and drop when the latest
/// of them does.
const MAX_SAVED: usize = 60;

/// No time in a file is believed farther away than this: windows are ten minutes long.
const FARTHEST: SignedDuration = SignedDuration::from_hours(1);

/// The saved budgets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SavedOperating(BTreeMap<String, SavedCounter>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedCounter {
    /// When, and seconds of work; oldest first.
    baskets: Vec<(i64, f64)>,
    reset_at: Option<i64>,
    window: i64,
    /// Until when costs that nobody reported count, and seconds of work.
    assumed: (i64, f64),
    in_flight: f64,
    blocked_until: Option<i64>,
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
        let from_now = |at: Timestamp| nanoseconds(at.duration_since(now));
        let baskets: Vec<Basket> = self.baskets.iter().copied().collect();
        let joined = baskets.chunks(baskets.len().div_ceil(MAX_SAVED).max(1)).filter_map(|part| {
            let last = part.last()?;
            Some((from_now(last.at), part.iter().map(|basket| basket.seconds).sum()))
        });
        SavedCounter {
            baskets: joined.collect(),
            reset_at: self.reset_at.map(from_now),
            window: nanoseconds(self.window),
            assumed: (
                self.assumed.iter().map(|(until, _)| from_now(*until)).max().unwrap_or(0),
                self.assumed.iter().map(|(_, seconds)| seconds).sum(),
            ),
            in_flight: self.in_flight,
            blocked_until: self.blocked_until.map(from_now),
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
            .map(|(at, seconds)| Basket { at: moment(saved_at, *at), seconds: amount(*seconds) })
            .filter(|basket| basket.seconds > 0.0)
            .collect();
        let window = span(self.window.max(0));
        let kept = if window.is_zero() { WINDOW_UNSAID } else { window };
        let lost = (saved_at.checked_add(kept).unwrap_or(Timestamp::MAX), amount(self.in_flight));
        let (until, seconds) = self.assumed;
        let assumed = (moment(saved_at, until), amount(seconds));
        Counter {
            reset_at: self.reset_at.filter(|_| !baskets.is_empty()).map(|at| moment(saved_at, at)),
            window,
            stale: self.charged,
            assumed: [assumed, lost].into_iter().filter(|(_, seconds)| *seconds > 0.0).collect(),
            in_flight: 0.0,
            flights: 0,
            blocked_until: self.blocked_until.map(|until| moment(saved_at, until)),
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

fn nanoseconds(time: SignedDuration) -> i64 {
    let limit = if time.is_negative() { i64::MIN } else { i64::MAX };
    i64::try_from(time.as_nanos()).unwrap_or(limit)
}

fn span(nanoseconds: i64) -> SignedDuration {
    SignedDuration::from_nanos(nanoseconds).clamp(-FARTHEST, FARTHEST)
}

fn moment(saved_at: Timestamp, from_it: i64) -> Timestamp {
    saved_at.checked_add(span(from_it)).unwrap_or(saved_at)
}
