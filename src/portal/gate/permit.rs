//! What the gate gives: a permit until its request leaves, a flight until it has ended.
//!
//! Invariant: what was taken of the budgets is given back or charged once, however the holder ends.

use std::sync::Arc;

use super::Gate;

/// The right to send one request now. Take it first, record the claim, then send: what is held counts as in flight.
#[derive(Debug)]
#[must_use = "a permit that is dropped has used up a place in the bucket for nothing"]
pub struct Permit {
    pub(super) gate: Arc<Gate>,
    pub(super) held: Vec<Held>,
    pub(super) leads: usize,
}

/// Seconds that are taken of a counter.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) counter: String,
    pub(super) seconds: f64,
}

impl Permit {
    /// How many leads a request with this permit may delete; 0 if it only reads.
    pub fn leads(&self) -> usize {
        self.leads
    }

    /// The request goes out now and costs these counters; what else was held is given back.
    pub(in crate::portal) fn start(mut self, used: &[String]) -> Flight {
        let (ours, others): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.held).into_iter().partition(|held| used.contains(&held.counter));
        release(&self.gate, &others);
        Flight { gate: Arc::clone(&self.gate), held: ours }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        release(&self.gate, &self.held);
    }
}

fn release(gate: &Gate, held: &[Held]) {
    if held.is_empty() {
        return;
    }
    let mut state = gate.state();
    for Held { counter, seconds } in held {
        state.operating.release(counter, *seconds);
    }
    drop(state);
    gate.changed.notify_waiters();
}

/// A request on its way. Dropped without a word, as on a lost reply or an abandoned call, it counts as having cost its
/// estimates.
#[derive(Debug)]
pub(in crate::portal) struct Flight {
    gate: Arc<Gate>,
    held: Vec<Held>,
}

impl Flight {
    /// It surely was not executed.
    pub(in crate::portal) fn not_executed(mut self) {
        release(&self.gate, &std::mem::take(&mut self.held));
    }

    /// It was answered: what it cost, the reply has said, or the portal does not count.
    pub(in crate::portal) fn answered(mut self) {
        self.end(false);
    }

    fn end(&mut self, unreported: bool) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return;
        }
        let now = self.gate.clock.now();
        let mut state = self.gate.state();
        for Held { counter, seconds } in held {
            state.operating.finish(&counter, seconds, unreported, now);
        }
        state.changes += 1;
        drop(state);
        self.gate.changed.notify_waiters();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.end(true);
    }
}
