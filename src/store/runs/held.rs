//! Held runs: which leads they would enqueue, who joins them, and how a person lets them go on.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::run::{self, Run, RunState, Trigger};
use super::tell::tell_ended;
use crate::core::lead::LeadId;
use crate::core::notice::Ended;
use crate::core::rule::Mode;
use crate::store::columns::{count_of, exactly_one, ms, signed};
use crate::store::control;
use crate::store::ids::RunId;
use crate::store::jobs;

pub use crate::core::caps::HELD_FOR;

/// The error of a held run that nobody approved in time.
const EXPIRED: &str = "approval_expired";

/// The error of a held run that a later one replaced.
pub const SUPERSEDED: &str = "superseded by a later run";

/// What came of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// The stored leads have jobs now.
    Approved {
        /// Leads that got a job.
        enqueued: u64,
        /// Leads that had got one since the run.
        already_waiting: u64,
    },
    /// The count is not that of the stored leads; nothing was changed.
    WrongCount {
        /// How many leads the run would enqueue.
        actual: u64,
    },
    /// The run is not held.
    NotHeld(RunState),
    /// The rule's text changed, the rule is gone, or it only plans; nothing was changed.
    RuleChanged,
    /// There is no such run.
    NoSuchRun,
    /// It was held for longer than [`HELD_FOR`].
    Expired,
}

/// How many runs wait for a person.
pub fn held_count(db: &Connection) -> rusqlite::Result<u64> {
    count_of(db, "SELECT count(*) FROM runs WHERE state = 'held'", [])
}

/// The held run of a rule.
pub fn held_run(db: &Connection, rule: &str) -> rusqlite::Result<Option<Run>> {
    let sql = format!("{} WHERE state = 'held' AND rule = ?1", run::SELECT);
    db.prepare_cached(&sql)?.query_row([rule], run::read).optional()
}

/// Every run that is held, the longest waiting first: at most one a rule.
pub fn all_held(db: &Connection) -> rusqlite::Result<Vec<Run>> {
    let sql = format!("{} WHERE state = 'held' ORDER BY held_at, runs.id", run::SELECT);
    db.prepare_cached(&sql)?.query_map([], run::read)?.collect()
}

/// Stores the leads that a run would enqueue; how many were new.
pub fn store_matches(db: &Connection, run: RunId, leads: &[LeadId]) -> rusqlite::Result<u64> {
    let mut insert = db.prepare_cached(
        "INSERT INTO held_matches (run_id, lead_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?;
    let mut new = 0;
    for lead in leads {
        new += insert.execute((run, lead))? as u64;
    }
    Ok(new)
}

/// The leads that a held run would enqueue.
pub fn matches(db: &Connection, run: RunId) -> rusqlite::Result<Vec<LeadId>> {
    db.prepare_cached("SELECT lead_id FROM held_matches WHERE run_id = ?1 ORDER BY lead_id")?
        .query_map([run], |row| row.get(0))?
        .collect()
}

/// What later events of the rule add to its held run besides leads to enqueue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JoinHeld {
    /// Matched leads that are protected.
    pub protected: u64,
    /// Leads that could not be judged.
    pub undecidable: u64,
    /// Matched leads that have a job.
    pub already_waiting: u64,
    /// Leads that our matcher left out.
    pub left_out: u64,
}

/// Adds leads that would be enqueued to a held run; how many were new to it, or `None` where it is held no longer.
pub fn add_to_held(
    db: &Connection,
    run: RunId,
    leads: &[LeadId],
    more: &JoinHeld,
) -> rusqlite::Result<Option<u64>> {
    const SQL: &str = "UPDATE runs SET would_enqueue = would_enqueue + ?2, protected = protected + ?3,
            already_waiting = already_waiting + ?4, matched = matched + ?2 + ?3 + ?4,
            undecidable = undecidable + ?5, left_out = left_out + ?6
        WHERE id = ?1 AND state = 'held'";
    if run::get(db, run)?.is_none_or(|found| found.state != RunState::Held) {
        return Ok(None);
    }
    let new = store_matches(db, run, leads)?;
    exactly_one(db.prepare_cached(SQL)?.execute((
        run,
        signed(new),
        signed(more.protected),
        signed(more.already_waiting),
        signed(more.undecidable),
        signed(more.left_out),
    ))?)?;
    Ok(Some(new))
}

