//! Ends of jobs without a request of ours: a person, a changed rule, a lead that no longer matches, the portal's event.
//! None of these touches a job that the worker has.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::job::{self, Job, JobState, Phase};
use super::list::{FINISHED, get};
use super::settle::settle_copies;
use crate::core::lead::LeadId;
use crate::core::outcome::{Outcome, gone};
use crate::store::columns::{exactly_one, ms};
use crate::store::control;
use crate::store::ids::JobId;
use crate::store::protections::{self, ProtectionReason};

/// How long a cancelled lead is protected from the rule that had selected it.
pub const CANCEL_PROTECTS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What `cancel` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// It waited, and is cancelled.
    Cancelled,
    /// The worker has it, or an attempt of unknown outcome may have deleted its lead.
    Running,
    /// It had ended.
    AlreadyDone(Outcome),
    /// There is no such job.
    NoSuchJob,
}

/// What `retry` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It had failed, and waits again.
    Requeued,
    /// It has not failed.
    NotFailed(JobState, Option<Outcome>),
    /// Its lead has another job that is not done.
    LiveJobExists(JobId),
    /// There is no such job.
    NoSuchJob,
}

/// What the portal's `ONCRMLEADDELETE` made of the lead's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadGone {
    /// The job ended so.
    Finished(JobId, Outcome),
    /// The worker has it and will learn it by itself; our own deletions come back as this event.
    LeftAlone(JobId),
    /// The lead has no job that is not done.
    NoJob,
}

/// Cancels a waiting job and protects its lead from the rule for [`CANCEL_PROTECTS`].
pub fn cancel(db: &Connection, id: JobId, now: Timestamp) -> rusqlite::Result<Cancel> {
    let Some(job) = get(db, id)? else { return Ok(Cancel::NoSuchJob) };
    match (job.state, job.outcome) {
        (_, Some(outcome)) => Ok(Cancel::AlreadyDone(outcome)),
        (JobState::Waiting, None) if job.can_be_cancelled() => {
            finish(db, &job, Outcome::Cancelled, "cancelled by a person", now)?;
            let until = now.saturating_add(CANCEL_PROTECTS).unwrap_or(Timestamp::MAX);
            let reason = ProtectionReason::Cancelled;
            protections::protect_lead(db, job.lead_id, Some(&job.rule), reason, until, now)?;
            Ok(Cancel::Cancelled)
        }
        (JobState::Waiting | JobState::Running | JobState::Done, None) => Ok(Cancel::Running),
    }
}

/// Makes a failed job wait again, due now, and lifts its lead's protection.
pub fn retry(db: &Connection, id: JobId, now: Timestamp) -> rusqlite::Result<Retry> {
    const SQL: &str =
        "UPDATE jobs SET state = 'waiting', outcome = NULL, reason = NULL, finished_at = NULL, due_at = ?2
        WHERE id = ?1 AND state = 'done' AND outcome = 'failed'";
    let Some(job) = get(db, id)? else { return Ok(Retry::NoSuchJob) };
    if job.outcome != Some(Outcome::Failed) {
        return Ok(Retry::NotFailed(job.state, job.outcome));
    }
    if let Some(other) = live_job(db, job.lead_id)? {
        return Ok(Retry::LiveJobExists(other.id));
    }
    exactly_one(db.prepare_cached(SQL)?.execute((id, ms(now)))?)?;
    control::lower(db, FINISHED, Outcome::Failed.as_str())?;
    protections::lift(db, job.lead_id, ProtectionReason::Failed)?;
    Ok(Retry::Requeued)
}

/// Spares the waiting job of a lead that a read has just shown not to match any more; says whether there was one. A job
/// with an attempt of unknown outcome stays: the read may be older than our own deletion, and the copy is kept till then.
pub fn spare_waiting_of_lead(
    db: &Connection,
    lead: LeadId,
    reason: &str,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    match live_job(db, lead)? {
        Some(job) if job.state == JobState::Waiting && !job.unknown_before => {
            finish(db, &job, Outcome::Spared, reason, now)?;
            Ok(true)
        }
        Some(_) | None => Ok(false),
    }
}

/// Spares the waiting jobs of a rule that is gone or only plans; how many. A job with an attempt of unknown outcome
/// stays: the worker reads its lead first, since it may be deleted.
pub fn spare_rule(db: &Connection, rule: &str, reason: &str, now: Timestamp) -> rusqlite::Result<u64> {
    // Without an attempt of unknown outcome a waiting job has no copy that would have to go.
    const SQL: &str = "UPDATE jobs SET state = 'done', outcome = 'spared', reason = ?2, finished_at = ?3
        WHERE state = 'waiting' AND unknown_before = 0 AND rule = ?1";
    let spared = db.prepare_cached(SQL)?.execute((rule, reason, ms(now)))? as u64;
    if spared > 0 {
        control::bump(db, FINISHED, Outcome::Spared.as_str(), spared)?;
    }
    Ok(spared)
}

/// Settles the job of a lead that the portal says was deleted.
pub fn lead_gone(db: &Connection, lead: LeadId, now: Timestamp) -> rusqlite::Result<LeadGone> {
    let Some(job) = live_job(db, lead)? else { return Ok(LeadGone::NoJob) };
    let settles = job.state == JobState::Waiting || job.phase == Some(Phase::Unknown);
    if !settles {
        return Ok(LeadGone::LeftAlone(job.id));
    }
    let outcome = gone(job.unknown_before);
    finish(db, &job, outcome, "the portal's ONCRMLEADDELETE", now)?;
    Ok(LeadGone::Finished(job.id, outcome))
}

fn live_job(db: &Connection, lead: LeadId) -> rusqlite::Result<Option<Job>> {
    let sql = format!("SELECT {} FROM jobs WHERE lead_id = ?1 AND state <> 'done'", job::COLUMNS);
    db.prepare_cached(&sql)?.query_row([lead], job::read).optional()
}

/// Ends a job that is waiting or unknown, hence nobody's.
fn finish(
    db: &Connection,
    job: &Job,
    outcome: Outcome,
    reason: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const SQL: &str = "UPDATE jobs SET state = 'done', outcome = ?2, reason = ?3, finished_at = ?4,
            phase = NULL, settle_at = NULL, sent_at = NULL, unknown_before = 0
        WHERE id = ?1 AND (state = 'waiting' OR phase = 'unknown')";
    exactly_one(db.prepare_cached(SQL)?.execute((job.id, outcome, reason, ms(now)))?)?;
    control::bump(db, FINISHED, outcome.as_str(), 1)?;
    settle_copies(db, &[job.id], outcome, now)
}
