//! The life of the service's process: one on a database, a stop that finishes what is in flight, inherited sockets.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use b24_janitor::sandbox::SandboxOptions;
use tokio::time::Instant;

use crate::home::{Home, JUNK};
use crate::http;
use crate::portal::Portal;
use crate::service::{Process, Service, until};

#[test]
fn a_second_service_on_the_database_is_refused_by_the_firsts_process_id() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    let ended = home.fails(1, &["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    let expected = format!("error: process {} already works on janitor.db", service.process.pid());
    assert!(ended.err.starts_with(&expected), "{}", ended.err);
    let status = home.object(&["status", "--json"]);
    assert_eq!(status["service"]["pid"].as_u64(), Some(u64::from(service.process.pid())));
    service.stop();
    assert_eq!(home.object(&["status", "--json"])["service"]["running"], false);
}

#[test]
fn a_port_in_use_is_named() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = home.fails(1, &["serve", "--listen", &address, "--admin-listen", "off"]);
    assert!(ended.err.contains(&format!("cannot listen on {address}")), "{}", ended.err);
}

/// Ten deletions in one request take this many seconds each.
const SLOW: f64 = 2.0;

fn stops_in_the_middle_of_a_request_by(signal: &str) {
    // As many leads as one request takes at first, so that one is under way and nothing else is.
    let portal = Portal::start(SandboxOptions {
        leads: 25,
        delete_seconds: SLOW,
        sleep_scale: 1.0,
        ..SandboxOptions::default()
    });
    let home = Home::new(&portal, JUNK);
    let mut service = Service::start(&home);
    home.ok(&["run", "junk"]);
    until("a request under way", || {
        (portal.sandbox.stats().in_flight > 0 && home.jobs("running") > 0).then_some(())
    });
    service.process.signal(signal);
    let asked = Instant::now();
    let status = service.process.ended();
    assert_eq!(status.code(), Some(0), "{}", service.process.log());
    assert!(asked.elapsed() < Duration::from_secs(32), "{:?}", asked.elapsed());
    assert!(service.process.log().contains("stopping") && service.process.log().contains(" stopped"));
    let deleted = portal.sandbox.stats().deletions.len() as u64;
    assert!(deleted > 0, "the request was awaited");
    assert_eq!((home.jobs("deleted"), home.jobs("running")), (deleted, 0), "and its answer was written down");
}

#[test]
fn a_termination_finishes_the_request_under_way() {
    stops_in_the_middle_of_a_request_by("TERM");
}

#[test]
fn an_interrupt_does_the_same() {
    stops_in_the_middle_of_a_request_by("INT");
}

/// A service with one request that deletes under way, which takes longer than any stop waits.
fn deletion_under_way() -> (Portal, Home, Service) {
    let portal = Portal::start(SandboxOptions {
        leads: 10,
        delete_seconds: 50.0,
        sleep_scale: 1.0,
        ..SandboxOptions::default()
    });
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    home.ok(&["run", "junk"]);
    until("a deletion under way", || {
        let stats = portal.sandbox.stats();
        (stats.in_flight > 0 && stats.requests_by_method.contains_key("batch")).then_some(())
    });
    (portal, home, service)
}

#[test]
fn a_request_that_outlasts_the_stop_is_left_as_sent_and_read_again_later() {
    let (portal, home, mut service) = deletion_under_way();
    // What is being deleted is there until the portal has ended.
    let junk = portal.in_stage("JUNK");
    service.process.signal("TERM");
    let asked = Instant::now();
    let status = service.process.ended();
    assert_eq!(status.code(), Some(0), "{}", service.process.log());
    assert!(asked.elapsed() < Duration::from_secs(35), "{:?}", asked.elapsed());
    assert!(service.process.log().contains("a request was still open after 30 s"));

    // The next service neither sends it again nor believes that nothing happened.
    let service = Service::start(&home);
    assert!(
        service.process.log().contains("recovered jobs of the previous process"),
        "{}",
        service.process.log()
    );
    let running = home.objects(&["jobs", "--json", "--state", "running"]);
    assert!(!running.is_empty() && running.len() <= junk.len());
    assert!(running.iter().all(|job| job["attempts"] == 1), "{running:?}");
    service.stop();
}

/// Puts two inherited sockets where systemd would, as descriptors 3 and 4, and becomes the program given as arguments.
const AS_SYSTEMD_DOES: &str = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$@\"";

