//! Notices to people: waiting → sent, summed (told of by another one), or given up.
//!
//! The invariants: a notice is written in the transaction of what it tells of, for every target that asked for its kind
//! and for nobody else; of a kind and target the oldest that waits is sent, and those behind it are summed up in it. At
//! most [`MAX_WAITING`] of a kind wait for a target; the rest is only counted.

use jiff::Timestamp;
use rusqlite::{Connection, Row};

use super::columns::{at, count, ms, signed, unsigned};
use crate::core::notice::{Happening, Occasion};

/// How many notices of a kind are kept for a target that can't be reached: they become one in the end.
pub const MAX_WAITING: u64 = 100;

super::columns::word_column!(Occasion);

/// The notice of a kind that a target gets next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its id.
    pub id: i64,
    /// The last one of its kind that waits: up to it all are summed up in this one.
    pub through: i64,
    /// How many that are.
    pub more: u64,
    /// Whom to.
    pub target: String,
    /// Its kind.
    pub occasion: Occasion,
    /// What happened.
    pub text: String,
    /// The rule that it is about.
    pub rule: Option<String>,
    /// The run that it is about.
    pub run_id: Option<i64>,
    /// How many leads or mistakes it is about.
    pub count: u64,
    /// How often it was tried.
    pub tries: u32,
    /// When to try.
    pub due_at: Timestamp,
    /// When it happened.
    pub created_at: Timestamp,
}

/// Records who is told what, from now on. What waits for others is given up.
pub fn subscribe(db: &Connection, who: &[(String, Occasion)], now: Timestamp) -> rusqlite::Result<()> {
    const ORPHANS: &str =
        "UPDATE notices SET state = 'given_up', finished_at = ?1, error = 'the target is gone'
        WHERE state = 'waiting' AND target NOT IN (SELECT target FROM notice_targets)";
    if who.is_empty() && !any_target(db)? {
        return Ok(());
    }
    db.prepare_cached("DELETE FROM notice_targets")?.execute([])?;
    let mut insert =
        db.prepare_cached("INSERT OR IGNORE INTO notice_targets (target, occasion) VALUES (?1, ?2)")?;
    for (target, occasion) in who {
        insert.execute((target, occasion))?;
    }
    db.prepare_cached(ORPHANS)?.execute([ms(now)]).map(drop)
}

fn any_target(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM notice_targets)")?.query_row([], |row| row.get(0))
}

/// Writes a notice for every target that is told of such things.
pub fn tell(db: &Connection, what: &Happening, now: Timestamp) -> rusqlite::Result<()> {
    const COUNT: &str = "UPDATE notices SET more = more + 1 WHERE id = (SELECT max(id) FROM notices
            WHERE state = 'waiting' AND target = ?1 AND occasion = ?2
            HAVING count(*) >= ?3)";
    const KEEP: &str = "INSERT INTO notices (target, occasion, text, rule, run_id, count, due_at, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)";
    let occasion = what.occasion();
    let targets = db
        .prepare_cached("SELECT target FROM notice_targets WHERE occasion = ?1 ORDER BY target")?
        .query_map([occasion], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let (run, rule) = what.run().unzip();
    for target in targets {
        let counted = db.prepare_cached(COUNT)?.execute((&target, occasion, signed(MAX_WAITING)))?;
        if counted == 0 {
            let row = (&target, occasion, what.text(), rule, run, signed(what.count()), ms(now));
            db.prepare_cached(KEEP)?.execute(row)?;
        }
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    Ok(Waiting {
        id: row.get("id")?,
        through: row.get("through")?,
        more: count(row, "behind")?,
        target: row.get("target")?,
        occasion: row.get("occasion")?,
        text: row.get("text")?,
        rule: row.get("rule")?,
        run_id: row.get("run_id")?,
        count: count(row, "count")?,
        tries: row.get("tries")?,
        due_at: at(row, "due_at")?,
        created_at: at(row, "created_at")?,
    })
}

/// What is to be sent next, of every kind to every target.
pub fn heads(db: &Connection) -> rusqlite::Result<Vec<Waiting>> {
    const SQL: &str = "SELECT notices.*, through, behind FROM notices JOIN
            (SELECT min(id) AS first, max(id) AS through, count(*) - 1 + sum(more) AS behind FROM notices
                WHERE state = 'waiting' GROUP BY target, occasion)
            ON id = first ORDER BY id";
    db.prepare_cached(SQL)?.query_map([], read)?.collect()
}

/// A notice that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Whom to.
    pub target: String,
    /// Its kind.
    pub occasion: Occasion,
    /// When.
    pub at: Timestamp,
}

