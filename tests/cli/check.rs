//! `check`: valid rules, every mistake in one pass, and what only the portal knows.

use serde_json::Value;

use crate::home::{Home, JUNK, is_time, keys, objects};
use crate::portal::Portal;

const MISTAKES: &str = r#"version: 1
timezone: Europe/Berlin
rules:
  - name: one
    schedule: "15 25 * * *"
    match: { stageId: JUNK, titel: x }
  - name: two
    shedule: "@daily"
    schedule: "@daily"
    match: { STATUS_ID: JUNK }
    older_than: 3m
"#;

/// A rule with a field and a stage that no portal has, in a spelling that only a portal can refuse.
fn unknown_to_the_portal() -> String {
    JUNK.replace("{ stageId: JUNK }", "{ stageId: JUNKK, ufCrm_999: x }")
}

fn codes(objects: &[Value]) -> Vec<&str> {
    objects.iter().filter_map(|object| object["code"].as_str()).collect()
}

#[test]
fn a_valid_rule_is_shown_with_its_next_five_times_in_its_zone() {
    let home = Home::without_portal(JUNK);
    let rules = home.objects(&["check", "--json"]);
    assert_eq!(keys(&rules[0]), "mode next rule");
    assert_eq!((&rules[0]["rule"], &rules[0]["mode"]), (&"junk".into(), &"delete".into()));
    let next = rules[0]["next"].as_array().unwrap();
    assert_eq!(next.len(), 5);
    for time in next {
        assert!(is_time(time), "{time}");
        let text = time.as_str().unwrap();
        assert!(text.contains("T03:15:00+0"), "{text} is not 3:15 in Berlin");
    }
    assert!(next.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
    // Without a portal's address the check still passes, and says who will miss it.
    assert_eq!(codes(&rules), ["no-webhook"]);
    assert_eq!(rules[1]["severity"], "warning");
    let people = home.run(&["check"]);
    assert!(
        people.err.contains("warning[no-webhook]: neither B24_WEBHOOK_URL nor a whole local application"),
        "{}",
        people.err
    );
}

#[test]
fn every_mistake_is_told_in_one_pass_with_its_place() {
    let home = Home::without_portal(MISTAKES);
    let ended = home.fails(2, &["check"]);
    assert_eq!(ended.out, "");
    insta::assert_snapshot!("mistakes", ended.err);

    let ended = home.fails(2, &["check", "--json"]);
    assert_eq!(ended.err, "", "with --json everything is an object");
    let problems = objects(&ended.out);
    assert!(problems.len() >= 5, "{problems:?}");
    for problem in &problems {
        assert_eq!(keys(problem), "code column file help line message severity");
        assert_eq!((&problem["severity"], &problem["file"]), (&"error".into(), &"rules.yaml".into()));
        assert!(problem["line"].as_u64() > Some(0) && problem["column"].as_u64() > Some(0));
    }
}

#[test]
fn a_missing_rules_file_is_wrong_usage() {
    let home = Home::without_portal(JUNK);
    let ended = home.fails(2, &["check", "--rules", "elsewhere.yaml"]);
    assert!(ended.err.starts_with("elsewhere.yaml"), "{}", ended.err);
    assert!(ended.err.contains("--rules"), "{}", ended.err);
}

#[test]
fn online_says_what_was_found_and_what_can_not_be() {
    let portal = Portal::with_leads(0);
    let home = Home::new(&portal, JUNK);
    let out = home.ok(&["check", "--online"]);
    assert!(out.contains("the portal knows every field and stage of the rules"), "{out}");
    assert!(out.contains("not checked: whether this webhook may delete leads"), "{out}");
    assert_eq!(codes(&home.objects(&["check", "--online", "--json"])), Vec::<&str>::new());
    assert_eq!(home.files(), ["rules.yaml"]);
}

#[test]
fn online_finds_fields_and_stages_that_the_portal_does_not_have() {
    let portal = Portal::with_leads(0);
    let home = Home::new(&portal, &unknown_to_the_portal());
    home.ok(&["check"]);
    let ended = home.fails(2, &["check", "--online"]);
    assert!(
        ended
            .err
            .contains("rules.yaml:8:30: error[unknown-field]: junk: the portal has no field `ufCrm_999`")
    );
    assert!(
        ended.err.contains("error[unknown-stage]: junk: the portal has no stage `JUNKK`"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("did you mean `JUNK`"), "{}", ended.err);
    assert!(!ended.out.contains("knows every"), "{}", ended.out);
    let ended = home.fails(2, &["check", "--online", "--json"]);
    assert_eq!(codes(&objects(&ended.out)), ["unknown-stage", "unknown-field"]);
}

#[test]
fn online_names_a_missing_scope() {
    let portal = Portal::with_leads(0);
    portal.sandbox.configure(|options| options.scope = vec!["task".to_owned()]);
    let ended = Home::new(&portal, JUNK).fails(2, &["check", "--online"]);
    assert!(ended.err.contains("error[missing-scope]"), "{}", ended.err);
}

#[test]
fn what_could_not_be_checked_is_no_success() {
    let refused = Portal::with_leads(0);
    refused.sandbox.configure(|options| options.code = "renewed".to_owned());
    let refused_home = Home::without_portal(JUNK)
        .with("B24_WEBHOOK_URL", &refused.webhook().replace("renewed", "s3cr3tcode"));
    let unreachable_home =
        Home::without_portal(JUNK).with("B24_WEBHOOK_URL", "http://127.0.0.1:9/rest/1/s3cr3tcode/");
    for home in [refused_home, unreachable_home] {
        let ended = home.fails(1, &["check", "--online"]);
        for what in ["the webhook's scope", "the fields of the rules", "the stages of the rules"] {
            let line = format!("warning[not-checked]: {what} could not be checked");
            assert!(ended.err.contains(&line), "{what} in\n{}", ended.err);
        }
        assert!(
            ended.err.contains("error: the rules are valid, but what only the portal knows was not checked")
        );
        assert!(!ended.out.contains("knows every"), "{}", ended.out);
        assert!(!format!("{}{}", ended.out, ended.err).contains("s3cr3t"), "{}", ended.err);

        let ended = home.fails(1, &["check", "--online", "--json"]);
        assert_eq!(codes(&objects(&ended.out)), ["not-checked"; 3]);
    }
}

#[test]
fn a_directory_of_rules_is_checked_whole() {
    let home = Home::without_portal(JUNK);
    std::fs::create_dir(home.path("rules")).unwrap();
    home.write("rules/a.yaml", JUNK);
    home.write("rules/b.yaml", &JUNK.replace("name: junk", "name: other"));
    home.write("rules/c.test.yaml", "this is no rules file");
    let rules = home.objects(&["check", "--json", "--rules", "rules"]);
    let names: Vec<&str> = rules.iter().filter_map(|rule| rule["rule"].as_str()).collect();
    assert_eq!(names, ["junk", "other"]);
    home.write("rules/b.yaml", &JUNK.replace("stageId", "stagId"));
    home.write("rules/d.yaml", "version: 1\n");
    let ended = home.fails(2, &["check", "--json", "--rules", "rules"]);
    let files: Vec<String> = objects(&ended.out).iter().map(|problem| problem["file"].to_string()).collect();
    for file in ["b.yaml", "d.yaml"] {
        assert!(files.iter().any(|found| found.contains(file)), "{file} in {files:?}");
    }
}
