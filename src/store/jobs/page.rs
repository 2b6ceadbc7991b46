//! Jobs by id, a page at a time, whatever the filter: a page reads about as many rows as it has, from the end of an index
//! or of several that are merged. Only a state or outcome within a run or a lead is looked for among all its jobs.

use rusqlite::Connection;
use rusqlite::types::ToSql;

use super::job::{self, Job, JobState};
use crate::core::lead::LeadId;
use crate::core::outcome::Outcome;
use crate::store::ids::{JobId, RunId};

/// Which jobs [`list`] returns; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<JobState>,
    /// Ended so.
    pub outcome: Option<Outcome>,
    /// Of this rule.
    pub rule: Option<String>,
    /// Of this lead.
    pub lead: Option<LeadId>,
    /// Of this run.
    pub run: Option<RunId>,
    /// After this one in the list's order, for the next page.
    pub after: Option<JobId>,
    /// The newest first instead of the oldest.
    pub newest_first: bool,
    /// At most so many.
    pub limit: u32,
}

/// Jobs by id, a page at a time.
pub fn list(db: &Connection, filter: &JobFilter) -> rusqlite::Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for (index, condition) in strands(filter) {
        jobs.extend(strand(db, filter, index, &condition)?);
    }
    jobs.sort_by_key(|job| job.id);
    if filter.newest_first {
        jobs.reverse();
    }
    jobs.truncate(filter.limit as usize);
    Ok(jobs)
}

/// The parts of a list that stand in an index in the order of ids: which index, and what else holds for them.
fn strands(filter: &JobFilter) -> Vec<(&'static str, String)> {
    if filter.lead.is_some() || filter.run.is_some() {
        let by = if filter.lead.is_some() { "jobs_lead" } else { "jobs_run" };
        let state = filter.state.map(|state| format!(" AND state = '{state}'")).unwrap_or_default();
        let outcome = filter.outcome.map(|outcome| format!(" AND outcome = '{}'", outcome.as_str()));
        return vec![(by, state + &outcome.unwrap_or_default())];
    }
    let by = if filter.rule.is_some() { "jobs_by_rule" } else { "jobs_by_outcome" };
    let ended = |outcome: Outcome| (by, format!(" AND lead_id >= 1 AND outcome = '{}'", outcome.as_str()));
    let live = |and: &str| (by, format!(" AND lead_id >= 1 AND outcome IS NULL{and}"));
    match (filter.state, filter.outcome) {
        (None | Some(JobState::Done), Some(outcome)) => vec![ended(outcome)],
        (Some(JobState::Waiting | JobState::Running), Some(_)) => Vec::new(),
        (Some(JobState::Done), None) => Outcome::ALL.into_iter().map(ended).collect(),
        // Those that run are few.
        (Some(JobState::Waiting), None) => vec![live(" AND state = 'waiting'")],
        (Some(JobState::Running), None) => vec![("jobs_running", " AND state = 'running'".to_owned())],
        (None, None) if filter.rule.is_none() => vec![("", String::new())],
        (None, None) => Outcome::ALL.into_iter().map(ended).chain([live("")]).collect(),
    }
}

fn statement(filter: &JobFilter, index: &str, condition: &str) -> String {
    let by = if index.is_empty() { String::new() } else { format!(" INDEXED BY {index}") };
    let (order, beyond) = if filter.newest_first { ("DESC", "id < :after") } else { ("ASC", "id > :after") };
    let mut only = String::new();
    for (is_some, text) in [
        (filter.rule.is_some(), " AND rule = :rule"),
        (filter.lead.is_some(), " AND lead_id = :lead"),
        (filter.run.is_some(), " AND run_id = :run"),
    ] {
        only.push_str(if is_some { text } else { "" });
    }
    let columns = job::COLUMNS;
    format!("SELECT {columns} FROM jobs{by} WHERE {beyond}{only}{condition} ORDER BY id {order} LIMIT :limit")
}

