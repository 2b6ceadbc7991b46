//! An intake whose sink is under the test's control, and clients for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use b24_janitor::http::events::{Intake, OnRefused, Received, Sink, SinkError};
use b24_janitor::http::listen::{self, Limits};
use b24_janitor::metrics::Metrics;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// The token of the example in Bitrix24's documentation.
pub(crate) const TOKEN: &str = "51856fefc120afa4b628cc82d3935cce";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// An event exactly as the portal sends it
/// (<https://apidocs.bitrix24.com/api-reference/events/index.html>).
pub(crate) const EVENT: &str = "event=ONCRMLEADADD&event_handler_id=975&data%5BFIELDS%5D%5BID%5D=1000983&ts=1742807175\
    &auth%5Bdomain%5D=some-domain.bitrix24.com\
    &auth%5Bclient_endpoint%5D=https%3A%2F%2Fsome-domain.bitrix24.com%2Frest%2F\
    &auth%5Bserver_endpoint%5D=https%3A%2F%2Foauth.bitrix.info%2Frest%2F\
    &auth%5Bmember_id%5D=a223c6b3710f85df22e9377d6c4f7553\
    &auth%5Bapplication_token%5D=51856fefc120afa4b628cc82d3935cce";

/// What the sink and the refusal hook were told.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) received: Arc<Mutex<Vec<Received>>>,
    pub(crate) refused: Arc<Mutex<Vec<&'static str>>>,
    pub(crate) metrics: Metrics,
}

impl Told {
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn refused(&self) -> Vec<&'static str> {
        self.refused.lock().unwrap().clone()
    }

    /// A sink that stores at once.
    pub(crate) fn storing(&self) -> Sink {
        let received = Arc::clone(&self.received);
        Arc::new(move |event| {
            received.lock().unwrap().push(event);
            async { Ok(()) }.boxed()
        })
    }

    /// A sink that says when it has an event, and stores it when the gate opens.
    pub(crate) fn gated(&self) -> Gated {
        let (entered, at_sink) = mpsc::channel(1);
        let (stored, at_end) = mpsc::channel(1);
        let gate = Arc::new(Notify::new());
        let sink: Sink = {
            let (gate, received) = (Arc::clone(&gate), Arc::clone(&self.received));
            Arc::new(move |event| {
                let (entered, stored) = (entered.clone(), stored.clone());
                let (gate, received) = (Arc::clone(&gate), Arc::clone(&received));
                async move {
                    entered.send(()).await.unwrap();
                    gate.notified().await;
                    received.lock().unwrap().push(event);
                    stored.send(()).await.unwrap();
                    Ok(())
                }
                .boxed()
            })
        };
        Gated { sink, entered: at_sink, gate, stored: at_end }
    }

    pub(crate) fn router(&self, tokens: &[&str], sink: Sink) -> Router {
        let refused = Arc::clone(&self.refused);
        let on_refused: OnRefused = Arc::new(move |reason| refused.lock().unwrap().push(reason));
        let tokens = tokens.iter().map(|token| (*token).into()).collect();
        b24_janitor::http::public(Some(Intake { tokens, sink, on_refused, metrics: self.metrics.clone() }))
    }
}

/// See [`Told::gated`].
pub(crate) struct Gated {
    pub(crate) sink: Sink,
    pub(crate) entered: mpsc::Receiver<()>,
    pub(crate) gate: Arc<Notify>,
    pub(crate) stored: mpsc::Receiver<()>,
}

/// A sink that fails.
pub(crate) fn failing() -> Sink {
    Arc::new(|_| async { Err(SinkError("the disk is full".to_owned())) }.boxed())
}

/// A sink that never answers.
pub(crate) fn hanging() -> Sink {
    Arc::new(|_| std::future::pending().boxed())
}

/// An intake with the documentation's token that stores everything.
pub(crate) fn intake() -> (Told, Router) {
    let told = Told::default();
    let router = told.router(&[TOKEN], told.storing());
    (told, router)
}

pub(crate) fn request(content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let builder = Request::post("/bitrix24/events");
    builder.header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap()
}

pub(crate) async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let answer: Response<Body> = router.clone().oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (head.status, head.headers, text)
}

pub(crate) async fn post(router: &Router, body: impl Into<Body>) -> u16 {
    ask(router, request(FORM, body)).await.0.as_u16()
}

/// A listener on a free port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) async fn start(limits: Limits, router: Router, grace: Duration) -> Server {
    let listener = listen::bind("127.0.0.1:0").await.unwrap();
    let address = listen::announce("test", &listener).unwrap();
    let (stop, stopped) = oneshot::channel();
    let stopped = stopped.map(|_| ());
    let task = tokio::spawn(listen::serve_within(limits, listener, router, stopped, grace));
    Server { address, stop, task }
}

/// Sends bytes on a new connection and returns it.
pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Everything until the other side closes; fails after 30 s.
pub(crate) async fn drain(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let reading = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(30), reading).await.expect("still open after 30 s").unwrap();
    text
}

/// One request on a connection of its own, byte for byte, and its whole answer.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    drain(&mut send(address, bytes).await).await
}

/// The event as bytes on the wire.
pub(crate) fn wire(body: &str) -> Vec<u8> {
    format!(
        "POST /bitrix24/events HTTP/1.1\r\nHost: janitor.example\r\nUser-Agent: Bitrix24 Webhook Engine\r\n\
         Content-Type: {FORM}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The names of the headers of a raw answer, in lower case.
pub(crate) fn header_names(answer: &str) -> Vec<String> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines().skip(1).map(|line| line.split(':').next().unwrap().to_ascii_lowercase()).collect()
}
