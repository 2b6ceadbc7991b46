//! What the rules would delete on each of the next days, from the leads as they are now: what `simulate` reports.
//!
//! Every decision is the one of the real run: [`decide`](super::decide::decide) judges, [`caps::check`](super::caps::check) holds, schedules,
//! grace periods and `deletes_per_day` count as they do there. What is foretold is the passing of time alone: nobody changes a
//! lead, none is added, nobody approves a held run, every deletion succeeds at the moment it is due and allowed.
//!
//! A rule in mode `plan` is simulated as if it alone were switched to `delete`: it does not touch what the others find.
//!
//! Limit: the work grows with changes of standings and with runs, not with their product; memory as in
//! [`Histories`], and a few bytes a lead and rule.

mod course;
mod standing;

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::lead::LeadId;
use super::rule::{Mode, Rule, RuleSet};
use course::Course;
pub use standing::{Histories, Standing, standing};

/// The most days of a simulation: a leap year. Leads as they are now say little about later.
pub const MAX_DAYS: u16 = 366;

/// Where a simulation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// At this moment.
    At(Timestamp),
    /// At the midnight that begins this date in each rule's zone.
    On(Date),
}

/// The days of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its beginning.
    pub begin: Begin,
    /// Nothing is simulated before this.
    pub now: Timestamp,
    /// How many dates, the one of the beginning included; at most [`MAX_DAYS`].
    pub days: u16,
}

/// The days of a simulation in one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Days {
    first: Date,
    zone: TimeZone,
    from: Timestamp,
    /// Exclusive.
    until: Timestamp,
}

impl Window {
    fn days_of(&self, rule: &Rule) -> Days {
        let zone = rule.schedule.zone().clone();
        let midnight = |date: Date| zone.to_timestamp(date.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX);
        let from = match self.begin {
            Begin::At(at) => at.max(self.now),
            Begin::On(date) => midnight(date).max(self.now),
        };
        let first = zone.to_datetime(from).date();
        let days = self.days.min(MAX_DAYS);
        let last = first.saturating_add(Span::new().days(i64::from(days)));
        let until = midnight(last);
        Days { first, zone, from, until }
    }

    /// From when until when leads must be judged, for all rules of a set.
    pub fn whole(&self, rules: &RuleSet) -> (Timestamp, Timestamp) {
        let days: Vec<Days> = rules.rules.iter().map(|rule| self.days_of(rule)).collect();
        let from = days.iter().map(|days| days.from).min().unwrap_or(self.now);
        let until = days.iter().map(|days| days.until).max().unwrap_or(self.now);
        (from, until)
    }
}

impl Days {
    /// The place of a moment's date among the days.
    fn place(&self, at: Timestamp) -> Option<usize> {
        if at < self.from || at >= self.until {
            return None;
        }
        let date = self.zone.to_datetime(at).date();
        let days = date.duration_since(self.first).as_hours() / 24;
        usize::try_from(days).ok()
    }
}

/// What the service has before the first simulated day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The jobs that are not done.
    pub jobs: Vec<KnownJob>,
    /// The leads that the program protects from itself.
    pub protections: Vec<KnownProtection>,
    /// What is known of the rules, by name.
    pub rules: BTreeMap<String, KnownRule>,
}

/// A job that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownJob {
    /// Its lead.
    pub lead: LeadId,
    /// Its rule.
    pub rule: String,
    /// When it may be claimed.
    pub due: Timestamp,
}

/// A lead that the program protects from itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownProtection {
    /// The lead.
    pub lead: LeadId,
    /// From which rule; `None`: from all.
    pub rule: Option<String>,
    /// Until when.
    pub until: Timestamp,
}

/// What is known of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownRule {
    /// What its last enqueued runs enqueued, the newest first, as [`caps::check`](super::caps::check) wants it.
    pub earlier: Vec<u64>,
    /// When its held run was held, and why.
    pub held: Option<(Timestamp, String)>,
    /// When it deleted in the last 24 hours.
    pub deleted: Vec<Timestamp>,
}

/// What a rule would do in the days of a simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The rule.
    pub rule: String,
    /// Its mode.
    pub mode: Mode,
    /// The days, each of them.
    pub days: Vec<Day>,
    /// The leads that it would delete in all of them.
    pub total: u64,
    /// Leads that still wait at the end, for their grace period or for `deletes_per_day`.
    pub waiting: u64,
}

/// One day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// The date in the rule's zone.
    pub date: Date,
    /// Leads that are deleted on it.
    pub would_delete: u64,
    /// Selected leads that are protected, at its last run; 0 without one.
    pub protected: u64,
    /// Leads that can't be judged, at its last run.
    pub undecidable: u64,
    /// Why a run of this day enqueues nothing: it is held, or skipped because an earlier one is.
    pub held: Option<String>,
}

/// Simulates all rules of a set, and tells each one's days. `histories` were made for the same rules and
/// [`Window::whole`].
pub fn simulate(rules: &RuleSet, histories: Histories, known: &Known, window: &Window) -> Vec<Forecast> {
    let histories = histories.in_order();
    let places = |wanted: &dyn Fn(usize, &Rule) -> bool| -> Vec<usize> {
        rules
            .rules
            .iter()
            .enumerate()
            .filter(|(place, rule)| wanted(*place, rule))
            .map(|(place, _)| place)
            .collect()
    };
    let deleting = places(&|_, rule| rule.mode == Mode::Delete);
    let mut told: BTreeMap<usize, Forecast> = BTreeMap::new();
    if !deleting.is_empty() {
        told.extend(Course::new(rules, &deleting, &histories, known, window).run());
    }
    for planning in places(&|_, rule| rule.mode == Mode::Plan) {
        let with = places(&|place, rule| place == planning || rule.mode == Mode::Delete);
        let course = Course::new(rules, &with, &histories, known, window).run();
        told.extend(course.into_iter().filter(|(place, _)| *place == planning));
    }
    told.into_values().collect()
}

/// The moment so long after another.
fn after(at: Timestamp, length: SignedDuration) -> Timestamp {
    at.saturating_add(length).unwrap_or(Timestamp::MAX)
}
