//! The rules language as a JSON Schema (draft 2020-12), so that editors complete and check while one types.
//!
//! Made from the tables of [`super::grammar`] and [`FIELDS`], never written by hand. It is a help, not the judge: what
//! passes `check` passes the schema, but not the other way round (names that must be unique, dates of the calendar,
//! what only the spelling of a value tells).

use serde_json::{Map, Value, json};

use super::grammar::{self, EVENTS, Key, Kind, OPERATORS, Operator, Section};
use super::scalar::Meaning;
use super::tree::{self, Node};
use crate::core::field::{FIELDS, FieldKind};
use crate::core::lead::MAX_LEAD_ID;
use crate::core::notify::Variable;
use crate::core::rule::RuleName;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
const USER_FIELD: &str = "^ufCrm[A-Za-z0-9_]{1,64}$";
const NAME: &str = "^[a-z0-9][a-z0-9-]*$";
const AGE: &str = "^[0-9]+[hdw]$";
const AGE_OR_NONE: &str = "^(none|[0-9]+[hdw])$";
const ZONE: &str = "^(UTC|[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)+)$";
const VARIABLE: &str = "^JANITOR_(NOTIFY|SMTP)_[A-Z0-9_]+$";
const ADDRESS: &str = r"^[^@\s<>,;:]+@[A-Za-z0-9.-]+$";
/// A day, or a moment with or without its offset.
const DATE: &str = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}[0-9:.]*(Z|[+-][0-9:]+)?)?$";
/// A moment with its offset.
const MOMENT: &str = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}[0-9:.,]*([Zz]|[+-][0-9:]+)(\[.*\])?$";

/// Every kind of field, in the order of the definitions.
const KINDS: [FieldKind; 8] = [
    FieldKind::Id,
    FieldKind::Stage,
    FieldKind::Text,
    FieldKind::Number,
    FieldKind::Time,
    FieldKind::Flag,
    FieldKind::Reference,
    FieldKind::Custom,
];

/// The schema of rules files.
pub fn of_rules() -> Value {
    document(Section::File, "Rules of b24-janitor: which leads are deleted, when, and how carefully")
}

/// The schema of files of tests (`*.test.yaml`).
pub fn of_tests() -> Value {
    document(Section::Tests, "Tests of the rules of b24-janitor: a lead, and what a rule must say of it")
}

fn document(root: Section, title: &str) -> Value {
    let mut defs = Map::new();
    for part in
        Section::ALL.into_iter().filter(|part| part.is_of_tests() == root.is_of_tests() && *part != root)
    {
        defs.insert(definition(part).to_owned(), section(part));
    }
    if root == Section::File {
        defs.insert("match".to_owned(), selection());
        for kind in KINDS {
            defs.insert(kind_definition(kind).to_owned(), condition(kind));
        }
    } else {
        defs.insert("lead".to_owned(), lead());
    }
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!(DRAFT));
    schema.insert("title".to_owned(), json!(title));
    if let Value::Object(body) = section(root) {
        schema.extend(body);
    }
    schema.insert("$defs".to_owned(), Value::Object(defs));
    Value::Object(schema)
}

fn definition(section: Section) -> &'static str {
    match section {
        Section::File => "file",
        Section::Portal => "portal",
        Section::Defaults => "defaults",
        Section::Limits => "limits",
        Section::Protection => "protection",
        Section::Rule => "rule",
        Section::OlderThan => "older_than",
        Section::Notify => "notify",
        Section::Http => "http",
        Section::Email => "email",
        Section::Chat => "chat",
        Section::Tests => "tests",
        Section::Case => "case",
    }
}

fn kind_definition(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Id => "id_condition",
        FieldKind::Stage => "stage_condition",
        FieldKind::Text => "text_condition",
        FieldKind::Number => "number_condition",
        FieldKind::Time => "date_condition",
        FieldKind::Flag => "flag_condition",
        FieldKind::Reference => "reference_condition",
        FieldKind::Custom => "user_field_condition",
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn section(section: Section) -> Value {
    let mut properties = Map::new();
    for key in section.keys() {
        properties.insert(key.name.to_owned(), key_schema(key));
    }
    let required: Vec<&str> = section.keys().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "minProperties": 1,
        "additionalProperties": false,
    });
    if let Value::Object(schema) = &mut schema {
        match section {
            Section::Protection => {
                schema
                    .insert("anyOf".to_owned(), json!([{ "required": ["ids"] }, { "required": ["match"] }]));
            }
            Section::Notify => {
                let ways = ["http", "email", "chat"].map(|way| json!({ "required": [way] }));
                schema.insert("oneOf".to_owned(), json!(ways));
            }
            Section::Rule => {
                // Unix joins the two day fields by "or" and people by "and": the rule has to say.
                let both = json!({
                    "properties": { "schedule": { "pattern": r"^\s*\S+\s+\S+\s+([^*\s]|\*\S)\S*\s+\S+\s+([^*\s]|\*\S)" } },
                    "required": ["schedule"],
                });
                schema.insert("if".to_owned(), both);
                schema.insert("then".to_owned(), json!({ "required": ["day_fields"] }));
            }
            Section::File
            | Section::Portal
            | Section::Defaults
            | Section::Limits
            | Section::OlderThan
            | Section::Http
            | Section::Email
            | Section::Chat
            | Section::Tests
            | Section::Case => {}
        }
    }
    schema
}

