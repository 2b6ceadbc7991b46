//! Why a rule says what it says of a lead: every condition with what it wants, what the lead has, and the answer.
//!
//! Invariant: the verdict that follows from the lines of a trace is the one of [`decide`](super::decide::decide). Each
//! line is judged by [`Condition::judge`], so a trace can't disagree with the matcher about a condition.
//!
//! A trace is kept in the database while a command waits for it, so it holds no personal data: texts and user fields
//! are described, not shown.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compare::{Test, Text, is_empty};
use super::condition::Condition;
use super::decide::{converted, whole_seconds};
use super::field::{FieldKind, FieldName};
use super::lead::{Lead, read_number, read_time};
use super::rule::{Protection, Rule};
use super::truth::Truth;

/// One condition as it was judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The answer.
    pub truth: Truth,
    /// What was asked.
    #[serde(flatten)]
    pub asked: Asked,
}

/// What a line asks: the mirror of [`Condition`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// Every line must hold.
    All(Vec<Line>),
    /// At least one must hold.
    Any(Vec<Line>),
    /// The line must not hold.
    Not(Box<Line>),
    /// A value must pass a test.
    Value {
        /// The field.
        field: FieldName,
        /// The test, in the rules language.
        wanted: String,
        /// The lead's value, or what it is like where it may be personal; `None` where the reply had no such field.
        actual: Option<String>,
        /// What the portal calls the stages and users that the test or the lead names, by their codes and ids.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        names: BTreeMap<String, String>,
    },
}

/// Names as far as the portal told them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Of stages, by their codes.
    pub stages: BTreeMap<String, String>,
    /// Of users, by their ids.
    pub users: BTreeMap<i64, String>,
}

/// Fields that hold the ids of users.
pub const USER_FIELDS: [&str; 6] =
    ["assignedById", "createdBy", "updatedBy", "movedBy", "lastActivityBy", "observers"];

/// The users whom a condition or the lead names in a field, without the 0 that stands for nobody.
pub fn users(field: &FieldName, test: &Test, lead: &Lead) -> Vec<i64> {
    if !USER_FIELDS.contains(&field.as_str()) {
        return Vec::new();
    }
    let wanted: &[f64] = match test {
        Test::NumberIn { values, .. } => values,
        Test::TextIn { .. }
        | Test::Contains(_)
        | Test::StartsWith(_)
        | Test::NumberOrder { .. }
        | Test::TimeOrder { .. }
        | Test::Flag(_)
        | Test::Empty(_) => &[],
    };
    let held = match lead.get(field.as_str()) {
        Some(Value::Array(items)) => items.iter().filter_map(read_number).collect(),
        Some(one) => read_number(one).into_iter().collect(),
        None => Vec::new(),
    };
    #[expect(clippy::cast_possible_truncation, reason = "the ids of users are far below 2^53")]
    let ids = wanted.iter().copied().chain(held).map(|id| id as i64).filter(|id| *id != 0);
    ids.collect()
}

/// The same over a whole condition.
pub fn users_in(condition: &Condition, lead: &Lead) -> Vec<i64> {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().flat_map(|part| users_in(part, lead)).collect()
        }
        Condition::Not(part) => users_in(part, lead),
        Condition::Field { field, test } => users(field, test, lead),
        Condition::OlderThan { .. } => Vec::new(),
    }
}

impl Line {
    /// Judges a condition with everything in it. `now` has whole seconds.
    pub fn of(condition: &Condition, lead: &Lead, now: Timestamp, known: &Names) -> Line {
        let each = |parts: &[Condition]| parts.iter().map(|part| Line::of(part, lead, now, known)).collect();
        let asked = match condition {
            Condition::All(parts) => Asked::All(each(parts)),
            Condition::Any(parts) => Asked::Any(each(parts)),
            Condition::Not(part) => Asked::Not(Box::new(Line::of(part, lead, now, known))),
            Condition::Field { field, test } => {
                value(field, test.to_string(), lead, names(field, test, lead, known))
            }
            Condition::OlderThan { field, age } => {
                value(field, format!("older than {age}: until {}", age.before(now)), lead, BTreeMap::new())
            }
        };
        Line { truth: condition.judge(lead, now), asked }
    }
}

