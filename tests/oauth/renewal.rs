//! The request to the authorisation server: where it goes, what is sent, and what every answer is taken for.

use std::io::Write;
use std::sync::{Arc, Mutex};

use b24_janitor::clock::Clock;
use b24_janitor::core::rule::PortalLimits;
use b24_janitor::portal::{Access, CallError, Class, Portal, PortalOptions, Sent, Tokens, Transport};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::advance;
use wiremock::matchers::{body_json, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{CLIENT, HOUR, KEY, Safe, always, application, clock, fields, given, portal};

#[tokio::test(start_paused = true)]
async fn every_answer_of_the_authorisation_server_leaves_the_call_unexecuted() {
    let error = |code: &str| json!({ "error": code, "error_description": "words" }).to_string();
    let page = "<html>nginx</html>".to_owned();
    let cases = [
        (400, error("invalid_grant"), Class::StopPortal, "authorise the application again"),
        (401, error("invalid_grant"), Class::StopPortal, "authorise the application again"),
        (400, error("invalid_client"), Class::StopPortal, "B24_OAUTH_CLIENT_ID"),
        (400, error("invalid_request"), Class::StopPortal, "B24_OAUTH_"),
        (400, error("invalid_scope"), Class::StopPortal, "`crm`"),
        (401, error("insufficient_scope"), Class::StopPortal, "`crm`"),
        (200, error("PAYMENT_REQUIRED"), Class::StopPortal, "renew the plan"),
        (400, error("something_new"), Class::StopPortal, "B24_OAUTH_"),
        (401, error("expired_token"), Class::StopPortal, "B24_OAUTH_"),
        (500, error("something_new"), Class::Retry, "repeated"),
        (503, error("QUERY_LIMIT_EXCEEDED"), Class::Retry, "repeated"),
        (429, error("OPERATION_TIME_LIMIT"), Class::Retry, "repeated"),
        (502, page.clone(), Class::Retry, "repeated"),
        (429, page.clone(), Class::Retry, "repeated"),
        (200, page.clone(), Class::Retry, "repeated"),
        (200, String::new(), Class::Retry, "repeated"),
        (200, json!({ "access_token": "a" }).to_string(), Class::Retry, "repeated"),
        (200, json!({ "access_token": "", "refresh_token": "r" }).to_string(), Class::Retry, "repeated"),
        (500, given("access-x", "refresh-x").to_string(), Class::Retry, "repeated"),
        (403, page.clone(), Class::StopPortal, "B24_OAUTH_"),
        (302, given("access-x", "refresh-x").to_string(), Class::StopPortal, "B24_OAUTH_"),
    ];
    for (status, body, class, remedy) in cases {
        let safe = Safe::default();
        let portal = portal(always(fields(), (status, body.clone())), &safe, clock());
        let error = portal.probe().await.unwrap_err();
        assert_eq!((error.class, error.sent), (class, Sent::No), "{status} {body}");
        assert!(error.remedy.contains(remedy), "{status} {body}: {}", error.remedy);
        assert!(error.fault.text.starts_with("authorisation server: "), "{error}");
        assert_eq!((safe.diary.count("call"), safe.diary.count("keep")), (0, 0), "{status} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_renewal_goes_to_the_server_of_the_region_and_to_no_other() {
    for (named, asked) in [
        ("https://oauth.bitrix24.tech/rest/", "oauth.bitrix24.tech"),
        ("https://oauth.bitrix.info/rest/", "oauth.bitrix.info"),
        ("http://oauth.bitrix24.tech/rest/", "oauth.bitrix.info"),
        ("https://oauth.bitrix24.tech:8443/rest/", "oauth.bitrix.info"),
        ("https://oauth.bitrix24.tech.evil.example/rest/", "oauth.bitrix.info"),
        ("https://oauth.bitrix24.tech@evil.example/rest/", "oauth.bitrix.info"),
        ("//evil.example", "oauth.bitrix.info"),
        ("data:text/plain,x", "oauth.bitrix.info"),
    ] {
        let mut tokens = given("access-x", "refresh-x");
        tokens["server_endpoint"] = Value::from(named);
        let refused =
            json!({ "error": "expired_token", "error_description": "The access token provided has expired" });
        let safe = Safe::default();
        let portal = portal(always((401, refused), (200, tokens.to_string())), &safe, clock());
        portal.probe().await.unwrap_err();
        advance(HOUR).await;
        portal.probe().await.unwrap_err();
        let renewals: Vec<_> =
            safe.diary.lines().into_iter().filter(|line| line.starts_with("renew")).collect();
        assert_eq!(renewals[1..], [format!("renew {asked} refresh-x")], "{named}");
    }
}

/// Where the log of these tests goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_renewal_is_the_documented_request_and_no_secret_is_shown_even_if_a_server_repeats_it() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    subscriber.with_writer(move || writer.clone()).try_init().unwrap();

    let server = MockServer::start().await;
    let call = |access: &str| json!({ "entityTypeId": 1, "auth": access });
    Mock::given(method("POST"))
        .and(path("/rest/crm.item.fields"))
        .and(body_json(call("s3cr3told")))
        .respond_with(ResponseTemplate::new(401).set_body_json(json!({ "error": "expired_token" })))
        .expect(1)
        .mount(&server)
        .await;
    let echo =
        json!({ "error": "NO_AUTH_FOUND", "error_description": format!("not s3cr3tnew, {KEY}, s3cr3tnext") });
    Mock::given(method("POST"))
        .and(path("/rest/crm.item.fields"))
        .and(body_json(call("s3cr3tnew")))
        .respond_with(ResponseTemplate::new(401).set_body_json(echo))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(path("/oauth/token/"))
        .respond_with(ResponseTemplate::new(200).set_body_json(given("s3cr3tnew", "s3cr3tnext")))
        .expect(1)
        .mount(&server)
        .await;

    let safe = Safe::default();
    let long_ago = "2026-01-01T00:00:00Z".parse().unwrap();
    *safe.tokens.lock().unwrap() = Some(Tokens {
        access: SecretString::from("s3cr3told"),
        refresh: SecretString::from("s3cr3t+/=&"),
        server: "https://evil.example".to_owned(),
        renewed_at: long_ago,
        expires_at: long_ago,
    });
    let access = Access::OAuth(application(safe.vault(), &server.uri()));
    let (limits, clock) = (PortalLimits::default(), Clock::System);
    let options = PortalOptions { access, limits, clock, observer: None, pace: None };
    let portal = Portal::new(Portal::http().unwrap(), options);
    let error: CallError = portal.probe().await.unwrap_err();
    assert_eq!(error.fault.text, "not ***, ***, ***");

    let requests = server.received_requests().await.unwrap();
    let renewal = requests.iter().find(|request| request.url.path() == "/oauth/token/").unwrap();
    let expected = format!(
        "grant_type=refresh_token&client_id={CLIENT}&client_secret={KEY}&refresh_token=s3cr3t%2B%2F%3D%26"
    );
    assert_eq!(renewal.url.query(), Some(expected.as_str()));
    assert_eq!(renewal.headers["accept"], "application/json");
    assert!(renewal.body.is_empty());
    assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")));

    let stored = safe.tokens.lock().unwrap().clone().unwrap();
    assert_eq!(stored.server, server.uri());
    let shown = format!("{portal:?} {error:?} {error} {stored:?}");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the access token was renewed"), "{log}");
    for text in [shown, log] {
        // The server of this test logs what it receives; of ours not a letter may be there.
        let ours: Vec<&str> = text.lines().filter(|line| !line.contains("wiremock")).collect();
        assert!(!ours.join("\n").contains("s3cr3t"), "{}", ours.join("\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_part_of_a_documented_word_changes_no_meaning_and_is_hidden_elsewhere() {
    for key in ["grant", "id", "invalid_grant", "e"] {
        let body =
            json!({ "error": "invalid_grant", "error_description": format!("a {key}-token of yours") });
        let safe = Safe::default();
        let mut options = application(safe.vault(), "https://portal.example");
        options.client_secret = SecretString::from(key);
        let router = always(fields(), (400, body.to_string()));
        let portal = Portal::new(
            Transport::InProcess(router),
            PortalOptions {
                access: Access::OAuth(options),
                limits: PortalLimits::default(),
                clock: clock(),
                observer: None,
                pace: None,
            },
        );
        let error = portal.probe().await.unwrap_err();
        assert_eq!((error.class, error.fault.code.as_str()), (Class::StopPortal, "invalid_grant"), "{key}");
        assert!(error.remedy.contains("B24_OAUTH_REFRESH_TOKEN"), "{key}: {}", error.remedy);
        assert!(error.fault.text.contains("***"), "{key}: {error}");
    }
}
