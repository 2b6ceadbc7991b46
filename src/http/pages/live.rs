//! `/live`: says when something changed, at most once a second, so that an open page fetches itself anew. It carries no
//! data; what changed is shown by the page, to whoever may see it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Asked, Pages};
use crate::http::plain;
use crate::watch;

/// The most streams at a time: a page that is open in every tab of a few administrators. Each makes its page be rendered
/// once a second.
pub const MAX_STREAMS: usize = 16;

/// The shortest time between two events of a stream: a busy service changes its database many times a second.
pub const PACE: Duration = Duration::from_secs(1);

/// After so long without a change a stream says that it is still there, so that a connection that is dead is noticed.
const QUIET: Duration = Duration::from_secs(15);

/// How long a stream lasts. Browsers come again by themselves, and whose session has ended by then is not let in.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

const CHANGED: &[u8] = b"data: changed\n\n";
const STILL_HERE: &[u8] = b": still here\n\n";

/// The places for streams.
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Places {
        Places(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new().route("/live", get(live))
}

/// What a stream needs; it gives its place back when it is dropped.
struct Stream {
    changes: watch::Receiver<u64>,
    pages: Arc<Pages>,
    ends: Instant,
    last: Instant,
    begun: bool,
    _place: OwnedSemaphorePermit,
}

async fn live(asked: Asked) -> Response {
    let Ok(place) = Arc::clone(&asked.pages.places.0).try_acquire_owned() else {
        let mut answer =
            plain(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open; this one stays as it is\n");
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        return answer;
    };
    let now = Instant::now();
    let stream = Stream {
        changes: asked.pages.ctx.store.changes(),
        pages: Arc::clone(&asked.pages),
        ends: now + LIFETIME,
        last: now,
        begun: false,
        _place: place,
    };
    let events = stream::unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(Bytes::from_static(event)), stream))
    });
    let kind = HeaderValue::from_static("text/event-stream");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(events)).into_response()
}

impl Stream {
    /// The next piece of the stream; `None` when it ends.
    async fn next(&mut self) -> Option<&'static [u8]> {
        if !self.begun {
            self.begun = true;
            // How long a browser waits before it comes again.
            return Some(b"retry: 5000\n\n");
        }
        let stop = self.pages.ctx.stop.clone();
        let changed = async {
            tokio::time::sleep_until(self.last + PACE).await;
            match tokio::time::timeout_at(self.last + QUIET, self.changes.changed()).await {
                Ok(Ok(())) => Some(CHANGED),
                // A sender that is gone means that the service ends.
                Ok(Err(_)) => None,
                Err(_) => Some(STILL_HERE),
            }
        };
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            () = tokio::time::sleep_until(self.ends) => None,
            event = changed => event,
        };
        self.last = Instant::now();
        event
    }
}
