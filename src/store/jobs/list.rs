//! What is asked about jobs.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use super::job::{self, Job};
use crate::core::lead::LeadId;
use crate::core::outcome::Outcome;
use crate::store::columns::{at, at_opt, count_of, from_ms, ms, unsigned};
use crate::store::control;
use crate::store::ids::{ClaimId, JobId};

/// The counter of finished jobs by outcome, those included whose rows were pruned.
pub(super) const FINISHED: &str = "jobs_finished";

/// The job of that id.
pub fn get(db: &Connection, id: JobId) -> rusqlite::Result<Option<Job>> {
    let sql = format!("SELECT {} FROM jobs WHERE id = ?1", job::COLUMNS);
    db.prepare_cached(&sql)?.query_row([id], job::read).optional()
}

/// Which of these leads have a job that is not done.
pub fn live_jobs(db: &Connection, leads: &[LeadId]) -> rusqlite::Result<HashMap<LeadId, Job>> {
    let sql = format!("SELECT {} FROM jobs WHERE lead_id = ?1 AND state <> 'done'", job::COLUMNS);
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = HashMap::new();
    for lead in leads {
        if let Some(job) = statement.query_row([lead], job::read).optional()? {
            found.insert(*lead, job);
        }
    }
    Ok(found)
}

/// The leads that jobs of ours deleted at `since` or later.
pub fn deleted_since(db: &Connection, since: Timestamp) -> rusqlite::Result<HashSet<LeadId>> {
    const SQL: &str =
        "SELECT lead_id FROM jobs WHERE state = 'done' AND finished_at >= ?1 AND outcome = 'deleted'";
    db.prepare_cached(SQL)?.query_map([ms(since)], |row| row.get(0))?.collect()
}

/// One deletion that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttemptLine {
    /// Which attempt of its job; one that was given back shares its number with the next.
    pub number: u32,
    /// The claim it was sent under.
    pub claim: ClaimId,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When its result was there.
    pub ended_at: Option<Timestamp>,
    /// The job's outcome, or `retry`, `not_executed`, `repeated`, `unknown`.
    pub result: Option<String>,
    /// The portal's words.
    pub error: Option<String>,
}

/// The most attempts that are returned: with a backoff of up to 2 h, months of a job that is tried again and again.
const MAX_ATTEMPTS: u32 = 1000;

/// The attempts of a job, the first first; of very many the last thousand.
pub fn attempts_of(db: &Connection, job: JobId) -> rusqlite::Result<Vec<AttemptLine>> {
    const SQL: &str = "SELECT number, claim, sent_at, ended_at, result, error FROM attempts
        WHERE job_id = ?1 ORDER BY id DESC LIMIT ?2";
    let mut attempts = db
        .prepare_cached(SQL)?
        .query_map((job, MAX_ATTEMPTS), |row| {
            Ok(AttemptLine {
                number: row.get("number")?,
                claim: row.get("claim")?,
                sent_at: at(row, "sent_at")?,
                ended_at: at_opt(row, "ended_at")?,
                result: row.get("result")?,
                error: row.get("error")?,
            })
        })?
        .collect::<rusqlite::Result<Vec<AttemptLine>>>()?;
    attempts.reverse();
    Ok(attempts)
}

/// How many jobs there are; finished ones whose rows were pruned included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct JobCounts {
    /// Waiting, due or not.
    pub waiting: u64,
    /// With the worker, unknown ones included.
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

impl JobCounts {
    /// The finished jobs of an outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Deleted => self.deleted,
            Outcome::AlreadyGone => self.already_gone,
            Outcome::Spared => self.spared,
            Outcome::Cancelled => self.cancelled,
            Outcome::Failed => self.failed,
        }
    }

    /// Every job there ever was.
    pub fn total(&self) -> u64 {
        self.waiting + self.running + Outcome::ALL.into_iter().map(|outcome| self.of(outcome)).sum::<u64>()
    }

    fn add(&mut self, outcome: Outcome, count: u64) {
        match outcome {
            Outcome::Deleted => self.deleted += count,
            Outcome::AlreadyGone => self.already_gone += count,
            Outcome::Spared => self.spared += count,
            Outcome::Cancelled => self.cancelled += count,
            Outcome::Failed => self.failed += count,
        }
    }
}

