//! What the pages are made from, without a running engine: a database, a portal that nobody asks, rules.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use b24_janitor::clock::Clock;
use b24_janitor::core::rule::{PortalLimits, RuleSet};
use b24_janitor::engine::{Context, Parts};
use b24_janitor::http::admin::{Admin, router};
use b24_janitor::http::guard::SCRIPT_HEADER;
use b24_janitor::http::health::ReadyReport;
use b24_janitor::metrics::Metrics;
use b24_janitor::portal::{Access, Portal, PortalOptions, Transport};
use b24_janitor::rules::{self, Input};
use b24_janitor::sandbox::{Sandbox, SandboxOptions};
use b24_janitor::store::{OpenOptions, Store, Threads};
use futures_util::FutureExt;
use jiff::Timestamp;

use crate::support::{FORM, ask};

/// The time of every test.
pub(crate) const NOW: &str = "2026-11-25T10:00:00Z";

/// Two rules in a zone with an offset.
pub(crate) const RULES: &str = "version: 1\ntimezone: Europe/Berlin\ndefaults: { mode: delete }\nrules:\n\
    \x20 - { name: old-junk, schedule: \"15 3 * * *\", match: { stageId: JUNK }, older_than: 90d }\n\
    \x20 - { name: spam, schedule: \"0 5 * * *\", match: { stageId: \"7\" } }\n";

pub(crate) fn parse(text: &str) -> RuleSet {
    let input = Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
    match rules::parse(&[input]) {
        Ok(loaded) => loaded.rules,
        Err(problems) => panic!("{}", problems.iter().map(|one| one.render(false)).collect::<String>()),
    }
}

pub(crate) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A context that only looks. Its folder is kept by whoever asks for it.
pub(crate) fn context(rules: &str) -> (Context, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions { threads: Threads::Inline, create: true };
    let store = Store::open(&folder.path().join("janitor.db"), options).unwrap();
    let clock = Clock::starting_at(now());
    let sandbox = Sandbox::new(SandboxOptions { leads: 0, ..SandboxOptions::default() }, clock);
    let address = format!("https://portal.example{}", sandbox.webhook_path());
    let portal = Portal::new(
        Transport::InProcess(sandbox.router()),
        PortalOptions {
            access: Access::Webhook(address.into()),
            limits: PortalLimits::default(),
            clock,
            observer: None,
            pace: None,
        },
    );
    let parts = Parts { store, portal, clock, metrics: Metrics::new(), seed: 1 };
    (Context::observing(parts, parse(rules)), folder)
}

/// An admin listener over a context.
pub(crate) fn listener(ctx: &Context, token: Option<&str>) -> Router {
    router(Admin {
        bound: "127.0.0.1:8081".parse().unwrap(),
        hosts: Vec::new(),
        token: token.map(Into::into),
        ready: Arc::new(|| async { ReadyReport { ready: true, body: "ready\n".to_owned() } }.boxed()),
        context: ctx.clone(),
        reload: Arc::new(|| async { Ok(3) }.boxed()),
        reload_problem: Arc::new(|| None),
    })
}

/// One request with headers and a form.
pub(crate) async fn ask_with(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    form: &str,
) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header(header::CONTENT_TYPE, FORM);
    ask(router, request.body(Body::from(form.to_owned())).unwrap()).await
}

/// An admin listener without a token, with these rules.
pub(crate) struct Site {
    pub(crate) ctx: Context,
    pub(crate) router: Router,
    _folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with(RULES)
    }

    pub(crate) fn with(rules: &str) -> Site {
        let (ctx, folder) = context(rules);
        Site::of(ctx, folder)
    }

    /// The same around a context that a test has made.
    pub(crate) fn of(ctx: Context, folder: tempfile::TempDir) -> Site {
        let router = listener(&ctx, None);
        Site { ctx, router, _folder: folder }
    }

    /// The page of a path, which must be there.
    pub(crate) async fn page(&self, path: &str) -> String {
        let (status, headers, text) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        assert_eq!(headers.get(header::CONTENT_TYPE).unwrap(), "text/html; charset=utf-8", "{path}");
        text
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, HeaderMap, String) {
        ask_with(&self.router, "GET", path, &[("accept", "text/html")], "").await
    }

    /// Sends a form of a page with its token, as a browser, and returns the page that it leads to.
    pub(crate) async fn send(&self, path: &str, fields: &str) -> String {
        let csrf = csrf(&self.page("/").await);
        let (status, headers, text) = self.post(path, &format!("csrf={csrf}&{fields}")).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{path} {fields}: {text}");
        self.page(headers.get(header::LOCATION).unwrap().to_str().unwrap()).await
    }

    /// Posts a form as it stands, as a browser.
    pub(crate) async fn post(&self, path: &str, form: &str) -> (StatusCode, HeaderMap, String) {
        ask_with(&self.router, "POST", path, &[("accept", "text/html")], form).await
    }

    /// Posts a form as a script.
    pub(crate) async fn script(&self, path: &str, form: &str) -> (StatusCode, String) {
        let (status, _, text) = ask_with(&self.router, "POST", path, &[(SCRIPT_HEADER, "1")], form).await;
        (status, text)
    }
}

/// The token of a page's forms.
pub(crate) fn csrf(page: &str) -> String {
    page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}
