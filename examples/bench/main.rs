//! Drains leads of the simulated portal over real HTTP on loopback, and prints what was reached beside the theoretical
//! best of the portal's limits; with `--peers PYTHON` the same deletions by clients that others published.
//!
//! ```text
//! cargo run --release --example bench -- --help
//! ```
//!
//! Each case starts a portal of its own. Times are wall-clock: the limits are the portal's, so the figures hardly depend
//! on the machine.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

mod cases;
mod drain;
mod peers;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

use cases::{CASES, Case};
use drain::Figures;

/// Benchmarks against the simulated portal.
#[derive(Parser)]
struct Args {
    /// The cases to run; all if none is named
    cases: Vec<String>,
    /// A Python with fast_bitrix24 and b24pysdk installed, to run the same deletions with them
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let wanted = |case: &&Case| args.cases.is_empty() || args.cases.iter().any(|name| name == case.name);
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    if cases.is_empty() {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        anyhow::bail!("no such case; there are: {}", names.join(", "));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut all: Vec<Figures> = Vec::new();
    println!("{}", Figures::head());
    for case in cases {
        let figures = runtime.block_on(drain::ours(case)).with_context(|| case.name)?;
        println!("{}", figures.line());
        all.push(figures);
        let Some(python) = &args.peers else { continue };
        for client in case.peers {
            match runtime.block_on(peers::theirs(case, client, python)) {
                Ok(figures) => {
                    println!("{}", figures.line());
                    all.push(figures);
                }
                Err(error) => eprintln!("{} by {client}: {error:#}", case.name),
            }
        }
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}
