//! The pages of the admin listener, rendered by the server: whole without a script, and whatever comes from elsewhere is
//! escaped by the templates.
//!
//! A page is a struct with a [`layout::Layout`] named `page` and a template in `templates/` that extends `base.html`; its handler takes
//! an [`Asked`]. A form carries `{% include "csrf.html" %}`, is shown only if `page.may_change()`, and its handler ends with
//! [`Asked::answer`]. Who may ask at all: [`super::guard`].

mod asking;
mod assets;
mod chart;
mod compared;
mod download;
mod explained;
mod figures;
mod filters;
mod held;
mod jobs;
mod layout;
mod leads;
pub(super) mod live;
pub(super) mod login;
mod moment;
mod names;
mod notices;
mod orders;
mod overview;
mod plans;
mod rules;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use self::layout::{Layout, Section};
use self::notices::{Notice, Notices};
use super::plain;
use super::reload::Reload;
use super::sessions::Visitor;
use crate::engine::{Approver, Context};
use crate::store::StoreError;

pub(super) use self::assets::is_asset;

/// How long a page may take to gather what it shows. Every query is bounded by an index; this is for a database that
/// another process holds.
pub(super) const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What was wrong with the last reload of the rules; `None` if it succeeded.
pub type ReloadProblem = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the pages are made from.
pub(super) struct Pages {
    pub(super) ctx: Context,
    pub(super) reload: Reload,
    pub(super) reload_problem: ReloadProblem,
    notices: Notices,
    names: names::Names,
    plans: plans::Plans,
    figures: figures::Cache,
    places: live::Places,
}

impl Pages {
    pub(super) fn new(ctx: Context, reload: Reload, reload_problem: ReloadProblem) -> Pages {
        Pages {
            ctx,
            reload,
            reload_problem,
            notices: Notices::default(),
            names: names::Names::default(),
            plans: plans::Plans::default(),
            figures: figures::Cache::default(),
            places: live::Places::default(),
        }
    }
}

/// The routes of the pages.
pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new()
        .merge(assets::routes())
        .merge(overview::routes())
        .merge(leads::routes())
        .merge(held::routes())
        .merge(jobs::routes())
        .merge(runs::routes())
        .merge(live::routes())
        .merge(orders::routes())
        .merge(plans::routes())
        .merge(rules::routes())
        .fallback(nothing_here)
}

async fn nothing_here(asked: Asked) -> Response {
    let text = "there is no such page";
    if asked.wants_page {
        Problem::NotFound(text.to_owned()).into_response()
    } else {
        plain(StatusCode::NOT_FOUND, format!("{text}\n"))
    }
}

/// A request for a page, or an order of one.
pub(super) struct Asked {
    pub(super) pages: Arc<Pages>,
    visitor: Visitor,
    /// Whether a browser asks; a script gets plain text and a status.
    wants_page: bool,
    notice: Option<Notice>,
}

impl FromRequestParts<Arc<Pages>> for Asked {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, pages: &Arc<Pages>) -> Result<Asked, Response> {
        // The guard is around every route; without its word there is no page.
        let Some(visitor) = parts.extensions.get::<Visitor>().cloned() else {
            return Err(plain(StatusCode::FORBIDDEN, "nobody let this request in\n"));
        };
        let notice = parts.uri.query().and_then(|query| pages.notices.named_in(query));
        Ok(Asked { pages: Arc::clone(pages), visitor, wants_page: wants_page(&parts.headers), notice })
    }
}

impl Asked {
    /// Who this is if it approves something.
    pub(super) fn approver(&self) -> Approver {
        match &self.visitor {
            Visitor { signed_in: true, .. } => Approver::SignedIn,
            Visitor { holds_token: true, .. } => Approver::Token,
            Visitor { .. } => Approver::Anybody,
        }
    }

    /// The frame of a page.
    fn layout(&self, section: Section, title: impl Into<String>) -> Layout {
        Layout {
            title: title.into(),
            section,
            csrf: self.visitor.csrf.clone(),
            signed_in: self.visitor.signed_in,
            notice: self.notice.clone(),
        }
    }

    /// The answer to an order: a browser is sent to `to`, a path of ours, where it reads the text; a script gets status and text.
    pub(super) fn answer(&self, to: &str, status: StatusCode, text: &str) -> Response {
        if !self.wants_page {
            return plain(status, format!("{}\n", text.trim_end()));
        }
        let notice = Notice { good: status.is_success(), text: text.trim_end().to_owned() };
        let to = match self.pages.notices.leave(notice) {
            Some(id) => {
                format!("{to}{}{}={id}", if to.contains('?') { '&' } else { '?' }, notices::PARAMETER)
            }
            None => to.to_owned(),
        };
        (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
    }
}

/// Whether the request comes from a browser's page.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// What a page needs from the database, in time.
pub(super) async fn in_time<T>(read: impl Future<Output = Result<T, StoreError>>) -> Result<T, Problem> {
    match tokio::time::timeout(PAGE_TIMEOUT, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(Problem::Store(error)),
        Err(_) => Err(Problem::TooSlow),
    }
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Problem {
    /// What was asked for is not there.
    NotFound(String),
    /// The request makes no sense.
    Wrong(String),
    /// The database failed.
    Store(StoreError),
    /// The database did not answer within [`PAGE_TIMEOUT`].
    TooSlow,
    /// The service can't do it now.
    Unavailable(String),
}

impl Problem {
    /// Its status and what to tell the person.
    pub(super) fn told(&self) -> (StatusCode, String) {
        match self {
            Problem::NotFound(text) => (StatusCode::NOT_FOUND, text.clone()),
            Problem::Wrong(text) => (StatusCode::BAD_REQUEST, text.clone()),
            Problem::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, text.clone()),
            Problem::Store(error) => {
                tracing::error!(%error, "the admin page could not use the database");
                (StatusCode::SERVICE_UNAVAILABLE, "the database failed; the log says why".to_owned())
            }
            Problem::TooSlow => {
                (StatusCode::SERVICE_UNAVAILABLE, "the database did not answer in time".to_owned())
            }
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    page: Layout,
    text: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, text) = self.told();
        let title = match self {
            Problem::NotFound(_) => "Not found",
            Problem::Wrong(_) => "Not understood",
            Problem::Store(_) | Problem::TooSlow | Problem::Unavailable(_) => "Not available",
        };
        let page = Layout {
            title: title.to_owned(),
            section: Section::None,
            csrf: None,
            signed_in: false,
            notice: None,
        };
        layout::render(status, &ErrorPage { page, text })
    }
}
