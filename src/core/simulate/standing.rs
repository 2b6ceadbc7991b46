//! How a lead stands with each rule over time, while nobody changes it. Only its age passes then, so its standing changes
//! at a few instants, which follow from its own dates; between them one judgement holds.
//!
//! Invariant: at every whole second of the time looked at, the standing that was kept is what
//! [`decide`](crate::core::decide::decide) says of the lead at that second.
//! Limit on memory: the lead's id (4 bytes), and 16 bytes for each rule and change. A lead that no rule ever selects,
//! keeps or can't judge costs nothing. So a million leads, all of them selected sometime by one rule, are 20 MB a rule.

use jiff::{SignedDuration, Timestamp};

use crate::core::compare::Test;
use crate::core::condition::Condition;
use crate::core::decide::{Verdict, decide, whole_seconds};
use crate::core::filter::server_filter;
use crate::core::lead::{Lead, LeadId, read_time};
use crate::core::rule::{Protection, Rule, RuleSet};

/// What a run makes of a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The rule does not select it, or the portal's list does not have it.
    Away,
    /// It is selected, and nothing in the rules protects it.
    Selected,
    /// It is selected, and a protection of the rules covers it.
    Protected,
    /// It can't be judged; it is kept.
    Undecidable,
}

/// How a lead stands with a rule at `now`.
pub fn standing(rule: &Rule, protections: &[Protection], lead: &Lead, now: Timestamp) -> Standing {
    match decide(rule, protections, lead, now) {
        Verdict::Delete => Standing::Selected,
        Verdict::Protected(_) => Standing::Protected,
        Verdict::NoMatch => Standing::Away,
        Verdict::Undecidable if server_filter(rule, now).would_return(lead) => Standing::Undecidable,
        Verdict::Undecidable => Standing::Away,
    }
}

/// From `at` on the lead stands so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// Unix seconds.
    pub(super) at: i64,
    /// The lead's place in [`Histories::leads`].
    pub(super) lead: u32,
    pub(super) standing: Standing,
}

/// The standings of all leads with all rules between two moments.
#[derive(Debug)]
pub struct Histories {
    from: Timestamp,
    until: Timestamp,
    readable: u64,
    leads: Vec<LeadId>,
    by_rule: Vec<Vec<Change>>,
}

impl Histories {
    /// Of no lead yet, for the rules of this set in their order; from `from` to `until`, in whole seconds.
    pub fn new(rules: &RuleSet, from: Timestamp, until: Timestamp) -> Histories {
        let by_rule = rules.rules.iter().map(|_| Vec::new()).collect();
        Histories { from: whole_seconds(from), until, readable: 0, leads: Vec::new(), by_rule }
    }

    /// Judges one more lead by the rules that this was made for. Each lead once, by ascending id.
    pub fn add(&mut self, rules: &RuleSet, lead: &Lead) {
        self.readable += 1;
        let place = u32::try_from(self.leads.len()).unwrap_or(u32::MAX);
        let mut stays = false;
        for (rule, changes) in rules.rules.iter().zip(&mut self.by_rule) {
            let mut before = Standing::Away;
            for at in instants(rule, &rules.protections, lead, self.from, self.until) {
                let standing = standing(rule, &rules.protections, lead, at);
                if standing != before {
                    changes.push(Change { at: at.as_second(), lead: place, standing });
                    before = standing;
                    stays = true;
                }
            }
        }
        if stays {
            self.leads.push(lead.id);
        }
    }

    /// How many leads were read.
    pub fn readable(&self) -> u64 {
        self.readable
    }

    /// The leads that a rule may have to do with, ascending.
    pub(super) fn leads(&self) -> &[LeadId] {
        &self.leads
    }

    /// Puts the changes in the order of time, then of leads.
    pub(super) fn in_order(mut self) -> Histories {
        for changes in &mut self.by_rule {
            changes.sort_unstable_by_key(|change| (change.at, change.lead));
        }
        self
    }

    /// The changes with the rule of this place.
    pub(super) fn of_rule(&self, rule: usize) -> &[Change] {
        self.by_rule.get(rule).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The whole seconds at which a lead's standing may change, `from` first, ascending.
fn instants(
    rule: &Rule,
    protections: &[Protection],
    lead: &Lead,
    from: Timestamp,
    until: Timestamp,
) -> Vec<Timestamp> {
    let mut found = vec![from];
    let conditions = protections.iter().filter_map(|protection| protection.condition.as_ref());
    for condition in std::iter::once(&rule.selection).chain(conditions) {
        collect(condition, lead, &mut found);
    }
    found.retain(|at| *at >= from && *at <= until);
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(condition: &Condition, lead: &Lead, found: &mut Vec<Timestamp>) {
    let moment = |field: &str| lead.get(field).and_then(read_time);
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().for_each(|part| collect(part, lead, found));
        }
        Condition::Not(part) => collect(part, lead, found),
        // Before its moment a date lies in the future and can't be judged.
        Condition::OlderThan { field, age } => found.extend(
            moment(field.as_str()).into_iter().flat_map(|at| [next_second(at), next_second(age.after(at))]),
        ),
        Condition::Field { field, test: Test::TimeOrder { .. } } => {
            found.extend(moment(field.as_str()).map(next_second));
        }
        Condition::Field { .. } => {}
    }
}

/// The first whole second that is not before `at`: `now` is judged in whole seconds.
fn next_second(at: Timestamp) -> Timestamp {
    let whole = whole_seconds(at);
    if whole >= at {
        whole
    } else {
        whole.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)
    }
}
