//! Asks a portal that refused every call whether it is back: read-only, one to fifteen minutes apart. A block that only
//! the portal's support lifts is not asked about; a person resumes it.

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::context::{Context, EngineError};
use crate::store::control;

/// The first probe comes this long after the stop.
const FIRST: SignedDuration = SignedDuration::from_mins(1);
/// Probes are at most this far apart.
const LONGEST: SignedDuration = SignedDuration::from_mins(15);

/// How often a stop is looked for: short beside the first probe, long beside the work.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(15);

/// Runs until the service stops, apart from every other loop: a probe can take as long as any call.
pub(super) async fn run(ctx: Context) {
    let mut probe = StopProbe::default();
    while !ctx.stop.is_cancelled() {
        if let Err(error) = probe.step(&ctx).await {
            warn!(%error, "could not look whether the portal is stopped");
        }
        let next = ctx.clock.now().checked_add(ctx.clock.idle(LOOK_EVERY)).unwrap_or(Timestamp::MAX);
        tokio::select! {
            biased;
            () = ctx.clock.sleep_until(next) => {}
            () = ctx.stop.cancelled() => return,
        }
    }
}

/// When to ask next.
#[derive(Debug, Default)]
struct StopProbe {
    next: Option<Timestamp>,
    wait: SignedDuration,
}

impl StopProbe {
    /// Asks if it is time to.
    async fn step(&mut self, ctx: &Context) -> Result<(), EngineError> {
        let now = ctx.clock.now();
        let Some(stop) = ctx.store.read(control::portal_stop).await? else {
            *self = StopProbe::default();
            return Ok(());
        };
        if stop.needs_person {
            return Ok(());
        }
        let Some(next) = self.next else {
            self.wait = FIRST;
            self.next = Some(now.checked_add(FIRST).unwrap_or(Timestamp::MAX));
            return Ok(());
        };
        if now < next {
            return Ok(());
        }
        match ctx.portal.probe().await {
            Ok(()) => {
                info!("the portal answers again: deletions go on");
                ctx.store.write(move |db| control::clear_portal_stop_of(db, &stop)).await?;
                *self = StopProbe::default();
            }
            Err(error) => {
                self.wait = (self.wait * 2).min(LONGEST);
                self.next = Some(now.checked_add(self.wait).unwrap_or(Timestamp::MAX));
                warn!(error = %error.fault, remedy = error.remedy, "the portal still refuses every call");
            }
        }
        Ok(())
    }
}
