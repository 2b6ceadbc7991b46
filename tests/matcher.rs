//! Promise 1, the deciding half: only what the rule as written selects is deleted, and what can't be judged is kept.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use std::collections::BTreeSet;

use b24_janitor::core::age::Age;
use b24_janitor::core::compare::{Order, Test, Text};
use b24_janitor::core::condition::Condition;
use b24_janitor::core::decide::{Guard, Verdict, decide, fields_needed, protects};
use b24_janitor::core::field::FieldName;
use b24_janitor::core::filter::server_filter;
use b24_janitor::core::lead::{Lead, LeadId};
use b24_janitor::core::rule::{KeepCopy, Limits, Mode, Place, Protection, Rule, RuleName};
use b24_janitor::core::schedule::Schedule;
use b24_janitor::core::spots::Spots;
use b24_janitor::core::trace::{self, Asked, Line, Names, Ruling};
use b24_janitor::core::truth::Truth;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn field(name: &str) -> FieldName {
    FieldName::parse(name).unwrap()
}

fn lead(fields: Value) -> Lead {
    let Value::Object(fields) = fields else { panic!("a lead is an object") };
    Lead::new(LeadId::try_from(7).unwrap(), fields)
}

fn rule(selection: Condition) -> Rule {
    Rule {
        name: RuleName::try_from("old-junk".to_owned()).unwrap(),
        description: None,
        mode: Mode::Delete,
        schedule: Schedule::parse("15 3 * * *", jiff::tz::TimeZone::UTC, "UTC", None).unwrap(),
        events: BTreeSet::new(),
        selection,
        include_converted: false,
        grace_period: Age::ZERO,
        keep_copy: KeepCopy::None,
        limits: Limits::default(),
        place: Place::default(),
        spots: Spots::default(),
    }
}

fn protection(condition: Condition) -> Protection {
    let name = RuleName::try_from("kept".to_owned()).unwrap();
    Protection {
        name,
        ids: BTreeSet::new(),
        condition: Some(condition),
        place: Place::default(),
        spots: Spots::default(),
    }
}

fn is(name: &str, test: Test) -> Condition {
    Condition::Field { field: field(name), test }
}

fn text_in(values: &[&str], negated: bool) -> Test {
    Test::TextIn { values: values.iter().map(|value| Text::new(*value)).collect(), negated }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!([])),
        Just(json!("JUNK")),
        Just(json!("junk")),
        Just(json!("NEW")),
        Just(json!("7")),
        Just(json!(7)),
        Just(json!("15000.00")),
        Just(json!(0)),
        Just(json!("Y")),
        Just(json!("N")),
        Just(json!(["JUNK", 7])),
        Just(json!("2026-01-01T00:00:00+03:00")),
        Just(json!("2027-01-01T00:00:00+03:00")),
        Just(json!("not a date")),
    ]
}

const NAMES: [&str; 6] = ["stageId", "title", "opportunity", "createdTime", "opened", "ufCrm_1"];

fn some_lead() -> impl Strategy<Value = Lead> {
    let semantic =
        prop_oneof![Just(Some(json!("P"))), Just(Some(json!("F"))), Just(Some(json!("S"))), Just(None)];
    (proptest::collection::vec(proptest::option::of(value()), NAMES.len()), semantic).prop_map(
        |(values, semantic)| {
            let mut fields = Map::new();
            for (name, value) in NAMES.iter().zip(values) {
                if let Some(value) = value {
                    fields.insert((*name).to_owned(), value);
                }
            }
            if let Some(semantic) = semantic {
                fields.insert("stageSemanticId".to_owned(), semantic);
            }
            Lead::new(LeadId::try_from(7).unwrap(), fields)
        },
    )
}