#[test]
fn sockets_from_systemd_are_used_and_hold_connections_until_the_service_is_up() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    let public = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at_public, at_admin) = (public.local_addr().unwrap(), admin.local_addr().unwrap());
    // Sent before anybody accepts.
    let early = std::thread::spawn(move || http::get(at_public, "/healthz").0);
    let program = assert_cmd::cargo::cargo_bin!("b24-janitor").to_str().unwrap().to_owned();
    let mut command = home.wrap(Command::new("sh"), &["-c", AS_SYSTEMD_DOES, "sh", &program, "serve"]);
    command.stdin(Stdio::from(OwnedFd::from(public))).stdout(Stdio::from(OwnedFd::from(admin)));
    let mut service = Process::start(command);
    service.line(" ready ");
    let log = service.log();
    assert!(log.contains(&format!("listener=\"public\" address={at_public}")), "{log}");
    assert!(log.contains(&format!("listener=\"admin\" address={at_admin}")), "{log}");
    assert_eq!(early.join().unwrap(), 200);
    assert_eq!(http::get(at_admin, "/readyz").0, 200);
    service.signal("TERM");
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn the_admin_listener_can_be_off() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    let mut service = Process::start(home.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "off",
        "--log-format",
        "json",
    ]));
    let ready = service.line("\"ready\"");
    assert!(serde_json::from_str::<serde_json::Value>(&ready).is_ok(), "{ready}");
    assert!(!service.log().contains("admin"), "{}", service.log());
    service.signal("TERM");
    assert_eq!(service.ended().code(), Some(0));
}

/// Whether a process has a handler for SIGTERM, as the kernel tells.
fn handles_termination(pid: u32) -> bool {
    const SIGTERM: u32 = 15;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
    u64::from_str_radix(caught, 16).unwrap() & (1 << (SIGTERM - 1)) != 0
}

#[test]
fn a_termination_during_the_start_is_a_stop_like_any_other() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    home.ok(&["run", "junk"]);
    #[expect(clippy::disallowed_methods, reason = "only holds the database, so that the start takes a while")]
    let holder = rusqlite::Connection::open(home.path("janitor.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut service =
        Process::start(home.command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]));
    until("the handler", || handles_termination(service.pid()).then_some(()));
    assert!(!service.log().contains(" ready "), "it can't have started");
    service.signal("TERM");
    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(service.ended().code(), Some(0), "{}", service.log());
}

#[test]
fn a_service_starts_and_stops_without_its_portal() {
    let home = Home::without_portal(JUNK).with("B24_WEBHOOK_URL", "http://127.0.0.1:9/rest/1/code/");
    let service = Service::start(&home);
    let ended = home.fails(1, &["run", "junk"]);
    assert!(
        ended.err.contains("rule `junk` is not checked against the portal yet: <no connection>"),
        "{}",
        ended.err
    );
    assert!(home.objects(&["runs", "--json"]).is_empty());
    let said = home.ok(&["status"]);
    assert!(said.contains("NOT CHECKED against the portal, so they neither run nor delete: junk"), "{said}");
    let (status, body) = http::get(service.admin, "/readyz");
    assert!(status == 503 && body.contains("portal: "), "{status} {body}");
    assert!(
        body.contains("rules not checked against the portal yet, so they neither run nor delete: junk"),
        "{body}"
    );
    let asked = Instant::now();
    service.stop();
    assert!(asked.elapsed() < Duration::from_secs(10), "a pause between two tries holds nobody up");
}

#[test]
fn a_look_at_the_status_does_not_keep_a_service_from_starting() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    home.ok(&["run", "junk"]);
    // What `status` does, for as long as a busy machine may let it take.
    let lock = b24_janitor::store::Lock::acquire(&home.path("janitor.db")).unwrap();
    let mut service =
        Process::start(home.command(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]));
    until("the handler", || handles_termination(service.pid()).then_some(()));
    drop(lock);
    service.line(" ready ");
    service.signal("TERM");
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once_and_breaks_nothing() {
    let (_portal, home, mut service) = deletion_under_way();
    service.process.signal("TERM");
    service.process.line("stopping");
    let asked = Instant::now();
    service.process.signal("INT");
    let status = service.process.ended();
    assert_eq!(status.code(), Some(1), "{}", service.process.log());
    assert!(asked.elapsed() < Duration::from_secs(20), "the first one would have waited for 30 s");
    assert!(service.process.log().contains("stopped at once by a second signal"));

    let service = Service::start(&home);
    assert!(service.process.log().contains("recovered jobs"), "{}", service.process.log());
    let running = home.objects(&["jobs", "--json", "--state", "running"]);
    assert!(!running.is_empty() && running.iter().all(|job| job["attempts"] == 1), "{running:?}");
    service.stop();
}

#[test]
fn a_restart_makes_rules_with_events_sweep_however_short_it_was() {
    let rules = JUNK.replace("    mode:", "    events: [ONCRMLEADADD]\n    mode:");
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, &rules).with("B24_APPLICATION_TOKEN", http::TOKEN);
    let service = Service::start(&home);
    let said = service.stop();
    assert!(!said.contains("sweep once"), "a new database has missed nothing: {said}");
    let service = Service::start(&home);
    let run = until("the sweep", || home.objects(&["runs", "--json"]).pop());
    assert_eq!(run["trigger"], "event");
    until("its deletions", || portal.in_stage("JUNK").is_empty().then_some(()));
    assert!(service.stop().contains("rules with events sweep once"));
}
