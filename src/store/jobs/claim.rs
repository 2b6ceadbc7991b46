//! Which jobs the worker gets. A claim is committed before the first byte leaves for the portal.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

use super::job::{self, Job};
use super::list::waiting_rules;
use crate::store::columns::{count_of, ms, signed};
use crate::store::control;
use crate::store::ids::{ClaimId, JobId};

/// Jobs that the worker has claimed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The claim, to be named in every change of these jobs.
    pub id: ClaimId,
    /// The jobs, the longest due first.
    pub jobs: Vec<Job>,
}

/// The window of `deletes_per_day`.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Due, and counted against the cap already by the attempt whose outcome is unknown.
pub(super) const READY_AGAIN: &str = "SELECT due_at, id FROM jobs
    WHERE state = 'waiting' AND unknown_before = 1 AND due_at <= ?1 ORDER BY due_at, id LIMIT ?2";

/// Due, of one rule.
pub(super) const READY: &str = "SELECT due_at, id FROM jobs
    WHERE state = 'waiting' AND unknown_before = 0 AND rule = ?1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3";

/// Claims up to `limit` due jobs in the order in which they are due.
///
/// A rule in `caps` gets what its `deletes_per_day` leaves: the cap less what it deleted in the last 24 h, less what runs
/// or may have been deleted by an attempt with unknown outcome. A rule that is not in `caps` is claimed without a cap;
/// the worker spares its jobs, since the rule is gone or only plans.
pub fn claim_due(
    db: &Connection,
    now: Timestamp,
    limit: usize,
    caps: &[(String, u64)],
) -> rusqlite::Result<Option<Claim>> {
    let at_most = |limit: u64| signed(limit.min(limit_u64(usize::MAX)));
    let limit_rows = limit_u64(limit);
    let mut due: Vec<(i64, JobId)> = Vec::new();
    collect(db, READY_AGAIN, (ms(now), at_most(limit_rows)), &mut due)?;
    for rule in waiting_rules(db)? {
        let cap = caps.iter().find(|(name, _)| *name == rule).map(|(_, cap)| *cap);
        let allowance = match cap {
            Some(cap) => cap.saturating_sub(used_of_cap(db, &rule, cap, now)?),
            None => u64::MAX,
        };
        let rows = allowance.min(limit_rows);
        if rows > 0 {
            collect(db, READY, (&rule, ms(now), at_most(rows)), &mut due)?;
        }
    }
    due.sort_unstable();
    due.truncate(limit);
    const SQL: &str = "UPDATE jobs SET state = 'running', phase = 'claimed', claim = ?2, claimed_at = ?3
        WHERE id = ?1 AND state = 'waiting'";
    claim(db, &due, SQL, now)
}

/// Claims up to `limit` unknown jobs whose `settle_at` has come, so that their leads are read again. They stay marked:
/// a lead that is gone was deleted by us.
pub fn claim_unknown(db: &Connection, now: Timestamp, limit: usize) -> rusqlite::Result<Option<Claim>> {
    const SQL: &str = "UPDATE jobs SET phase = 'claimed', claim = ?2, claimed_at = ?3, settle_at = NULL,
            sent_at = NULL
        WHERE id = ?1 AND state = 'running' AND phase = 'unknown'";
    let mut due = Vec::new();
    collect(db, UNKNOWN, (ms(now), signed(limit_u64(limit))), &mut due)?;
    claim(db, &due, SQL, now)
}

/// Unknown jobs that may be read again.
pub(super) const UNKNOWN: &str = "SELECT settle_at, id FROM jobs WHERE phase = 'unknown' AND settle_at <= ?1 ORDER BY settle_at, id LIMIT ?2";

fn limit_u64(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

fn collect(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    due: &mut Vec<(i64, JobId)>,
) -> rusqlite::Result<()> {
    for found in db.prepare_cached(sql)?.query_map(params, |row| Ok((row.get(0)?, row.get(1)?)))? {
        due.push(found?);
    }
    Ok(())
}

/// How much of a rule's cap is used up; counting stops at the cap.
fn used_of_cap(db: &Connection, rule: &str, cap: u64, now: Timestamp) -> rusqlite::Result<u64> {
    const DELETED: &str = "SELECT count(*) FROM (SELECT 1 FROM jobs
        WHERE outcome = 'deleted' AND rule = ?1 AND finished_at > ?2 LIMIT ?3)";
    const RUNNING: &str = "SELECT count(*) FROM jobs WHERE state = 'running' AND rule = ?1";
    const UNKNOWN_WAITING: &str =
        "SELECT count(*) FROM jobs WHERE state = 'waiting' AND unknown_before = 1 AND rule = ?1";
    let since = ms(now.saturating_sub(DAY).unwrap_or(Timestamp::MIN));
    let deleted = count_of(db, DELETED, (rule, since, signed(cap)))?;
    if deleted >= cap {
        return Ok(cap);
    }
    Ok(deleted + count_of(db, RUNNING, [rule])? + count_of(db, UNKNOWN_WAITING, [rule])?)
}

fn claim(
    db: &Connection,
    due: &[(i64, JobId)],
    sql: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<Claim>> {
    if due.is_empty() {
        // Nothing is written: an empty claim that counted as a change would wake the worker to try again at once.
        return Ok(None);
    }
    let id = ClaimId(signed(control::bump(db, "claims", "last", 1)?));
    let sql = format!("{sql} RETURNING {}", job::COLUMNS);
    let mut update = db.prepare_cached(&sql)?;
    let jobs = due
        .iter()
        .map(|(_, job)| update.query_row((job, id, ms(now)), job::read))
        .collect::<rusqlite::Result<Vec<Job>>>()?;
    Ok(Some(Claim { id, jobs }))
}

const BACK: &str = "state = 'waiting', phase = NULL, claim = NULL, claimed_at = NULL";

/// Gives back what a claim still has and has not sent: those jobs wait again, due as before. How many.
pub fn release_claim(db: &Connection, claim: ClaimId) -> rusqlite::Result<u64> {
    let sql = format!("UPDATE jobs SET {BACK} WHERE state = 'running' AND phase = 'claimed' AND claim = ?1");
    Ok(db.prepare_cached(&sql)?.execute([claim])? as u64)
}

/// Gives back what an earlier process had claimed and not sent; how many.
pub(in crate::store) fn release_all_claimed(db: &Connection) -> rusqlite::Result<u64> {
    let sql = format!("UPDATE jobs SET {BACK} WHERE state = 'running' AND phase = 'claimed'");
    Ok(db.prepare_cached(&sql)?.execute([])? as u64)
}
