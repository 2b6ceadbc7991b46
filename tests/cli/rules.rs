//! What an administrator has to trust rules before they run: `test`, the forms of `check`, `schema`, `completions`.

use crate::home::{Home, JUNK, keys};

const CASES: &str = "now: 2026-11-25T12:00:00+01:00
cases:
  - name: junk goes
    lead: { stageId: JUNK }
    rule: junk
    expect: delete
    reason: stageId is JUNK
  - name: what is new stays
    lead: { stageId: NEW }
    rule: junk
    expect: no_match
";

#[test]
fn cases_beside_the_rules_are_run_without_a_portal() {
    let home = Home::without_portal(JUNK);
    home.write("junk.test.yaml", CASES);
    assert_eq!(home.ok(&["test"]), "ok      junk goes\nok      what is new stays\n2 cases passed\n");
    let cases = home.objects(&["test", "--json"]);
    assert_eq!(cases.len(), 2);
    assert_eq!(keys(&cases[0]), "case decision expected expected_reason file line passed reason rule");
    assert_eq!((&cases[1]["decision"], &cases[1]["passed"]), (&"no_match".into(), &true.into()));
    assert_eq!((&cases[1]["file"], &cases[1]["line"]), (&"junk.test.yaml".into(), &8.into()));
    assert_eq!(home.files(), ["junk.test.yaml", "rules.yaml"]);
}

#[test]
fn a_case_that_fails_is_told_with_what_the_rule_says_instead() {
    let home = Home::without_portal(JUNK);
    home.write(
        "junk.test.yaml",
        &CASES.replace("stageId is JUNK", "stageId is SPAM").replace("no_match", "delete"),
    );
    let ended = home.fails(1, &["test"]);
    insta::assert_snapshot!("failed_cases", format!("{}{}", ended.out, ended.err));
    let ended = home.fails(1, &["test", "--json"]);
    assert_eq!(ended.out.matches("\"passed\":false").count(), 2);
}

#[test]
fn whatever_is_wrong_with_the_files_is_told_before_a_case_is_run() {
    let home = Home::without_portal(JUNK);
    home.write("a.test.yaml", &CASES.replace("rule: junk", "rule: jnk"));
    home.write("b.test.yaml", &CASES.replace("expect: delete", "expect: deleted"));
    home.write("c.test.yaml", CASES);
    let ended = home.fails(2, &["test"]);
    assert_eq!(ended.out, "");
    for part in [
        "a.test.yaml:5:11: error[unknown-rule]",
        "a.test.yaml:10:11: error[unknown-rule]",
        "b.test.yaml:6:13: error[unknown-word]",
        "error: 3 problems in the files; no case was run",
    ] {
        assert!(ended.err.contains(part), "{part} in\n{}", ended.err);
    }
    let ended = home.fails(2, &["test", "--json"]);
    assert_eq!((ended.out.lines().count(), ended.err.as_str()), (3, ""));

    home.write("rules.yaml", &JUNK.replace("stageId", "stagId"));
    assert!(home.fails(2, &["test", "c.test.yaml"]).err.contains("rules.yaml:8:14: error[unknown-field]"));
}

#[test]
fn without_a_file_of_tests_nothing_was_tested() {
    let home = Home::without_portal(JUNK);
    let ended = home.fails(2, &["test"]);
    assert!(ended.err.contains("there is no *.test.yaml beside the rules (rules.yaml)"), "{}", ended.err);
    let ended = home.fails(2, &["test", "missing.test.yaml"]);
    assert!(ended.err.starts_with("missing.test.yaml:1:1: error[unreadable-file]"), "{}", ended.err);
}

#[test]
fn the_rules_are_those_that_the_file_names_else_those_of_the_settings_else_those_beside_it() {
    let home = Home::without_portal(&JUNK.replace("name: junk", "name: other"));
    std::fs::create_dir_all(home.path("rules/old")).unwrap();
    home.write("rules/rules.yaml", JUNK);
    home.write("rules/a.test.yaml", CASES);
    home.write("rules/old/b.test.yaml", &format!("rules: ..\n{CASES}"));
    assert!(home.ok(&["test", "rules/a.test.yaml"]).ends_with("2 cases passed\n"));
    assert!(home.ok(&["test", "rules/old/b.test.yaml"]).ends_with("2 cases passed\n"));
    assert!(home.ok(&["test", "--rules", "rules"]).ends_with("2 cases passed\n"));
    let ended = home.fails(2, &["test", "--rules", "rules.yaml", "rules/a.test.yaml"]);
    assert!(ended.err.contains("the rules are: other"), "{}", ended.err);
    home.ok(&["test", "--rules", "rules.yaml", "rules/old/b.test.yaml"]);
    let home = home.with("JANITOR_RULES", "rules.yaml");
    home.fails(2, &["test", "rules/a.test.yaml"]);
}

#[test]
fn check_annotates_for_github_and_lets_no_file_give_commands() {
    let rules = JUNK.replace("{ stageId: JUNK }", "{ stagId: JUNK, \"x\\n::error::100%\": y }");
    let home = Home::without_portal(JUNK);
    home.write("a,b.yaml", &rules);
    let ended = home.fails(2, &["check", "--format", "github", "--rules", "a,b.yaml"]);
    insta::assert_snapshot!("github", format!("{}{}", ended.out, ended.err));

    home.write(
        "rules.yaml",
        &JUNK.replace("15 3", "30 2").replace("{ stageId: JUNK }", "{ stageId: { eq: JUNK, in: [NEW] } }"),
    );
    let out = home.ok(&["check", "--format", "github"]);
    assert!(out.contains("::warning file=rules.yaml,line=5,col=1::rule junk can never match"), "{out}");
    assert!(out.contains("::warning file=rules.yaml,line=5,col=1::rule junk: 02:30 on"), "{out}");
    assert!(out.contains("\n::warning::neither B24_WEBHOOK_URL nor"), "{out}");
    assert!(out.ends_with("1 rule is valid; 1 may delete, 0 only plan\n"), "{out}");
}

#[test]
fn json_is_a_format_of_check() {
    let home = Home::without_portal(JUNK);
    assert_eq!(home.ok(&["check", "--format", "json"]), home.ok(&["check", "--json"]));
    assert_eq!(home.ok(&["check", "--format", "text"]), home.ok(&["check"]));
    home.fails(2, &["check", "--json", "--format", "github"]);
}

#[test]
fn the_schemas_are_printed() {
    let home = Home::without_portal(JUNK);
    for (args, key) in [(["schema"].as_slice(), "rules"), (&["schema", "--tests"], "cases")] {
        let schema: serde_json::Value = serde_json::from_str(&home.ok(args)).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    let home = Home::without_portal(JUNK);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.ok(&["completions", shell]);
        for word in ["b24-janitor", "approve", "completions", "admin-listen"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    home.fails(2, &["completions", "cmd"]);
}