impl Line {
    /// The line and those in it, in the order written, for people. One condition is all and any of one: its own line
    /// says it.
    pub fn told(&self) -> Vec<Told<'_>> {
        let mut told = Vec::new();
        self.tell(0, &mut told);
        told
    }

    fn tell<'l>(&'l self, depth: usize, told: &mut Vec<Told<'l>>) {
        let mut group = |words, parts: &'l [Line]| {
            told.push(Told { depth, truth: self.truth, said: Said::Group(words) });
            parts.iter().for_each(|part| part.tell(depth + 1, told));
        };
        match &self.asked {
            Asked::All(parts) | Asked::Any(parts) if parts.len() == 1 => {
                parts.iter().for_each(|only| only.tell(depth, told));
            }
            Asked::All(parts) => group("all of these must hold", parts),
            Asked::Any(parts) => group("one of these must hold", parts),
            Asked::Not(part) => group("this must not hold", std::slice::from_ref(part)),
            Asked::Value { field, wanted, actual, names } => {
                let said = Said::Value { field, wanted, actual: actual.as_deref(), names };
                told.push(Told { depth, truth: self.truth, said });
            }
        }
    }
}

/// A line of a trace for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told<'l> {
    /// How many groups it stands in.
    pub depth: usize,
    /// The answer.
    pub truth: Truth,
    /// What it says.
    pub said: Said<'l>,
}

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said<'l> {
    /// How the lines in it join.
    Group(&'static str),
    /// What a value must be, and what it is.
    Value {
        /// The field.
        field: &'l FieldName,
        /// The test.
        wanted: &'l str,
        /// The value.
        actual: Option<&'l str>,
        /// The names of codes and ids in both.
        names: &'l BTreeMap<String, String>,
    },
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Group(words) => f.write_str(words),
            Said::Value { field, wanted, actual, names } => {
                write!(f, "{field} {wanted}; ")?;
                match actual {
                    Some(actual) => write!(f, "is {actual}")?,
                    None => f.write_str("is missing")?,
                }
                if names.is_empty() {
                    return Ok(());
                }
                let names: Vec<String> = names.iter().map(|(code, name)| format!("{code}: {name}")).collect();
                write!(f, " ({})", names.join(", "))
            }
        }
    }
}

fn value(field: &FieldName, wanted: String, lead: &Lead, names: BTreeMap<String, String>) -> Asked {
    let actual = lead.get(field.as_str()).map(|value| shown(field, value));
    Asked::Value { field: field.clone(), wanted, actual, names }
}

/// The names of the stages or users that stand in a line.
fn names(field: &FieldName, test: &Test, lead: &Lead, known: &Names) -> BTreeMap<String, String> {
    if field.as_str() != STAGE {
        let named = |id: i64| Some((id.to_string(), known.users.get(&id)?.clone()));
        return users(field, test, lead).into_iter().filter_map(named).collect();
    }
    let codes = test.texts().iter().map(Text::as_str).chain(lead.get(STAGE).and_then(Value::as_str));
    codes
        .filter_map(|code| known.stages.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)))
        .map(|(code, name)| (code.clone(), name.clone()))
        .collect()
}

const STAGE: &str = "stageId";

/// Text fields whose values are codes of the portal or of a campaign, not about a person.
const CODES: [&str; 8] = [
    "sourceId",
    "currencyId",
    "originatorId",
    "utmSource",
    "utmMedium",
    "utmCampaign",
    "utmContent",
    "utmTerm",
];

/// The longest value in a line, in characters; more is cut.
const SHOWN_CHARACTERS: usize = 60;

