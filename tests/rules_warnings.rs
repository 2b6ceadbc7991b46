//! Warnings about valid rules: each has its message, and none is given where it could be wrong.
//!
//! `rules_warn/` holds one file a warning and, beside it, what the program says about it on 25 November 2026.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::fs;
use std::path::PathBuf;

use b24_janitor::core::decide::{self, Verdict};
use b24_janitor::core::lead::{Lead, LeadId};
use b24_janitor::core::rule::RuleSet;
use b24_janitor::rules::{self, Diagnostic, Input, Severity};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NOW: &str = "2026-11-25T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn read(file: &str, text: &str) -> RuleSet {
    let input = Input { file: file.to_owned(), bytes: text.as_bytes().to_vec() };
    let shown =
        |found: Vec<Diagnostic>| found.iter().map(|one| one.render(false)).collect::<Vec<_>>().join("\n");
    rules::parse(&[input]).map_err(shown).unwrap().rules
}

/// A file with one rule of these lines.
fn one(lines: &str) -> String {
    format!(
        "version: 1\ntimezone: Europe/Berlin\nrules:\n  - name: it\n    schedule: \"15 3 * * *\"\n    {lines}\n"
    )
}

fn codes(text: &str) -> Vec<&'static str> {
    rules::lint(&read("rules.yaml", text), now()).iter().map(|found| found.code).collect()
}

#[test]
fn every_warning_has_its_message() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rules_warn");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 19);
    for path in paths {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let rules = read(&format!("{stem}.yaml"), &fs::read_to_string(&path).unwrap());
        let found = rules::lint(&rules, now());
        assert!(!found.is_empty(), "{stem} has no warning");
        assert!(found.iter().all(|one| one.severity == Severity::Warning), "{stem}");
        let rendered: Vec<String> = found.iter().map(|one| one.render(false)).collect();
        insta::with_settings!({
            snapshot_path => &folder,
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(stem, rendered.join("\n\n"));
        });
    }
}

#[test]
fn the_example_and_the_demo_have_no_warning() {
    for file in ["rules.example.yaml", "src/commands/demo/rules.yaml"] {
        let text = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert_eq!(rules::lint(&read(file, &text), now()), []);
    }
}

#[test]
fn intervals_and_times_that_no_change_of_clocks_touches_are_not_warned_of() {
    for schedule in ["*/30 * * * *", "@hourly", "59 1 * * *", "0 3 * * *", "30 2 1 * *", "30 2 * 7 *"] {
        let text = one("match: { stageId: JUNK }").replace("15 3 * * *", schedule);
        assert_eq!(codes(&text), Vec::<&str>::new(), "{schedule}");
    }
    let utc =
        one("match: { stageId: JUNK }").replace("15 3 * * *", "30 2 * * *").replace("Europe/Berlin", "UTC");
    assert_eq!(codes(&utc), Vec::<&str>::new());
}

#[test]
fn what_only_may_be_unintended_is_not_warned_of() {
    for selection in [
        // A field of several values can have both.
        "{ contactIds: { eq: 1, in: [2, 3] } }",
        "{ ufCrm_1: { eq: a, in: [b] } }",
        "{ title: { empty: true, ne: x } }",
        "{ stageId: { in: [JUNK, \"7\"], ne: JUNK } }",
        "{ opportunity: { gte: 100, lte: 100 } }",
        "{ createdTime: { gte: 2024-01-01, lte: 2024-01-01 } }",
        // Whatever the id, it is not the one that the check uses.
        "{ id: { gt: 5 }, stageId: JUNK }",
    ] {
        assert_eq!(codes(&one(&format!("match: {selection}"))), Vec::<&str>::new(), "{selection}");
    }
    let age = "match: { createdTime: { gt: 2026-08-25 } }\n    older_than: 90d";
    assert_eq!(codes(&one(age)), Vec::<&str>::new());
    let protected = |condition: &str, selection: &str| {
        one(&format!("match: {selection}"))
            .replace("rules:", &format!("protect: [ {{ name: kept, match: {condition} }} ]\nrules:"))
    };
    for (condition, selection) in [
        ("{ opportunity: { gt: 100 } }", "{ opportunity: { gt: 0 } }"),
        ("{ opportunity: { gt: 0 } }", "{ opportunity: { gte: 0 } }"),
        ("{ createdTime: { lt: 2024-01-31T10:00:00 } }", "{ createdTime: { lte: 2024-01-31T10:00:00 } }"),
        ("{ stageId: JUNK, opened: Y }", "{ stageId: JUNK }"),
        ("{ stageId: JUNK }", "{ stageId: [JUNK, \"7\"] }"),
        ("{ id: { lt: 5 } }", "{ stageId: JUNK }"),
    ] {
        assert_eq!(codes(&protected(condition, selection)), Vec::<&str>::new(), "{condition} {selection}");
    }
}

#[test]
fn rules_that_differ_in_mode_or_in_converted_leads_are_not_the_same() {
    let two = |lines: &str| {
        format!(
            "{}  - name: other\n    schedule: \"@daily\"\n    match: {{ stageId: JUNK }}\n{lines}",
            one("match: { stageId: JUNK }")
        )
    };
    assert_eq!(codes(&two("")), ["same-leads"]);
    assert_eq!(codes(&two("    grace_period: 24h\n")), ["same-leads"]);
    for lines in ["    mode: delete\n", "    include_converted: true\n", "    older_than: 1d\n"] {
        assert_eq!(codes(&two(lines)), Vec::<&str>::new(), "{lines}");
    }
}

