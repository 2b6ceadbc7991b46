//! The process: how soon it is ready with a million jobs in its file, what it needs when nothing happens, what judging a
//! million leads costs.

use std::time::Duration;

use tokio::time::Instant;

use anyhow::{Context, Result, bail};
use b24_janitor::core::decide::{Verdict, decide};
use b24_janitor::core::lead::Lead;
use b24_janitor::rules::{self, Input};
use b24_janitor::store::{OpenOptions, Store, Threads};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::children;
use crate::scratch::Scratch;

/// How long the idle service is watched.
const IDLE: Duration = Duration::from_secs(20);

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Process {
    ready_ms: f64,
    idle_mib: f64,
    idle_percent_of_a_core: f64,
    judged_million_cpu_seconds: f64,
    binary_mib: Option<f64>,
}

pub(crate) async fn run() -> Result<Process> {
    let judged = judge()?;
    println!("judging a million leads, from JSON to the verdict: {judged:.2} s of CPU");
    let scratch = Scratch::new("process")?;
    let now: Timestamp = "2026-06-01T00:00:00Z".parse()?;
    let store =
        Store::open(&scratch.path().join("bench.db"), OpenOptions { threads: Threads::Own, create: true })?;
    crate::storage::enqueue(&store, 1, 1_000_000, now).await?;
    store.write(|db| b24_janitor::store::control::set_paused(db, true, Timestamp::UNIX_EPOCH)).await?;
    store.close().await;
    std::fs::write(scratch.path().join("rules.yaml"), RULES)?;
    // Nobody listens there: the service has to be ready all the same.
    let nowhere = "http://127.0.0.1:9/rest/1/bench/";
    let mut ready = f64::INFINITY;
    for _ in 0..5 {
        let service = children::service(scratch.path(), nowhere)?;
        ready = ready.min(service.ready_after);
        service.stop()?;
    }
    println!("listening and recovered after {ready:.0} ms with a million jobs in the file");
    let service = children::service(scratch.path(), nowhere)?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cpu_seconds(service.pid())?;
    let started = Instant::now();
    tokio::time::sleep(IDLE).await;
    let used = (cpu_seconds(service.pid())? - before) / started.elapsed().as_secs_f64() * 100.0;
    let idle_mib = resident_mib(service.pid())?;
    println!("idle: {idle_mib:.1} MiB resident, {used:.2} % of a core");
    service.stop()?;
    let binary = std::env::current_exe()?
        .parent()
        .and_then(|examples| examples.parent())
        .map(|release| release.join("b24-janitor"))
        .and_then(|path| std::fs::metadata(path).ok())
        .map(|file| file.len() as f64 / 1024.0 / 1024.0);
    match binary {
        Some(mib) => println!("the binary: {mib:.1} MiB"),
        None => println!("the binary is not built: cargo build --release"),
    }
    Ok(Process {
        ready_ms: ready,
        idle_mib,
        idle_percent_of_a_core: used,
        judged_million_cpu_seconds: judged,
        binary_mib: binary,
    })
}

const RULES: &str = "version: 1
timezone: UTC
protect:
  - { name: has-money, match: { opportunity: { gt: 0 } } }
rules:
  - name: bench
    schedule: \"@weekly\"
    match: { stageId: { in: [JUNK, \"7\"] }, sourceId: CALLBACK, title: { contains: test } }
    older_than: 90d
    mode: delete
";

/// Judges a million leads of one page over and over: the CPU time of this thread alone.
fn judge() -> Result<f64> {
    let loaded = rules::parse(&[Input { file: "bench.yaml".to_owned(), bytes: RULES.as_bytes().to_vec() }])
        .map_err(|problems| {
        anyhow::anyhow!("{}", problems.first().map(|p| p.render(false)).unwrap_or_default())
    })?;
    let rule = loaded.rules.rule("bench").context("the rule")?;
    let now: Timestamp = "2026-06-01T00:00:00Z".parse()?;
    let items: Vec<Value> = (0..2500)
        .map(|id| {
            json!({
                "id": id + 1,
                "stageId": if id % 3 == 0 { "JUNK" } else { "NEW" },
                "stageSemanticId": "F",
                "sourceId": "CALLBACK",
                "title": format!("Lead {id} of a test form"),
                "opportunity": 0,
                "createdTime": "2026-01-31T03:00:00+03:00",
            })
        })
        .collect();
    let body = serde_json::to_vec(&json!({ "items": items }))?;
    let before = thread_cpu_seconds()?;
    let mut selected = 0;
    for _ in 0..400 {
        let mut page: Value = serde_json::from_slice(&body)?;
        let items = page.get_mut("items").and_then(Value::as_array_mut).context("items")?;
        for item in std::mem::take(items) {
            let lead = Lead::from_item(item)?;
            if matches!(decide(rule, &loaded.rules.protections, &lead, now), Verdict::Delete) {
                selected += 1;
            }
        }
    }
    if selected != 400 * 834 {
        bail!("{selected} selected");
    }
    Ok(thread_cpu_seconds()? - before)
}

/// Ticks of the clock in which Linux counts CPU time, a second: fixed for user space.
const TICKS: f64 = 100.0;

fn ticks(stat: &str) -> Result<f64> {
    // The name in parentheses may hold spaces; user and system time are the 14th and 15th field.
    let after = stat.rsplit_once(')').context("a stat line")?.1;
    let field =
        |index: usize| after.split_whitespace().nth(index).and_then(|field| field.parse::<f64>().ok());
    Ok((field(11).context("utime")? + field(12).context("stime")?) / TICKS)
}

fn thread_cpu_seconds() -> Result<f64> {
    ticks(&std::fs::read_to_string("/proc/thread-self/stat")?)
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("VmRSS")?.parse::<f64>()? / 1024.0)
}
