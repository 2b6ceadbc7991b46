//! At start, under the lock: what an earlier process left in the middle becomes something that goes on by itself.

use jiff::Timestamp;
use rusqlite::Connection;

use super::{events, jobs, requests, restores, runs};

/// What was found and put right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Jobs that were claimed and not sent: they wait again.
    pub released: u64,
    /// Jobs whose request was sent and whose answer is lost: unknown until the portal has surely ended.
    pub unknown: u64,
    /// Events whose evaluation did not end: they are pending again.
    pub events: u64,
    /// Runs that did not end: they failed.
    pub runs: u64,
}

/// Puts right what an earlier process left behind. Only the holder of the [`super::Lock`] may call it.
pub fn recover(db: &Connection, now: Timestamp) -> rusqlite::Result<Recovered> {
    let unknown = jobs::sent_to_unknown(db, now)?;
    let released = jobs::release_all_claimed(db)?;
    requests::fail_taken(db, now)?;
    restores::sending_to_unknown(db)?;
    Ok(Recovered {
        released,
        unknown,
        events: events::requeue_taken(db)?,
        runs: runs::fail_interrupted(db, now)?,
    })
}
