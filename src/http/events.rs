//! `POST /bitrix24/events`: what the portal's outgoing webhook sends, checked and handed on
//! (<https://apidocs.bitrix24.com/api-reference/events/index.html>).
//!
//! 200 is a promise: the portal never sends an event again, so a lead event is answered 200 only after the sink has
//! said that it is committed. Where that fails, the answer is 503 and the intake's `on_refused` is told, so that the
//! lost event becomes a sweep.
//!
//! The order of the checks is the order of trust: type and size, form, token, and only then what the event says. A
//! sender without the token learns that its form parsed and nothing else. Nothing of a body is logged, the token least.
//!
//! The race that is decided here: a sender that hangs up while its event is being stored. The sink's work then goes on by
//! itself, so the event is stored all the same; the portal believes it lost, and we merely know more.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use http_body_util::BodyExt;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::attempts::{Attempts, Peer};
use super::form::{Form, NotAForm};
use super::token::Tokens;
use super::{Answer, plain};
use crate::core::lead::LeadId;
use crate::core::rule::LeadEvent;
use crate::metrics::{EventResult, Metrics};

/// The largest body, in bytes. An event has about 600; an application's with its tokens about 1,000.
pub const MAX_BODY: usize = 64 * 1024;

/// How much of a refused body is still read, in bytes: a connection closed on unread data is reset, and a reset can
/// overtake the answer that says why.
const MAX_DISCARDED: usize = 256 * 1024;

/// How long a body may take to arrive. The portal's queue sends it in one packet with the headers.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the sink may take. A commit takes milliseconds; a portal that waits longer thinks less of us
/// (<https://apidocs.bitrix24.com/settings/performance/index.html>).
pub const SINK_TIMEOUT: Duration = Duration::from_secs(3);

/// The most events on their way into the sink, those included whose sender has gone. As many as there can be
/// connections; only a store that hangs ever gets there.
const MAX_STORING: usize = 1024;

/// The longest text that is kept of a field that we only compare or name, in characters: a host name has at most 253.
const MAX_TEXT: usize = 253;

/// A lead event that carried a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedEvent {
    /// What happened to the lead.
    pub event: LeadEvent,
    /// Which lead.
    pub lead_id: LeadId,
    /// When the portal raised the event, by its own clock; `None` where `ts` is missing or no Unix time.
    pub portal_ts: Option<Timestamp>,
    /// The portal's host name as the event states it. The token decides; this is for a warning on a mismatch.
    pub domain: Option<String>,
    /// The portal's id as the event states it, likewise.
    pub member_id: Option<String>,
}

/// What an authentic request brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A lead event; it must be stored.
    Lead(ReceivedEvent),
    /// Another event of the portal, by its name, without control characters and at most 253 characters of it.
    Other(String),
}

/// Why the sink did not take an event. The text is logged; it must hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// Where events go. For a lead event the future resolves to `Ok` only after it is committed; it is polled to its end
/// whatever becomes of the sender. What it says about [`Received::Other`] changes no answer.
pub type Sink = Arc<dyn Fn(Received) -> Answer<Result<(), SinkError>> + Send + Sync>;

