//! `match`: from maps of fields to a [`Condition`]. Keys of one map must all hold; `any` and `not` combine.
//!
//! Invariant: an empty map never becomes a condition, since it would select every lead. Limit: [`MAX_NESTING`].

use super::reader::Reader;
use super::values;
use super::zone::Zone;
use crate::core::condition::Condition;
use crate::core::field::{FieldKind, FieldName, UnknownField};
use crate::rules::diagnostic::shown;
use crate::rules::grammar::{self, Operator, holds, operators};
use crate::rules::tree::{Node, Value};

/// How often `any` and `not` may stand inside each other: nobody reads ten, and the tree allows no more.
const MAX_NESTING: usize = 10;

/// The conditions of a map, in the order written; all must hold. `owner` is the key that the map stands under.
pub(super) fn conditions(
    reader: &mut Reader<'_>,
    node: &Node,
    owner: &str,
    zone: &Zone,
) -> Option<Vec<Condition>> {
    nested(reader, node, owner, zone, 0)
}

fn nested(
    reader: &mut Reader<'_>,
    node: &Node,
    owner: &str,
    zone: &Zone,
    depth: usize,
) -> Option<Vec<Condition>> {
    if depth > MAX_NESTING {
        reader
            .error("too-deep", &node.span, format!("`any` and `not` stand more than {MAX_NESTING} deep"))
            .help("split this into several rules");
        return None;
    }
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::List(_) => {
            reader.error("wrong-type", &node.span, format!("`{owner}` needs a map of fields, but this is a list")).help(
                "fields of one map must all hold: write them without dashes; where one of several is enough, write \
                 any: [ {…}, {…} ]",
            );
            return None;
        }
        Value::Scalar(_) => {
            let wanted = format!("a map of fields for `{owner}`");
            reader.wrong(node, &wanted, "say which leads, for example { stageId: JUNK }");
            return None;
        }
    };
    if entries.is_empty() {
        reader
            .error("empty", &node.span, format!("`{owner}` is empty, which would mean every lead"))
            .help("say which leads, for example { stageId: JUNK }");
        return None;
    }
    let mut parts = Vec::new();
    let mut whole = true;
    for (word, name, value) in reader.entries(entries) {
        let read = match word {
            "any" => any(reader, value, zone, depth).map(|part| vec![part]),
            "not" => nested(reader, value, "not", zone, depth + 1)
                .map(|parts| vec![Condition::Not(Box::new(together(parts)))]),
            _ => match field(reader, word, name) {
                Some(field) => tests(reader, &field, name, value, zone),
                None => None,
            },
        };
        match read {
            Some(read) => parts.extend(read),
            None => whole = false,
        }
    }
    (whole && !parts.is_empty()).then_some(parts)
}

/// Conditions that must all hold, as one.
fn together(mut parts: Vec<Condition>) -> Condition {
    match (parts.len(), parts.pop()) {
        (1, Some(one)) => one,
        (_, last) => {
            parts.extend(last);
            Condition::All(parts)
        }
    }
}

fn any(reader: &mut Reader<'_>, node: &Node, zone: &Zone, depth: usize) -> Option<Condition> {
    let Value::List(items) = &node.value else {
        reader.wrong(node, "a list of maps", "write any: [ { stageId: JUNK }, { sourceId: CALLBACK } ]");
        return None;
    };
    if items.is_empty() {
        reader.empty_list(node, "any");
        return None;
    }
    let read: Vec<Option<Condition>> =
        items.iter().map(|item| nested(reader, item, "any", zone, depth + 1).map(together)).collect();
    read.into_iter().collect::<Option<Vec<_>>>().map(Condition::Any)
}

pub(super) fn field(reader: &mut Reader<'_>, word: &str, name: &Node) -> Option<FieldName> {
    let written = shown(word);
    let (code, message, help) = match FieldName::parse(word) {
        Ok(field) => return Some(field),
        Err(UnknownField::Classic(_, ours)) if ours.eq_ignore_ascii_case(word) => (
            "unknown-field",
            format!("a lead has no field `{written}`"),
            format!("write `{ours}`, exactly so"),
        ),
        Err(UnknownField::Classic(_, ours)) => (
            "classic-name",
            format!("`{written}` is the field's name in crm.lead.list; rules use the names of crm.item.list"),
            format!("write `{ours}`"),
        ),
        Err(UnknownField::Unknown(near)) => {
            let message = format!("a lead has no field `{written}`");
            match special(word) {
                Some(help) => ("unknown-key", format!("`{written}` can't stand under `match`"), help),
                None if near.is_empty() => {
                    let help = "fields are those of crm.item.list: stageId, sourceId, assignedById, opportunity, \
                                createdTime, ufCrm_…";
                    ("unknown-field", message, help.to_owned())
                }
                None => {
                    let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
                    ("unknown-field", message, format!("did you mean {}?", near.join(" or ")))
                }
            }
        }
    };
    reader.error(code, &name.span, message).help(help);
    None
}

