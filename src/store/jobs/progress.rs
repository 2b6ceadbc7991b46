//! How far the jobs of a rule are, for whoever waits for them.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde::Serialize;

use super::job::JobState;
use crate::core::outcome::Outcome;
use crate::store::columns::{from_ms, ms};

/// The live jobs of one rule, and those that ended since a moment, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RuleProgress {
    /// Waiting, and due.
    pub due: u64,
    /// Waiting, and due later.
    pub later: u64,
    /// When the first of the later ones is due.
    pub next_due: Option<Timestamp>,
    /// Claimed, sent or unknown.
    pub running: u64,
    /// Ended as deleted.
    pub deleted: u64,
    /// Ended as already gone.
    pub already_gone: u64,
    /// Ended as spared.
    pub spared: u64,
    /// Ended as cancelled.
    pub cancelled: u64,
    /// Ended as failed.
    pub failed: u64,
}

impl RuleProgress {
    /// How many are done, however they ended.
    pub fn done(&self) -> u64 {
        self.deleted + self.already_gone + self.spared + self.cancelled + self.failed
    }
}

/// Counts the jobs of a rule at `now`, whichever run enqueued them; of those that are done, the ones that ended at
/// `since` or later.
pub fn progress_of_rule(
    db: &Connection,
    rule: &str,
    since: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<RuleProgress> {
    // One part for each index: the table also holds a year of finished jobs, and whoever waits asks often.
    const SQL: &str =
        "SELECT state, NULL AS outcome, due_at > ?2 AS later, count(*) AS jobs, min(due_at) AS first_due
            FROM jobs WHERE state = 'waiting' AND unknown_before = 0 AND rule = ?1 GROUP BY later
        UNION ALL
        SELECT state, NULL, due_at > ?2 AS later, count(*), min(due_at)
            FROM jobs WHERE state = 'waiting' AND unknown_before = 1 AND rule = ?1 GROUP BY later
        UNION ALL
        SELECT state, NULL, 0, count(*), min(due_at)
            FROM jobs WHERE state = 'running' AND rule = ?1 GROUP BY state
        UNION ALL
        SELECT state, outcome, 0, count(*), min(due_at)
            FROM jobs WHERE state = 'done' AND finished_at >= ?3 AND rule = ?1 GROUP BY outcome";
    let mut progress = RuleProgress::default();
    let mut find = db.prepare_cached(SQL)?;
    let mut rows = find.query((rule, ms(now), ms(since)))?;
    while let Some(row) = rows.next()? {
        let jobs: u64 = row.get::<_, i64>("jobs")?.unsigned_abs();
        let outcome: Option<Outcome> = row.get("outcome")?;
        let slot = match (row.get::<_, JobState>("state")?, outcome) {
            (_, Some(Outcome::Deleted)) => &mut progress.deleted,
            (_, Some(Outcome::AlreadyGone)) => &mut progress.already_gone,
            (_, Some(Outcome::Spared)) => &mut progress.spared,
            (_, Some(Outcome::Cancelled)) => &mut progress.cancelled,
            (_, Some(Outcome::Failed)) => &mut progress.failed,
            (JobState::Waiting, None) if row.get("later")? => {
                let first = from_ms(row.get("first_due")?)?;
                progress.next_due = Some(progress.next_due.map_or(first, |known| known.min(first)));
                &mut progress.later
            }
            (JobState::Waiting | JobState::Done, None) => &mut progress.due,
            (JobState::Running, None) => &mut progress.running,
        };
        *slot += jobs;
    }
    Ok(progress)
}

/// How many deletions of a rule count against its `deletes_per_day` now: those of the last 24 hours, and those that run
/// or may have happened.
pub fn used_today(db: &Connection, rule: &str, now: Timestamp) -> rusqlite::Result<u64> {
    const SQL: &str = "SELECT
        (SELECT count(*) FROM jobs WHERE outcome = 'deleted' AND rule = ?1 AND finished_at > ?2)
        + (SELECT count(*) FROM jobs WHERE state = 'running' AND rule = ?1)
        + (SELECT count(*) FROM jobs WHERE state = 'waiting' AND unknown_before = 1 AND rule = ?1)";
    let since = now.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
    db.prepare_cached(SQL)?.query_row((rule, ms(since)), |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
}
