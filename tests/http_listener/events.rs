//! What the event listener answers, and what it hands on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use b24_janitor::core::rule::LeadEvent;
use b24_janitor::http::events::{BODY_TIMEOUT, MAX_BODY, Received, ReceivedEvent, SINK_TIMEOUT, Sink};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{EVENT, FORM, TOKEN, Told, ask, failing, hanging, intake, post, request};

fn documented(event: LeadEvent) -> Received {
    Received::Lead(ReceivedEvent {
        event,
        lead_id: "1000983".parse().unwrap(),
        portal_ts: Some("2025-03-24T09:06:15Z".parse().unwrap()),
        domain: Some("some-domain.bitrix24.com".to_owned()),
        member_id: Some("a223c6b3710f85df22e9377d6c4f7553".to_owned()),
    })
}

/// A minimal authentic event with this id.
fn with_id(id: &str) -> String {
    format!("event=ONCRMLEADADD&data[FIELDS][ID]={id}&auth[application_token]={TOKEN}")
}

#[tokio::test]
async fn the_documented_event_is_stored_with_encoded_and_with_literal_brackets() {
    for body in [EVENT.to_owned(), EVENT.replace("%5B", "[").replace("%5D", "]")] {
        let (told, router) = intake();
        let (status, headers, text) = ask(&router, request(FORM, body)).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "stored\n"));
        assert_eq!(headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
        assert_eq!(told.received(), [documented(LeadEvent::Add)]);
        let text = told.metrics.encode();
        assert!(text.contains("janitor_events_total{event=\"ONCRMLEADADD\",result=\"stored\"} 1"), "{text}");
    }
}

#[tokio::test]
async fn all_three_lead_events_are_stored_in_any_order_of_keys_and_with_a_charset() {
    for event in LeadEvent::ALL {
        let (told, router) = intake();
        let body = EVENT.replace("ONCRMLEADADD", event.as_str());
        let reversed = body.split('&').rev().collect::<Vec<_>>().join("&");
        let kind = "Application/X-WWW-Form-Urlencoded; charset=UTF-8";
        assert_eq!(ask(&router, request(kind, reversed)).await.0, StatusCode::OK);
        assert_eq!(told.received(), [documented(event)]);
    }
}

#[tokio::test]
async fn another_event_is_answered_200_and_counted_without_its_name_becoming_a_label() {
    let (told, router) = intake();
    let body = format!("event=ONCRMDEAL%07ADD{}&auth[application_token]={TOKEN}", "x".repeat(1000));
    let (status, _, text) = ask(&router, request(FORM, body)).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "ignored\n"));
    let received = told.received();
    let [Received::Other(name)] = received.as_slice() else { panic!("{received:?}") };
    assert!(name.starts_with("ONCRMDEALADDx") && name.len() == 253, "{name}");
    let text = told.metrics.encode();
    assert!(text.contains("janitor_events_total{event=\"other\",result=\"ignored\"} 1"), "{text}");
    assert!(!text.contains("ONCRMDEAL"), "{text}");
}

#[tokio::test]
async fn another_event_is_answered_200_even_if_the_sink_fails() {
    let told = Told::default();
    let router = told.router(&[TOKEN], failing());
    assert_eq!(post(&router, EVENT.replace("ONCRMLEADADD", "ONCRMDEALADD")).await, 200);
    assert!(told.refused().is_empty());
}

