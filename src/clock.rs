//! The only reader of the system clock.
//!
//! Everything that decides takes a time as an argument; the edges that need "now" ask a [`Clock`]. A virtual
//! clock derives wall time from tokio's clock, so that a test with paused time moves both together and a week
//! passes in a second.

use jiff::Timestamp;
use tokio::time::Instant;

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
    },
}

impl Clock {
    /// A clock that shows `base` now and follows tokio's clock from here on. Needs a tokio runtime to be useful:
    /// under `tokio::time::pause` it stands still between timers.
    pub fn starting_at(base: Timestamp) -> Clock {
        Clock::Virtual { base, since: Instant::now() }
    }

    /// The wall time.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System =>
            {
                #[expect(clippy::disallowed_methods, reason = "the one place that reads the system clock")]
                Timestamp::now()
            }
            Clock::Virtual { base, since } => base.saturating_add(since.elapsed()).unwrap_or(Timestamp::MAX),
        }
    }

    /// Sleeps until the wall clock shows `at`; returns at once when that has passed. A system clock that is set
    /// back during the sleep makes it longer by at most the distance it was set back by the next poll, because the
    /// sleep is taken in pieces of at most a minute.
    pub async fn sleep_until(&self, at: Timestamp) {
        loop {
            let left = at.duration_since(self.now());
            if !left.is_positive() {
                return;
            }
            let left = left.unsigned_abs().min(std::time::Duration::from_secs(60));
            tokio::time::sleep(left.max(std::time::Duration::from_millis(1))).await;
        }
    }
}
