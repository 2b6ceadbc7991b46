//! What the program reaches: drains of the simulated portal over real HTTP on loopback beside the theoretical best of
//! the portal's limits (with `--peers PYTHON` the same deletions by clients that others published); the intake of events
//! beside a bare handler and nginx; the job table; start and idleness.
//!
//! ```text
//! cargo run --release --example bench -- --help
//! ```
//!
//! Each case starts a portal of its own. Times are wall-clock: the limits are the portal's, so the figures hardly depend
//! on the machine.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

mod cases;
mod children;
mod drain;
mod intake;
mod load;
mod peers;
mod process;
mod scratch;
mod storage;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use cases::{CASES, Case};
use drain::Figures;
use serde::Serialize;

/// Benchmarks against the simulated portal.
#[derive(Parser)]
struct Args {
    /// What to run: cases of drains by their names, `drains` for all of these, `intake`, `jobs`, `process`, or `all`
    #[arg(required = true)]
    what: Vec<String>,
    /// Sizes of the job table to measure, in rows
    #[arg(long, value_name = "ROWS", value_delimiter = ',', default_values_t = [10_000, 1_000_000, 10_000_000])]
    rows: Vec<u64>,
    /// A Python with fast_bitrix24 and b24pysdk installed, to run the same deletions with them
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything that was measured, as JSON.
#[derive(Default, Serialize)]
struct Measured {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drains: Vec<Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intake: Option<intake::Intake>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<storage::Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<process::Process>,
}

fn main() -> Result<()> {
    if let Some(played) = children::role() {
        return played;
    }
    let args = Args::parse();
    let parts = ["drains", "intake", "jobs", "process", "all"];
    let asked = |name: &str| args.what.iter().any(|what| what == name || what == "all");
    let known =
        |what: &&String| parts.contains(&what.as_str()) || CASES.iter().any(|case| case.name == **what);
    if let Some(unknown) = args.what.iter().find(|what| !known(what)) {
        let names: Vec<&str> = parts.into_iter().chain(CASES.iter().map(|case| case.name)).collect();
        anyhow::bail!("there is no `{unknown}` to run; there are: {}", names.join(", "));
    }
    let wanted = |case: &&Case| asked("drains") || args.what.iter().any(|what| what == case.name);
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut measured = Measured::default();
    if asked("intake") {
        measured.intake = Some(runtime.block_on(intake::run())?);
    }
    if asked("jobs") {
        measured.jobs = runtime.block_on(storage::run(&args.rows))?;
    }
    if asked("process") {
        measured.process = Some(runtime.block_on(process::run())?);
    }
    if !cases.is_empty() {
        println!("{}", Figures::head());
    }
    for case in cases {
        let figures = runtime.block_on(drain::ours(case)).with_context(|| case.name)?;
        println!("{}", figures.line());
        measured.drains.push(figures);
        let Some(python) = &args.peers else { continue };
        for client in case.peers {
            match runtime.block_on(peers::theirs(case, client, python)) {
                Ok(figures) => {
                    println!("{}", figures.line());
                    measured.drains.push(figures);
                }
                Err(error) => eprintln!("{} by {client}: {error:#}", case.name),
            }
        }
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&measured)?)?;
    }
    Ok(())
}
