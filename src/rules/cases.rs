//! Unit tests of rules (`*.test.yaml`): a lead, a moment, a rule, and what it must say.
//!
//! Invariant: a case is judged by [`crate::core::decide`], as everywhere; a rule's mode plays no part in it, so a rule
//! can be tested before it may delete. Protections that live in the database (cancelled, failed, restored leads) are
//! unknown here.

use std::fmt;
use std::ops::Range;

use jiff::Timestamp;
use serde::Serialize;

use super::diagnostic::{Diagnostic, Source};
use super::grammar;
use crate::core::decide::{self, Verdict};
use crate::core::lead::Lead;
use crate::core::rule::{RuleName, RuleSet};

/// What a rule says of a lead, as [`Verdict`] without its particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It selects the lead and nothing protects it.
    Delete,
    /// It selects the lead, but something protects it.
    Protected,
    /// It does not select the lead.
    NoMatch,
    /// The lead's data do not say.
    Undecidable,
}

impl Decision {
    /// All of them, in the order of [`grammar::EXPECTATIONS`].
    pub const ALL: [Decision; 4] =
        [Decision::Delete, Decision::Protected, Decision::NoMatch, Decision::Undecidable];

    /// The word in files of tests and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Delete => "delete",
            Decision::Protected => "protected",
            Decision::NoMatch => "no_match",
            Decision::Undecidable => "undecidable",
        }
    }
}

impl From<Verdict<'_>> for Decision {
    fn from(verdict: Verdict<'_>) -> Decision {
        match verdict {
            Verdict::Delete => Decision::Delete,
            Verdict::Protected(_) => Decision::Protected,
            Verdict::NoMatch => Decision::NoMatch,
            Verdict::Undecidable => Decision::Undecidable,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One file of tests.
#[derive(Debug)]
pub struct Tests {
    /// The moment at which every case is judged.
    pub now: Timestamp,
    /// The rules file or directory that it names, as it is written: seen from the file's own folder.
    pub rules: Option<String>,
    /// The cases, at least one.
    pub cases: Vec<Case>,
    pub(super) source: Source,
}

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it is about; unique in its file.
    pub name: String,
    /// The lead.
    pub lead: Lead,
    /// The rule that judges it.
    pub rule: RuleName,
    /// What the rule must say.
    pub expect: Decision,
    /// What the reason must have in it.
    pub reason: Option<String>,
    /// The line of the file, from 1.
    pub line: u32,
    pub(super) rule_span: Range<usize>,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult<'t> {
    /// The case.
    pub case: &'t Case,
    /// What the rule said.
    pub decision: Decision,
    /// Why, in one clause, as histories have it.
    pub reason: String,
}

impl CaseResult<'_> {
    /// Whether the rule said what the case expects, for the reason that it expects.
    pub fn passed(&self) -> bool {
        let reason = self.case.reason.as_ref().is_none_or(|part| self.reason.contains(part.as_str()));
        self.decision == self.case.expect && reason
    }
}

impl Tests {
    /// The file as it was given.
    pub fn file(&self) -> &str {
        &self.source.file
    }
}

/// Runs every case of a file by these rules. A pure function: the same file and rules give the same results at any
/// time.
///
/// # Errors
/// Every case that names a rule which these rules do not have.
pub fn run_cases<'t>(tests: &'t Tests, rules: &RuleSet) -> Result<Vec<CaseResult<'t>>, Vec<Diagnostic>> {
    let mut results = Vec::new();
    let mut unknown = Vec::new();
    for case in &tests.cases {
        let Some(rule) = rules.rule(case.rule.as_str()) else {
            unknown.push(unknown_rule(tests, case, rules));
            continue;
        };
        let verdict = decide::decide(rule, &rules.protections, &case.lead, tests.now);
        let reason = decide::reason(rule, verdict, &case.lead, tests.now);
        results.push(CaseResult { case, decision: verdict.into(), reason });
    }
    if unknown.is_empty() { Ok(results) } else { Err(unknown) }
}

fn unknown_rule(tests: &Tests, case: &Case, rules: &RuleSet) -> Diagnostic {
    let names = || rules.rules.iter().map(|rule| rule.name.as_str());
    let message = format!("there is no rule `{}`", case.rule);
    let mut diagnostic = tests.source.error("unknown-rule", case.rule_span.clone(), message);
    diagnostic.help(match grammar::nearest(case.rule.as_str(), names()) {
        Some(near) => grammar::did_you_mean(near),
        None => format!("the rules are: {}", names().collect::<Vec<_>>().join(", ")),
    });
    diagnostic
}
