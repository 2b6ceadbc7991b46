//! How fast events are taken in: the whole service, every event on the disk before its answer, beside the bare handler
//! and nginx.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use anyhow::Result;
use b24_janitor::clock::Clock;
use b24_janitor::sandbox::{Sandbox, SandboxOptions};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::children::{self, Running};
use crate::load::{Met, load};
use crate::scratch::Scratch;

/// How long each load lasts; the best of [`ROUNDS`] counts, since whatever else the machine does only takes away.
const TIME: Duration = Duration::from_secs(3);
const ROUNDS: u64 = 3;

/// Events name so many leads: enough that few join one that is pending.
const LEADS: u64 = 90_000_000;

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Line {
    connections: u64,
    by: String,
    per_second: f64,
    /// Of what the bare handler does in the same round.
    of_bare: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// All of it.
#[derive(Serialize)]
pub(crate) struct Intake {
    lines: Vec<Line>,
    /// One small write and its fsync on this disk, in milliseconds, the median.
    fsync_ms: f64,
    /// A storm: so many updates of so few leads.
    storm_updates: u64,
    storm_leads: u64,
    storm_list_requests: u64,
    storm_rows: u64,
}

pub(crate) async fn run() -> Result<Intake> {
    let scratch = Scratch::new("intake")?;
    let dir = scratch.path();
    let fsync_ms = fsync(dir)?;
    println!("intake: one fsync takes {fsync_ms:.3} ms here");
    println!(
        "{:>11}  {:<12} {:>10} {:>8} {:>9} {:>9}",
        "connections", "by", "events/s", "of bare", "p50", "p99"
    );
    let (_, webhook) = portal().await?;
    std::fs::write(dir.join("rules.yaml"), RULES)?;
    let service = children::service(dir, &webhook)?;
    let bare = children::bare_handler()?;
    let nginx = children::nginx(dir)?;
    let mut lines = Vec::new();
    let mut first = 1_000_000;
    for connections in [1, 64, 256] {
        let mut best: Vec<(&str, Option<Met>)> =
            vec![("bare axum", None), ("b24-janitor", None), ("nginx", None)];
        for _ in 0..ROUNDS {
            for (by, best) in &mut best {
                let Some(program) = program(by, &bare, &service, nginx.as_ref()) else { continue };
                let met = load(program.address, connections, TIME, first, LEADS).await?;
                first = (first + met.answered) % LEADS;
                if best.is_none_or(|best: Met| met.per_second > best.per_second) {
                    *best = Some(met);
                }
            }
        }
        let reference = best.first().and_then(|(_, met)| *met).map_or(f64::NAN, |met| met.per_second);
        for (by, met) in best {
            let Some(met) = met else { continue };
            let of_bare = met.per_second / reference;
            println!(
                "{connections:>11}  {by:<12} {:>10.0} {of_bare:>8.2} {:>6.3} ms {:>6.3} ms",
                met.per_second, met.p50, met.p99
            );
            lines.push(Line {
                connections,
                by: by.to_owned(),
                per_second: met.per_second,
                of_bare,
                p50_ms: met.p50,
                p99_ms: met.p99,
            });
        }
    }
    service.stop()?;
    drop((bare, nginx));
    let storm = storm().await?;
    Ok(Intake {
        lines,
        fsync_ms,
        storm_updates: storm.0,
        storm_leads: STORM_LEADS,
        storm_list_requests: storm.1,
        storm_rows: storm.2,
    })
}

const RULES: &str = "version: 1\ntimezone: UTC\nrules:\n  - { name: spam, events: [ONCRMLEADADD, ONCRMLEADUPDATE], schedule: \"@weekly\", match: { stageId: JUNK } }\n";

fn program<'a>(
    by: &str,
    bare: &'a Running,
    service: &'a Running,
    nginx: Option<&'a Running>,
) -> Option<&'a Running> {
    match by {
        "bare axum" => Some(bare),
        "b24-janitor" => Some(service),
        _ => nginx,
    }
}

/// A portal for the service to look at, in a runtime of its own.
async fn portal() -> Result<(Sandbox, String)> {
    let portal =
        Sandbox::new(SandboxOptions { leads: 500, seed: 7, ..SandboxOptions::default() }, Clock::System);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let webhook = portal.webhook_url(listener.local_addr()?);
    let served = portal.clone();
    tokio::spawn(async move { served.serve(listener, std::future::pending()).await });
    Ok((portal, webhook))
}

const STORM_LEADS: u64 = 500;
const STORM_UPDATES: u64 = 100_000;

/// 100,000 updates of 500 leads: how many were sent, how many list requests they caused, how many rows they became.
async fn storm() -> Result<(u64, u64, u64)> {
    // A portal of its own: the pace of the one before is used up.
    let (sandbox, webhook) = portal().await?;
    let scratch = Scratch::new("storm")?;
    std::fs::write(scratch.path().join("rules.yaml"), RULES)?;
    let service = children::service(scratch.path(), &webhook)?;
    let lists =
        |sandbox: &Sandbox| sandbox.stats().requests_by_method.get("crm.item.list").copied().unwrap_or(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = lists(&sandbox);
    let mut sent = 0;
    while sent < STORM_UPDATES {
        sent += load(service.address, 64, Duration::from_millis(200), 1, STORM_LEADS).await?.answered;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let caused = lists(&sandbox) - before;
    service.stop()?;
    let db = b24_janitor::store::Store::open(
        &scratch.path().join("bench.db"),
        b24_janitor::store::OpenOptions { threads: b24_janitor::store::Threads::Inline, create: false },
    )?;
    let rows =
        db.read(|db| db.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0))).await?;
    let rows = u64::try_from(rows)?;
    db.close().await;
    println!("storm: {sent} updates of {STORM_LEADS} leads became {rows} rows and {caused} list requests");
    Ok((sent, caused, rows))
}

/// The median time of a small write with its fsync.
fn fsync(dir: &Path) -> Result<f64> {
    let mut file = std::fs::File::create(dir.join("fsync"))?;
    let mut took: Vec<f64> = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    Ok(took.get(took.len() / 2).copied().unwrap_or_default())
}
