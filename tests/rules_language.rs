//! The rules language as a user meets it: what is accepted and what it means, and every mistake's message.
//!
//! `rules_bad/` holds one file a mistake and, beside it, what the program says about it.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::fs;
use std::path::PathBuf;

use b24_janitor::core::age::Age;
use b24_janitor::core::condition::Condition;
use b24_janitor::core::lead::{Lead, LeadId};
use b24_janitor::core::rule::{KeepCopy, Mode, Place, PortalLimits, Rule};
use b24_janitor::core::truth::Truth;
use b24_janitor::rules::{self, Diagnostic, Input, Loaded, Severity};
use jiff::Timestamp;
use serde_json::json;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn parse(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    rules::parse(&[Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() }])
}

fn input(file: &str, text: &str) -> Input {
    Input { file: file.to_owned(), bytes: text.as_bytes().to_vec() }
}

/// The only rule of a file in the zone of Berlin, with these lines of its own.
fn rule(lines: &str) -> Rule {
    let text = format!(
        "version: 1\ntimezone: Europe/Berlin\nrules:\n  - name: it\n    schedule: \"15 3 * * *\"\n{lines}\n"
    );
    let loaded = parse(&text).map_err(|found| rendered(Err(found))).unwrap();
    loaded.rules.rules.into_iter().next().unwrap()
}

