//! How a run ends, or that it is held. The numbers of an enqueued or held run add up.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::Trigger;
use super::held::{held_run, supersede};
use super::run::RunState;
use super::tell::tell_ended;
use crate::core::notice::{Ended, Happening};
use crate::store::columns::{exactly_one, ms, signed};
use crate::store::ids::RunId;
use crate::store::notices;

/// How a run ended, or that it is held.
///
/// The default is a planned run without any lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Planned, held, enqueued or failed.
    pub state: RunState,
    /// Leads that the rule selects, before protections.
    pub matched: u64,
    /// Of these, protected ones.
    pub protected: u64,
    /// Leads that could not be judged; not among the matched.
    pub undecidable: u64,
    /// Matched leads that have a job already.
    pub already_waiting: u64,
    /// Matched leads that it would enqueue, or has.
    pub would_enqueue: u64,
    /// Matched leads that got a job.
    pub enqueued: u64,
    /// Leads of the portal's list that our matcher left out.
    pub left_out: u64,
    /// Why it failed; given exactly for the state failed.
    pub error: Option<String>,
    /// Which cap stopped it; given for the state held.
    pub held_reason: Option<String>,
}

impl Default for RunEnd {
    fn default() -> RunEnd {
        RunEnd {
            state: RunState::Planned,
            matched: 0,
            protected: 0,
            undecidable: 0,
            already_waiting: 0,
            would_enqueue: 0,
            enqueued: 0,
            left_out: 0,
            error: None,
            held_reason: None,
        }
    }
}

/// Records how a running run ended. One that is held supersedes a held run of the same rule.
///
/// # Errors
/// Where the run is not running, or its numbers do not add up: for the states held and enqueued
/// `matched = protected + already_waiting + would_enqueue` (held) or `+ enqueued`.
pub fn finish(db: &Connection, id: RunId, end: &RunEnd, now: Timestamp) -> rusqlite::Result<()> {
    const SQL: &str = "UPDATE runs SET state = :state, matched = :matched, protected = :protected,
            undecidable = :undecidable, already_waiting = :already_waiting, would_enqueue = :would_enqueue,
            enqueued = :enqueued, left_out = :left_out, error = :error, held_reason = :held_reason,
            held_at = iif(:state = 'held', :now, NULL), finished_at = iif(:state = 'held', NULL, :now)
        WHERE id = :id AND state = 'running'";
    if end.state == RunState::Held {
        let rule: Option<String> = db
            .prepare_cached("SELECT rule FROM runs WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        if let Some(earlier) = rule.map(|rule| held_run(db, &rule)).transpose()?.flatten() {
            supersede(db, earlier.id, now)?;
        }
    }
    let changed = db.prepare_cached(SQL)?.execute(rusqlite::named_params! {
        ":id": id,
        ":state": end.state,
        ":matched": signed(end.matched),
        ":protected": signed(end.protected),
        ":undecidable": signed(end.undecidable),
        ":already_waiting": signed(end.already_waiting),
        ":would_enqueue": signed(end.would_enqueue),
        ":enqueued": signed(end.enqueued),
        ":left_out": signed(end.left_out),
        ":error": end.error,
        ":held_reason": end.held_reason,
        ":now": ms(now),
    })?;
    exactly_one(changed)?;
    tell(db, id, end, now)
}

/// Tells of the run in its own transaction. Runs by event are many and small: only that they are held, or failed, is
/// told.
fn tell(db: &Connection, id: RunId, end: &RunEnd, now: Timestamp) -> rusqlite::Result<()> {
    let (rule, trigger): (String, Trigger) = db
        .prepare_cached("SELECT rule, \"trigger\" FROM runs WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let ended = match end.state {
        RunState::Running => return Ok(()),
        RunState::Held => {
            let held = Happening::Held { run: id.0, rule, leads: end.would_enqueue, at: now };
            return notices::tell(db, &held, now);
        }
        RunState::Failed => Ended::Failed,
        RunState::Planned | RunState::Enqueued if trigger == Trigger::Event => return Ok(()),
        RunState::Planned => Ended::Planned,
        RunState::Enqueued => Ended::Enqueued,
    };
    let finished = Happening::Finished {
        run: id.0,
        rule,
        ended,
        matched: end.matched,
        protected: end.protected,
        undecidable: end.undecidable,
        waiting: end.already_waiting,
        leads: end.would_enqueue,
    };
    notices::tell(db, &finished, now)
}

/// Fails the runs that an earlier process did not end; how many.
pub(in crate::store) fn fail_interrupted(db: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    const SQL: &str = "UPDATE runs SET state = 'failed', error = 'interrupted by a restart', finished_at = ?1
        WHERE state = 'running' RETURNING id";
    let interrupted = db
        .prepare_cached(SQL)?
        .query_map([ms(now)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<RunId>>>()?;
    for run in &interrupted {
        tell_ended(db, *run, Ended::Interrupted, now)?;
    }
    Ok(interrupted.len() as u64)
}
