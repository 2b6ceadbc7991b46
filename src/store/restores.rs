//! Leads created again from their copies: sending → restored, or unknown → restored or missing, or failed.
//!
//! The invariants: a deletion is restored once at most; *sending* is committed before the request leaves, so a process
//! that dies leaves a row that says what has to be looked up; the new lead's protection is committed with its id.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use super::columns::{at, at_opt, ms, words};
use super::ids::{JobId, RunId};
use super::jobs;
use super::protections::{self, ProtectionReason};
use crate::core::lead::LeadId;

words! {
    /// Where a restore stands.
    RestoreState {
        /// Its request was or is about to be sent.
        Sending = "sending",
        /// No trustworthy answer came: the lead is looked up before anything else.
        Unknown = "unknown",
        /// The lookup showed no such lead; it may be one that we may not read.
        Missing = "missing",
        /// The lead is there.
        Restored = "restored",
        /// It was certainly not created.
        Failed = "failed",
    }
}

/// How long a restored lead is protected from every rule.
pub const PROTECTED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The deleted lead.
    pub lead_id: LeadId,
    /// The job that deleted it.
    pub job_id: JobId,
    /// What the new lead carries.
    pub marker: String,
    /// Where it stands.
    pub state: RestoreState,
    /// The new lead.
    pub new_lead_id: Option<LeadId>,
    /// When its last request was sent.
    pub sent_at: Timestamp,
}

const COLUMNS: &str = "lead_id, job_id, marker, state, new_lead_id, sent_at";

fn read(row: &Row<'_>) -> rusqlite::Result<Restore> {
    Ok(Restore {
        lead_id: row.get("lead_id")?,
        job_id: row.get("job_id")?,
        marker: row.get("marker")?,
        state: row.get("state")?,
        new_lead_id: row.get("new_lead_id")?,
        sent_at: at(row, "sent_at")?,
    })
}

/// The restore of a deletion.
pub fn of_job(db: &Connection, lead: LeadId, job: JobId) -> rusqlite::Result<Option<Restore>> {
    let sql = format!("SELECT {COLUMNS} FROM restores WHERE lead_id = ?1 AND job_id = ?2");
    db.prepare_cached(&sql)?.query_row((lead, job), read).optional()
}

/// A restore as a lead's history tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreLine {
    /// The deleted lead.
    pub lead_id: LeadId,
    /// The job that deleted it.
    pub job_id: JobId,
    /// Where it stands.
    pub state: RestoreState,
    /// The new lead.
    pub new_lead_id: Option<LeadId>,
    /// What the portal said, where it did not create the lead.
    pub error: Option<String>,
    /// When its last request was sent.
    pub sent_at: Timestamp,
    /// When its outcome was known.
    pub finished_at: Option<Timestamp>,
}

impl RestoreLine {
    /// What came of it, for people.
    pub fn says(&self) -> String {
        let error = self.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        match (self.state, self.new_lead_id) {
            (RestoreState::Restored, Some(new)) => format!("restored as lead {new}"),
            (RestoreState::Restored, None) => "restored".to_owned(),
            (RestoreState::Sending, _) => "its request is on its way".to_owned(),
            (RestoreState::Unknown, _) => format!("its answer was lost, and it is looked up{error}"),
            (RestoreState::Missing, _) => format!(
                "it may have been created, but the portal doesn't show it: `restore {} --again` creates it{error}",
                self.lead_id
            ),
            (RestoreState::Failed, _) => format!("not created{error}"),
        }
    }
}

