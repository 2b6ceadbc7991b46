//! The sandbox against the facts about Bitrix24 that the rest of the program is built on.
//!
//! Each test states one documented fact; the page or source file it comes from is named in the module it exercises.
//! Requests go through the router in process, under paused time.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

mod batches;
mod control;
mod delete;
mod events;
mod faults;
mod limits;
mod lists;
mod requests;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use b24_janitor::clock::Clock;
use b24_janitor::sandbox::{
    BatchCharge, Fault, FaultKind, Language, Lead, NotFoundStyle, OauthApp, Sandbox, SandboxOptions,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};
use tower::ServiceExt;

const NOW: &str = "2026-11-25T00:00:00Z";

/// A reply: status and JSON, or the text where it is none.
type Reply = (u16, Value);

fn portal(options: SandboxOptions) -> Sandbox {
    Sandbox::new(options, Clock::starting_at(NOW.parse().unwrap()))
}

/// A portal without limits in the way.
fn free() -> Sandbox {
    portal(SandboxOptions::raised())
}

fn lead(sandbox: &Sandbox, fields: Value) -> u32 {
    let mut lead = Lead::new("lead", sandbox.now());
    for (name, value) in fields.as_object().unwrap() {
        assert!(lead.set(name, value), "{name}");
    }
    sandbox.insert(lead)
}

fn leads(sandbox: &Sandbox, count: u32) {
    for _ in 0..count {
        lead(sandbox, json!({}));
    }
}

async fn send(sandbox: &Sandbox, request: Request<Body>) -> Reply {
    let response = sandbox.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn post(path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", content_type).body(body.into()).unwrap()
}

async fn call(sandbox: &Sandbox, method: &str, params: Value) -> Reply {
    let path = format!("{}{method}", sandbox.webhook_path());
    send(sandbox, post(&path, "application/json", params.to_string())).await
}

async fn get(sandbox: &Sandbox, path_and_query: &str) -> Reply {
    send(sandbox, Request::get(path_and_query).body(Body::empty()).unwrap()).await
}

fn error(status: u16, code: &str, text: &str) -> Reply {
    (status, json!({ "error": code, "error_description": text }))
}

/// The ids of a classic list.
async fn classic(sandbox: &Sandbox, filter: Value) -> Vec<u64> {
    let (status, body) =
        call(sandbox, "crm.lead.list", json!({ "filter": filter, "select": ["ID"], "start": -1 })).await;
    assert_eq!(status, 200, "{body}");
    let rows = body["result"].as_array().unwrap();
    rows.iter().map(|row| row["ID"].as_str().unwrap().parse().unwrap()).collect()
}

async fn item_list(sandbox: &Sandbox, filter: Value) -> Reply {
    call(sandbox, "crm.item.list", json!({ "entityTypeId": 1, "filter": filter, "start": -1 })).await
}

/// The ids of an item list.
async fn items(sandbox: &Sandbox, filter: Value) -> Vec<u64> {
    let (status, body) = item_list(sandbox, filter).await;
    assert_eq!(status, 200, "{body}");
    body["result"]["items"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
}

async fn batch(sandbox: &Sandbox, cmd: Value) -> Value {
    let (status, body) = call(sandbox, "batch", json!({ "halt": 0, "cmd": cmd })).await;
    assert_eq!(status, 200, "{body}");
    body["result"].clone()
}
