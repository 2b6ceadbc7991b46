//! The JSON Schema says what the reader of files says: nothing good is refused, and of the mistakes it misses only those
//! that a schema can't see.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use b24_janitor::core::field::FIELDS;
use b24_janitor::rules::{self, Input, grammar, schema};
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A text as an editor reads it: by the core schema of YAML 1.2, in which `no` and dates are text. `None` if it is no
/// YAML.
fn as_editors_read(text: &str) -> Option<Value> {
    let options = serde_saphyr::options! { strict_booleans: true, underscored_numbers_as_strings: true };
    serde_saphyr::from_str_with_options(text, options).ok()
}

fn rules_schema() -> Validator {
    jsonschema::draft202012::new(&schema::of_rules()).unwrap()
}

fn complaints(schema: &Validator, text: &str) -> Vec<String> {
    let Some(value) = as_editors_read(text) else { return vec!["no YAML".to_owned()] };
    schema.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Why a schema lets a mistake pass.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Missed {
    /// Names of several entries are compared.
    Uniqueness,
    /// A list of what exists: the machine's time zones, the calendar.
    Knowledge,
    /// An editor's YAML takes the value for the same as another spelling of it.
    Spelling,
    /// How deep something is nested.
    Depth,
    /// What the parser of this program allows less of than YAML does.
    Parser,
    /// What a text inside a text means: a template.
    Template,
    /// It is a warning.
    Warning,
}

const MISSED: &[(&str, Missed)] = &[
    ("cron_never_fires", Missed::Knowledge),
    ("match_too_deep", Missed::Depth),
    ("merge_key", Missed::Parser),
    ("name_no", Missed::Spelling),
    ("name_twice", Missed::Uniqueness),
    ("not_utf8", Missed::Parser),
    ("notify_body_no_json", Missed::Template),
    ("notify_placeholder", Missed::Template),
    ("notify_twice", Missed::Uniqueness),
    ("protect_name_twice", Missed::Uniqueness),
    ("tag", Missed::Parser),
    ("timezone_misspelt", Missed::Knowledge),
    ("umlauts_before_the_mistake", Missed::Spelling),
    ("value_bad_date", Missed::Knowledge),
    ("value_date_for_text", Missed::Spelling),
    ("value_date_for_user_field", Missed::Spelling),
    ("value_hex_number", Missed::Spelling),
    ("value_no", Missed::Spelling),
    ("warn_id_twice", Missed::Warning),
    ("warn_value_twice", Missed::Warning),
];

#[test]
fn it_is_a_schema_of_draft_2020_12() {
    for schema in [schema::of_rules(), schema::of_tests()] {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(jsonschema::meta::is_valid(&schema));
    }
}

#[test]
fn good_files_pass() {
    let schema = rules_schema();
    for file in ["rules.example.yaml", "src/commands/demo/rules.yaml"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert_eq!(complaints(&schema, &text), Vec::<String>::new(), "{file}");
    }
}

#[test]
fn every_mistake_that_a_schema_can_see_is_seen() {
    let schema = rules_schema();
    let mut passed = BTreeSet::new();
    for entry in fs::read_dir(root().join("tests/rules_bad")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        if complaints(&schema, &text).is_empty() {
            passed.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    let listed: BTreeSet<String> = MISSED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(passed, listed);
    for (name, why) in MISSED {
        assert_eq!(*why == Missed::Warning, name.starts_with("warn_"), "{name}");
    }
}

#[test]
fn every_key_and_operator_has_a_description_and_no_map_takes_unknown_keys() {
    fn walk(schema: &Value, path: &str) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object)
            && !path.ends_with("/if")
        {
            assert_eq!(schema["additionalProperties"], json!(false), "{path}");
            for (name, property) in properties {
                assert!(property["description"].is_string(), "{path}/{name}");
            }
        }
        match schema {
            Value::Object(entries) => {
                entries.iter().for_each(|(name, value)| walk(value, &format!("{path}/{name}")));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, path)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    walk(&schema::of_rules(), "");
    walk(&schema::of_tests(), "");
}

#[test]
fn every_field_takes_the_operators_of_its_kind_and_no_other() {
    let schema = rules_schema();
    let rules = |condition: &Value| {
        json!({ "version": 1, "timezone": "UTC",
            "rules": [{ "name": "a", "schedule": "@daily", "match": condition }] })
    };
    let values = [json!("2024-01-31"), json!(7), json!("Y"), json!(true), json!(["a"]), json!([7])];
    for (name, _, kind) in
        FIELDS.iter().chain([&("ufCrm_1", "", b24_janitor::core::field::FieldKind::Custom)])
    {
        for (operator, word, _, _) in grammar::OPERATORS {
            let taken =
                values.iter().any(|value| schema.is_valid(&rules(&json!({ *name: { *word: value } }))));
            assert_eq!(taken, grammar::operators(*kind).contains(operator), "{name} {word}");
        }
    }
}

#[test]
fn the_example_of_every_key_is_valid_where_it_stands() {
    for document in [schema::of_rules(), schema::of_tests()] {
        let maps = [&document].into_iter().chain(document["$defs"].as_object().unwrap().values());
        for map in maps {
            for (name, property) in map["properties"].as_object().into_iter().flatten() {
                let mut alone = property.clone();
                alone["$defs"] = document["$defs"].clone();
                let schema = jsonschema::draft202012::new(&alone).unwrap();
                for value in
                    property["examples"].as_array().into_iter().flatten().chain(property.get("default"))
                {
                    assert!(schema.is_valid(value), "{name}: {value}");
                }
            }
        }
    }
}

#[test]
fn files_of_tests_have_a_schema_of_their_own() {
    let schema = jsonschema::draft202012::new(&schema::of_tests()).unwrap();
    let good = "now: 2026-11-25T12:00:00+01:00\nrules: ../rules.yaml\ncases:\n  - name: a\n    lead: { id: 7, stageId: \
                JUNK, opportunity: \"5.00|EUR\", hasPhone: Y, contactIds: [], sourceId: null, ufCrm_1: 3 }\n    rule: \
                old-junk\n    expect: protected\n    reason: money\n";
    let parse = |text: &str| {
        rules::parse_tests(&Input { file: "a.test.yaml".into(), bytes: text.as_bytes().to_vec() })
    };
    assert!(parse(good).is_ok());
    assert_eq!(complaints(&schema, good), Vec::<String>::new());
    for (right, wrong) in [
        ("+01:00", ""),
        ("expect: protected", "expect: deleted"),
        ("stageId", "STATUS_ID"),
        ("id: 7", "id: 0"),
        ("rule: old-junk", "rule: Old Junk"),
        ("reason:", "because:"),
        ("    rule: old-junk\n", ""),
        ("stageId: JUNK", "stageId: 7"),
    ] {
        let bad = good.replace(right, wrong);
        assert!(parse(&bad).is_err(), "{wrong}");
        assert!(!complaints(&schema, &bad).is_empty(), "{wrong}");
    }
}

/// Schedules, dates, zones and ages, and what is nearly one.
fn nearly() -> impl Strategy<Value = (&'static str, String)> {
    let field = prop::sample::select(vec![
        "*", "*/5", "0", "7", "05", "1-7", "8-18/2", "1,15", "23", "31", "59", "60", "mon", "MON-fri",
        "jan,Mar", "sun", "L", "5/15",
    ]);
    let separator = prop::sample::select(vec![" ", "  "]);
    let crontab = (prop::collection::vec(field, 4..=6), separator.clone())
        .prop_map(|(fields, separator)| ("schedule", fields.join(separator)));
    let word = prop::sample::select(vec![
        "@daily",
        "@Hourly",
        "@weekly ",
        " @monthly",
        "@yearly",
        "@annually",
        "@midnight",
        "@reboot",
    ])
    .prop_map(|word| ("schedule", word.to_owned()));
    let date = (
        prop::sample::select(vec!["2024-01-31", "2024-1-31", "2024-12-01"]),
        prop::sample::select(vec!["", "T10:00", " 10:00", "T10:00:00", "T10:00:00.5", "T10", "T24:00:00"]),
        prop::sample::select(vec!["", "Z", "+03:00", "+0300", "-03", "z", "[UTC]"]),
    )
        .prop_map(|(day, time, offset)| ("date", format!("{day}{time}{offset}")));
    let zone = prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "europe/berlin",
        "America/Argentina/Buenos_Aires",
        "Etc/GMT+3",
        "GMT",
        "CET",
        "Berlin",
        "America/Port-au-Prince",
        "+03:00",
    ])
    .prop_map(|zone| ("timezone", zone.to_owned()));
    let age =
        prop::sample::select(vec!["0h", "90d", "2w", "090d", "36500d", "1m", "90", "1.5d", "-1d", "none"])
            .prop_map(|age| ("older_than", age.to_owned()));
    prop_oneof![4 => crontab, 1 => word, 3 => date, 1 => zone, 1 => age]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn what_the_program_accepts_the_schema_accepts((what, value) in nearly()) {
        let with = |key: &str, other: &str| if what == key { value.clone() } else { other.to_owned() };
        let text = format!(
            "version: 1\ntimezone: \"{}\"\nrules:\n  - name: a\n    schedule: \"{}\"\n    day_fields: or\n    older_than: \
             \"{}\"\n    match: {{ createdTime: {{ lt: \"{}\" }} }}\n",
            with("timezone", "UTC"), with("schedule", "@daily"), with("older_than", "1d"), with("date", "2024-01-31"),
        );
        let accepted = rules::parse(&[Input { file: "rules.yaml".into(), bytes: text.clone().into_bytes() }]).is_ok();
        thread_local!(static SCHEMA: Validator = rules_schema());
        let complaints = SCHEMA.with(|schema| complaints(schema, &text));
        prop_assert!(!accepted || complaints.is_empty(), "{text}{complaints:?}");
    }
}
