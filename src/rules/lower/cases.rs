//! From the tree of a `*.test.yaml` to [`Tests`], every mistake in one pass.
//!
//! Invariant: a lead's values are taken as the portal would return them, never as a rule would write them: a date
//! needs its offset. Quoted values are kept to the letter, so that a test can have what a portal should not send.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::entries::name;
use super::reader::Reader;
use super::selection::field;
use crate::core::field::{FieldKind, FieldName};
use crate::core::lead::{Lead, LeadId, MAX_LEAD_ID};
use crate::rules::cases::{Case, Decision, Tests};
use crate::rules::diagnostic::{Diagnostic, Severity, Source, shown};
use crate::rules::grammar::Section;
use crate::rules::scalar::Meaning;
use crate::rules::tree::{Node, Scalar, Value};

/// What a portal whose stages were never changed says of its two final stages; every other is under way
/// (<https://apidocs.bitrix24.com/api-reference/crm/universal/object-fields.html>).
const FINAL_STAGES: [(&str, &str); 2] = [("CONVERTED", "S"), ("JUNK", "F")];
const UNDER_WAY: &str = "P";

/// The tests of a file.
pub(in crate::rules) fn cases(source: Source, tree: &Node) -> Result<Tests, Vec<Diagnostic>> {
    let mut reader = Reader::new(&source);
    let read = file(&mut reader, tree);
    let found = reader.finish();
    let failed = found.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    match read {
        Some((now, rules, cases)) if !failed => Ok(Tests { now, rules, cases, source }),
        Some(_) | None => Err(found),
    }
}

type Parts = (Timestamp, Option<String>, Vec<Case>);

fn file(reader: &mut Reader<'_>, tree: &Node) -> Option<Parts> {
    let fields = reader.fields(tree, Section::Tests)?;
    let now = fields.get("now").and_then(|entry| moment(reader, entry.value));
    let rules = fields
        .get("rules")
        .and_then(|entry| reader.text(entry.value, "name a rules file or directory, for example rules.yaml"))
        .map(str::to_owned);
    let items = fields.get("cases").and_then(|entry| reader.items(entry));
    let mut names = HashMap::new();
    let mut cases = Vec::new();
    for item in items.unwrap_or_default() {
        cases.extend(case(reader, item, &mut names));
    }
    Some((now?, rules, cases))
}

fn case(reader: &mut Reader<'_>, node: &Node, names: &mut HashMap<String, usize>) -> Option<Case> {
    let fields = reader.fields(node, Section::Case)?;
    let title = fields.get("name").and_then(|entry| {
        let text = reader.text(entry.value, "say what the case is about")?.to_owned();
        if let Some(first) = names.insert(text.clone(), entry.value.span.start) {
            let second = reader.source.second("first used", first);
            let message = format!("there is another case named `{}`", shown(&text));
            let twice = reader.error("duplicate-case", &entry.value.span, message);
            twice.second(second).help("give one of them another name");
        }
        Some(text)
    });
    let lead = fields.get("lead").and_then(|entry| lead(reader, entry.value));
    let rule = fields.get("rule").and_then(|entry| name(reader, entry));
    let expect = fields.get("expect").and_then(|entry| reader.word(entry)).and_then(decision);
    let reason = fields.get("reason").map(|entry| {
        reader.text(entry.value, "write a part of the reason, or remove `reason`").map(str::to_owned)
    });
    let (rule, rule_span) = rule?;
    Some(Case {
        name: title?,
        lead: lead?,
        rule,
        expect: expect?,
        reason: reason.map_or(Some(None), |read| read.map(Some))?,
        line: reader.source.line(node.span.start),
        rule_span,
    })
}

fn decision(word: &str) -> Option<Decision> {
    Decision::ALL.into_iter().find(|decision| decision.as_str() == word)
}

fn moment(reader: &mut Reader<'_>, node: &Node) -> Option<Timestamp> {
    let help = "write the moment with its offset, for example 2026-11-25T12:00:00+01:00";
    let scalar = reader.scalar(node, "a moment", help)?;
    let at = scalar.text.parse().ok();
    if at.is_none() {
        let message = format!("`{}` is not a moment with an offset", shown(&scalar.text));
        reader.error("bad-date", &node.span, message).help(help);
    }
    at
}

