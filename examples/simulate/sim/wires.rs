//! What lies between the portal and the service: requests are written down, those of a dead process go nowhere, and
//! events are lost, doubled and reordered on their way.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use b24_janitor::clock::Clock;
use b24_janitor::sandbox::{Lead, Sandbox};
use fastrand::Rng;
use http_body_util::BodyExt;
use jiff::SignedDuration;
use tower::ServiceExt;

use crate::sim::ledger::{Ledger, Sent};

/// A reading that took longer may be followed by a second question, whose answer may be older.
const SLOW: SignedDuration = SignedDuration::from_millis(1900);
/// So soon, in milliseconds, colleagues meddle: before the deletion is sent, or after; and while a late answer is on its way.
const MEDDLES_WITHIN: [u64; 3] = [2_000, 5_000, 40_000];
/// So many of the leads that were read together.
const AT_MOST_AT_ONCE: usize = 4;
/// Events that wait to be reordered.
const HELD_BACK: usize = 8;

/// Shared by everything on the wire.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) clock: Clock,
    ledger: Arc<Mutex<Ledger>>,
    ear: Arc<Mutex<Option<axum::Router>>>,
    /// Tenths of the events that are lost, doubled, held back.
    pub(crate) weather: Arc<Mutex<[u8; 3]>>,
    /// How eagerly, of ten, colleagues take up leads that were just read.
    pub(crate) mischief: Arc<AtomicU8>,
    colleague: Arc<Mutex<Rng>>,
    sandbox: Sandbox,
    /// Whether nobody takes notices.
    pub(crate) deaf: Arc<AtomicBool>,
}

impl Wire {
    pub(crate) fn new(clock: Clock, sandbox: Sandbox, rng: Rng) -> Wire {
        Wire {
            clock,
            ledger: Arc::default(),
            ear: Arc::default(),
            weather: Arc::default(),
            mischief: Arc::default(),
            colleague: Arc::new(Mutex::new(rng)),
            sandbox,
            deaf: Arc::default(),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service's clock was set.
    pub(crate) fn skewed(&self, milliseconds: i64) {
        let now = self.clock.now();
        self.ledger().skews.push((now, SignedDuration::from_millis(milliseconds)));
    }

    pub(crate) fn line(&self, text: &str) {
        let now = self.clock.now();
        self.ledger().line(now, text);
    }

    pub(crate) fn listen(&self, router: Option<axum::Router>) {
        *self.ear.lock().unwrap_or_else(PoisonError::into_inner) = router;
    }

    /// A request of the process `dead` belongs to: once that is set it neither leaves nor is answered.
    pub(crate) async fn pass(self, dead: Arc<AtomicBool>, request: Request, next: Next) -> Response {
        if dead.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        let path = request.uri().path().trim_end_matches('/');
        let method = path.rsplit('/').next().unwrap_or_default().to_owned();
        let (head, body) = request.into_parts();
        let bytes: Bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let at = self.clock.now();
        let leads = deleted(&method, &text);
        {
            let mut ledger = self.ledger();
            ledger.line(at, &format!("> {method} {text}"));
            if !leads.is_empty() {
                ledger.sent.push(Sent { at, leads });
            }
        }
        // The answer may be long in coming, and what it says old by then.
        self.meddle(&read_by_id(&text));
        let response = next.run(Request::from_parts(head, Body::from(bytes))).await;
        let now = self.clock.now();
        {
            let mut ledger = self.ledger();
            ledger.line(now, &format!("< {method} {}", response.status()));
            if now.duration_since(at) > SLOW {
                ledger.slow_reads.push(now);
            }
        }
        if dead.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        response
    }

    /// Colleagues take up some of the leads that the service is reading.
    fn meddle(&self, read: &[u32]) {
        let mut rng = self.colleague.lock().unwrap_or_else(PoisonError::into_inner);
        let mischief = self.mischief.load(Ordering::SeqCst);
        for _ in 0..AT_MOST_AT_ONCE {
            let Some(id) = rng.choice(read).copied().filter(|_| mischief > 0) else { return };
            let within = *rng.choice(&MEDDLES_WITHIN).unwrap_or(&1);
            let after = Duration::from_millis(rng.u64(0..within));
            if rng.u8(0..10) >= mischief {
                continue;
            }
            let wire = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                wire.change(id, |lead| lead.stage = "IN_PROCESS".into());
            });
        }
    }

