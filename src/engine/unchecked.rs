//! Which rules the portal has not confirmed: what the portal does not know of them, or could not be asked about.
//!
//! Invariant: a rule that is unchecked starts no run and none of its jobs is claimed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::rule::RuleSet;
use crate::store::control::UncheckedRules;

/// Which of the rules in force are unchecked, and why.
#[derive(Debug, Clone)]
pub struct Unchecked {
    /// The version of the rules that this is about.
    pub(super) of: Arc<RuleSet>,
    /// Their names; empty as a rule.
    pub rules: BTreeSet<String>,
    /// What the portal does not know of them, or why it could not be asked.
    pub why: Vec<String>,
    /// The portal was asked, and found mistakes.
    pub refused: bool,
}

impl Unchecked {
    /// Every rule of this version is checked.
    pub(super) fn none(of: Arc<RuleSet>) -> Unchecked {
        Unchecked { of, rules: BTreeSet::new(), why: Vec::new(), refused: false }
    }

    /// Which rules neither run nor delete, and why, if there are any.
    pub fn says(&self) -> Option<String> {
        let names: Vec<&str> = self.rules.iter().map(String::as_str).collect();
        let names = (!names.is_empty()).then(|| names.join(", "))?;
        let what = if self.refused { "refused by the portal" } else { "not checked against the portal yet" };
        Some(format!("{what}, so they neither run nor delete: {names}\n{}", self.why.join("\n")))
    }

    /// What stands in the database, for `status`.
    pub(super) fn record(&self) -> UncheckedRules {
        UncheckedRules { rules: self.rules.iter().cloned().collect(), why: self.why.clone() }
    }

    /// What follows for the next version, where the portal can't be asked: what changed is unchecked, and what was
    /// unchecked stays so.
    pub(super) fn after(&self, before: &RuleSet, rules: Arc<RuleSet>, why: String) -> Unchecked {
        let (old, new) = (&before.protections, &rules.protections);
        let same_protections = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old.same(new));
        let is_checked = |name: &str, text: &str| {
            same_protections
                && !self.rules.contains(name)
                && before.rule(name).is_some_and(|before| before.text() == text)
        };
        let changed: BTreeSet<String> = rules
            .rules
            .iter()
            .filter(|rule| !is_checked(rule.name.as_str(), &rule.text()))
            .map(|rule| rule.name.to_string())
            .collect();
        let why = if changed.is_empty() { Vec::new() } else { vec![why] };
        Unchecked { of: rules, rules: changed, why, refused: false }
    }
}
