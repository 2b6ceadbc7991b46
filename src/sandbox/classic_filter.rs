//! The filter of `crm.lead.list`, with its traps.
//!
//! Bitrix24 docs: `crm-lead-list.md`; what the server really does differs, and is reproduced: an unknown field, a
//! forbidden prefix or an empty array drops the condition (all leads then match), an unparsable date means `IS NULL`,
//! negations let NULL rows through, and `NOT LIKE` on a built-in text is not negated.

use jiff::tz::Offset;

use super::fields::{self, FieldId, Kind};
use super::php::{Arr, Val};
use super::predicate::{self, Op, Operand, Pattern, Predicate};
use super::time;

/// The documented prefixes, longest first, so that `!=%` is not read as `!`.
const PREFIXES: &[&str] =
    &["!=%", "!%=", "!@", "!%", "!=", ">=", "<=", "=%", "%=", "=", "!", ">", "<", "@", "%"];

/// The condition that the server would build from `filter`.
pub(super) fn build(filter: &Arr, now: i64, offset: Offset) -> Predicate {
    Predicate::All(
        filter.iter().filter_map(|(key, value)| condition(&key.to_string(), value, now, offset)).collect(),
    )
}

fn condition(key: &str, value: &Val, now: i64, offset: Offset) -> Option<Predicate> {
    let prefix = PREFIXES.iter().find(|prefix| key.starts_with(**prefix)).copied().unwrap_or("");
    let name = key.strip_prefix(prefix)?;
    let negative = prefix.starts_with('!');
    let scalars: Vec<&Val> = match value {
        // Elements that are arrays themselves can't be conditions.
        Val::Arr(array) => array.values().filter(|value| value.as_arr().is_none()).collect(),
        Val::Null | Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Str(_) => vec![value],
    };
    if scalars.is_empty() {
        return None;
    }
    if let "PHONE" | "EMAIL" = name {
        let phone = name == "PHONE";
        return Some(Predicate::Any(
            scalars
                .iter()
                .map(|value| Predicate::Contact(phone, predicate::fold(&value.to_text())))
                .collect(),
        ));
    }
    let (id, field) = fields::by_classic(name)?;
    let parts: Vec<Predicate> = scalars
        .into_iter()
        .map(|value| one(id, field.kind, field.custom(), prefix, value, now, offset))
        .collect();
    Some(if negative { Predicate::All(parts) } else { Predicate::Any(parts) })
}

fn one(
    id: FieldId,
    kind: Kind,
    custom: bool,
    prefix: &str,
    value: &Val,
    now: i64,
    offset: Offset,
) -> Predicate {
    let negative = prefix.starts_with('!');
    let text = value.to_text();
    let operand = match kind {
        Kind::Time => match time::parse(&text, now, offset) {
            Some(at) => Operand::Time(at),
            None => return Predicate::IsNull(id),
        },
        Kind::Int | Kind::IntZero | Kind::CustomEnum => Operand::Int(value.to_int()),
        Kind::Double => Operand::Num(value.to_float()),
        Kind::Char | Kind::CustomFlag => Operand::Flag(matches!(text.as_str(), "Y" | "1")),
        Kind::Text | Kind::Status(_) | Kind::Texts => {
            if text.is_empty() {
                return if negative { Predicate::NotNull(id) } else { Predicate::IsNull(id) };
            }
            Operand::Text(predicate::fold(&text))
        }
    };
    let like = prefix.contains('%') && matches!(kind, Kind::Text | Kind::Texts);
    if like {
        let lower = predicate::fold(&text);
        let pattern = if prefix.ends_with('%') && !prefix.contains('=') {
            Pattern::Contains(lower)
        } else {
            Pattern::Raw(lower.chars().collect())
        };
        let negated = negative && custom;
        let like = Predicate::Like { field: id, pattern, negated };
        return if negated { Predicate::Any(vec![Predicate::IsNull(id), like]) } else { like };
    }
    let op = match prefix {
        ">" => Op::Gt,
        ">=" => Op::Ge,
        "<" => Op::Lt,
        "<=" => Op::Le,
        _ if negative => Op::Ne,
        _ => Op::Eq,
    };
    let zero = matches!(operand, Operand::Int(0)) || operand == Operand::Num(0.0);
    let compare = Predicate::Compare(id, op, operand);
    match op {
        Op::Ne => Predicate::Any(vec![Predicate::IsNull(id), compare]),
        // A number equal to nothing is one that was never set.
        Op::Eq if zero => Predicate::Any(vec![Predicate::IsNull(id), compare]),
        Op::Eq | Op::Lt | Op::Le | Op::Gt | Op::Ge => compare,
    }
}
