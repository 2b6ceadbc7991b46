//! Tests of rules (`*.test.yaml`): what a case says, and every mistake in one pass.
//!
//! `rules_tests/` holds one file a mistake and, beside it, what the program says about it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of a test may panic like the test itself"
)]

use std::fs;
use std::path::PathBuf;

use b24_janitor::core::rule::RuleSet;
use b24_janitor::rules::{self, Decision, Diagnostic, Input, Tests, grammar};

const RULES: &str = "version: 1
timezone: Europe/Berlin
protect:
  - { name: has-money, match: { opportunity: { gt: 0 } } }
rules:
  - { name: old-junk, schedule: \"@daily\", match: { stageId: JUNK }, older_than: 90d }
  - { name: spam, schedule: \"@daily\", match: { sourceId: CALLBACK }, include_converted: true }
";

fn input(file: &str, text: &str) -> Input {
    Input { file: file.to_owned(), bytes: text.as_bytes().to_vec() }
}

fn rendered(found: Vec<Diagnostic>) -> String {
    found.iter().map(|one| one.render(false)).collect::<Vec<_>>().join("\n\n")
}

fn rules() -> RuleSet {
    rules::parse(&[input("rules.yaml", RULES)]).map_err(rendered).unwrap().rules
}

/// The case of a file with this lead for this rule.
fn tests(lead: &str, rule: &str, expect: &str) -> Tests {
    let text = format!(
        "now: 2026-11-25T12:00:00Z\ncases:\n  - name: it\n    lead: {lead}\n    rule: {rule}\n    expect: {expect}\n"
    );
    rules::parse_tests(&input("a.test.yaml", &text)).map_err(rendered).unwrap()
}

/// What a rule says of a lead, and why.
fn says(lead: &str, rule: &str) -> (Decision, String) {
    let tests = tests(lead, rule, "delete");
    let results = rules::run_cases(&tests, &rules()).map_err(rendered).unwrap();
    assert_eq!(results[0].passed(), results[0].decision == Decision::Delete);
    (results[0].decision, results[0].reason.clone())
}

#[test]
fn every_mistake_has_its_message() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rules_tests");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 7);
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let found = match rules::parse_tests(&input(&name, &text)) {
            Ok(tests) => rules::run_cases(&tests, &rules()).map(|_| ()).unwrap_err(),
            Err(found) => found,
        };
        insta::with_settings!({
            snapshot_path => &folder,
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name.split('.').next().unwrap(), rendered(found));
        });
    }
}

#[test]
fn a_case_is_judged_as_every_lead_is() {
    let old = "createdTime: 2026-01-01T00:00:00+01:00";
    for (lead, rule, decision, reason) in [
        (
            format!("{{ stageId: JUNK, {old}, opportunity: 0 }}"),
            "old-junk",
            Decision::Delete,
            "stageId is JUNK",
        ),
        (
            format!("{{ stageId: JUNK, {old}, opportunity: \"5.00|EUR\" }}"),
            "old-junk",
            Decision::Protected,
            "protected by has-money: opportunity is 5.00|EUR",
        ),
        (format!("{{ stageId: JUNK, {old} }}"), "old-junk", Decision::Protected, "opportunity is missing"),
        (format!("{{ stageId: NEW, {old} }}"), "old-junk", Decision::NoMatch, "stageId is NEW"),
        (
            "{ stageId: JUNK, opportunity: 0 }".to_owned(),
            "old-junk",
            Decision::Undecidable,
            "createdTime is missing",
        ),
        ("{ sourceId: null }".to_owned(), "spam", Decision::Undecidable, "sourceId is empty"),
        (
            "{ id: 7, sourceId: CALLBACK, opportunity: 0 }".to_owned(),
            "spam",
            Decision::Delete,
            "sourceId passes",
        ),
    ] {
        let (said, why) = says(&lead, rule);
        assert_eq!(said, decision, "{lead}: {why}");
        assert!(why.contains(reason), "{lead}: {why}");
    }
}

#[test]
fn a_stage_has_the_meaning_that_an_unchanged_portal_gives_it_unless_the_case_says_otherwise() {
    let rules = rules::parse(&[input(
        "rules.yaml",
        "version: 1\ntimezone: UTC\nrules:\n  - { name: any, schedule: \"@daily\", match: { title: x } }\n",
    )])
    .unwrap()
    .rules;
    for (lead, decision) in [
        ("{ title: x }", Decision::Delete),
        ("{ title: x, stageId: JUNK }", Decision::Delete),
        ("{ title: x, stageId: CONVERTED }", Decision::Protected),
        ("{ title: x, stageId: NEW, stageSemanticId: S }", Decision::Protected),
        ("{ title: x, stageId: CONVERTED, stageSemanticId: P }", Decision::Delete),
        ("{ title: x, stageSemanticId: null }", Decision::Protected),
    ] {
        let tests = tests(lead, "any", "delete");
        assert_eq!(rules::run_cases(&tests, &rules).unwrap()[0].decision, decision, "{lead}");
    }
}

#[test]
fn the_reason_is_part_of_what_is_expected() {
    for (part, passes) in [("is JUNK", true), ("is NEW", false)] {
        let text = format!(
            "now: 2026-11-25T12:00:00Z\ncases: [ {{ name: a, rule: old-junk, expect: delete, reason: {part}, \
             lead: {{ stageId: JUNK, opportunity: 0, createdTime: 2026-01-01T00:00:00Z }} }} ]\n"
        );
        let tests = rules::parse_tests(&input("a.test.yaml", &text)).map_err(rendered).unwrap();
        let results = rules::run_cases(&tests, &rules()).unwrap();
        assert_eq!((results[0].decision, results[0].passed()), (Decision::Delete, passes));
    }
}

#[test]
fn expectations_are_the_decisions() {
    let words: Vec<&str> = Decision::ALL.iter().map(|decision| decision.as_str()).collect();
    assert_eq!(words, grammar::EXPECTATIONS);
    for word in words {
        assert_eq!(tests("{ title: x }", "spam", word).cases[0].expect.as_str(), word);
    }
}

#[test]
fn the_place_and_the_rules_of_a_file_are_kept() {
    let text = "now: 2026-11-25T12:00:00+01:00\nrules: ../rules.yaml\ncases:\n  - { name: a, lead: { id: 3 }, rule: spam, expect: no_match }\n";
    let tests = rules::parse_tests(&input("folder/a.test.yaml", text)).unwrap();
    assert_eq!((tests.file(), tests.rules.as_deref()), ("folder/a.test.yaml", Some("../rules.yaml")));
    assert_eq!((tests.now.to_string().as_str(), tests.cases[0].line), ("2026-11-25T11:00:00Z", 4));
}

#[test]
fn tests_beside_rules_are_found_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.test.yaml", "a.test.yaml", ".c.test.yaml", "rules.yaml"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    for path in [folder.path().to_owned(), folder.path().join("rules.yaml")] {
        let found = rules::read_tests(&path).unwrap();
        let names: Vec<&str> = found.iter().map(|input| input.file.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.test.yaml", "b.test.yaml"]);
    }
}
