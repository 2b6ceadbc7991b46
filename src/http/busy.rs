//! Which connections are at work and which are idle, so that the oldest idle one gives up its place when all are taken.
//!
//! Idle is a connection of which no whole head of a request has come since it was opened or last answered: a
//! slow-loris, or a keep-alive that nobody uses. One whose request is being read or answered is never shed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tower::{Service, ServiceExt};

use super::attempts::Peer;

/// The idle connections, the longest idle first.
#[derive(Clone, Default)]
pub(super) struct Idle(Arc<Mutex<Order>>);

#[derive(Default)]
struct Order {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// One connection's place in the order.
pub(super) struct Activity {
    idle: Idle,
    turn: Mutex<u64>,
    busy: AtomicBool,
    shed: Arc<Notify>,
}

impl Idle {
    /// A new connection, idle until its first request.
    pub(super) fn enter(&self) -> Arc<Activity> {
        let shed = Arc::new(Notify::new());
        let turn = self.wait(&shed);
        Arc::new(Activity { idle: self.clone(), turn: Mutex::new(turn), busy: AtomicBool::new(false), shed })
    }

    /// Asks the connection that is idle for the longest time to close. Whether there was one.
    pub(super) fn shed_oldest(&self) -> bool {
        let oldest = self.order().waiting.pop_first();
        oldest.inspect(|(_, shed)| shed.notify_one()).is_some()
    }

    fn wait(&self, shed: &Arc<Notify>) -> u64 {
        let mut order = self.order();
        let turn = order.next;
        order.next += 1;
        order.waiting.insert(turn, Arc::clone(shed));
        turn
    }

    fn order(&self) -> std::sync::MutexGuard<'_, Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Activity {
    /// Resolves when the connection is to close; not while it is at work.
    pub(super) async fn shed(&self) {
        loop {
            self.shed.notified().await;
            if !self.busy.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn begin(&self) {
        self.busy.store(true, Ordering::Release);
        let turn = *self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.idle.order().waiting.remove(&turn);
    }

    fn end(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = self.idle.wait(&self.shed);
        self.busy.store(false, Ordering::Release);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.begin();
    }
}

/// A router that knows where its requests come from and whether it is at work.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) router: Router,
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
}

/// Ends the work of a request, also of one that is dropped.
struct AtWork(Arc<Activity>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Service<Request<Incoming>> for Watched {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        self.activity.begin();
        let at_work = AtWork(Arc::clone(&self.activity));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer);
        // hyper goes by the chunks and drops a Content-Length beside them (RFC 9112, 6.3). Whatever a proxy before us took
        // for the end of such a request, what follows it on the connection is not taken for another one.
        let last = request.headers().contains_key(header::TRANSFER_ENCODING);
        let answer = self.router.clone().oneshot(request);
        Box::pin(async move {
            let _at_work = at_work;
            let mut answer = answer.await?;
            if last {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        })
    }
}
