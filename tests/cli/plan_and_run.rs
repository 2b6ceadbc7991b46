//! `plan`, `run` and `approve`: what they do alone, and that beside a running service they go through it.

use b24_janitor::sandbox::{Fault, SandboxOptions};

use crate::home::{Home, JUNK};
use crate::portal::Portal;
use crate::service::{Process, Service, until};

/// A webhook that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:9/rest/1/code/";

fn only_plans() -> String {
    JUNK.replace("mode: delete", "mode: plan")
}

fn capped(limits: &str) -> String {
    JUNK.replace("max_matches: 100000, max_percent: 100", limits)
}

#[test]
fn plan_deletes_nothing_and_leaves_no_database() {
    let portal = Portal::with_leads(120);
    let junk = portal.in_stage("JUNK").len();
    let home = Home::new(&portal, JUNK);
    let plan = home.object(&["plan", "junk", "--json"]);
    assert_eq!(plan["would_delete"].as_u64(), Some(junk as u64));
    assert_eq!(plan["by_stage"]["JUNK"].as_u64(), Some(junk as u64));
    assert!(portal.sandbox.stats().deletions.is_empty());
    assert_eq!(home.files(), ["janitor.db.lock", "rules.yaml"], "a lock is all that it leaves");
}

#[test]
fn plan_and_run_beside_a_service_go_through_it() {
    let portal = Portal::with_leads(300);
    let junk = portal.in_stage("JUNK").len() as u64;
    let others = portal.not_in_stage("JUNK");
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    // These commands could not reach the portal by themselves.
    let home = home.with("B24_WEBHOOK_URL", NOBODY);

    let plan = home.object(&["plan", "--json"]);
    assert_eq!(plan["would_delete"].as_u64(), Some(junk));
    assert!(portal.sandbox.stats().deletions.is_empty());

    let run = home.object(&["run", "junk", "--wait", "--json"]);
    assert_eq!(run["jobs"]["deleted"].as_u64(), Some(junk), "{run}");
    assert_eq!((portal.in_stage("JUNK").len(), portal.not_in_stage("JUNK")), (0, others));
    portal.assert_pace_kept();
    service.stop();
}

#[test]
fn a_rule_that_only_the_command_knows_is_refused_by_the_service() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    home.write("rules.yaml", &JUNK.replace("name: junk", "name: new"));
    let ended = home.fails(1, &["run", "new"]);
    assert!(ended.err.contains("the running service has no rule `new`; it has: junk"), "{}", ended.err);
    service.stop();
}

#[test]
fn run_leaves_its_jobs_waiting_and_run_with_wait_drains_them_too() {
    let portal = Portal::with_leads(300);
    let junk = portal.in_stage("JUNK").len() as u64;
    let home = Home::new(&portal, JUNK);
    let out = home.ok(&["run", "junk"]);
    assert!(out.contains("--wait"), "who deletes them now? {out}");
    assert_eq!((home.jobs("waiting"), portal.sandbox.stats().deletions.len()), (junk, 0));

    let run = home.object(&["run", "junk", "--wait", "--json"]);
    assert_eq!((&run["enqueued"], &run["already_waiting"]), (&0.into(), &junk.into()));
    assert_eq!(run["jobs"]["deleted"].as_u64(), Some(junk), "{run}");
    assert_eq!((home.jobs("deleted"), home.jobs("waiting"), portal.in_stage("JUNK").len()), (junk, 0, 0));
    portal.assert_pace_kept();
}

#[test]
fn run_of_a_rule_that_plans_says_that_nothing_was_enqueued() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, &only_plans());
    let out = home.ok(&["run", "junk", "--wait"]);
    assert!(out.contains("mode is plan") && out.contains("nothing was"), "{out}");
    assert_eq!((home.jobs("waiting"), portal.sandbox.stats().deletions.len()), (0, 0));
}

#[test]
fn jobs_in_their_grace_period_are_not_waited_for() {
    let portal = Portal::with_leads(60);
    let junk = portal.in_stage("JUNK").len();
    let home = Home::new(&portal, &JUNK.replace("    mode:", "    grace_period: 24h\n    mode:"));
    let out = home.ok(&["run", "junk", "--wait"]);
    assert!(out.contains(&format!("{junk} are due later, the first at 20")), "{out}");
    assert!(portal.sandbox.stats().deletions.is_empty());
}

#[test]
fn waiting_ends_with_the_reason_when_deleting_is_paused() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    home.ok(&["run", "junk"]);
    home.ok(&["pause"]);
    let ended = home.fails(1, &["run", "junk", "--wait"]);
    assert!(ended.err.contains("paused") && ended.err.contains("b24-janitor resume"), "{}", ended.err);
    assert!(portal.sandbox.stats().deletions.is_empty());
}

#[test]
fn waiting_ends_with_the_reason_when_the_days_deletions_are_used_up() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, &capped("max_matches: 1000, max_percent: 100, deletes_per_day: 7"));
    let ended = home.fails(1, &["run", "junk", "--wait"]);
    assert!(ended.err.contains("deletes_per_day is used up: 7 of 7"), "{}", ended.err);
    assert!(ended.out.contains("done: 7 deleted"), "{}", ended.out);
    assert_eq!(portal.sandbox.stats().deletions.len(), 7);
}

