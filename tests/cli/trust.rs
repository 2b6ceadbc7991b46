//! What an administrator sees who edits rules in a hurry: every mistake is refused at `check`, at start and at reload,
//! while the old rules go on; and `explain` says why a lead is kept or goes.

use std::fmt::Write;

use b24_janitor::sandbox::SandboxOptions;

use crate::home::Home;
use crate::output::timeless;
use crate::portal::Portal;
use crate::service::Service;

const RULES: &str = r#"version: 1
timezone: Europe/Berlin
defaults: { limits: { max_matches: 100000, max_percent: 100 }, grace_period: 24h }
protect:
  - { name: has-money, match: { opportunity: { gt: 0 } } }
rules:
  - name: junk
    schedule: "15 3 * * *"
    match: { stageId: JUNK, assignedById: [1, 2, 3, 4, 5] }
    mode: delete
  - name: promised
    schedule: "0 4 * * *"
    match: { stageId: JUNK }
    older_than: { field: ufCrm_1700000004, age: 30d }
    mode: delete
"#;

/// What was changed in the rules, into what, which `check` finds it, and what it says.
const MISTAKES: [(&str, &str, &[&str], &str); 4] = [
    (
        "stageId: JUNK, ",
        "stagId: JUNK, ",
        &["check"],
        "rules.yaml:9:14: error[unknown-field]: a lead has no field `stagId`",
    ),
    (
        "stageId: JUNK, ",
        "stageId: JUNKK, ",
        &["check", "--online"],
        "rules.yaml:9:23: error[unknown-stage]: junk: the portal has no stage `JUNKK`",
    ),
    (
        "    mode: delete\n  - name: promised",
        "    mode: delete\n    mode: plan\n  - name: promised",
        &["check"],
        "rules.yaml:11:5: error[duplicate-key]: `mode` is set twice",
    ),
    (
        "\"15 3 * * *\"",
        "\"15 25 * * *\"",
        &["check"],
        "rules.yaml:8:19: error[bad-cron]: 25 is out of range for the hour",
    ),
];

fn portal() -> Portal {
    let scope = vec!["crm".to_owned(), "user_brief".to_owned()];
    Portal::start(SandboxOptions { leads: 60, scope, ..SandboxOptions::default() })
}

#[test]
fn a_mistake_is_refused_at_check_at_start_and_at_reload_and_the_old_rules_go_on() {
    let portal = portal();
    let home = Home::new(&portal, RULES);
    let mut service = Service::start(&home);
    let mut session = String::new();
    for (old, new, check, says) in MISTAKES {
        assert!(RULES.contains(old));
        home.write("rules.yaml", &RULES.replacen(old, new, 1));
        let checked = home.fails(2, check);
        assert!(checked.err.contains(says), "{}", checked.err);
        let refused = checked.err.find(says).unwrap();
        write!(session, "$ b24-janitor {}\n{}\n", check.join(" "), &checked.err[refused..]).unwrap();
        let other = ["serve", "--db", "other.db", "--listen", "127.0.0.1:0", "--admin-listen", "off"];
        let started = home.fails(2, &other);
        assert!(started.err.contains(says), "{}", started.err);
        let (status, body) = crate::http::order(service.admin, "/rules/reload");
        assert_eq!(status, 422);
        assert!(body.contains("not reloaded; the old rules stay in force") && body.contains(says), "{body}");
        service.process.signal("HUP");
        service.process.line("the rules were not reloaded");
        assert!(crate::http::get(service.admin, "/readyz").1.contains(says));
    }
    insta::assert_snapshot!("mistakes", session);

    home.write("rules.yaml", RULES);
    let selected = portal.sandbox.ids_where(|lead| &*lead.stage == "JUNK" && lead.opportunity == 0.0);
    let run = home.object(&["run", "junk", "--json"]);
    assert_eq!(run["enqueued"], selected.len(), "the rules that were in force before are in force still");
    let (status, body) = crate::http::order(service.admin, "/rules/reload");
    assert_eq!((status, body.as_str()), (200, "rules reloaded: 2 rules in force\n"));
    assert!(!crate::http::get(service.admin, "/readyz").1.contains("reload failed"));
    service.stop();
    assert!(portal.sandbox.stats().deletions.is_empty());
}

