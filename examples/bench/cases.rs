//! The cases: a portal, a number of leads, and the best that its limits allow.

use b24_janitor::sandbox::{BatchCharge, SandboxOptions};

/// One case.
pub(crate) struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// How many leads are deleted.
    pub leads: usize,
    /// Of these, how many percent a colleague deletes before the drain.
    pub gone_percent: usize,
    /// What the portal does differently from the documented limits.
    pub portal: fn(&mut SandboxOptions),
    /// `concurrency` in the rules.
    pub concurrency: u8,
    /// `method_seconds` in the rules.
    pub method_seconds: f64,
    /// The share of the best that was reached, from leads and seconds.
    pub reached: fn(leads: f64, seconds: f64) -> f64,
    /// Clients of others that do the same.
    pub peers: &'static [&'static str],
}

const BURST: f64 = 50.0;
const RATE: f64 = 2.0;
const BATCH: f64 = 50.0;

/// Requests are what is scarce: how much of `(burst + rate · T) · 50` was used.
fn of_requests(leads: f64, seconds: f64) -> f64 {
    leads / ((BURST + RATE * seconds) * BATCH)
}

/// Operating seconds are what is scarce (scaled 1:10: 48 s in a window of 60 s, in baskets of 6 s; 0.2 s a delete): 240
/// leads fit into a window and 1,000 need five. A basket drops a window after it began, so the last leads can begin four
/// windows after the first at the earliest, less a basket if the first came at the end of theirs.
fn of_operating(_: f64, seconds: f64) -> f64 {
    (4.0 * 60.0 - 6.0) / seconds
}

/// The time of the best over the time taken, for 5,000 leads whose best is 25 s.
fn of_best_25(_: f64, seconds: f64) -> f64 {
    25.0 / seconds
}

/// Deletions that take long: the share of the lanes' time that was spent deleting (3.3 s each, two lanes).
fn of_two_lanes(leads: f64, seconds: f64) -> f64 {
    leads * 3.3 / (2.0 * seconds)
}

fn documented(options: &mut SandboxOptions) {
    options.delete_seconds = 0.02;
}

fn slept(options: &mut SandboxOptions) {
    options.delete_seconds = 0.02;
    options.sleep_scale = 1.0;
}

fn scaled(options: &mut SandboxOptions) {
    options.method_seconds = 48.0;
    options.window_seconds = 60;
    options.delete_seconds = 0.2;
}

fn scaled_to_batch(options: &mut SandboxOptions) {
    scaled(options);
    options.batch_charge = BatchCharge::Batch;
}

fn slow(options: &mut SandboxOptions) {
    options.delete_seconds = 3.3;
    options.sleep_scale = 1.0;
}

const BOTH: &[&str] = &["fast_bitrix24", "b24pysdk"];

/// All of them.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "requests",
        leads: 20_000,
        gone_percent: 0,
        portal: documented,
        concurrency: 2,
        method_seconds: 480.0,
        reached: of_requests,
        peers: BOTH,
    },
    Case {
        name: "slept",
        leads: 5000,
        gone_percent: 0,
        portal: slept,
        concurrency: 4,
        method_seconds: 480.0,
        reached: of_best_25,
        peers: BOTH,
    },
    Case {
        name: "operating",
        leads: 1000,
        gone_percent: 0,
        portal: scaled,
        concurrency: 2,
        method_seconds: 48.0,
        reached: of_operating,
        peers: BOTH,
    },
    Case {
        name: "operating-batch",
        leads: 1000,
        gone_percent: 0,
        portal: scaled_to_batch,
        concurrency: 2,
        method_seconds: 48.0,
        reached: of_operating,
        peers: BOTH,
    },
    Case {
        name: "gone",
        leads: 5000,
        gone_percent: 5,
        portal: documented,
        concurrency: 2,
        method_seconds: 480.0,
        reached: of_requests,
        peers: BOTH,
    },
    Case {
        name: "slow",
        leads: 60,
        gone_percent: 0,
        portal: slow,
        concurrency: 2,
        method_seconds: 480.0,
        reached: of_two_lanes,
        peers: &[],
    },
];
