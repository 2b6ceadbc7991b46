//! The request bucket, the operating time, the sixty seconds.

use super::*;

async fn profile(sandbox: &Sandbox) -> Reply {
    call(sandbox, "profile", json!({})).await
}

#[tokio::test(start_paused = true)]
async fn the_fifty_first_request_at_once_is_refused_and_two_a_second_drain() {
    let sandbox = portal(SandboxOptions::default());
    for _ in 0..50 {
        assert_eq!(profile(&sandbox).await.0, 200);
    }
    let refused = error(503, "QUERY_LIMIT_EXCEEDED", "Too many requests");
    assert_eq!(profile(&sandbox).await, refused);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(profile(&sandbox).await.0, 200);
    assert_eq!(profile(&sandbox).await.0, 200);
    assert_eq!(profile(&sandbox).await, refused);
    assert_eq!(sandbox.stats().refused_503, 2);
    assert_eq!(sandbox.stats().requests_by_method["profile"], 54);
}

fn slow(batch_charge: BatchCharge) -> Sandbox {
    let options = SandboxOptions {
        delete_seconds: 2.0,
        method_seconds: 6.0,
        window_seconds: 60,
        batch_charge,
        ..SandboxOptions::raised()
    };
    let sandbox = portal(options);
    leads(&sandbox, 30);
    sandbox
}

async fn delete(sandbox: &Sandbox, id: u32) -> Reply {
    call(sandbox, "crm.item.delete", json!({ "entityTypeId": 1, "id": id })).await
}

#[tokio::test(start_paused = true)]
async fn the_call_that_crosses_the_operating_limit_finishes_and_the_next_is_refused() {
    let sandbox = slow(BatchCharge::Method);
    let (_, body) = delete(&sandbox, 1).await;
    assert_eq!(body["time"]["operating"], 2);
    let now = sandbox.now().as_second();
    assert_eq!(body["time"]["operating_reset_at"], now + 60, "the basket began this second");
    delete(&sandbox, 2).await;
    let (status, body) = delete(&sandbox, 3).await;
    assert_eq!((status, &body["time"]["operating"]), (200, &json!(6)));
    let blocked = error(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit.");
    assert_eq!(delete(&sandbox, 4).await, blocked, "no time object in an error");
    assert_eq!(call(&sandbox, "crm.lead.delete", json!({ "id": 4 })).await.0, 200, "its own budget");
    assert_eq!(sandbox.stats().refused_429, 1);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(delete(&sandbox, 5).await.0, 429);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(delete(&sandbox, 5).await.0, 200, "the basket has dropped");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_charged_as_the_options_say_and_blocked_command_by_command() {
    for charge in [BatchCharge::Method, BatchCharge::MethodBatched, BatchCharge::Batch] {
        let sandbox = slow(charge);
        let cmd: serde_json::Map<String, Value> = (10..15)
            .map(|id| (format!("d{id}"), json!(format!("crm.item.delete?entityTypeId=1&id={id}"))))
            .collect();
        let (status, body) = call(&sandbox, "batch", json!({ "cmd": cmd })).await;
        assert_eq!(status, 200);
        let result = &body["result"];
        assert_eq!(result["result"].as_object().unwrap().len(), 3);
        assert_eq!(result["result_error"]["d14"]["error"], "OPERATION_TIME_LIMIT");
        assert_eq!(result["result_time"]["d12"]["operating"], 6);
        let shared = charge == BatchCharge::Method;
        assert_eq!(delete(&sandbox, 1).await.0, if shared { 429 } else { 200 }, "{charge:?}");
        assert_eq!(body["time"]["operating"], if charge == BatchCharge::Batch { 6 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_over_sixty_seconds_is_cut_and_what_was_done_stays_done() {
    let sandbox =
        portal(SandboxOptions { delete_seconds: 25.0, sleep_scale: 1.0, ..SandboxOptions::default() });
    leads(&sandbox, 5);
    let cmd: Vec<String> = (1..=5).map(|id| format!("crm.lead.delete?id={id}")).collect();
    let started = Instant::now();
    let (status, body) = call(&sandbox, "batch", json!({ "cmd": cmd })).await;
    assert_eq!(started.elapsed(), Duration::from_secs(60));
    assert_eq!(status, 504);
    assert!(body.as_str().unwrap().starts_with("<html>"));
    assert_eq!(sandbox.ids_where(|_| true), [4, 5]);
    assert_eq!(sandbox.stats().cut, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_does_not_stop_the_portal() {
    let sandbox =
        portal(SandboxOptions { delete_seconds: 5.0, sleep_scale: 1.0, ..SandboxOptions::default() });
    leads(&sandbox, 2);
    let cmd = json!(["crm.lead.delete?id=1", "crm.lead.delete?id=2"]);
    let request = call(&sandbox, "batch", json!({ "cmd": cmd }));
    assert!(tokio::time::timeout(Duration::from_secs(1), request).await.is_err());
    assert_eq!(sandbox.lead_count(), 2);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(sandbox.lead_count(), 0);
    assert_eq!(sandbox.stats().in_flight, 0);
}
