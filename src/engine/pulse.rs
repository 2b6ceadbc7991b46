//! Which parts of the service are alive: each says by when it will be heard of again, and one that is overdue hangs.
//!
//! systemd's watchdog is fed by this and not by a timer of its own, so a lane or a database that hangs ends in a restart,
//! which recovers everything. Invariant: a part that waits for something that may rightly take any time (a pause, the
//! portal's budget, a day's cap) keeps saying so; only one that does nothing at all falls silent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A part of the service that must not hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A lane of the worker, by its number.
    Lane(usize),
    /// The loop that sees other processes' writes, tidies up and writes the heartbeat.
    Control,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Lane(number) => write!(f, "lane {number} of the worker"),
            Part::Control => f.write_str("the control loop"),
        }
    }
}

/// By when each part is heard of again; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    due: Arc<Mutex<BTreeMap<Part, Instant>>>,
}

impl Pulse {
    fn due(&self) -> std::sync::MutexGuard<'_, BTreeMap<Part, Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part lives, and is heard of again within this time.
    pub fn beat(&self, part: Part, within: Duration) {
        self.due().insert(part, Instant::now() + within);
    }

    /// The part has nothing to do until somebody wakes it.
    pub fn rest(&self, part: Part) {
        self.due().remove(&part);
    }

    /// The parts that are missed if they fall silent.
    pub fn watched(&self) -> Vec<Part> {
        self.due().keys().copied().collect()
    }

    /// The first part that is overdue.
    pub fn overdue(&self) -> Option<Part> {
        let now = Instant::now();
        self.due().iter().find(|(_, due)| **due < now).map(|(part, _)| *part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn who_is_not_heard_of_in_time_is_overdue_until_it_is() {
        let pulse = Pulse::default();
        pulse.beat(Part::Lane(0), MINUTE);
        pulse.beat(Part::Lane(1), 3 * MINUTE);
        pulse.beat(Part::Control, MINUTE);
        tokio::time::advance(MINUTE).await;
        assert_eq!(pulse.overdue(), None);
        pulse.beat(Part::Control, MINUTE);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pulse.overdue(), Some(Part::Lane(0)));
        pulse.beat(Part::Lane(0), MINUTE);
        assert_eq!(pulse.overdue(), None);
        pulse.rest(Part::Lane(0));
        pulse.rest(Part::Control);
        tokio::time::advance(2 * MINUTE).await;
        assert_eq!(pulse.overdue(), Some(Part::Lane(1)), "who rests is not missed");
    }
}
