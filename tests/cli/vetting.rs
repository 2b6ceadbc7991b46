//! What rules must pass before a service takes them into force: their own tests and the portal's word.

use b24_janitor::sandbox::{Fault, FaultKind};

use crate::home::{Home, JUNK};
use crate::http;
use crate::portal::Portal;
use crate::service::Service;

/// A comparison that would select every lead, since a yes or no is never written `Y` in a field of one's own.
fn mistyped() -> String {
    JUNK.replace("{ stageId: JUNK }", "{ stageId: JUNK, ufCrm_1700000003: { ne: Y } }")
}

const MISTYPED: &str = "rules.yaml:8:53: error[wrong-type]: junk: `ufCrm_1700000003` holds yes or no in the portal, and is \
                        compared with text: ne Y";

const CASES: &str = r#"now: 2026-06-01T00:00:00Z
cases:
  - { name: junk goes, rule: junk, lead: { stageId: JUNK, stageSemanticId: F }, expect: delete }
"#;

#[test]
fn every_command_that_acts_refuses_what_the_portal_does_not_know() {
    let portal = Portal::with_leads(20);
    let home = Home::new(&portal, &mistyped());
    for args in [
        ["check", "--online"].as_slice(),
        &["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"],
        &["run", "junk"],
        &["plan"],
    ] {
        let ended = home.fails(2, args);
        assert!(ended.err.contains(MISTYPED), "{args:?}: {}", ended.err);
        assert!(ended.err.contains("help: write ufCrm_1700000003: false"), "{args:?}: {}", ended.err);
    }
    assert!(portal.sandbox.stats().deletions.is_empty());
}

#[test]
fn a_protection_is_checked_and_told_with_its_line() {
    let portal = Portal::with_leads(0);
    let rules = JUNK.replace(
        "rules:",
        "protect:\n  - name: vip\n    match: { ufCrm_1700000002: Large, sourceId: CALLBCK }\nrules:",
    );
    let ended = Home::new(&portal, &rules).fails(2, &["check", "--online"]);
    assert!(
        ended.err.contains("rules.yaml:6:32: error[wrong-type]: vip: `ufCrm_1700000002`"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("write the option's number: ufCrm_1700000002: 46"), "{}", ended.err);
    assert!(
        ended.err.contains("rules.yaml:6:49: warning[unknown-source]: vip: the portal's list"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("did you mean `CALLBACK`"), "{}", ended.err);
}

#[test]
fn a_reload_that_the_portal_refuses_leaves_the_old_rules_and_tells_everyone() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    let mut service = Service::start(&home);
    home.write("rules.yaml", &JUNK.replace("stageId: JUNK", "stageId: JUNKK"));
    service.process.signal("HUP");
    service.process.line("the rules were not reloaded");
    assert!(service.process.log().contains("error[unknown-stage]"), "{}", service.process.log());
    let (status, body) = http::get(service.admin, "/readyz");
    assert!(status == 200 && body.contains("did you mean `JUNK`"), "{status} {body}");
    assert!(http::get(service.admin, "/metrics").1.contains("janitor_rules_last_reload_successful 0"));
    home.write("rules.yaml", JUNK);
    home.ok(&["run", "junk", "--wait"]);
    assert!(portal.in_stage("JUNK").is_empty());
    service.stop();
}

#[test]
fn a_reload_without_the_portal_is_accepted_unchecked() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    let mut service = Service::start(&home);
    portal.sandbox.set_fault(Fault::new(FaultKind::Refuse));
    home.write("rules.yaml", &JUNK.replace("stageId: JUNK", "stageId: [JUNK, '7']"));
    service.process.signal("HUP");
    service.process.line("rules reloaded");
    let said = home.ok(&["status"]);
    assert!(said.contains("NOT CHECKED against the portal, so they neither run nor delete: junk"), "{said}");
    assert_eq!(home.object(&["status", "--json"])["unchecked"]["rules"], serde_json::json!(["junk"]));
    let ended = home.fails(1, &["run", "junk"]);
    assert!(ended.err.contains("rule `junk` is not checked against the portal yet"), "{}", ended.err);
    assert!(http::get(service.admin, "/").1.contains("Unchecked rules"));

    portal.sandbox.clear_faults();
    service.process.signal("HUP");
    crate::service::until("the check", || {
        let rules = &home.object(&["status", "--json"])["unchecked"]["rules"];
        (*rules == serde_json::json!([])).then_some(())
    });
    home.ok(&["run", "junk", "--wait"]);
    assert!(portal.in_stage("JUNK").is_empty() && portal.in_stage("7").is_empty());
    service.stop();
}

