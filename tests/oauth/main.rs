//! A local application instead of a webhook: when its token is renewed, what is stored first, and what is never shown.
//!
//! The portal and the authorisation server are the sandbox's or a small router's, in this process, under paused time;
//! one test reads a renewal as it goes over a socket.

#![cfg(test)]

mod drain;
mod renewal;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use b24_janitor::clock::Clock;
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::outcome::{DeleteReply, Presence};
use b24_janitor::core::rule::PortalLimits;
use b24_janitor::portal::{
    Access, BatchRequest, Class, OAuthOptions, Portal, PortalOptions, Sent, Tokens, Transport, Vault, Work,
};
use b24_janitor::sandbox::{Lead, OauthApp, Sandbox, SandboxOptions};
use http_body_util::BodyExt;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::ServiceExt;

const CLIENT: &str = "local.573ad8a0346747.09223434";
const KEY: &str = "s3cr3tclientkey";
const FIRST: &str = "s3cr3tfirstrefresh";
const HOUR: Duration = Duration::from_secs(3601);

/// What happened, in order: `renew HOST REFRESH`, `keep ACCESS`, `call METHOD ACCESS`.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }

    /// The router, with a note of every request.
    fn of(&self, router: Router) -> Router {
        let diary = self.clone();
        Router::new().fallback(move |request: Request| {
            let (diary, router) = (diary.clone(), router.clone());
            async move {
                // A network takes time: calls made together are under way together.
                sleep(Duration::from_millis(10)).await;
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                if parts.uri.path() == "/oauth/token/" {
                    let query = parts.uri.query().unwrap_or_default();
                    let refresh = query.rsplit_once("refresh_token=").map_or("", |(_, token)| token);
                    diary.note(format!("renew {} {refresh}", parts.headers["host"].to_str().unwrap()));
                } else {
                    let body: Value = serde_json::from_slice(&bytes).unwrap();
                    let called = parts.uri.path().trim_start_matches("/rest/");
                    diary.note(format!("call {called} {}", body["auth"].as_str().unwrap()));
                }
                router.oneshot(Request::from_parts(parts, Body::from(bytes))).await.unwrap()
            }
        })
    }
}

/// A vault in memory, whose next `failures` attempts to keep fail.
#[derive(Clone, Default)]
struct Safe {
    diary: Diary,
    tokens: Arc<Mutex<Option<Tokens>>>,
    failures: Arc<Mutex<u32>>,
    slow: bool,
}

impl Safe {
    fn vault(&self) -> Vault {
        let (loading, keeping) = (self.clone(), self.clone());
        Vault {
            load: Arc::new(move || {
                let tokens = loading.tokens.lock().unwrap().clone();
                Box::pin(async move { Ok(tokens) })
            }),
            keep: Arc::new(move |tokens| {
                let safe = keeping.clone();
                Box::pin(async move {
                    if safe.slow {
                        sleep(Duration::from_secs(1)).await;
                    }
                    let mut failures = safe.failures.lock().unwrap();
                    if *failures > 0 {
                        *failures -= 1;
                        return Err(format!("no space left for {}", tokens.access.expose_secret()));
                    }
                    safe.diary.note(format!("keep {}", tokens.access.expose_secret()));
                    *safe.tokens.lock().unwrap() = Some(tokens);
                    Ok(())
                })
            }),
        }
    }
}

fn clock() -> Clock {
    Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap())
}

fn application(vault: Vault, base: &str) -> OAuthOptions {
    OAuthOptions {
        portal_url: base.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: SecretString::from(KEY),
        refresh_token: SecretString::from(FIRST),
        server: if base.starts_with("http:") { base } else { "https://oauth.bitrix.info" }.to_owned(),
        vault,
    }
}

fn portal(router: Router, safe: &Safe, clock: Clock) -> Portal {
    let limits = PortalLimits { requests_per_second: 1000.0, burst: 10_000, ..PortalLimits::default() };
    let access = Access::OAuth(application(safe.vault(), "https://portal.example"));
    let transport = Transport::InProcess(safe.diary.of(router));
    Portal::new(transport, PortalOptions { access, limits, clock, observer: None, pace: None })
}

/// A sandbox with the application installed and some leads, a portal's client, and its vault.
fn rehearsal() -> (Sandbox, Portal, Safe) {
    let (clock, safe) = (clock(), Safe::default());
    let oauth = Some(OauthApp {
        client_id: CLIENT.to_owned(),
        client_secret: KEY.to_owned(),
        refresh_token: FIRST.to_owned(),
    });
    // Told nothing of budgets, the client sends its first calls after a pause together.
    let options = SandboxOptions { oauth, tell_operating: false, ..SandboxOptions::raised() };
    let sandbox = Sandbox::new(options, clock);
    for _ in 0..10 {
        sandbox.insert(Lead::new("lead", sandbox.now()));
    }
    let portal = portal(sandbox.router(), &safe, clock);
    (sandbox, portal, safe)
}