fn test() -> impl Strategy<Value = Test> {
    let order = prop_oneof![Just(Order::Gt), Just(Order::Gte), Just(Order::Lt), Just(Order::Lte)];
    prop_oneof![
        (proptest::sample::subsequence(vec!["JUNK", "NEW", "7"], 1..3), any::<bool>())
            .prop_map(|(values, negated)| text_in(&values, negated)),
        Just(Test::Contains(Text::new("un"))),
        Just(Test::StartsWith(Text::new("ju"))),
        any::<bool>().prop_map(|negated| Test::NumberIn { values: vec![7.0, 15_000.0], negated }),
        (order.clone(), -1.0f64..20_000.0).prop_map(|(order, than)| Test::NumberOrder { order, than }),
        order.prop_map(|order| Test::TimeOrder { order, than: "2026-02-01T00:00:00Z".parse().unwrap() }),
        any::<bool>().prop_map(Test::Flag),
        any::<bool>().prop_map(Test::Empty),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        (proptest::sample::select(NAMES.to_vec()), test()).prop_map(|(name, test)| is(name, test)),
        (proptest::sample::select(vec!["createdTime", "ufCrm_1"]), 0u32..400)
            .prop_map(|(name, days)| Condition::OlderThan { field: field(name), age: Age::days(days) }),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Condition::All),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Condition::Any),
            inner.prop_map(|part| Condition::Not(Box::new(part))),
        ]
    })
}

fn reversed(condition: &Condition) -> Condition {
    match condition {
        Condition::All(parts) => Condition::All(parts.iter().rev().map(reversed).collect()),
        Condition::Any(parts) => Condition::Any(parts.iter().rev().map(reversed).collect()),
        Condition::Not(part) => Condition::Not(Box::new(reversed(part))),
        leaf @ (Condition::Field { .. } | Condition::OlderThan { .. }) => leaf.clone(),
    }
}

fn deletes(rule: &Rule, protections: &[Protection], lead: &Lead) -> bool {
    decide(rule, protections, lead, now()) == Verdict::Delete
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_protection_never_adds_a_deletion(selection in condition(), kept in condition(), lead in some_lead()) {
        let rule = rule(selection);
        if deletes(&rule, &[protection(kept.clone())], &lead) {
            prop_assert!(deletes(&rule, &[], &lead));
            prop_assert_eq!(kept.judge(&lead, now()), Truth::No, "only a sure no lets a lead past a protection");
        }
    }

    #[test]
    fn taking_data_away_never_adds_a_deletion(selection in condition(), lead in some_lead(), gone in 0usize..7) {
        let mut fields = lead.fields().clone();
        let name = NAMES.get(gone).copied().unwrap_or("stageSemanticId");
        fields.remove(name);
        let poorer = Lead::new(lead.id, fields);
        let rule = rule(selection);
        if deletes(&rule, &[], &poorer) {
            prop_assert!(deletes(&rule, &[], &lead));
        }
    }

    #[test]
    fn the_order_of_parts_changes_nothing(selection in condition(), lead in some_lead()) {
        prop_assert_eq!(selection.judge(&lead, now()), reversed(&selection).judge(&lead, now()));
    }

    #[test]
    fn twice_not_is_nothing(selection in condition(), lead in some_lead()) {
        let twice = Condition::Not(Box::new(Condition::Not(Box::new(selection.clone()))));
        prop_assert_eq!(selection.judge(&lead, now()), twice.judge(&lead, now()));
    }

    #[test]
    fn a_lead_that_the_rule_selects_never_accuses_the_server(selection in condition(), lead in some_lead()) {
        let rule = rule(selection);
        let filter = server_filter(&rule, now());
        if !matches!(decide(&rule, &[], &lead, now()), Verdict::NoMatch) {
            prop_assert!(filter.contradicted_by(&lead).is_none());
        }
    }

    #[test]
    fn a_lead_without_its_meaning_or_converted_is_kept(selection in condition(), lead in some_lead()) {
        let rule = rule(selection);
        if deletes(&rule, &[], &lead) {
            prop_assert!(matches!(lead.get("stageSemanticId").and_then(Value::as_str), Some("P" | "F")));
        }
    }

    #[test]
    fn the_deciding_leaves_of_a_sure_answer_are_sure(selection in condition(), lead in some_lead()) {
        let leaves = selection.deciding(&lead, now());
        prop_assert!(!leaves.is_empty());
        if selection.judge(&lead, now()) == Truth::Undecidable {
            prop_assert!(leaves.iter().any(|leaf| leaf.truth == Truth::Undecidable));
        } else {
            prop_assert!(leaves.iter().all(|leaf| leaf.truth != Truth::Undecidable));
        }
    }
}

