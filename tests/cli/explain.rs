//! `explain` and what `plan` says of changes: for people, as JSON and CSV, alone and beside a service.

use std::fs;

use serde_json::Value;

use crate::home::{Home, JUNK, is_time, keys};
use crate::output::timeless;
use crate::portal::Portal;
use crate::service::Service;

/// Rules that ask for texts, numbers, ages, and something that no sample lead has.
const RULES: &str = r#"version: 1
timezone: Europe/Berlin
defaults: { limits: { max_matches: 100000, max_percent: 100 }, grace_period: 24h }
protect:
  - name: somebody-works-on-it
    match: { stageId: IN_PROCESS }
  - name: pinned
    ids: [6]
rules:
  - name: junk
    schedule: "15 3 * * *"
    match: { stageId: [JUNK, IN_PROCESS] }
    mode: delete
  - name: tests
    schedule: "0 4 * * *"
    match:
      any: [ { title: { contains: "zebra" } }, { sourceId: CALLBACK } ]
      not: { opportunity: { gt: 1000000 } }
    older_than: 1h
  - name: custom
    schedule: "0 5 * * *"
    match: { ufCrm_1700000000: { gt: 5 } }
"#;

fn told(home: &Home, args: &[&str]) -> String {
    let ended = home.run(args);
    let status = ended.code.unwrap();
    let end = if status == 0 { String::new() } else { format!("exit status {status}\n") };
    format!("$ b24-janitor {}\n{}{}{end}\n", args.join(" "), ended.out, ended.err)
}

#[test]
fn a_leads_explanation_reads_well_from_its_first_look_to_its_end() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, RULES);
    let mut session = told(&home, &["explain", "4"]);
    assert_eq!(home.files(), ["janitor.db.lock", "rules.yaml"], "a lock is all that it leaves");
    session.push_str(&told(&home, &["explain", "6"]));
    session.push_str(&told(&home, &["run", "junk"]));
    session.push_str(&told(&home, &["explain", "4"]));
    home.ok(&["cancel", "1"]);
    session.push_str(&told(&home, &["explain", "4"]));
    session.push_str(&told(&home, &["explain", "999999"]));
    session.push_str(&told(&home, &["explain", "0"]));
    insta::assert_snapshot!("explained", timeless(&session));
    portal.assert_pace_kept();
}

#[test]
fn a_deleted_lead_is_gone_and_its_history_and_copy_are_told() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    home.ok(&["run", "junk", "--wait"]);
    let lead = home.objects(&["jobs", "--json", "--limit", "1"])[0]["lead_id"].to_string();
    let told = home.object(&["explain", &lead, "--json"]);
    assert_eq!((&told["presence"], &told["rules"]), (&"gone".into(), &Value::Array(Vec::new())));
    assert_eq!(told["jobs"][0]["outcome"], "deleted");
    assert_eq!(told["jobs"][0]["sent"][0]["result"], "deleted");
    assert!(is_time(&told["copy"]["expires_at"]) && is_time(&told["copy"]["deleted_at"]), "{told}");
    assert_eq!(
        keys(&told["copy"]),
        "deleted_at expires_at job_id taken_at",
        "the fields stay where they are"
    );
    let words = home.ok(&["explain", &lead]);
    assert!(
        words.contains("the portal has no such lead") && words.contains("copy exists until 20"),
        "{words}"
    );
}

#[test]
fn beside_a_service_it_explains_the_same_and_no_text_of_the_lead_gets_into_the_database() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, RULES);
    let alone = home.object(&["explain", "4", "--json"]);
    let title = portal.sandbox.lead(4).unwrap().title.to_string();
    let service = Service::start(&home);
    let home = home.with("B24_WEBHOOK_URL", "http://127.0.0.1:9/rest/1/code/");
    let mut asked = home.object(&["explain", "4", "--json"]);
    assert_eq!(asked["presence"], "present");
    asked["at"] = alone["at"].clone();
    for (asked, alone) in
        asked["rules"].as_array_mut().unwrap().iter_mut().zip(alone["rules"].as_array().unwrap())
    {
        // The age's boundary moves with the clock.
        asked["selection"] = alone["selection"].clone();
    }
    assert_eq!(asked, alone);
    home.ok(&["explain", "4", "--save-test", "four.test.yaml"]);
    service.stop();
    for file in home.files() {
        let bytes = fs::read(home.path(&file)).unwrap();
        let found = bytes.windows(title.len()).any(|window| window == title.as_bytes());
        assert!(!found, "{file} holds the title {title:?}");
    }
}

#[test]
fn a_portal_that_does_not_answer_is_an_error_and_the_history_is_told_all_the_same() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    home.ok(&["run", "junk"]);
    portal.sandbox.configure(|options| options.code = "renewed".to_owned());
    let ended = home.fails(1, &["explain", "4"]);
    assert!(
        ended.out.contains("job 1 of junk") && ended.err.contains("INVALID_CREDENTIALS"),
        "{}",
        ended.err
    );
}