/// How many jobs there are.
pub fn counts(db: &Connection) -> rusqlite::Result<JobCounts> {
    let first = count_of(db, "SELECT count(*) FROM jobs WHERE state = 'waiting' AND unknown_before = 0", [])?;
    let again = count_of(db, "SELECT count(*) FROM jobs WHERE state = 'waiting' AND unknown_before = 1", [])?;
    let running = count_of(db, "SELECT count(*) FROM jobs WHERE state = 'running'", [])?;
    let mut counts = JobCounts { waiting: first + again, running, ..JobCounts::default() };
    for (word, count) in control::counters(db, FINISHED)? {
        if let Some(outcome) = Outcome::parse(&word) {
            counts.add(outcome, count);
        }
    }
    Ok(counts)
}

/// The next rule with waiting jobs in the order of names.
pub(super) const NEXT_RULE: &str =
    "SELECT min(rule) FROM jobs WHERE state = 'waiting' AND unknown_before = 0 AND rule > ?1";

/// The rules that have waiting jobs. It jumps from rule to rule in the index, however many jobs each has.
pub fn waiting_rules(db: &Connection) -> rusqlite::Result<Vec<String>> {
    const AGAIN: &str = "SELECT DISTINCT rule FROM jobs WHERE state = 'waiting' AND unknown_before = 1";
    let mut rules: Vec<String> = Vec::new();
    let mut next = db.prepare_cached(NEXT_RULE)?;
    while let Some(rule) =
        next.query_row([rules.last().map_or("", String::as_str)], |row| row.get::<_, Option<String>>(0))?
    {
        rules.push(rule);
    }
    let mut again = db.prepare_cached(AGAIN)?;
    for rule in again.query_map([], |row| row.get(0))? {
        let rule: String = rule?;
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules.sort_unstable();
    Ok(rules)
}

/// The first moment at which there is something to claim: of a waiting job, or of an unknown one to read again. It may
/// lie in the past, where a cap keeps the job from being claimed: see [`super::capped_rules`].
pub fn next_due(db: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    const FIRST: &str =
        "SELECT min(due_at) FROM jobs WHERE state = 'waiting' AND unknown_before = 0 AND rule = ?1";
    const AGAIN: &str = "SELECT min(due_at) FROM jobs WHERE state = 'waiting' AND unknown_before = 1";
    const UNKNOWN: &str = "SELECT min(settle_at) FROM jobs WHERE phase = 'unknown'";
    let one = |row: &rusqlite::Row<'_>| row.get::<_, Option<i64>>(0);
    let mut earliest =
        vec![db.prepare_cached(AGAIN)?.query_row([], one)?, db.prepare_cached(UNKNOWN)?.query_row([], one)?];
    for rule in waiting_rules(db)? {
        earliest.push(db.prepare_cached(FIRST)?.query_row([rule], one)?);
    }
    earliest.into_iter().flatten().min().map(from_ms).transpose()
}

/// How many jobs are due when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DueSummary {
    /// Waiting and due.
    pub due_now: u64,
    /// With the worker.
    pub running: u64,
    /// Due within an hour from now.
    pub within_hour: u64,
    /// Due later than that, within 24 hours from now.
    pub within_day: u64,
    /// Due later than that.
    pub later: u64,
    /// The first due time after now.
    pub next: Option<Timestamp>,
}

/// How many jobs are due when.
pub fn due_summary(db: &Connection, now: Timestamp) -> rusqlite::Result<DueSummary> {
    const SQL: &str = "SELECT count(*) FILTER (WHERE due_at <= ?1) AS due_now,
            count(*) FILTER (WHERE due_at > ?1 AND due_at <= ?2) AS within_hour,
            count(*) FILTER (WHERE due_at > ?2 AND due_at <= ?3) AS within_day,
            count(*) FILTER (WHERE due_at > ?3) AS later,
            min(due_at) FILTER (WHERE due_at > ?1) AS next
        FROM (SELECT due_at FROM jobs WHERE state = 'waiting' AND unknown_before = 0
            UNION ALL SELECT due_at FROM jobs WHERE state = 'waiting' AND unknown_before = 1)";
    let after = |hours| ms(now.saturating_add(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MAX));
    let running = count_of(db, "SELECT count(*) FROM jobs WHERE state = 'running'", [])?;
    db.prepare_cached(SQL)?.query_row((ms(now), after(1), after(24)), |row| {
        Ok(DueSummary {
            due_now: unsigned(row.get("due_now")?),
            running,
            within_hour: unsigned(row.get("within_hour")?),
            within_day: unsigned(row.get("within_day")?),
            later: unsigned(row.get("later")?),
            next: at_opt(row, "next")?,
        })
    })
}
