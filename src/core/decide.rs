//! The one matcher: a rule, the protections, a lead and a time in; a verdict out. `plan`, the evaluator and the
//! worker's last check before a deletion all call [`decide`].
//!
//! A rule refuses what can't be judged, a protection accepts it; so adding a protection never adds a deletion, and a
//! lead with missing data is kept.

use jiff::Timestamp;

use super::condition::{Condition, Judged};
use super::field::FieldName;
use super::lead::{Lead, LeadId};
use super::rule::{Protection, Rule};
use super::truth::Truth;

/// What a rule says of a lead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict<'a> {
    /// It selects the lead and nothing protects it.
    Delete,
    /// It selects the lead, but this protects it.
    Protected(Guard<'a>),
    /// It does not select the lead.
    NoMatch,
    /// The lead's data do not say whether it selects the lead; the lead is kept.
    Undecidable,
}

/// What protects a lead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guard<'a> {
    /// It is converted, or its data do not say that it isn't.
    Converted,
    /// A protection of the rules files.
    Named(&'a Protection),
}

/// The stage meaning of a converted lead
/// (<https://apidocs.bitrix24.com/api-reference/crm/universal/object-fields.html>).
const CONVERTED: &str = "S";
const SEMANTIC: &str = "stageSemanticId";

/// Judges one lead by one rule at the moment `now`, which is rounded down to seconds as the portal's dates are.
///
/// ```
/// use b24_janitor::core::{decide::{Verdict, decide}, lead::Lead};
/// use b24_janitor::rules::{self, Input};
/// use serde_json::json;
///
/// let text = r#"
/// version: 1
/// timezone: Europe/Berlin
/// protect:
///   - { name: has-money, match: { opportunity: { gt: 0 } } }
/// rules:
///   - { name: old-junk, schedule: "@daily", match: { stageId: JUNK } }
/// "#;
/// let file = Input { file: "rules.yaml".into(), bytes: text.into() };
/// let rules = rules::parse(&[file]).unwrap().rules;
/// let rule = rules.rule("old-junk").unwrap();
/// let now = "2026-11-25T12:00:00Z".parse().unwrap();
/// let judge = |lead| decide(rule, &rules.protections, &Lead::from_item(lead).unwrap(), now);
///
/// let junk = json!({ "id": 7, "stageId": "JUNK", "stageSemanticId": "F", "opportunity": "0.00" });
/// assert_eq!(judge(junk), Verdict::Delete);
/// // What can't be judged is not selected, and is protected.
/// assert_eq!(judge(json!({ "id": 7 })), Verdict::Undecidable);
/// let unknown_money = json!({ "id": 7, "stageId": "JUNK", "stageSemanticId": "F" });
/// assert!(matches!(judge(unknown_money), Verdict::Protected(_)));
/// ```
pub fn decide<'a>(rule: &Rule, protections: &'a [Protection], lead: &Lead, now: Timestamp) -> Verdict<'a> {
    let now = whole_seconds(now);
    match rule.selection.judge(lead, now) {
        Truth::No => return Verdict::NoMatch,
        Truth::Undecidable => return Verdict::Undecidable,
        Truth::Yes => {}
    }
    if !rule.include_converted && !converted(lead).is_no() {
        return Verdict::Protected(Guard::Converted);
    }
    match protections.iter().find(|protection| protects(protection, lead, now)) {
        Some(protection) => Verdict::Protected(Guard::Named(protection)),
        None => Verdict::Delete,
    }
}

/// The same moment without its fraction of a second.
pub fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Whether a protection covers a lead; what can't be judged is covered.
pub fn protects(protection: &Protection, lead: &Lead, now: Timestamp) -> bool {
    let by_condition = |condition: &Condition| !condition.judge(lead, now).is_no();
    protection.ids.contains(&lead.id) || protection.condition.as_ref().is_some_and(by_condition)
}

