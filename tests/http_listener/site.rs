//! What the pages are made from, without a running engine: a database, a portal that nobody asks, rules.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use b24_janitor::clock::Clock;
use b24_janitor::core::rule::{PortalLimits, RuleSet};
use b24_janitor::engine::{Context, Parts};
use b24_janitor::http::admin::{Admin, router};
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
        let router = router(Admin {
            bound: "127.0.0.1:8081".parse().unwrap(),
            hosts: Vec::new(),
            token: None,
            ready: Arc::new(|| async { ReadyReport { ready: true, body: "ready\n".to_owned() } }.boxed()),
            context: ctx.clone(),
            reload: Arc::new(|| async { Ok(3) }.boxed()),
            reload_problem: Arc::new(|| None),
        });
        Site { ctx, router, _folder: folder }
    }

    /// The page of a path, which must be there.
    pub(crate) async fn page(&self, path: &str) -> String {
        let (status, headers, text) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8", "{path}");
        text
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::get(path).header("host", "localhost").header("accept", "text/html");
        ask(&self.router, request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form of a page with its token, as a browser, and returns the page that it leads to.
    pub(crate) async fn send(&self, path: &str, fields: &str) -> String {
        let csrf = csrf(&self.page("/").await);
        let (status, headers, text) = self.post(path, &format!("csrf={csrf}&{fields}")).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{path} {fields}: {text}");
        self.page(headers[header::LOCATION].to_str().unwrap()).await
    }

    /// Posts a form as it stands, as a browser.
    pub(crate) async fn post(&self, path: &str, form: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("accept", "text/html")
            .header(header::CONTENT_TYPE, FORM);
        ask(&self.router, request.body(Body::from(form.to_owned())).unwrap()).await
    }
}

/// The token of a page's forms.
pub(crate) fn csrf(page: &str) -> String {
    page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}