/// What a key takes, with its meaning, its default and an example.
fn key_schema(key: &Key) -> Value {
    let mut schema = kind_schema(key.kind);
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), json!(key.doc));
        if let Some(default) = key.default.and_then(yaml) {
            schema.insert("default".to_owned(), default);
        }
        if let Some(Value::Object(example)) = yaml(key.example) {
            let values: Vec<Value> = example.into_iter().map(|(_, value)| value).collect();
            schema.insert("examples".to_owned(), Value::Array(values));
        }
    }
    schema
}

fn kind_schema(kind: Kind) -> Value {
    match kind {
        Kind::Version => json!({ "const": 1 }),
        Kind::Name => json!({ "type": "string", "pattern": NAME, "maxLength": RuleName::MAX_LENGTH }),
        Kind::Text => text(),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Decimal { max } => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": max }),
        Kind::Age => json!({ "type": "string", "pattern": AGE }),
        Kind::AgeOrNone => json!({ "type": "string", "pattern": AGE_OR_NONE }),
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
        Kind::Zone => json!({ "type": "string", "pattern": ZONE }),
        Kind::Schedule => json!({ "type": "string", "pattern": schedule() }),
        Kind::Events => list(&json!({ "type": "string", "enum": EVENTS })),
        Kind::Ids => list(&json!({ "type": "integer", "minimum": 1, "maximum": MAX_LEAD_ID })),
        Kind::Words(words) => list(&json!({ "type": "string", "enum": words })),
        Kind::Variable => json!({ "type": "string", "pattern": VARIABLE, "maxLength": Variable::MAX_LENGTH }),
        Kind::Template => text(),
        Kind::Address => json!({ "type": "string", "pattern": ADDRESS }),
        Kind::Addresses => list(&json!({ "type": "string", "pattern": ADDRESS })),
        Kind::Match => reference("match"),
        Kind::OlderThan => {
            json!({ "anyOf": [kind_schema(Kind::Age), reference(definition(Section::OlderThan))] })
        }
        Kind::DateField => {
            let dates = FIELDS.iter().filter(|(_, _, kind)| *kind == FieldKind::Time);
            let names: Vec<&str> = dates.map(|(name, _, _)| *name).collect();
            json!({ "anyOf": [{ "type": "string", "enum": names }, { "type": "string", "pattern": USER_FIELD }] })
        }
        Kind::Moment => json!({ "type": "string", "pattern": MOMENT }),
        Kind::Lead => reference("lead"),
        Kind::Map(section) => reference(definition(section)),
        Kind::List(section) => list(&reference(definition(section))),
    }
}

fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

fn list(items: &Value) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1 })
}

/// Five fields with numbers in their ranges, or a shorthand.
fn schedule() -> String {
    let any_case = |names: &[&str]| {
        let letter = |c: char| format!("[{c}{}]", c.to_ascii_lowercase());
        names.iter().map(|name| name.chars().map(letter).collect::<String>()).collect::<Vec<_>>().join("|")
    };
    let field = |value: &str| {
        let step = "(/[0-9]+)?";
        let one = format!(r"(\*{step}|({value})(-({value}){step})?)");
        format!("{one}(,{one})*")
    };
    let months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    let days = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let fields = [
        field("[0-5]?[0-9]"),
        field("[01]?[0-9]|2[0-3]"),
        field("0?[1-9]|[12][0-9]|3[01]"),
        field(&format!("0?[1-9]|1[0-2]|{}", any_case(&months))),
        field(&format!("0?[0-7]|{}", any_case(&days))),
    ];
    let words = any_case(&["HOURLY", "DAILY", "MIDNIGHT", "WEEKLY", "MONTHLY", "YEARLY", "ANNUALLY"]);
    format!(r"^\s*(@({words})|{})\s*$", fields.join(r"\s+"))
}

/// `match`: fields of a lead, `any` and `not`.
fn selection() -> Value {
    let mut properties = Map::new();
    for (name, classic, kind) in FIELDS {
        let mut field = reference(kind_definition(*kind));
        if let Value::Object(field) = &mut field {
            let holds = grammar::holds(*kind);
            field.insert(
                "description".to_owned(),
                json!(format!("holds {holds}; {classic} in crm.lead.list")),
            );
        }
        properties.insert((*name).to_owned(), field);
    }
    let mut any = list(&reference("match"));
    let mut not = reference("match");
    for (schema, means) in
        [(&mut any, "at least one of these maps holds"), (&mut not, "this map does not hold")]
    {
        if let Value::Object(schema) = schema {
            schema.insert("description".to_owned(), json!(means));
        }
    }
    properties.insert("any".to_owned(), any);
    properties.insert("not".to_owned(), not);
    json!({
        "type": "object",
        "description": "fields of a lead as crm.item.list names them; all of them must hold",
        "properties": properties,
        "patternProperties": { USER_FIELD: reference(kind_definition(FieldKind::Custom)) },
        "minProperties": 1,
        "additionalProperties": false,
    })
}

