//! Forgets what is older than the history that is kept, a bounded piece a call; the counts stay.

use jiff::Timestamp;
use rusqlite::Connection;

use super::columns::{count_of, ms};
use super::runs::APPROVED_BY;

/// The most rows a table that one call deletes: 200,000 at once held the writer for 250 ms.
pub const MAX_ROWS: u32 = 1000;

/// How many pages [`vacuum_step`] gives back: a few milliseconds of work.
const VACUUM_PAGES: u32 = 400;

/// Deletes up to `limit` finished jobs (with their attempts), processed events and finished runs each that ended
/// before `finished_before`, and protections that ended before; how many rows. Call it again until it says 0.
pub fn prune(db: &Connection, finished_before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
    const JOBS: &str = "SELECT id FROM jobs WHERE state = 'done' AND finished_at < ?1
        ORDER BY finished_at LIMIT ?2";
    const EVENTS: &str = "DELETE FROM events WHERE id IN (SELECT id FROM events
        WHERE state = 'processed' AND processed_at < ?1 ORDER BY processed_at LIMIT ?2)";
    const RUNS: &str = "DELETE FROM runs WHERE id IN (SELECT id FROM runs
        WHERE finished_at < ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.run_id = runs.id)
        ORDER BY finished_at LIMIT ?2)";
    const APPROVERS: &str = "DELETE FROM control WHERE key >= ?1 AND key < ?1 || 'a'
        AND NOT EXISTS (SELECT 1 FROM runs WHERE id = CAST(substr(key, 1 + length(?1)) AS INTEGER))";
    const PROTECTIONS: &str = "DELETE FROM lead_protections WHERE (lead_id, reason, rule) IN
        (SELECT lead_id, reason, rule FROM lead_protections WHERE until < ?1 LIMIT ?2)";
    // Without its copy a lead can't be restored a second time.
    const RESTORES: &str = "DELETE FROM restores WHERE id IN (SELECT id FROM restores
        WHERE finished_at < ?1 AND NOT EXISTS (SELECT 1 FROM copies WHERE copies.lead_id = restores.lead_id)
        LIMIT ?2)";
    let before = ms(finished_before);
    let limit = limit.min(MAX_ROWS);
    let old = db
        .prepare_cached(JOBS)?
        .query_map((before, limit), |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    {
        let mut delete = db.prepare_cached("DELETE FROM jobs WHERE id = ?1 AND state = 'done'")?;
        for id in &old {
            delete.execute([id])?;
        }
    }
    let mut rows = old.len();
    for sql in [EVENTS, RUNS, PROTECTIONS, RESTORES] {
        rows += db.prepare_cached(sql)?.execute((before, limit))?;
    }
    db.prepare_cached(APPROVERS)?.execute([APPROVED_BY])?;
    Ok(rows as u64)
}

/// Gives some free pages back to the file system; how many are still free. Not every free page need go: new rows
/// would only ask for them again.
pub fn vacuum_step(db: &Connection) -> rusqlite::Result<u64> {
    db.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    count_of(db, "PRAGMA freelist_count", [])
}
