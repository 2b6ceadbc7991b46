//! What a simulation begins with: the jobs that are not done, the leads that the program protects from itself, and what
//! is known of each rule. Reads only.

use jiff::Timestamp;
use rusqlite::Connection;

use super::columns::{at, ms};
use super::runs;
use crate::core::caps::{ANOMALY_WINDOW, DAY};
use crate::core::rule::Rule;
use crate::core::simulate::{Known, KnownJob, KnownProtection, KnownRule};

/// How many earlier runs the anomaly cap is shown.
const EARLIER_RUNS: u32 = ANOMALY_WINDOW as u32;

/// What the database knows at `now` that bears on the next days of these rules.
pub fn known<'a>(
    db: &Connection,
    rules: impl IntoIterator<Item = &'a Rule>,
    now: Timestamp,
) -> rusqlite::Result<Known> {
    const JOBS: &str = "SELECT lead_id, rule, due_at FROM jobs WHERE state <> 'done'";
    const PROTECTIONS: &str = "SELECT lead_id, rule, until FROM lead_protections WHERE until > ?1";
    const DELETED: &str =
        "SELECT finished_at FROM jobs WHERE outcome = 'deleted' AND rule = ?1 AND finished_at > ?2";
    let jobs = db
        .prepare_cached(JOBS)?
        .query_map([], |row| {
            Ok(KnownJob { lead: row.get("lead_id")?, rule: row.get("rule")?, due: at(row, "due_at")? })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let protections = db
        .prepare_cached(PROTECTIONS)?
        .query_map([ms(now)], |row| {
            let rule: String = row.get("rule")?;
            Ok(KnownProtection {
                lead: row.get("lead_id")?,
                rule: Some(rule).filter(|rule| !rule.is_empty()),
                until: at(row, "until")?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut known = Known { jobs, protections, ..Known::default() };
    let window = ms(now.saturating_sub(DAY).unwrap_or(Timestamp::MIN));
    for rule in rules {
        let name = rule.name.as_str();
        let held = runs::held_run(db, name)?
            .map(|run| (run.held_at.unwrap_or(run.started_at), run.held_reason.unwrap_or_default()));
        let deleted = db
            .prepare_cached(DELETED)?
            .query_map((name, window), |row| at(row, "finished_at"))?
            .collect::<rusqlite::Result<_>>()?;
        let earlier = runs::enqueued_counts(db, name, &rule.text(), EARLIER_RUNS)?;
        known.rules.insert(name.to_owned(), KnownRule { earlier, held, deleted });
    }
    Ok(known)
}