/// What follows from the lines below, by the rules of three-valued logic.
fn follows(line: &Line) -> Truth {
    let inner = match &line.asked {
        Asked::All(parts) => Truth::all(parts.iter().map(follows)),
        Asked::Any(parts) => Truth::any(parts.iter().map(follows)),
        Asked::Not(part) => !follows(part),
        Asked::Value { .. } => line.truth,
    };
    assert_eq!(inner, line.truth, "{line:?}");
    inner
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_trace_ends_in_the_verdict_of_the_matcher(
        selection in condition(),
        kept in proptest::option::of(condition()),
        named in any::<bool>(),
        include_converted in any::<bool>(),
        lead in some_lead(),
    ) {
        let rule = Rule { include_converted, ..rule(selection) };
        let mut protections: Vec<Protection> = kept.map(protection).into_iter().collect();
        if named {
            let name = RuleName::try_from("pinned".to_owned()).unwrap();
            let ids = BTreeSet::from([lead.id]);
            protections.push(Protection { name, ids, condition: None, place: Place::default(), spots: Spots::default() });
        }
        let guards = trace::protections(&protections, &lead, now(), &Names::default());
        let trace = trace::rule(&rule, &guards, &lead, now(), &Names::default());
        follows(&trace.selection);
        for (guard, protection) in guards.iter().zip(&protections) {
            prop_assert_eq!(guard.protects, protects(protection, &lead, now()));
            guard.condition.as_ref().map(follows);
        }
        let (ruling, by) = match decide(&rule, &protections, &lead, now()) {
            Verdict::Delete => (Ruling::Delete, None),
            Verdict::NoMatch => (Ruling::NoMatch, None),
            Verdict::Undecidable => (Ruling::Undecidable, None),
            Verdict::Protected(Guard::Converted) => (Ruling::Protected, Some("converted")),
            Verdict::Protected(Guard::Named(by)) => (Ruling::Protected, Some(by.name.as_str())),
        };
        prop_assert_eq!((trace.verdict, trace.protected_by.as_deref()), (ruling, by));
    }
}

