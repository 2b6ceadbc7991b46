//! A job as it is read from its row.

use jiff::Timestamp;
use rusqlite::Row;
use serde::Serialize;

use crate::core::lead::LeadId;
use crate::core::outcome::Outcome;
use crate::store::columns::{at, at_opt, count, words};
use crate::store::ids::{JobId, RunId};

words! {
    /// Where a job stands.
    JobState {
        /// It waits to be due, or to be claimed.
        Waiting = "waiting",
        /// The worker has it.
        Running = "running",
        /// It ended; the outcome says how.
        Done = "done",
    }
}

words! {
    /// Where a running job stands.
    Phase {
        /// Claimed; no deletion was sent under this claim.
        Claimed = "claimed",
        /// Its deletion was sent, the answer is awaited.
        Sent = "sent",
        /// No trustworthy answer came; the lead is read again from `settle_at` on.
        Unknown = "unknown",
    }
}

/// One deletion of one lead. It serialises to the object of `jobs --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The lead to delete.
    pub lead_id: LeadId,
    /// The rule that selected it.
    pub rule: String,
    /// The run that found it.
    pub run_id: RunId,
    /// Where it stands.
    pub state: JobState,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it ended so; ids, stages, dates and numbers only.
    pub reason: Option<String>,
    /// How many deletions were sent, given back ones apart.
    pub attempts: u32,
    /// When it may be claimed.
    pub due_at: Timestamp,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The portal's last words about it.
    pub last_error: Option<String>,
    /// Whether an attempt ended unknown and no read has since proved that the lead survived it.
    #[serde(skip)]
    pub unknown_before: bool,
    /// Where an unknown job may be read again.
    #[serde(skip)]
    pub settle_at: Option<Timestamp>,
    /// The grace period that `due_at` counts with, in seconds.
    #[serde(skip)]
    pub grace_seconds: u64,
    /// Where a running job stands.
    #[serde(skip)]
    pub phase: Option<Phase>,
    /// When the request whose answer is awaited or lost was sent.
    #[serde(skip)]
    pub sent_at: Option<Timestamp>,
}

impl Job {
    /// Why it stands where it does: its reason, and what the portal said where it refused; may be empty.
    pub fn why(&self) -> String {
        match (&self.reason, &self.last_error) {
            (Some(reason), Some(error)) if self.outcome == Some(Outcome::Failed) => {
                format!("{reason}: {error}")
            }
            (Some(reason), _) => reason.clone(),
            (None, Some(error)) => error.clone(),
            (None, None) => String::new(),
        }
    }

    /// Whether a person can cancel it: nothing of it can be on its way.
    pub fn can_be_cancelled(&self) -> bool {
        self.state == JobState::Waiting && !self.unknown_before
    }

    /// Whether a person can have it tried again.
    pub fn can_be_retried(&self) -> bool {
        self.outcome == Some(Outcome::Failed)
    }
}

/// The columns that [`read`] needs, first in a row and in this order.
pub(super) const COLUMNS: &str = "id, lead_id, rule, run_id, state, outcome, reason, attempts, due_at, created_at, \
     finished_at, last_error, unknown_before, settle_at, grace_seconds, phase, sent_at";

/// The job of a row that begins with [`COLUMNS`]. By their numbers, since a claim reads fifty.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: row.get(0)?,
        lead_id: row.get(1)?,
        rule: row.get(2)?,
        run_id: row.get(3)?,
        state: row.get(4)?,
        outcome: row.get(5)?,
        reason: row.get(6)?,
        attempts: row.get(7)?,
        due_at: at(row, 8)?,
        created_at: at(row, 9)?,
        finished_at: at_opt(row, 10)?,
        last_error: row.get(11)?,
        unknown_before: row.get(12)?,
        settle_at: at_opt(row, 13)?,
        grace_seconds: count(row, 14)?,
        phase: row.get(15)?,
        sent_at: at_opt(row, 16)?,
    })
}
