//! What one condition asks of one field's value, typed so that nonsense ("a date that contains `x`") can't be written.
//!
//! Every comparison answers in [`Truth`]: a value that is missing, null or of another shape is *undecidable*, never a
//! silent no. A field with several values (a JSON array) is the complete set of them: `in` asks for any.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;
use unicase::UniCase;

use super::lead::{read_flag, read_number, read_time};
use super::truth::Truth;

/// Text that is compared without regard to case (Unicode folding) and to nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    written: String,
    folded: String,
}

impl Text {
    /// Text as the rule has it.
    pub fn new(written: impl Into<String>) -> Text {
        let written = written.into();
        Text { folded: fold(&written), written }
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }
}

fn fold(text: &str) -> String {
    UniCase::unicode(text).to_folded_case()
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

/// The order that a comparison asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Greater than, or later than.
    Gt,
    /// Greater than or equal.
    Gte,
    /// Less than, or earlier than.
    Lt,
    /// Less than or equal.
    Lte,
}

impl Order {
    /// The operator as the rules language writes it.
    pub fn word(self) -> &'static str {
        match self {
            Order::Gt => "gt",
            Order::Gte => "gte",
            Order::Lt => "lt",
            Order::Lte => "lte",
        }
    }

    fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Order::Gt => ordering.is_gt(),
            Order::Gte => ordering.is_ge(),
            Order::Lt => ordering.is_lt(),
            Order::Lte => ordering.is_le(),
        }
    }
}

/// What a condition asks of a value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// `eq` and `in` (and, negated, `ne` and `not_in`) on text and stages.
    TextIn {
        /// The texts, at least one.
        values: Vec<Text>,
        /// Whether the value must be none of them.
        negated: bool,
    },
    /// `contains` on text.
    Contains(Text),
    /// `starts_with` on text.
    StartsWith(Text),
    /// `eq` and `in` (negated: `ne` and `not_in`) on numbers and ids.
    NumberIn {
        /// The numbers, at least one, all finite.
        values: Vec<f64>,
        /// Whether the value must be none of them.
        negated: bool,
    },
    /// `gt`, `gte`, `lt`, `lte` on numbers.
    NumberOrder {
        /// The order.
        order: Order,
        /// The finite number on the right-hand side.
        than: f64,
    },
    /// `gt`, `gte`, `lt`, `lte` on moments. A value in the future is undecidable.
    TimeOrder {
        /// The order.
        order: Order,
        /// The moment on the right-hand side.
        than: Timestamp,
    },
    /// `eq` on yes/no fields (`ne` is written as its opposite).
    Flag(bool),
    /// `empty: true`, or `false`: whether the value is null, `""` or `[]`.
    Empty(bool),
}

impl Test {
    /// The texts of `eq`, `in` and their negations, in the order written; none of any other test.
    pub fn texts(&self) -> &[Text] {
        match self {
            Test::TextIn { values, .. } => values,
            Test::Contains(_)
            | Test::StartsWith(_)
            | Test::NumberIn { .. }
            | Test::NumberOrder { .. }
            | Test::TimeOrder { .. }
            | Test::Flag(_)
            | Test::Empty(_) => &[],
        }
    }

    /// Judges a field's value; `None` is a key that the reply did not have, which is undecidable for every test.
    /// `now` is what "the future" is measured by.
    pub fn judge(&self, value: Option<&Value>, now: Timestamp) -> Truth {
        let Some(value) = value else { return Truth::Undecidable };
        match self {
            Test::Empty(wanted) => Truth::from(is_empty(value) == *wanted),
            Test::TextIn { values, negated } => {
                let found = over_values(value, |one| match read_text(one) {
                    Some(text) => {
                        let folded = fold(&text);
                        values.iter().any(|value| value.folded == folded).into()
                    }
                    None => Truth::Undecidable,
                });
                if *negated { !found } else { found }
            }
            Test::Contains(part) => over_values(value, |one| match read_text(one) {
                Some(text) => fold(&text).contains(&part.folded).into(),
                None => Truth::Undecidable,
            }),
            Test::StartsWith(part) => over_values(value, |one| match read_text(one) {
                Some(text) => fold(&text).starts_with(&part.folded).into(),
                None => Truth::Undecidable,
            }),
            Test::NumberIn { values, negated } => {
                let found = over_values(value, |one| match read_number(one).or_else(|| one_or_zero(one)) {
                    Some(number) => values.contains(&number).into(),
                    None => Truth::Undecidable,
                });
                if *negated { !found } else { found }
            }
            Test::NumberOrder { order, than } => match read_number(value) {
                Some(number) => {
                    number.partial_cmp(than).map_or(Truth::Undecidable, |o| order.holds(o).into())
                }
                None => Truth::Undecidable,
            },
            Test::TimeOrder { order, than } => match read_time(value) {
                Some(at) if at <= now => order.holds(at.cmp(than)).into(),
                Some(_) | None => Truth::Undecidable,
            },
            Test::Flag(wanted) => match read_flag(value) {
                Some(flag) => (flag == *wanted).into(),
                None => Truth::Undecidable,
            },
        }
    }
}

/// Null, the empty string and the empty list (which is also how PHP writes an empty map).
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Text as the portal writes codes and texts: a string, or a number where a code happens to be one.
fn read_text(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A user field of the type boolean may be compared with 1 and 0, however the portal writes it.
fn one_or_zero(value: &Value) -> Option<f64> {
    value.as_bool().map(|flag| f64::from(u8::from(flag)))
}

fn over_values(value: &Value, judge: impl Fn(&Value) -> Truth) -> Truth {
    match value {
        Value::Array(items) => Truth::any(items.iter().map(judge)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => judge(value),
    }
}

impl fmt::Display for Test {
    /// The test in the words of the rules language: `in [JUNK, 7]`, `lt 2024-01-01T00:00:00Z`, `empty`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |f: &mut fmt::Formatter<'_>, items: Vec<String>, negated: bool| match (items.as_slice(), negated)
            {
                ([one], false) => write!(f, "eq {one}"),
                ([one], true) => write!(f, "ne {one}"),
                (_, false) => write!(f, "in [{}]", items.join(", ")),
                (_, true) => write!(f, "not_in [{}]", items.join(", ")),
            };
        match self {
            Test::TextIn { values, negated } => {
                list(f, values.iter().map(|text| text.written.clone()).collect(), *negated)
            }
            Test::NumberIn { values, negated } => {
                list(f, values.iter().map(f64::to_string).collect(), *negated)
            }
            Test::Contains(text) => write!(f, "contains {}", text.written),
            Test::StartsWith(text) => write!(f, "starts_with {}", text.written),
            Test::NumberOrder { order, than } => write!(f, "{} {than}", order.word()),
            Test::TimeOrder { order, than } => write!(f, "{} {than}", order.word()),
            Test::Flag(wanted) => write!(f, "eq {}", if *wanted { "Y" } else { "N" }),
            Test::Empty(true) => f.write_str("empty"),
            Test::Empty(false) => f.write_str("not empty"),
        }
    }
}
