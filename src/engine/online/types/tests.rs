//! Which types take which conditions, and what the help says.

use super::*;
use crate::core::compare::Order;
use crate::core::lead::read_time;

fn field() -> FieldName {
    FieldName::parse("ufCrm_1").unwrap()
}

fn info(kind: &str) -> FieldInfo {
    let options =
        if kind == "enumeration" { vec![(44, "small".to_owned()), (45, "Large".to_owned())] } else { vec![] };
    FieldInfo {
        kind: kind.to_owned(),
        is_multiple: false,
        is_read_only: false,
        title: String::new(),
        options,
    }
}

fn text(values: &[&str], negated: bool) -> Test {
    Test::TextIn { values: values.iter().copied().map(Text::new).collect(), negated }
}

fn help(kind: &str, test: &Test) -> String {
    mismatch(&field(), &info(kind), Asked::Test(test)).map_or_else(String::new, |found| found.help)
}

fn tests() -> Vec<Test> {
    let than = read_time(&serde_json::json!("2024-01-31T00:00:00Z")).unwrap();
    vec![
        text(&["Y"], false),
        Test::Contains(Text::new("a")),
        Test::StartsWith(Text::new("a")),
        Test::NumberIn { values: vec![44.0], negated: true },
        Test::NumberOrder { order: Order::Gt, than: 5.0 },
        Test::TimeOrder { order: Order::Lt, than },
        Test::Flag(true),
    ]
}

/// Which of [`tests`], and last an age, a type takes.
fn taken(info: &FieldInfo) -> String {
    let mut taken: Vec<bool> =
        tests().iter().map(|test| mismatch(&field(), info, Asked::Test(test)).is_none()).collect();
    taken.push(mismatch(&field(), info, Asked::Age).is_none());
    taken.into_iter().map(|taken| if taken { 'y' } else { '-' }).collect()
}

#[test]
fn every_type_takes_the_conditions_that_can_be_judged_on_it() {
    for (kind, expected) in [
        ("string", "yyy-y---"),
        ("url", "yyy-y---"),
        ("integer", "---yy---"),
        ("double", "---yy---"),
        ("money", "---yy---"),
        ("boolean", "------y-"),
        ("date", "-----y-y"),
        ("datetime", "-----y-y"),
        ("enumeration", "---y----"),
        ("employee", "---y----"),
        ("file", "--------"),
        ("crm", "yyyyyyyy"),
        ("rest_17_stars", "yyyyyyyy"),
    ] {
        assert_eq!(taken(&info(kind)), expected, "{kind}");
        for wanted in [true, false] {
            let empty = Test::Empty(wanted);
            assert_eq!(mismatch(&field(), &info(kind), Asked::Test(&empty)), None, "{kind}");
        }
    }
}

#[test]
fn several_values_have_no_order() {
    let several = |kind| FieldInfo { is_multiple: true, ..info(kind) };
    assert_eq!(taken(&several("string")), "yyy-----");
    assert_eq!(taken(&several("double")), "---y----");
    assert_eq!(taken(&several("datetime")), "--------");
    assert_eq!(taken(&several("enumeration")), "---y----");
}

#[test]
fn the_help_is_what_to_write_with_the_same_meaning() {
    for (kind, test, expected) in [
        ("boolean", text(&["Y"], false), "write ufCrm_1: true"),
        ("boolean", text(&["Y"], true), "write ufCrm_1: false"),
        ("boolean", text(&["no"], false), "write ufCrm_1: false"),
        ("boolean", Test::NumberIn { values: vec![0.0], negated: true }, ""),
        (
            "boolean",
            Test::NumberIn { values: vec![1.0, 2.0], negated: false },
            "write ufCrm_1: true or ufCrm_1: false",
        ),
        ("boolean", text(&["maybe"], false), "write ufCrm_1: true or ufCrm_1: false"),
        ("double", text(&["5.50"], true), "write it without quotes: ufCrm_1: { ne: 5.5 }"),
        ("integer", text(&["5", "6"], false), "write it without quotes: ufCrm_1: [5, 6]"),
        (
            "string",
            Test::NumberIn { values: vec![5.0, 6.0], negated: true },
            "put it in quotes: ufCrm_1: { not_in: [\"5\", \"6\"] }",
        ),
        (
            "enumeration",
            text(&["LARGE"], false),
            "write the option's number: ufCrm_1: 45; it has 44 (small), 45 (Large)",
        ),
        (
            "enumeration",
            text(&["huge"], false),
            "write the option's number, as the portal's leads hold it; it has 44 (small), 45 (Large)",
        ),
        (
            "enumeration",
            Test::NumberIn { values: vec![44.0, 46.0], negated: false },
            "write the number of an option; it has 44 (small), 45 (Large)",
        ),
    ] {
        assert_eq!(help(kind, &test), expected, "{kind} {test}");
    }
}
