//! The only reader of the system clock.
//!
//! Everything that decides takes a time as an argument; the edges that need "now" ask a [`Clock`]. A virtual
//! clock derives wall time from tokio's clock, so that a test with paused time moves both together and a week
//! passes in a second.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::core::freshness::Moment;

/// A sleep looks at the clock so often, in case it was set.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// Where the wall time comes from. Cheap to copy; hand it down, never construct it deep inside.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The system's clock.
    System,
    /// `base` at the tokio instant `since`, then as fast as tokio's clock runs.
    Virtual {
        /// The wall time at `since`.
        base: Timestamp,
        /// The instant at which it was `base`.
        since: Instant,
        /// By how much loops with nothing to do rest longer than in a service; see [`Clock::idle`].
        leisure: i32,
        /// By how many milliseconds someone has set the clock since then, if anyone can.
        set_by: Option<&'static AtomicI64>,
    },
}

impl Clock {
    /// A clock that shows `base` now and follows tokio's clock from here on. Needs a tokio runtime to be useful:
    /// under `tokio::time::pause` it stands still between timers.
    pub fn starting_at(base: Timestamp) -> Clock {
        Clock::leisurely(base, 1)
    }

    /// The same for whole weeks, most of which nothing happens in: loops rest `leisure` times as long as usual where
    /// they would only look whether they missed something.
    pub fn leisurely(base: Timestamp, leisure: i32) -> Clock {
        Clock::Virtual { base, since: Instant::now(), leisure, set_by: None }
    }

    /// The same clock, which someone sets while it runs: it shows so many milliseconds more. The system's clock is set by
    /// the system alone.
    #[must_use]
    pub fn set_by(self, milliseconds: &'static AtomicI64) -> Clock {
        match self {
            Clock::System => self,
            Clock::Virtual { base, since, leisure, .. } => {
                Clock::Virtual { base, since, leisure, set_by: Some(milliseconds) }
            }
        }
    }

    /// How long a loop that has nothing to do rests before it looks again, though nothing woke it. Only for such safety
    /// nets: what must happen at a time happens at that time.
    pub fn idle(&self, usual: SignedDuration) -> SignedDuration {
        match self {
            Clock::System => usual,
            Clock::Virtual { leisure, .. } => usual.saturating_mul(*leisure),
        }
    }

    /// The wall time.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System =>
            {
                #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
                Timestamp::now()
            }
            Clock::Virtual { base, since, set_by, .. } => {
                let set = set_by.map_or(0, |milliseconds| milliseconds.load(Ordering::SeqCst));
                let shown = base.saturating_add(since.elapsed()).unwrap_or(Timestamp::MAX);
                shown.saturating_add(SignedDuration::from_millis(set)).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// This moment, on the wall's clock and on tokio's, which nobody sets.
    pub fn moment(&self) -> Moment {
        Moment { wall: self.now(), steady: Instant::now().into_std() }
    }

    /// Sleeps until the wall clock shows `at`; returns at once when that has passed. A system clock that is set
    /// back during the sleep makes it longer by at most the distance it was set back by the next poll, because the
    /// sleep is taken in pieces of at most a minute (of a virtual clock only where someone can set it).
    pub async fn sleep_until(&self, at: Timestamp) {
        loop {
            let left = at.duration_since(self.now());
            if !left.is_positive() {
                return;
            }
            let left = match self {
                Clock::System | Clock::Virtual { set_by: Some(_), .. } => {
                    left.min(self.idle(LOOK_AGAIN)).unsigned_abs()
                }
                Clock::Virtual { set_by: None, .. } => left.unsigned_abs(),
            };
            tokio::time::sleep(left.max(std::time::Duration::from_millis(1))).await;
        }
    }
}
