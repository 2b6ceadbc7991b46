//! A simulated Bitrix24 portal, to rehearse on and to test against.
//!
//! It shares no code with [`crate::portal`], so that what both agree on is a fact about the protocol and not about one
//! author's habits. It keeps leads in memory, answers `/rest/{user}/{code}/{method}` as the documentation and the
//! server's source say, traps included, enforces the portal's limits on its own clock, sends the outgoing webhook's
//! events, and injects faults. In process, [`Sandbox::router`] needs no socket and no thread and follows tokio's
//! paused clock; time comes from [`Clock`] and tokio alone.
//!
//! * `options`: what it can be told to be · `state`: leads and permissions · `limits`: bucket and operating time
//! * `fields`, `lead`, `generate`: the data · `php`, `time`: PHP's values and dates
//! * `predicate`, `classic_filter`, `item_filter`: the two lists · `methods`, `batch`, `session`: calls
//! * `oauth`: a local application's tokens · `faults`, `events`, `stats` · `server`, `control`: HTTP

mod batch;
mod classic_filter;
mod control;
mod events;
mod faults;
mod fields;
mod generate;
mod item_filter;
mod lead;
mod limits;
mod methods;
mod oauth;
mod options;
mod php;
mod predicate;
mod server;
mod session;
mod state;
mod stats;
mod time;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::clock::Clock;
use state::State;

pub use faults::{Fault, FaultKind, FaultTextError};
pub use lead::{Contact, Lead};
pub use oauth::OauthApp;
pub use options::{BatchCharge, Language, NotFoundStyle, SandboxOptions};
pub use stats::{Deletion, Stats};

/// The user to whom a colleague's changes are ascribed.
const COLLEAGUE: u32 = 2;

/// A simulated portal. Cheap to clone; clones are the same portal.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    state: Mutex<State>,
    undelivered: Arc<Mutex<u64>>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

impl Sandbox {
    /// A portal with generated leads, as of the clock's now.
    pub fn new(options: SandboxOptions, clock: Clock) -> Sandbox {
        let state = Mutex::new(State::new(options, clock.now()));
        Sandbox { inner: Arc::new(Inner { clock, state, undelivered: Arc::default() }) }
    }

    /// The portal's HTTP interface, for `tower::ServiceExt::oneshot` or a listener. Must be polled in a tokio runtime.
    pub fn router(&self) -> axum::Router {
        server::router(self.clone())
    }

    /// Serves on a listener until `shutdown` resolves, and delivers events to the `events_url` of the options.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        server::serve(self.clone(), listener, shutdown).await
    }

    /// Starts the task that POSTs events, if the options name an URL; [`Sandbox::serve`] does it too. Must be called
    /// in a tokio runtime. Events raised before are not sent.
    pub fn start_event_delivery(&self) {
        let mut state = self.lock();
        let Some(url) = state.options.events_url.clone() else { return };
        if let Some(queue) = state.outbox.open() {
            tokio::spawn(events::deliver(url, queue, Arc::clone(&self.inner.undelivered)));
        }
    }

    /// A receiver of the form body of every later event, in order, without any socket.
    pub fn events(&self) -> mpsc::Receiver<String> {
        self.lock().outbox.subscribe()
    }

    /// The path of the incoming webhook, with a slash at its end.
    pub fn webhook_path(&self) -> String {
        let state = self.lock();
        format!("/rest/{}/{}/", state.options.user_id, state.options.code)
    }

    /// The URL of the incoming webhook on an address that the sandbox is served at.
    pub fn webhook_url(&self, address: SocketAddr) -> String {
        format!("http://{address}{}", self.webhook_path())
    }

    /// The portal's now.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Changes the options of a running portal (limits, costs, manners); `leads`, `seed`, `faults` have no effect.
    pub fn configure(&self, change: impl FnOnce(&mut SandboxOptions)) {
        change(&mut self.lock().options);
    }

    /// Every lead, by id.
    pub fn leads(&self) -> Vec<Lead> {
        self.lock().leads.values().cloned().collect()
    }

    /// One lead.
    pub fn lead(&self, id: u32) -> Option<Lead> {
        self.lock().leads.get(&id).cloned()
    }

    /// The ids of the leads that satisfy `test`, rising: an independent query for counting what is left.
    pub fn ids_where(&self, test: impl Fn(&Lead) -> bool) -> Vec<u32> {
        self.lock().leads.values().filter(|lead| test(lead)).map(|lead| lead.id).collect()
    }

    /// How many leads there are.
    pub fn lead_count(&self) -> usize {
        self.lock().leads.len()
    }

    /// Puts a lead in place silently, without an event, over any lead of that id; returns its id (0 asks for the next).
    pub fn insert(&self, lead: Lead) -> u32 {
        self.lock().place(lead)
    }

    /// A colleague or a form adds a lead: `ONCRMLEADADD`. Returns its id.
    pub fn add_lead(&self, lead: Lead) -> u32 {
        let now = self.now();
        self.lock().insert(lead, now)
    }

    /// A colleague changes a lead: `updatedTime`, `movedTime` and `dateClosed` follow unless the change sets them
    /// itself, and `ONCRMLEADUPDATE` is sent. False when there is no such lead.
    pub fn colleague_update(&self, id: u32, change: impl FnOnce(&mut Lead)) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let Some(before) = state.leads.get(&id).cloned() else { return false };
        let mut lead = before.clone();
        change(&mut lead);
        state.finish_update(&before, lead, now, COLLEAGUE)
    }

    /// A colleague deletes a lead: `ONCRMLEADDELETE`. False when there is no such lead.
    pub fn colleague_delete(&self, id: u32) -> bool {
        let now = self.now();
        self.lock().remove(id, now, "colleague")
    }

    /// A handler of `OnBeforeCrmLeadDelete` refuses to let this lead go, with `text`.
    pub fn veto(&self, id: u32, text: &str) {
        self.lock().vetoes.insert(id, text.to_owned());
    }

    /// The webhook's user may read this lead and not delete it.
    pub fn deny(&self, id: u32) {
        self.lock().denied.insert(id);
    }

    /// The webhook's user may not read this lead: lists hide it.
    pub fn hide(&self, id: u32) {
        self.lock().hidden.insert(id);
    }

    /// Takes back [`Sandbox::veto`], [`Sandbox::deny`] and [`Sandbox::hide`] for a lead.
    pub fn permit(&self, id: u32) {
        let mut state = self.lock();
        state.vetoes.remove(&id);
        state.denied.remove(&id);
        state.hidden.remove(&id);
    }

    /// Injects a fault from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.lock().faults.add(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// The counters so far.
    pub fn stats(&self) -> Stats {
        let undelivered = *self.inner.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stats = self.lock().stats.clone();
        stats.events_lost += undelivered;
        stats
    }

    fn has_code(&self, code: &str) -> bool {
        self.lock().options.code == code
    }

    /// The lock is held for plain data changes only, and a panic in one leaves data that is still whole enough to show.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