/// A portal and an authorisation server that always answer the same.
fn always(rest: (u16, Value), token: (u16, String)) -> Router {
    let reply = |(status, body): (u16, String)| {
        move || async move {
            let response = Response::builder().status(status).header("content-type", "application/json");
            response.body(Body::from(body)).unwrap()
        }
    };
    Router::new()
        .route("/oauth/token/", axum::routing::get(reply(token)))
        .fallback(reply((rest.0, rest.1.to_string())))
}

fn fields() -> (u16, Value) {
    (200, json!({ "result": { "fields": {} } }))
}

fn given(access: &str, refresh: &str) -> Value {
    json!({ "access_token": access, "refresh_token": refresh, "expires_in": 3600 })
}

fn id(number: i64) -> LeadId {
    LeadId::try_from(number).unwrap()
}

#[tokio::test(start_paused = true)]
async fn calls_that_meet_an_expired_token_wait_for_one_renewal_and_are_repeated_once() {
    let (_sandbox, portal, safe) = rehearsal();
    let calls = || {
        let portal = portal.clone();
        let calls: Vec<_> = (1..=8)
            .map(|number| {
                let portal = portal.clone();
                tokio::spawn(async move { portal.get(id(number)).await })
            })
            .collect();
        futures_util::future::join_all(calls)
    };
    for call in calls().await {
        assert!(matches!(call.unwrap(), Ok(Presence::Present(_))));
    }
    assert_eq!((safe.diary.count("renew"), safe.diary.count("call")), (1, 8));
    advance(HOUR).await;
    for call in calls().await {
        assert!(matches!(call.unwrap(), Ok(Presence::Present(_))));
    }
    assert_eq!((safe.diary.count("renew"), safe.diary.count("keep")), (2, 2));
    assert_eq!(safe.diary.count("call crm.item.get access00000001"), 8 + 8);
    assert_eq!(safe.diary.count("call crm.item.get access00000002"), 8);
}

