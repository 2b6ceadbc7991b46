//! The values of conditions, typed by the field that they are for; nothing is converted silently.

use std::collections::HashSet;
use std::ops::Range;

use jiff::civil::{self, DateTime};
use jiff::{Timestamp, ToSpan};

use super::reader::{Reader, describe};
use super::zone::Zone;
use crate::core::age::Age;
use crate::core::compare::{Order, Test, Text};
use crate::core::field::{FieldKind, FieldName};
use crate::core::lead::MAX_LEAD_ID;
use crate::rules::diagnostic::shown;
use crate::rules::grammar::Operator;
use crate::rules::scalar::Meaning;
use crate::rules::tree::{Node, Scalar, Value};

/// Whole numbers beyond this are not exact in the numbers that comparisons use.
const MAX_EXACT: i64 = 1 << 53;

/// One value, read as its field wants it.
#[derive(Debug, Clone, PartialEq)]
enum Read {
    Text(String),
    Number(f64),
    Flag(bool),
}

/// The test that an operator and its value ask for.
pub(super) fn test(
    reader: &mut Reader<'_>,
    field: &FieldName,
    operator: Operator,
    node: &Node,
    zone: &Zone,
) -> Option<Test> {
    match operator {
        Operator::Empty => reader.boolean(node).map(Test::Empty),
        Operator::Contains => text(reader, node).map(|text| Test::Contains(Text::new(text))),
        Operator::StartsWith => text(reader, node).map(|text| Test::StartsWith(Text::new(text))),
        Operator::Gt => ordered(reader, field, Order::Gt, node, zone),
        Operator::Gte => ordered(reader, field, Order::Gte, node, zone),
        Operator::Lt => ordered(reader, field, Order::Lt, node, zone),
        Operator::Lte => ordered(reader, field, Order::Lte, node, zone),
        Operator::Eq => one(reader, field, node, false),
        Operator::Ne => one(reader, field, node, true),
        Operator::In => several(reader, field, node, operator, false),
        Operator::NotIn => several(reader, field, node, operator, true),
    }
}

const NO_TEXT: &str = "to ask for no value write { empty: true }";

fn text<'t>(reader: &mut Reader<'_>, node: &'t Node) -> Option<&'t str> {
    match &node.value {
        Value::Scalar(_) => reader.text(node, NO_TEXT),
        Value::List(_) | Value::Map(_) => {
            reader.wrong(node, "text", "write one text here, in quotes if it is more than a word");
            None
        }
    }
}

fn one(reader: &mut Reader<'_>, field: &FieldName, node: &Node, negated: bool) -> Option<Test> {
    if matches!(node.value, Value::List(_)) {
        let word = if negated { "not_in" } else { "in" };
        reader.wrong(node, "one value", format!("for a list write {{ {word}: [ … ] }}"));
        return None;
    }
    let read = value(reader, field, node)?;
    Some(among(vec![read], negated))
}

fn several(
    reader: &mut Reader<'_>,
    field: &FieldName,
    node: &Node,
    operator: Operator,
    negated: bool,
) -> Option<Test> {
    let Value::List(items) = &node.value else {
        let help = match &node.value {
            Value::Scalar(scalar) => format!("put it in brackets: [{}]", shown(&scalar.text)),
            Value::List(_) | Value::Map(_) => "write the values in brackets: [ … ]".to_owned(),
        };
        reader.wrong(node, &format!("a list for `{}`", operator.word()), help);
        return None;
    };
    if items.is_empty() {
        reader.empty_list(node, field.as_str());
        return None;
    }
    let mut values: Vec<Read> = Vec::new();
    let mut seen = HashSet::new();
    let mut whole = true;
    for item in items {
        let Some(read) = value(reader, field, item) else {
            whole = false;
            continue;
        };
        let alike = match (&read, values.first()) {
            (Read::Flag(_), _) => {
                reader.wrong(item, "text or a number in a list", "write true or false alone, without a list");
                whole = false;
                continue;
            }
            (Read::Text(_), Some(Read::Number(_))) | (Read::Number(_), Some(Read::Text(_))) => false,
            (Read::Text(_) | Read::Number(_), _) => true,
        };
        if !alike {
            reader
                .error("mixed-list", &item.span, "this list mixes numbers with text")
                .help("put all of them in quotes, or none");
            whole = false;
            continue;
        }
        let canonical = match &read {
            Read::Text(text) => text.to_lowercase(),
            Read::Number(number) => number.to_string(),
            Read::Flag(flag) => flag.to_string(),
        };
        if seen.insert(canonical) {
            values.push(read);
        } else {
            duplicate(reader, item);
        }
    }
    (whole && !values.is_empty()).then(|| among(values, negated))
}

