//! What a page asks of the service by the table `requests`, as the commands do: so the engine does the work under its own
//! care, and an answer is kept for an hour in the database and nowhere else.

use std::time::Duration;

use serde_json::Value;

use super::{Pages, Problem, in_time};
use crate::store::requests::{self, RequestState};

/// How long a person waits in front of a form for the outcome; what takes longer goes on without being watched.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the outcome is looked for; the service takes requests four times a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What came of an order.
pub(super) enum Outcome {
    /// It was carried out, with this result.
    Done(Value),
    /// It was not; why.
    Refused(String),
    /// It goes on.
    GoesOn,
}

/// Asks the service for something; the request's id.
pub(super) async fn submit(pages: &Pages, kind: &'static str, args: &Value) -> Result<i64, Problem> {
    let (args, now) = (args.to_string(), pages.ctx.clock.now());
    in_time(pages.ctx.store.write(move |db| requests::submit(db, kind, &args, now))).await
}

/// Where a request stands.
pub(super) async fn state(pages: &Pages, id: i64) -> Result<RequestState, Problem> {
    in_time(pages.ctx.store.read(move |db| requests::poll(db, id))).await
}

/// Asks, and waits for the outcome as long as a person does.
pub(super) async fn order(pages: &Pages, kind: &'static str, args: &Value) -> Result<Outcome, Problem> {
    let id = submit(pages, kind, args).await?;
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match state(pages, id).await? {
            RequestState::Done { ok, result } => return Ok(outcome(ok, &result)),
            RequestState::Pending | RequestState::Taken { .. } if tokio::time::Instant::now() < until => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            RequestState::Pending | RequestState::Taken { .. } => return Ok(Outcome::GoesOn),
            RequestState::Unknown => return Ok(Outcome::Refused("the request has vanished".to_owned())),
        }
    }
}

/// An answer as it stands in the database.
pub(super) fn outcome(ok: bool, result: &str) -> Outcome {
    let result: Value = serde_json::from_str(result).unwrap_or_default();
    if ok {
        return Outcome::Done(result);
    }
    let error = result.get("error").and_then(Value::as_str);
    Outcome::Refused(error.unwrap_or("the service could not do it").to_owned())
}
