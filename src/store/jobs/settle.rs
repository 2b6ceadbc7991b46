//! What happens to claimed jobs: sent, then settled. A change under an old claim changes nothing and is reported.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::Connection;

use super::claim::release_claim;
use super::job::Phase;
use super::list::FINISHED;
use crate::core::lead::LeadId;
use crate::core::outcome::{Change, Outcome, PORTAL_MAY_STILL_WORK};
use crate::store::columns::{exactly, exactly_one, from_ms, id_list, ms};
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
    unknown_before: bool,
}

/// What a claim has.
fn held(db: &Connection, claim: ClaimId) -> rusqlite::Result<BTreeMap<JobId, Held>> {
    const SQL: &str =
        "SELECT id, lead_id, phase, unknown_before FROM jobs WHERE claim = ?1 AND state = 'running'";
    db.prepare_cached(SQL)?
        .query_map([claim], |row| {
            Ok((row.get(0)?, Held { lead: row.get(1)?, phase: row.get(2)?, unknown_before: row.get(3)? }))
        })?
        .collect()
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
        WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'running' AND claim = ?2";
    const ATTEMPTS: &str = "INSERT INTO attempts (job_id, number, claim, sent_at)
        SELECT id, attempts, claim, sent_at FROM jobs
        WHERE id IN (SELECT value FROM json_each(?1)) AND phase = 'sent' AND claim = ?2";
    let held = held(db, claim)?;
    let mut marked = Vec::with_capacity(jobs.len());
    let mut repeated = Vec::new();
    for (job, copy) in jobs {
        let Some(held) = held.get(job) else { continue };
        if held.phase == Phase::Sent {
            repeated.push(*job);
        }
        if let Some(copy) = copy {
            copies::put(db, held.lead, *job, copy, now)?;
        }
        marked.push(*job);
    }
    end_attempts(db, &repeated, "repeated", None, now)?;
    let ids = id_list(marked.iter().copied());
    let sent = db.prepare_cached(SENT)?.execute((&ids, claim, ms(now)))?;
    exactly(marked.len(), sent)?;
    db.prepare_cached(ATTEMPTS)?.execute((&ids, claim))?;
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
    let mut held = held(db, claim)?;
    let mut ended = Ended::default();
    for (job, change) in changes {
        // Taken out: a second change of the same job is a stale one.
        match held.remove(job) {
            Some(held) => {
                settle_one(db, claim, *job, &held, change, now)?;
                ended.note(*job, &held, change);
                settled.changed += 1;
            }
            None => settled.stale.push(*job),
        }
    }
    ended.write(db, now)?;
    Ok(settled)
}

/// What the changes of many jobs write alike, collected so that one statement writes it.
#[derive(Default)]
struct Ended<'a> {
    /// By result and error, the jobs whose attempt ended so.
    attempts: BTreeMap<(&'a str, Option<&'a str>), Vec<JobId>>,
    /// By outcome, the jobs.
    finished: BTreeMap<Outcome, Vec<JobId>>,
}

impl<'a> Ended<'a> {
    fn note(&mut self, job: JobId, held: &Held, change: &'a Change) {
        if let Change::Finish { outcome, .. } = change {
            self.finished.entry(*outcome).or_default().push(job);
        }
        if held.phase != Phase::Sent {
            return;
        }
        let end = match change {
            Change::Finish { outcome, error, .. } => (outcome.as_str(), error.as_deref()),
            Change::Release { error, give_back: true, .. } => ("not_executed", error.as_deref()),
            Change::Release { error, give_back: false, .. } => ("retry", error.as_deref()),
            Change::Unknown { error, .. } => ("unknown", Some(error.as_str())),
        };
        self.attempts.entry(end).or_default().push(job);
    }

    fn write(&self, db: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        for ((result, error), jobs) in &self.attempts {
            end_attempts(db, jobs, result, *error, now)?;
        }
        for (outcome, jobs) in &self.finished {
            control::bump(db, FINISHED, outcome.as_str(), jobs.len() as u64)?;
            settle_copies(db, jobs, *outcome, now)?;
        }
        Ok(())
    }
}

/// The job's own row. It changes exactly one: the claim was looked up in the same transaction.
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
    let changed = match change {
        Change::Finish { outcome, reason, error } => {
            db.prepare_cached(FINISH)?.execute((job, claim, outcome, reason, error, ms(now)))?
        }
        Change::Release { due_at, error, give_back } => {
            let back = held.phase == Phase::Sent && *give_back;
            let released = db.prepare_cached(RELEASE)?.execute((job, claim, ms(*due_at), error, back))?;
            // What is marked unknown may be gone, and then the copy is all there is.
            if !held.unknown_before {
                copies::discard(db, held.lead, job)?;
            }
            released
        }
        Change::Unknown { settle_at, error } => {
            db.prepare_cached(UNKNOWN)?.execute((job, claim, ms(*settle_at), error))?
        }
    };
    exactly_one(changed)
}

/// Keeps the copies of leads that were deleted, removes every other.
pub(super) fn settle_copies(
    db: &Connection,
    jobs: &[JobId],
    outcome: Outcome,
    now: Timestamp,
) -> rusqlite::Result<()> {
    match outcome {
        Outcome::Deleted => copies::confirm(db, jobs, now),
        Outcome::AlreadyGone | Outcome::Spared | Outcome::Cancelled | Outcome::Failed => {
            copies::discard_all(db, jobs)
        }
    }
}

fn end_attempts(
    db: &Connection,
    jobs: &[JobId],
    result: &str,
    error: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const SQL: &str = "UPDATE attempts SET ended_at = ?2, result = ?3, error = ?4
        WHERE job_id IN (SELECT value FROM json_each(?1)) AND ended_at IS NULL";
    if jobs.is_empty() {
        return Ok(());
    }
    db.prepare_cached(SQL)?.execute((id_list(jobs.iter().copied()), ms(now), result, error)).map(drop)
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