/// What was sent since then, oldest first: with the limits of [`crate::core::notice`] twenty a target and hour.
pub fn sent_since(db: &Connection, since: Timestamp) -> rusqlite::Result<Vec<Sent>> {
    const SQL: &str = "SELECT target, occasion, finished_at FROM notices
        WHERE state = 'sent' AND finished_at > ?1 ORDER BY finished_at, id";
    let read = |row: &Row<'_>| {
        Ok(Sent { target: row.get("target")?, occasion: row.get("occasion")?, at: at(row, "finished_at")? })
    };
    db.prepare_cached(SQL)?.query_map([ms(since)], read)?.collect()
}

/// Whether any notice waits that was written before.
pub fn any_before(db: &Connection, before: Timestamp) -> rusqlite::Result<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM notices WHERE state = 'waiting' AND created_at <= ?1)";
    db.prepare_cached(SQL)?.query_row([ms(before)], |row| row.get(0))
}

/// Gives up what was written before and waits still; how many of each target.
pub fn expire(db: &Connection, before: Timestamp, now: Timestamp) -> rusqlite::Result<Vec<(String, u64)>> {
    const COUNT: &str = "SELECT target, count(*) + sum(more) FROM notices
        WHERE state = 'waiting' AND created_at <= ?1 GROUP BY target ORDER BY target";
    const GIVE_UP: &str = "UPDATE notices SET state = 'given_up', finished_at = ?2
        WHERE state = 'waiting' AND created_at <= ?1";
    let given_up = db
        .prepare_cached(COUNT)?
        .query_map([ms(before)], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
        .collect::<rusqlite::Result<Vec<(String, u64)>>>()?;
    db.prepare_cached(GIVE_UP)?.execute((ms(before), ms(now)))?;
    Ok(given_up)
}

/// Records that a notice was sent, and that those behind it were told of in it. What was only counted while it was on its
/// way waits on, in the last of them.
pub fn sent(db: &Connection, notice: &Waiting, now: Timestamp) -> rusqlite::Result<()> {
    const ONE: &str =
        "UPDATE notices SET state = 'sent', finished_at = ?2, tries = tries + 1, more = ?3, error = NULL
        WHERE id = ?1 AND state = 'waiting'";
    const BEHIND: &str = "SELECT count(*) - 1 + coalesce(sum(more), 0) FROM notices
        WHERE state = 'waiting' AND target = ?1 AND occasion = ?2 AND id >= ?3 AND id <= ?4";
    const LATE: &str = "UPDATE notices SET more = ?2 WHERE id = ?1 AND state = 'waiting'";
    const OTHERS: &str = "UPDATE notices SET state = 'summed', finished_at = ?5
        WHERE state = 'waiting' AND target = ?1 AND occasion = ?2 AND id > ?3 AND id <= ?4";
    let told = (&notice.target, notice.occasion, notice.id, notice.through);
    let behind = unsigned(db.prepare_cached(BEHIND)?.query_row(told, |row| row.get(0))?);
    let one = db.prepare_cached(ONE)?.execute((notice.id, ms(now), signed(notice.more)))?;
    if one == 0 {
        // Its target was taken out of the rules while it was on its way.
        return Ok(());
    }
    let mut through = notice.through;
    // The row stands for one of them.
    if let Some(late) = behind.saturating_sub(notice.more).checked_sub(1) {
        db.prepare_cached(LATE)?.execute((notice.through, signed(late)))?;
        through -= 1;
    }
    let others = (&notice.target, notice.occasion, notice.id, through, ms(now));
    db.prepare_cached(OTHERS)?.execute(others).map(drop)
}

/// Records that a notice could not be sent, and when to try again; `None` gives it up.
pub fn failed(
    db: &Connection,
    notice: &Waiting,
    error: &str,
    next: Option<Timestamp>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const AGAIN: &str = "UPDATE notices SET tries = tries + 1, due_at = ?2, error = ?3
        WHERE id = ?1 AND state = 'waiting'";
    const NEVER: &str =
        "UPDATE notices SET tries = tries + 1, state = 'given_up', finished_at = ?2, error = ?3
        WHERE id = ?1 AND state = 'waiting'";
    let (sql, when) = match next {
        Some(next) => (AGAIN, next),
        None => (NEVER, now),
    };
    db.prepare_cached(sql)?.execute((notice.id, ms(when), error)).map(drop)
}

/// How many notices wait, and how many were given up that are still kept.
pub fn counts(db: &Connection) -> rusqlite::Result<(u64, u64)> {
    const SQL: &str =
        "SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'given_up')
        FROM notices";
    db.prepare_cached(SQL)?.query_row([], |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))))
}

/// Forgets notices that ended before; how many, `limit` at most.
pub fn prune(db: &Connection, before: Timestamp, limit: u32) -> rusqlite::Result<usize> {
    const SQL: &str = "DELETE FROM notices WHERE id IN (SELECT id FROM notices
        WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2)";
    db.prepare_cached(SQL)?.execute((ms(before), limit))
}