fn strand(db: &Connection, filter: &JobFilter, index: &str, condition: &str) -> rusqlite::Result<Vec<Job>> {
    let first = if filter.newest_first { JobId(i64::MAX) } else { JobId(0) };
    let after = filter.after.unwrap_or(first);
    let mut values: Vec<(&str, &dyn ToSql)> = vec![(":after", &after), (":limit", &filter.limit)];
    if let Some(rule) = &filter.rule {
        values.push((":rule", rule));
    }
    if let Some(lead) = &filter.lead {
        values.push((":lead", lead));
    }
    if let Some(run) = &filter.run {
        values.push((":run", run));
    }
    db.prepare_cached(&statement(filter, index, condition))?
        .query_map(values.as_slice(), job::read)?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters() -> Vec<JobFilter> {
        let states = [None, Some(JobState::Waiting), Some(JobState::Running), Some(JobState::Done)];
        let rules = [None, Some("junk".to_owned())];
        let mut filters = Vec::new();
        for (state, outcome) in states.into_iter().flat_map(|state| {
            [None].into_iter().chain(Outcome::ALL.map(Some)).map(move |outcome| (state, outcome))
        }) {
            for (rule, newest_first) in rules.iter().flat_map(|rule| [(rule, true), (rule, false)]) {
                let rule = rule.clone();
                filters.push(JobFilter {
                    state,
                    outcome,
                    rule,
                    newest_first,
                    limit: 7,
                    ..JobFilter::default()
                });
            }
        }
        filters
    }

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        crate::store::open::MIGRATIONS.iter().for_each(|step| db.execute_batch(step).unwrap());
        db
    }

    #[test]
    fn every_page_is_read_from_the_end_of_an_index_without_sorting() {
        let db = database();
        for filter in filters() {
            for (index, condition) in strands(&filter) {
                let sql = format!("EXPLAIN QUERY PLAN {}", statement(&filter, index, &condition));
                let mut plan = db.prepare(&sql).unwrap();
                let unbound = rusqlite::params_from_iter(vec![rusqlite::types::Null; plan.parameter_count()]);
                let plan: Vec<String> =
                    plan.query_map(unbound, |row| row.get("detail")).unwrap().map(Result::unwrap).collect();
                let plan = plan.join("; ");
                // The worker has a few hundred at most: these are sorted.
                let few = index == "jobs_running";
                assert!(
                    few || (plan.starts_with("SEARCH jobs") && !plan.contains("TEMP B-TREE")),
                    "{filter:?}: {plan}"
                );
                let by_rowid = index.is_empty() && plan.contains("PRIMARY KEY (rowid<?)");
                let by_rowid = by_rowid || (index.is_empty() && plan.contains("PRIMARY KEY (rowid>?)"));
                assert!(by_rowid || plan.contains(&format!("INDEX {index}")), "{filter:?}: {plan}");
            }
        }
    }

    #[test]
    fn pages_hold_what_the_filter_says_in_the_order_of_ids() {
        let db = database();
        db.execute_batch(
            "INSERT INTO rule_texts (id, text) VALUES (1, '');
             INSERT INTO runs (id, rule, text_id, \"trigger\", mode, state, started_at) VALUES (1, 'junk', 1, 'manual', 'delete', 'running', 0);
             WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 499)
             INSERT INTO jobs (lead_id, rule, run_id, state, outcome, due_at, created_at, grace_seconds, finished_at, phase, claim, claimed_at)
             SELECT i + 1, iif(i % 3, 'junk', 'spam'), 1,
                CASE i % 7 WHEN 0 THEN 'waiting' WHEN 1 THEN 'running' ELSE 'done' END,
                CASE i % 7 WHEN 2 THEN 'deleted' WHEN 3 THEN 'already_gone' WHEN 4 THEN 'spared' WHEN 5 THEN 'cancelled'
                    WHEN 6 THEN 'failed' END,
                0, 0, 0, iif(i % 7 > 1, 9, NULL), iif(i % 7 = 1, 'claimed', NULL), iif(i % 7 = 1, 4, NULL), iif(i % 7 = 1, 4, NULL)
             FROM n;",
        )
        .unwrap();
        let every = JobFilter { limit: 1000, ..JobFilter::default() };
        let every = list(&db, &every).unwrap();
        assert_eq!(every.len(), 500);
        for filter in filters() {
            let holds = |job: &&Job| {
                filter.state.is_none_or(|state| job.state == state)
                    && filter.outcome.is_none_or(|outcome| job.outcome == Some(outcome))
                    && filter.rule.as_ref().is_none_or(|rule| job.rule == *rule)
            };
            let mut wanted: Vec<JobId> = every.iter().filter(holds).map(|job| job.id).collect();
            if filter.newest_first {
                wanted.reverse();
            }
            let mut found: Vec<JobId> = Vec::new();
            loop {
                let page = JobFilter { after: found.last().copied(), ..filter.clone() };
                let page = list(&db, &page).unwrap();
                assert!(page.len() <= 7);
                if page.is_empty() {
                    break;
                }
                found.extend(page.iter().map(|job| job.id));
            }
            assert_eq!(found, wanted, "{filter:?}");
        }
    }
}