#[test]
fn explain_tells_a_protected_lead_from_one_that_can_not_be_judged_and_one_that_goes_tomorrow() {
    let portal = portal();
    let home = Home::new(&portal, RULES);
    let protected = portal.sandbox.ids_where(|lead| &*lead.stage == "JUNK" && lead.opportunity > 0.0)[0];
    let tomorrow = portal.sandbox.ids_where(|lead| &*lead.stage == "JUNK" && lead.opportunity == 0.0)[0];
    home.ok(&["run", "junk"]);
    let mut session = String::new();
    for lead in [protected, tomorrow] {
        write!(session, "$ b24-janitor explain {lead}\n{}\n", home.ok(&["explain", &lead.to_string()]))
            .unwrap();
    }
    insta::assert_snapshot!("explained", timeless(&session));
    let told = home.object(&["explain", &tomorrow.to_string(), "--json"]);
    let (junk, promised) = (&told["rules"][0], &told["rules"][1]);
    assert_eq!((&junk["verdict"], &promised["verdict"]), (&"delete".into(), &"undecidable".into()));
    let time = |value: &serde_json::Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let job = &told["jobs"][0];
    let grace = time(&junk["due_at"]).duration_since(time(&job["created_at"]));
    assert_eq!(grace, jiff::SignedDuration::from_hours(24));
    assert!(told.to_string().contains(r#""names":{"1":"User 1 Sandbox""#), "{told}");
}

#[test]
fn users_are_checked_where_the_webhook_may_see_them_and_else_the_scope_is_named() {
    let portal = portal();
    let rules = RULES.replace("[1, 2, 3, 4, 5]", "[1, 99]");
    let home = Home::new(&portal, &rules);
    let ended = home.run(&["check", "--online"]);
    let unknown = "rules.yaml:9:47: warning[unknown-user]: junk: the portal shows this webhook no user 99";
    assert!(ended.code == Some(0) && ended.err.contains(unknown), "{}", ended.err);
    assert!(!ended.err.contains("no user 1:"), "{}", ended.err);
    portal.sandbox.configure(|options| options.scope = vec!["crm".to_owned()]);
    let ended = home.run(&["check", "--online"]);
    assert!(ended.code == Some(0) && ended.err.contains("lacks the scope `user_brief`"), "{}", ended.err);
    assert!(!ended.err.contains("unknown-user"), "{}", ended.err);
}

#[test]
fn suggested_commands_carry_the_places_that_were_typed_and_a_replaced_run_is_called_so() {
    let portal = portal();
    let home = Home::without_portal("").with("B24_WEBHOOK_URL", &portal.webhook());
    home.write("my rules.yaml", &RULES.replace("max_matches: 100000", "max_matches: 1"));
    let places = ["--rules", "my rules.yaml", "--db", "my.db"];
    let typed = |words: &[&'static str]| [words, places.as_slice()].concat();
    let held = home.fails(3, &typed(&["run", "junk"]));
    let count = portal.sandbox.ids_where(|lead| &*lead.stage == "JUNK" && lead.opportunity == 0.0).len();
    let command = format!("`b24-janitor approve 1 --count {count} --rules 'my rules.yaml' --db my.db`");
    assert!(held.out.contains(&command), "{}", held.out);
    assert!(home.ok(&typed(&["runs"])).contains(&command));
    home.fails(3, &typed(&["run", "junk"]));
    let refused = home.fails(1, &typed(&["approve", "1", "--count", "5"]));
    assert!(refused.err.contains("run 1 was replaced by a later run of rule junk"), "{}", refused.err);
    assert!(home.ok(&typed(&["status"])).contains("HELD: run 2"));
}

#[test]
fn status_names_the_rules_that_have_used_up_their_day() {
    let portal = portal();
    let rules =
        RULES.replace("max_percent: 100 }, grace_period: 24h", "max_percent: 100, deletes_per_day: 3 }");
    let home = Home::new(&portal, &rules);
    let ended = home.fails(1, &["run", "junk", "--wait"]);
    assert!(ended.err.contains("deletes_per_day is used up: 3 of 3"), "{}", ended.err);
    let said = home.ok(&["status"]);
    let cap = "DAY CAP: rule junk has used up its deletes_per_day of 3; the next may go at ";
    let line = said.lines().find_map(|line| line.strip_prefix(cap)).unwrap();
    assert!(line.ends_with("+01:00") || line.ends_with("+02:00"), "in the rule's zone: {line}");
    let capped = &home.object(&["status", "--json"])["capped"];
    assert_eq!((&capped[0]["rule"], &capped[0]["deletes_per_day"]), (&"junk".into(), &3.into()));
}
