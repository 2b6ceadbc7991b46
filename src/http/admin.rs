//! The admin listener: an overview page with the buttons to pause and resume, `/metrics`, `/readyz`, `POST /rules/reload`.
//!
//! It is meant for the machine itself or a private network, and a browser there also runs strangers' pages: every
//! request passes [`super::guard`] first. The pages have no script and no style, and their policy forbids them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use secrecy::SecretString;

use super::guard::{self, Guard, Visitor};
use super::health::{self, Readiness};
use super::reload::{self, Reload};
use super::{Answer, page, plain};
use crate::metrics::{self, Metrics};

/// How long the overview may take to gather: it reads a few counts from the database.
const OVERVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// The rows of the overview page, name and value, as plain text; the page escapes them.
pub type Overview = Arc<dyn Fn() -> Answer<Vec<(String, String)>> + Send + Sync>;

/// Something that a person orders by a form; the error is logged.
pub type Order = Arc<dyn Fn() -> Answer<Result<(), String>> + Send + Sync>;

/// What the admin listener is made of.
pub struct Admin {
    /// The address it listens on; its IP is an accepted `Host`. Bound to all addresses, every IP literal is: a rebound
    /// name is never one.
    pub bound: SocketAddr,
    /// Further accepted host names (`JANITOR_ADMIN_HOSTS`), without a port, in any case.
    pub hosts: Vec<String>,
    /// The token that people sign in with and scripts send; `None` asks for nothing. An empty token locks the listener,
    /// since nothing equals it. How it is asked for: [`super::guard`].
    pub token: Option<SecretString>,
    /// The check behind `/readyz`.
    pub ready: Readiness,
    /// The rows of `/`.
    pub overview: Overview,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// What `POST /rules/reload` does.
    pub reload: Reload,
    /// What `POST /pause` does.
    pub pause: Order,
    /// What `POST /resume` does.
    pub resume: Order,
}

struct Pages {
    ready: Readiness,
    overview: Overview,
    metrics: Metrics,
    reload: Reload,
    pause: Order,
    resume: Order,
}

/// The admin listener's routes.
pub fn router(admin: Admin) -> Router {
    let Admin { bound, hosts, token, ready, overview, metrics, reload, pause, resume } = admin;
    let guard = Arc::new(Guard::new(bound.ip(), hosts, token));
    Router::new()
        .route("/", get(overview_page))
        .route("/metrics", get(metrics_text))
        .route("/readyz", get(async |State(pages): State<Arc<Pages>>| health::readyz(&pages.ready).await))
        .route(
            "/rules/reload",
            post(async |State(pages): State<Arc<Pages>>| reload::reload(&pages.reload).await),
        )
        .route("/pause", post(async |State(pages): State<Arc<Pages>>| ordered(&pages.pause).await))
        .route("/resume", post(async |State(pages): State<Arc<Pages>>| ordered(&pages.resume).await))
        .with_state(Arc::new(Pages { ready, overview, metrics, reload, pause, resume }))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .layer(middleware::map_response(harden))
}

/// What every answer of this listener says to a browser: load nothing, embed nowhere, keep nothing, tell nobody.
async fn harden(mut answer: Response) -> Response {
    let headers: [(HeaderName, HeaderValue); 7] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            ),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        // `no-referrer` would make browsers send `Origin: null` with our own forms.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    answer.headers_mut().extend(headers);
    answer
}

async fn metrics_text(State(pages): State<Arc<Pages>>) -> Response {
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, kind)], pages.metrics.encode()).into_response()
}

async fn overview_page(State(pages): State<Arc<Pages>>, Extension(visitor): Extension<Visitor>) -> Response {
    let Ok(rows) = tokio::time::timeout(OVERVIEW_TIMEOUT, (pages.overview)()).await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the database did not answer in time\n");
    };
    let mut buttons = vec![("/pause", "Pause"), ("/resume", "Resume"), ("/rules/reload", "Reload the rules")];
    if visitor.signed_in {
        buttons.push(("/logout", "Sign out"));
    }
    page::html(StatusCode::OK, page::overview(&rows, visitor.csrf.as_deref(), &buttons))
}

async fn ordered(order: &Order) -> Response {
    match tokio::time::timeout(OVERVIEW_TIMEOUT, order()).await {
        Ok(Ok(())) => (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response(),
        Ok(Err(error)) => {
            tracing::error!(%error, "an order of the admin page could not be carried out");
            plain(StatusCode::SERVICE_UNAVAILABLE, "the database did not take it; the log says why\n")
        }
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "the database did not answer in time\n"),
    }
}
