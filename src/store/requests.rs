//! What a command asks of the running service, because only the service may talk to the portal: pending → taken → done.
//!
//! A command waits for its answer, so a request that nobody took soon is answered as expired and never acted on later.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::columns::{exactly_one, ms};

/// A request that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: i64,
    /// What is asked.
    pub kind: String,
    /// With which arguments, as JSON.
    pub args_json: String,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestState {
    /// Nobody has taken it yet.
    Pending,
    /// The service works on it.
    Taken {
        /// How far it is, for people.
        progress: Option<String>,
    },
    /// It is answered.
    Done {
        /// Whether it was done.
        ok: bool,
        /// The result, or the error, as JSON.
        result: String,
    },
    /// There is no such request; an answer is kept for an hour.
    Unknown,
}

/// A request that is not taken within this time was asked of a service that does not run.
pub const TAKEN_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// How long an answer is kept for the command that asked.
pub const ANSWER_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// The most requests that are taken at a time; a person types them.
const MAX_TAKEN: u32 = 16;

/// Asks the running service for something.
pub fn submit(db: &Connection, kind: &str, args_json: &str, now: Timestamp) -> rusqlite::Result<i64> {
    let sql =
        "INSERT INTO requests (kind, args, state, created_at) VALUES (?1, ?2, 'pending', ?3) RETURNING id";
    db.prepare_cached(sql)?.query_row((kind, args_json, ms(now)), |row| row.get(0))
}

/// Whether anything waits to be taken.
pub fn any_pending(db: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM requests WHERE state = 'pending')";
    db.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Takes what was asked within the last [`TAKEN_WITHIN`], the oldest first.
pub fn take(db: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Request>> {
    const SQL: &str = "UPDATE requests SET state = 'taken', taken_at = ?1
        WHERE id IN (SELECT id FROM requests WHERE state = 'pending' ORDER BY id LIMIT ?2) AND state = 'pending'
        RETURNING id, kind, args";
    expire(db, now)?;
    let mut taken = db
        .prepare_cached(SQL)?
        .query_map((ms(now), MAX_TAKEN), |row| {
            Ok(Request { id: row.get("id")?, kind: row.get("kind")?, args_json: row.get("args")? })
        })?
        .collect::<rusqlite::Result<Vec<Request>>>()?;
    taken.sort_by_key(|request| request.id);
    Ok(taken)
}

/// Says how far a taken request is; `false` where whoever asked has taken it back: nobody waits for it any more.
pub fn tell(db: &Connection, id: i64, progress: &str) -> rusqlite::Result<bool> {
    let sql = "UPDATE requests SET progress = ?2 WHERE id = ?1 AND state = 'taken'";
    Ok(db.prepare_cached(sql)?.execute((id, progress))? == 1)
}

/// Takes a request back, also one that is being worked on: the work ends at its next step.
pub fn abandon(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM requests WHERE id = ?1 AND state <> 'done'")?.execute([id]).map(drop)
}

/// Answers a taken request.
pub fn answer(db: &Connection, id: i64, ok: bool, result_json: &str, now: Timestamp) -> rusqlite::Result<()> {
    const SQL: &str = "UPDATE requests SET state = 'done', ok = ?2, result = ?3, done_at = ?4
        WHERE id = ?1 AND state = 'taken'";
    exactly_one(db.prepare_cached(SQL)?.execute((id, ok, result_json, ms(now)))?)
}

/// Takes a request back that nobody has taken; says whether it was still there.
pub fn withdraw(db: &Connection, id: i64) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM requests WHERE id = ?1 AND state = 'pending'";
    Ok(db.prepare_cached(sql)?.execute([id])? > 0)
}

/// Where a request stands.
pub fn poll(db: &Connection, id: i64) -> rusqlite::Result<RequestState> {
    let found = db
        .prepare_cached("SELECT state, progress, ok, result FROM requests WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(match row.get_ref("state")?.as_str()? {
                "pending" => RequestState::Pending,
                "taken" => RequestState::Taken { progress: row.get("progress")? },
                _ => RequestState::Done { ok: row.get("ok")?, result: row.get("result")? },
            })
        })
        .optional()?;
    Ok(found.unwrap_or(RequestState::Unknown))
}

/// Answers what waited too long, and forgets answers that nobody fetches any more.
pub fn expire(db: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    const LATE: &str = "UPDATE requests SET state = 'done', ok = 0, done_at = ?2,
            result = '{\"error\":\"nobody took the request in time\"}'
        WHERE state = 'pending' AND created_at < ?1";
    let before = |age: SignedDuration| ms(now.saturating_sub(age).unwrap_or(Timestamp::MIN));
    db.prepare_cached(LATE)?.execute((before(TAKEN_WITHIN), ms(now)))?;
    db.prepare_cached("DELETE FROM requests WHERE state = 'done' AND done_at < ?1")?
        .execute([before(ANSWER_KEPT)])
        .map(drop)
}

/// Answers what an earlier process had taken and can't answer any more; how many.
pub(super) fn fail_taken(db: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    const SQL: &str = "UPDATE requests SET state = 'done', ok = 0, done_at = ?1,
            result = '{\"error\":\"the service was restarted\"}'
        WHERE state = 'taken'";
    Ok(db.prepare_cached(SQL)?.execute([ms(now)])? as u64)
}
