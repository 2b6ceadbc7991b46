//! The filter of `crm.item.list`: strict about fields and the types of values.
//!
//! Bitrix24 docs: `universal/crm-item-list.md`. Unlike `crm.lead.list` it refuses what it doesn't know, and nests
//! groups under numeric keys with `logic`. Limit: groups nest as deep as the decoded JSON, 128 levels.

use jiff::tz::Offset;

use super::fields::{self, FieldId, Kind};
use super::php::{Arr, Key, Val};
use super::predicate::{self, Op, Operand, Pattern, Predicate};
use super::time;

/// The allowed prefixes, longest first.
const PREFIXES: &[&str] =
    &["!><", "!=%", "!%=", "><", "!=", "!%", "!@", ">=", "<=", "=%", "%=", "=", "%", ">", "<", "@", "!"];

/// A refused filter: the text of `INVALID_ARG_VALUE`.
pub(super) type Refusal = String;

/// The condition that the server would build from `filter`, or its refusal.
pub(super) fn build(filter: &Arr, now: i64, offset: Offset) -> Result<Predicate, Refusal> {
    let either = filter
        .get("logic")
        .or_else(|| filter.get("LOGIC"))
        .is_some_and(|logic| logic.to_text().eq_ignore_ascii_case("or"));
    let mut parts = Vec::new();
    for (key, value) in filter.iter() {
        match (key, value) {
            (Key::Int(_), Val::Arr(group)) => parts.push(build(group, now, offset)?),
            (Key::Int(number), _) => return Err(unknown(&number.to_string())),
            (Key::Str(name), _) if name.eq_ignore_ascii_case("logic") => {}
            (Key::Str(name), value) => parts.push(condition(name, value, now, offset)?),
        }
    }
    Ok(if either && !parts.is_empty() { Predicate::Any(parts) } else { Predicate::All(parts) })
}

fn unknown(name: &str) -> Refusal {
    format!("Invalid filter: field '{name}' is not allowed in filter")
}

fn condition(key: &str, value: &Val, now: i64, offset: Offset) -> Result<Predicate, Refusal> {
    let prefix = PREFIXES.iter().find(|prefix| key.starts_with(**prefix)).copied().unwrap_or("");
    let name = key.strip_prefix(prefix).unwrap_or(key);
    let (id, field) = fields::by_item_or_upper(name).ok_or_else(|| unknown(&fields::upper_snake(name)))?;
    let operand = |value: &Val| operand(field.kind, value, now, offset);
    if let Val::Arr(array) = value {
        let allowed = matches!(prefix, "" | "=" | "!=" | "@" | "!@");
        if !allowed || array.values().any(|value| value.as_arr().is_some()) {
            return Err(format!("Invalid filter: field '{}' has invalid value", field.upper()));
        }
        let list: Vec<Operand> = array.values().filter_map(operand).collect();
        return Ok(if prefix.starts_with('!') {
            Predicate::NotIn(id, list)
        } else {
            Predicate::In(id, list)
        });
    }
    let negative = prefix.starts_with('!');
    let no_value = matches!(value, Val::Null | Val::Bool(false)) || value.as_str() == Some("");
    if no_value && matches!(prefix, "" | "=" | "@" | "!" | "!=" | "!@") {
        return Ok(if negative { Predicate::NotNull(id) } else { Predicate::IsNull(id) });
    }
    if prefix.contains('%') && !matches!(field.kind, Kind::Int | Kind::IntZero | Kind::Time) {
        return Ok(like(id, prefix, value));
    }
    let op = match prefix {
        ">" => Op::Gt,
        ">=" => Op::Ge,
        "<" => Op::Lt,
        "<=" => Op::Le,
        // A range needs an array, which the validator refuses.
        "><" | "!><" => return Ok(Predicate::Const(false)),
        _ if negative => Op::Ne,
        _ => Op::Eq,
    };
    Ok(match (op, operand(value)) {
        // An unparsable date is NULL.
        (Op::Eq, None) => Predicate::IsNull(id),
        (Op::Ne, None) => Predicate::NotNull(id),
        (Op::Lt | Op::Le | Op::Gt | Op::Ge, None) => Predicate::Const(false),
        (Op::Ne, Some(operand)) => {
            Predicate::Any(vec![Predicate::IsNull(id), Predicate::Compare(id, op, operand)])
        }
        (Op::Eq | Op::Lt | Op::Le | Op::Gt | Op::Ge, Some(operand)) => Predicate::Compare(id, op, operand),
    })
}

fn like(id: FieldId, prefix: &str, value: &Val) -> Predicate {
    let lower = predicate::fold(&value.to_text());
    let pattern =
        if prefix.contains('=') { Pattern::Raw(lower.chars().collect()) } else { Pattern::Contains(lower) };
    let negated = prefix.starts_with('!');
    let like = Predicate::Like { field: id, pattern, negated };
    if negated { Predicate::Any(vec![Predicate::IsNull(id), like]) } else { like }
}

fn operand(kind: Kind, value: &Val, now: i64, offset: Offset) -> Option<Operand> {
    Some(match kind {
        Kind::Int | Kind::IntZero | Kind::CustomEnum => Operand::Int(value.to_int()),
        Kind::Double => Operand::Num(value.to_float()),
        Kind::Text | Kind::Status(_) | Kind::Texts => Operand::Text(predicate::fold(&value.to_text())),
        Kind::Char => Operand::Flag(matches!(value.to_text().as_str(), "Y" | "y")),
        // Takes 1 and 0; `Y` is cast to the integer 0.
        Kind::CustomFlag => Operand::Flag(value.to_int() != 0),
        Kind::Time => Operand::Time(time::parse(&value.to_text(), now, offset)?),
    })
}
