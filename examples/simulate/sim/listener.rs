//! The service's own event listener over a store, as `serve` has it; the stories use it too.

use std::sync::Arc;

use b24_janitor::clock::Clock;
use b24_janitor::http::events::{Intake, Received, SinkError};
use b24_janitor::metrics::Metrics;
use b24_janitor::sandbox::SandboxOptions;
use b24_janitor::store::events::NewEvent;
use b24_janitor::store::{Store, events};
use secrecy::SecretString;

/// The service's own event listener, storing as `serve` does.
pub(crate) fn listener(store: &Store, clock: Clock, metrics: &Metrics) -> axum::Router {
    let (store, gaps) = (store.clone(), store.clone());
    let intake = Intake {
        tokens: vec![SecretString::from(SandboxOptions::default().application_token)],
        sink: Arc::new(move |received| {
            let store = store.clone();
            Box::pin(async move {
                let Received::Lead(event) = received else { return Ok(()) };
                let now = clock.now();
                let event = NewEvent {
                    event: event.event,
                    lead_id: event.lead_id,
                    portal_ts: event.portal_ts,
                    domain: event.domain,
                    member_id: event.member_id,
                    foreign: false,
                };
                let stored = store.write(move |db| events::append(db, &event, now)).await;
                stored.map(drop).map_err(|error| SinkError(error.to_string()))
            })
        }),
        on_refused: Arc::new(move |_| {
            let (store, now) = (gaps.clone(), clock.now());
            tokio::spawn(async move {
                let _ = store.write(move |db| events::record_gap(db, "refused", now)).await;
            });
        }),
        metrics: metrics.clone(),
    };
    b24_janitor::http::public(Some(intake))
}
