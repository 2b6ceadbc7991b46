//! Joins the event listener to the store: an event is answered 200 after its row is committed.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::engine::Context;
use crate::http::events::{Intake, Received, ReceivedEvent, SinkError};
use crate::store::StoreError;
use crate::store::events::{self, NewEvent};
use crate::store::{Room, control};

/// Under this key the portal's member id is remembered, from the first event that carried one.
const MEMBER_ID: &str = "member_id";
/// Under this name events that claim to come from another portal are counted.
const FOREIGN_EVENTS: &str = "foreign_events";

/// The intake of a service. `host` is the portal's; an event that names another is stored, counted and warned about,
/// since the token decides.
pub(super) fn intake(
    ctx: &Context,
    tokens: Vec<SecretString>,
    host: Option<String>,
    tasks: &TaskTracker,
) -> Intake {
    let refused = Arc::new(Notify::new());
    tasks.spawn(record_gaps(ctx.clone(), Arc::clone(&refused)));
    let (for_sink, metrics) = (ctx.clone(), ctx.metrics.clone());
    Intake {
        tokens,
        sink: Arc::new(move |received| {
            let (ctx, host) = (for_sink.clone(), host.clone());
            Box::pin(async move {
                match received {
                    Received::Lead(event) => {
                        // What is under way needs the room that is left.
                        if ctx.room() == Room::Full {
                            return Err(SinkError("the disk is full".to_owned()));
                        }
                        store(&ctx, event, host).await.map_err(|error| SinkError(error.to_string()))
                    }
                    // Counted by the listener; there is nothing to keep.
                    Received::Other(_) => Ok(()),
                }
            })
        }),
        // The listener has logged why.
        on_refused: Arc::new(move |_| refused.notify_one()),
        metrics,
    }
}

async fn store(ctx: &Context, event: ReceivedEvent, host: Option<String>) -> Result<(), StoreError> {
    let now = ctx.clock.now();
    let other_host = match (&host, &event.domain) {
        (Some(ours), Some(theirs)) => !same_host(ours, theirs),
        (None, _) | (_, None) => false,
    };
    let foreign = ctx
        .store
        .write(move |db| {
            let mut foreign = other_host;
            if let Some(member) = &event.member_id {
                match control::get(db, MEMBER_ID)? {
                    Some(known) => foreign |= known != *member,
                    None => control::set(db, MEMBER_ID, member, now)?,
                }
            }
            if foreign {
                control::bump(db, FOREIGN_EVENTS, "stored", 1)?;
            }
            let event = NewEvent {
                event: event.event,
                lead_id: event.lead_id,
                portal_ts: event.portal_ts,
                domain: event.domain,
                member_id: event.member_id,
                foreign,
            };
            events::append(db, &event, now)?;
            Ok(foreign)
        })
        .await?;
    if foreign {
        warn!("an event with a valid token names another portal; is one token used for two portals?");
    }
    Ok(())
}

fn same_host(ours: &str, theirs: &str) -> bool {
    let name = |host: &str| host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    name(ours) == name(theirs)
}

/// Refused events become one gap a second at most: each of them asks for the same sweep, and on a full disk they are many.
const GAP_EVERY: SignedDuration = SignedDuration::from_secs(1);

/// Writes that events were lost; tries until the store takes it. Ends with the service.
async fn record_gaps(ctx: Context, refused: Arc<Notify>) {
    loop {
        tokio::select! {
            // One refused just before the stop is recorded first.
            biased;
            () = refused.notified() => {}
            () = ctx.stop.cancelled() => return,
        }
        warn!("events were refused; the portal never sends them again, so rules with events will sweep");
        let mut tries = 0;
        loop {
            let now = ctx.clock.now();
            match ctx.store.write(move |db| events::record_gap(db, "an event was refused", now)).await {
                Ok(_) => break,
                Err(error) => error!(%error, "could not record that events were lost; trying again"),
            }
            tries += 1;
            let at = ctx.retry_at(now, tries);
            tokio::select! {
                () = ctx.clock.sleep_until(at) => {}
                () = ctx.stop.cancelled() => return,
            }
        }
        let rested = ctx.clock.now().checked_add(GAP_EVERY).unwrap_or(Timestamp::MAX);
        tokio::select! {
            () = ctx.clock.sleep_until(rested) => {}
            () = ctx.stop.cancelled() => {}
        }
    }
}
