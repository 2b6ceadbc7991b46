//! Orders to a running service by the database: pause, resume, cancel, retry.

use std::time::Duration;

use b24_janitor::sandbox::SandboxOptions;

use crate::home::{Home, JUNK};
use crate::portal::Portal;
use crate::service::{Service, until, within};

/// A portal where a deletion takes real time.
fn slow(leads: usize, delete_seconds: f64) -> Portal {
    Portal::start(SandboxOptions { leads, delete_seconds, sleep_scale: 1.0, ..SandboxOptions::default() })
}

fn with_grace(rules: &str) -> String {
    rules.replace("    mode:", "    grace_period: 24h\n    mode:")
}

#[test]
fn pause_stops_the_deleting_within_a_second_and_resume_goes_on() {
    let portal = slow(1500, 0.02);
    let junk = portal.in_stage("JUNK").len() as u64;
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    home.ok(&["run", "junk"]);
    until("some deletions", || (portal.sandbox.stats().deletions.len() > 30).then_some(()));
    home.ok(&["pause"]);
    let paused_at = portal.sandbox.now();
    until("the end of the requests in flight", || (home.jobs("running") == 0).then_some(()));
    let before = portal.sandbox.stats();
    assert!(home.jobs("waiting") > 0);
    let last = before.deletions.iter().map(|deletion| deletion.at).max().unwrap();
    // A second to notice, and the request that was under way: at most 50 deletions, 20 ms each.
    assert!(last.duration_since(paused_at).as_secs_f64() < 2.5, "paused at {paused_at}, deleted at {last}");

    // The service knows, stays ready, and still answers commands.
    assert!(crate::http::get(service.admin, "/metrics").1.contains("janitor_paused 1"));
    let (status, body) = crate::http::get(service.admin, "/readyz");
    assert!(status == 200 && body.contains("paused"), "{status} {body}");
    home.ok(&["plan"]);
    assert_eq!(portal.sandbox.stats().deletions.len(), before.deletions.len());

    // Across a restart too.
    service.stop();
    let service = Service::start(&home);
    home.ok(&["plan"]);
    assert_eq!(portal.sandbox.stats().deletions.len(), before.deletions.len());

    home.ok(&["resume"]);
    within(Duration::from_secs(3), "deletions after `resume`", || {
        (portal.sandbox.stats().deletions.len() > before.deletions.len()).then_some(())
    });
    until("the end", || portal.in_stage("JUNK").is_empty().then_some(()));
    until("the last settled job", || (home.jobs("deleted") == junk).then_some(()));
    service.stop();
    portal.assert_pace_kept();
}

#[test]
fn a_cancelled_job_keeps_its_lead_and_protects_it_from_the_rule() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, &with_grace(JUNK));
    let service = Service::start(&home);
    home.ok(&["run", "junk"]);
    let job = home.objects(&["jobs", "--json"]).remove(0);
    let (id, lead) = (job["id"].to_string(), job["lead_id"].to_string());
    assert!(home.ok(&["cancel", &id]).contains("30 days"));
    let job = home.object(&["jobs", "--json", "--lead", &lead]);
    assert_eq!((&job["state"], &job["outcome"]), (&"done".into(), &"cancelled".into()));

    let run = home.object(&["run", "junk", "--json"]);
    assert_eq!((&run["protected"], &run["enqueued"]), (&1.into(), &0.into()), "{run}");
    for (args, why) in
        [(["cancel", id.as_str()], "done already: cancelled"), (["cancel", "9999"], "no job 9999")]
    {
        let ended = home.fails(1, &args);
        assert!(ended.err.contains(why), "{}", ended.err);
    }
    service.stop();
    assert!(portal.sandbox.stats().deletions.is_empty());
}

#[test]
fn a_running_job_can_not_be_cancelled() {
    let portal = slow(30, 1.0);
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    home.ok(&["run", "junk"]);
    let running = until("a job that was sent", || {
        (portal.sandbox.stats().in_flight > 0)
            .then(|| home.objects(&["jobs", "--json", "--state", "running"]))?
            .pop()
    });
    let ended = home.fails(1, &["cancel", &running["id"].to_string()]);
    assert!(ended.err.contains("is running: its deletion was or is about to be sent"), "{}", ended.err);
    service.stop();
}

#[test]
fn retry_of_a_failed_job_is_followed_at_once() {
    let portal = Portal::with_leads(60);
    let junk = portal.in_stage("JUNK");
    portal.sandbox.veto(junk[0], "The accounting still needs this lead");
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    let run = home.object(&["run", "junk", "--wait", "--json"]);
    assert_eq!(
        (&run["jobs"]["failed"], &run["jobs"]["deleted"]),
        (&1.into(), &(junk.len() - 1).into()),
        "{run}"
    );
    let failed = home.object(&["jobs", "--json", "--state", "failed"]);
    assert!(failed["last_error"].as_str().unwrap().contains("accounting"), "{failed}");
    assert_eq!(failed["lead_id"].as_u64(), Some(u64::from(junk[0])));
    assert!(home.ok(&["jobs", "--state", "failed"]).contains("accounting"), "people are told why, too");

    portal.sandbox.permit(junk[0]);
    home.ok(&["retry", &failed["id"].to_string()]);
    within(Duration::from_secs(3), "the deletion that was asked for again", || {
        portal.sandbox.lead(junk[0]).is_none().then_some(())
    });
    until("its settling", || (home.jobs("deleted") == junk.len() as u64).then_some(()));
    let ended = home.fails(1, &["retry", &failed["id"].to_string()]);
    assert!(ended.err.contains("is deleted: only a failed job can be retried"), "{}", ended.err);
    service.stop();
}

#[test]
fn a_portal_that_refuses_stops_the_service_until_resume() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    let asked = portal.sandbox.stats().requests;
    portal.sandbox.configure(|options| options.code = "renewed".to_owned());
    let ended = home.fails(1, &["run", "junk"]);
    assert!(ended.err.contains("INVALID_CREDENTIALS"), "{}", ended.err);
    let (status, body) = crate::http::get(service.admin, "/readyz");
    assert!(
        status == 503 && body.contains("INVALID_CREDENTIALS") && body.contains("webhook"),
        "{status} {body}"
    );
    let refused = portal.sandbox.stats().requests - asked;
    assert!(refused <= 2, "{refused} refused calls before the stop");

    portal.sandbox.configure(|options| options.code = "sandboxcode".to_owned());
    home.ok(&["resume"]);
    home.ok(&["run", "junk", "--wait"]);
    assert!(portal.in_stage("JUNK").is_empty());
    assert_eq!(crate::http::get(service.admin, "/readyz").0, 200);
    service.stop();
}