#[test]
fn a_run_fails_with_the_reason_when_the_portal_refuses() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    portal.sandbox.configure(|options| options.code = "renewed".to_owned());
    for args in [["run", "junk"].as_slice(), &["run", "junk", "--wait"], &["plan"]] {
        let ended = home.fails(1, args);
        assert!(ended.err.contains("INVALID_CREDENTIALS"), "{}", ended.err);
        assert!(ended.err.contains("create a new incoming webhook"), "{}", ended.err);
        assert!(!ended.err.contains("sandboxcode"), "the code is a secret: {}", ended.err);
    }
    // Rules that the portal could not be asked about start no run.
    assert!(home.objects(&["runs", "--json"]).is_empty());
}

#[test]
fn a_run_fails_with_the_reason_when_the_portal_refuses_after_it_was_asked_about_the_rules() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    portal.sandbox.set_fault(Fault::error(
        "crm.item.list",
        "ACCESS_DENIED",
        "REST is not for this plan",
        401,
    ));
    let ended = home.fails(1, &["run", "junk", "--json"]);
    let run = crate::home::objects(&ended.out).remove(0);
    assert_eq!(run["state"], "failed");
    assert!(run["error"].as_str().unwrap().contains("ACCESS_DENIED"), "{run}");
    assert!(ended.err.contains("failed, nothing was enqueued"), "{}", ended.err);
    assert!(home.objects(&["runs", "--json"]).iter().all(|run| run["state"] == "failed"));
}

#[test]
fn waiting_ends_with_the_reason_when_the_portal_refuses_in_the_middle() {
    let portal = Portal::with_leads(200);
    let home = Home::new(&portal, JUNK);
    home.ok(&["run", "junk"]);
    let blocked = Fault::error("batch", "OVERLOAD_LIMIT", "REST API is blocked due to overload.", 403);
    // One batch lists for the run, and the first ones delete.
    portal.sandbox.set_fault(blocked.nth(3, u64::MAX));
    let ended = home.fails(1, &["run", "junk", "--wait"]);
    assert!(ended.err.contains("the portal refuses every call: OVERLOAD_LIMIT"), "{}", ended.err);
    let stopped = home.object(&["status", "--json"]);
    assert_eq!(stopped["portal_stop"]["code"], "OVERLOAD_LIMIT");
    assert!(home.ok(&["status"]).contains("STOPPED by the portal since"));
    assert!(home.jobs("waiting") > 0 && home.jobs("failed") == 0);

    // The refused ones are due again after seconds.
    portal.sandbox.clear_faults();
    until("the rest", || {
        home.ok(&["run", "junk", "--wait"]);
        portal.in_stage("JUNK").is_empty().then_some(())
    });
}

#[test]
fn a_run_over_a_cap_is_held_until_its_exact_count_is_approved() {
    let portal = Portal::with_leads(120);
    let junk = portal.in_stage("JUNK").len() as u64;
    let home = Home::new(&portal, &capped("max_matches: 10, max_percent: 100"));
    let plan = home.object(&["plan", "--json"]);
    assert!(plan["held"].as_str().is_some_and(|why| why.contains("10")), "{plan}");

    let ended = home.fails(3, &["run", "junk", "--wait"]);
    let line = format!("`b24-janitor approve 1 --count {junk}`");
    assert!(ended.out.contains("HELD: ") && ended.out.contains(&line), "{}", ended.out);
    assert!(home.ok(&["runs"]).contains(&line));
    assert!(home.ok(&["status"]).contains("HELD: run 1 waits for approval"));
    assert_eq!(home.fails(3, &["run", "junk", "--json"]).out.lines().count(), 1);

    // That second run has taken the first one's place.
    let wrong = home.fails(1, &["approve", "2", "--count", "1"]);
    assert!(wrong.err.contains(&format!("would enqueue {junk} leads, not 1")), "{}", wrong.err);
    home.fails(1, &["approve", "1", "--count", &junk.to_string()]);
    assert_eq!(home.jobs("waiting"), 0);

    let approved = home.object(&["approve", "2", "--count", &junk.to_string(), "--json"]);
    assert_eq!((&approved["result"], &approved["enqueued"]), (&"approved".into(), &junk.into()));
    assert_eq!(home.jobs("waiting"), junk);
    assert!(portal.sandbox.stats().deletions.is_empty(), "approving deletes nothing by itself");
    home.fails(1, &["approve", "2", "--count", &junk.to_string()]);
}

