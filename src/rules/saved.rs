//! A lead of the portal as tests of rules, without its personal data: what `explain --save-test` writes.
//!
//! Invariants: every case that is written passes; it has only the fields that its rule and the protections read; a
//! value that may be personal is replaced by one that answers every condition alike, or left out, and the notes say so.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::cases::{Decision, run_cases};
use super::{Input, parse_tests};
use crate::core::compare::Test;
use crate::core::condition::Condition;
use crate::core::decide::{decide, whole_seconds};
use crate::core::field::{FieldKind, FieldName};
use crate::core::lead::Lead;
use crate::core::rule::{Rule, RuleSet};
use crate::core::trace::may_be_shown;

/// The cases, and what could not be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedTests {
    /// `now` and `cases`, without `rules`.
    pub yaml: String,
    /// How many cases there are.
    pub cases: usize,
    /// What was replaced or left out, a line each.
    pub notes: Vec<String>,
}

/// One case a rule: what it says of the lead now.
pub fn save(rules: &RuleSet, lead: &Lead, now: Timestamp) -> SavedTests {
    let now = whole_seconds(now);
    let head = format!("now: {now}\ncases:\n");
    let mut saved = SavedTests { yaml: head.clone(), ..SavedTests::default() };
    for rule in &rules.rules {
        let mut notes = Vec::new();
        let case = case(rules, rule, lead, now, &mut notes);
        if passes(rules, format!("{head}{case}")) {
            saved.yaml.push_str(&case);
            saved.cases += 1;
        } else {
            notes.push("no case: the rule would say something else of what can be saved".to_owned());
        }
        saved.notes.extend(notes.into_iter().map(|note| format!("{}: {note}", rule.name)));
    }
    saved
}

fn passes(rules: &RuleSet, text: String) -> bool {
    let input = Input { file: "saved.test.yaml".to_owned(), bytes: text.into_bytes() };
    parse_tests(&input).is_ok_and(|tests| {
        run_cases(&tests, rules).is_ok_and(|results| results.iter().all(|result| result.passed()))
    })
}

fn case(rules: &RuleSet, rule: &Rule, lead: &Lead, now: Timestamp, notes: &mut Vec<String>) -> String {
    let expect = Decision::from(decide(rule, &rules.protections, lead, now));
    let mut leaves = Vec::new();
    collect(&rule.selection, &mut leaves);
    for protection in &rules.protections {
        protection.condition.iter().for_each(|condition| collect(condition, &mut leaves));
    }
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{words}");
    };
    line(format_args!("  - name: \"lead {} by {}\"", lead.id, rule.name));
    line(format_args!("    rule: {}", rule.name));
    line(format_args!("    expect: {expect}"));
    line(format_args!("    lead:"));
    line(format_args!("      id: {}", lead.id));
    let mut fields: Vec<&FieldName> = leaves.iter().flat_map(|leaf| leaf.fields()).collect();
    fields.sort();
    fields.dedup();
    // Without it the reader of tests would take it from the stage.
    let semantic =
        lead.get(SEMANTIC).map_or(Some("null".to_owned()), |value| scalar(FieldKind::Stage, value));
    if let Some(written) = semantic {
        line(format_args!("      {SEMANTIC}: {written}"));
    }
    for field in
        fields.into_iter().filter(|field| field.kind() != FieldKind::Id && field.as_str() != SEMANTIC)
    {
        let Some(value) = lead.get(field.as_str()) else { continue };
        let of_field: Vec<&Condition> =
            leaves.iter().copied().filter(|leaf| leaf.fields().contains(&field)).collect();
        match written(field, value, &of_field, lead, now) {
            Written::AsItIs(value) => line(format_args!("      {field}: {value}")),
            Written::Replaced(value) => {
                line(format_args!("      {field}: {value}"));
                notes.push(format!("{field} is a placeholder that answers alike"));
            }
            Written::LeftOut => notes.push(format!("{field} is left out: no placeholder answers alike")),
        }
    }
    text
}

const SEMANTIC: &str = "stageSemanticId";

enum Written {
    AsItIs(String),
    Replaced(String),
    LeftOut,
}