/// Help for words that are no fields but that people put where fields stand.
fn special(word: &str) -> Option<String> {
    match word.to_lowercase().as_str() {
        "all" | "and" => Some("keys of one map must all hold anyway: leave it out".to_owned()),
        "or" => Some("write any: [ {…}, {…} ]".to_owned()),
        "none" | "nor" => Some("write not: { any: [ {…}, {…} ] }".to_owned()),
        lower if Operator::parse(lower).is_some() => {
            Some(format!("it stands under a field: stageId: {{ {lower}: … }}"))
        }
        lower if grammar::Section::Rule.key(lower).is_some() => {
            Some(format!("`{lower}` belongs in the rule, beside `match`"))
        }
        _ => None,
    }
}

/// The tests of one field: a bare value means `eq`, a list `in`, a map names operators that must all hold.
fn tests(
    reader: &mut Reader<'_>,
    field: &FieldName,
    field_name: &Node,
    node: &Node,
    zone: &Zone,
) -> Option<Vec<Condition>> {
    let noted = |reader: &mut Reader<'_>, operator, name, value| {
        let read = test(reader, field, operator, name, value, zone)?;
        reader.spot(field_name, name, value);
        Some(read)
    };
    let entries = match &node.value {
        Value::Scalar(_) => return noted(reader, Operator::Eq, node, node).map(|one| vec![one]),
        Value::List(_) => return noted(reader, Operator::In, node, node).map(|one| vec![one]),
        Value::Map(entries) => entries,
    };
    if entries.is_empty() {
        reader
            .error("empty", &node.span, format!("`{field}` has no condition"))
            .help("write a value, a list or an operator, for example { empty: true }");
        return None;
    }
    let mut parts = Vec::new();
    let mut whole = true;
    for (word, name, value) in reader.entries(entries) {
        let part = match Operator::parse(word) {
            Some(operator) => noted(reader, operator, name, value),
            None => {
                unknown_operator(reader, field, word, name);
                None
            }
        };
        whole &= part.is_some();
        parts.extend(part);
    }
    (whole && !parts.is_empty()).then_some(parts)
}

fn unknown_operator(reader: &mut Reader<'_>, field: &FieldName, word: &str, name: &Node) {
    let words: Vec<&str> = operators(field.kind()).iter().map(|operator| operator.word()).collect();
    let help = match grammar::meant_operator(word) {
        Some(near) if words.contains(&near) => format!("did you mean `{near}`?"),
        Some(_) | None if word == "older_than" => {
            "`older_than` belongs in the rule, beside `match`".to_owned()
        }
        Some(_) | None => format!("`{field}` takes {}", words.join(", ")),
    };
    reader
        .error("unknown-operator", &name.span, format!("there is no operator `{}`", shown(word)))
        .help(help);
}

fn test(
    reader: &mut Reader<'_>,
    field: &FieldName,
    operator: Operator,
    name: &Node,
    value: &Node,
    zone: &Zone,
) -> Option<Condition> {
    let kind = field.kind();
    if !operators(kind).contains(&operator) {
        let asked = match &value.value {
            _ if !std::ptr::eq(name, value) => format!("`{}`", operator.word()),
            Value::List(_) => "a list means `in`, which".to_owned(),
            Value::Scalar(_) | Value::Map(_) => "a value alone means `eq`, which".to_owned(),
        };
        let message = format!("{asked} does not work on `{field}`, which holds {}", holds(kind));
        let help = match kind {
            FieldKind::Time => format!(
                "for an age write older_than: {{ field: {field}, age: 90d }} in the rule; for a date {{ lt: 2024-01-31 }}"
            ),
            FieldKind::Flag => "write Y or N".to_owned(),
            FieldKind::Stage
            | FieldKind::Text
            | FieldKind::Number
            | FieldKind::Id
            | FieldKind::Reference
            | FieldKind::Custom => {
                let words: Vec<&str> = operators(kind).iter().map(|operator| operator.word()).collect();
                format!("it takes {}", words.join(", "))
            }
        };
        reader.error("wrong-operator", &name.span, message).help(help);
        return None;
    }
    let test = values::test(reader, field, operator, value, zone)?;
    Some(Condition::Field { field: field.clone(), test })
}
