//! The page where a person signs in.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::layout::render;

#[derive(Template)]
#[template(path = "login.html")]
struct Login<'a> {
    wrong: Option<&'a str>,
}

/// The page; `wrong` says why the last try failed.
pub(in crate::http) fn page(status: StatusCode, wrong: Option<&str>) -> Response {
    render(status, &Login { wrong })
}
