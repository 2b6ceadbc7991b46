//! Simulates whole weeks of the service against the simulated portal, each from a seed: random rules, leads, colleagues,
//! lost and doubled events, faults of every kind, crashes at commits, restarts, reloads, pauses, approvals. After every
//! step the promises are checked; a seed that breaks one is named, and gives the same history again.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 10000
//! ```

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a simulation that can't go on has failed, and a program for people prints"
)]

mod sim;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Simulates weeks of the service, each from a seed.
#[derive(Parser)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many threads; by default one a processor
    #[arg(long)]
    threads: Option<usize>,
    /// The summary as JSON
    #[arg(long)]
    json: bool,
    /// Prints each seed's hash, to compare two runs
    #[arg(long)]
    hashes: bool,
    /// Ends with the first seed that fails
    #[arg(long)]
    fail_fast: bool,
    /// Prints so many of the last lines of each seed's history
    #[arg(long, default_value_t = 0)]
    history: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let stop = Arc::new(AtomicBool::new(false));
    end_at_interrupt(Arc::clone(&stop))?;
    let bar = ProgressBar::new(args.seeds);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left {msg}")?);
    let summary = sim::pool::run(
        args.from,
        args.seeds,
        args.threads.unwrap_or(processors),
        args.history,
        &stop,
        |report, summary| {
            if args.hashes {
                bar.suspend(|| println!("{} {:016x}", report.seed, report.hash));
            }
            if args.fail_fast && report.failure.is_some() {
                stop.store(true, Ordering::SeqCst);
            }
            for line in &report.history {
                bar.suspend(|| println!("{line}"));
            }
            bar.set_message(match summary.failed.len() {
                0 => String::new(),
                failed => format!("{failed} FAILED"),
            });
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    match args.json {
        true => println!("{}", serde_json::to_string(&summary)?),
        false => print!("{}", summary.text()),
    }
    Ok(if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first interrupt ends after the seeds that are under way, with the summary so far; the second ends at once.
fn end_at_interrupt(stop: Arc<AtomicBool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
            }
        });
    });
    Ok(())
}