#[tokio::test]
async fn only_a_request_with_one_of_the_tokens_gets_in() {
    let told = Told::default();
    let router = told.router(&["old-token", TOKEN], told.storing());
    let with = |token: &str| format!("event=ONCRMLEADADD&data[FIELDS][ID]=7{token}");
    for good in
        [format!("&auth[application_token]={TOKEN}"), "&auth%5Bapplication_token%5D=old-token".to_owned()]
    {
        assert_eq!(post(&router, with(&good)).await, 200, "{good}");
    }
    let stored = told.received().len();
    for bad in [
        String::new(),
        "&auth[application_token]=".to_owned(),
        "&auth[application_token]=old-toke".to_owned(),
        "&auth[application_token]=old-token%00".to_owned(),
        "&auth[application_token]=OLD-TOKEN".to_owned(),
        format!("&auth[application_token]=old-token,{TOKEN}"),
        format!("&auth[application_token]=+{TOKEN}"),
        format!("&auth[application_token]={}", "a".repeat(10_000)),
        format!("&application_token={TOKEN}"),
        format!("&Auth[application_token]={TOKEN}"),
        format!("&auth[access_token]={TOKEN}"),
    ] {
        assert_eq!(post(&router, with(&bad)).await, 403, "{bad}");
    }
    assert_eq!(told.received().len(), stored, "a refused event reached the sink");
}

#[tokio::test]
async fn without_the_token_nothing_is_learnt_about_the_event() {
    let (told, router) = intake();
    for body in [
        "",
        "foo=bar",
        "event=&auth[application_token]=wrong",
        "event=NOSUCH&auth[application_token]=wrong",
        "event=ONCRMLEADADD&event=ONCRMLEADADD&auth[application_token]=wrong",
        "event=ONCRMLEADADD&data[FIELDS][ID]=0&auth[application_token]=wrong",
        "event=ONCRMLEADADD&data[FIELDS][ID]=1&data[FIELDS][ID]=2&auth[application_token]=wrong",
    ] {
        let (status, _, text) = ask(&router, request(FORM, body)).await;
        assert_eq!((status, text.as_str()), (StatusCode::FORBIDDEN, "wrong or missing token\n"), "{body}");
    }
    assert!(told.received().is_empty());
}

#[tokio::test]
async fn what_is_no_form_or_names_no_event_or_doubles_a_key_is_400() {
    let (told, router) = intake();
    let token = format!("auth[application_token]={TOKEN}");
    for body in [
        "{\"event\":\"ONCRMLEADADD\"}".to_owned(),
        format!("{token}&event=%zz"),
        format!("{token}&event=ONCRMLEADADD&data[FIELDS][ID]=1%"),
        format!("{token}&event=ONCRMLEADADD&data[FIELDS][ID]=1&x=%ff"),
        token.clone(),
        format!("{token}&event="),
        format!("{token}&{token}&event=ONCRMLEADADD&data[FIELDS][ID]=1"),
        format!("{token}&event=ONCRMLEADADD&event=ONCRMLEADDELETE&data[FIELDS][ID]=1"),
        format!("{token}&event=ONCRMLEADADD&data[FIELDS][ID]=1&data%5BFIELDS%5D%5BID%5D=2"),
        format!("{token}&event=ONCRMLEADADD"),
        format!("{token}&event=ONCRMLEADADD&data[FIELDS][ID]=1{}", "&a=1".repeat(10_000)),
    ] {
        assert_eq!(post(&router, body.clone()).await, 400, "{body:.120}");
    }
    assert!(told.received().is_empty());
    assert!(told.refused().is_empty(), "a malformed request must not cause a sweep");
}

#[tokio::test]
async fn a_lead_id_is_a_decimal_number_from_1_to_the_largest_32_bit_integer() {
    let (told, router) = intake();
    for good in ["1", "2147483647"] {
        assert_eq!(post(&router, with_id(good)).await, 200, "{good}");
    }
    for bad in
        ["", "0", "-1", "+1", "2147483648", "99999999999999999999", "1.0", "1e3", "0x10", "%201", "1,2", "x"]
    {
        assert_eq!(post(&router, with_id(bad)).await, 400, "{bad}");
    }
    assert_eq!(told.received().len(), 2);
}

#[tokio::test]
async fn a_time_that_is_none_costs_only_the_time() {
    for ts in ["", "soon", "-99999999999999", "99999999999999999999", "1.5"] {
        let (told, router) = intake();
        assert_eq!(post(&router, format!("{}&ts={ts}", with_id("7"))).await, 200, "{ts}");
        let received = told.received();
        let [Received::Lead(event)] = received.as_slice() else { panic!("{received:?}") };
        assert_eq!((event.portal_ts, &event.domain), (None, &None));
    }
}