/// A condition on a field of that kind: a value (`eq`), a list (`in`), or operators.
fn condition(kind: FieldKind) -> Value {
    let allowed = grammar::operators(kind);
    let mut properties = Map::new();
    for (operator, word, asks, _) in OPERATORS.iter().filter(|(operator, ..)| allowed.contains(operator)) {
        let mut value = operand(kind, *operator);
        if let Value::Object(value) = &mut value {
            value.insert("description".to_owned(), json!(asks));
        }
        properties.insert((*word).to_owned(), value);
    }
    let operators = json!({
        "type": "object",
        "properties": properties,
        "minProperties": 1,
        "additionalProperties": false,
    });
    let short = [Operator::Eq, Operator::In].into_iter().filter(|operator| allowed.contains(operator));
    let mut ways: Vec<Value> = short.map(|operator| operand(kind, operator)).collect();
    ways.push(operators);
    json!({ "anyOf": ways })
}

/// What an operator takes on a field of that kind.
fn operand(kind: FieldKind, operator: Operator) -> Value {
    let id = || json!({ "type": "integer", "minimum": 0, "maximum": MAX_LEAD_ID });
    let number = || json!({ "type": "number" });
    let date = || json!({ "type": "string", "pattern": DATE, "examples": ["2024-01-31"] });
    let one = match kind {
        FieldKind::Stage | FieldKind::Text => text(),
        FieldKind::Number => number(),
        FieldKind::Id | FieldKind::Reference => id(),
        FieldKind::Time => date(),
        FieldKind::Flag => json!({ "enum": ["Y", "N", "y", "n", true, false] }),
        FieldKind::Custom => json!({ "anyOf": [text(), { "type": ["number", "boolean"] }] }),
    };
    match operator {
        Operator::Empty => json!({ "type": "boolean" }),
        Operator::Contains | Operator::StartsWith => text(),
        Operator::In | Operator::NotIn => match kind {
            FieldKind::Custom => json!({ "anyOf": [list(&text()), list(&number())] }),
            FieldKind::Stage
            | FieldKind::Text
            | FieldKind::Number
            | FieldKind::Id
            | FieldKind::Reference
            | FieldKind::Time
            | FieldKind::Flag => list(&one),
        },
        Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte => match kind {
            FieldKind::Custom => json!({ "anyOf": [number(), date()] }),
            FieldKind::Stage
            | FieldKind::Text
            | FieldKind::Number
            | FieldKind::Id
            | FieldKind::Reference
            | FieldKind::Time
            | FieldKind::Flag => one,
        },
        Operator::Eq | Operator::Ne => one,
    }
}

/// A lead of a case.
fn lead() -> Value {
    let mut properties = Map::new();
    for (name, classic, kind) in FIELDS {
        let value = match kind {
            FieldKind::Id => json!({ "type": "integer", "minimum": 1, "maximum": MAX_LEAD_ID }),
            FieldKind::Stage | FieldKind::Text | FieldKind::Time => json!({ "type": ["string", "null"] }),
            FieldKind::Number => json!({ "type": ["number", "string", "null"] }),
            FieldKind::Flag => json!({ "type": ["string", "boolean", "null"] }),
            FieldKind::Reference | FieldKind::Custom => {
                json!({ "type": ["number", "string", "boolean", "array", "null"] })
            }
        };
        let mut value = value;
        if let Value::Object(value) = &mut value {
            let holds = grammar::holds(*kind);
            value.insert(
                "description".to_owned(),
                json!(format!("holds {holds}; {classic} in crm.lead.list")),
            );
        }
        properties.insert((*name).to_owned(), value);
    }
    json!({
        "type": "object",
        "description": "the lead's fields with their values, as the portal returns them",
        "properties": properties,
        "patternProperties": { USER_FIELD: { "type": ["number", "string", "boolean", "array", "null"] } },
        "minProperties": 1,
        "additionalProperties": false,
    })
}

/// A piece of the rules language as JSON; `None` where it is none, which a test of the grammar rules out.
fn yaml(text: &str) -> Option<Value> {
    tree::read(text).ok().map(|node| json_of(&node))
}

fn json_of(node: &Node) -> Value {
    match &node.value {
        tree::Value::List(items) => items.iter().map(json_of).collect(),
        tree::Value::Map(entries) => entries
            .iter()
            .filter_map(|(name, value)| match &name.value {
                tree::Value::Scalar(name) => Some((name.text.clone(), json_of(value))),
                tree::Value::List(_) | tree::Value::Map(_) => None,
            })
            .collect(),
        tree::Value::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => Value::Null,
            Meaning::Bool(flag) => json!(flag),
            Meaning::Whole(number) => json!(number),
            Meaning::Decimal(number) => json!(number),
            Meaning::Text | Meaning::YesNo(_) | Meaning::OddNumber | Meaning::Date => json!(scalar.text),
        },
    }
}
