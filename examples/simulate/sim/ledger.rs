//! What really happened, written down outside the service: every version of every lead, every version of the rules,
//! every request that deletes, every event that was answered 200. And a hash of it all: the same seed, the same hash.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use b24_janitor::sandbox::Lead;
use jiff::{SignedDuration, Timestamp};

use crate::sim::spec::Spec;

/// A line that is kept is at most so long; the hash is of the whole.
const WIDTH: usize = 300;

/// A request that deletes, as it left.
pub(crate) struct Sent {
    pub(crate) at: Timestamp,
    pub(crate) leads: Vec<u32>,
}

/// A version of the rules, in force from the end of the one before (which may overlap) on.
pub(crate) struct Version {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) spec: Spec,
}

/// The books.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) leads: BTreeMap<u32, Vec<(Timestamp, Lead)>>,
    pub(crate) versions: Vec<Version>,
    pub(crate) sent: Vec<Sent>,
    /// By how much the service's clock was ahead of the portal's, from when on; at first by nothing.
    pub(crate) skews: Vec<(Timestamp, SignedDuration)>,
    /// Requests that read leads by their ids and took long: when they were answered.
    pub(crate) slow_reads: Vec<Timestamp>,
    /// Since when and until when a person had everything paused.
    pub(crate) pauses: Vec<(Timestamp, Timestamp)>,
    /// Events answered 200, by lead.
    pub(crate) heard: BTreeMap<u32, u64>,
    /// Notices that arrived.
    pub(crate) told: Vec<String>,
    /// When events of changes were answered 200, by lead.
    pub(crate) changed: BTreeMap<u32, Vec<Timestamp>>,
    /// Events that reached a listener, answered or not.
    pub(crate) delivered: u64,
    hash: u64,
    /// How many of the last lines are kept.
    pub(crate) shown: usize,
    lines: VecDeque<String>,
}

impl Ledger {
    pub(crate) fn line(&mut self, at: Timestamp, text: &str) {
        let mut hasher = DefaultHasher::new();
        (self.hash, at.as_nanosecond(), text).hash(&mut hasher);
        self.hash = hasher.finish();
        if self.shown == 0 {
            return;
        }
        if self.lines.len() >= self.shown {
            self.lines.pop_front();
        }
        let text: String = text.chars().take(WIDTH).collect();
        self.lines.push_back(format!("{at} {text}"));
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    pub(crate) fn note(&mut self, at: Timestamp, lead: Lead) {
        self.leads.entry(lead.id).or_default().push((at, lead));
    }

    /// New rules, which came into force at some moment from `begun` to `now`.
    pub(crate) fn rules(&mut self, begun: Timestamp, now: Timestamp, spec: &Spec) {
        if let Some(last) = self.versions.last_mut() {
            last.until = now;
        }
        self.versions.push(Version { from: begun, until: Timestamp::MAX, spec: spec.clone() });
    }

    /// What the service's clock can have shown between two moments, told as what it shows at the later one.
    pub(crate) fn shown(&self, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let before =
            self.skews.iter().rfind(|(at, _)| *at <= from).map_or(SignedDuration::ZERO, |(_, skew)| *skew);
        let since = self.skews.iter().filter(|(at, _)| from < *at && *at <= until).map(|(_, skew)| *skew);
        std::iter::once(before).chain(since).filter_map(|skew| until.checked_add(skew).ok()).collect()
    }

    pub(crate) fn pause(&mut self, now: Timestamp, paused: bool) {
        let open = self.pauses.last().is_some_and(|(_, until)| *until == Timestamp::MAX);
        match (open, paused) {
            (false, true) => self.pauses.push((now, Timestamp::MAX)),
            (true, false) => {
                if let Some(last) = self.pauses.last_mut() {
                    last.1 = now;
                }
            }
            (true, true) | (false, false) => {}
        }
    }
}
