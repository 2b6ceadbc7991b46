//! Which jobs the worker gets. A claim is committed before the first byte leaves for the portal.

use jiff::Timestamp;
use rusqlite::Connection;

use super::cap::cap_left;
use super::job::{self, Job};
use super::list::waiting_rules;
use crate::store::columns::{exactly, id_list, ms, signed};
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

/// Due, and counted against the cap already by the attempt whose outcome is unknown.
pub(super) const READY_AGAIN: &str = "SELECT due_at, id FROM jobs
    WHERE state = 'waiting' AND unknown_before = 1 AND due_at <= ?1
        AND rule NOT IN (SELECT value FROM json_each(?3)) ORDER BY due_at, id LIMIT ?2";

/// Due, of one rule.
pub(super) const READY: &str = "SELECT due_at, id FROM jobs
    WHERE state = 'waiting' AND unknown_before = 0 AND rule = ?1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3";

/// Unknown jobs that may be read again.
pub(super) const UNKNOWN: &str = "SELECT settle_at, id FROM jobs
    WHERE phase = 'unknown' AND settle_at <= ?1
        AND rule NOT IN (SELECT value FROM json_each(?3)) ORDER BY settle_at, id LIMIT ?2";

/// Claims up to `limit` due jobs in the order in which they are due.
///
/// A rule in `caps` gets what its `deletes_per_day` leaves: the cap less what it deleted in the last 24 h, less what runs
/// or may have been deleted by an attempt with unknown outcome. A rule whose cap is 0 gets nothing at all, the jobs of
/// such attempts included. A rule that is not in `caps` is claimed without a cap; the worker spares its jobs, since the
/// rule is gone or only plans.
pub fn claim_due(
    db: &Connection,
    now: Timestamp,
    limit: usize,
    caps: &[(String, u64)],
) -> rusqlite::Result<Option<Claim>> {
    const SQL: &str = "UPDATE jobs SET state = 'running', phase = 'claimed', claim = ?2, claimed_at = ?3
        WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'waiting'";
    let mut due: Vec<(i64, JobId)> = Vec::new();
    collect(db, READY_AGAIN, (ms(now), rows(limit), barred(caps)), &mut due)?;
    for rule in waiting_rules(db)? {
        let at_most = match caps.iter().find(|(name, _)| *name == rule) {
            Some((_, cap)) => signed(cap_left(db, &rule, *cap, now)?).min(rows(limit)),
            None => rows(limit),
        };
        if at_most > 0 {
            collect(db, READY, (&rule, ms(now), at_most), &mut due)?;
        }
    }
    due.sort_unstable();
    due.truncate(limit);
    claim(db, &due, SQL, now)
}

/// Claims up to `limit` unknown jobs whose `settle_at` has come, so that their leads are read again. They stay marked:
/// a lead that is gone was deleted by us. A rule whose cap is 0 gets nothing: what is still there would be deleted.
pub fn claim_unknown(
    db: &Connection,
    now: Timestamp,
    limit: usize,
    caps: &[(String, u64)],
) -> rusqlite::Result<Option<Claim>> {
    const SQL: &str = "UPDATE jobs SET phase = 'claimed', claim = ?2, claimed_at = ?3, settle_at = NULL,
            sent_at = NULL
        WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'running' AND phase = 'unknown'";
    let mut due = Vec::new();
    collect(db, UNKNOWN, (ms(now), rows(limit), barred(caps)), &mut due)?;
    claim(db, &due, SQL, now)
}

/// The rules that get nothing, as a JSON list.
fn barred(caps: &[(String, u64)]) -> String {
    caps.iter()
        .filter(|(_, cap)| *cap == 0)
        .map(|(rule, _)| rule.as_str())
        .collect::<serde_json::Value>()
        .to_string()
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
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
    control::bump(db, "claims", "last", 1)?;
    let id = ClaimId(signed(control::counter(db, "claims", "last")?));
    let ids = id_list(due.iter().map(|(_, job)| *job));
    let claimed = db.prepare_cached(sql)?.execute((ids, id, ms(now)))?;
    exactly(due.len(), claimed)?;
    let mut jobs = db
        .prepare_cached(&format!("SELECT {} FROM jobs WHERE claim = ?1", job::COLUMNS))?
        .query_map([id], job::read)?
        .collect::<rusqlite::Result<Vec<Job>>>()?;
    exactly(due.len(), jobs.len())?;
    // An unknown job is due when it may be read again.
    jobs.sort_unstable_by_key(|job| due.iter().position(|(_, id)| *id == job.id));
    Ok(Some(Claim { id, jobs }))
}

const BACK: &str = "state = 'waiting', phase = NULL, claim = NULL, claimed_at = NULL";

/// Gives back what a claim still has and has not sent: those jobs wait again, due as before. How many.
pub fn release_claim(db: &Connection, claim: ClaimId) -> rusqlite::Result<u64> {
    let sql = format!("UPDATE jobs SET {BACK} WHERE state = 'running' AND phase = 'claimed' AND claim = ?1");
    Ok(db.prepare_cached(&sql)?.execute([claim])? as u64)
}

/// Gives back these jobs of a claim, as far as they were not sent.
pub fn release_some(db: &Connection, claim: ClaimId, jobs: &[JobId]) -> rusqlite::Result<u64> {
    let sql = format!(
        "UPDATE jobs SET {BACK} WHERE id = ?1 AND state = 'running' AND phase = 'claimed' AND claim = ?2"
    );
    let mut update = db.prepare_cached(&sql)?;
    jobs.iter().map(|job| Ok(update.execute((job, claim))? as u64)).sum()
}

/// Gives back what an earlier process had claimed and not sent; how many.
pub(in crate::store) fn release_all_claimed(db: &Connection) -> rusqlite::Result<u64> {
    let sql = format!("UPDATE jobs SET {BACK} WHERE state = 'running' AND phase = 'claimed'");
    Ok(db.prepare_cached(&sql)?.execute([])? as u64)
}

#[cfg(test)]
mod tests {
    use super::super::cap;
    use super::super::list::NEXT_RULE;
    use super::*;

    /// What the planner says about a statement.
    fn plan(db: &Connection, sql: &str) -> String {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let unbound = rusqlite::params_from_iter(vec![rusqlite::types::Null; statement.parameter_count()]);
        let lines = statement.query_map(unbound, |row| row.get::<_, String>("detail")).unwrap();
        lines.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    }

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        crate::store::open::MIGRATIONS.iter().for_each(|step| db.execute_batch(step).unwrap());
        db
    }

    #[test]
    fn what_a_claim_counts_stands_in_an_index_whose_rows_are_not_read() {
        let db = database();
        for (sql, index) in
            [(NEXT_RULE, "jobs_ready"), (cap::DELETED, "jobs_deleted"), (cap::RUNNING, "jobs_running")]
        {
            let plan = plan(&db, sql);
            assert!(plan.contains(&format!("SEARCH jobs USING COVERING INDEX {index} (")), "{plan}");
        }
    }

    #[test]
    fn claiming_reads_only_ready_rows_in_the_order_of_an_index() {
        let db = database();
        for (sql, index) in
            [(READY, "jobs_ready"), (READY_AGAIN, "jobs_ready_again"), (UNKNOWN, "jobs_unknown")]
        {
            let plan = plan(&db, sql);
            assert!(plan.starts_with("SEARCH jobs USING"), "{plan}");
            assert!(plan.contains(&format!("INDEX {index} (")), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}
