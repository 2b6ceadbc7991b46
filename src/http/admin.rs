//! The admin listener: the pages, `/metrics`, `/readyz`, `POST /rules/reload`.
//!
//! It is meant for the machine itself or a private network, and a browser there also runs strangers' pages: every
//! request passes [`super::guard`] first. The pages have one style sheet and one script, both of this listener; their policy
//! forbids every other.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use secrecy::SecretString;

use super::guard::{self, Guard};
use super::health::{self, Readiness};
use super::pages::{self, Pages};
use super::reload::Reload;
use crate::engine::Context;
use crate::metrics;

pub use super::pages::ReloadProblem;
pub use super::pages::live::{MAX_STREAMS, PACE};

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
    /// What the pages show and change, and what `/metrics` shows.
    pub context: Context,
    /// What `POST /rules/reload` does.
    pub reload: Reload,
    /// What was wrong with the last reload.
    pub reload_problem: ReloadProblem,
}

/// The admin listener's routes.
pub fn router(admin: Admin) -> Router {
    let Admin { bound, hosts, token, ready, context, reload, reload_problem } = admin;
    let guard = Arc::new(Guard::new(bound.ip(), hosts, token));
    pages::routes()
        .route("/metrics", get(metrics_text))
        .route("/readyz", get(async move || health::readyz(&ready).await))
        .with_state(Arc::new(Pages::new(context, reload, reload_problem)))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .layer(middleware::map_response(harden))
}

/// What pages may load: the style sheet and the script of this listener, and what that script asks of it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

/// What every answer of this listener says to a browser: load nothing of others, embed nowhere, keep nothing, tell nobody.
async fn harden(mut answer: Response) -> Response {
    let headers: [(HeaderName, HeaderValue); 7] = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
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
    ([(header::CONTENT_TYPE, kind)], pages.ctx.metrics.encode()).into_response()
}