/// A value as a trace shows it.
fn shown(field: &FieldName, value: &Value) -> String {
    let text = match value {
        Value::Null => return "null".to_owned(),
        Value::String(text) if text.is_empty() => return "\"\"".to_owned(),
        Value::Array(items) if items.is_empty() => return "[]".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let length = text.chars().count();
    match (may_be_shown(field, value), value) {
        (true, _) if length > SHOWN_CHARACTERS => {
            text.chars().take(SHOWN_CHARACTERS).chain(std::iter::once('…')).collect()
        }
        (true, _) => text,
        (false, Value::Array(items)) => format!("a list of {}, not shown", items.len()),
        (false, Value::Object(_)) => "an object, not shown".to_owned(),
        (false, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            format!("a value of {length} characters, not shown")
        }
    }
}

/// Whether a value is surely no personal data: ids, stages, dates, numbers and codes.
pub fn may_be_shown(field: &FieldName, value: &Value) -> bool {
    match field.kind() {
        FieldKind::Text => CODES.contains(&field.as_str()) || is_empty(value),
        FieldKind::Custom => harmless(value) || is_empty(value),
        FieldKind::Time => field.as_str() != BIRTHDATE || is_empty(value),
        FieldKind::Id | FieldKind::Stage | FieldKind::Number | FieldKind::Flag | FieldKind::Reference => true,
    }
}

const BIRTHDATE: &str = "birthdate";

/// Numbers, flags, dates and lists of them. Long digits in a text may be a phone number.
fn harmless(value: &Value) -> bool {
    const FEW_DIGITS: usize = 6;
    match value {
        Value::Number(_) | Value::Bool(_) => true,
        Value::String(text) => {
            read_time(value).is_some() || (text.len() <= FEW_DIGITS && read_number(value).is_some())
        }
        Value::Array(items) => items.iter().all(harmless),
        Value::Null | Value::Object(_) => false,
    }
}

/// A protection of the rules files, against a lead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProtectionTrace {
    /// Its name.
    pub name: String,
    /// Whether it names the lead by its id.
    pub by_id: bool,
    /// Its condition as it was judged.
    pub condition: Option<Line>,
    /// Whether it covers the lead; what can't be judged is covered.
    pub protects: bool,
}

/// One rule against a lead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleTrace {
    /// Whether the rule selects the lead.
    pub selection: Line,
    /// Whether the lead is converted.
    pub converted: Truth,
    /// Whether the rule may select converted leads.
    pub include_converted: bool,
    /// What follows from the lines.
    pub verdict: Ruling,
    /// What protects the lead from this rule, where that is the verdict: `converted`, or a protection's name.
    pub protected_by: Option<String>,
}

/// A verdict of [`decide`](super::decide::decide) without its particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// The rule selects the lead and nothing in the rules files protects it.
    Delete,
    /// It selects the lead, but something protects it.
    Protected,
    /// It does not select the lead.
    NoMatch,
    /// The lead's data do not say.
    Undecidable,
}

impl Ruling {
    /// What it means for the lead, after the rule's name. `protected_by` is what protects it from the rule, `left_alone`
    /// whether the program's own protection does.
    pub fn words(self, protected_by: &str, left_alone: bool) -> String {
        match self {
            Ruling::Delete if left_alone => "selects it, but it is left alone for now".to_owned(),
            Ruling::Delete => "selects the lead".to_owned(),
            Ruling::Protected => format!("selects it, protected: {protected_by}"),
            Ruling::NoMatch => "doesn't select it".to_owned(),
            Ruling::Undecidable => "can't be judged, so it is kept".to_owned(),
        }
    }
}

/// Judges the protections.
pub fn protections(
    protections: &[Protection],
    lead: &Lead,
    now: Timestamp,
    known: &Names,
) -> Vec<ProtectionTrace> {
    let now = whole_seconds(now);
    protections
        .iter()
        .map(|protection| {
            let by_id = protection.ids.contains(&lead.id);
            let condition =
                protection.condition.as_ref().map(|condition| Line::of(condition, lead, now, known));
            let covers = condition.as_ref().is_some_and(|line| !line.truth.is_no());
            ProtectionTrace { name: protection.name.to_string(), by_id, condition, protects: by_id || covers }
        })
        .collect()
}

/// Judges one rule; `guards` is what [`protections`] said of the same lead at the same moment.
pub fn rule(
    rule: &Rule,
    guards: &[ProtectionTrace],
    lead: &Lead,
    now: Timestamp,
    known: &Names,
) -> RuleTrace {
    let selection = Line::of(&rule.selection, lead, whole_seconds(now), known);
    let converted = converted(lead);
    let guard = if !rule.include_converted && !converted.is_no() {
        Some("converted".to_owned())
    } else {
        guards.iter().find(|guard| guard.protects).map(|guard| guard.name.clone())
    };
    let (verdict, protected_by) = match selection.truth {
        Truth::No => (Ruling::NoMatch, None),
        Truth::Undecidable => (Ruling::Undecidable, None),
        Truth::Yes if guard.is_some() => (Ruling::Protected, guard),
        Truth::Yes => (Ruling::Delete, None),
    };
    RuleTrace { selection, converted, include_converted: rule.include_converted, verdict, protected_by }
}
