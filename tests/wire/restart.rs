//! What a restart does to the pace.

use axum::Router;
use axum::routing::post;
use b24_janitor::clock::Clock;
use b24_janitor::core::rule::PortalLimits;
use b24_janitor::portal::{BatchRequest, PaceSnapshot, Portal, PortalOptions, Transport, Work};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{ids, json_response, options};

const START: &str = "2026-03-01T00:00:00Z";

fn start() -> Timestamp {
    START.parse().unwrap()
}

fn life(pace: Option<PaceSnapshot>, begins: Timestamp, body: &Value) -> Portal {
    let body = body.clone();
    let router = Router::new().fallback(post(move || {
        let response = json_response(&body);
        async move { response }
    }));
    let clock = Clock::starting_at(begins);
    let options = PortalOptions { clock, pace, ..options("https://portal.example", PortalLimits::default()) };
    Portal::new(Transport::InProcess(router), options)
}

fn nothing() -> Value {
    json!({ "result": { "items": [] } })
}

/// How many requests go out at once.
async fn at_once(portal: &Portal) -> usize {
    let began = Instant::now();
    for sent in 0..200 {
        let permit = tokio::time::timeout(Duration::from_millis(1), portal.permit(Work::Read)).await;
        if permit.is_err() || began.elapsed() > Duration::from_millis(1) {
            return sent;
        }
    }
    200
}

async fn after(first_sends: usize, orderly: bool, down: SignedDuration) -> usize {
    let portal = life(None, start(), &nothing());
    for _ in 0..first_sends {
        portal.leads_by_ids(&ids(&[1])).await.unwrap();
    }
    let snapshot = portal.pace_snapshot();
    let snapshot = if orderly { snapshot.closed() } else { snapshot };
    let snapshot = PaceSnapshot::parse(&snapshot.to_json());
    assert!(snapshot.is_some());
    at_once(&life(snapshot, start().checked_add(down).unwrap(), &nothing())).await
}

#[tokio::test(start_paused = true)]
async fn an_orderly_restart_has_what_is_left_and_what_has_drained_since() {
    let seconds = SignedDuration::from_secs;
    assert_eq!(after(40, true, seconds(0)).await, 9);
    assert_eq!(after(40, true, seconds(5)).await, 19);
    assert_eq!(after(49, true, seconds(2)).await, 4);
    assert_eq!(after(49, true, seconds(3600)).await, 49);
}

#[tokio::test(start_paused = true)]
async fn a_crash_or_a_clock_that_is_wrong_leaves_nothing_to_burst_with() {
    let seconds = SignedDuration::from_secs;
    for (orderly, down) in
        [(false, seconds(0)), (false, seconds(86_400)), (true, seconds(-1)), (true, seconds(-86_400))]
    {
        assert_eq!(after(3, orderly, down).await, 0, "orderly {orderly}, {down:?} later");
    }
    assert_eq!(after(3, true, SignedDuration::from_hours(24 * 366 * 30)).await, 0, "thirty years later");
}

#[tokio::test(start_paused = true)]
async fn a_full_bucket_after_a_crash_drains_at_the_usual_rate() {
    let snapshot = life(None, start(), &nothing()).pace_snapshot();
    let portal = life(Some(snapshot), start(), &nothing());
    let began = Instant::now();
    drop(portal.permit(Work::Read).await);
    assert!((499..=501).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(at_once(&portal).await, 49);
}

#[tokio::test(start_paused = true)]
async fn the_operating_budget_and_what_calls_cost_survive() {
    let time =
        json!({ "processing": 9.0, "operating": 470.0, "operating_reset_at": 1300.0, "finish": 1000.0 });
    let body = json!({ "result": { "result": { "d1": true }, "result_error": [], "result_time": { "d1": time } },
        "time": { "finish": 1000.0 } });
    let portal = life(None, start(), &body);
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[1]))).await.unwrap();
    let snapshot = portal.pace_snapshot().closed();

    let down = SignedDuration::from_secs(100);
    let portal = life(Some(snapshot), start().checked_add(down).unwrap(), &body);
    let began = Instant::now();
    drop(portal.permit(Work::Delete { leads: 1 }).await);
    assert!(began.elapsed() < Duration::from_secs(1), "470 and 9 seconds fit: {:?}", began.elapsed());
    drop(portal.permit(Work::Delete { leads: 2 }).await);
    let waited = began.elapsed().as_secs();
    assert!((200..=203).contains(&waited), "two deletions of 9 s each do not: {waited}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_not_ours_is_none() {
    let snapshot = life(None, start(), &nothing()).pace_snapshot();
    let text = snapshot.to_json();
    assert_eq!(PaceSnapshot::parse(&text), Some(snapshot.clone()));
    let later = text.replacen("\"version\":1", "\"version\":2", 1);
    assert_ne!(later, text);
    for text in ["", "{}", "null", "[1]", "{\"version\":1}", later.as_str(), &text[..text.len() - 1]] {
        assert_eq!(PaceSnapshot::parse(text), None, "{text}");
    }
    // An open snapshot of this portal leaves nothing to burst with; one of another portal says nothing.
    let other = text.replacen("portal.example", "other.example", 1);
    assert_eq!(at_once(&life(PaceSnapshot::parse(&other), start(), &nothing())).await, 49);
    assert_eq!(at_once(&life(Some(snapshot), start(), &nothing())).await, 0);
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_a_snapshot_and_it_changes_with_every_request() {
    let portal = life(None, start(), &nothing());
    let before = portal.pace_changes();
    portal.leads_by_ids(&ids(&[1])).await.unwrap();
    assert_ne!(portal.pace_changes(), before);
    assert!(!portal.pace_snapshot().to_json().contains(super::CODE));
}
