//! A run: its start, and what is asked about runs.

use jiff::Timestamp;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use crate::core::rule::Mode;
use crate::store::columns::{at, at_opt, count, count_of, ms, unsigned, words};
use crate::store::ids::RunId;

words! {
    /// What made a rule run.
    Trigger {
        /// Its schedule.
        Schedule = "schedule",
        /// A person.
        Manual = "manual",
        /// Events, or a gap in them.
        Event = "event",
    }
}

words! {
    /// Where a run stands.
    RunState {
        /// It evaluates.
        Running = "running",
        /// It only reported.
        Planned = "planned",
        /// A cap stopped it; a person must approve it.
        Held = "held",
        /// Its leads have jobs.
        Enqueued = "enqueued",
        /// It ended without effect; the error says why.
        Failed = "failed",
    }
}

/// One evaluation of a rule. It serialises to the object of `runs --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The rule.
    pub rule: String,
    /// What made it run.
    pub trigger: Trigger,
    /// The rule's mode at that time.
    pub mode: Mode,
    /// Where it stands.
    pub state: RunState,
    /// Leads that the rule selects, before protections.
    pub matched: u64,
    /// Of these, protected ones.
    pub protected: u64,
    /// Leads that could not be judged; not among the matched.
    pub undecidable: u64,
    /// Matched leads that got a job.
    pub enqueued: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs or is held.
    pub finished_at: Option<Timestamp>,
    /// Matched leads that had a job already.
    pub already_waiting: u64,
    /// Matched leads that it would enqueue, or has.
    pub would_enqueue: u64,
    /// Who approved it, in words, as far as that is known.
    pub approved_by: Option<String>,
    /// Leads of the portal's list that our matcher left out.
    #[serde(skip)]
    pub left_out: u64,
    /// Which cap stopped it.
    #[serde(skip)]
    pub held_reason: Option<String>,
    /// When it was held.
    #[serde(skip)]
    pub held_at: Option<Timestamp>,
    /// When it was approved.
    #[serde(skip)]
    pub approved_at: Option<Timestamp>,
    /// The rule's text as it was evaluated.
    #[serde(skip)]
    pub rule_text: String,
}

pub(super) const SELECT: &str = "SELECT runs.id, rule, text, \"trigger\", mode, state, matched, protected, undecidable, \
     already_waiting, would_enqueue, enqueued, left_out, error, held_reason, started_at, held_at, approved_at, \
     finished_at, (SELECT value FROM control WHERE key = 'approved_by:' || runs.id) AS approved_by FROM runs JOIN rule_texts ON rule_texts.id = runs.text_id";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: row.get("id")?,
        rule: row.get("rule")?,
        trigger: row.get("trigger")?,
        mode: row.get("mode")?,
        state: row.get("state")?,
        matched: count(row, "matched")?,
        protected: count(row, "protected")?,
        undecidable: count(row, "undecidable")?,
        enqueued: count(row, "enqueued")?,
        error: row.get("error")?,
        started_at: at(row, "started_at")?,
        finished_at: at_opt(row, "finished_at")?,
        already_waiting: count(row, "already_waiting")?,
        would_enqueue: count(row, "would_enqueue")?,
        left_out: count(row, "left_out")?,
        held_reason: row.get("held_reason")?,
        held_at: at_opt(row, "held_at")?,
        approved_at: at_opt(row, "approved_at")?,
        approved_by: row.get("approved_by")?,
        rule_text: row.get("text")?,
    })
}

/// A run that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// The rule.
    pub rule: String,
    /// Its text (`core::rule::Rule::text`).
    pub rule_text: String,
    /// What makes it run.
    pub trigger: Trigger,
    /// Its mode.
    pub mode: Mode,
}

/// Records that a run begins.
pub fn start(db: &Connection, run: &NewRun, now: Timestamp) -> rusqlite::Result<RunId> {
    const SQL: &str = "INSERT INTO runs (rule, text_id, \"trigger\", mode, state, started_at)
        VALUES (?1, ?2, ?3, ?4, 'running', ?5) RETURNING id";
    db.prepare_cached("INSERT INTO rule_texts (text) VALUES (?1) ON CONFLICT (text) DO NOTHING")?
        .execute([&run.rule_text])?;
    let text: i64 = db
        .prepare_cached("SELECT id FROM rule_texts WHERE text = ?1")?
        .query_row([&run.rule_text], |row| row.get(0))?;
    db.prepare_cached(SQL)?.query_row((&run.rule, text, run.trigger, run.mode, ms(now)), |row| row.get(0))
}

/// The run of that id.
pub fn get(db: &Connection, id: RunId) -> rusqlite::Result<Option<Run>> {
    db.prepare_cached(&format!("{SELECT} WHERE runs.id = ?1"))?.query_row([id], read).optional()
}

/// Which runs [`list`] returns; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this rule.
    pub rule: Option<String>,
    /// In this state.
    pub state: Option<RunState>,
    /// With a smaller id, for the next page.
    pub before: Option<RunId>,
    /// With a larger id, for what is new.
    pub after: Option<RunId>,
    /// At most so many.
    pub limit: u32,
}