fn lead(reader: &mut Reader<'_>, node: &Node) -> Option<Lead> {
    let help = "write the lead's fields, for example { stageId: JUNK }";
    let entries = match &node.value {
        Value::Map(entries) if entries.is_empty() => {
            reader.error("empty", &node.span, "the lead has no field").help(help);
            return None;
        }
        Value::Map(entries) => entries,
        Value::List(_) | Value::Scalar(_) => {
            reader.wrong(node, "a map of fields", help);
            return None;
        }
    };
    let mut fields = Map::new();
    let mut id = LeadId::try_from(1).ok();
    let mut whole = true;
    for (word, name, node) in reader.entries(entries) {
        let Some(field) = field(reader, word, name) else {
            whole = false;
            continue;
        };
        if field.kind() == FieldKind::Id {
            id = lead_id(reader, node);
            whole &= id.is_some();
            continue;
        }
        match value(reader, &field, node) {
            Some(value) => {
                fields.insert(field.as_str().to_owned(), value);
            }
            None => whole = false,
        }
    }
    if !fields.contains_key("stageSemanticId") {
        let stage = fields.get("stageId").and_then(Json::as_str).unwrap_or_default();
        let end = FINAL_STAGES.iter().find(|(code, _)| stage.eq_ignore_ascii_case(code));
        let meaning = end.map_or(UNDER_WAY, |(_, meaning)| *meaning);
        fields.insert("stageSemanticId".to_owned(), Json::from(meaning));
    }
    if whole { Some(Lead::new(id?, fields)) } else { None }
}

fn lead_id(reader: &mut Reader<'_>, node: &Node) -> Option<LeadId> {
    let help = format!("write a lead id from 1 to {MAX_LEAD_ID}, or leave it out");
    let scalar = reader.scalar(node, "a lead id", &help)?;
    let id = scalar.text.parse().ok();
    if id.is_none() {
        reader.wrong(node, "a lead id", help);
    }
    id
}

/// A field's value; a list where a field may have several.
fn value(reader: &mut Reader<'_>, field: &FieldName, node: &Node) -> Option<Json> {
    let several = matches!(field.kind(), FieldKind::Reference | FieldKind::Custom);
    match &node.value {
        Value::List(items) if several => {
            let read: Vec<Option<Json>> = items.iter().map(|item| value(reader, field, item)).collect();
            read.into_iter().collect::<Option<Vec<Json>>>().map(Json::Array)
        }
        Value::List(_) | Value::Map(_) => {
            reader.wrong(node, "one value", "write the value as the portal returns it; null for no value");
            None
        }
        // An empty value is written out: `null`. Nothing behind the colon is more likely forgotten.
        Value::Scalar(Scalar { text, quoted: false }) if text.eq_ignore_ascii_case("null") || text == "~" => {
            Some(Json::Null)
        }
        Value::Scalar(Scalar { text, quoted: true }) => Some(Json::from(text.as_str())),
        Value::Scalar(scalar) => plain(reader, field, node, scalar),
    }
}

/// A value without quotes, which must be what the field holds.
fn plain(reader: &mut Reader<'_>, field: &FieldName, node: &Node, scalar: &Scalar) -> Option<Json> {
    let kind = field.kind();
    let numeric = matches!(kind, FieldKind::Number | FieldKind::Reference | FieldKind::Custom);
    let dated = matches!(kind, FieldKind::Time | FieldKind::Custom);
    match scalar.meaning() {
        Meaning::Whole(number) if numeric => return Some(Json::from(number)),
        Meaning::Decimal(number) if numeric => return Some(Json::from(number)),
        Meaning::Bool(flag) if matches!(kind, FieldKind::Flag | FieldKind::Custom) => {
            return Some(Json::from(flag));
        }
        Meaning::Date if dated => {
            if scalar.text.parse::<Timestamp>().is_ok() {
                return Some(Json::from(scalar.text.as_str()));
            }
            let message = format!("`{}` is not a date as the portal returns it", shown(&scalar.text));
            reader.error("bad-date", &node.span, message).help(
                "write it with its offset, for example 2026-01-31T10:00:00+03:00; what stands in quotes is taken as it is",
            );
            return None;
        }
        Meaning::Text
        | Meaning::Null
        | Meaning::Bool(_)
        | Meaning::YesNo(_)
        | Meaning::Whole(_)
        | Meaning::Decimal(_)
        | Meaning::OddNumber
        | Meaning::Date => {}
    }
    let (wanted, help) = match kind {
        FieldKind::Text | FieldKind::Stage | FieldKind::Custom => {
            return reader.text(node, "write null for no value").map(Json::from);
        }
        FieldKind::Flag if matches!(scalar.text.as_str(), "Y" | "N") => {
            return Some(Json::from(scalar.text.as_str()));
        }
        FieldKind::Flag => ("Y or N", "write Y, N, or null for no value"),
        FieldKind::Time => {
            ("a date", "write it with its offset, for example 2026-01-31T10:00:00+03:00; null for no value")
        }
        FieldKind::Number => ("a number", "write plain digits, or null for no value"),
        FieldKind::Id | FieldKind::Reference => ("an id", "write plain digits, or null for no value"),
    };
    reader.wrong(node, wanted, help);
    None
}
