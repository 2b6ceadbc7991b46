//! What the portal's answers do to the next permit.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use b24_janitor::clock::Clock;
use b24_janitor::core::outcome::DeleteReply;
use b24_janitor::core::rule::PortalLimits;
use b24_janitor::portal::{BatchRequest, CallRecord, Class, Portal, PortalOptions, Transport, Work};
use serde_json::{Value, json};

use super::{id, ids, in_process, json_response, options};

fn always(body: Value) -> Router {
    Router::new().fallback(post(move || {
        let response = json_response(&body);
        async move { response }
    }))
}

#[tokio::test(start_paused = true)]
async fn requests_go_out_as_the_bucket_allows() {
    let portal = in_process(always(json!({ "result": { "items": [] } })), PortalLimits::default());
    let started = tokio::time::Instant::now();
    for _ in 0..49 {
        portal.leads_by_ids(&ids(&[1])).await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_millis(100), "the burst goes at once");
    for _ in 0..20 {
        portal.leads_by_ids(&ids(&[1])).await.unwrap();
    }
    let took = started.elapsed().as_secs_f64();
    assert!((9.9..10.2).contains(&took), "then two a second: {took}");
}

#[tokio::test(start_paused = true)]
async fn after_a_503_the_next_permit_waits() {
    let handler = || async {
        let body = r#"{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}"#;
        Response::builder()
            .status(503)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap()
    };
    let portal = in_process(Router::new().fallback(post(handler)), PortalLimits::default());
    assert_eq!(portal.probe().await.unwrap_err().class, Class::PausePortal);
    let started = tokio::time::Instant::now();
    let _permit = portal.permit(Work::Read).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
}

/// A batch's reply that deletes lead 1 and reports these sums, `ahead` seconds before the oldest drops.
fn batch_reply(operating: f64, ahead: f64) -> Value {
    let time = json!({ "processing": 0.2, "operating": operating, "operating_reset_at": 1000.0 + ahead, "finish": 1000.0 });
    json!({ "result": { "result": { "d1": true }, "result_error": [], "result_time": { "d1": time } },
            "time": { "finish": 1000.0 } })
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_would_pass_the_operating_budget_waits_and_reads_go_on() {
    let portal = in_process(always(batch_reply(479.9, 300.0)), PortalLimits::default());
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[1]))).await.unwrap();
    let started = tokio::time::Instant::now();
    drop(portal.permit(Work::Read).await);
    assert!(started.elapsed() < Duration::from_millis(10));
    let permit = portal.permit(Work::Delete { leads: 10 }).await;
    let waited = started.elapsed().as_secs();
    assert!((300..=303).contains(&waited), "{waited}");
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn what_batches_have_used_holds_back_a_deletion_alone_and_the_other_way_round() {
    let portal = in_process(always(batch_reply(479.9, 300.0)), PortalLimits::default());
    let permit = portal.permit(Work::Delete { leads: 2 }).await;
    portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[1]))).await.unwrap();
    let started = tokio::time::Instant::now();
    drop(portal.permit(Work::Delete { leads: 1 }).await);
    assert!(started.elapsed().as_secs() >= 300);

    let time = json!({ "operating": 479.9, "operating_reset_at": 1300, "finish": 1000 });
    let portal = in_process(always(json!({ "result": true, "time": time })), PortalLimits::default());
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_one(permit, id(1)).await.unwrap();
    let started = tokio::time::Instant::now();
    drop(portal.permit(Work::Delete { leads: 2 }).await);
    assert!(started.elapsed().as_secs() >= 300);
}

