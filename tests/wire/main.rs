//! The exchanges with the portal, byte for byte where it matters, and what every answer is taken for.

#![cfg(test)]

mod answers;
mod line;
mod pace;
mod requests;
mod restart;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use b24_janitor::clock::Clock;
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::outcome::DeleteReply;
use b24_janitor::core::rule::{DeleteMethod, PortalLimits};
use b24_janitor::portal::{Access, CallError, Portal, PortalOptions, Sent, Transport};
use secrecy::SecretString;
use serde_json::Value;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const CODE: &str = "s3cr3tc0de9xyz";

fn limits(delete_method: DeleteMethod) -> PortalLimits {
    PortalLimits { requests_per_second: 1000.0, burst: 10_000, delete_method, ..PortalLimits::default() }
}

fn options(base: &str, limits: PortalLimits) -> PortalOptions {
    let webhook = SecretString::from(format!("{base}/rest/1/{CODE}/"));
    PortalOptions {
        access: Access::Webhook(webhook),
        limits,
        clock: Clock::System,
        observer: None,
        pace: None,
    }
}

fn portal_at(base: &str, delete_method: DeleteMethod) -> Portal {
    Portal::new(Portal::http().unwrap(), options(base, limits(delete_method)))
}

fn id(number: i64) -> LeadId {
    LeadId::try_from(number).unwrap()
}

fn ids(numbers: &[i64]) -> Vec<LeadId> {
    numbers.iter().map(|number| id(*number)).collect()
}

fn url(name: &str) -> String {
    format!("/rest/1/{CODE}/{name}")
}

async fn answering(name: &str, template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path(url(name))).respond_with(template).mount(&server).await;
    server
}

fn ok(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn html(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw("<html><body>Oops</body></html>", "text/html; charset=utf-8")
}

/// The variant of a reply, for tables.
fn kind(reply: &DeleteReply) -> &'static str {
    match reply {
        DeleteReply::Deleted => "Deleted",
        DeleteReply::NotFound => "NotFound",
        DeleteReply::Unsure(_) => "Unsure",
        DeleteReply::Refused(_) => "Refused",
        DeleteReply::MethodPaused(_) => "MethodPaused",
        DeleteReply::Busy(_) => "Busy",
        DeleteReply::NotExecuted(_) => "NotExecuted",
        DeleteReply::Stopped(_) => "Stopped",
        DeleteReply::Unknown(_) => "Unknown",
    }
}

fn in_process(router: Router, limits: PortalLimits) -> Portal {
    let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    Portal::new(
        Transport::InProcess(router),
        PortalOptions { clock, ..options("https://portal.example", limits) },
    )
}

fn json_response(body: &Value) -> Response {
    Response::builder().header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
}

fn verdict(error: &CallError) -> String {
    assert!(error.remedy.ends_with('.') && error.remedy.len() > 20, "a remedy is a sentence: {error:?}");
    format!("{:?}{}", error.class, if error.sent == Sent::Maybe { '?' } else { '!' })
}
