//! Joins the event listener to the store: an event is answered 200 after its row is committed.
//!
//! The thread that writes takes what waits when it gets to it, and answers after the COMMIT, so that an event costs no
//! way through another task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::sync::{Notify, oneshot};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::engine::Context;
use crate::http::events::{Intake, Received, ReceivedEvent, SinkError};
use crate::store::Room;
use crate::store::StoreError;
use crate::store::arrivals::{self, Member};
use crate::store::events::{self, NewEvent};

/// How many events may wait for the writer; the listener has at most 1,024 on their way.
const QUEUE: usize = 4096;

/// Where an event's answer goes.
type Stored = oneshot::Sender<Result<(), SinkError>>;

/// An event on its way, and where the answer goes.
struct Arrival {
    event: NewEvent,
    stored: Stored,
}

/// The events that wait for the writer. What has arrived while a commit was on its way goes into the next one, together.
struct Arrivals {
    ctx: Context,
    waiting: Mutex<Vec<Arrival>>,
    member: Mutex<Member>,
}

/// The intake of a service. `host` is the portal's; an event that names another is stored, counted and warned about,
/// since the token decides.
pub fn intake(ctx: &Context, tokens: Vec<SecretString>, host: Option<String>, tasks: &TaskTracker) -> Intake {
    let refused = Arc::new(Notify::new());
    tasks.spawn(record_gaps(ctx.clone(), Arc::clone(&refused)));
    let arrivals = Arc::new(Arrivals {
        ctx: ctx.clone(),
        waiting: Mutex::new(Vec::new()),
        member: Mutex::new(Member::default()),
    });
    Intake {
        tokens,
        sink: Arc::new(move |received| {
            let queued = match received {
                // What is under way needs the room that is left.
                Received::Lead(_) if arrivals.ctx.room() == Room::Full => {
                    Err(SinkError("the disk is full".to_owned()))
                }
                Received::Lead(event) => arrivals.queue_up(event, host.as_deref()).map(Some),
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
        metrics: ctx.metrics.clone(),
    }
}

fn stopped() -> SinkError {
    SinkError("the service is stopping".to_owned())
}

impl Arrivals {
    /// From here on the event is stored, whether or not anybody waits for the answer.
    fn queue_up(
        self: &Arc<Self>,
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
        let first = {
            let mut waiting = locked(&self.waiting);
            if waiting.len() >= QUEUE {
                return Err(SinkError("too many events wait to be stored".to_owned()));
            }
            waiting.push(Arrival { event, stored });
            waiting.len() == 1
        };
        // Those after the first go with it.
        if first {
            self.hand_over();
        }
        Ok(answer)
    }

    /// Has the writer store what waits at the moment when it gets to it.
    fn hand_over(self: &Arc<Self>) {
        let now = self.ctx.clock.now();
        // Who waits for this write; nobody yet where it was never begun.
        let answers: Arc<Mutex<Option<Vec<Stored>>>> = Arc::default();
        let (storing, answering) = (Arc::clone(self), Arc::clone(self));
        let taken = Arc::clone(&answers);
        self.ctx.store.hand_over_arrivals(
            move |db| {
                let (events, senders): (Vec<NewEvent>, Vec<_>) =
                    storing.take().into_iter().map(|arrival| (arrival.event, arrival.stored)).unzip();
                *locked(&taken) = Some(senders);
                arrivals::store(db, &mut locked(&storing.member), events, now)
            },
            move |stored| {
                answering.told(&stored);
                let stored = stored.map(drop).map_err(|error| SinkError(error.to_string()));
                let waiting = locked(&answers).take();
                // What nobody took nobody else will: only the first of those that wait asks for a write.
                let waiting = waiting
                    .unwrap_or_else(|| answering.take().into_iter().map(|arrival| arrival.stored).collect());
                for answer in waiting {
                    // Whoever no longer waits has hung up.
                    answer.send(stored.clone()).ok();
                }
            },
        );
    }

    fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut *locked(&self.waiting))
    }

    /// What was stored for good.
    fn told(&self, stored: &Result<u64, StoreError>) {
        let Ok(foreign) = stored else { return };
        locked(&self.member).committed();
        if *foreign > 0 {
            warn!("an event with a valid token names another portal; is one token used for two portals?");
        }
    }
}

/// A panic elsewhere leaves a list or a text behind that is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
