//! A service that is killed without warning, again and again: the next one ends where an undisturbed one would have.

use std::collections::BTreeSet;
use std::time::Duration;

use b24_janitor::sandbox::SandboxOptions;

use crate::home::{Home, JUNK};
use crate::portal::Portal;
use crate::service::{Service, until, within};

/// A request whose answer was lost settles 75 s after it was sent.
const SETTLED_WITHIN: Duration = Duration::from_secs(110);

#[test]
fn killed_in_the_middle_of_a_drain_it_deletes_exactly_the_leads_of_the_rule() {
    let portal = Portal::start(SandboxOptions {
        leads: 2000,
        delete_seconds: 0.01,
        sleep_scale: 1.0,
        ..SandboxOptions::default()
    });
    let junk: BTreeSet<u32> = portal.in_stage("JUNK").into_iter().collect();
    let others = portal.not_in_stage("JUNK");
    assert!(junk.len() > 500);
    let home = Home::new(&portal, JUNK);
    let mut service = Service::start(&home);
    home.ok(&["run", "junk"]);
    for deleted in [1, 40, 150, 350] {
        until("so many deletions", || (portal.sandbox.stats().deletions.len() >= deleted).then_some(()));
        service.process.kill();
        service = Service::start(&home);
    }
    let total = junk.len() as u64;
    within(SETTLED_WITHIN, "the end of all jobs", || {
        let jobs = &home.object(&["status", "--json"])["jobs"];
        (jobs["waiting"] == 0 && jobs["running"] == 0).then_some(())
    });
    service.stop();

    let stats = portal.sandbox.stats();
    let deleted: BTreeSet<u32> = stats.deletions.iter().map(|deletion| deletion.id).collect();
    assert_eq!(deleted, junk, "all of them, and no other");
    assert_eq!(stats.deletions.len(), junk.len());
    assert_eq!(portal.not_in_stage("JUNK"), others);
    let jobs = home.objects(&["jobs", "--json"]);
    let outcomes: BTreeSet<&str> = jobs.iter().map(|job| job["outcome"].as_str().unwrap()).collect();
    // Whoever else could have deleted them? A lost answer is ours.
    assert_eq!((jobs.len() as u64, outcomes), (total, BTreeSet::from(["deleted"])));
    assert_eq!(home.jobs("deleted"), total);
    let run = home.object(&["runs", "--json"]);
    assert_eq!((run["matched"].as_u64(), run["enqueued"].as_u64()), (Some(total), Some(total)));
    portal.assert_pace_kept();
}

#[test]
fn killed_while_it_evaluates_it_enqueues_nothing_and_the_run_counts_as_failed() {
    let portal = Portal::start(SandboxOptions {
        leads: 600,
        list_seconds: 0.5,
        sleep_scale: 1.0,
        ..SandboxOptions::default()
    });
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    let asking = crate::service::Process::start(home.command(&["run", "junk"]));
    until("the run", || {
        let running = home.objects(&["runs", "--json"]).iter().any(|run| run["state"] == "running");
        (running && portal.sandbox.stats().in_flight > 0).then_some(())
    });
    service.process.kill();
    asking.kill();

    let service = Service::start(&home);
    let runs = home.objects(&["runs", "--json"]);
    assert_eq!((runs.len(), &runs[0]["state"]), (1, &"failed".into()), "{runs:?}");
    assert!(runs[0]["error"].as_str().is_some_and(|error| !error.is_empty()));
    assert_eq!(home.jobs("waiting"), 0);
    portal.sandbox.configure(|options| options.list_seconds = 0.0);
    home.ok(&["run", "junk", "--wait"]);
    assert!(portal.in_stage("JUNK").is_empty());
    service.stop();
}

#[test]
fn events_answered_before_a_crash_are_evaluated_after_it() {
    let rules = JUNK.replace("    mode:", "    events: [ONCRMLEADADD]\n    mode:");
    let portal = Portal::start(SandboxOptions { leads: 60, other_seconds: 0.3, ..SandboxOptions::default() });
    let junk = portal.in_stage("JUNK");
    let home = Home::new(&portal, &rules).with("B24_APPLICATION_TOKEN", crate::http::TOKEN);
    let service = Service::start(&home);
    for lead in &junk {
        let event = crate::http::event("ONCRMLEADADD", *lead, crate::http::TOKEN);
        assert_eq!(crate::http::post(service.public, "/bitrix24/events", crate::http::FORM, &event).0, 200);
    }
    service.process.kill();
    let service = Service::start(&home);
    let status = home.object(&["status", "--json"]);
    assert_eq!(status["events"]["total"].as_u64(), Some(junk.len() as u64), "{status}");
    within(SETTLED_WITHIN, "all their deletions", || portal.in_stage("JUNK").is_empty().then_some(()));
    service.stop();
}