/// Runs, the newest first, a page at a time; it reads about as many rows as it returns.
pub fn list(db: &Connection, filter: &RunFilter) -> rusqlite::Result<Vec<Run>> {
    let mut values: Vec<(&str, &dyn ToSql)> = vec![(":limit", &filter.limit)];
    if let Some(rule) = &filter.rule {
        values.push((":rule", rule));
    }
    if let Some(state) = &filter.state {
        values.push((":state", state));
    }
    if let Some(before) = &filter.before {
        values.push((":before", before));
    }
    if let Some(after) = &filter.after {
        values.push((":after", after));
    }
    db.prepare_cached(&statement(filter))?.query_map(values.as_slice(), read)?.collect()
}

fn statement(filter: &RunFilter) -> String {
    let (index, mut conditions) = match (&filter.rule, filter.state) {
        (None, None) => ("", "TRUE".to_owned()),
        (Some(_), None) => ("runs_rule", "rule = :rule".to_owned()),
        (None, Some(_)) => ("runs_by_state", "left_out >= 0 AND state = :state".to_owned()),
        (Some(_), Some(_)) => {
            ("runs_by_rule", "left_out >= 0 AND rule = :rule AND state = :state".to_owned())
        }
    };
    if filter.before.is_some() {
        conditions.push_str(" AND runs.id < :before");
    }
    if filter.after.is_some() {
        conditions.push_str(" AND runs.id > :after");
    }
    let by = if index.is_empty() { String::new() } else { format!("INDEXED BY {index}") };
    let from = SELECT.replace("FROM runs JOIN", &format!("FROM runs {by} JOIN"));
    format!("{from} WHERE {conditions} ORDER BY runs.id DESC LIMIT :limit")
}

/// The runs after `after` among the next `rows` ones, the first first, and after which the next page begins; `None` after
/// the last. `since` leaves out what began before it.
pub fn page(
    db: &Connection,
    after: RunId,
    since: Option<Timestamp>,
    rows: u32,
) -> rusqlite::Result<(Vec<Run>, Option<RunId>)> {
    let sql = format!("{SELECT} WHERE runs.id > ?1 ORDER BY runs.id LIMIT ?2");
    let mut runs: Vec<Run> =
        db.prepare_cached(&sql)?.query_map((after, rows), read)?.collect::<rusqlite::Result<_>>()?;
    let full = runs.len() as u64 == u64::from(rows);
    let next = runs.last().map(|run| run.id).filter(|_| full);
    runs.retain(|run| since.is_none_or(|since| run.started_at >= since));
    Ok((runs, next))
}

/// What the last `last` enqueued runs of this very rule text enqueued, by schedule or by hand; the newest first.
pub fn enqueued_counts(
    db: &Connection,
    rule: &str,
    rule_text: &str,
    last: u32,
) -> rusqlite::Result<Vec<u64>> {
    const SQL: &str = "SELECT enqueued FROM runs
        WHERE rule = ?1 AND text_id = (SELECT id FROM rule_texts WHERE text = ?2)
            AND state = 'enqueued' AND \"trigger\" IN ('schedule', 'manual')
        ORDER BY id DESC LIMIT ?3";
    db.prepare_cached(SQL)?.query_map((rule, rule_text, last), |row| row.get(0).map(unsigned))?.collect()
}

/// How many leads a rule's event runs have newly matched since then: a lead that waits already and changes again is the
/// same match.
pub fn event_matches_since(db: &Connection, rule: &str, since: Timestamp) -> rusqlite::Result<u64> {
    const SQL: &str = "SELECT coalesce(sum(would_enqueue), 0) FROM runs
        WHERE \"trigger\" = 'event' AND rule = ?1 AND started_at >= ?2";
    count_of(db, SQL, (rule, ms(since)))
}

/// How far back an approved run is looked for: a run is approved within a day.
const APPROVED_AMONG: u32 = 5000;

/// The run that a person approved last, among the last thousands.
pub fn last_approved(db: &Connection) -> rusqlite::Result<Option<Run>> {
    let sql = format!(
        "{SELECT} WHERE approved_at IS NOT NULL AND runs.id > (SELECT max(id) FROM runs) - {APPROVED_AMONG}
         ORDER BY runs.id DESC LIMIT 1"
    );
    db.prepare_cached(&sql)?.query_row([], read).optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_read_from_the_end_of_an_index_without_sorting() {
        let db = Connection::open_in_memory().unwrap();
        crate::store::open::MIGRATIONS.iter().for_each(|step| db.execute_batch(step).unwrap());
        let rules = [None, Some("junk".to_owned())];
        let states = [None, Some(RunState::Held), Some(RunState::Failed)];
        for (rule, state) in rules.iter().flat_map(|rule| states.map(|state| (rule.clone(), state))) {
            for before in [None, Some(RunId(9))] {
                let filter =
                    RunFilter { rule: rule.clone(), state, before, limit: 5, ..RunFilter::default() };
                let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {}", statement(&filter))).unwrap();
                let unbound = rusqlite::params_from_iter(vec![rusqlite::types::Null; plan.parameter_count()]);
                let plan: Vec<String> =
                    plan.query_map(unbound, |row| row.get("detail")).unwrap().map(Result::unwrap).collect();
                let plan = plan.join("; ");
                assert!(
                    !plan.contains("TEMP B-TREE") && !plan.starts_with("SCAN rule_texts"),
                    "{filter:?}: {plan}"
                );
                let whole = plan.starts_with("SCAN runs") && (rule.is_some() || state.is_some());
                assert!(!whole, "{filter:?}: {plan}");
            }
        }
    }
}
