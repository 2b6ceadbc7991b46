//! The expression of a rule or a protection, and its three-valued evaluation over a lead.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::age::Age;
use super::compare::Test;
use super::field::FieldName;
use super::lead::{Lead, read_time};
use super::truth::Truth;

/// A condition on a lead.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Every part must hold.
    All(Vec<Condition>),
    /// At least one part must hold.
    Any(Vec<Condition>),
    /// The part must not hold.
    Not(Box<Condition>),
    /// A field's value must pass a test.
    Field {
        /// The field.
        field: FieldName,
        /// The test.
        test: Test,
    },
    /// A moment must lie at least so long before now (`older_than`).
    OlderThan {
        /// The field that holds the moment.
        field: FieldName,
        /// How long ago, at least.
        age: Age,
    },
}

/// One leaf of a condition as it was judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// The field.
    pub field: FieldName,
    /// What was asked, in the rules language.
    pub wanted: String,
    /// The lead's value, shortened; `None` where the reply had no such field.
    pub actual: Option<String>,
    /// The answer.
    pub truth: Truth,
}

impl Condition {
    /// Judges a lead at the moment `now`.
    pub fn judge(&self, lead: &Lead, now: Timestamp) -> Truth {
        match self {
            Condition::All(parts) => Truth::all(parts.iter().map(|part| part.judge(lead, now))),
            Condition::Any(parts) => Truth::any(parts.iter().map(|part| part.judge(lead, now))),
            Condition::Not(part) => !part.judge(lead, now),
            Condition::Field { field, test } => test.judge(lead.get(field.as_str()), now),
            Condition::OlderThan { field, age } => older_than(lead, field, *age, now),
        }
    }

    /// The leaves that made the answer what it is, in the order they are written: for a `No` those whose change could
    /// turn it, for a `Yes` those that hold, for `Undecidable` those that could not be judged.
    pub fn deciding(&self, lead: &Lead, now: Timestamp) -> Vec<Judged> {
        let mut leaves = Vec::new();
        self.collect(lead, now, &mut leaves);
        leaves
    }

    fn collect(&self, lead: &Lead, now: Timestamp, leaves: &mut Vec<Judged>) {
        let truth = self.judge(lead, now);
        match self {
            Condition::All(parts) | Condition::Any(parts) => {
                for part in parts.iter().filter(|part| part.judge(lead, now) == truth) {
                    part.collect(lead, now, leaves);
                }
            }
            Condition::Not(part) => part.collect(lead, now, leaves),
            Condition::Field { field, test } => leaves.push(judged(lead, field, test.to_string(), truth)),
            Condition::OlderThan { field, age } => {
                leaves.push(judged(lead, field, format!("older than {age}"), truth));
            }
        }
    }

    /// Every field that the condition reads, in the order written, repeats included.
    pub fn fields(&self) -> Vec<&FieldName> {
        match self {
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().flat_map(Condition::fields).collect()
            }
            Condition::Not(part) => part.fields(),
            Condition::Field { field, .. } | Condition::OlderThan { field, .. } => vec![field],
        }
    }
}

fn older_than(lead: &Lead, field: &FieldName, age: Age, now: Timestamp) -> Truth {
    match lead.get(field.as_str()).and_then(read_time) {
        Some(at) if at <= now => (at <= age.before(now)).into(),
        Some(_) | None => Truth::Undecidable,
    }
}

/// Longer values are cut in a trace: a reason is read in a table or a log line.
const SHOWN_CHARACTERS: usize = 60;

fn judged(lead: &Lead, field: &FieldName, wanted: String, truth: Truth) -> Judged {
    let actual = lead.get(field.as_str()).map(|value| {
        let written = match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if written.chars().count() > SHOWN_CHARACTERS {
            written.chars().take(SHOWN_CHARACTERS).chain(std::iter::once('…')).collect()
        } else {
            written
        }
    });
    Judged { field: field.clone(), wanted, actual, truth }
}

impl Judged {
    /// The leaf as a clause fit for a history or a log: values of text fields are left out, since they can be
    /// personal data, which lives in the lead's copy only.
    pub fn clause(&self) -> String {
        let kind = self.field.kind();
        let actual = match &self.actual {
            None => "is missing".to_owned(),
            Some(value) if value.is_empty() || value == "null" || value == "[]" => "is empty".to_owned(),
            Some(value) if kind.may_be_shown() => format!("is {value}"),
            Some(_) => "has another value".to_owned(),
        };
        match (self.truth, kind.may_be_shown()) {
            (Truth::Yes, false) => format!("{} passes {}", self.field, self.wanted),
            (Truth::Yes, true) => format!("{} {actual}", self.field),
            (Truth::No, _) => format!("{} {actual}, wanted: {}", self.field, self.wanted),
            (Truth::Undecidable, _) => {
                format!("{} {actual}, can't be judged by: {}", self.field, self.wanted)
            }
        }
    }
}

impl fmt::Display for Condition {
    /// The condition on one line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, parts: &[Condition], word: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(f, " {word} ")?;
                }
                match part {
                    Condition::All(inner) | Condition::Any(inner) if inner.len() > 1 => {
                        write!(f, "({part})")?
                    }
                    Condition::All(_)
                    | Condition::Any(_)
                    | Condition::Not(_)
                    | Condition::Field { .. }
                    | Condition::OlderThan { .. } => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Condition::All(parts) => join(f, parts, "and"),
            Condition::Any(parts) => join(f, parts, "or"),
            Condition::Not(part) => write!(f, "not ({part})"),
            Condition::Field { field, test } => write!(f, "{field} {test}"),
            Condition::OlderThan { field, age } => write!(f, "{field} older than {age}"),
        }
    }
}
