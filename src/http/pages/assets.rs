//! The style sheet and the script of the pages. They are part of the program: the pages load nothing from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Pages;

/// The style sheet.
const STYLE: &str = include_str!("../../../templates/style.css");

const STYLE_PATH: &str = "/style.css";

/// The script: refreshes the figures of an open page.
const SCRIPT: &str = include_str!("../../../templates/live.js");

/// Whether a path is public: the login page needs its style before anybody is signed in.
pub(in crate::http) fn is_asset(path: &str) -> bool {
    path == STYLE_PATH
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new()
        .route(STYLE_PATH, get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/live.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}
