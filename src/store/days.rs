//! What happened between two moments, counted in an index: for the days of the charts.
//!
//! What was pruned is not counted any more: a chart reaches as far back as the history that is kept.

use jiff::Timestamp;
use rusqlite::Connection;

use super::columns::{count_of, ms};

const EVENTS: &str =
    "SELECT count(*) FROM events WHERE state = 'processed' AND processed_at >= ?1 AND processed_at < ?2";
const DELETED: &str = "SELECT count(*) FROM jobs WHERE state = 'done' AND finished_at >= ?1 AND finished_at < ?2 AND outcome = 'deleted'";

/// How many events were evaluated at `from` or later, and before `to`.
pub fn events(db: &Connection, from: Timestamp, to: Timestamp) -> rusqlite::Result<u64> {
    count_of(db, EVENTS, (ms(from), ms(to)))
}

/// How many leads jobs of ours deleted at `from` or later, and before `to`.
pub fn deleted(db: &Connection, from: Timestamp, to: Timestamp) -> rusqlite::Result<u64> {
    count_of(db, DELETED, (ms(from), ms(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_counted_in_an_index_whose_rows_are_not_read() {
        let db = Connection::open_in_memory().unwrap();
        crate::store::open::MIGRATIONS.iter().for_each(|step| db.execute_batch(step).unwrap());
        for (sql, index) in [(EVENTS, "events_processed"), (DELETED, "jobs_finished")] {
            let plan: String =
                db.query_row(&format!("EXPLAIN QUERY PLAN {sql}"), (0, 0), |row| row.get("detail")).unwrap();
            assert!(plan.contains(&format!("USING COVERING INDEX {index} (")), "{plan}");
        }
    }
}