#[test]
fn tests_beside_the_rules_must_pass_at_start_and_at_reload() {
    let portal = Portal::with_leads(20);
    let home = Home::new(&portal, JUNK);
    home.write("rules.test.yaml", CASES);
    // It names other rules than those that are loaded, so it says nothing about them.
    home.write("other.yaml", &JUNK.replace("name: junk", "name: other"));
    home.write(
        "other.test.yaml",
        &CASES
            .replace("cases:", "rules: other.yaml\ncases:")
            .replace("rule: junk", "rule: other")
            .replace("expect: delete", "expect: no_match"),
    );
    let mut service = Service::start(&home);
    home.write("rules.yaml", &JUNK.replace("stageId: JUNK", "stageId: '7'"));
    service.process.signal("HUP");
    service.process.line("the rules were not reloaded");
    let failed = "rules.test.yaml:3:1: error[failed-test]: junk goes: junk must say delete";
    assert!(service.process.log().contains(failed), "{}", service.process.log());
    let (status, body) = http::get(service.admin, "/readyz");
    assert!(status == 200 && body.contains(failed), "{status} {body}");
    service.stop();

    let ended = home.fails(2, &["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    assert!(ended.err.contains(failed), "{}", ended.err);
    assert!(ended.err.contains("it says no_match"), "{}", ended.err);
}

#[test]
fn warnings_are_logged_at_start_and_at_reload() {
    let portal = Portal::with_leads(0);
    let odd = JUNK.replace("{ stageId: JUNK }", "{ stageId: JUNK, hasPhone: Y, not: { hasPhone: Y } }");
    let home = Home::new(&portal, &odd);
    let mut service = Service::start(&home);
    let warnings = |log: &str| log.matches("warning[").count();
    let at_start = warnings(&service.process.log());
    assert!(at_start > 0, "{}", service.process.log());
    service.process.signal("HUP");
    service.process.line("rules reloaded");
    assert_eq!(warnings(&service.process.log()), 2 * at_start);
    service.stop();
}

const FIRST: &str = r#"version: 1
timezone: Europe/Berlin
protect:
  - name: vip
    match: { any: [ { assignedById: 1 }, { not: { ufCrm_1700000003: "Y" } } ] }
rules:
  - name: junk
    schedule: "15 3 * * *"
    match:
      stageId:
        in: [JUNK, junk, JUNKK]
      ufCrm_170000000: { empty: true }
  - name: old
    schedule: "@daily"
    match: { stageId: &lost Junk lead, ufCrm_1700000002: { in: [44, 99] } }
    older_than: { field: ufCrm_1700000005, age: 90d }
"#;

const SECOND: &str = r#"version: 1
timezone: Europe/Berlin
rules:
  - name: number
    schedule: "@daily"
    match:
      not: { stageId: { ne: "77" } }
      ufCrm_1700000001: { gt: 5, ne: "7" }
      ufCrm_1700000000: { ne: 15 }
      sourceId: CALLBCK
"#;

#[test]
fn what_the_portal_does_not_know_is_shown_at_its_place_in_every_file() {
    let portal = Portal::with_leads(0);
    let home = Home::new(&portal, JUNK);
    std::fs::create_dir(home.path("rules")).unwrap();
    home.write("rules/a.yaml", FIRST);
    home.write("rules/b.yaml", SECOND);
    let ended = home.fails(2, &["check", "--online", "--rules", "rules"]);
    let found = ended.err.find("rules/a.yaml").unwrap();
    insta::assert_snapshot!("online", &ended.err[found..]);
    let places: Vec<String> =
        crate::home::objects(&home.fails(2, &["check", "--online", "--json", "--rules", "rules"]).out)
            .iter()
            .filter(|problem| problem["severity"] == "error")
            .map(|problem| {
                format!("{}:{}:{}", problem["file"].as_str().unwrap(), problem["line"], problem["column"])
            })
            .collect();
    assert!(places.iter().all(|place| ended.err.contains(&format!("{place}: error["))), "{places:?}");
    let start =
        home.fails(2, &["serve", "--rules", "rules", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    assert!(places.iter().all(|place| start.err.contains(&format!("{place}: error["))), "{}", start.err);
}