    /// A colleague changes a lead.
    pub(crate) fn change(&self, id: u32, change: impl FnOnce(&mut Lead)) {
        if self.sandbox.colleague_update(id, change)
            && let Some(lead) = self.sandbox.lead(id)
        {
            let now = self.clock.now();
            let mut ledger = self.ledger();
            ledger.line(now, &format!("lead {id} is now in {}", lead.stage));
            ledger.note(now, lead);
        }
    }

    /// The outgoing webhook: each event once, if at all.
    pub(crate) async fn deliver(self, mut events: tokio::sync::mpsc::Receiver<String>, mut rng: Rng) {
        let mut held: Vec<String> = Vec::new();
        while let Some(body) = events.recv().await {
            let [lost, doubled, late] = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
            let draw = rng.u8(0..10);
            if draw < lost {
                continue;
            }
            if rng.u8(0..10) < late && held.len() < HELD_BACK {
                held.push(body);
                continue;
            }
            self.hand_over(&body).await;
            if rng.u8(0..10) < doubled {
                self.hand_over(&body).await;
            }
            while !held.is_empty() && rng.bool() {
                let late = held.swap_remove(rng.usize(..held.len()));
                self.hand_over(&late).await;
            }
        }
    }

    async fn hand_over(&self, body: &str) {
        let router = self.ear.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(router) = router else { return };
        let Ok(request) = Request::post("/bitrix24/events")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body.to_owned()))
        else {
            return;
        };
        self.ledger().delivered += 1;
        let Ok(response) = router.oneshot(request).await;
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(body).unwrap_or_default();
        let of = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let lead = of("data[FIELDS][ID]").and_then(|id| id.parse().ok()).unwrap_or_default();
        self.line(&format!("event {} of {lead}: {}", of("event").unwrap_or_default(), response.status()));
        if response.status() == 200 {
            let now = self.clock.now();
            let mut ledger = self.ledger();
            *ledger.heard.entry(lead).or_default() += 1;
            if of("event").is_some_and(|event| event != "ONCRMLEADDELETE") {
                ledger.changed.entry(lead).or_default().push(now);
            }
        }
    }
}

/// The leads whose fields a request asks for by their ids, read from its text alone.
fn read_by_id(text: &str) -> Vec<u32> {
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    let list = text.split_once("\"@id\":[").and_then(|(_, ids)| ids.split_once(']'));
    let alone =
        list.map(|(ids, _)| ids.split(',').filter_map(number).collect::<Vec<_>>()).unwrap_or_default();
    let batched = text
        .split("%40id%5D%5B")
        .skip(1)
        .filter_map(|part| part.split_once('='))
        .filter_map(|(_, id)| number(id));
    alone.into_iter().chain(batched).collect()
}

/// The leads that a request deletes, read from its text alone.
fn deleted(method: &str, text: &str) -> Vec<u32> {
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    };
    if method == "batch" {
        let lines = text
            .split("crm.")
            .filter(|part| part.starts_with("lead.delete") || part.starts_with("item.delete"));
        let ids = lines.filter_map(|part| part.split(['?', '&']).find_map(|pair| pair.strip_prefix("id=")));
        return ids.filter_map(number).collect();
    }
    if !method.ends_with(".delete") {
        return Vec::new();
    }
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let id = value.get("id").or_else(|| value.get("ID"));
    let id = id.and_then(|id| id.as_u64().or_else(|| id.as_str().and_then(|text| text.parse().ok())));
    id.and_then(|id| u32::try_from(id).ok()).into_iter().collect()
}