#[test]
fn approval_is_refused_after_the_rule_has_changed() {
    let portal = Portal::with_leads(120);
    let junk = portal.in_stage("JUNK").len().to_string();
    let rules = capped("max_matches: 10, max_percent: 100");
    let home = Home::new(&portal, &rules);
    home.fails(3, &["run", "junk"]);
    home.write("rules.yaml", &rules.replace("{ stageId: JUNK }", "{ stageId: { in: [JUNK, '7'] } }"));
    let ended = home.fails(1, &["approve", "1", "--count", &junk]);
    assert!(ended.err.contains("rule junk has changed since run 1"), "{}", ended.err);
    assert_eq!(home.jobs("waiting"), 0);
}

#[test]
fn a_service_follows_an_approval_at_once() {
    let portal = Portal::with_leads(120);
    let junk = portal.in_stage("JUNK").len();
    let home = Home::new(&portal, &capped("max_matches: 10, max_percent: 100"));
    let service = Service::start(&home);
    home.fails(3, &["run", "junk", "--wait"]);
    home.ok(&["approve", "1", "--count", &junk.to_string()]);
    until("the approved deletions", || portal.in_stage("JUNK").is_empty().then_some(()));
    service.stop();
    assert_eq!(home.jobs("deleted"), junk as u64);
}

#[test]
fn an_interrupted_run_loses_nothing_and_goes_on_later() {
    let options =
        SandboxOptions { leads: 400, delete_seconds: 0.02, sleep_scale: 1.0, ..SandboxOptions::default() };
    let portal = Portal::start(options);
    let junk = portal.in_stage("JUNK").len() as u64;
    let home = Home::new(&portal, JUNK);
    let mut run = Process::start(home.command(&["run", "junk", "--wait"]));
    until("the first deletions", || (portal.sandbox.stats().deletions.len() > 5).then_some(()));
    run.signal("INT");
    assert_eq!(run.ended().code(), Some(1));
    run.line("interrupted");
    assert_eq!(home.jobs("running"), 0, "what was in flight was finished");
    assert!(home.jobs("waiting") > 0);
    home.ok(&["run", "junk", "--wait"]);
    assert_eq!((home.jobs("deleted"), portal.in_stage("JUNK").len()), (junk, 0));
    portal.assert_pace_kept();
}

#[test]
fn an_interrupted_plan_leaves_no_file_behind() {
    let options =
        SandboxOptions { leads: 600, list_seconds: 2.0, sleep_scale: 1.0, ..SandboxOptions::default() };
    let portal = Portal::start(options);
    // Its directory for temporary files is the same.
    let home = Home::new(&portal, JUNK);
    let mut plan = Process::start(home.command(&["plan"]));
    until("a request under way", || (portal.sandbox.stats().in_flight > 0).then_some(()));
    plan.signal("INT");
    assert_eq!(plan.ended().code(), Some(1));
    plan.line("interrupted");
    assert_eq!(home.files(), ["janitor.db.lock", "rules.yaml"]);
}

#[test]
fn a_command_does_not_wait_for_a_service_that_died() {
    let options =
        SandboxOptions { leads: 600, list_seconds: 2.0, sleep_scale: 1.0, ..SandboxOptions::default() };
    let portal = Portal::start(options);
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    let mut run = Process::start(home.command(&["run", "junk"]));
    let mut plan = Process::start(home.command(&["plan"]));
    until("a request under way", || (portal.sandbox.stats().in_flight > 0).then_some(()));
    service.process.kill();
    for command in [&mut run, &mut plan] {
        assert_eq!(command.ended().code(), Some(1));
        command.line("ended before it answered: try again");
    }
}

#[test]
fn two_runs_at_once_do_not_work_side_by_side() {
    let options =
        SandboxOptions { leads: 60, list_seconds: 2.0, sleep_scale: 1.0, ..SandboxOptions::default() };
    let portal = Portal::start(options);
    let home = Home::new(&portal, JUNK);
    let mut first = Process::start(home.command(&["run", "junk"]));
    until("a request under way", || (portal.sandbox.stats().in_flight > 0).then_some(()));
    let second = home.fails(1, &["run", "junk"]);
    assert!(second.err.contains("ended before it answered: try again"), "{}", second.err);
    assert_eq!(first.ended().code(), Some(0));
    assert_eq!(home.objects(&["runs", "--json"]).len(), 1);
}

#[test]
fn commands_beside_a_service_share_its_pace() {
    let portal = Portal::start(SandboxOptions {
        leads: 500,
        requests_per_second: 5.0,
        burst: 4.0,
        ..SandboxOptions::default()
    });
    let rules = JUNK.replace("defaults:", "portal: { requests_per_second: 5, burst: 4 }\ndefaults:");
    let home = Home::new(&portal, &rules);
    let service = Service::start(&home);
    let mut commands: Vec<Process> =
        [["plan", "junk"].as_slice(), &["plan"], &["run", "junk", "--wait"], &["plan"]]
            .iter()
            .map(|args| Process::start(home.command(args)))
            .collect();
    for command in &mut commands {
        assert_eq!(command.ended().code(), Some(0), "{}", command.log());
    }
    assert!(portal.in_stage("JUNK").is_empty());
    assert!(portal.sandbox.stats().requests > 10, "too few to reach the limit");
    portal.assert_pace_kept();
    service.stop();
}
