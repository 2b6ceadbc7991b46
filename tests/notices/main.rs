//! Notices on the wire: HTTP against a server that others wrote, e-mail against a small one of our own; and that no
//! secret comes back in any answer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

mod smtp;

use std::sync::Arc;

use b24_janitor::clock::Clock;
use b24_janitor::engine::notify::{self, Tested};
use b24_janitor::engine::{Context, Courier, Parts};
use b24_janitor::metrics::Metrics;
use b24_janitor::portal::{Access, Portal, PortalOptions, Transport};
use b24_janitor::rules::{self, Input};
use b24_janitor::store::{OpenOptions, Store, Threads};
use secrecy::SecretString;
use wiremock::matchers::{body_json, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

const KEY: &str = "T0SECRET/B0SECRET/k3yk3yk3y";

/// Sends the test notice of the one target that these lines make, with these secrets.
async fn tell(target: &str, secrets: &[(&str, &str)]) -> Tested {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(
        &folder.path().join("janitor.db"),
        OpenOptions { threads: Threads::Inline, create: true },
    )
    .unwrap();
    let text = format!("version: 1\ntimezone: UTC\nnotify:\n  - {{ name: ops, on: [held], {target} }}\n");
    let rules = match rules::parse(&[Input { file: "rules.yaml".to_owned(), bytes: text.into_bytes() }]) {
        Ok(loaded) => loaded.rules,
        Err(problems) => panic!("{problems:?}"),
    };
    let portal = Portal::new(
        Transport::InProcess(axum::Router::new()),
        PortalOptions {
            access: Access::Webhook(SecretString::from("https://acme.bitrix24.com/rest/1/code/")),
            limits: rules.portal,
            clock: Clock::System,
            observer: None,
            pace: None,
        },
    );
    let known: Vec<(String, String)> =
        secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let courier = Courier::over_network(Arc::new(move |name: &str| {
        let found = known.iter().find(|(known, _)| known == name);
        Ok(found.map(|(_, value)| SecretString::from(value.clone())))
    }))
    .unwrap();
    let parts = Parts { store, portal, clock: Clock::System, metrics: Metrics::new(), seed: 1 };
    let ctx = Context::observing(parts, rules).delivering(courier);
    notify::test(&ctx, Some("ops")).await.unwrap().remove(0)
}

const HTTP: &str = "http: { url_env: JANITOR_NOTIFY_URL }";

#[tokio::test]
async fn a_post_has_the_text_as_json_and_the_token_as_a_bearer() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(format!("/{KEY}")))
        .and(header("authorization", "Bearer t0kent0ken"))
        .and(header("content-type", "application/json"))
        .and(body_json(serde_json::json!({
            "chat_id": "-1001", "text": "Notices of b24-janitor reach ops. Nothing happened: this is a test."
        })))
        .respond_with(ResponseTemplate::new(200).set_body_string("ok"))
        .expect(1)
        .mount(&server)
        .await;
    let target = "http: { url_env: JANITOR_NOTIFY_URL, token_env: JANITOR_NOTIFY_TOKEN, body: '{\"chat_id\": \"-1001\", \"text\": \"{{text}}\"}' }";
    let secrets = [
        ("JANITOR_NOTIFY_URL", format!("{}/{KEY}", server.uri())),
        ("JANITOR_NOTIFY_TOKEN", "t0kent0ken".to_owned()),
    ];
    let secrets: Vec<(&str, &str)> = secrets.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let told = tell(target, &secrets).await;
    assert_eq!((told.ok, told.said.as_str()), (true, "200 ok"));
}

