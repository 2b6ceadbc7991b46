//! A database in a folder of its own, and short words for what tests need.

use std::path::PathBuf;

use b24_janitor::core::lead::LeadId;
use b24_janitor::core::rule::Mode;
use b24_janitor::store::{
    JobId, OpenOptions, RunId, Store, StoreError, Threads,
    jobs::{self, Job},
    runs::{self, NewRun, Trigger},
};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

pub(crate) const CREATE: OpenOptions = OpenOptions { threads: Threads::Own, create: true };
pub(crate) const INLINE: OpenOptions = OpenOptions { threads: Threads::Inline, create: true };

pub(crate) struct Folder {
    pub(crate) dir: tempfile::TempDir,
}

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.dir.path().join("janitor.db")
    }
}

/// Runs a closure on a fresh database, in one transaction. Whatever it did, the counters of ended jobs are those of the rows.
pub(crate) fn on_db<T: Send + 'static>(run: impl FnOnce(&Connection) -> T + Send + 'static) -> T {
    let folder = Folder::new();
    let store = Store::open(&folder.db(), INLINE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(store.write(move |db| {
        let value = run(db);
        check_counters(db);
        Ok(value)
    })) {
        Ok(value) => value,
        Err(StoreError::Panicked(text)) => panic!("{text}"),
        Err(error) => panic!("{error:?}"),
    }
}

/// What was counted as each job ended is what stands there; rows that were pruned stay counted.
fn check_counters(db: &Connection) {
    const WRONG: &str = "SELECT key, value, rows FROM
            (SELECT key, value, (SELECT count(*) FROM jobs WHERE outcome = key) AS rows
                FROM counters WHERE name = 'jobs_finished'
            UNION SELECT outcome, 0, count(*) FROM jobs WHERE outcome IS NOT NULL AND outcome NOT IN
                (SELECT key FROM counters WHERE name = 'jobs_finished') GROUP BY outcome)
        WHERE value < rows OR (value > rows AND (SELECT count(*) FROM jobs)
            = (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'jobs'))";
    let wrong: Vec<(String, i64, i64)> = db
        .prepare(WRONG)
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap();
    assert!(wrong.is_empty(), "outcome, counted, stored: {wrong:?}");
}

/// `seconds` after the beginning of every test.
pub(crate) fn t(seconds: i64) -> Timestamp {
    "2026-11-25T03:15:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn lead(id: i64) -> LeadId {
    LeadId::try_from(id).unwrap()
}

pub(crate) fn leads(ids: std::ops::Range<i64>) -> Vec<LeadId> {
    ids.map(lead).collect()
}

pub(crate) fn start(db: &Connection, rule: &str) -> RunId {
    let run = NewRun {
        rule: rule.to_owned(),
        rule_text: format!("text of {rule}"),
        trigger: Trigger::Schedule,
        mode: Mode::Delete,
    };
    runs::start(db, &run, t(0)).unwrap()
}

/// Jobs for these leads, due at `due`.
pub(crate) fn enqueue(db: &Connection, rule: &str, leads: &[LeadId], due: i64) {
    let run = start(db, rule);
    let enqueued = jobs::enqueue(db, run, rule, leads, 0, t(due), t(0)).unwrap();
    assert_eq!(enqueued.enqueued, leads.len() as u64);
}

pub(crate) fn job(db: &Connection, id: JobId) -> Job {
    jobs::get(db, id).unwrap().unwrap()
}

pub(crate) fn claim(db: &Connection, now: i64, limit: usize) -> jobs::Claim {
    jobs::claim_due(db, t(now), limit, &[]).unwrap().unwrap()
}

/// The leads of a claim, in its order.
pub(crate) fn leads_of(claim: &Option<jobs::Claim>) -> Vec<i64> {
    claim.iter().flat_map(|claim| &claim.jobs).map(|job| i64::from(job.lead_id)).collect()
}

pub(crate) fn send(db: &Connection, claim: &jobs::Claim, now: i64) {
    let all: Vec<_> = claim.jobs.iter().map(|job| (job.id, None)).collect();
    assert_eq!(jobs::mark_sent(db, claim.id, &all, t(now)).unwrap().len(), all.len());
}
