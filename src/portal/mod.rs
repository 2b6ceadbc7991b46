//! The client of the portal's REST API: one call in, one classified reply out, at the portal's pace.
//!
//! Nothing here repeats a call, but one that reads and met an access token that had expired: what to do about a
//! [`CallError`] is the caller's decision. What it teaches about the pace is kept here, so that the next
//! [`Portal::permit`] waits long enough. Secrets never leave this folder: the webhook's code and an application's
//! tokens are in no error, no `Debug` text and no log line.

mod auth;
mod batch;
mod chain;
mod chat;
mod create;
mod envelope;
mod errors;
mod gate;
mod http;
mod leads;
mod levels;
mod mask;
mod renewal;
mod schema;
mod snapshot;

use std::sync::Arc;

use crate::watch;
use secrecy::SecretString;
use serde_json::Value;
use tokio::time::Instant;

pub use auth::{Access, OAuthOptions, Vault};
pub use batch::{Asked, BatchReply, BatchRequest};
pub use create::Creation;
pub use errors::{CallError, Class, On, Row, Sent, TABLE, classify_delete, find, remedy, says_not_found};
pub use gate::{Permit, Places, Work};
pub(crate) use http::https_proxy;
pub use http::{HttpClient, NoClient, Transport};
pub use leads::{PAGE, Page};
pub use levels::{Levels, MethodLevel};
pub(crate) use mask::mask;
pub use renewal::Tokens;
pub use schema::{FieldInfo, Stage};
pub use snapshot::PaceSnapshot;

use crate::clock::Clock;
use crate::core::estimate::{Estimate, estimate};
use crate::core::freshness::Moment;
use crate::core::rule::PortalLimits;
use auth::{Refused, Session};
use chain::Chains;
use envelope::Reply;
use gate::{Flight, Gate};
use http::Endpoint;

/// The entity type of leads in `crm.item.*`
/// (<https://apidocs.bitrix24.com/api-reference/crm/data-types.html>). A constant: a wrong one would be answered with
/// `NOT_FOUND`, as if the lead were gone.
const LEADS: u32 = 1;

/// One exchange with the portal, for metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRecord {
    /// The REST method, `batch` for a batch.
    pub method: &'static str,
    /// `ok`, or the word of the error's class.
    pub result: &'static str,
    /// From sending to the complete reply, in seconds.
    pub seconds: f64,
    /// The seconds that the method has used in the portal's window, where the reply said.
    pub operating: Option<f64>,
    /// The same for the methods called inside a batch.
    pub nested: Vec<(&'static str, f64)>,
}

/// Called after every exchange.
pub type Observer = Arc<dyn Fn(&CallRecord) + Send + Sync>;

/// What a [`Portal`] is made of.
#[derive(Clone)]
pub struct PortalOptions {
    /// How the portal knows us.
    pub access: Access,
    /// What the portal allows.
    pub limits: PortalLimits,
    /// Where the wall time comes from.
    pub clock: Clock,
    /// Told of every exchange.
    pub observer: Option<Observer>,
    /// The pace that the previous process kept with this portal; one of another portal is ignored.
    pub pace: Option<PaceSnapshot>,
}

/// The portal. A handle: clones share the pace.
#[derive(Clone)]
pub struct Portal {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    endpoint: Endpoint,
    /// The tokens of a local application; a webhook has none.
    session: Option<Arc<Session>>,
    clock: Clock,
    gate: Arc<Gate>,
    chains: Chains,
    observer: Option<Observer>,
    /// Changes with every proper reply.
    answered: watch::Sender<()>,
}

impl std::fmt::Debug for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base = self.inner.endpoint.base();
        match &self.inner.session {
            None => f.debug_struct("Portal").field("webhook", &format_args!("{base}***/")).finish(),
            Some(_) => f.debug_struct("Portal").field("application", &format_args!("{base}")).finish(),
        }
    }
}

impl Portal {
    /// A portal behind a transport. Needs a tokio runtime.
    pub fn new(transport: Transport, options: PortalOptions) -> Portal {
        Portal::made(transport, options, None)
    }

    /// The same beside a process that keeps the pace: each request takes its place there first.
    pub fn beside(transport: Transport, options: PortalOptions, places: Places) -> Portal {
        Portal::made(transport, options, Some(places))
    }

