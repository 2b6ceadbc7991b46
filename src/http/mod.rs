//! The two listeners: a public one for the portal's events, and one for the administrator.
//!
//! Whoever faces the internet is given nothing to hold on to: every header, body, wait and connection has a limit,
//! an answer says in a few words what was wrong and repeats nothing that was sent, and no part of a request is
//! logged. The public listener knows neither the store nor the engine; it is given hooks.

pub mod admin;
pub mod attempts;
mod busy;
pub mod events;
mod form;
pub mod guard;
pub mod health;
pub mod listen;
pub mod notify;
mod pages;
pub mod reload;
pub mod sessions;
mod token;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;

/// What a hook returns: a future that the listener may hold on to.
pub type Answer<T> = BoxFuture<'static, T>;

/// The public listener's routes: `GET /healthz`, and `POST /bitrix24/events` if there is an intake with a token.
pub fn public(intake: Option<events::Intake>) -> axum::Router {
    let router = axum::Router::new().route("/healthz", axum::routing::get(health::healthz));
    match intake {
        Some(intake) => router.merge(events::routes(intake)),
        None => router,
    }
}

/// A short answer for people and programs; never stored by anything between us and them.
fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, text.into()).into_response()
}