/// Warns of a value that a list has twice.
pub(super) fn duplicate(reader: &mut Reader<'_>, item: &Node) {
    reader
        .warning("duplicate-value", &item.span, format!("the list has {} twice", describe(item)))
        .help("remove one; a second one changes nothing, so another value may have been meant");
}

fn among(values: Vec<Read>, negated: bool) -> Test {
    let mut texts = Vec::new();
    let mut numbers = Vec::new();
    for value in values {
        match value {
            Read::Text(text) => texts.push(Text::new(text)),
            Read::Number(number) => numbers.push(number),
            Read::Flag(flag) => return Test::Flag(flag != negated),
        }
    }
    if texts.is_empty() {
        Test::NumberIn { values: numbers, negated }
    } else {
        Test::TextIn { values: texts, negated }
    }
}

fn value(reader: &mut Reader<'_>, field: &FieldName, node: &Node) -> Option<Read> {
    match field.kind() {
        FieldKind::Text | FieldKind::Stage => text(reader, node).map(|text| Read::Text(text.to_owned())),
        FieldKind::Number => number(reader, node, field).map(Read::Number),
        FieldKind::Id | FieldKind::Reference => id(reader, node, field).map(Read::Number),
        FieldKind::Flag => flag(reader, node).map(Read::Flag),
        FieldKind::Custom | FieldKind::Time => custom(reader, node),
    }
}

/// A user field's value is meant as it is written: quoted or plain words are text, digits a number.
fn custom(reader: &mut Reader<'_>, node: &Node) -> Option<Read> {
    let scalar = reader.scalar(node, "a value", NO_TEXT)?;
    match scalar.meaning() {
        Meaning::Whole(number) => exact(reader, number, &node.span).map(Read::Number),
        Meaning::Decimal(number) => Some(Read::Number(number)),
        Meaning::Bool(flag) => Some(Read::Flag(flag)),
        Meaning::Date => {
            let written = shown(&scalar.text);
            reader
                .error(
                    "wrong-type",
                    &node.span,
                    format!("a date such as {written} can only be compared in order"),
                )
                .help(format!(
                    "write {{ lt: {written} }} or {{ gte: {written} }}; for text put it in quotes"
                ));
            None
        }
        Meaning::Text | Meaning::Null | Meaning::YesNo(_) | Meaning::OddNumber => {
            text(reader, node).map(|text| Read::Text(text.to_owned()))
        }
    }
}

fn exact(reader: &mut Reader<'_>, number: i64, span: &Range<usize>) -> Option<f64> {
    if (-MAX_EXACT..=MAX_EXACT).contains(&number) {
        #[expect(clippy::cast_precision_loss, reason = "up to 2^53 every whole number is exact")]
        return Some(number as f64);
    }
    reader.error("out-of-range", span, format!("{number} is too large")).help("check the digits");
    None
}

fn number(reader: &mut Reader<'_>, node: &Node, field: &FieldName) -> Option<f64> {
    let help = format!("write plain digits without quotes, for example {field}: 1500 or {field}: 99.5");
    let scalar = reader.scalar(node, "a number", &help)?;
    match scalar.meaning() {
        Meaning::Whole(number) => exact(reader, number, &node.span),
        Meaning::Decimal(number) => Some(number),
        Meaning::Text
        | Meaning::Null
        | Meaning::Bool(_)
        | Meaning::YesNo(_)
        | Meaning::OddNumber
        | Meaning::Date => {
            reader.wrong(node, "a number", help);
            None
        }
    }
}

fn id(reader: &mut Reader<'_>, node: &Node, field: &FieldName) -> Option<f64> {
    let help = format!("write the number of the record without quotes, for example {field}: 15");
    let scalar = reader.scalar(node, "an id", &help)?;
    match scalar.meaning() {
        Meaning::Whole(number) if (0..=MAX_LEAD_ID).contains(&number) => exact(reader, number, &node.span),
        Meaning::Whole(number) => {
            reader
                .error("out-of-range", &node.span, format!("{number} is no id"))
                .help(format!("ids go from 1 to {MAX_LEAD_ID}"));
            None
        }
        Meaning::Text
        | Meaning::Null
        | Meaning::Bool(_)
        | Meaning::YesNo(_)
        | Meaning::Decimal(_)
        | Meaning::OddNumber
        | Meaning::Date => {
            reader.wrong(node, "an id", help);
            None
        }
    }
}

