//! What every page has around it: title, navigation, the notice of what was just done.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::notices::Notice;
use crate::http::plain;

/// The part of the pages that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Rules,
    Jobs,
    Runs,
    /// None of the navigation: a lead, an error.
    None,
}

/// One entry of the navigation.
pub(super) struct Tab {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) current: bool,
}

/// The frame of a page; templates know it as `page`.
pub(super) struct Layout {
    /// The page's heading, and its title with the program's name.
    pub(super) title: String,
    pub(super) section: Section,
    /// What forms carry; `None` for whoever may only look.
    pub(super) csrf: Option<String>,
    /// Whether there is a session to end.
    pub(super) signed_in: bool,
    /// What came of the order that led here.
    pub(super) notice: Option<Notice>,
}

impl Layout {
    /// The navigation.
    pub(super) fn tabs(&self) -> [Tab; 4] {
        let tab = |path, name, section| Tab { path, name, current: section == self.section };
        [
            tab("/", "Overview", Section::Overview),
            tab("/rules", "Rules", Section::Rules),
            tab("/jobs", "Jobs", Section::Jobs),
            tab("/runs", "Runs", Section::Runs),
        ]
    }

    /// The section's word in forms that lead back to it.
    pub(super) fn name(&self) -> &'static str {
        match self.section {
            Section::Overview => "overview",
            Section::Rules => "rules",
            Section::Jobs => "jobs",
            Section::Runs => "runs",
            Section::None => "",
        }
    }

    /// Whether forms are shown.
    pub(super) fn may_change(&self) -> bool {
        self.csrf.is_some()
    }

    /// The token that a form carries.
    pub(super) fn csrf(&self) -> &str {
        self.csrf.as_deref().unwrap_or_default()
    }

    /// The program's version.
    pub(super) fn version(&self) -> &'static str {
        crate::VERSION
    }
}

/// An answer with a page.
pub(super) fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => {
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            (status, [(header::CONTENT_TYPE, kind)], html).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered; the log says why\n")
        }
    }
}