#[tokio::test]
async fn other_content_types_are_415() {
    let (told, router) = intake();
    for kind in
        ["application/json", "multipart/form-data; boundary=x", "text/plain", "", "application/x-www-form"]
    {
        assert_eq!(ask(&router, request(kind, EVENT)).await.0.as_u16(), 415, "{kind}");
    }
    let bare = Request::post("/bitrix24/events").body(Body::from(EVENT)).unwrap();
    assert_eq!(ask(&router, bare).await.0.as_u16(), 415);
    let mut zipped = request(FORM, EVENT);
    zipped.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    assert_eq!(ask(&router, zipped).await.0.as_u16(), 415);
    assert!(told.received().is_empty());
}

#[tokio::test]
async fn a_body_of_64_kib_is_read_and_one_byte_more_is_413() {
    let (_, router) = intake();
    let padded = |length: usize| {
        let start = format!("{}&pad=", with_id("7"));
        format!("{start}{}", "x".repeat(length - start.len()))
    };
    assert_eq!(post(&router, padded(MAX_BODY)).await, 200);
    assert_eq!(post(&router, padded(MAX_BODY + 1)).await, 413);
}

#[tokio::test]
async fn an_endless_body_is_cut_off_instead_of_being_read() {
    let (_, router) = intake();
    let chunks = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&chunks);
    let endless = stream::repeat(()).map(move |()| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from_static(&[b'a'; 1024]))
    });
    assert_eq!(post(&router, Body::from_stream(endless)).await, 413);
    assert!(chunks.load(Ordering::SeqCst) <= 64 + 256 + 2, "read {} KiB", chunks.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_refused_body_is_read_to_its_end_lest_a_reset_overtake_the_answer() {
    let (_, router) = intake();
    for (kind, announced, status) in [(FORM, false, 413), (FORM, true, 413), ("application/json", false, 415)]
    {
        let chunks = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&chunks);
        let body = stream::repeat(()).take(100).map(move |()| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Bytes::from_static(&[b'a'; 1024]))
        });
        let mut refused = request(kind, Body::from_stream(body));
        if announced {
            refused.headers_mut().insert(header::CONTENT_LENGTH, "102400".parse().unwrap());
        }
        assert_eq!(ask(&router, refused).await.0.as_u16(), status);
        assert_eq!(chunks.load(Ordering::SeqCst), 100, "{kind} {announced}");
    }
}

#[tokio::test]
async fn a_sender_that_asks_first_is_refused_by_the_announced_length_alone() {
    let (_, router) = intake();
    let body = Body::from_stream(stream::once(async {
        panic!("the body was asked for");
        #[expect(unreachable_code, reason = "gives the stream its type")]
        Ok::<Bytes, std::io::Error>(Bytes::new())
    }));
    let mut asking = request(FORM, body);
    asking.headers_mut().insert(header::CONTENT_LENGTH, "102400".parse().unwrap());
    asking.headers_mut().insert(header::EXPECT, "100-continue".parse().unwrap());
    assert_eq!(ask(&router, asking).await.0.as_u16(), 413);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_arriving_is_408_after_its_time() {
    let (told, router) = intake();
    let start = Instant::now();
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(EVENT))]);
    assert_eq!(post(&router, Body::from_stream(first.chain(stream::pending()))).await, 408);
    assert!(start.elapsed() >= BODY_TIMEOUT && start.elapsed() < BODY_TIMEOUT + Duration::from_secs(1));
    assert!(told.received().is_empty());
}

#[tokio::test]
async fn an_event_that_cannot_be_stored_is_503_and_reported_as_lost() {
    let told = Told::default();
    let router = told.router(&[TOKEN], failing());
    let (status, _, text) = ask(&router, request(FORM, EVENT)).await;
    assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "the event could not be stored\n"));
    assert_eq!(told.refused(), ["error"]);
    let text = told.metrics.encode();
    assert!(text.contains("janitor_events_total{event=\"ONCRMLEADADD\",result=\"not_stored\"} 1"), "{text}");
}

