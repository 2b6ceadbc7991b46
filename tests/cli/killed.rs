//! kill -9 at random moments, while events come in and leads are deleted. `JANITOR_KILL_ROUNDS=50` asks for so many
//! rounds instead of [`ROUNDS`], which take some twenty seconds.
//!
//! That a kill loses nothing says nothing about the loss of power: `tests/power_cut/` does.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use b24_janitor::sandbox::SandboxOptions;
use rusqlite::Connection;

use crate::home::{Home, JUNK};
use crate::http::{FORM, TOKEN, event};
use crate::portal::Portal;
use crate::service::{Service, until, within};

const ROUNDS: usize = 6;
/// Events of leads that the portal does not have: that they are stored is the point.
const FIRST_STRANGER: u32 = 1_000_000;
const CLIENTS: usize = 4;
/// More leads than a round can delete, a third of them junk.
const LEADS_A_ROUND: usize = 300;
const DRAINED_WITHIN: Duration = Duration::from_secs(300);

fn rounds() -> usize {
    std::env::var("JANITOR_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

/// Sends events until it is stopped; the leads of those that were answered 200.
fn send(to: SocketAddr, next: &AtomicU32, stop: &AtomicBool, told: &Mutex<BTreeSet<u32>>) {
    while !stop.load(Ordering::SeqCst) {
        let lead = next.fetch_add(1, Ordering::SeqCst);
        let body = event("ONCRMLEADUPDATE", lead, TOKEN);
        if crate::http::try_post(to, "/bitrix24/events", FORM, &body) == Some(200) {
            told.lock().unwrap().insert(lead);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "looks into the database of a service that is not running")]
fn database(home: &Home) -> Connection {
    Connection::open(home.path("janitor.db")).unwrap()
}

#[test]
fn killed_at_random_moments_it_keeps_every_event_it_answered_and_deletes_exactly_the_leads_of_the_rule() {
    let rounds = rounds();
    let portal = Portal::start(SandboxOptions {
        leads: LEADS_A_ROUND * (rounds + 2),
        delete_seconds: 0.01,
        sleep_scale: 1.0,
        ..SandboxOptions::default()
    });
    let junk: BTreeSet<u32> = portal.in_stage("JUNK").into_iter().collect();
    let others = portal.not_in_stage("JUNK");
    let home = Home::new(&portal, JUNK).with("B24_APPLICATION_TOKEN", TOKEN);
    let next = Arc::new(AtomicU32::new(FIRST_STRANGER));
    let told = Arc::new(Mutex::new(BTreeSet::new()));
    let mut service = Service::start(&home);
    home.ok(&["run", "junk"]);
    for _ in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (to, next, stop, told) =
                    (service.public, Arc::clone(&next), Arc::clone(&stop), Arc::clone(&told));
                thread::spawn(move || send(to, &next, &stop, &told))
            })
            .collect();
        thread::sleep(Duration::from_millis(fastrand::u64(10..500)));
        service.process.kill();
        stop.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
        service = Service::start(&home);
    }
    service.stop();
    // What was on its way is read again 90 s after it was sent: as if these had passed, once it has ended.
    until("the portal's last request", || (portal.sandbox.stats().in_flight == 0).then_some(()));
    database(&home)
        .execute("UPDATE jobs SET settle_at = settle_at - 120000 WHERE phase = 'unknown'", [])
        .unwrap();
    let service = Service::start(&home);
    within(DRAINED_WITHIN, "the end of all jobs", || {
        let jobs = &home.object(&["status", "--json"])["jobs"];
        (jobs["waiting"] == 0 && jobs["running"] == 0).then_some(())
    });
    service.stop();

    let told = told.lock().unwrap();
    let db = database(&home);
    let mut statement = db.prepare("SELECT lead_id FROM events").unwrap();
    let stored: BTreeSet<u32> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(!told.is_empty());
    let lost: Vec<&u32> = told.difference(&stored).collect();
    assert!(lost.is_empty(), "{} of {} answered events are lost: {lost:?}", lost.len(), told.len());
    let stats = portal.sandbox.stats();
    let deleted: BTreeSet<u32> = stats.deletions.iter().map(|deletion| deletion.id).collect();
    assert_eq!(deleted, junk, "all of them, and no other");
    assert_eq!(stats.deletions.len(), junk.len(), "none of them twice");
    assert_eq!(portal.not_in_stage("JUNK"), others);
    assert_eq!(home.jobs("deleted"), junk.len() as u64, "every job is settled, and as ours");
    portal.assert_pace_kept();
}
