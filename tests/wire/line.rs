//! The line itself: what never left, what was never answered, and what must not be seen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use b24_janitor::core::outcome::DeleteReply;
use b24_janitor::core::rule::DeleteMethod;
use b24_janitor::portal::{CallError, Portal, Work};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wiremock::ResponseTemplate;

use super::{CODE, answering, id, in_process, json_response, kind, limits, portal_at, url, verdict};

async fn delete_at(base: &str) -> CallError {
    let portal = portal_at(base, DeleteMethod::Lead);
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    portal.delete_one(permit, id(7)).await.unwrap_err()
}

#[tokio::test]
async fn what_never_left_is_told_apart_from_what_was_never_answered() {
    // Nobody listens.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = delete_at(&format!("http://{free}")).await;
    assert_eq!((verdict(&error).as_str(), error.fault.code.as_str()), ("Retry!", "<no connection>"));
    assert_eq!(kind(&error.as_reply()), "Busy");
    // No such name.
    let error = delete_at("http://no-such-host.invalid").await;
    assert_eq!(verdict(&error), "Retry!");
    // The request is taken, and then the line is cut: before, in, and in the middle of the reply.
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n{\"result\":true";
    for reply in ["", "HTTP/1.1 200 O", head] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(reply.as_bytes()).await.unwrap();
        });
        let error = delete_at(&format!("http://{address}")).await;
        assert_eq!(verdict(&error), "Retry?", "after {reply:?}");
        assert_eq!(kind(&error.as_reply()), "Unknown");
        server.await.unwrap();
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

#[tokio::test]
async fn the_webhooks_code_is_in_no_error_no_debug_text_and_no_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let echo = json!({ "error": "SOMETHING", "error_description": format!("{}no such page /rest/1/{CODE}/x", " ".repeat(270)) });
    let server = answering("crm.item.get", ResponseTemplate::new(404).set_body_json(echo)).await;
    let portal = portal_at(&server.uri(), DeleteMethod::Lead);
    let mut seen = vec![format!("{portal:?}"), format!("{:?}", Portal::http().unwrap())];
    let echoed = portal.get(id(7)).await.unwrap_err();
    assert!(!echoed.fault.text.contains(&CODE[..4]), "not even its beginning: {}", echoed.fault.text);
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for error in [
        echoed,
        delete_at(&format!("http://{free}")).await,
        delete_at("http://no-such-host.invalid").await,
        delete_at("http://bad host").await,
        portal.count().await.unwrap_err(),
    ] {
        seen.extend([format!("{error:?}"), format!("{error}")]);
    }
    drop(guard);
    seen.push(String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned());
    for text in seen {
        assert!(!text.contains(CODE), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_process_the_same_request_arrives() {
    let handler = |request: axum::extract::Request| async move {
        assert_eq!(request.uri().path(), url("crm.lead.delete"));
        assert_eq!(request.headers()["host"], "portal.example");
        assert_eq!(request.headers()["content-type"], "application/json");
        let body = axum::body::to_bytes(request.into_body(), 1000).await.unwrap();
        assert_eq!(body.as_ref(), br#"{"id":7}"#);
        json_response(&json!({ "result": true }))
    };
    let portal = in_process(Router::new().fallback(post(handler)), limits(DeleteMethod::Lead));
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    assert_eq!(portal.delete_one(permit, id(7)).await, Ok(DeleteReply::Deleted));
}

#[tokio::test(start_paused = true)]
async fn after_75_seconds_without_an_answer_nobody_knows_and_the_portal_goes_on() {
    let finished = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&finished);
    let handler = move || async move {
        tokio::time::sleep(Duration::from_secs(100)).await;
        count.fetch_add(1, Ordering::SeqCst);
        json_response(&json!({ "result": true }))
    };
    let portal = in_process(Router::new().fallback(post(handler)), limits(DeleteMethod::Lead));
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    let started = tokio::time::Instant::now();
    let error = portal.delete_one(permit, id(7)).await.unwrap_err();
    assert_eq!((verdict(&error).as_str(), error.fault.code.as_str()), ("Retry?", "<timeout>"));
    assert_eq!(started.elapsed().as_secs(), 75);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(finished.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn in_process_a_broken_body_is_a_lost_connection() {
    let handler = || async {
        let pieces = [Ok::<_, std::io::Error>("{\"result\":"), Err(std::io::Error::other("cut"))];
        Response::builder()
            .header("content-type", "application/json")
            .body(Body::from_stream(futures_util::stream::iter(pieces)))
            .unwrap()
    };
    let portal = in_process(Router::new().fallback(post(handler)), limits(DeleteMethod::Lead));
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    let error = portal.delete_one(permit, id(7)).await.unwrap_err();
    assert_eq!((verdict(&error).as_str(), error.fault.code.as_str()), ("Retry?", "<connection lost>"));
}

#[tokio::test(start_paused = true)]
async fn a_reply_without_end_is_cut_off() {
    let handler = || async {
        let piece = || Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 1024 * 1024]));
        let endless = futures_util::stream::iter(std::iter::repeat_with(piece));
        Response::builder()
            .header("content-type", "application/json")
            .body(Body::from_stream(endless))
            .unwrap()
    };
    let portal = in_process(Router::new().fallback(post(handler)), limits(DeleteMethod::Lead));
    let permit = portal.permit(Work::Delete { leads: 1 }).await;
    assert_eq!(verdict(&portal.delete_one(permit, id(7)).await.unwrap_err()), "Malformed?");
}
