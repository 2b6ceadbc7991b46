//! What happens to claimed jobs: sent, then settled. A change under an old claim changes nothing and is reported.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::claim::release_claim;
use super::job::Phase;
use super::list::FINISHED;
use crate::core::lead::LeadId;
use crate::core::outcome::{Change, Outcome, PORTAL_MAY_STILL_WORK};
use crate::store::columns::{from_ms, ms};
use crate::store::control;
use crate::store::copies::{self, CopyToKeep};
use crate::store::ids::{ClaimId, JobId};

/// What [`settle`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many jobs changed.
    pub changed: u64,
    /// Jobs that this claim does not have (any more); nothing of them was changed.
    pub stale: Vec<JobId>,
}

/// A running job under a claim.
struct Held {
    lead: LeadId,
    phase: Phase,
    attempts: u32,
    unknown_before: bool,
}

fn held(db: &Connection, claim: ClaimId, job: JobId) -> rusqlite::Result<Option<Held>> {
    const SQL: &str = "SELECT lead_id, phase, attempts, unknown_before FROM jobs
        WHERE id = ?1 AND state = 'running' AND claim = ?2";
    db.prepare_cached(SQL)?
        .query_row((job, claim), |row| {
            Ok(Held {
                lead: row.get("lead_id")?,
                phase: row.get("phase")?,
                attempts: row.get("attempts")?,
                unknown_before: row.get("unknown_before")?,
            })
        })
        .optional()
}

/// Records that the deletions of these jobs are about to be sent, with the copies to keep. Commit it before the first
/// byte leaves. Returns the jobs that were marked: only these may be sent.
///
/// The caller has just read these leads, after `settle_at` where an attempt was unknown: they are there, so a later "not
/// found" is no longer due to that attempt. A job that this claim has sent before may be sent again, alone.
pub fn mark_sent(
    db: &Connection,
    claim: ClaimId,
    jobs: &[(JobId, Option<CopyToKeep>)],
    now: Timestamp,
) -> rusqlite::Result<Vec<JobId>> {
    const SENT: &str =
        "UPDATE jobs SET phase = 'sent', sent_at = ?3, attempts = attempts + 1, unknown_before = 0
        WHERE id = ?1 AND state = 'running' AND claim = ?2";
    const ATTEMPT: &str = "INSERT INTO attempts (job_id, number, claim, sent_at) VALUES (?1, ?2, ?3, ?4)";
    let mut marked = Vec::with_capacity(jobs.len());
    for (job, copy) in jobs {
        let Some(held) = held(db, claim, *job)? else { continue };
        if held.phase == Phase::Sent {
            end_attempt(db, *job, "repeated", None, now)?;
        }
        db.prepare_cached(SENT)?.execute((job, claim, ms(now)))?;
        db.prepare_cached(ATTEMPT)?.execute((job, held.attempts + 1, claim, ms(now)))?;
        if let Some(copy) = copy {
            copies::put(db, held.lead, *job, copy, now)?;
        }
        marked.push(*job);
    }
    Ok(marked)
}

/// Settles jobs of a claim, each by what became of it.
pub fn settle(
    db: &Connection,
    claim: ClaimId,
    changes: &[(JobId, Change)],
    now: Timestamp,
) -> rusqlite::Result<Settled> {
    let mut settled = Settled::default();
    let mut finished: BTreeMap<&str, u64> = BTreeMap::new();
    for (job, change) in changes {
        match held(db, claim, *job)? {
            Some(held) => {
                settle_one(db, claim, *job, &held, change, now)?;
                settled.changed += 1;
                if let Change::Finish { outcome, .. } = change {
                    *finished.entry(outcome.as_str()).or_default() += 1;
                }
            }
            None => settled.stale.push(*job),
        }
    }
    for (outcome, jobs) in finished {
        control::bump(db, FINISHED, outcome, jobs)?;
    }
    Ok(settled)
}