/// Whether a lead is converted, as far as its data say.
pub fn converted(lead: &Lead) -> Truth {
    match lead.get(SEMANTIC) {
        Some(serde_json::Value::String(meaning)) if !meaning.is_empty() => {
            meaning.eq_ignore_ascii_case(CONVERTED).into()
        }
        Some(_) | None => Truth::Undecidable,
    }
}

/// Why the verdict is what it is, in one clause for a history: ids, stages, dates and numbers only.
pub fn reason(rule: &Rule, verdict: Verdict<'_>, lead: &Lead, now: Timestamp) -> String {
    let now = whole_seconds(now);
    match verdict {
        Verdict::Delete => clauses(&rule.selection.deciding(lead, now)),
        Verdict::NoMatch => format!("no longer matches: {}", clauses(&rule.selection.deciding(lead, now))),
        Verdict::Undecidable => format!("can't be judged: {}", clauses(&rule.selection.deciding(lead, now))),
        Verdict::Protected(Guard::Converted) => "protected: converted".to_owned(),
        Verdict::Protected(Guard::Named(protection)) => {
            let why = match &protection.condition {
                Some(condition) if !protection.ids.contains(&lead.id) => {
                    clauses(&condition.deciding(lead, now))
                }
                Some(_) | None => format!("id {}", LeadId::get(lead.id)),
            };
            format!("protected by {}: {why}", protection.name)
        }
    }
}

/// Leaves beyond these are left out of a reason: it stands in one line of a table.
const CLAUSES_SHOWN: usize = 4;

fn clauses(leaves: &[Judged]) -> String {
    let mut shown: Vec<String> = leaves.iter().take(CLAUSES_SHOWN).map(Judged::clause).collect();
    if leaves.len() > CLAUSES_SHOWN {
        shown.push(format!("and {} more", leaves.len() - CLAUSES_SHOWN));
    }
    shown.join("; ")
}

/// The fields that must be asked of the portal to judge a lead by a rule: those of the rule and of every protection,
/// and those that protect and report. Sorted, each once.
pub fn fields_needed(rule: &Rule, protections: &[Protection]) -> Vec<String> {
    const ALWAYS: [&str; 6] = ["id", "stageId", SEMANTIC, "createdTime", "sourceId", "assignedById"];
    let conditions = protections.iter().filter_map(|protection| protection.condition.as_ref());
    let mut fields: Vec<String> = std::iter::once(&rule.selection)
        .chain(conditions)
        .flat_map(Condition::fields)
        .map(FieldName::as_str)
        .chain(ALWAYS)
        .map(str::to_owned)
        .collect();
    fields.sort();
    fields.dedup();
    fields
}

/// What the last look at a lead, immediately before its deletion, makes of its job.
#[derive(Debug, Clone, PartialEq)]
pub enum LastLook<'a> {
    /// The rule as it stands now still selects it; here is the rule, and why.
    Delete(&'a Rule, String),
    /// It is kept, for this reason.
    Spare(String),
}

/// Judges the lead of a waiting job once more, by the rule as it stands now: a rule that is gone or in mode `plan`
/// deletes nothing.
pub fn last_look<'a>(
    rules: &'a super::rule::RuleSet,
    rule: &str,
    lead: &Lead,
    now: Timestamp,
) -> LastLook<'a> {
    match rule_of_job(rules, rule) {
        Err(reason) => LastLook::Spare(reason),
        Ok(rule) => match decide(rule, &rules.protections, lead, now) {
            Verdict::Delete => LastLook::Delete(rule, reason(rule, Verdict::Delete, lead, now)),
            other => LastLook::Spare(reason(rule, other, lead, now)),
        },
    }
}

/// The rule that a waiting job belongs to, if it may still delete; else why not.
pub fn rule_of_job<'a>(rules: &'a super::rule::RuleSet, rule: &str) -> Result<&'a Rule, String> {
    match rules.rule(rule) {
        None => Err(format!("rule {rule} is no longer in the rules")),
        Some(found) => match found.mode {
            super::rule::Mode::Plan => Err(format!("rule {rule} is in mode plan now")),
            super::rule::Mode::Delete => Ok(found),
        },
    }
}
