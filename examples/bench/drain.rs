//! One case by b24-janitor: evaluate, enqueue, drain, and compare with the portal's own books.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use b24_janitor::clock::Clock;
use b24_janitor::core::lead::LeadId;
use b24_janitor::engine::evaluator::{Evaluated, evaluate};
use b24_janitor::engine::{Engine, Parts};
use b24_janitor::metrics::Metrics;
use b24_janitor::portal::{Access, Portal, PortalOptions};
use b24_janitor::rules::{self, Input};
use b24_janitor::sandbox::{Sandbox, SandboxOptions, Stats};
use b24_janitor::store::jobs::{self, JobFilter};
use b24_janitor::store::runs::Trigger;
use b24_janitor::store::{OpenOptions, Store, Threads};
use secrecy::SecretString;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::cases::Case;

/// A case that takes longer than this many seconds is broken.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long the portal's bucket of 50 needs to drain at 2 requests a second.
const REST: Duration = Duration::from_secs(26);

/// What was reached.
#[derive(Serialize)]
pub(crate) struct Figures {
    case: String,
    by: String,
    leads: usize,
    deleted: usize,
    already_gone: usize,
    other: usize,
    wrong: usize,
    seconds: f64,
    /// The share of the best; none where the work was not done.
    reached: Option<f64>,
    requests: u64,
    refused_503: u64,
    refused_429: u64,
    cut: u64,
    longest_request_seconds: f64,
    note: String,
}

impl Figures {
    /// The table's head.
    pub(crate) fn head() -> String {
        format!(
            "{:<16} {:<14} {:>6} {:>8} {:>6} {:>6} {:>6} {:>9} {:>8} {:>9} {:>5} {:>5} {:>4} {:>9}  {}",
            "case",
            "by",
            "leads",
            "deleted",
            "gone",
            "other",
            "wrong",
            "seconds",
            "of best",
            "requests",
            "503",
            "429",
            "cut",
            "longest",
            "note"
        )
    }

    /// The table's line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{:<16} {:<14} {:>6} {:>8} {:>6} {:>6} {:>6} {:>8.1}s {:>8} {:>9} {:>5} {:>5} {:>4} {:>8.1}s  {}",
            self.case,
            self.by,
            self.leads,
            self.deleted,
            self.already_gone,
            self.other,
            self.wrong,
            self.seconds,
            self.reached.map_or_else(|| "-".to_owned(), |share| format!("{share:.3}")),
            self.requests,
            self.refused_503,
            self.refused_429,
            self.cut,
            self.longest_request_seconds,
            self.note
        )
    }

    /// Figures from the portal's books. `reported` is what the client itself says: deleted, already gone, other.
    pub(crate) fn of(
        case: &Case,
        by: &str,
        seconds: f64,
        stats: &Stats,
        expected: &BTreeSet<u32>,
        reported: (usize, usize, usize),
        note: String,
    ) -> Figures {
        let by_client: BTreeSet<u32> = stats
            .deletions
            .iter()
            .filter(|deletion| deletion.by != "colleague")
            .map(|deletion| deletion.id)
            .collect();
        let missing = expected.difference(&by_client).count();
        let wrong = by_client.difference(expected).count() + missing;
        let (deleted, already_gone, other) = reported;
        let gone_wrongly = deleted.abs_diff(by_client.len());
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let done = (by_client.len() + already_gone) as f64;
        Figures {
            case: case.name.to_owned(),
            by: by.to_owned(),
            leads: case.leads,
            deleted,
            already_gone,
            other,
            wrong: wrong + gone_wrongly,
            seconds,
            reached: (missing == 0).then(|| (case.reached)(done, seconds)),
            requests: stats.requests,
            refused_503: stats.refused_503,
            refused_429: stats.refused_429,
            cut: stats.cut,
            longest_request_seconds: stats.longest_request_seconds,
            note,
        }
    }
}

/// A portal of the case, served on a loopback port: the portal, its webhook and the ids to delete.
pub(crate) async fn portal(case: &Case) -> Result<(Sandbox, String, BTreeSet<u32>)> {
    let mut options = SandboxOptions { leads: case.leads, seed: 7, ..SandboxOptions::default() };
    (case.portal)(&mut options);
    let portal = Sandbox::new(options, Clock::System);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let webhook = portal.webhook_url(listener.local_addr()?);
    let served = portal.clone();
    tokio::spawn(async move { served.serve(listener, std::future::pending()).await });
    let ids = portal.ids_where(|_| true).into_iter().collect();
    Ok((portal, webhook, ids))
}