    fn made(transport: Transport, options: PortalOptions, places: Option<Places>) -> Portal {
        let (endpoint, session) = match options.access {
            Access::Webhook(address) => (Endpoint::new(&address), None),
            Access::OAuth(application) => {
                let endpoint = Endpoint::of_portal(&application.portal_url);
                let session = Session::new(transport.clone(), application, endpoint.clone(), options.clock);
                (endpoint, Some(Arc::new(session)))
            }
        };
        let pace = options.pace.filter(|pace| pace.is_of(endpoint.host()));
        let gate = Gate::new(options.limits, options.clock, pace.as_ref(), places);
        Portal {
            inner: Arc::new(Inner {
                transport,
                endpoint,
                session,
                clock: options.clock,
                gate: Arc::new(gate),
                chains: Chains::default(),
                observer: options.observer,
                answered: watch::Sender::new(()),
            }),
        }
    }

    /// The transport over the network: TLS by rustls, no redirects, 75 s a request.
    ///
    /// # Errors
    /// When the client can't be built, for example without any certificate authority on the system.
    pub fn http() -> Result<Transport, NoClient> {
        Ok(Transport::Http(HttpClient::new()?))
    }

    /// Other limits from now on; what is in flight stays counted.
    pub fn set_limits(&self, limits: PortalLimits) {
        self.inner.gate.set_limits(limits);
    }

    /// The limits in use.
    pub fn limits(&self) -> PortalLimits {
        self.inner.gate.limits()
    }

    /// What is used of both limits now.
    pub fn levels(&self) -> Levels {
        self.inner.gate.levels()
    }

    /// How many requests that delete to have in flight now: the configured number, less where others share our address
    /// and the portal answered 503, or where more would only wait for places in the bucket; at least 1.
    pub fn suggested_concurrency(&self) -> u8 {
        self.inner.gate.lanes()
    }

    /// The pace as it stands, to be kept over a restart. It assumes that more is sent after it;
    /// [`PaceSnapshot::closed`] says otherwise.
    pub fn pace_snapshot(&self) -> PaceSnapshot {
        self.inner.gate.snapshot(self.inner.endpoint.host(), self.inner.clock.now())
    }

    /// A number that differs once a new [`Portal::pace_snapshot`] would tell the next process more.
    pub fn pace_changes(&self) -> u64 {
        self.inner.gate.changes()
    }

    /// Changes whenever the portal answers a call properly: whoever waits for it to be back may ask again.
    pub fn answered(&self) -> watch::Receiver<()> {
        self.inner.answered.subscribe()
    }

    /// How long deleting so many leads would take from now on, by what this portal's deletions have cost so far; also
    /// those of earlier processes, as far as the pace was kept.
    pub fn drain_estimate(&self, leads: u64) -> Estimate {
        estimate(&self.inner.gate.load(leads))
    }

    /// Waits until a request may be sent: for a place in the bucket and, for deletions, for the method's operating
    /// budget. May be abandoned at any time. Take the permit first, record the claim, then send at once.
    pub async fn permit(&self, what: Work) -> Permit {
        self.inner.gate.permit(what).await
    }

    /// Waits for a place in the bucket for a request that another process sends, and takes it.
    pub async fn place(&self) {
        self.inner.gate.place().await;
    }

    /// How many deletions, `leads` at most, the operating budgets have room for now.
    pub fn room_for_deletions(&self, leads: usize) -> usize {
        self.inner.gate.deletions(leads)
    }

    /// A call that reads, with a permit of its own.
    async fn read(&self, method: &'static str, params: &Value) -> Result<Reply, CallError> {
        self.read_timed(method, params).await.map(|(reply, _)| reply)
    }

    /// The same, with the moment at which the request left: what was read is no older.
    async fn read_timed(&self, method: &'static str, params: &Value) -> Result<(Reply, Moment), CallError> {
        let permit = self.inner.gate.read(method).await;
        self.read_with(permit, method, params).await
    }

    async fn read_with(
        &self,
        permit: Permit,
        method: &'static str,
        params: &Value,
    ) -> Result<(Reply, Moment), CallError> {
        let sent_at = self.inner.clock.moment();
        let flight = permit.start(&[method.to_owned()]);
        let exchange = self.exchange(method, params).await;
        let reply = self.conclude(method, exchange, flight, Vec::new())?;
        if let Some(seconds) = reply.cost.seconds {
            self.inner.gate.learn(method, seconds);
        }
        Ok((reply, sent_at))
    }

    /// Sends one request that only reads, and once more where its access token had to be replaced; the pace learns of
    /// the reply in [`Portal::conclude`].
    async fn exchange(&self, method: &'static str, params: &Value) -> Exchange {
        let started = Instant::now();
        let reply = match &self.inner.session {
            None => self.send(method, params, None).await,
            Some(session) => self.read_as_application(session, method, params).await,
        };
        Exchange { reply, seconds: started.elapsed().as_secs_f64() }
    }

