//! Injected faults do what they say.

use super::*;

fn sandbox_with(fault: Fault) -> Sandbox {
    let sandbox = free();
    leads(&sandbox, 5);
    sandbox.set_fault(fault);
    sandbox
}

async fn raw(sandbox: &Sandbox, id: u32) -> (StatusCode, Option<String>, Result<String, ()>) {
    let path = format!("{}crm.lead.delete?id={id}", sandbox.webhook_path());
    let request = Request::get(&path).body(Body::empty()).unwrap();
    let response = sandbox.router().oneshot(request).await.unwrap();
    let location = response.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|_| ());
    (status, location, body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_connection_breaks_before_or_after_the_work() {
    let sandbox = sandbox_with(Fault::new(FaultKind::Drop).on("crm.lead.delete").nth(1, 1));
    assert!(raw(&sandbox, 1).await.2.is_ok());
    assert!(raw(&sandbox, 2).await.2.is_err());
    assert!(sandbox.lead(2).is_none(), "the work was done");
    assert!(raw(&sandbox, 3).await.2.is_ok());
    sandbox.set_fault(Fault::new(FaultKind::Refuse));
    assert!(raw(&sandbox, 4).await.2.is_err());
    assert!(sandbox.lead(4).is_some(), "nothing was done");
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_late() {
    let sandbox = sandbox_with(Fault::new(FaultKind::Late { seconds: 61.0 }));
    let started = Instant::now();
    assert!(raw(&sandbox, 1).await.2.unwrap().contains("true"));
    assert_eq!(started.elapsed(), Duration::from_secs(61));
}

#[tokio::test(start_paused = true)]
async fn pages_that_are_no_answer() {
    let sandbox = sandbox_with(Fault::new(FaultKind::Truncated));
    let body = raw(&sandbox, 1).await.2.unwrap();
    assert!(body.starts_with('{') && serde_json::from_str::<Value>(&body).is_err());
    assert!(sandbox.lead(1).is_none());
    for (kind, status, text) in [
        (FaultKind::Html { status: 200 }, 200, "<html>"),
        (FaultKind::Html { status: 502 }, 502, "<html>"),
        (FaultKind::Html { status: 503 }, 503, "<html>"),
        (FaultKind::Fatal, 500, "PHP Fatal"),
        (FaultKind::Empty, 200, ""),
        (FaultKind::ErrorInOk { code: "WRONG_ENCODING".into(), text: "x".into() }, 200, r#"{"error":"WRONG"#),
    ] {
        let sandbox = sandbox_with(Fault::new(kind.clone()));
        let (got, _, body) = raw(&sandbox, 2).await;
        assert_eq!(got.as_u16(), status);
        assert!(body.as_ref().unwrap().starts_with(text.trim_end()), "{body:?}");
        assert!(sandbox.lead(2).is_some());
        sandbox.clear_faults();
        sandbox.set_fault(Fault::new(kind).after_executing());
        let _ = raw(&sandbox, 2).await;
        assert!(sandbox.lead(2).is_none(), "executed when asked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renamed_portal_redirects() {
    let to = "https://new.bitrix24.example".to_owned();
    let sandbox = sandbox_with(Fault::new(FaultKind::Redirect { to }));
    let (status, location, _) = raw(&sandbox, 1).await;
    assert_eq!(status, StatusCode::FOUND);
    assert_eq!(location.unwrap(), "https://new.bitrix24.example/rest/1/sandboxcode/crm.lead.delete");
    assert!(sandbox.lead(1).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_method_answers_a_chosen_error_alone_and_in_a_batch() {
    let fault = Fault::error("crm.item.delete", "INTERNAL_SERVER_ERROR", "Internal server error", 500);
    let sandbox = sandbox_with(fault);
    let params = json!({ "entityTypeId": 1, "id": 1 });
    let reply = call(&sandbox, "crm.item.delete", params).await;
    assert_eq!(reply, error(500, "INTERNAL_SERVER_ERROR", "Internal server error"));
    let cmd = json!({ "a": "crm.item.delete?entityTypeId=1&id=1", "b": "crm.lead.delete?id=2" });
    let answer = batch(&sandbox, cmd.clone()).await;
    assert_eq!(answer["result_error"]["a"]["error"], "INTERNAL_SERVER_ERROR");
    assert_eq!(answer["result"]["b"], true);
    sandbox.clear_faults();
    sandbox.set_fault(Fault::error("batch", "OVERLOAD_LIMIT", "REST API is blocked due to overload.", 401));
    let (status, body) = call(&sandbox, "batch", json!({ "cmd": cmd })).await;
    assert_eq!((status, &body["error"]), (401, &json!("OVERLOAD_LIMIT")));
    assert!(sandbox.lead(1).is_some());
}

#[tokio::test(start_paused = true)]
async fn keys_go_missing_from_a_batch() {
    let cmd = json!({ "a": "crm.lead.delete?id=1", "b": "crm.lead.delete?id=2" });
    for executed in [false, true] {
        let mut fault = Fault::new(FaultKind::MissingKeys { count: 1 });
        fault.executed = executed;
        let sandbox = sandbox_with(fault);
        let answer = batch(&sandbox, cmd.clone()).await;
        assert_eq!(answer["result"], json!({ "a": true }));
        assert_eq!(answer["result_error"], json!([]));
        assert_eq!(sandbox.lead(2).is_none(), executed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_is_ignored() {
    let sandbox = sandbox_with(Fault::new(FaultKind::FilterIgnored).on("crm.item.list"));
    assert_eq!(items(&sandbox, json!({ "id": 2 })).await, [1, 2, 3, 4, 5]);
    assert_eq!(classic(&sandbox, json!({ "ID": 2 })).await, [2]);
    assert_eq!(item_list(&sandbox, json!({ "foo": 2 })).await.0, 400, "it is still checked");
}
