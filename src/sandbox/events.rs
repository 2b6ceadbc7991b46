//! The outgoing webhook: event bodies, their queue, their one delivery.
//!
//! Bitrix24 docs: `events/index.md`. A form, POSTed once; whatever the receiver answers, it is never sent again.
//! Order is that of the changes. A full queue loses events, as the portal's may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

/// Events that wait for delivery; a test or demo that deletes a hundred thousand leads at once still fits.
const QUEUE: usize = 200_000;

/// How long one delivery may take; the portal's own client gives up after 15 s.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);

/// The body of an event, with the keys of a webhook made in the portal's pages, in the order of a real capture.
pub(super) fn body(event: &str, lead: u32, ts: i64, domain: &str, member_id: &str, token: &str) -> String {
    let endpoint = format!("https://{domain}/rest/");
    let (lead, ts) = (lead.to_string(), ts.to_string());
    let pairs = [
        ("event", event),
        ("event_handler_id", "975"),
        ("data[FIELDS][ID]", lead.as_str()),
        ("ts", ts.as_str()),
        ("auth[domain]", domain),
        ("auth[client_endpoint]", endpoint.as_str()),
        ("auth[server_endpoint]", "https://oauth.bitrix.info/rest/"),
        ("auth[member_id]", member_id),
        ("auth[application_token]", token),
    ];
    serde_urlencoded::to_string(pairs).unwrap_or_default()
}

/// The subscribers and the delivery queue.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    subscribers: Vec<mpsc::Sender<String>>,
    delivery: Option<mpsc::Sender<String>>,
}

impl Outbox {
    /// A receiver of every later event's body.
    pub(super) fn subscribe(&mut self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.subscribers.push(sender);
        receiver
    }

    /// Hands an event on; returns how many of its receivers lost it.
    pub(super) fn send(&mut self, body: &str) -> u64 {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        let all = self.subscribers.iter().chain(&self.delivery);
        all.map(|receiver| u64::from(receiver.try_send(body.to_owned()).is_err())).sum()
    }

    /// Opens the queue of the delivery task, unless it is open.
    pub(super) fn open(&mut self) -> Option<mpsc::Receiver<String>> {
        if self.delivery.is_some() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.delivery = Some(sender);
        Some(receiver)
    }
}

/// Delivers what the queue brings, one after the other, each once. Ends when the queue is closed.
pub(super) async fn deliver(url: String, mut queue: mpsc::Receiver<String>, lost: Arc<Mutex<u64>>) {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(DELIVERY_TIMEOUT)
        .user_agent("Bitrix24 Webhook Engine")
        .build();
    let lose = || *lost.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    while let Some(body) = queue.recv().await {
        let Ok(client) = &client else {
            lose();
            continue;
        };
        let sent = client
            .post(&url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        if let Err(error) = sent {
            lose();
            tracing::debug!(error = %error.without_url(), "the receiver didn't take an event; it is not sent again");
        }
    }
}
