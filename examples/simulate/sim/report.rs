//! What a seed came to, and the sum of many.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// What happened in a simulation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Counts {
    pub(crate) days: f64,
    pub(crate) deletions: u64,
    pub(crate) requests: u64,
    pub(crate) events: u64,
    pub(crate) notices: u64,
    pub(crate) jobs: u64,
    pub(crate) runs: u64,
    pub(crate) crashes: u64,
    pub(crate) stops: u64,
    pub(crate) reloads: u64,
    pub(crate) steps: u64,
    pub(crate) faults_struck: u64,
    /// Faults that were set, by kind.
    pub(crate) faults: BTreeMap<String, u64>,
    /// How jobs ended.
    pub(crate) outcomes: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.days += other.days;
        self.deletions += other.deletions;
        self.requests += other.requests;
        self.events += other.events;
        self.notices += other.notices;
        self.jobs += other.jobs;
        self.runs += other.runs;
        self.crashes += other.crashes;
        self.stops += other.stops;
        self.reloads += other.reloads;
        self.steps += other.steps;
        self.faults_struck += other.faults_struck;
        for (sum, part) in [(&mut self.faults, &other.faults), (&mut self.outcomes, &other.outcomes)] {
            for (kind, count) in part {
                *sum.entry(kind.clone()).or_default() += count;
            }
        }
    }
}

/// One seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    /// Of everything that was sent, answered and done, with its time.
    pub(crate) hash: u64,
    pub(crate) counts: Counts,
    /// The promise that was broken.
    pub(crate) failure: Option<String>,
    /// What happened, line by line, as far as it was to be kept.
    #[serde(skip)]
    pub(crate) history: Vec<String>,
}

/// Many seeds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    pub(crate) failed: BTreeMap<u64, String>,
}

impl Summary {
    pub(crate) fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.counts.add(&report.counts);
        if let Some(failure) = &report.failure {
            self.failed.insert(report.seed, failure.clone());
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let Counts {
            days,
            deletions,
            requests,
            events,
            notices,
            jobs,
            runs,
            crashes,
            stops,
            reloads,
            steps,
            ..
        } = self.counts;
        let mut text = format!(
            "{} seeds, {days:.0} simulated days, {steps} steps: {deletions} deletions in {requests} requests, {jobs} jobs of \
             {runs} runs, {events} events stored, {notices} notices, {crashes} crashes, {stops} orderly stops, {reloads} reloads\n",
            self.seeds
        );
        let list = |of: &BTreeMap<String, u64>| {
            of.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(text, "jobs: {}", list(&self.counts.outcomes));
        let _ = writeln!(
            text,
            "faults: {} struck; set: {}",
            self.counts.faults_struck,
            list(&self.counts.faults)
        );
        match self.failed.first_key_value() {
            None => text.push_str("every promise was kept\n"),
            Some((seed, failure)) => {
                let _ = writeln!(text, "{} seeds failed: {:?}", self.failed.len(), self.failed.keys());
                let _ = writeln!(
                    text,
                    "seed {seed}: {failure}\nreplay it: cargo run --release --example simulate -- --seeds 1 --from {seed} --history 100"
                );
            }
        }
        text
    }
}