fn settle_one(
    db: &Connection,
    claim: ClaimId,
    job: JobId,
    held: &Held,
    change: &Change,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const FINISH: &str = "UPDATE jobs SET state = 'done', outcome = ?3, reason = ?4,
            last_error = coalesce(?5, last_error), finished_at = ?6,
            phase = NULL, claim = NULL, claimed_at = NULL, sent_at = NULL, unknown_before = 0
        WHERE id = ?1 AND state = 'running' AND claim = ?2";
    const RELEASE: &str =
        "UPDATE jobs SET state = 'waiting', due_at = ?3, last_error = coalesce(?4, last_error),
            attempts = max(0, attempts - ?5), phase = NULL, claim = NULL, claimed_at = NULL, sent_at = NULL
        WHERE id = ?1 AND state = 'running' AND claim = ?2";
    const UNKNOWN: &str =
        "UPDATE jobs SET phase = 'unknown', settle_at = ?3, last_error = ?4, unknown_before = 1,
            claim = NULL, claimed_at = NULL
        WHERE id = ?1 AND state = 'running' AND claim = ?2";
    let sent = held.phase == Phase::Sent;
    match change {
        Change::Finish { outcome, reason, error } => {
            db.prepare_cached(FINISH)?.execute((job, claim, outcome, reason, error, ms(now)))?;
            if sent {
                end_attempt(db, job, outcome.as_str(), error.as_deref(), now)?;
            }
            settle_copy(db, held.lead, job, *outcome, now)
        }
        Change::Release { due_at, error, give_back } => {
            let back = sent && *give_back;
            db.prepare_cached(RELEASE)?.execute((job, claim, ms(*due_at), error, back))?;
            if sent {
                let result = if *give_back { "not_executed" } else { "retry" };
                end_attempt(db, job, result, error.as_deref(), now)?;
            }
            // What is marked unknown may be gone, and then the copy is all there is.
            if held.unknown_before { Ok(()) } else { copies::discard(db, held.lead, job) }
        }
        Change::Unknown { settle_at, error } => {
            db.prepare_cached(UNKNOWN)?.execute((job, claim, ms(*settle_at), error))?;
            if sent { end_attempt(db, job, "unknown", Some(error), now) } else { Ok(()) }
        }
    }
}

/// Keeps the copy of a lead that was deleted, removes every other.
pub(super) fn settle_copy(
    db: &Connection,
    lead: LeadId,
    job: JobId,
    outcome: Outcome,
    now: Timestamp,
) -> rusqlite::Result<()> {
    match outcome {
        Outcome::Deleted => copies::confirm(db, lead, job, now),
        Outcome::AlreadyGone | Outcome::Spared | Outcome::Cancelled | Outcome::Failed => {
            copies::discard(db, lead, job)
        }
    }
}

fn end_attempt(
    db: &Connection,
    job: JobId,
    result: &str,
    error: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const SQL: &str =
        "UPDATE attempts SET ended_at = ?2, result = ?3, error = ?4 WHERE job_id = ?1 AND ended_at IS NULL";
    db.prepare_cached(SQL)?.execute((job, ms(now), result, error)).map(drop)
}

/// The jobs whose requests an earlier process sent: unknown until the portal has surely ended. How many.
pub(in crate::store) fn sent_to_unknown(db: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    into_unknown(db, None, "<restart>: the service stopped before the answer came", now)
}

/// Ends a claim that its worker can no longer settle: what was not sent waits again, what was sent becomes unknown and
/// is read when the portal has surely ended. How many jobs that were.
pub fn abandon_claim(db: &Connection, claim: ClaimId, now: Timestamp) -> rusqlite::Result<u64> {
    let released = release_claim(db, claim)?;
    Ok(released + into_unknown(db, Some(claim), "<lost>: the answer could not be recorded", now)?)
}

fn into_unknown(
    db: &Connection,
    claim: Option<ClaimId>,
    error: &str,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    const FIND: &str = "SELECT id, claim, sent_at FROM jobs
        WHERE state = 'running' AND phase = 'sent' AND (?1 IS NULL OR claim = ?1)";
    let sent = db
        .prepare_cached(FIND)?
        .query_map([claim], |row| Ok((row.get(0)?, row.get(1)?, from_ms(row.get(2)?)?)))?
        .collect::<rusqlite::Result<Vec<(JobId, ClaimId, Timestamp)>>>()?;
    let mut changed = 0;
    for (job, claim, sent_at) in sent {
        let change = Change::Unknown {
            settle_at: sent_at.saturating_add(PORTAL_MAY_STILL_WORK).unwrap_or(Timestamp::MAX),
            error: error.to_owned(),
        };
        changed += settle(db, claim, &[(job, change)], now)?.changed;
    }
    Ok(changed)
}
