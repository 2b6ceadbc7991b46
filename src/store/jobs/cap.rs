//! `deletes_per_day`: what a rule may still claim, in a sliding window of 24 h, and when it may go on.

use jiff::Timestamp;
use rusqlite::Connection;

use super::list::{FINISHED, waiting_rules};
use crate::core::caps::DAY;
use crate::core::outcome::Outcome;
use crate::store::columns::{at_opt, count_of, from_ms, ms, signed};
use crate::store::control;

/// What a rule deleted in the window; counting stops at the cap.
pub(super) const DELETED: &str = "SELECT count(*) FROM (SELECT 1 FROM jobs
    WHERE outcome = 'deleted' AND rule = ?1 AND finished_at > ?2 LIMIT ?3)";

/// What the worker has of a rule.
pub(super) const RUNNING: &str = "SELECT count(*) FROM jobs WHERE state = 'running' AND rule = ?1";

/// As many as no claim exceeds: one request holds 50.
const ENOUGH: u64 = 50;

/// How many jobs of a rule may be claimed, or fewer where even that is more than any claim takes: its cap less what it
/// deleted in the last 24 h, less what the worker has, less what an attempt of unknown outcome may have deleted.
pub(super) fn cap_left(db: &Connection, rule: &str, cap: u64, now: Timestamp) -> rusqlite::Result<u64> {
    const UNKNOWN_WAITING: &str =
        "SELECT count(*) FROM jobs WHERE state = 'waiting' AND unknown_before = 1 AND rule = ?1";
    let open = count_of(db, RUNNING, [rule])? + count_of(db, UNKNOWN_WAITING, [rule])?;
    // A day had no more than there ever were. Where that leaves enough, the day need not be counted.
    let ever = control::counter(db, FINISHED, Outcome::Deleted.as_str())?;
    let at_least = cap.saturating_sub(ever).saturating_sub(open);
    if at_least >= ENOUGH {
        return Ok(at_least);
    }
    let deleted = count_of(db, DELETED, (rule, window_start(now), signed(cap)))?;
    Ok(cap.saturating_sub(deleted).saturating_sub(open))
}

/// A rule that has due jobs and has used up its cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capped {
    /// The rule.
    pub rule: String,
    /// When the oldest deletion leaves the window; `None` where only the answers to what is in flight can free the cap.
    pub frees_at: Option<Timestamp>,
}

/// The rules whose due jobs wait for their `deletes_per_day`.
pub fn capped_rules(
    db: &Connection,
    now: Timestamp,
    caps: &[(String, u64)],
) -> rusqlite::Result<Vec<Capped>> {
    const DUE: &str =
        "SELECT min(due_at) AS due FROM jobs WHERE state = 'waiting' AND unknown_before = 0 AND rule = ?1";
    const OLDEST: &str =
        "SELECT min(finished_at) FROM jobs WHERE outcome = 'deleted' AND rule = ?1 AND finished_at > ?2";
    let mut capped = Vec::new();
    for rule in waiting_rules(db)? {
        let Some((_, cap)) = caps.iter().find(|(name, _)| *name == rule) else { continue };
        let due = db.prepare_cached(DUE)?.query_row([&rule], |row| at_opt(row, "due"))?;
        if due.is_none_or(|due| due > now) || cap_left(db, &rule, *cap, now)? > 0 {
            continue;
        }
        let oldest: Option<i64> =
            db.prepare_cached(OLDEST)?.query_row((&rule, window_start(now)), |row| row.get(0))?;
        let frees_at = oldest.map(from_ms).transpose()?.and_then(|oldest| oldest.checked_add(DAY).ok());
        capped.push(Capped { rule, frees_at });
    }
    Ok(capped)
}

fn window_start(now: Timestamp) -> i64 {
    ms(now.saturating_sub(DAY).unwrap_or(Timestamp::MIN))
}
