//! Many seeds on a few threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sim::report::{Report, Summary};

/// Real seconds without any seed ending after which one is stuck: a loop that never waits can't be ended by virtual time.
const STUCK: Duration = Duration::from_secs(150);

/// Lives through the seeds `from..from + count`; `told` hears of each. Ends early, between seeds, once `stop` is set.
pub(crate) fn run(
    from: u64,
    count: u64,
    threads: usize,
    shown: usize,
    stop: &Arc<AtomicBool>,
    mut told: impl FnMut(&Report, &Summary),
) -> Summary {
    let next = Arc::new(AtomicU64::new(from));
    let living: Arc<Mutex<Vec<u64>>> = Arc::default();
    let (sender, reports) = channel();
    for _ in 0..threads {
        let (next, stop, sender, living) =
            (Arc::clone(&next), Arc::clone(stop), sender.clone(), Arc::clone(&living));
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= from.saturating_add(count) {
                    return;
                }
                living.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
                let report = super::live(seed, shown);
                living.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != seed);
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut summary = Summary::default();
    loop {
        match reports.recv_timeout(STUCK) {
            Ok(report) => {
                summary.add(&report);
                told(&report, &summary);
            }
            Err(RecvTimeoutError::Timeout) => {
                for seed in living.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    let stuck = "it is stuck: a loop does not let time pass".to_owned();
                    summary.failed.insert(*seed, stuck);
                }
                return summary;
            }
            Err(RecvTimeoutError::Disconnected) => return summary,
        }
    }
}