#[test]
fn a_trace_shows_codes_and_numbers_and_describes_what_may_be_personal() {
    let person = lead(json!({
        "title": "Anna Petrova", "sourceId": "CALL", "opportunity": "15.00", "ufCrm_1": "491701234567",
        "ufCrm_2": [{ "value": "a@b.de" }], "ufCrm_3": [5, 7], "comments": "", "movedTime": null, "birthdate": "1990-01-01",
    }));
    let shown =
        |name: &str| match Line::of(&is(name, Test::Empty(true)), &person, now(), &Names::default()).asked {
            Asked::Value { actual, .. } => actual,
            other => panic!("{other:?}"),
        };
    for (name, value) in [
        ("title", "a value of 12 characters, not shown"),
        ("ufCrm_1", "a value of 12 characters, not shown"),
        ("ufCrm_2", "a list of 1, not shown"),
        ("ufCrm_3", "[5,7]"),
        ("sourceId", "CALL"),
        ("opportunity", "15.00"),
        ("comments", "\"\""),
        ("movedTime", "null"),
    ] {
        assert_eq!(shown(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(shown("birthdate").as_deref(), Some("a value of 10 characters, not shown"));
    assert_eq!(shown("lastName"), None, "the reply had no such field");
}

#[test]
fn a_date_in_the_future_is_undecidable_even_for_a_negated_rule() {
    let tomorrow = lead(json!({ "createdTime": "2026-06-02T12:00:00+00:00", "stageSemanticId": "F" }));
    let old = Condition::OlderThan { field: field("createdTime"), age: Age::days(90) };
    assert_eq!(old.judge(&tomorrow, now()), Truth::Undecidable);
    assert_eq!(Condition::Not(Box::new(old)).judge(&tomorrow, now()), Truth::Undecidable);
}

#[test]
fn a_date_that_could_not_be_read_is_never_old() {
    for broken in
        ["", "0000-00-00", "-0001-11-30T00:00:00+00:00", "1970-01-01T00:00:00+00:00", "2026-01-01 10:00:00"]
    {
        let lead = lead(json!({ "createdTime": broken, "stageSemanticId": "F" }));
        let old = Condition::OlderThan { field: field("createdTime"), age: Age::ZERO };
        assert_eq!(old.judge(&lead, now()), Truth::Undecidable, "{broken:?}");
    }
}

#[test]
fn exactly_as_old_as_asked_counts_and_a_second_younger_does_not() {
    let old = Condition::OlderThan { field: field("createdTime"), age: Age::days(90) };
    let at = |text: &str| lead(json!({ "createdTime": text }));
    assert_eq!(old.judge(&at("2026-03-03T15:00:00+03:00"), now()), Truth::Yes);
    assert_eq!(old.judge(&at("2026-03-03T15:00:01+03:00"), now()), Truth::No);
}

#[test]
fn text_is_compared_without_case_in_every_script_and_with_nothing_else_ignored() {
    let passes = |wanted: &str, actual: &str| {
        is("title", text_in(&[wanted], false)).judge(&lead(json!({ "title": actual })), now())
    };
    assert_eq!(passes("мусор", "МУСОР"), Truth::Yes);
    assert_eq!(passes("STRASSE", "straße"), Truth::Yes);
    assert_eq!(passes("resume", "résumé"), Truth::No);
    assert_eq!(passes("junk", "junk "), Truth::No);
}

#[test]
fn null_is_no_value_to_compare_but_is_empty() {
    let nothing = lead(json!({ "sourceId": null, "contactIds": [] }));
    assert_eq!(is("sourceId", text_in(&["CALL"], true)).judge(&nothing, now()), Truth::Undecidable);
    assert_eq!(is("sourceId", Test::Empty(true)).judge(&nothing, now()), Truth::Yes);
    assert_eq!(is("title", Test::Empty(true)).judge(&nothing, now()), Truth::Undecidable, "a missing key");
    assert_eq!(
        is("contactIds", Test::NumberIn { values: vec![5.0], negated: false }).judge(&nothing, now()),
        Truth::No
    );
}

#[test]
fn an_undecidable_protection_protects() {
    let rich = protection(is("opportunity", Test::NumberOrder { order: Order::Gt, than: 0.0 }));
    let unknown = lead(json!({ "opportunity": null, "stageId": "JUNK", "stageSemanticId": "F" }));
    assert!(protects(&rich, &unknown, now()));
    let junk = rule(is("stageId", text_in(&["JUNK"], false)));
    assert_eq!(
        decide(&junk, std::slice::from_ref(&rich), &unknown, now()),
        Verdict::Protected(Guard::Named(&rich))
    );
}

#[test]
fn what_a_rule_needs_is_asked_for() {
    let junk = rule(is("title", Test::Contains(Text::new("test"))));
    let kept = [protection(is("ufCrm_1", Test::Empty(false)))];
    let fields = fields_needed(&junk, &kept);
    for name in ["id", "title", "ufCrm_1", "stageSemanticId"] {
        assert!(fields.iter().any(|field| field == name), "{name}");
    }
}

#[test]
fn a_server_that_ignores_the_filter_is_caught_by_an_exact_condition_and_not_by_a_text() {
    let selection = Condition::All(vec![
        is("stageId", text_in(&["JUNK"], false)),
        is("title", Test::Contains(Text::new("test"))),
    ]);
    let filter = server_filter(&rule(selection), now());
    assert_eq!(Value::Object(filter.json.clone()), json!({ "=stageId": "JUNK", "%title": "test" }));
    let other = lead(json!({ "stageId": "NEW", "title": "test" }));
    assert_eq!(filter.contradicted_by(&other).unwrap().clause(), "stageId is NEW, wanted: eq JUNK");
    let looser = lead(json!({ "stageId": "JUNK", "title": "tést" }));
    assert!(filter.contradicted_by(&looser).is_none());
    let unknown = lead(json!({ "stageId": null, "title": "test" }));
    assert!(filter.contradicted_by(&unknown).is_none(), "null proves nothing");
}

#[test]
fn a_history_never_holds_a_text_of_the_lead() {
    let selection = is("title", text_in(&["spam"], false));
    let personal = lead(json!({ "title": "Anna Petrova +49 170 1234567", "stageSemanticId": "F" }));
    let clause = selection.deciding(&personal, now()).first().unwrap().clause();
    assert_eq!(clause, "title has another value, wanted: eq spam");
}