#[tokio::test(start_paused = true)]
async fn the_repeated_call_keeps_to_the_pace_and_both_are_observed() {
    let (sandbox, _, _) = rehearsal();
    let (safe, clock) = (Safe::default(), clock());
    let records: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let seen = Arc::clone(&records);
    let portal = Portal::new(
        Transport::InProcess(safe.diary.of(sandbox.router())),
        PortalOptions {
            access: Access::OAuth(application(safe.vault(), "https://portal.example")),
            limits: PortalLimits { requests_per_second: 0.1, burst: 1, ..PortalLimits::default() },
            clock,
            observer: Some(Arc::new(move |record| seen.lock().unwrap().push(record.result))),
            pace: None,
        },
    );
    portal.probe().await.unwrap();
    advance(HOUR).await;
    let began = Instant::now();
    portal.probe().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(*records.lock().unwrap(), ["ok", "token_expired", "ok"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_when_it_is_refused_and_not_before() {
    let (_sandbox, portal, safe) = rehearsal();
    for _ in 0..4 {
        portal.probe().await.unwrap();
        advance(Duration::from_secs(890)).await;
    }
    assert_eq!(safe.diary.count("renew"), 1);
    advance(HOUR * 24).await;
    assert_eq!(safe.diary.count("renew"), 1, "nothing is renewed while nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn new_tokens_are_stored_before_they_are_used_and_rotate() {
    let (_sandbox, portal, safe) = rehearsal();
    portal.probe().await.unwrap();
    advance(HOUR).await;
    portal.probe().await.unwrap();
    assert_eq!(
        safe.diary.lines(),
        [
            "renew oauth.bitrix.info s3cr3tfirstrefresh",
            "keep access00000001",
            "call crm.item.fields access00000001",
            "call crm.item.fields access00000001",
            "renew oauth.bitrix.info refresh00000001",
            "keep access00000002",
            "call crm.item.fields access00000002",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn tokens_that_cannot_be_stored_are_not_used_and_are_stored_later_without_another_renewal() {
    let (_sandbox, portal, safe) = rehearsal();
    *safe.failures.lock().unwrap() = 2;
    for _ in 0..2 {
        for _ in 0..3 {
            let error = portal.probe().await.unwrap_err();
            assert_eq!((error.class, error.sent), (Class::Retry, Sent::No));
            assert_eq!(error.fault.code, "<tokens not stored>");
            assert!(error.fault.text.contains("no space left for ***"), "{error}");
        }
        advance(Duration::from_secs(6)).await;
    }
    assert_eq!(*safe.failures.lock().unwrap(), 0, "one attempt each time, whoever asks");
    assert_eq!(safe.diary.count("call"), 0);
    portal.probe().await.unwrap();
    assert_eq!(safe.diary.count("renew"), 1);
    assert_eq!(safe.diary.lines()[1..], ["keep access00000001", "call crm.item.fields access00000001"]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_lose_the_new_tokens() {
    // On the way to the authorisation server, and on the way to the disk.
    for patience in [5, 100] {
        let (sandbox, _, _) = rehearsal();
        let safe = Safe { slow: true, ..Safe::default() };
        let portal = portal(sandbox.router(), &safe, clock());
        timeout(Duration::from_millis(patience), portal.probe()).await.unwrap_err();
        portal.probe().await.unwrap();
        assert_eq!(safe.diary.count("renew"), 1, "{patience} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_meets_an_expired_token_is_not_repeated_behind_the_callers_back() {
    let (sandbox, portal, safe) = rehearsal();
    portal.probe().await.unwrap();
    advance(HOUR).await;
    let permit = portal.permit(Work::Delete { leads: 2 }).await;
    let error = portal
        .delete_batch(permit, &BatchRequest::deleting(&[id(1), id(2)]).listing(&[id(3)]))
        .await
        .unwrap_err();
    assert_eq!((error.class, error.sent), (Class::Retry, Sent::No));
    assert!(matches!(error.as_reply(), DeleteReply::Busy(_)));
    assert_eq!((sandbox.lead_count(), safe.diary.count("renew")), (10, 2), "what was read is too old now");
    let permit = portal.permit(Work::Delete { leads: 2 }).await;
    let reply = portal
        .delete_batch(permit, &BatchRequest::deleting(&[id(1), id(2)]).listing(&[id(3)]))
        .await
        .unwrap();
    assert!(reply.replies.iter().all(|(_, reply)| *reply == DeleteReply::Deleted), "{reply:?}");
    assert_eq!(reply.lists.into_iter().next().unwrap().unwrap().len(), 1);
    advance(HOUR).await;
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_one(permit, id(4)).await.unwrap_err();
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    assert_eq!(portal.delete_one(permit, id(4)).await, Ok(DeleteReply::Deleted));
    assert_eq!((sandbox.lead_count(), safe.diary.count("renew")), (7, 3));
}

#[tokio::test(start_paused = true)]
async fn a_void_refresh_token_stops_with_what_to_do_and_is_not_tried_over_and_over() {
    let (sandbox, _, _) = rehearsal();
    let (safe, clock) = (Safe::default(), clock());
    let mut options = application(safe.vault(), "https://portal.example");
    options.refresh_token = SecretString::from("s3cr3twrong");
    let access = Access::OAuth(options);
    let portal = Portal::new(
        Transport::InProcess(safe.diary.of(sandbox.router())),
        PortalOptions { access, limits: PortalLimits::default(), clock, observer: None, pace: None },
    );
    for _ in 0..3 {
        let error = portal.probe().await.unwrap_err();
        assert_eq!((error.class, error.sent), (Class::StopPortal, Sent::No));
        assert_eq!(error.fault.code, "invalid_grant");
        assert!(error.remedy.contains("B24_OAUTH_REFRESH_TOKEN"), "{}", error.remedy);
        assert_eq!(b24_janitor::portal::remedy(&error.fault), error.remedy);
        assert!(matches!(error.as_reply(), DeleteReply::Stopped(_)));
    }
    assert_eq!(safe.diary.lines(), ["renew oauth.bitrix.info s3cr3twrong"]);
}

#[tokio::test(start_paused = true)]
async fn what_another_process_has_renewed_is_used() {
    let (sandbox, portal_a, safe) = rehearsal();
    let portal_b = portal(sandbox.router(), &safe, clock());
    portal_a.probe().await.unwrap();
    portal_b.probe().await.unwrap();
    advance(HOUR).await;
    portal_a.probe().await.unwrap();
    portal_b.probe().await.unwrap();
    assert_eq!(safe.diary.count("renew"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_another_process_won_is_no_reason_to_stop() {
    let (sandbox, portal_a, safe) = rehearsal();
    portal_a.probe().await.unwrap();
    // The loser of the race looks before the winner has stored its tokens, and asks after that.
    let vault = safe.vault();
    let stored = Arc::clone(&vault.load);
    let looks = Arc::new(Mutex::new(0));
    let late = Vault {
        load: Arc::new(move || {
            *looks.lock().unwrap() += 1;
            if *looks.lock().unwrap() == 1 { Box::pin(async { Ok(None) }) } else { stored() }
        }),
        keep: vault.keep,
    };
    let access = Access::OAuth(application(late, "https://portal.example"));
    let transport = Transport::InProcess(safe.diary.of(sandbox.router()));
    let options =
        PortalOptions { access, limits: PortalLimits::default(), clock: clock(), observer: None, pace: None };
    Portal::new(transport, options).probe().await.unwrap();
    assert_eq!(safe.diary.count("renew oauth.bitrix.info s3cr3tfirstrefresh"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_token_that_is_refused_is_not_renewed_in_a_circle() {
    let refused =
        json!({ "error": "invalid_token", "error_description": "Unable to get application by token" });
    let safe = Safe::default();
    let portal =
        portal(always((401, refused), (200, given("access-x", "refresh-x").to_string())), &safe, clock());
    for _ in 0..5 {
        let error = portal.probe().await.unwrap_err();
        assert_eq!((error.class, error.sent), (Class::RefreshToken, Sent::No));
        assert!(error.remedy.contains("B24_PORTAL_URL"), "{}", error.remedy);
        advance(Duration::from_secs(60)).await;
    }
    assert_eq!(safe.diary.count("renew"), 1);
    advance(Duration::from_secs(1800)).await;
    portal.probe().await.unwrap_err();
    assert_eq!(safe.diary.count("renew"), 2);
}
