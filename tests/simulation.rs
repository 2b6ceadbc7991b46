//! Simulated weeks of the whole service, each from a seed, with every promise checked after every step.
//!
//! The same code as `examples/simulate`, which runs as many seeds as one likes.

#![expect(clippy::indexing_slicing, reason = "a simulation that can't go on has failed")]

#[path = "../examples/simulate/sim/mod.rs"]
mod sim;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// As many as two processors live through in less than three minutes.
const SEEDS: u64 = 300;

#[test]
fn in_every_simulated_week_all_promises_are_kept() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let never = Arc::new(AtomicBool::new(false));
    let summary = sim::pool::run(0, SEEDS, threads, 0, &never, |_, _| ());
    assert!(summary.failed.is_empty(), "{}", summary.text());
    assert_eq!(summary.seeds, SEEDS);
    let counts = &summary.counts;
    for happened in [
        counts.deletions,
        counts.crashes,
        counts.stops,
        counts.reloads,
        counts.faults_struck,
        counts.events,
        counts.notices,
    ] {
        assert!(happened > SEEDS, "too little happened to prove anything: {}", summary.text());
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..6 {
        let (first, again) = (sim::live(seed, 0), sim::live(seed, 0));
        assert_eq!(first.hash, again.hash, "seed {seed}");
        assert_eq!(first, again, "seed {seed}");
    }
    assert_ne!(sim::live(0, 0).hash, sim::live(1, 0).hash);
}