#[tokio::test]
async fn an_error_is_told_without_any_part_of_the_address() {
    let server = MockServer::start().await;
    let echo = format!("no hook /{KEY} here, k3yk3yk3y is unknown, T0SECRET is no team");
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(500).set_body_string(echo))
        .mount(&server)
        .await;
    let url = format!("{}/{KEY}", server.uri());
    let told = tell(HTTP, &[("JANITOR_NOTIFY_URL", &url)]).await;
    assert!(!told.ok);
    assert!(told.said.starts_with("it answered 500: no hook ***"), "{}", told.said);
    for part in ["T0SECRET", "B0SECRET", "k3yk3yk3y"] {
        assert!(!told.said.contains(part), "{}", told.said);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (here, there) = (MockServer::start().await, MockServer::start().await);
    let away = ResponseTemplate::new(307).insert_header("location", there.uri());
    Mock::given(method("POST")).respond_with(away).mount(&here).await;
    let told = tell(HTTP, &[("JANITOR_NOTIFY_URL", &format!("{}/{KEY}", here.uri()))]).await;
    assert!(!told.ok && told.said.contains("307, a redirect, which is not followed"), "{}", told.said);
    assert!(there.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_address_that_others_could_read_is_refused_and_not_shown() {
    for (url, why) in [
        (format!("http://hooks.example.org/{KEY}"), "everyone on the way could read the secret"),
        (format!("ftp://hooks.example.org/{KEY}"), "neither https nor http"),
        (KEY.to_owned(), "it is no address"),
    ] {
        let told = tell(HTTP, &[("JANITOR_NOTIFY_URL", &url)]).await;
        assert!(
            !told.ok && told.said.starts_with("JANITOR_NOTIFY_URL: ") && told.said.contains(why),
            "{}",
            told.said
        );
        assert!(!told.said.contains("SECRET"), "{}", told.said);
    }
    let told = tell(HTTP, &[]).await;
    assert_eq!(told.said, "JANITOR_NOTIFY_URL: it is not set");
}

const EMAIL: &str = "email: { to: [boss@example.org, ops@example.org], from: janitor@example.org, smtp_env: JANITOR_SMTP_URL }";

#[tokio::test]
async fn a_mail_reaches_every_recipient_and_is_marked_as_automatic() {
    let server = smtp::Server::refusing("250 queued", &[]).await;
    let url = format!("smtp://{}", server.address);
    let told = tell(EMAIL, &[("JANITOR_SMTP_URL", &url)]).await;
    assert!(told.ok && told.said.contains("queued"), "{}", told.said);
    let mail = server.heard();
    assert!(mail.contains("MAIL FROM:<janitor@example.org>"), "{mail}");
    for to in ["boss@example.org", "ops@example.org"] {
        assert!(mail.contains(&format!("RCPT TO:<{to}>")), "{mail}");
    }
    assert!(mail.contains("Subject: b24-janitor, acme.bitrix24.com: a test"), "{mail}");
    assert!(mail.contains("Auto-Submitted: auto-generated"), "{mail}");
    assert!(mail.contains("Nothing happened: this is a test."), "{mail}");
}

#[tokio::test]
async fn what_a_mail_server_refuses_is_told_without_user_and_password() {
    let server = smtp::Server::refusing("550 no mail from us3r, wrong p4ssword", &[]).await;
    let url = format!("smtp://us3r:p4ssword@{}", server.address);
    let told = tell(EMAIL, &[("JANITOR_SMTP_URL", &url)]).await;
    assert!(!told.ok && told.said.contains("no mail from ***, wrong ***"), "{}", told.said);
}

#[tokio::test]
async fn credentials_in_base64_are_as_secret_as_they_are_in_the_clear() {
    // What AUTH PLAIN and AUTH LOGIN send, as a server might repeat it.
    let answer = "550 bad AUTH AHVzM3IAcDRzc3dvcmQ= and dXMzcg== and cDRzc3dvcmQ=";
    let server = smtp::Server::refusing(answer, &[]).await;
    let url = format!("smtp://us3r:p4ssword@{}", server.address);
    let told = tell(EMAIL, &[("JANITOR_SMTP_URL", &url)]).await;
    assert!(server.heard().contains("AUTH PLAIN AHVzM3IAcDRzc3dvcmQ="), "{}", server.heard());
    assert!(!told.ok && told.said.contains("bad AUTH ***= and ***== and ***="), "{}", told.said);
}

#[tokio::test]
async fn a_recipient_who_is_refused_keeps_the_mail_from_nobody_else_and_fails_the_test() {
    let server =
        smtp::Server::refusing("250 queued", &[("boss@example.org", &["550 no such user here"; 9])]).await;
    let url = format!("smtp://{}", server.address);
    let told = tell(EMAIL, &[("JANITOR_SMTP_URL", &url)]).await;
    assert!(!told.ok && told.said.starts_with("1 of 2 have it; boss@example.org: "), "{}", told.said);
    assert!(told.said.contains("no such user here"), "{}", told.said);
    let heard = server.heard();
    assert!(heard.contains("RCPT TO:<ops@example.org>") && heard.contains("Nothing happened"), "{heard}");
}
