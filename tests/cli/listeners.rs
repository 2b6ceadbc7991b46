//! The two listeners of a running service: health, metrics, and events from arrival to deletion.

use crate::home::{Home, JUNK};
use crate::http::{self, FORM, TOKEN};
use crate::portal::Portal;
use crate::service::{Service, until};

fn by_events() -> String {
    JUNK.replace("    mode:", "    events: [ONCRMLEADADD, ONCRMLEADUPDATE]\n    mode:")
}

fn listening(portal: &Portal, rules: &str) -> (Home, Service) {
    let home = Home::new(portal, rules).with("B24_APPLICATION_TOKEN", TOKEN);
    let service = Service::start(&home);
    (home, service)
}

fn send(service: &Service, name: &str, lead: u32) -> u16 {
    http::post(service.public, "/bitrix24/events", FORM, &http::event(name, lead, TOKEN)).0
}

#[test]
fn each_listener_serves_its_own_pages_and_no_others() {
    let portal = Portal::with_leads(10);
    let (_home, service) = listening(&portal, JUNK);
    assert_eq!(http::get(service.public, "/healthz").0, 200);
    for path in ["/", "/metrics", "/readyz", "/runs"] {
        assert_eq!(http::get(service.public, path).0, 404, "{path}");
    }
    let (status, body) = http::get(service.admin, "/readyz");
    assert_eq!((status, body.lines().next()), (200, Some("ready")));
    assert_eq!(http::get(service.admin, "/").0, 200);
    assert_eq!(http::post(service.admin, "/bitrix24/events", FORM, "event=X").0, 403);
    service.stop();
}

#[test]
fn metrics_have_the_documented_names() {
    let portal = Portal::with_leads(60);
    let junk = portal.in_stage("JUNK").len();
    let (home, service) = listening(&portal, &by_events());
    home.ok(&["run", "junk", "--wait"]);
    assert_eq!(send(&service, "ONCRMLEADADD", 1), 200);
    let text = until("the jobs' gauge", || {
        let text = http::get(service.admin, "/metrics").1;
        text.contains(&format!("janitor_jobs{{state=\"done\"}} {junk}")).then_some(text)
    });
    for line in [
        "janitor_events_total{event=\"ONCRMLEADADD\",result=\"stored\"} 1",
        "janitor_jobs{state=\"waiting\"} 0",
        &format!("janitor_jobs_finished_total{{outcome=\"deleted\"}} {junk}"),
        "janitor_portal_requests_total{method=\"batch\",result=\"ok\"} ",
        "janitor_portal_request_seconds_bucket{",
        "janitor_portal_operating_seconds{method=\"crm.lead.delete\"} ",
        "janitor_rule_last_run_timestamp_seconds{rule=\"junk\"} ",
        "janitor_rules_last_reload_successful 1",
        "janitor_paused 0",
        &format!("janitor_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} in\n{text}");
    }
    service.stop();
}

#[test]
fn an_event_leads_to_a_deletion_and_only_of_a_lead_that_matches() {
    let portal = Portal::with_leads(60);
    let (junk, other) = (portal.in_stage("JUNK")[0], portal.not_in_stage("JUNK")[0]);
    let (home, service) = listening(&portal, &by_events());
    assert_eq!(send(&service, "ONCRMLEADADD", junk), 200);
    assert_eq!(send(&service, "ONCRMLEADUPDATE", other), 200);
    until("the deletion", || portal.sandbox.lead(junk).is_none().then_some(()));
    let status = until("both events processed", || {
        let status = home.object(&["status", "--json"]);
        (status["events"]["pending"] == 0 && status["jobs"]["deleted"] == 1).then_some(status)
    });
    assert_eq!(status["events"]["total"], 2);
    assert!(portal.sandbox.lead(other).is_some());
    assert_eq!(portal.sandbox.stats().deletions.len(), 1);
    assert_eq!(home.objects(&["runs", "--json"])[0]["trigger"], "event");
    service.stop();
}

#[test]
fn a_lead_found_by_an_event_waits_for_its_grace_period() {
    let portal = Portal::with_leads(60);
    let junk = portal.in_stage("JUNK")[0];
    let rules = by_events().replace("    mode:", "    grace_period: 24h\n    mode:");
    let (home, service) = listening(&portal, &rules);
    assert_eq!(send(&service, "ONCRMLEADADD", junk), 200);
    let job = until("the job", || home.objects(&["jobs", "--json"]).pop());
    let time = |key: &str| job[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("due_at").duration_since(time("created_at")).as_secs(), 24 * 3600);
    assert_eq!((&job["state"], job["lead_id"].as_u64()), (&"waiting".into(), Some(u64::from(junk))));
    service.stop();
    assert!(portal.sandbox.lead(junk).is_some());
}

#[test]
fn what_is_no_event_of_ours_is_refused_with_the_reason_in_its_status() {
    let portal = Portal::with_leads(60);
    let junk = portal.in_stage("JUNK")[0];
    let (home, service) = listening(&portal, &by_events());
    let post =
        |content_type: &str, body: &str| http::post(service.public, "/bitrix24/events", content_type, body).0;
    let event = http::event("ONCRMLEADADD", junk, TOKEN);
    let wrong = "0".repeat(TOKEN.len());
    assert_eq!(post(FORM, &http::event("ONCRMLEADADD", junk, &wrong)), 403);
    assert_eq!(post(FORM, &format!("{event}&pad={}", "x".repeat(100 * 1024))), 413);
    assert_eq!(post("application/json", "{\"event\":\"ONCRMLEADADD\"}"), 415);
    assert_eq!(post(FORM, &event.replace("event=", "no_event=")), 400);
    assert_eq!(post(FORM, &http::event("ONCRMDEALADD", junk, TOKEN)), 200, "others are counted and ignored");
    let status = home.object(&["status", "--json"]);
    assert_eq!((&status["events"]["total"], &status["jobs"]["waiting"]), (&0.into(), &0.into()));
    let log = service.stop();
    assert!(!log.contains(TOKEN) && !log.contains(&wrong), "tokens are secrets:\n{log}");
    assert!(portal.sandbox.lead(junk).is_some());
}

#[test]
fn an_event_that_a_colleague_deleted_the_lead_settles_its_job_without_a_call() {
    let portal = Portal::with_leads(60);
    let rules = by_events().replace("    mode:", "    grace_period: 24h\n    mode:");
    let (home, service) = listening(&portal, &rules);
    home.ok(&["run", "junk"]);
    let junk = portal.in_stage("JUNK")[0];
    portal.sandbox.colleague_delete(junk);
    assert_eq!(send(&service, "ONCRMLEADDELETE", junk), 200);
    until("the job's end", || (home.jobs("already_gone") == 1).then_some(()));
    service.stop();
}

#[test]
fn readiness_tells_of_a_portal_that_is_away() {
    let portal = Portal::with_leads(10);
    let (_home, service) = listening(&portal, JUNK);
    assert_eq!(http::get(service.admin, "/readyz").0, 200);
    drop(portal);
    let body = until("the bad news", || {
        let (status, body) = http::get(service.admin, "/readyz");
        (status == 503).then_some(body)
    });
    assert!(body.starts_with("not ready\nportal: "), "{body}");
    assert_eq!(http::get(service.public, "/healthz").0, 200, "the process lives");
    service.stop();
}

#[test]
fn without_a_token_the_public_listener_takes_no_events() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    assert_eq!(http::get(service.public, "/healthz").0, 200);
    assert_eq!(send(&service, "ONCRMLEADADD", 1), 404);
    assert!(service.stop().contains("no events are received"));
}