/// The latest restores of a lead, the last first: those of its deletions, and the one that created it.
pub fn of_lead(db: &Connection, lead: LeadId, limit: u32) -> rusqlite::Result<Vec<RestoreLine>> {
    const SQL: &str = "SELECT lead_id, job_id, state, new_lead_id, error, sent_at, finished_at FROM restores
        WHERE lead_id = ?1 OR new_lead_id = ?1 ORDER BY id DESC LIMIT ?2";
    db.prepare_cached(SQL)?
        .query_map((lead, limit), |row| {
            Ok(RestoreLine {
                lead_id: row.get("lead_id")?,
                job_id: row.get("job_id")?,
                state: row.get("state")?,
                new_lead_id: row.get("new_lead_id")?,
                error: row.get("error")?,
                sent_at: at(row, "sent_at")?,
                finished_at: at_opt(row, "finished_at")?,
            })
        })?
        .collect()
}

/// The restore whose lead carries this.
pub fn by_marker(db: &Connection, marker: &str) -> rusqlite::Result<Option<Restore>> {
    let sql = format!("SELECT {COLUMNS} FROM restores WHERE marker = ?1");
    db.prepare_cached(&sql)?.query_row([marker], read).optional()
}

/// Whether the portal may be creating a lead for us now.
pub fn in_flight(db: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM restores WHERE state IN ('sending', 'unknown'))";
    db.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Those that have to be looked up: unknown, and sent before.
pub fn to_look_up(db: &Connection, sent_before: Timestamp, limit: u32) -> rusqlite::Result<Vec<Restore>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM restores WHERE state = 'unknown' AND sent_at <= ?1 ORDER BY sent_at LIMIT ?2"
    );
    db.prepare_cached(&sql)?.query_map((ms(sent_before), limit), read)?.collect()
}

/// Records that a request that creates the lead is about to be sent; `false` where one may be under way, the lead is
/// there already, or (unless `again`) a lookup could not tell. Commit it before the first byte leaves.
pub fn begin(
    db: &Connection,
    (lead, job, marker): (LeadId, JobId, &str),
    again: bool,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    const SQL: &str = "INSERT INTO restores (lead_id, job_id, marker, state, sent_at)
        VALUES (?1, ?2, ?3, 'sending', ?4)
        ON CONFLICT (lead_id, job_id) DO UPDATE SET state = 'sending', sent_at = ?4, error = NULL, finished_at = NULL
        WHERE state = 'failed' OR (state = 'missing' AND ?5)";
    Ok(db.prepare_cached(SQL)?.execute((lead, job, marker, ms(now), again))? == 1)
}

/// Records that the next request is about to be sent after the portal refused one.
pub fn next_try(db: &Connection, marker: &str, now: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE restores SET sent_at = ?2 WHERE marker = ?1 AND state = 'sending'";
    super::columns::exactly_one(db.prepare_cached(sql)?.execute((marker, ms(now)))?)
}

/// Records the new lead, protects it from every rule, and spares a job that a run enqueued meanwhile.
pub fn restored(
    db: &Connection,
    (lead, job, marker): (LeadId, JobId, &str),
    new: LeadId,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const SQL: &str =
        "INSERT INTO restores (lead_id, job_id, marker, state, new_lead_id, sent_at, finished_at)
        VALUES (?1, ?2, ?3, 'restored', ?4, ?5, ?5)
        ON CONFLICT (lead_id, job_id) DO UPDATE
        SET state = 'restored', new_lead_id = ?4, error = NULL, finished_at = ?5 WHERE state <> 'restored'";
    db.prepare_cached(SQL)?.execute((lead, job, marker, new, ms(now)))?;
    protect(db, new, now)
}

/// Protects a lead that came back from every rule, and spares its waiting job.
pub fn protect(db: &Connection, lead: LeadId, now: Timestamp) -> rusqlite::Result<()> {
    let until = now.checked_add(PROTECTED_FOR).unwrap_or(Timestamp::MAX);
    protections::protect_lead(db, lead, None, ProtectionReason::Restored, until, now)?;
    jobs::spare_waiting_of_lead(db, lead, "protected: restored", now).map(drop)
}

