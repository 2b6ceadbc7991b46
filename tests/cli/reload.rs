//! New rules for a running service: all of them or none.

use crate::home::{Home, JUNK, is_time};
use crate::http;
use crate::portal::Portal;
use crate::service::Service;

fn second_rule() -> String {
    format!("{JUNK}  - {{ name: seven, schedule: '@daily', match: {{ stageId: '7' }}, mode: delete }}\n")
}

#[test]
fn a_hangup_puts_new_rules_into_force() {
    let portal = Portal::with_leads(120);
    let home = Home::new(&portal, JUNK);
    let mut service = Service::start(&home);
    home.write("rules.yaml", &second_rule());
    service.process.signal("HUP");
    service.process.line("rules reloaded");
    home.ok(&["run", "seven", "--wait"]);
    assert!(portal.in_stage("7").is_empty() && !portal.in_stage("JUNK").is_empty());
    service.stop();
}

#[test]
fn with_a_mistake_the_old_rules_stay_and_everyone_is_told() {
    let portal = Portal::with_leads(120);
    let home = Home::new(&portal, JUNK);
    let mut service = Service::start(&home);
    home.write("rules.yaml", &second_rule().replace("stageId: '7'", "stagId: '7'"));
    service.process.signal("HUP");
    let line = service.process.line("not reloaded");
    assert!(line.contains("the old ones stay in force"), "{line}");
    assert!(service.process.log().contains("error[unknown-field]"), "{}", service.process.log());
    let (status, body) = http::get(service.admin, "/readyz");
    assert!(status == 200 && body.contains("the last reload failed"), "{status} {body}");
    assert!(body.contains("rules.yaml:10:"), "{body}");
    assert!(http::get(service.admin, "/metrics").1.contains("janitor_rules_last_reload_successful 0"));
    assert!(http::get(service.admin, "/").1.contains("The last reload failed"));

    let told = home.object(&["status", "--json"]);
    let failed = &told["reload_failed"];
    assert!(is_time(&failed["at"]), "{told}");
    assert!(failed["problems"][0].as_str().unwrap().starts_with("rules.yaml:10:"), "{told}");
    let people = home.ok(&["status"]);
    assert!(people.contains("RULES: the reload of ") && people.contains("\n  rules.yaml:10:"), "{people}");

    // The old rule still runs, for whoever has rules that can be read.
    home.write("rules.yaml", JUNK);
    home.ok(&["run", "junk", "--wait"]);
    assert!(portal.in_stage("JUNK").is_empty());

    service.process.signal("HUP");
    service.process.line("rules reloaded");
    let (status, body) = http::get(service.admin, "/readyz");
    assert_eq!((status, body.as_str()), (200, "ready\n"));
    assert!(http::get(service.admin, "/metrics").1.contains("janitor_rules_last_reload_successful 1"));
    assert!(home.object(&["status", "--json"])["reload_failed"].is_null());
    service.stop();
}

#[test]
fn a_failed_reload_is_forgotten_by_a_start_that_takes_the_rules() {
    let portal = Portal::with_leads(20);
    let home = Home::new(&portal, JUNK);
    let mut service = Service::start(&home);
    home.write("rules.yaml", "version: 1\n");
    service.process.signal("HUP");
    service.process.line("not reloaded");
    service.stop();
    assert!(home.object(&["status", "--json"])["reload_failed"]["at"].is_string(), "a stop changes nothing");
    home.write("rules.yaml", JUNK);
    let service = Service::start(&home);
    assert!(home.object(&["status", "--json"])["reload_failed"].is_null());
    service.stop();
}

#[test]
fn jobs_of_a_rule_that_is_gone_are_spared() {
    let portal = Portal::with_leads(120);
    let junk = portal.in_stage("JUNK").len() as u64;
    let home = Home::new(&portal, &JUNK.replace("    mode:", "    grace_period: 24h\n    mode:"));
    let mut service = Service::start(&home);
    home.ok(&["run", "junk"]);
    home.write("rules.yaml", &JUNK.replace("name: junk", "name: other"));
    service.process.signal("HUP");
    service.process.line("rules reloaded");
    assert_eq!((home.jobs("spared"), home.jobs("waiting")), (junk, 0));
    service.stop();
    assert!(portal.sandbox.stats().deletions.is_empty());
}
