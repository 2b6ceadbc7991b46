//! The admin listener: an overview page, `/metrics`, `/readyz`, `POST /rules/reload`.
//!
//! It is meant for the machine itself or a private network, and a browser there also runs strangers' pages. So it
//! answers only to `Host` names that are ours: a page whose name is rebound to 127.0.0.1 gets 421. With a token
//! configured every request needs it. The page has no script, no style and no form, and its policy forbids them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use secrecy::SecretString;

use super::health::{self, Readiness};
use super::reload::{self, Reload};
use super::token::{self, Tokens};
use super::{Answer, plain};
use crate::metrics::{self, Metrics};

/// How long the overview may take to gather: it reads a few counts from the database.
const OVERVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// The rows of the overview page, name and value, as plain text; the page escapes them.
pub type Overview = Arc<dyn Fn() -> Answer<Vec<(String, String)>> + Send + Sync>;

/// What the admin listener is made of.
pub struct Admin {
    /// The address it listens on; its IP is an accepted `Host`. Bound to all addresses, every IP literal is: a rebound
    /// name is never one.
    pub bound: SocketAddr,
    /// Further accepted host names (`JANITOR_ADMIN_HOSTS`), without a port, in any case.
    pub hosts: Vec<String>,
    /// The token that every request must carry, as a bearer token or as the password of a Basic login; `None` asks
    /// for nothing. An empty token locks the listener, since nothing equals it.
    pub token: Option<SecretString>,
    /// The check behind `/readyz`.
    pub ready: Readiness,
    /// The rows of `/`.
    pub overview: Overview,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// What `POST /rules/reload` does.
    pub reload: Reload,
}

struct Guard {
    bound: IpAddr,
    hosts: Vec<String>,
    token: Lock,
}

enum Lock {
    Open,
    Token(Tokens),
    Shut,
}

struct Pages {
    ready: Readiness,
    overview: Overview,
    metrics: Metrics,
    reload: Reload,
}

/// The admin listener's routes.
pub fn router(admin: Admin) -> Router {
    let Admin { bound, hosts, token, ready, overview, metrics, reload } = admin;
    let token = match token.map(|token| Tokens::new(&[token])) {
        None => Lock::Open,
        Some(Some(tokens)) => Lock::Token(tokens),
        Some(None) => Lock::Shut,
    };
    let guard = Arc::new(Guard { bound: bound.ip(), hosts, token });
    Router::new()
        .route("/", get(overview_page))
        .route("/metrics", get(metrics_text))
        .route("/readyz", get(async |State(pages): State<Arc<Pages>>| health::readyz(&pages.ready).await))
        .route("/rules/reload", post(reload_rules))
        .with_state(Arc::new(Pages { ready, overview, metrics, reload }))
        .layer(middleware::from_fn_with_state(guard, check))
        .layer(middleware::map_response(harden))
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if !guard.knows(request.uri(), request.headers()) {
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            "this name is not known here: add it to JANITOR_ADMIN_HOSTS, or use the address\n",
        );
    }
    let allowed = match &guard.token {
        Lock::Open => true,
        Lock::Token(tokens) => {
            token::presented(request.headers()).is_some_and(|secret| tokens.accept(&secret))
        }
        Lock::Shut => false,
    };
    if allowed {
        return next.run(request).await;
    }
    let mut answer = plain(StatusCode::UNAUTHORIZED, "the admin token is required\n");
    answer.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"b24-janitor\", charset=\"UTF-8\""),
    );
    answer
}

impl Guard {
    /// Whether the request names a host that is ours: exactly one `Host`, and the target's own host, if it has one,
    /// likewise.
    fn knows(&self, target: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let Ok(host) = Authority::try_from(host.as_bytes()) else { return false };
        // `user@host` is legal as an authority, never in a Host.
        !host.as_str().contains('@')
            && self.is_ours(host.host())
            && target.host().is_none_or(|host| self.is_ours(host))
    }

    fn is_ours(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return ip.is_loopback() || ip == self.bound || self.bound.is_unspecified();
        }
        host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }
}

/// What every answer of this listener says to a browser: load nothing, embed nowhere, keep nothing, tell nobody.
async fn harden(mut answer: Response) -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    answer.headers_mut().extend(headers);
    answer
}

async fn reload_rules(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    reload::reload(&pages.reload, &headers).await
}

async fn metrics_text(State(pages): State<Arc<Pages>>) -> Response {
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    ([(header::CONTENT_TYPE, kind)], pages.metrics.encode()).into_response()
}

async fn overview_page(State(pages): State<Arc<Pages>>) -> Response {
    let Ok(rows) = tokio::time::timeout(OVERVIEW_TIMEOUT, (pages.overview)()).await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the database did not answer in time\n");
    };
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], page(&rows)).into_response()
}

fn page(rows: &[(String, String)]) -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>b24-janitor</title>\n</head>\n<body>\n\
         <h1>b24-janitor</h1>\n<table>\n",
    );
    for (name, value) in rows {
        html.push_str("<tr><th scope=\"row\" align=\"left\">");
        escape(name, &mut html);
        html.push_str("</th><td>");
        escape(value, &mut html);
        html.push_str("</td></tr>\n");
    }
    html.push_str("</table>\n<p><a href=\"/metrics\">metrics</a> · <a href=\"/readyz\">readiness</a></p>\n");
    html.push_str("</body>\n</html>\n");
    html
}

fn escape(text: &str, html: &mut String) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}
