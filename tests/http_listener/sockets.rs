//! The accept loop over real sockets: limits, timeouts, and a shutdown that ends.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use b24_janitor::http::attempts::MAX_FAILURES;
use b24_janitor::http::listen::{self, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{EVENT, FORM, TOKEN, Told, drain, exchange, header_names, intake, send, start, wire};

/// Long enough for any machine, and never waited for when things go right.
const LONG: Duration = Duration::from_secs(60);

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

async fn within_ten_seconds<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("not within 10 s")
}

#[tokio::test]
async fn an_event_on_the_wire_is_answered_with_few_headers() {
    let (told, router) = intake();
    let server = start(Limits::default(), router, LONG).await;
    assert_ne!(server.address.port(), 0);
    let requests: [(&str, Vec<u8>); 6] = [
        ("200", wire(EVENT)),
        ("400", wire("{}")),
        ("403", wire("event=ONCRMLEADADD")),
        ("415", String::from_utf8(wire(EVENT)).unwrap().replace(FORM, "application/json").into_bytes()),
        ("405", b"GET /bitrix24/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec()),
        ("404", b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec()),
    ];
    for (status, request) in requests {
        let answer = exchange(server.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
        for name in header_names(&answer) {
            let allowed = ["content-type", "cache-control", "content-length", "date", "allow", "connection"];
            assert!(allowed.contains(&name.as_str()), "{status}: {name}");
        }
    }
    assert_eq!(told.received().len(), 1);
}

#[tokio::test]
async fn a_body_of_100_kib_gets_its_413_whether_its_length_is_announced_or_not() {
    let (told, router) = intake();
    let server = start(Limits::default(), router, LONG).await;
    let body = format!("{EVENT}&pad={}", "x".repeat(100 * 1024));
    let announced = exchange(server.address, &wire(&body)).await;
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");

    let chunks: String = body
        .as_bytes()
        .chunks(4096)
        .map(|c| format!("{:x}\r\n{}\r\n", c.len(), str::from_utf8(c).unwrap()))
        .collect();
    let chunked = format!(
        "POST /bitrix24/events HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    let chunked = exchange(server.address, chunked.as_bytes()).await;
    assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
    assert!(told.received().is_empty());
}

#[tokio::test]
async fn one_connection_serves_several_requests() {
    let (_, router) = intake();
    let server = start(Limits::default(), router, LONG).await;
    let mut stream = send(server.address, HEALTH).await;
    for _ in 0..3 {
        let mut answer = vec![0; 1024];
        let length = within_ten_seconds(stream.read(&mut answer)).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
        stream.write_all(HEALTH).await.unwrap();
    }
}

#[tokio::test]
async fn a_sender_that_closes_its_half_after_the_request_gets_its_answer() {
    let told = Told::default();
    let mut gated = told.gated();
    let server = start(Limits::default(), told.router(&[TOKEN], gated.sink.clone()), LONG).await;
    let mut stream = send(server.address, &wire(EVENT)).await;
    stream.shutdown().await.unwrap();
    gated.entered.recv().await.unwrap();
    gated.gate.notify_one();
    assert!(drain(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn half_a_header_and_none_at_all_are_closed_at_the_timeout() {
    let (_, router) = intake();
    let limits = Limits { header_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = start(limits, router, LONG).await;
    for half in [&b"POST /bitrix24/events HTTP/1.1\r\nHost: x\r\nContent-"[..], b"P", b""] {
        let mut stream = send(server.address, half).await;
        let answer = within_ten_seconds(drain(&mut stream)).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (_, router) = intake();
    let server = start(Limits::default(), router, LONG).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    // The listener may hang up while we still write, and reset what it has answered.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = within_ten_seconds(stream.read_to_end(&mut answer)).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn over_the_limit_the_connection_that_is_idle_for_the_longest_time_makes_room() {
    let (told, router) = intake();
    let limits = Limits { connections: 3, header_timeout: LONG };
    let server = start(limits, router, LONG).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        let mut stream = send(server.address, HEALTH).await;
        within_ten_seconds(stream.read_exact(&mut [0])).await.unwrap();
        idle.push(stream);
    }
    // The first works again, so that the second is idle for the longest time now.
    idle[0].write_all(HEALTH).await.unwrap();
    let mut two_answers = vec![0; 200];
    within_ten_seconds(idle[0].read_exact(&mut two_answers)).await.unwrap();
    let answer = within_ten_seconds(exchange(server.address, &wire(EVENT))).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    within_ten_seconds(idle[1].read_to_end(&mut Vec::new())).await.unwrap();
    for kept in [0, 2] {
        idle[kept].write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut rest = String::new();
        within_ten_seconds(idle[kept].read_to_string(&mut rest)).await.unwrap();
        assert!(rest.contains("HTTP/1.1 200 "), "{kept}: {rest}");
    }
    assert_eq!(told.received().len(), 1);
}

#[tokio::test]
async fn connections_at_work_are_never_shed_and_a_further_one_waits() {
    let told = Told::default();
    let mut gated = told.gated();
    let router = told.router(&[TOKEN], gated.sink.clone());
    let limits = Limits { connections: 1, header_timeout: LONG };
    let server = start(limits, router, LONG).await;
    let mut first = send(server.address, &wire(EVENT)).await;
    within_ten_seconds(gated.entered.recv()).await.unwrap();
    let mut second = send(server.address, HEALTH).await;
    let early = tokio::time::timeout(Duration::from_millis(200), second.read_exact(&mut [0])).await;
    assert!(early.is_err(), "served beyond the limit");
    gated.gate.notify_one();
    assert!(drain(&mut first).await.starts_with("HTTP/1.1 200 "));
    within_ten_seconds(second.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn who_guesses_tokens_loses_each_connection_and_valid_events_from_the_same_address_are_taken() {
    let (told, router) = intake();
    let server = start(Limits::default(), router, LONG).await;
    let body = "event=ONCRMLEADADD&auth%5Bapplication_token%5D=guess";
    let guess = format!(
        "POST /bitrix24/events HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut patient = TcpStream::connect(server.address).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..MAX_FAILURES {
        patient.write_all(guess.as_bytes()).await.unwrap();
        let mut part = [0; 1024];
        let read = within_ten_seconds(patient.read(&mut part)).await.unwrap();
        answers.push(String::from_utf8_lossy(&part[..read]).into_owned());
    }
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 403 ") && !answer.contains("close")));
    for _ in 0..3 {
        let closed = within_ten_seconds(exchange(server.address, guess.as_bytes())).await;
        assert!(closed.starts_with("HTTP/1.1 403 ") && closed.contains("connection: close"), "{closed}");
        let valid = exchange(server.address, &wire(EVENT)).await;
        assert!(valid.starts_with("HTTP/1.1 200 "), "{valid}");
    }
    assert_eq!(told.received().len(), 3);
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_connection_and_not_the_listener() {
    let router = Router::new().route("/healthz", get(async || "ok")).route("/panic", get(panics));
    let server = start(Limits { connections: 1, ..Limits::default() }, router, LONG).await;
    let lost = exchange(server.address, b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(lost, "");
    let mut stream = send(server.address, HEALTH).await;
    within_ten_seconds(stream.read_exact(&mut [0])).await.unwrap();
}

async fn panics() -> &'static str {
    panic!("a defect")
}

#[tokio::test]
async fn a_shutdown_lets_a_request_in_progress_end_and_takes_no_new_one() {
    let told = Told::default();
    let mut gated = told.gated();
    let server = start(Limits::default(), told.router(&[TOKEN], gated.sink.clone()), LONG).await;
    let keep_alive = String::from_utf8(wire(EVENT)).unwrap().replace("Connection: close\r\n", "");
    let mut stream = send(server.address, keep_alive.as_bytes()).await;
    gated.entered.recv().await.unwrap();
    server.stop.send(()).unwrap();
    within_ten_seconds(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    assert!(!server.task.is_finished());
    gated.gate.notify_one();
    assert!(drain(&mut stream).await.starts_with("HTTP/1.1 200 "));
    within_ten_seconds(server.task).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_by_its_deadline_whatever_a_client_holds_back() {
    let (_, router) = intake();
    let limits = Limits { header_timeout: LONG, ..Limits::default() };
    let server = start(limits, router, Duration::from_millis(100)).await;
    let half_head = send(server.address, b"POST /bitrix24/events HTTP/1.1\r\nHost: x\r\n").await;
    let head = format!(
        "POST /bitrix24/events HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 9\r\n\r\n"
    );
    let half_body = send(server.address, head.as_bytes()).await;
    // A third connection that is answered shows that the first two have been accepted.
    within_ten_seconds(send(server.address, HEALTH).await.read_exact(&mut [0])).await.unwrap();
    server.stop.send(()).unwrap();
    within_ten_seconds(server.task).await.unwrap();
    for mut stream in [half_head, half_body] {
        let mut rest = Vec::new();
        let _ = within_ten_seconds(stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_in_the_error() {
    let taken = listen::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = listen::bind(&address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("cannot listen on {address}: ")), "{error}");
    let error = listen::bind("not an address").await.unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on not an address: "), "{error}");
}
