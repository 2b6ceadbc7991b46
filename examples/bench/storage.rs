//! How fast the job table is: enqueue, and claim with settle in batches of 50, every commit on the disk.

use tokio::time::Instant;

use anyhow::{Result, bail};
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::outcome::{Change, Outcome};
use b24_janitor::core::rule::Mode;
use b24_janitor::store::jobs;
use b24_janitor::store::runs::{self, NewRun, RunEnd, RunState, Trigger};
use b24_janitor::store::{OpenOptions, Store, Threads};
use jiff::Timestamp;
use serde::Serialize;

use crate::scratch::Scratch;

/// As many jobs as one request holds.
const BATCH: usize = 50;

/// How many jobs are claimed and settled for one figure.
const SETTLED: usize = 50_000;

/// One size of the table.
#[derive(Serialize)]
pub(crate) struct Line {
    rows: u64,
    enqueued_per_second: f64,
    settled_per_second: f64,
    wal_mib: f64,
    file_mib: f64,
}

pub(crate) async fn run(sizes: &[u64]) -> Result<Vec<Line>> {
    println!(
        "{:>10}  {:>14}  {:>18}  {:>9}  {:>9}",
        "rows", "enqueued/s", "claimed+settled/s", "WAL", "file"
    );
    let mut lines = Vec::new();
    for rows in sizes {
        let line = size(*rows).await?;
        println!(
            "{:>10}  {:>14.0}  {:>18.0}  {:>5.0} MiB  {:>5.0} MiB",
            line.rows, line.enqueued_per_second, line.settled_per_second, line.wal_mib, line.file_mib
        );
        lines.push(line);
    }
    Ok(lines)
}

async fn size(rows: u64) -> Result<Line> {
    let scratch = Scratch::new("jobs")?;
    let path = scratch.path().join("bench.db");
    let store = Store::open(&path, OpenOptions { threads: Threads::Own, create: true })?;
    let now: Timestamp = "2026-06-01T00:00:00Z".parse()?;
    let started = Instant::now();
    let mut first = 1;
    while first <= rows {
        // A run is enqueued in one transaction; a million leads are a large one.
        let last = (first + 1_000_000 - 1).min(rows);
        enqueue(&store, first, last, now).await?;
        first = last + 1;
    }
    let enqueued_per_second = rows as f64 / started.elapsed().as_secs_f64();

    let started = Instant::now();
    let mut settled = 0;
    while settled < SETTLED.min(usize::try_from(rows)?) {
        settled += batch(&store, now).await?;
    }
    let settled_per_second = settled as f64 / started.elapsed().as_secs_f64();
    let mib = |name: &str| {
        let bytes = std::fs::metadata(scratch.path().join(name)).map_or(0, |file| file.len());
        bytes as f64 / 1024.0 / 1024.0
    };
    let (wal_mib, file_mib) = (mib("bench.db-wal"), mib("bench.db"));
    store.close().await;
    Ok(Line { rows, enqueued_per_second, settled_per_second, wal_mib, file_mib })
}

/// Enqueues these leads as one run.
pub(crate) async fn enqueue(store: &Store, first: u64, last: u64, now: Timestamp) -> Result<()> {
    let leads: Vec<LeadId> =
        (first..=last).filter_map(|id| LeadId::try_from(i64::try_from(id).ok()?).ok()).collect();
    let enqueued = store
        .write(move |db| {
            let run = runs::start(
                db,
                &NewRun {
                    rule: "bench".to_owned(),
                    rule_text: "bench".to_owned(),
                    trigger: Trigger::Manual,
                    mode: Mode::Delete,
                },
                now,
            )?;
            let enqueued = jobs::enqueue(db, run, "bench", &leads, 0, now, now)?;
            runs::finish(
                db,
                run,
                &RunEnd {
                    state: RunState::Enqueued,
                    matched: enqueued.enqueued,
                    enqueued: enqueued.enqueued,
                    ..RunEnd::default()
                },
                now,
            )?;
            Ok(enqueued.enqueued)
        })
        .await?;
    if enqueued != last - first + 1 {
        bail!("{enqueued} enqueued");
    }
    Ok(())
}

/// Claims, records as sent and settles one batch, as a lane does: three transactions.
async fn batch(store: &Store, now: Timestamp) -> Result<usize> {
    let caps = vec![("bench".to_owned(), u64::from(u32::MAX))];
    let Some(claim) = store.write(move |db| jobs::claim_due(db, now, BATCH, &caps)).await? else {
        bail!("nothing is due");
    };
    let (id, count) = (claim.id, claim.jobs.len());
    let to_send: Vec<_> = claim.jobs.iter().map(|job| (job.id, None)).collect();
    store.write(move |db| jobs::mark_sent(db, id, &to_send, now)).await?;
    let changes: Vec<_> = claim
        .jobs
        .iter()
        .map(|job| {
            let change = Change::Finish {
                outcome: Outcome::Deleted,
                reason: Some("stageId is JUNK; createdTime is 2026-01-31, older than 90d".to_owned()),
                error: None,
            };
            (job.id, change)
        })
        .collect();
    let settled = store.write(move |db| jobs::settle(db, id, &changes, now)).await?;
    if !settled.stale.is_empty() {
        bail!("{} stale", settled.stale.len());
    }
    Ok(count)
}