#[test]
fn a_saved_test_passes_has_no_personal_data_and_is_never_written_over_anything() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, RULES);
    for lead in ["4", "6", "1"] {
        let file = format!("lead-{lead}.test.yaml");
        let words = home.ok(&["explain", lead, "--save-test", &file]);
        assert!(words.contains("wrote 3 cases"), "{words}");
        let text = fs::read_to_string(home.path(&file)).unwrap();
        let title = portal.sandbox.lead(lead.parse().unwrap()).unwrap().title.to_string();
        assert!(text.contains("title: \"text\"") && !text.contains(&title), "{text}");
        assert!(!text.contains("phone") && !text.contains("rules:"), "only what the rules read: {text}");
    }
    assert!(home.ok(&["test"]).contains("9 cases passed"));

    let again = home.fails(2, &["explain", "4", "--save-test", "lead-4.test.yaml"]);
    assert!(again.err.contains("there is such a file already"), "{}", again.err);
    let named = home.fails(2, &["explain", "4", "--save-test", "four.yaml"]);
    assert!(named.err.contains("must end with .test.yaml"), "{}", named.err);
    fs::create_dir(home.path("tests")).unwrap();
    home.ok(&["explain", "4", "--save-test", "tests/four.test.yaml"]);
    assert!(home.ok(&["test", "tests/four.test.yaml"]).contains("3 cases passed"), "it names its rules");
}

#[test]
fn a_plan_says_what_has_changed_since_the_last_one() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    let first = home.object(&["plan", "--json"]);
    assert_eq!((&first["previous"], &first["newly"]), (&Value::Null, &Value::Null));
    let again = home.object(&["plan", "--json"]);
    assert_eq!(again["previous"], Value::Null, "without a database nothing is remembered");

    home.ok(&["run", "junk"]);
    home.ok(&["plan"]);
    let (junk, other) = (portal.in_stage("JUNK"), portal.not_in_stage("JUNK"));
    portal.sandbox.colleague_update(junk[0], |lead| lead.stage = "NEW".into());
    portal.sandbox.colleague_update(other[0], |lead| lead.stage = "JUNK".into());
    let plan = home.object(&["plan", "--json"]);
    assert!(is_time(&plan["previous"]), "{plan}");
    assert_eq!(plan["newly"], serde_json::json!({ "count": 1, "sample": [other[0]] }));
    assert_eq!(plan["no_longer"], serde_json::json!({ "count": 1, "sample": [junk[0]] }));
    assert_eq!(plan["rule_changed"], false);

    portal.sandbox.colleague_update(junk[1], |lead| lead.stage = "NEW".into());
    home.ok(&["pause"]);
    let service = Service::start(&home);
    let words = home.ok(&["plan"]);
    assert!(words.contains(&format!("no longer         1 (leads {})", junk[1])), "{words}");
    assert!(words.contains("newly selected    0\n"), "{words}");
    service.stop();
    home.write("rules.yaml", &JUNK.replace("JUNK }", "[JUNK, NEW] }"));
    assert!(home.ok(&["plan"]).contains("; the rule was changed since"));
}

#[test]
fn a_plan_lists_its_leads_as_csv_alone_and_beside_a_service() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    let junk = portal.in_stage("JUNK");
    let alone = home.ok(&["plan", "--csv"]);
    let mut lines = alone.lines();
    assert_eq!(lines.next(), Some("rule,id,stage,created,responsible"));
    let ids: Vec<u32> = lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            assert!(cells[0] == "junk" && cells[2] == "JUNK" && is_time(&cells[3].into()), "{line}");
            cells[1].parse().unwrap()
        })
        .collect();
    assert_eq!(ids, junk);
    let service = Service::start(&home);
    assert_eq!(home.ok(&["plan", "junk", "--csv"]), alone);
    service.stop();
    home.fails(2, &["plan", "--csv", "--json"]);
}

#[test]
fn a_plan_estimates_its_drain_by_what_deletions_have_cost() {
    let portal = Portal::with_leads(200);
    let home = Home::new(&portal, JUNK);
    let assumed = home.object(&["plan", "--json"])["estimate"].clone();
    assert_eq!(keys(&assumed), "limited_by measured seconds");
    assert_eq!((&assumed["measured"], &assumed["limited_by"]), (&false.into(), &"deletion_time".into()));
    assert!(
        home.ok(&["plan"]).contains("limited by the time that deletions take, assuming 0.5 s a deletion")
    );

    home.ok(&["run", "junk", "--wait"]);
    let others = portal.not_in_stage("JUNK");
    for lead in &others[..40] {
        portal.sandbox.colleague_update(*lead, |lead| lead.stage = "JUNK".into());
    }
    let measured = home.object(&["plan", "--json"])["estimate"].clone();
    assert_eq!(measured["measured"], true, "an earlier process measured it: {measured}");
    let (measured, assumed) = (measured["seconds"].as_f64().unwrap(), 40.0 * 0.5 / 2.0);
    assert!(measured < assumed / 4.0, "0.05 s a deletion in the sandbox: {measured}");
}
