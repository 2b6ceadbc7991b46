//! `older_than`: an age of the lead's creation, or of another date of it.

use super::reader::{Entry, Reader};
use crate::core::condition::Condition;
use crate::core::field::{FieldKind, FieldName, UnknownField};
use crate::rules::diagnostic::shown;
use crate::rules::grammar::Section;
use crate::rules::tree::{Node, Value};

/// `older_than:`, an age of `createdTime` or of the field that it names.
pub(super) fn older_than(reader: &mut Reader<'_>, node: &Node) -> Option<Condition> {
    if let Value::Map(_) = &node.value {
        let fields = reader.fields(node, Section::OlderThan)?;
        let field = fields.get("field").and_then(|entry| date_field(reader, entry));
        let age = fields.get("age").and_then(|entry| reader.age(entry.value));
        let (named, aged) = (fields.get("field"), fields.get("age"));
        let (named, aged) = (named.map_or(node, |entry| entry.value), aged.map_or(node, |entry| entry.value));
        reader.spot(named, aged, aged);
        return Some(Condition::OlderThan { field: field?, age: age? });
    }
    let age = reader.age(node)?;
    reader.spot(node, node, node);
    // The table of fields has it; a name that it lacked would be refused here, not guessed.
    let field = FieldName::parse("createdTime").ok()?;
    Some(Condition::OlderThan { field, age })
}

fn date_field(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<FieldName> {
    let some = "createdTime, updatedTime, movedTime, lastActivityTime";
    let text = reader.text(entry.value, &format!("write a field with a date: {some}"))?;
    let span = &entry.value.span;
    let written = shown(text);
    match FieldName::parse(text) {
        Ok(field) => match field.kind() {
            FieldKind::Time | FieldKind::Custom => return Some(field),
            FieldKind::Id
            | FieldKind::Stage
            | FieldKind::Text
            | FieldKind::Number
            | FieldKind::Flag
            | FieldKind::Reference => {
                reader
                    .error("wrong-field", span, format!("`{written}` holds no date"))
                    .help(format!("fields with a date: {some}"));
            }
        },
        Err(UnknownField::Classic(_, ours)) => {
            reader
                .error("classic-name", span, format!("rules do not use the name `{written}`"))
                .help(format!("write `{ours}`"));
        }
        Err(UnknownField::Unknown(near)) => {
            let help = match near.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("fields with a date: {some}"),
            };
            reader.error("unknown-field", span, format!("a lead has no field `{written}`")).help(help);
        }
    }
    None
}
