//! Copies of leads, taken before their deletion; the only place where a lead's texts, phones and e-mails are kept.
//!
//! A copy is written with the record that its deletion is sent, gets `deleted_at` when the deletion is certain, and is
//! removed when the lead turns out to be alive.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::columns::{at, at_opt, id_list, ms};
use super::ids::JobId;
use crate::core::lead::LeadId;

/// What is to be kept of a lead that is about to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyToKeep {
    /// The lead's fields as a JSON object.
    pub fields_json: String,
    /// Until when.
    pub expires_at: Timestamp,
}

/// A kept copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The lead.
    pub lead_id: LeadId,
    /// The job that deleted it or is about to.
    pub job_id: JobId,
    /// The lead's fields as a JSON object.
    pub fields_json: String,
    /// When it was read.
    pub taken_at: Timestamp,
    /// When its deletion became certain; `None` while it is not.
    pub deleted_at: Option<Timestamp>,
    /// Until when it is kept.
    pub expires_at: Timestamp,
}

/// The copy of a lead, if one is kept.
pub fn get(db: &Connection, lead: LeadId) -> rusqlite::Result<Option<Copy>> {
    const SQL: &str =
        "SELECT lead_id, job_id, fields, taken_at, deleted_at, expires_at FROM copies WHERE lead_id = ?1";
    db.prepare_cached(SQL)?
        .query_row([lead], |row| {
            Ok(Copy {
                lead_id: row.get("lead_id")?,
                job_id: row.get("job_id")?,
                fields_json: row.get("fields")?,
                taken_at: at(row, "taken_at")?,
                deleted_at: at_opt(row, "deleted_at")?,
                expires_at: at(row, "expires_at")?,
            })
        })
        .optional()
}

/// Stores a copy; it replaces one of an earlier deletion of the same lead, which lives again since it was just read.
pub(super) fn put(
    db: &Connection,
    lead: LeadId,
    job: JobId,
    copy: &CopyToKeep,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const SQL: &str = "INSERT OR REPLACE INTO copies (lead_id, job_id, taken_at, expires_at, fields)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    db.prepare_cached(SQL)?.execute((lead, job, ms(now), ms(copy.expires_at), &copy.fields_json)).map(drop)
}

/// The copies of jobs: each stands under its job's lead, which makes it one look-up a job.
const OF_JOBS: &str = "lead_id IN (SELECT lead_id FROM jobs WHERE id IN (SELECT value FROM json_each(?1)))
        AND job_id IN (SELECT value FROM json_each(?1))";

/// Records that the leads of these jobs are gone for certain.
pub(super) fn confirm(db: &Connection, jobs: &[JobId], now: Timestamp) -> rusqlite::Result<()> {
    let sql = format!("UPDATE copies SET deleted_at = ?2 WHERE {OF_JOBS} AND deleted_at IS NULL");
    db.prepare_cached(&sql)?.execute((id_list(jobs.iter().copied()), ms(now))).map(drop)
}

/// Removes the copies of jobs that did not delete their leads.
pub(super) fn discard_all(db: &Connection, jobs: &[JobId]) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM copies WHERE {OF_JOBS}");
    db.prepare_cached(&sql)?.execute([id_list(jobs.iter().copied())]).map(drop)
}

/// Removes the copy of a job that did not delete its lead.
pub(super) fn discard(db: &Connection, lead: LeadId, job: JobId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM copies WHERE lead_id = ?1 AND job_id = ?2")?.execute((lead, job)).map(drop)
}

/// Removes up to `limit` copies whose time is over; how many.
pub fn expire(db: &Connection, now: Timestamp, limit: u32) -> rusqlite::Result<u64> {
    const SQL: &str = "DELETE FROM copies WHERE lead_id IN
        (SELECT lead_id FROM copies WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
    Ok(db.prepare_cached(SQL)?.execute((ms(now), limit))? as u64)
}
