//! `/healthz`: the process lives. `/readyz`: it can do its work, and if not, why not.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Answer, plain};

/// How long a readiness check may take before the answer is "not ready". Probes give up after a few seconds, and a
/// probe that times out says nothing, whereas this one says why.
pub const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyReport {
    /// 200 if the database and the portal are fine, else 503.
    pub ready: bool,
    /// The reasons, in plain text without secrets; also what is worth saying of a service that is ready (a failed
    /// reload of the rules, a pause).
    pub body: String,
}

/// The check behind `/readyz`. It must be cheap: whoever reaches the admin listener may ask at any rate.
pub type Readiness = Arc<dyn Fn() -> Answer<ReadyReport> + Send + Sync>;

pub(super) async fn healthz() -> Response {
    plain(StatusCode::OK, "ok")
}

pub(super) async fn readyz(check: &Readiness) -> Response {
    let report = tokio::time::timeout(READY_TIMEOUT, check()).await.unwrap_or_else(|_| ReadyReport {
        ready: false,
        body: format!("not ready: the check took longer than {} s\n", READY_TIMEOUT.as_secs()),
    });
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, report.body).into_response()
}