#[tokio::test(start_paused = true)]
async fn a_paused_method_in_a_batch_holds_back_the_next_deletion() {
    let error = json!({ "error": "OPERATION_TIME_LIMIT", "error_description": "x" });
    let body = json!({ "result": { "result": [], "result_error": { "d1": error } } });
    let portal = in_process(always(body), PortalLimits::default());
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    let reply = portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[1]))).await.unwrap();
    assert!(matches!(reply.replies[0].1, DeleteReply::MethodPaused(_)));
    let started = tokio::time::Instant::now();
    let _permit = portal.permit(Work::Delete { leads: 1 }).await;
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn permits_in_flight_count_and_a_dropped_one_frees_the_next() {
    let limits = PortalLimits { method_seconds: 30.0, ..PortalLimits::default() };
    let portal = in_process(always(batch_reply(0.0, 0.0)), limits);
    // 49 leads at half a second each, the first estimate.
    let first = portal.permit(Work::Delete { leads: 49 }).await;
    let waiting = portal.clone();
    let second = tokio::spawn(async move { waiting.permit(Work::Delete { leads: 49 }).await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!second.is_finished(), "49 s would pass 30 s");
    // One that gives up while it waits takes nothing with it.
    let gave_up =
        tokio::time::timeout(Duration::from_secs(1), portal.permit(Work::Delete { leads: 49 })).await;
    assert!(gave_up.is_err());
    drop(first);
    let second = tokio::time::timeout(Duration::from_secs(1), second).await.unwrap().unwrap();
    drop(second);
    drop(portal.permit(Work::Delete { leads: 49 }).await);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_shrink_to_what_is_left_of_the_budget_and_never_past_it() {
    let limits = PortalLimits { method_seconds: 30.0, ..PortalLimits::default() };
    let portal = in_process(always(batch_reply(0.0, 0.0)), limits);
    // Half a second each, the first estimate: 60 fit.
    let first = portal.permit(Work::DeleteUpTo { leads: 49 }).await;
    assert_eq!(first.leads(), 49);
    assert_eq!(portal.room_for_deletions(49), 11);
    let second = portal.permit(Work::DeleteUpTo { leads: 49 }).await;
    assert_eq!(second.leads(), 11);
    assert_eq!(portal.room_for_deletions(49), 0);
    let third = tokio::time::timeout(Duration::from_secs(1), portal.permit(Work::DeleteUpTo { leads: 49 }));
    assert!(third.await.is_err(), "nothing is left");
    drop(second);
    assert_eq!(portal.permit(Work::DeleteUpTo { leads: 5 }).await.leads(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_longer_than_the_whole_budget_goes_out_alone() {
    let limits = PortalLimits { method_seconds: 0.1, ..PortalLimits::default() };
    let portal = in_process(always(batch_reply(0.0, 0.0)), limits);
    assert_eq!(portal.room_for_deletions(49), 0);
    assert_eq!(portal.permit(Work::DeleteUpTo { leads: 49 }).await.leads(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_exchange_is_observed() {
    let records: Arc<Mutex<Vec<CallRecord>>> = Arc::default();
    let seen = Arc::clone(&records);
    let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    let portal = Portal::new(
        Transport::InProcess(always(batch_reply(12.5, 300.0))),
        PortalOptions {
            clock,
            observer: Some(Arc::new(move |record: &CallRecord| seen.lock().unwrap().push(record.clone()))),
            ..options("https://portal.example", PortalLimits::default())
        },
    );
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_batch(permit, &BatchRequest::deleting(&ids(&[1]))).await.unwrap();
    portal.get(id(1)).await.unwrap_err();
    let records = records.lock().unwrap();
    let told: Vec<_> = records.iter().map(|record| (record.method, record.result)).collect();
    assert_eq!(told, [("batch", "ok"), ("crm.item.get", "ok")]);
    assert_eq!(records[0].nested, [("crm.lead.delete", 12.5)]);
}

#[tokio::test(start_paused = true)]
async fn while_others_share_the_address_fewer_requests_are_to_be_in_flight() {
    let handler = || async {
        let body = r#"{"error":"QUERY_LIMIT_EXCEEDED","error_description":"Too many requests"}"#;
        Response::builder()
            .status(503)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap()
    };
    for (concurrency, after) in [(8, [4, 2, 1, 1, 1]), (2, [1; 5]), (1, [1; 5])] {
        let limits = PortalLimits { concurrency, ..PortalLimits::default() };
        let portal = in_process(Router::new().fallback(post(handler)), limits);
        assert_eq!(portal.suggested_concurrency(), concurrency);
        for lanes in after {
            portal.probe().await.unwrap_err();
            assert!(portal.suggested_concurrency() <= lanes + u8::from(concurrency == 8), "{concurrency}");
            assert!(portal.suggested_concurrency() >= 1);
        }
        assert_eq!(portal.suggested_concurrency(), 1, "sustained refusals leave one");
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(portal.suggested_concurrency(), concurrency, "and it comes back");
    }
}
