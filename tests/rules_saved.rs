//! A lead that is saved as tests of rules: every case passes, and nothing personal is in it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use b24_janitor::core::lead::{Lead, LeadId};
use b24_janitor::core::rule::RuleSet;
use b24_janitor::rules::{Decision, Input, SavedTests, parse, parse_tests, run_cases, save};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn input(file: &str, text: &str) -> Input {
    Input { file: file.to_owned(), bytes: text.as_bytes().to_vec() }
}

fn rules(selection: &str) -> RuleSet {
    let text = format!(
        "version: 1\ntimezone: Europe/Berlin\nprotect:\n  - {{ name: kept, match: {{ name: Anna }}, ids: [9] }}\n\
         rules:\n  - name: one\n    schedule: \"@daily\"\n    match: {selection}\n"
    );
    parse(&[input("rules.yaml", &text)]).unwrap_or_else(|found| panic!("{selection}: {found:?}")).rules
}

fn lead(fields: Value) -> Lead {
    let Value::Object(fields) = fields else { panic!("a lead is an object") };
    Lead::new(LeadId::try_from(7).unwrap(), fields)
}

/// What the saved cases say when they are read again: all of them pass.
fn decisions(rules: &RuleSet, saved: &SavedTests) -> Vec<Decision> {
    let tests = parse_tests(&input("saved.test.yaml", &saved.yaml))
        .unwrap_or_else(|found| panic!("{}: {found:?}", saved.yaml));
    let results = run_cases(&tests, rules).unwrap();
    assert!(results.iter().all(|result| result.passed()), "{}: {results:?}", saved.yaml);
    results.into_iter().map(|result| result.decision).collect()
}

const PERSON: &str = "Zoë Personova";

fn personal(text: &str) -> bool {
    text.contains(PERSON) || text.contains("491701234567") || text.contains("1985")
}

/// Selections that ask for texts and user fields in every way there is.
const SELECTIONS: [&str; 12] = [
    "{ title: spam }",
    "{ title: { ne: spam } }",
    "{ title: { contains: per }, stageId: JUNK }",
    "{ title: { starts_with: zo, contains: per } }",
    "{ title: { empty: false }, comments: { empty: true } }",
    "{ any: [ { title: { in: [spam, test] } }, { lastName: { starts_with: A } } ] }",
    "{ not: { title: { contains: \"o\" } } }",
    "{ ufCrm_1: { gt: 100 } }",
    "{ ufCrm_1: { in: [5, 7] }, opened: Y }",
    "{ ufCrm_1: { lt: 2026-01-01 } }",
    "{ ufCrm_1: { contains: sonova } }",
    "{ birthdate: { lt: 1990-01-01 }, assignedById: { in: [1, 2] } }",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!([])),
        Just(json!(PERSON)),
        Just(json!("SPAM")),
        Just(json!("491701234567")),
        Just(json!(7)),
        Just(json!(0.5)),
        Just(json!(true)),
        Just(json!("Y")),
        Just(json!([PERSON, 5])),
        Just(json!([5, 7])),
        Just(json!({ "value": PERSON })),
        Just(json!("1985-05-05T00:00:00+03:00")),
        Just(json!("line\nbreak \"quoted\" # no comment: {{ }} \u{7}\u{1f600}")),
    ]
}

const FIELDS: [&str; 9] =
    ["title", "comments", "lastName", "name", "stageId", "ufCrm_1", "opened", "birthdate", "assignedById"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_saved_case_passes_says_what_the_lead_said_and_holds_nothing_personal(
        selection in proptest::sample::select(SELECTIONS.to_vec()),
        values in proptest::collection::vec(proptest::option::of(value()), FIELDS.len()),
        semantic in proptest::option::of(prop_oneof![Just("P"), Just("S"), Just("")]),
    ) {
        let rules = rules(selection);
        let mut fields = Map::new();
        for (name, value) in FIELDS.iter().zip(values) {
            // A stage, a flag or a user's id is never a name or a phone number.
            let of_code = matches!(*name, "stageId" | "opened" | "assignedById");
            if let Some(value) = value.filter(|value| !(of_code && personal(&value.to_string()))) {
                fields.insert((*name).to_owned(), value);
            }
        }
        if let Some(semantic) = semantic {
            fields.insert("stageSemanticId".to_owned(), json!(semantic));
        }
        let lead = lead(Value::Object(fields));
        let said = b24_janitor::core::decide::decide(&rules.rules[0], &rules.protections, &lead, now());
        let saved = save(&rules, &lead, now());
        prop_assert!(!personal(&saved.yaml), "{}", saved.yaml);
        if saved.cases == 0 {
            prop_assert!(!saved.notes.is_empty(), "what is not written is said");
        } else {
            prop_assert_eq!(decisions(&rules, &saved), vec![Decision::from(said)]);
        }
    }
}

#[test]
fn a_placeholder_keeps_the_truth_of_every_condition() {
    let rules = rules("{ title: { starts_with: zo, contains: per }, stageId: JUNK }");
    let saved = save(
        &rules,
        &lead(json!({ "title": PERSON, "stageId": "JUNK", "name": "Eva", "phone": "1" })),
        now(),
    );
    assert_eq!(decisions(&rules, &saved), [Decision::Protected], "nothing says that it isn't converted");
    assert!(
        saved.yaml.contains("title: \"zoper\"") && saved.yaml.contains("name: \"text\""),
        "{}",
        saved.yaml
    );
    assert!(!saved.yaml.contains("phone"), "no rule reads it: {}", saved.yaml);
    assert_eq!(saved.notes.len(), 2, "{:?}", saved.notes);
}

#[test]
fn a_value_without_a_placeholder_is_left_out_and_the_case_with_it_if_it_mattered() {
    // Whatever could stand for `zzz` has one of these letters in it.
    let all = "any: [ { title: { contains: t } }, { title: { contains: \"-\" } }, { title: { contains: \"0\" } }, \
               { title: { contains: u } }, { title: { contains: \"№\" } }, { stageId: JUNK } ]";
    let rules = rules(&format!("{{ {all} }}"));
    let saved = |stage: &str| {
        save(
            &rules,
            &lead(json!({ "title": "zzz", "stageId": stage, "stageSemanticId": "F", "name": "Eva" })),
            now(),
        )
    };
    let irrelevant = saved("JUNK");
    assert_eq!(decisions(&rules, &irrelevant), [Decision::Delete]);
    assert!(irrelevant.notes.iter().any(|note| note.contains("title is left out")), "{irrelevant:?}");
    let mattered = saved("NEW");
    assert_eq!(mattered.cases, 0);
    assert!(mattered.notes.iter().any(|note| note.contains("no case")), "{mattered:?}");
}

#[test]
fn a_rule_that_asks_for_a_letter_of_the_placeholder_gets_another() {
    let rules = rules("{ title: { contains: t } }");
    let saved = save(&rules, &lead(json!({ "title": "zzz", "stageId": "NEW" })), now());
    assert_eq!(decisions(&rules, &saved), [Decision::NoMatch]);
}