fn flag(reader: &mut Reader<'_>, node: &Node) -> Option<bool> {
    let scalar = reader.scalar(node, "Y or N", "write Y or N")?;
    match (scalar.text.as_str(), scalar.meaning()) {
        ("Y" | "y", _) => Some(true),
        ("N" | "n", _) => Some(false),
        (_, Meaning::Bool(flag)) => Some(flag),
        (_, Meaning::YesNo(flag)) => {
            let message =
                format!("`{}` means yes or no to some programs and text to others", shown(&scalar.text));
            reader
                .error("wrong-type", &node.span, message)
                .help(format!("write {}", if flag { "Y" } else { "N" }));
            None
        }
        (_, _) => {
            reader.wrong(node, "Y or N", "write Y or N");
            None
        }
    }
}

fn ordered(
    reader: &mut Reader<'_>,
    field: &FieldName,
    order: Order,
    node: &Node,
    zone: &Zone,
) -> Option<Test> {
    match field.kind() {
        FieldKind::Time => time(reader, field, order, node, zone),
        FieldKind::Id => id(reader, node, field).map(|than| Test::NumberOrder { order, than }),
        FieldKind::Number | FieldKind::Reference | FieldKind::Stage | FieldKind::Text | FieldKind::Flag => {
            number(reader, node, field).map(|than| Test::NumberOrder { order, than })
        }
        FieldKind::Custom => {
            let scalar =
                reader.scalar(node, "a number or a date", "write a number or a date such as 2024-01-31")?;
            match scalar.meaning() {
                Meaning::Whole(_) | Meaning::Decimal(_) | Meaning::OddNumber => {
                    number(reader, node, field).map(|than| Test::NumberOrder { order, than })
                }
                Meaning::Text | Meaning::Null | Meaning::Bool(_) | Meaning::YesNo(_) | Meaning::Date => {
                    time(reader, field, order, node, zone)
                }
            }
        }
    }
}

/// A moment on the right-hand side of an order. A date alone means the whole day in the rule's zone: "later than
/// 31 January" begins with 1 February, and "up to 31 January" ends with it.
fn time(reader: &mut Reader<'_>, field: &FieldName, order: Order, node: &Node, zone: &Zone) -> Option<Test> {
    let help = "write 2024-01-31, 2024-01-31T10:00:00 (in the rule's time zone) or 2024-01-31T10:00:00+03:00";
    let scalar = reader.scalar(node, "a date", help)?;
    let read = match date(scalar) {
        Some(day) => match order {
            Order::Gte | Order::Lt => start(day, zone).map(|than| (order, than)),
            Order::Gt => {
                day.checked_add(1.day()).ok().and_then(|next| start(next, zone)).map(|at| (Order::Gte, at))
            }
            Order::Lte => {
                day.checked_add(1.day()).ok().and_then(|next| start(next, zone)).map(|at| (Order::Lt, at))
            }
        },
        None => moment(scalar, zone).map(|than| (order, than)),
    };
    if let Some((order, than)) = read {
        return Some(Test::TimeOrder { order, than });
    }
    let written = shown(&scalar.text);
    let is_age = Age::parse(&scalar.text).is_ok();
    let help = if is_age {
        format!(
            "for an age write older_than: {{ field: {field}, age: {written} }} in the rule, beside `match`"
        )
    } else {
        help.to_owned()
    };
    reader.error("bad-date", &node.span, format!("`{written}` is not a date")).help(help);
    None
}

fn date(scalar: &Scalar) -> Option<civil::Date> {
    let plain = scalar.text.len() == 10 && scalar.text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if plain { scalar.text.parse().ok() } else { None }
}

fn start(day: civil::Date, zone: &Zone) -> Option<Timestamp> {
    zone.zone.to_timestamp(day.to_datetime(civil::Time::midnight())).ok()
}

fn moment(scalar: &Scalar, zone: &Zone) -> Option<Timestamp> {
    let text = scalar.text.as_str();
    // Longer notations (a zone in brackets, a week date) would be read in ways that the message does not promise.
    let plain = text.len() >= 16
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'T' | b' ' | b'.' | b'+' | b'Z'));
    if !plain {
        return None;
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let clock = text.get(10..).unwrap_or_default();
    if clock.contains(['+', '-', 'Z']) {
        return None;
    }
    text.parse::<DateTime>().ok().and_then(|wall| zone.zone.to_timestamp(wall).ok())
}