    /// Sends one request that changes something, once. Where the access token had to be replaced it is not sent, or
    /// surely was not executed, and the caller begins anew: what it decided by is older now than it may be.
    async fn exchange_once(&self, method: &'static str, params: &Value) -> Exchange {
        let started = Instant::now();
        let reply = match &self.inner.session {
            None => self.send(method, params, None).await,
            Some(session) => self.change_as_application(session, method, params).await,
        };
        Exchange { reply, seconds: started.elapsed().as_secs_f64() }
    }

    async fn read_as_application(
        &self,
        session: &Arc<Session>,
        method: &'static str,
        params: &Value,
    ) -> Result<Reply, CallError> {
        let access = session.access().await?;
        let started = Instant::now();
        let error = match self.send(method, params, Some(&access)).await {
            Err(error) if error.class == Class::RefreshToken => error,
            reply => return reply,
        };
        self.tell(method, &error, started.elapsed().as_secs_f64());
        let access = session.replace(Some(Refused { access, error })).await?;
        // Another request is another place in the bucket.
        self.inner.gate.place().await;
        self.send(method, params, Some(&access)).await
    }

    async fn change_as_application(
        &self,
        session: &Arc<Session>,
        method: &'static str,
        params: &Value,
    ) -> Result<Reply, CallError> {
        let refused = match session.ready() {
            None => None,
            Some(access) => match self.send(method, params, Some(&access)).await {
                Err(error) if error.class == Class::RefreshToken => Some(Refused { access, error }),
                reply => return reply,
            },
        };
        session.replace(refused).await?;
        Err(errors::not_now("<token renewed>", "nothing was executed: the access token had expired"))
    }

    async fn send(
        &self,
        method: &'static str,
        params: &Value,
        access: Option<&SecretString>,
    ) -> Result<Reply, CallError> {
        let inner = &self.inner;
        let answer = inner.transport.post(&inner.endpoint, method, auth::body(params, access)).await?;
        envelope::read(&answer, &inner.endpoint)
    }

    fn tell(&self, method: &'static str, error: &CallError, seconds: f64) {
        if let Some(observer) = &self.inner.observer {
            let result = error.class.word();
            observer(&CallRecord { method, result, seconds, operating: None, nested: Vec::new() });
        }
    }

    /// Teaches the gate what an exchange says about the pace, ends its flight and tells the observer.
    fn conclude(
        &self,
        method: &'static str,
        exchange: Exchange,
        flight: Flight,
        nested: Vec<(&'static str, f64)>,
    ) -> Result<Reply, CallError> {
        let gate = &self.inner.gate;
        let mut operating = None;
        match &exchange.reply {
            Ok(reply) => {
                gate.observe(method, &reply.cost, None);
                operating = reply.cost.operating;
                flight.answered();
                self.inner.answered.send_replace(());
            }
            Err(error) => {
                match error.class {
                    Class::PausePortal => gate.refused(),
                    Class::PauseMethod => gate.blocked(method),
                    Class::Retry
                    | Class::RefreshToken
                    | Class::StopPortal
                    | Class::StopPortalForPerson
                    | Class::Final
                    | Class::Confirm
                    | Class::Malformed => {}
                }
                match (error.sent, error.class) {
                    (Sent::No, _) => flight.not_executed(),
                    (Sent::Maybe, Class::Final | Class::Confirm) => flight.answered(),
                    // The end of its life charges the estimates.
                    (Sent::Maybe, _) => drop(flight),
                }
            }
        }
        let result = match &exchange.reply {
            Ok(_) => "ok",
            Err(error) => error.class.word(),
        };
        if let Some(observer) = &self.inner.observer {
            observer(&CallRecord { method, result, seconds: exchange.seconds, operating, nested });
        }
        exchange.reply
    }
}

/// What came of one request.
struct Exchange {
    reply: Result<Reply, CallError>,
    seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine spawns these calls.
    #[test]
    fn calls_can_be_made_from_any_task() {
        fn sendable<T: Send>(_: T) {}
        let portal = |portal: Portal| {
            sendable(async move {
                let permit = portal.permit(Work::Delete { leads: 1 }).await;
                let _ = portal.delete_batch(permit, &BatchRequest::deleting(&[])).await;
                let _ = portal.probe().await;
            });
        };
        let _ = portal;
    }
}
