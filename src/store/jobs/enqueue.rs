//! New jobs, and the grace period of waiting ones.

use jiff::Timestamp;
use rusqlite::Connection;

use crate::core::lead::LeadId;
use crate::store::columns::{ms, signed};
use crate::store::ids::RunId;

/// What became of the leads of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// Leads that got a job.
    pub enqueued: u64,
    /// Leads that have a job already, of whichever rule.
    pub already_waiting: u64,
}

/// Enqueues the deletion of these leads, those apart that have a job which is not done. Call it in one closure with the
/// end of the run: a run is enqueued whole or not at all.
pub fn enqueue(
    db: &Connection,
    run: RunId,
    rule: &str,
    leads: &[LeadId],
    grace_seconds: u64,
    due_at: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<Enqueued> {
    const SQL: &str = "INSERT INTO jobs (lead_id, rule, run_id, state, due_at, created_at, grace_seconds)
        VALUES (?1, ?2, ?3, 'waiting', ?4, ?5, ?6) ON CONFLICT (lead_id) WHERE state <> 'done' DO NOTHING";
    let mut insert = db.prepare_cached(SQL)?;
    let mut result = Enqueued::default();
    for lead in leads {
        match insert.execute((lead, rule, run, ms(due_at), ms(now), signed(grace_seconds)))? {
            0 => result.already_waiting += 1,
            _ => result.enqueued += 1,
        }
    }
    Ok(result)
}

/// After a change of a rule's grace period: a waiting job is due at the later of what it was and creation + the new
/// grace. How many moved.
pub fn extend_grace(db: &Connection, rule: &str, grace_seconds: u64) -> rusqlite::Result<u64> {
    const SQL: &str = "UPDATE jobs SET due_at = created_at + ?2 * 1000, grace_seconds = ?2
        WHERE state = 'waiting' AND unknown_before = 0 AND rule = ?1 AND due_at < created_at + ?2 * 1000";
    /// A hundred years: an age beyond it would overflow the sum and means "never" all the same.
    const MAX_GRACE: u64 = 100 * 366 * 24 * 3600;
    Ok(db.prepare_cached(SQL)?.execute((rule, signed(grace_seconds.min(MAX_GRACE))))? as u64)
}