/// Operators with values for a field, each once.
fn operators(
    field: &'static str,
    words: &'static [&'static str],
    values: &'static [&'static str],
) -> impl Strategy<Value = String> {
    let one = (prop::sample::select(words), prop::sample::select(values), prop::sample::select(values));
    prop::collection::vec(one, 1..4).prop_map(move |tests| {
        let mut written = std::collections::BTreeMap::new();
        for (word, value, other) in tests {
            let list = format!("[{value}, {other}]");
            written.entry(word).or_insert(match word {
                "in" | "not_in" => list,
                "empty" => (value < other).to_string(),
                _ => value.to_owned(),
            });
        }
        let written: Vec<String> = written.iter().map(|(word, value)| format!("{word}: {value}")).collect();
        format!("{field}: {{ {} }}", written.join(", "))
    })
}

/// Conditions on one field.
fn leaf() -> impl Strategy<Value = String> {
    const ORDER: &[&str] = &["gt", "gte", "lt", "lte", "eq", "in", "ne", "empty"];
    prop_oneof![
        operators("stageId", &["eq", "ne", "in", "not_in", "empty"], &["JUNK", "junk", "NEW", "S7"]),
        operators("opportunity", ORDER, &["-5", "0", "1", "2", "3"]),
        operators("opened", &["eq", "ne", "empty"], &["Y", "N"]),
        operators("createdTime", &["gt", "gte", "lt", "lte"], &["2026-11-19", "2026-11-21", "2026-11-24"]),
        operators("id", ORDER, &["1", "2", "5"])
            .prop_filter("an id has no emptiness", |text| !text.contains("empty")),
        operators("contactIds", &["eq", "ne", "in", "not_in"], &["1", "2"]),
    ]
}

/// A map of conditions.
fn selection() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        leaf().prop_map(|leaf| format!("not: {{ {leaf} }}")),
        (leaf(), leaf()).prop_map(|(a, b)| format!("any: [ {{ {a} }}, {{ {b} }} ]")),
        leaf().prop_map(|leaf| format!("any: [ {{ {leaf} }} ]")),
    ];
    (prop::collection::vec(leaf(), 1..3), prop::option::of(part)).prop_map(|(leaves, part)| {
        let mut seen = std::collections::BTreeSet::new();
        let unique =
            leaves.into_iter().filter(|leaf| seen.insert(leaf.split(':').next().unwrap().to_owned()));
        let parts: Vec<String> = unique.chain(part).collect();
        format!("{{ {} }}", parts.join(", "))
    })
}

fn lead() -> impl Strategy<Value = Lead> {
    let value = |values: Vec<Value>| prop::option::of(prop::sample::select(values));
    let stage = value(vec![json!("JUNK"), json!("New"), json!("S7"), json!("X"), json!(""), Value::Null]);
    let money =
        value(vec![json!(0), json!("1.00|EUR"), json!(3), json!(-5), json!(""), Value::Null, json!([])]);
    let opened = value(vec![json!("Y"), json!("N"), json!(true), Value::Null]);
    let created = value(
        (19..=25).map(|day| json!(format!("2026-11-{day}T09:00:00+01:00"))).chain([Value::Null]).collect(),
    );
    let contacts = value(vec![json!([1, 2]), json!([2]), json!([]), json!(1)]);
    (1i64..6, stage, money, opened, created, contacts).prop_map(
        |(id, stage, money, opened, created, contacts)| {
            let mut fields = Map::from_iter([("stageSemanticId".to_owned(), json!("F"))]);
            let named = [
                ("stageId", stage),
                ("opportunity", money),
                ("opened", opened),
                ("createdTime", created),
                ("contactIds", contacts),
            ];
            fields.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            Lead::new(LeadId::try_from(id).unwrap(), fields)
        },
    )
}

/// Rules of these selections behind one protection.
fn rules_text(selections: &[String], protection: &str, age: Option<u8>) -> String {
    let mut text =
        format!("version: 1\ntimezone: UTC\nprotect: [ {{ name: kept, match: {protection} }} ]\nrules:\n");
    for (index, selection) in selections.iter().enumerate() {
        text.push_str(&format!("  - {{ name: r{index}, schedule: \"@daily\", match: {selection}"));
        text.push_str(&age.map_or(" }\n".to_owned(), |days| format!(", older_than: {days}d }}\n")));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_warning_is_wrong(
        first in selection(),
        second in selection(),
        protection in selection(),
        age in prop::option::of(0u8..8),
        leads in prop::collection::vec(lead(), 1..40),
    ) {
        let rules = read("rules.yaml", &rules_text(&[first, second], &protection, age));
        let found = rules::lint(&rules, now());
        for warning in found {
            let rule = rules.rules.iter().find(|rule| rule.place.line == warning.line).unwrap();
            for lead in &leads {
                let verdict = decide::decide(rule, &rules.protections, lead, now());
                let wrong = match warning.code {
                    "never-matches" | "matches-nothing-yet" => {
                        !matches!(verdict, Verdict::NoMatch | Verdict::Undecidable)
                    }
                    "all-protected" => verdict == Verdict::Delete,
                    "same-leads" => {
                        let other = &rules.rules[0];
                        decide::decide(other, &rules.protections, lead, now()) != verdict
                    }
                    other => panic!("{other} is not expected here"),
                };
                prop_assert!(!wrong, "{warning}: {lead:?}");
            }
        }
    }
}