/// Ends the sending of a restore in another way.
pub fn ended(
    db: &Connection,
    marker: &str,
    state: RestoreState,
    error: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const SQL: &str = "UPDATE restores SET state = ?2, error = ?3, finished_at = ?4
        WHERE marker = ?1 AND state IN ('sending', 'unknown')";
    let finished = (state != RestoreState::Unknown).then(|| ms(now));
    db.prepare_cached(SQL)?.execute((marker, state, error, finished)).map(drop)
}

/// What an earlier process was sending may have been created. Only the holder of the [`super::Lock`] may call it.
pub fn sending_to_unknown(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE restores SET state = 'unknown' WHERE state = 'sending'")?.execute([]).map(drop)
}

/// Which deletions are to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The last deletions of these leads.
    Leads(Vec<LeadId>),
    /// All of a run.
    Run(RunId),
    /// All of a rule since a time.
    Rule {
        /// Its name.
        rule: String,
        /// Deletions from then on.
        since: Timestamp,
    },
}

/// A deletion that may be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undoable {
    /// The deleted lead.
    pub lead_id: LeadId,
    /// The job that deleted it; `None` where no job of this database did.
    pub job_id: Option<JobId>,
    /// The rule, where the job is still in the history.
    pub rule: Option<String>,
    /// When it was deleted, where that is certain.
    pub deleted_at: Option<Timestamp>,
    /// The copy's fields as JSON, and when it was taken.
    pub copy: Option<(String, Timestamp)>,
}

/// The deletions that are meant, without their copies' fields: lead ids in the order of their jobs; `limit` at most.
pub fn select(db: &Connection, which: &Which, limit: u32) -> rusqlite::Result<Vec<LeadId>> {
    const RUN: &str = "SELECT lead_id FROM jobs WHERE run_id = ?1 AND outcome = 'deleted' GROUP BY lead_id
        ORDER BY max(id) LIMIT ?2";
    const RULE: &str =
        "SELECT lead_id FROM jobs WHERE rule = ?1 AND outcome = 'deleted' AND finished_at >= ?2
        GROUP BY lead_id ORDER BY max(id) LIMIT ?3";
    match which {
        Which::Leads(leads) => Ok(leads.iter().copied().take(limit as usize).collect()),
        Which::Run(run) => db.prepare_cached(RUN)?.query_map((run, limit), |row| row.get(0))?.collect(),
        Which::Rule { rule, since } => {
            db.prepare_cached(RULE)?.query_map((rule, ms(*since), limit), |row| row.get(0))?.collect()
        }
    }
}

/// What there is to restore a lead from. The copy is that of its last deletion, and outlives the job's row.
pub fn undoable(db: &Connection, lead: LeadId) -> rusqlite::Result<Undoable> {
    const COPY: &str = "SELECT copies.job_id, copies.fields, copies.taken_at, copies.deleted_at, jobs.rule
        FROM copies LEFT JOIN jobs ON jobs.id = copies.job_id WHERE copies.lead_id = ?1";
    const JOB: &str = "SELECT id, rule, finished_at FROM jobs WHERE lead_id = ?1 AND outcome = 'deleted'
        ORDER BY id DESC LIMIT 1";
    let copied = db
        .prepare_cached(COPY)?
        .query_row([lead], |row| {
            Ok(Undoable {
                lead_id: lead,
                job_id: Some(row.get("job_id")?),
                rule: row.get("rule")?,
                deleted_at: at_opt(row, "deleted_at")?,
                copy: Some((row.get("fields")?, at(row, "taken_at")?)),
            })
        })
        .optional()?;
    if let Some(copied) = copied {
        return Ok(copied);
    }
    let deleted = db
        .prepare_cached(JOB)?
        .query_row([lead], |row| {
            Ok(Undoable {
                lead_id: lead,
                job_id: Some(row.get("id")?),
                rule: Some(row.get("rule")?),
                deleted_at: at_opt(row, "finished_at")?,
                copy: None,
            })
        })
        .optional()?;
    Ok(deleted.unwrap_or(Undoable { lead_id: lead, job_id: None, rule: None, deleted_at: None, copy: None }))
}