/// Ends a held run because a later one replaces it; says whether it was held.
pub fn supersede(db: &Connection, run: RunId, now: Timestamp) -> rusqlite::Result<bool> {
    fail_held(db, run, (SUPERSEDED, Ended::Superseded), now)
}

/// Fails the held runs that nobody approved within [`HELD_FOR`]; how many.
pub fn expire_held(db: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    let held_before = ms(now.saturating_sub(HELD_FOR).unwrap_or(Timestamp::MIN));
    let late = db
        .prepare_cached("SELECT id FROM runs WHERE state = 'held' AND held_at <= ?1")?
        .query_map([held_before], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<RunId>>>()?;
    for run in &late {
        fail_held(db, *run, (EXPIRED, Ended::Expired), now)?;
    }
    Ok(late.len() as u64)
}

fn fail_held(
    db: &Connection,
    run: RunId,
    (error, ended): (&str, Ended),
    now: Timestamp,
) -> rusqlite::Result<bool> {
    const SQL: &str = "UPDATE runs SET state = 'failed', error = ?2, finished_at = ?3
        WHERE id = ?1 AND state = 'held'";
    let changed = db.prepare_cached(SQL)?.execute((run, error, ms(now)))? > 0;
    if changed {
        forget_matches(db, run)?;
        tell_ended(db, run, ended, now)?;
    }
    Ok(changed)
}

fn forget_matches(db: &Connection, run: RunId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM held_matches WHERE run_id = ?1")?.execute([run]).map(drop)
}

/// The control key of who approved a run. It is written once and goes with the run.
pub(in crate::store) const APPROVED_BY: &str = "approved_by:";

/// Records who approved a run, in words; in the transaction of the approval.
pub fn set_approver(db: &Connection, run: RunId, who: &str, now: Timestamp) -> rusqlite::Result<()> {
    control::set(db, &format!("{APPROVED_BY}{run}"), who, now)
}

/// Approves a held run: enqueues exactly its stored leads, whose grace period starts now.
///
/// `count` is what the person was shown; `rule_text` and `mode` are those of the rule as it stands now, `None` where the
/// rule is gone.
pub fn approve(
    db: &Connection,
    id: RunId,
    count: u64,
    rule_text: Option<&str>,
    mode: Mode,
    grace_seconds: u64,
    now: Timestamp,
) -> rusqlite::Result<Approval> {
    const SQL: &str =
        "UPDATE runs SET state = 'enqueued', enqueued = ?2, already_waiting = already_waiting + ?3,
            approved_at = ?4, finished_at = ?4
        WHERE id = ?1 AND state = 'held'";
    let Some(run) = run::get(db, id)? else { return Ok(Approval::NoSuchRun) };
    if run.state == RunState::Failed && run.error.as_deref() == Some(EXPIRED) {
        return Ok(Approval::Expired);
    }
    if run.state != RunState::Held {
        return Ok(Approval::NotHeld(run.state));
    }
    if run.held_at.is_none_or(|held_at| now.duration_since(held_at) >= HELD_FOR) {
        return Ok(Approval::Expired);
    }
    if rule_text != Some(run.rule_text.as_str()) || mode != Mode::Delete || run.mode != Mode::Delete {
        return Ok(Approval::RuleChanged);
    }
    let actual = count_of(db, "SELECT count(*) FROM held_matches WHERE run_id = ?1", [id])?;
    if actual != count {
        return Ok(Approval::WrongCount { actual });
    }
    let grace = SignedDuration::from_secs(signed(grace_seconds));
    let due_at = now.saturating_add(grace).unwrap_or(Timestamp::MAX);
    let result = jobs::enqueue(db, id, &run.rule, &matches(db, id)?, grace_seconds, due_at, now)?;
    exactly_one(db.prepare_cached(SQL)?.execute((
        id,
        signed(result.enqueued),
        signed(result.already_waiting),
        ms(now),
    ))?)?;
    forget_matches(db, id)?;
    if run.trigger != Trigger::Event {
        tell_ended(db, id, Ended::Enqueued, now)?;
    }
    Ok(Approval::Approved { enqueued: result.enqueued, already_waiting: result.already_waiting })
}