fn written(field: &FieldName, value: &Value, leaves: &[&Condition], lead: &Lead, now: Timestamp) -> Written {
    if impersonal(field, value)
        && let Some(text) = scalar(field.kind(), value)
    {
        return Written::AsItIs(text);
    }
    let alike = |candidate: &Value| {
        let fields = Map::from_iter([(field.as_str().to_owned(), candidate.clone())]);
        let other = Lead::new(lead.id, fields);
        leaves.iter().all(|leaf| leaf.judge(&other, now) == leaf.judge(lead, now))
    };
    candidates(leaves, now)
        .into_iter()
        .find(|candidate| alike(candidate))
        .and_then(|candidate| scalar(field.kind(), &candidate))
        .map_or(Written::LeftOut, Written::Replaced)
}

/// A file outlives an answer on a screen, so of user fields not even dates and short numbers in a text are kept.
fn impersonal(field: &FieldName, value: &Value) -> bool {
    fn code(value: &Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.iter().all(code),
            Value::Object(_) => false,
        }
    }
    may_be_shown(field, value) && (field.kind() != FieldKind::Custom || code(value))
}

/// Values that most conditions say no to; no letter is in all of them.
const NEUTRAL: [&str; 5] = ["text", "-", "0", "value", "№"];

/// Values that may answer these conditions as the lead's value does; all of them come from the rules.
fn candidates(leaves: &[&Condition], now: Timestamp) -> Vec<Value> {
    let mut texts: Vec<String> = NEUTRAL.map(str::to_owned).to_vec();
    let around = |at: Timestamp| {
        let second = SignedDuration::from_secs(1);
        [Some(at), at.checked_sub(second).ok(), at.checked_add(second).ok()]
            .map(|at| at.map(|at| at.to_string()))
    };
    let (mut starts, mut parts) = (vec![String::new()], vec![String::new()]);
    for leaf in leaves {
        match leaf {
            Condition::Field { test, .. } => match test {
                Test::TextIn { values, .. } => {
                    texts.extend(values.iter().map(|text| text.as_str().to_owned()))
                }
                Test::Contains(text) => parts.push(text.as_str().to_owned()),
                Test::StartsWith(text) => starts.push(text.as_str().to_owned()),
                Test::NumberIn { values, .. } => {
                    texts
                        .extend(values.iter().flat_map(|value| [*value, value + 1.0]).map(|n| n.to_string()));
                }
                Test::NumberOrder { than, .. } => {
                    texts.extend([*than, than - 1.0, than + 1.0].map(|number| number.to_string()));
                }
                Test::TimeOrder { than, .. } => texts.extend(around(*than).into_iter().flatten()),
                Test::Flag(_) => texts.extend(["Y".to_owned(), "N".to_owned()]),
                Test::Empty(_) => {}
            },
            Condition::OlderThan { age, .. } => texts.extend(around(age.before(now)).into_iter().flatten()),
            Condition::All(_) | Condition::Any(_) | Condition::Not(_) => {}
        }
    }
    // Several conditions may hold at once: each beginning with each part, and with all of them.
    let all = parts.join(" ");
    for start in &starts {
        texts.extend(parts.iter().chain([&all]).map(|part| format!("{start}{part}")));
    }
    texts.retain(|text| !text.is_empty());
    texts.into_iter().map(Value::from).chain([Value::Null]).collect()
}

fn collect<'c>(condition: &'c Condition, leaves: &mut Vec<&'c Condition>) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().for_each(|part| collect(part, leaves)),
        Condition::Not(part) => collect(part, leaves),
        Condition::Field { .. } | Condition::OlderThan { .. } => leaves.push(condition),
    }
}

/// A value as the reader of tests takes it; `None` where it can't be written. In quotes it is kept to the letter, and
/// every JSON string is a YAML string in quotes.
fn scalar(kind: FieldKind, value: &Value) -> Option<String> {
    let plain_number = matches!(kind, FieldKind::Number | FieldKind::Reference | FieldKind::Custom);
    let plain_flag = matches!(kind, FieldKind::Flag | FieldKind::Custom);
    match value {
        Value::Null => Some("null".to_owned()),
        Value::Bool(_) if plain_flag => Some(value.to_string()),
        Value::Number(number) if plain_number && number.is_i64() => Some(value.to_string()),
        Value::Number(_) => Some(format!("\"{value}\"")),
        Value::String(_) => Some(value.to_string()),
        Value::Array(items) if matches!(kind, FieldKind::Reference | FieldKind::Custom) => {
            let items: Option<Vec<String>> = items.iter().map(|item| scalar(kind, item)).collect();
            items.map(|items| format!("[{}]", items.join(", ")))
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
