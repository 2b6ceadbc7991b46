//! Every finished job with its run and its attempts, by id, a page at a time. Reads only.

use jiff::Timestamp;
use rusqlite::Connection;
use serde::Serialize;

use super::columns::{at, at_opt, ms};
use super::ids::{JobId, RunId};
use crate::core::lead::LeadId;
use crate::core::outcome::Outcome;

/// A finished job as the audit tells it: ids, names, times and the portal's words, nothing personal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The job.
    pub id: JobId,
    /// The lead.
    pub lead_id: LeadId,
    /// The rule that selected it.
    pub rule: String,
    /// The run that found it.
    pub run_id: RunId,
    /// What started the run.
    pub trigger: String,
    /// When the run began.
    pub run_started_at: Timestamp,
    /// How the job ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<String>,
    /// How many deletions were sent.
    pub attempts: u32,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it might be claimed.
    pub due_at: Timestamp,
    /// When its first deletion was sent.
    pub first_sent_at: Option<Timestamp>,
    /// When its last one was.
    pub last_sent_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The portal's last words about it.
    pub last_error: Option<String>,
    /// The lead that was created from its copy.
    pub restored_as: Option<LeadId>,
}

/// Some lines, and after which id the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The lines, by id. A page may be empty and not the last: it looked at `rows` jobs, none of which was meant.
    pub lines: Vec<Line>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<JobId>,
}

/// The finished jobs after `after` among the next `rows` jobs. `since` leaves out what ended before it.
pub fn page(db: &Connection, after: JobId, since: Option<Timestamp>, rows: u32) -> rusqlite::Result<Page> {
    const LAST: &str =
        "SELECT max(id), count(*) FROM (SELECT id FROM jobs WHERE id > ?1 ORDER BY id LIMIT ?2)";
    const SQL: &str = "SELECT jobs.id, lead_id, jobs.rule, run_id, runs.\"trigger\", runs.started_at, outcome, reason,
            attempts, created_at, due_at, jobs.finished_at, last_error,
            (SELECT min(sent_at) FROM attempts WHERE job_id = jobs.id) AS first_sent_at,
            (SELECT max(sent_at) FROM attempts WHERE job_id = jobs.id) AS last_sent_at,
            (SELECT new_lead_id FROM restores WHERE lead_id = jobs.lead_id AND job_id = jobs.id) AS restored_as
        FROM jobs JOIN runs ON runs.id = jobs.run_id
        WHERE jobs.id > ?1 AND jobs.id <= ?2 AND jobs.state = 'done' AND jobs.finished_at >= ?3 ORDER BY jobs.id";
    let (last, seen): (Option<JobId>, u32) =
        db.prepare_cached(LAST)?.query_row((after, rows), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(Page { lines: Vec::new(), next: None }) };
    let since = since.map_or(i64::MIN, ms);
    let lines = db
        .prepare_cached(SQL)?
        .query_map((after, last, since), |row| {
            Ok(Line {
                id: row.get("id")?,
                lead_id: row.get("lead_id")?,
                rule: row.get("rule")?,
                run_id: row.get("run_id")?,
                trigger: row.get("trigger")?,
                run_started_at: at(row, "started_at")?,
                outcome: row.get("outcome")?,
                reason: row.get("reason")?,
                attempts: row.get("attempts")?,
                created_at: at(row, "created_at")?,
                due_at: at(row, "due_at")?,
                first_sent_at: at_opt(row, "first_sent_at")?,
                last_sent_at: at_opt(row, "last_sent_at")?,
                finished_at: at(row, "finished_at")?,
                last_error: row.get("last_error")?,
                restored_as: row.get("restored_as")?,
            })
        })?
        .collect::<rusqlite::Result<Vec<Line>>>()?;
    Ok(Page { lines, next: (seen == rows).then_some(last) })
}
