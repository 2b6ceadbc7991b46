//! `simulate`: days in a table and as JSON, alone and beside a service.

use serde_json::Value;

use crate::home::{Home, JUNK, keys};
use crate::portal::Portal;
use crate::service::Service;

/// A webhook that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:9/rest/1/code/";

fn total(forecast: &Value) -> u64 {
    let days = forecast["days"].as_array().unwrap();
    days.iter().map(|day| day["would_delete"].as_u64().unwrap()).sum()
}

#[test]
fn simulate_tells_each_day_and_leaves_everything_as_it_is() {
    let portal = Portal::with_leads(120);
    let junk = portal.in_stage("JUNK").len() as u64;
    let home = Home::new(&portal, JUNK);
    let told = home.object(&["simulate", "junk", "--days", "3", "--json"]);
    assert_eq!(keys(&told), "days mode rule total waiting");
    let days = told["days"].as_array().unwrap();
    assert_eq!(days.len(), 3);
    assert!(days.iter().all(|day| keys(day) == "date held protected undecidable would_delete"), "{told}");
    assert_eq!((told["total"].as_u64(), total(&told)), (Some(junk), junk), "{told}");
    assert!(portal.sandbox.stats().deletions.is_empty());
    assert_eq!(home.files(), ["janitor.db.lock", "rules.yaml"], "a lock is all that it leaves");

    let people = home.with("LANG", "C").ok(&["simulate", "--days", "3"]);
    assert!(people.contains(&format!("junk (mode delete): {junk} deletions in 3 days")), "{people}");
    assert!(people.contains("##########") && people.contains("as they are now"), "{people}");
    assert!(people.contains("days on which nothing happens are left out: "), "{people}");
}

#[test]
fn bars_are_drawn_in_blocks_where_the_locale_has_them() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK).with("LC_ALL", "C.UTF-8");
    assert!(home.ok(&["simulate", "--days", "2"]).contains("██████████"));
}

#[test]
fn a_rule_that_only_plans_and_one_that_is_held_say_so() {
    let portal = Portal::with_leads(120);
    let rules = JUNK.replace("max_matches: 100000", "max_matches: 2");
    let held = Home::new(&portal, &rules);
    assert!(held.ok(&["simulate", "--days", "2"]).contains("HELD: "));
    let told = held.object(&["simulate", "--days", "2", "--json"]);
    assert_eq!(total(&told), 0);
    assert!(told["days"].as_array().unwrap().iter().any(|day| day["held"].is_string()), "{told}");
    let plans = Home::new(&portal, &JUNK.replace("mode: delete", "mode: plan"));
    let people = plans.ok(&["simulate", "--days", "2"]);
    assert!(people.contains("as if it alone said `mode: delete`"), "{people}");
}

#[test]
fn simulate_beside_a_service_goes_through_it_and_refuses_other_rules() {
    let portal = Portal::with_leads(120);
    let junk = portal.in_stage("JUNK").len() as u64;
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    // The command could not reach the portal by itself.
    let home = home.with("B24_WEBHOOK_URL", NOBODY);
    assert_eq!(total(&home.object(&["simulate", "--days", "2", "--json"])), junk);
    home.write("rules.yaml", &JUNK.replace("{ stageId: JUNK }", "{ stageId: NEW }"));
    let ended = home.fails(1, &["simulate"]);
    assert!(ended.err.contains("reload the service first"), "{}", ended.err);
    service.stop();
}

#[test]
fn a_beginning_that_has_passed_or_is_none_is_refused() {
    let portal = Portal::with_leads(20);
    let home = Home::new(&portal, JUNK);
    for (at, why) in
        [("2020-01-01", "has passed"), ("2020-01-01T00:00:00Z", "has passed"), ("soon", "write a date")]
    {
        let ended = home.fails(2, &["simulate", "--at", at]);
        assert!(ended.err.contains(why), "{at}: {}", ended.err);
    }
    home.fails(2, &["simulate", "--days", "367"]);
    let told = home.object(&["simulate", "--at", "2090-03-01", "--days", "2", "--json"]);
    assert_eq!(
        (&told["days"][0]["date"], &told["days"][1]["date"]),
        (&"2090-03-01".into(), &"2090-03-02".into())
    );
}
