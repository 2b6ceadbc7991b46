//! A walk through what rules and protections ask of fields, leaf by leaf, with the place where each is written. Pure.

use std::ops::Range;

use super::About;
use super::types::{Asked, Part};
use crate::core::compare::Test;
use crate::core::condition::Condition;
use crate::core::field::FieldName;
use crate::core::rule::{Place, RuleSet};
use crate::core::spots::{Spot, Spots};

/// One question of a rule or a protection about a field.
pub(super) struct Leaf<'r> {
    /// The name of the rule or protection.
    pub owner: &'r str,
    pub about: About,
    pub place: &'r Place,
    pub spots: &'r Spots,
    spot: Option<&'r Spot>,
    pub field: &'r FieldName,
    pub asked: Asked<'r>,
}

impl<'r> Leaf<'r> {
    /// Where that part of it is written, if the rules come from a file.
    pub(super) fn span(&self, part: Part) -> Option<Range<usize>> {
        let spot = self.spot?;
        Some(match part {
            Part::Field => spot.field.clone(),
            Part::Test => spot.test.clone(),
            Part::Value(index) => spot.values.get(index).unwrap_or(&spot.test).clone(),
        })
    }

    /// The codes that a text field is compared with, in the order written.
    pub(super) fn codes(&self) -> impl Iterator<Item = &'r str> + use<'r> {
        let values = match self.asked {
            Asked::Test(test) => test.texts(),
            Asked::Age => &[],
        };
        values.iter().map(crate::core::compare::Text::as_str)
    }

    /// The ids that a field is compared with, in the order written; 0 is how the portal writes nobody.
    pub(super) fn ids(&self) -> Vec<i64> {
        match self.asked {
            Asked::Test(Test::NumberIn { values, .. }) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the rules language keeps ids below 2^53"
                )]
                let ids = values.iter().map(|value| *value as i64);
                ids.collect()
            }
            Asked::Test(_) | Asked::Age => Vec::new(),
        }
    }
}

/// Every leaf of the rules, then of the protections.
pub(super) fn leaves(rules: &RuleSet) -> Vec<Leaf<'_>> {
    let mut found = Vec::new();
    for rule in &rules.rules {
        let mut all = Vec::new();
        flatten(&rule.selection, &mut all);
        let about = About::Rule(rule.name.to_string());
        found.extend(located(rule.name.as_str(), &about, &rule.place, &rule.spots, all));
    }
    for protection in &rules.protections {
        let mut all = Vec::new();
        protection.condition.iter().for_each(|condition| flatten(condition, &mut all));
        let (name, place, spots) = (protection.name.as_str(), &protection.place, &protection.spots);
        found.extend(located(name, &About::Protection, place, spots, all));
    }
    found
}

fn located<'r>(
    owner: &'r str,
    about: &About,
    place: &'r Place,
    spots: &'r Spots,
    all: Vec<(&'r FieldName, Asked<'r>)>,
) -> Vec<Leaf<'r>> {
    // Places that do not fit the condition would point at something else: better none.
    let fits = spots.leaves.len() == all.len();
    let spot = |index: usize| spots.leaves.get(index).filter(|_| fits);
    all.into_iter()
        .enumerate()
        .map(|(index, (field, asked))| Leaf {
            owner,
            about: about.clone(),
            place,
            spots,
            spot: spot(index),
            field,
            asked,
        })
        .collect()
}

fn flatten<'r>(condition: &'r Condition, found: &mut Vec<(&'r FieldName, Asked<'r>)>) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().for_each(|part| flatten(part, found)),
        Condition::Not(part) => flatten(part, found),
        Condition::Field { field, test } => found.push((field, Asked::Test(test))),
        Condition::OlderThan { field, .. } => found.push((field, Asked::Age)),
    }
}
