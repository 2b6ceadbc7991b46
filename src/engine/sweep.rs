//! Sweeps: where events may have been lost, every rule that listens evaluates all leads once.
//!
//! Invariant: a gap is closed only after each of these rules has run since it was opened.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::context::{Context, EngineError};
use super::evaluator::{self, Evaluated};
use crate::store::events;
use crate::store::runs::{RunState, Trigger};

/// A rule is swept because of a gap at most this often.
const GAP_SWEEP_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// The last sweep of a rule.
pub(super) struct Sweep {
    at: Timestamp,
    failed: bool,
}

/// The last sweep of each rule because of a gap.
pub(super) type Swept = HashMap<String, Sweep>;

/// Sweeps beside the events, one sweep at a time: a listing of a large portal takes minutes, and an event that spares a
/// lead must not wait for it.
pub(super) async fn start_sweep(
    ctx: &Context,
    tasks: &TaskTracker,
    sweeping: &Arc<AtomicBool>,
    swept: &Arc<tokio::sync::Mutex<Swept>>,
) -> Result<(), EngineError> {
    if ctx.store.read(events::open_gaps).await?.is_empty() {
        return Ok(());
    }
    sweeping.store(true, Ordering::SeqCst);
    let (inner, sweeping, swept) = (ctx.clone(), Arc::clone(sweeping), Arc::clone(swept));
    ctx.spawn(tasks, async move {
        let mut swept = swept.lock().await;
        if let Err(error) = sweep_gaps(&inner, &mut swept).await
            && !matches!(error, EngineError::Stopping)
        {
            warn!(%error, "rules could not be swept; they are once more");
            let at = inner.retry_at(inner.clock.now(), SWEEP_RETRIES);
            tokio::select! {
                biased;
                () = inner.clock.sleep_until(at) => {}
                () = inner.stop.cancelled() => {}
            }
        }
        sweeping.store(false, Ordering::SeqCst);
    });
    Ok(())
}

/// The delay after a failed sweep is that after so many tries: about a minute and a half.
const SWEEP_RETRIES: u32 = 4;

/// Events that were refused, or that came while the service was down, are lost: every rule with events sweeps once.
async fn sweep_gaps(ctx: &Context, swept: &mut Swept) -> Result<(), EngineError> {
    let gaps = ctx.store.read(events::open_gaps).await?;
    let Some((last, opened)) = gaps.last().map(|gap| (gap.id, gap.at)) else { return Ok(()) };
    let rules = ctx.rules();
    let now = ctx.clock.now();
    let listening: Vec<_> = rules.rules.iter().filter(|rule| !rule.events.is_empty()).collect();
    let too_soon = listening.iter().any(|rule| {
        swept.get(rule.name.as_str()).is_some_and(|swept| now.duration_since(swept.at) < GAP_SWEEP_EVERY)
    });
    if too_soon {
        return Ok(());
    }
    let mut all = true;
    for rule in listening {
        if ctx.require_checked(rule.name.as_str()).is_err() {
            all = false;
            continue;
        }
        // Another rule keeps the gap open.
        if swept.get(rule.name.as_str()).is_some_and(|swept| swept.at > opened && !swept.failed) {
            continue;
        }
        info!(rule = %rule.name, "sweeping once: events may have been lost");
        match evaluator::evaluate(ctx, &rules, rule, Trigger::Event).await {
            Ok(Evaluated::Run(run)) => {
                let failed = run.state == RunState::Failed;
                swept.insert(rule.name.to_string(), Sweep { at: now, failed });
                all &= !failed;
            }
            Ok(Evaluated::SkippedHeld(_)) => {
                swept.insert(rule.name.to_string(), Sweep { at: now, failed: false });
            }
            // It may have begun before the gap.
            Err(EngineError::AlreadyRunning(_) | EngineError::NotChecked { .. }) => all = false,
            Err(error) => return Err(error),
        }
    }
    if !all {
        return Ok(());
    }
    ctx.store.write(move |db| events::close_gaps(db, last)).await?;
    Ok(())
}
