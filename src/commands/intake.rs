//! Joins the event listener to the store: an event is answered 200 after its row is committed.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::sync::{Notify, mpsc, oneshot};
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

/// The most events that are stored by one statement after another in one write: with the writer's own groups that is
/// what one fsync is shared by.
const MAX_TOGETHER: usize = 256;

/// How many events may wait for the write before theirs; the listener has at most 1,024 on their way.
const QUEUE: usize = 4096;

/// An event on its way, and where the answer goes.
struct Arrival {
    event: NewEvent,
    stored: oneshot::Sender<Result<(), SinkError>>,
}

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
    let (queue, arrivals) = mpsc::channel(QUEUE);
    tasks.spawn(store_arrivals(ctx.clone(), arrivals));
    let (for_sink, metrics) = (ctx.clone(), ctx.metrics.clone());
    Intake {
        tokens,
        sink: Arc::new(move |received| {
            let queued = match received {
                // What is under way needs the room that is left.
                Received::Lead(_) if for_sink.room() == Room::Full => {
                    Err(SinkError("the disk is full".to_owned()))
                }
                Received::Lead(event) => queue_up(&queue, event, host.as_deref()).map(Some),
                // Counted by the listener; there is nothing to keep.
                Received::Other(_) => Ok(None),
            };
            Box::pin(async move {
                match queued? {
                    Some(stored) => stored.await.unwrap_or_else(|_| Err(stopped())),
                    None => Ok(()),
                }
            })
        }),
        // The listener has logged why.
        on_refused: Arc::new(move |_| refused.notify_one()),
        metrics,
    }
}

fn stopped() -> SinkError {
    SinkError("the service is stopping".to_owned())
}

/// From here on the event is stored, whether or not anybody waits for the answer.
fn queue_up(
    queue: &mpsc::Sender<Arrival>,
    event: ReceivedEvent,
    host: Option<&str>,
) -> Result<oneshot::Receiver<Result<(), SinkError>>, SinkError> {
    let foreign = match (host, &event.domain) {
        (Some(ours), Some(theirs)) => !same_host(ours, theirs),
        (None, _) | (_, None) => false,
    };
    let event = NewEvent {
        event: event.event,
        lead_id: event.lead_id,
        portal_ts: event.portal_ts,
        domain: event.domain,
        member_id: event.member_id,
        foreign,
    };
    let (stored, answer) = oneshot::channel();
    queue.try_send(Arrival { event, stored }).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => SinkError("too many events wait to be stored".to_owned()),
        mpsc::error::TrySendError::Closed(_) => stopped(),
    })?;
    Ok(answer)
}

/// Stores what has arrived while the write before was on its way, in one write. Ends when nobody can send any more.
async fn store_arrivals(ctx: Context, mut arrivals: mpsc::Receiver<Arrival>) {
    let mut together = Vec::with_capacity(MAX_TOGETHER);
    let mut portal = Member::default();
    while arrivals.recv_many(&mut together, MAX_TOGETHER).await > 0 {
        let (mut events, answers): (Vec<NewEvent>, Vec<_>) =
            together.drain(..).map(|arrival| (arrival.event, arrival.stored)).unzip();
        let stored = match portal.mark(&ctx, &mut events).await {
            Ok(()) => store(&ctx, &portal, events).await,
            Err(error) => Err(error),
        };
        portal.kept |= stored.is_ok() && portal.known.is_some();
        let stored = stored.map_err(|error| SinkError(error.to_string()));
        for answer in answers {
            // Whoever no longer waits has hung up.
            answer.send(stored.clone()).ok();
        }
    }
}

/// The portal's member id, from the first event that carried one.
#[derive(Default)]
struct Member {
    known: Option<String>,
    /// Whether the database has it.
    kept: bool,
}

impl Member {
    /// Marks the events that name another portal.
    async fn mark(&mut self, ctx: &Context, events: &mut [NewEvent]) -> Result<(), StoreError> {
        if self.known.is_none() {
            self.known = ctx.store.read(|db| control::get(db, MEMBER_ID)).await?;
            self.kept = self.known.is_some();
        }
        for event in events {
            match (&self.known, &event.member_id) {
                (Some(ours), Some(theirs)) => event.foreign |= ours != theirs,
                (None, Some(first)) => self.known = Some(first.clone()),
                (_, None) => {}
            }
        }
        Ok(())
    }
}

async fn store(ctx: &Context, portal: &Member, arrived: Vec<NewEvent>) -> Result<(), StoreError> {
    let now = ctx.clock.now();
    let member = if portal.kept { None } else { portal.known.clone() };
    let foreign = arrived.iter().filter(|event| event.foreign).count() as u64;
    ctx.store
        .write_arrivals(move |db| {
            if let Some(member) = member {
                control::set(db, MEMBER_ID, &member, now)?;
            }
            if foreign > 0 {
                control::bump(db, FOREIGN_EVENTS, "stored", foreign)?;
            }
            events::append_all(db, &arrived, now)
        })
        .await?;
    if foreign > 0 {
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