#[tokio::test]
async fn a_sink_that_panics_is_503_and_reported_as_lost() {
    let told = Told::default();
    let sink: Sink = Arc::new(|_| async { panic!("a defect") }.boxed());
    assert_eq!(post(&told.router(&[TOKEN], sink), EVENT).await, 503);
    assert_eq!(told.refused(), ["error"]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_503_in_time_and_cannot_pile_up_events() {
    let told = Told::default();
    let router = told.router(&[TOKEN], hanging());
    let start = Instant::now();
    let answers = futures_util::future::join_all((0..1024).map(|_| post(&router, EVENT))).await;
    assert!(answers.iter().all(|status| *status == 503));
    assert!(start.elapsed() >= SINK_TIMEOUT && start.elapsed() < SINK_TIMEOUT + Duration::from_secs(1));
    assert_eq!(told.refused(), vec!["timeout"; 1024]);

    assert_eq!(post(&router, EVENT).await, 503, "one more than may wait");
    assert_eq!(told.refused().last(), Some(&"busy"));
}

#[tokio::test]
async fn an_event_whose_sender_hangs_up_is_stored_all_the_same() {
    let told = Told::default();
    let mut gated = told.gated();
    let router = told.router(&[TOKEN], gated.sink.clone());
    tokio::select! {
        status = post(&router, EVENT) => panic!("answered {status} before it was stored"),
        entered = gated.entered.recv() => assert_eq!(entered, Some(())),
    }
    gated.gate.notify_one();
    assert_eq!(gated.stored.recv().await, Some(()));
    assert_eq!(told.received(), [documented(LeadEvent::Add)]);
}

#[tokio::test]
async fn without_a_token_the_listener_has_healthz_and_nothing_else() {
    let told = Told::default();
    for router in [
        b24_janitor::http::public(None),
        told.router(&[], told.storing()),
        told.router(&[""], told.storing()),
    ] {
        assert_eq!(post(&router, EVENT).await, 404);
        assert_eq!(post(&router, "auth[application_token]=").await, 404);
        let health = Request::get("/healthz").body(Body::empty()).unwrap();
        let (status, _, text) = ask(&router, health).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "ok"));
    }
    assert!(told.received().is_empty());
}

#[tokio::test]
async fn other_methods_are_405_and_other_paths_404() {
    let (_, router) = intake();
    let status = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, FORM);
        ask(&router, request.body(Body::from(EVENT)).unwrap()).await.0.as_u16()
    };
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        assert_eq!(status(method, "/bitrix24/events").await, 405, "{method}");
    }
    assert_eq!(status("POST", "/healthz").await, 405);
    for path in
        ["/", "/bitrix24", "/bitrix24/events/", "/bitrix24/events/x", "/metrics", "/readyz", "/healthz/"]
    {
        assert_eq!(status("POST", path).await, 404, "{path}");
        assert_eq!(status("GET", path).await, 404, "{path}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

#[tokio::test]
async fn nothing_of_a_body_is_logged_at_any_level() {
    // For the whole process, other tests included: a subscriber of one thread can miss what another thread was first
    // to log.
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    tracing::callsite::rebuild_interest_cache();
    let told = Told::default();
    for sink in [told.storing(), failing()] {
        let router = told.router(&[TOKEN], sink);
        for body in [
            EVENT.to_owned(),
            EVENT.replace(TOKEN, "s3cret-guess"),
            EVENT.replace("1000983", "marker-id"),
            EVENT.replace("ONCRMLEADADD", "MARKER-EVENT"),
            format!("{EVENT}&marker=%"),
            format!("{EVENT}&marker={}", "x".repeat(100_000)),
        ] {
            post(&router, body).await;
        }
        ask(&router, request("application/json", EVENT)).await;
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the disk is full"), "the log was not captured: {log}");
    for secret in [TOKEN, "s3cret-guess", "marker", "MARKER", "1000983", "some-domain", "a223c6b3710f"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