/// Told, with a word for the reason, that an authentic lead event was answered 503: `error`, `timeout` or `busy`.
/// It must not block.
pub type OnRefused = Arc<dyn Fn(&'static str) + Send + Sync>;

/// What the event listener needs.
pub struct Intake {
    /// The accepted values of `auth[application_token]`; several while a webhook is being replaced. Without a
    /// non-empty one there is no event listener.
    pub tokens: Vec<SecretString>,
    /// Where events go.
    pub sink: Sink,
    /// Who is told of lost ones.
    pub on_refused: OnRefused,
    /// Where requests are counted.
    pub metrics: Metrics,
}

struct Listener {
    tokens: Tokens,
    sink: Sink,
    on_refused: OnRefused,
    metrics: Metrics,
    storing: Arc<Semaphore>,
    attempts: Attempts,
}

// What an event is asked for (<https://apidocs.bitrix24.com/api-reference/events/index.html>).
const TOKEN: &str = "auth[application_token]";
const EVENT: &str = "event";
const LEAD_ID: &str = "data[FIELDS][ID]";
const RAISED_AT: &str = "ts";
const DOMAIN: &str = "auth[domain]";
const MEMBER_ID: &str = "auth[member_id]";
const WANTED: [&str; 6] = [TOKEN, EVENT, LEAD_ID, RAISED_AT, DOMAIN, MEMBER_ID];

/// The label of an event before it is known, and of every event that is none of ours.
const NO_EVENT: &str = "none";
const OTHER_EVENT: &str = "other";

/// An answer before it is one: status, text, and how it is counted.
struct Verdict {
    status: StatusCode,
    text: &'static str,
    event: &'static str,
    result: EventResult,
}

pub(super) fn routes(intake: Intake) -> Router {
    let Intake { tokens, sink, on_refused, metrics } = intake;
    let Some(tokens) = Tokens::new(&tokens) else { return Router::new() };
    let storing = Arc::new(Semaphore::new(MAX_STORING));
    Router::new().route("/bitrix24/events", post(receive)).with_state(Arc::new(Listener {
        tokens,
        sink,
        on_refused,
        metrics,
        storing,
        attempts: Attempts::default(),
    }))
}

async fn receive(State(listener): State<Arc<Listener>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let verdict = listener.judge(&head.headers, body).await;
    // Only ever of a wrong token: a right one is never counted, nor refused for what others did.
    let pest = verdict.result == EventResult::Forbidden
        && listener.attempts.failed(head.extensions.get::<Peer>().copied());
    listener.metrics.event_received(verdict.event, verdict.result);
    let mut answer = plain(verdict.status, verdict.text);
    if pest || matches!(verdict.result, EventResult::TooLarge | EventResult::TooSlow) {
        // The rest of the body may still come; it must not be taken for the next request. Who guesses tokens pays for a
        // connection each time.
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

impl Listener {
    async fn judge(&self, headers: &HeaderMap, mut body: Body) -> Verdict {
        let deadline = Instant::now() + BODY_TIMEOUT;
        let early = if !is_form(headers) {
            Some(refuse(EventResult::WrongType))
        } else if announced_length(headers).is_some_and(|length| length > MAX_BODY as u64) {
            Some(refuse(EventResult::TooLarge))
        } else {
            None
        };
        if let Some(verdict) = early {
            // Who asks before sending (`Expect`) is told no, and sends nothing.
            if !headers.contains_key(header::EXPECT) {
                discard(&mut body, deadline).await;
            }
            return verdict;
        }
        let body = match read(&mut body, deadline).await {
            Ok(bytes) => bytes,
            Err(result) => {
                if result == EventResult::TooLarge {
                    discard(&mut body, deadline).await;
                }
                return refuse(result);
            }
        };
        match self.open(&body) {
            Ok(received) => self.hand_on(received).await,
            Err(verdict) => verdict,
        }
    }

    /// From the bytes to what was received, or the refusal.
    fn open(&self, body: &[u8]) -> Result<Received, Verdict> {
        let form = Form::with(body, |key| WANTED.contains(&key)).map_err(|error| match error {
            NotAForm::TooManyPairs => malformed(NO_EVENT, "the form has too many fields\n"),
            NotAForm::Malformed => malformed(NO_EVENT, "the body is not a form\n"),
        })?;
        let token =
            form.one(TOKEN).map_err(|_| malformed(NO_EVENT, "auth[application_token] is there twice\n"))?;
        if !self.tokens.accept(token.unwrap_or_default()) {
            return Err(refuse(EventResult::Forbidden));
        }
        let name = form.one(EVENT).map_err(|_| malformed(NO_EVENT, "event is there twice\n"))?;
        let name = name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| malformed(NO_EVENT, "the form names no event\n"))?;
        let Some(event) = LeadEvent::parse(name) else { return Ok(Received::Other(bounded(name))) };
        let id =
            form.one(LEAD_ID).map_err(|_| malformed(event.as_str(), "data[FIELDS][ID] is there twice\n"))?;
        let lead_id = id
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| malformed(event.as_str(), "data[FIELDS][ID] is no lead id\n"))?;
        Ok(Received::Lead(ReceivedEvent {
            event,
            lead_id,
            portal_ts: form
                .first(RAISED_AT)
                .and_then(|ts| ts.parse().ok())
                .and_then(|seconds| Timestamp::from_second(seconds).ok()),
            domain: form.first(DOMAIN).map(bounded),
            member_id: form.first(MEMBER_ID).map(bounded),
        }))
    }

    async fn hand_on(&self, received: Received) -> Verdict {
        let event = match &received {
            Received::Lead(lead) => Some(lead.event.as_str()),
            Received::Other(_) => None,
        };
        let stored = self.store(received).await;
        match (event, stored) {
            (Some(event), Ok(())) => {
                Verdict { status: StatusCode::OK, text: "stored\n", event, result: EventResult::Stored }
            }
            (Some(event), Err(reason)) => {
                (self.on_refused)(reason);
                Verdict { event, ..refuse(EventResult::NotStored) }
            }
            (None, Ok(()) | Err(_)) => Verdict { event: OTHER_EVENT, ..refuse(EventResult::Ignored) },
        }
    }

    /// Waits for the sink, within bounds; the error is the word for [`OnRefused`].
    async fn store(&self, received: Received) -> Result<(), &'static str> {
        let Ok(place) = Arc::clone(&self.storing).try_acquire_owned() else {
            tracing::error!("an event could not be stored: too many are waiting for the store");
            return Err("busy");
        };
        let answer = AssertUnwindSafe((self.sink)(received)).catch_unwind();
        let mut waiting = Waiting(Some((answer, place)));
        let Some((answer, _)) = &mut waiting.0 else { return Err("error") };
        let answered = tokio::time::timeout(SINK_TIMEOUT, answer).await;
        if answered.is_ok() {
            waiting.0 = None;
        }
        match answered {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "an event could not be stored");
                Err("error")
            }
            Ok(Err(_)) => {
                tracing::error!("an event could not be stored: the store's side panicked");
                Err("error")
            }
            Err(_) => {
                tracing::error!("an event could not be stored in time");
                Err("timeout")
            }
        }
    }
}

