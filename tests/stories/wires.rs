//! What lies between the portal and the service: the way of a request, where stories step in, and the way of an event.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use tower::ServiceExt;

/// Real seconds after which a story is called stuck: a loop that never waits can't be ended by virtual time.
const STUCK: Duration = Duration::from_secs(100);
/// One request on its way to the portal.
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) body: String,
}

impl Seen {
    /// A batch that deletes.
    pub(crate) fn deletes(&self) -> bool {
        self.method == "batch" && self.body.contains(".delete")
    }

    /// The reading of leads by their ids, by itself.
    pub(crate) fn reads(&self) -> bool {
        self.method == "crm.item.list" && self.body.contains("@id")
    }
}

pub(crate) type Act = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// Something that happens once, before a request reaches the portal or before its answer leaves.
pub(crate) struct Tap {
    pub(crate) before: bool,
    pub(crate) skip: u32,
    pub(crate) wanted: fn(&Seen) -> bool,
    pub(crate) act: Act,
}

#[derive(Clone, Default)]
pub(crate) struct Taps(pub(crate) Arc<Mutex<Vec<Tap>>>);

impl Taps {
    fn take(&self, before: bool, seen: &Seen) -> Option<Act> {
        let mut taps = self.0.lock().unwrap();
        for index in 0..taps.len() {
            let tap = &mut taps[index];
            if tap.before != before || !(tap.wanted)(seen) {
                continue;
            }
            if tap.skip > 0 {
                tap.skip -= 1;
                continue;
            }
            return Some(taps.remove(index).act);
        }
        None
    }
}

/// What receives the portal's events; `None` while the service is down or deaf.
pub(crate) type Ear = Arc<Mutex<Option<axum::Router>>>;

/// Passes a request on, with whatever is to happen around it.
pub(crate) async fn tapped(taps: Taps, request: Request, next: Next) -> Response {
    let method = request.uri().path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let (head, body) = request.into_parts();
    let bytes: Bytes = body.collect().await.unwrap().to_bytes();
    let seen = Seen { method, body: String::from_utf8_lossy(&bytes).into_owned() };
    if let Some(act) = taps.take(true, &seen) {
        act().await;
    }
    let response = next.run(Request::from_parts(head, Body::from(bytes))).await;
    if let Some(act) = taps.take(false, &seen) {
        act().await;
    }
    response
}

/// The outgoing webhook: one delivery each, never again.
pub(crate) async fn deliver(mut events: tokio::sync::mpsc::Receiver<String>, ear: Ear) {
    while let Some(body) = events.recv().await {
        let Some(router) = ear.lock().unwrap().clone() else { continue };
        let request = Request::post("/bitrix24/events")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap();
        let _ = router.oneshot(request).await;
    }
}

/// Ends the whole process when a story is stuck in real time; the returned end of the channel calls it off.
pub(crate) fn watch() -> mpsc::Sender<()> {
    let (called_off, wait) = mpsc::channel::<()>();
    let story = std::thread::current().name().unwrap_or_default().to_owned();
    std::thread::spawn(move || {
        if wait.recv_timeout(STUCK) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("story `{story}` is stuck: a loop does not let time pass");
            std::process::exit(101);
        }
    });
    called_off
}