/// What the condition of a rule with this `match` says of a lead with these fields.
fn judge(selection: &str, fields: serde_json::Value) -> Truth {
    let serde_json::Value::Object(fields) = fields else { panic!("fields are an object") };
    let lead = Lead::new(LeadId::try_from(7).unwrap(), fields);
    rule(&format!("    match: {selection}")).selection.judge(&lead, at("2026-11-25T12:00:00Z"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn codes(result: Result<Loaded, Vec<Diagnostic>>) -> Vec<&'static str> {
    result.unwrap_err().iter().map(|diagnostic| diagnostic.code).collect()
}

fn rendered(result: Result<Loaded, Vec<Diagnostic>>) -> String {
    let found = result.map_or_else(|found| found, |loaded| loaded.warnings);
    found.iter().map(|diagnostic| diagnostic.render(false)).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn every_mistake_has_its_message() {
    let folder = root().join("tests/rules_bad");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 45);
    for path in paths {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let input = Input { file: format!("{stem}.yaml"), bytes: fs::read(&path).unwrap() };
        let result = rules::parse(&[input]);
        assert_eq!(result.is_ok(), stem.starts_with("warn_"), "{stem}");
        let found = rendered(result);
        assert!(!found.is_empty(), "{stem} has no message");
        insta::with_settings!({
            snapshot_path => &folder,
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(stem, found);
        });
    }
}

#[test]
fn the_example_is_accepted_plans_only_and_shows_every_key() {
    let text = fs::read_to_string(root().join("rules.example.yaml")).unwrap();
    let loaded = parse(&text).map_err(|found| rendered(Err(found))).unwrap();
    assert_eq!(loaded.warnings, []);
    assert!(loaded.rules.rules.iter().all(|rule| rule.mode == Mode::Plan));
    for key in rules::grammar::KEYS.iter().filter(|key| !key.section.is_of_tests()) {
        assert!(text.contains(&format!("{}:", key.name)), "the example does not show `{}`", key.name);
    }
    for (_, word, _, _) in rules::grammar::OPERATORS {
        assert!(text.contains(word), "the example does not name `{word}`");
    }
}

#[test]
fn fields_of_a_map_and_operators_of_a_field_must_all_hold() {
    let selection = "{ stageId: [JUNK, \"7\"], opportunity: { gte: 10, lt: 20 } }";
    assert_eq!(judge(selection, json!({"stageId": "7", "opportunity": 10})), Truth::Yes);
    assert_eq!(judge(selection, json!({"stageId": "NEW", "opportunity": 10})), Truth::No);
    assert_eq!(judge(selection, json!({"stageId": "JUNK", "opportunity": 20})), Truth::No);
    assert_eq!(judge(selection, json!({"stageId": "JUNK", "opportunity": 9.5})), Truth::No);
}

#[test]
fn any_needs_one_part_and_not_none_of_them() {
    let selection =
        "{ any: [ { stageId: JUNK, opened: Y }, { sourceId: WEB } ], not: { title: { contains: keep } } }";
    let lead = |stage: &str, opened: &str, source: &str, title: &str| json!({"stageId": stage, "opened": opened, "sourceId": source, "title": title});
    assert_eq!(judge(selection, lead("JUNK", "Y", "CALL", "x")), Truth::Yes);
    assert_eq!(judge(selection, lead("JUNK", "N", "CALL", "x")), Truth::No);
    assert_eq!(judge(selection, lead("NEW", "N", "WEB", "x")), Truth::Yes);
    assert_eq!(judge(selection, lead("NEW", "N", "WEB", "Keep me")), Truth::No);
}

#[test]
fn every_operator_asks_what_its_name_says() {
    for (selection, yes, no) in [
        ("{ title: { eq: a } }", json!({"title": "A"}), json!({"title": "ab"})),
        ("{ title: { ne: a } }", json!({"title": "b"}), json!({"title": "a"})),
        ("{ title: { in: [a, b] } }", json!({"title": "b"}), json!({"title": "c"})),
        ("{ title: { not_in: [a, b] } }", json!({"title": "c"}), json!({"title": "b"})),
        ("{ title: { contains: b } }", json!({"title": "abc"}), json!({"title": "ac"})),
        ("{ title: { starts_with: b } }", json!({"title": "bc"}), json!({"title": "ab"})),
        ("{ title: { empty: true } }", json!({"title": ""}), json!({"title": "a"})),
        ("{ title: { empty: false } }", json!({"title": "a"}), json!({"title": null})),
        ("{ opportunity: { gt: 1 } }", json!({"opportunity": 2}), json!({"opportunity": 1})),
        ("{ opportunity: { gte: 1 } }", json!({"opportunity": 1}), json!({"opportunity": 0.5})),
        ("{ opportunity: { lt: 1 } }", json!({"opportunity": 0.5}), json!({"opportunity": 1})),
        ("{ opportunity: { lte: 1 } }", json!({"opportunity": 1}), json!({"opportunity": 1.5})),
        ("{ opened: Y }", json!({"opened": "Y"}), json!({"opened": "N"})),
        ("{ opened: \"N\" }", json!({"opened": "N"}), json!({"opened": "Y"})),
        ("{ opened: true }", json!({"opened": "Y"}), json!({"opened": "N"})),
        ("{ opened: { ne: Y } }", json!({"opened": "N"}), json!({"opened": "Y"})),
        ("{ assignedById: { not_in: [1, 2] } }", json!({"assignedById": 3}), json!({"assignedById": "2"})),
        ("{ id: { lte: 7 } }", json!({}), json!({"id": "no matter"})),
    ] {
        assert_eq!(judge(selection, yes), Truth::Yes, "{selection}");
        if !selection.contains("id:") {
            assert_eq!(judge(selection, no), Truth::No, "{selection}");
        }
    }
}

#[test]
fn a_date_means_the_whole_day_in_the_rules_zone() {
    // Berlin is an hour ahead of UTC in January: the 31st lasts from 23:00Z to 23:00Z.
    for (selection, yes, no) in [
        ("{ createdTime: { lt: 2024-01-31 } }", "2024-01-30T22:59:59Z", "2024-01-30T23:00:00Z"),
        ("{ createdTime: { gte: 2024-01-31 } }", "2024-01-30T23:00:00Z", "2024-01-30T22:59:59Z"),
        ("{ createdTime: { lte: 2024-01-31 } }", "2024-01-31T22:59:59Z", "2024-01-31T23:00:00Z"),
        ("{ createdTime: { gt: \"2024-01-31\" } }", "2024-01-31T23:00:00Z", "2024-01-31T22:59:59Z"),
        ("{ createdTime: { lt: 2024-01-31T10:00:00 } }", "2024-01-31T08:59:59Z", "2024-01-31T09:00:00Z"),
        (
            "{ createdTime: { lt: 2024-01-31T10:00:00+03:00 } }",
            "2024-01-31T06:59:59Z",
            "2024-01-31T07:00:00Z",
        ),
    ] {
        assert_eq!(judge(selection, json!({"createdTime": yes})), Truth::Yes, "{selection}");
        assert_eq!(judge(selection, json!({"createdTime": no})), Truth::No, "{selection}");
    }
}

#[test]
fn a_date_is_in_the_zone_of_its_own_rule() {
    let mine = rule("    timezone: Asia/Yekaterinburg\n    match: { createdTime: { lt: 2024-01-31 } }");
    let theirs = rule("    match: { createdTime: { lt: 2024-01-30T20:00:00+01:00 } }");
    assert_eq!(mine.selection, theirs.selection);
}

#[test]
fn a_user_fields_value_is_meant_as_it_is_written() {
    let text = judge("{ ufCrm_1: \"7\" }", json!({"ufCrm_1": "7"}));
    let number = judge("{ ufCrm_1: 7 }", json!({"ufCrm_1": "7.0"}));
    let flag = judge("{ ufCrm_1: true }", json!({"ufCrm_1": "Y"}));
    let date = judge("{ ufCrm_1: { lt: 2024-01-31 } }", json!({"ufCrm_1": "2024-01-01T00:00:00+03:00"}));
    assert_eq!([text, number, flag, date], [Truth::Yes; 4]);
    assert_eq!(judge("{ ufCrm_1: \"7\" }", json!({"ufCrm_1": "7.0"})), Truth::No);
}

#[test]
fn older_than_comes_last_and_means_the_creation_unless_it_names_a_field() {
    let field = |rule: &Rule| match &rule.selection {
        Condition::All(parts) => match parts.last() {
            Some(Condition::OlderThan { field, age }) => (parts.len(), field.to_string(), *age),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let short = rule("    older_than: 90d\n    match: { stageId: JUNK }");
    assert_eq!(field(&short), (2, "createdTime".to_owned(), Age::days(90)));
    let long = rule("    older_than: { field: movedTime, age: 2w }\n    match: { stageId: JUNK }");
    assert_eq!(field(&long), (2, "movedTime".to_owned(), Age::days(14)));
}

#[test]
fn what_a_rule_leaves_out_comes_from_its_files_defaults_and_then_from_the_built_in_ones() {
    let bare = rule("    match: { stageId: JUNK }");
    assert_eq!(
        (bare.mode, bare.grace_period, bare.keep_copy),
        (Mode::Plan, Age::ZERO, KeepCopy::For(Age::days(30)))
    );
    assert!(!bare.include_converted && bare.events.is_empty());

    let text = "version: 1\ntimezone: UTC\n\
        defaults:\n  mode: delete\n  grace_period: 12h\n  keep_copy: none\n  limits: { max_matches: 5, max_percent: 50 }\n\
        rules:\n  - name: one\n    schedule: \"0 1 * * *\"\n    match: { stageId: JUNK }\n    limits: { max_matches: 9 }\n\
        \x20 - name: two\n    schedule: \"0 1 * * *\"\n    match: { stageId: JUNK }\n    mode: plan\n    keep_copy: 7d\n";
    let rules = parse(text).map_err(|found| rendered(Err(found))).unwrap().rules;
    let one = rules.rule("one").unwrap();
    assert_eq!((one.mode, one.grace_period, one.keep_copy), (Mode::Delete, Age::hours(12), KeepCopy::None));
    assert_eq!((one.limits.max_matches, one.limits.max_percent, one.limits.deletes_per_day), (9, 50, 10_000));
    let two = rules.rule("two").unwrap();
    assert_eq!(
        (two.mode, two.keep_copy, two.limits.max_matches),
        (Mode::Plan, KeepCopy::For(Age::days(7)), 5)
    );
    assert_eq!((two.place.file.as_str(), two.place.line), ("rules.yaml", 13));
    assert_eq!((rules.keep_history, rules.portal), (Age::days(365), PortalLimits::default()));
}

const ONE: &str = "version: 1\ntimezone: UTC\nportal: { burst: 10 }\nprotect: [ { name: pinned, ids: [1] } ]\n\
    rules: [ { name: one, schedule: \"0 1 * * *\", match: { stageId: JUNK } } ]\n";

#[test]
fn files_are_taken_together_and_equal_portal_blocks_may_repeat() {
    let two = "version: 1\ntimezone: Asia/Almaty\nportal:\n  burst: 10\nprotect: [ { name: money, match: { opportunity: { gt: 0 } } } ]\n";
    let loaded = rules::parse(&[input("a.yaml", ONE), input("b.yaml", two)]).unwrap();
    let names: Vec<&str> =
        loaded.rules.protections.iter().map(|protection| protection.name.as_str()).collect();
    assert_eq!(names, ["pinned", "money"]);
    assert_eq!(loaded.rules.portal.burst, 10);
}

#[test]
fn what_two_files_contradict_each_other_in_names_both_places() {
    let two = ONE.replace("burst: 10", "burst: 20");
    let two = format!("{two}defaults: {{ keep_history: 10d }}\n");
    let three = "version: 1\ntimezone: UTC\ndefaults: { keep_history: 20d }\n";
    let found = rules::parse(&[input("a.yaml", ONE), input("b.yaml", &two), input("c.yaml", three)]);
    insta::assert_snapshot!(rendered(found), @r#"
    b.yaml:3:1: error[conflicting-setting]: `portal` holds for all files, but another file sets it otherwise
      |
    3 | portal: { burst: 20 }
      | ^^^^^^
      |
      = note: set at a.yaml:3:1
      = help: keep it in one file

    b.yaml:4:20: error[duplicate-protection]: there is another protection named `pinned`
      |
    4 | protect: [ { name: pinned, ids: [1] } ]
      |                    ^^^^^^
      |
      = note: first used at a.yaml:4:20
      = help: give one of them another name

    b.yaml:5:18: error[duplicate-rule]: there is another rule named `one`
      |
    5 | rules: [ { name: one, schedule: "0 1 * * *", match: { stageId: JUNK } } ]
      |                  ^^^
      |
      = note: first used at a.yaml:5:18
      = help: give one of them another name

    c.yaml:3:13: error[conflicting-setting]: `keep_history` holds for all files, but another file sets it otherwise
      |
    3 | defaults: { keep_history: 20d }
      |             ^^^^^^^^^^^^
      |
      = note: set at b.yaml:6:13
      = help: keep it in one file
    "#);
}

#[test]
fn every_mistake_of_every_file_is_reported_in_the_order_of_the_files() {
    let broken = "version: 1\nrules: [\n";
    let two = ONE
        .replace("JUNK", "no")
        .replace("name: one", "name: two")
        .replace("burst: 10", "burst: 0")
        .replace("pinned", "p");
    let found = rules::parse(&[input("a.yaml", broken), input("b.yaml", &two)]).unwrap_err();
    let seen: Vec<(&str, &str)> = found.iter().map(|found| (found.file.as_str(), found.code)).collect();
    assert_eq!(seen, [("a.yaml", "unclosed"), ("b.yaml", "out-of-range"), ("b.yaml", "wrong-type")]);
}

#[test]
fn anchors_aliases_a_byte_order_mark_and_windows_line_ends_are_accepted() {
    let text = "\u{feff}version: 1\ntimezone: UTC\nrules:\n  - name: one\n    schedule: &night \"0 1 * * *\"\n    \
        match: &junk { stageId: JUNK }\n  - name: two\n    schedule: *night\n    match: *junk\n";
    let rules = parse(&text.replace('\n', "\r\n")).map_err(|found| rendered(Err(found))).unwrap().rules;
    assert_eq!(rules.rule("one").unwrap().selection, rules.rule("two").unwrap().selection);
}

#[test]
fn a_byte_order_mark_moves_no_column() {
    let found = parse("\u{feff}versoin: 1\n").unwrap_err();
    let place =
        found.iter().find(|found| found.code == "unknown-key").map(|found| (found.line, found.column));
    assert_eq!(place, Some((1, 1)));
}

#[test]
fn a_directory_is_read_in_the_order_of_names_without_tests_and_hidden_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.yaml", "a.yaml", "a.test.yaml", ".c.yaml", "d.yml", "notes.txt"] {
        fs::write(folder.path().join(name), ONE).unwrap();
    }
    let files = rules::read(folder.path()).unwrap();
    let names: Vec<&str> = files.iter().map(|input| input.file.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["a.yaml", "b.yaml"]);
    assert_eq!(codes(rules::load(folder.path())), ["duplicate-protection", "duplicate-rule"]);
}

#[test]
fn what_cannot_be_read_is_a_diagnostic_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(codes(rules::load(folder.path())), ["empty-directory"]);
    let missing = folder.path().join("rules.yaml");
    let found = rules::load(&missing).unwrap_err();
    assert_eq!(found[0].code, "unreadable-file");
    assert!(found[0].help.as_ref().unwrap().contains("JANITOR_RULES"));
    let large = folder.path().join("large.yaml");
    fs::write(&large, "#".repeat(rules::MAX_FILE_BYTES + 1)).unwrap();
    assert_eq!(codes(rules::load(&large)), ["too-large"]);
    fs::write(&large, format!("{ONE}{}", "#".repeat(rules::MAX_FILE_BYTES - ONE.len()))).unwrap();
    assert!(rules::load(&large).is_ok());
}

#[test]
fn a_diagnostic_as_json_has_the_keys_of_check() {
    let found = parse("version: 1\ntimezone: CET\nmode: plan\nmode: plan\n").unwrap_err();
    let repeated = found.iter().find(|found| found.code == "duplicate-key").map(Diagnostic::to_json);
    let expected = json!({
        "severity": "error",
        "file": "rules.yaml",
        "line": 4,
        "column": 1,
        "code": "duplicate-key",
        "message": "`mode` is set twice (already set at rules.yaml:3:1)",
        "help": "keep one of the two",
    });
    // `mode` belongs elsewhere, but that it stands there twice is a mistake of its own.
    assert_eq!(repeated, Some(expected));
}

#[test]
fn colour_changes_nothing_but_escape_codes() {
    let found = parse("version: 1\ntimezone: CET\n").unwrap_err();
    let colored = found[0].render(true);
    assert!(colored.contains('\u{1b}'));
    let mut plain = String::new();
    for part in colored.split('\u{1b}') {
        plain.push_str(if plain.is_empty() { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(plain, found[0].render(false));
    assert_eq!(found[0].severity, Severity::Error);
}

#[test]
fn a_file_made_of_mistakes_is_answered_with_the_first_hundred() {
    let text = "a: 1\n".repeat(10_000);
    let found = parse(&text).unwrap_err();
    assert_eq!(found.len(), 101);
    assert_eq!(found.last().unwrap().code, "more-mistakes");
}

#[test]
fn everything_that_a_rule_lacks_is_named() {
    let found = parse("version: 1\ntimezone: UTC\nrules:\n  - mode: plan\n").unwrap_err();
    let messages: Vec<&str> = found.iter().map(|found| found.message.as_str()).collect();
    assert_eq!(messages, ["a rule needs `name`", "a rule needs `schedule`", "a rule needs `match`"]);
}

#[test]
fn any_and_not_may_stand_ten_deep() {
    let nested = |depth: usize| {
        let selection =
            format!("{}{{ stageId: {{ in: [JUNK] }} }}{}", "{ any: [ ".repeat(depth), " ] }".repeat(depth));
        parse(&format!(
            "version: 1\ntimezone: UTC\nrules:\n  - name: it\n    schedule: \"0 1 * * *\"\n    match: {selection}\n"
        ))
    };
    assert!(nested(10).is_ok());
    assert_eq!(codes(nested(11)), ["too-deep"]);
}

#[test]
fn a_mistake_behind_an_alias_is_reported_once_where_it_is_written() {
    let text = fs::read_to_string(root().join("tests/rules_bad/mistake_behind_an_alias.yaml")).unwrap();
    let places: Vec<u32> = parse(&text).unwrap_err().iter().map(|found| found.line).collect();
    assert_eq!(places, [6]);
}

#[test]
fn what_a_file_holds_does_not_steer_the_terminal() {
    let found = parse("version: 1\ntimezone: \"a\\e[31m\\u202eb\"\n").unwrap_err();
    assert_eq!(found[0].message, "there is no time zone `a\\u{1b}[31m\\u{202e}b`");
}

#[test]
fn other_checks_report_in_the_same_form() {
    let place = Place { file: "rules.yaml".to_owned(), line: 4 };
    let mut found = Diagnostic::about_rule(Severity::Warning, "unknown-stage", &place, "no stage `X`");
    found.help("stages: NEW, JUNK");
    assert_eq!(
        found.render(false),
        "rules.yaml:4:1: warning[unknown-stage]: no stage `X`\n = help: stages: NEW, JUNK"
    );
    assert_eq!(found.to_string(), "rules.yaml:4:1: warning[unknown-stage]: no stage `X`");
}