/// The sink's answer; a panic of its side is one too.
type Answering = CatchUnwind<AssertUnwindSafe<Answer<Result<(), SinkError>>>>;

/// An answer that is waited for, and its place among [`MAX_STORING`]. Where nobody waits any more, the sender
/// gone or the time over, it goes on by itself to its end: the event is on its way, and its place taken till then.
struct Waiting(Option<(Answering, OwnedSemaphorePermit)>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let (Some((answer, place)), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        runtime.spawn(async move {
            let _place = place;
            let _ = answer.await;
        });
    }
}

/// Status and text of every result; the event is filled in where it is known.
fn refuse(result: EventResult) -> Verdict {
    let (status, text) = match result {
        EventResult::Stored => (StatusCode::OK, "stored\n"),
        EventResult::Ignored => (StatusCode::OK, "ignored\n"),
        EventResult::Malformed => (StatusCode::BAD_REQUEST, "the body is not a form\n"),
        EventResult::Forbidden => (StatusCode::FORBIDDEN, "wrong or missing token\n"),
        EventResult::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n"),
        EventResult::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is over 64 KiB\n"),
        EventResult::WrongType => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/x-www-form-urlencoded\n")
        }
        EventResult::NotStored => (StatusCode::SERVICE_UNAVAILABLE, "the event could not be stored\n"),
    };
    Verdict { status, text, event: NO_EVENT, result }
}

fn malformed(event: &'static str, text: &'static str) -> Verdict {
    Verdict { event, text, ..refuse(EventResult::Malformed) }
}

/// A form by its content type, parameters (`charset`) ignored, and not compressed.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding == "identity")
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, within [`MAX_BODY`] and by the deadline; memory never holds more.
async fn read(body: &mut Body, deadline: Instant) -> Result<Vec<u8>, EventResult> {
    let mut bytes = Vec::new();
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(EventResult::Malformed),
            Ok(None) => return Ok(bytes),
            Err(_) => return Err(EventResult::TooSlow),
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(EventResult::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
}

/// Reads a refused body to its end, or to [`MAX_DISCARDED`], or to the deadline.
async fn discard(body: &mut Body, deadline: Instant) {
    let mut left = MAX_DISCARDED;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, |data| data.len());
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