/// Lets a colleague delete the case's share of the leads; the rest is what is expected of the client.
pub(crate) fn delete_by_hand(case: &Case, portal: &Sandbox, ids: &mut BTreeSet<u32>) {
    if case.gone_percent == 0 {
        return;
    }
    let gone: Vec<u32> = ids.iter().copied().step_by(100 / case.gone_percent).collect();
    for id in gone {
        portal.colleague_delete(id);
        ids.remove(&id);
    }
}

/// Runs a case with b24-janitor.
pub(crate) async fn ours(case: &Case) -> Result<Figures> {
    let (portal, webhook, mut expected) = portal(case).await?;
    let text = format!(
        "version: 1\ntimezone: UTC\nportal: {{ concurrency: {}, method_seconds: {} }}\n\
         defaults: {{ keep_copy: none, limits: {{ max_matches: 10000000, max_percent: 100, deletes_per_day: 10000000 }} }}\n\
         rules:\n  - {{ name: all, schedule: \"@weekly\", match: {{ createdTime: {{ gt: 2000-01-01 }} }}, \
         include_converted: true, mode: delete }}\n",
        case.concurrency, case.method_seconds
    );
    let loaded = rules::parse(&[Input { file: "bench.yaml".to_owned(), bytes: text.into_bytes() }])
        .map_err(|problems| anyhow!("{}", problems.first().map(|p| p.render(false)).unwrap_or_default()))?;
    let dir = std::env::temp_dir().join(format!("b24-janitor-bench-{}-{}", std::process::id(), case.name));
    std::fs::create_dir_all(&dir)?;
    let options = OpenOptions { threads: Threads::Own, create: true };
    let store = Store::open(&dir.join("bench.db"), options)?;
    let client = Portal::new(
        Portal::http()?,
        PortalOptions {
            access: Access::Webhook(SecretString::from(webhook)),
            limits: loaded.rules.portal,
            clock: Clock::System,
            observer: None,
            pace: None,
        },
    );
    let parts = Parts {
        store: store.clone(),
        portal: client,
        clock: Clock::System,
        metrics: Metrics::new(),
        seed: 7,
    };
    let engine = Engine::start(parts, loaded.rules).await?;
    let rules = engine.context().rules();
    let rule = rules.rule("all").context("the rule")?;
    let started = Instant::now();
    let Evaluated::Run(run) = evaluate(engine.context(), &rules, rule, Trigger::Manual).await? else {
        bail!("the run was skipped");
    };
    if run.enqueued != case.leads as u64 {
        bail!("enqueued {} of {}: {:?} {:?}", run.enqueued, case.leads, run.error, run.held_reason);
    }
    let listed = started.elapsed().as_secs_f64();
    delete_by_hand(case, &portal, &mut expected);
    // The clients of others are given the ids; so that the same is measured, the bucket drains after the listing.
    tokio::time::sleep(REST).await;
    let before = portal.stats().requests;
    let started = Instant::now();
    engine.spawn_worker();
    loop {
        let counts = store.read(jobs::counts).await?;
        if counts.waiting + counts.running == 0 {
            break;
        }
        if started.elapsed() > PATIENCE {
            bail!("not done after {} s: {counts:?}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let counts = store.read(jobs::counts).await?;
    let deleted_ids = deleted(&store).await?;
    engine.stop(Duration::from_secs(5)).await;
    store.close().await;
    std::fs::remove_dir_all(&dir)?;
    let stats = portal.stats();
    let reported = (
        usize::try_from(counts.deleted)?,
        usize::try_from(counts.already_gone)?,
        usize::try_from(counts.spared + counts.failed + counts.cancelled)?,
    );
    let mut note = format!("listed before in {listed:.1}s with {before} requests");
    if deleted_ids != expected {
        note.push_str("; THE JOBS NAME OTHER LEADS");
    }
    Ok(Figures::of(case, "b24-janitor", seconds, &stats, &expected, reported, note))
}

async fn deleted(store: &Store) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    let mut after = None;
    loop {
        let filter = JobFilter { after, limit: 1000, ..JobFilter::default() };
        let page = store.read(move |db| jobs::list(db, &filter)).await?;
        let Some(last) = page.last() else { return Ok(ids) };
        after = Some(last.id);
        ids.extend(
            page.iter()
                .filter(|job| job.outcome == Some(b24_janitor::core::outcome::Outcome::Deleted))
                .map(|job| LeadId::get(job.lead_id)),
        );
    }
}
