//! What earlier restores left unknown: looked up by their markers once the portal can no longer be at them.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use crate::core::lead::LeadId;
use crate::core::outcome::PORTAL_MAY_STILL_WORK;
use crate::core::undo;
use crate::engine::context::{Context, EngineError};
use crate::portal::PAGE;
use crate::store::restores::{self, Restore, RestoreState};

/// How often restores of unknown outcome are looked for by the service.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// Looks up what an earlier process, or a command that gave up, left unknown. Runs until the service stops.
pub(in crate::engine) async fn run(ctx: Context) {
    while !ctx.stop.is_cancelled() {
        if let Err(error) = settle(&ctx).await {
            warn!(%error, "restores of unknown outcome could not be looked up; they are once more");
        }
        let next = ctx.clock.now().checked_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
        tokio::select! {
            () = ctx.clock.sleep_until(next) => {}
            () = ctx.stop.cancelled() => return,
        }
    }
}

async fn settle(ctx: &Context) -> Result<(), EngineError> {
    let now = ctx.clock.now();
    let before = now.checked_sub(PORTAL_MAY_STILL_WORK).unwrap_or(Timestamp::MIN);
    let unknown: Vec<Restore> =
        ctx.store.read(move |db| restores::to_look_up(db, before, PAGE as u32)).await?;
    if unknown.is_empty() {
        return Ok(());
    }
    let markers: Vec<String> = unknown.iter().map(|restore| restore.marker.clone()).collect();
    let found = ctx.patiently(|| ctx.portal.leads_by_origin(undo::ORIGINATOR, &markers)).await?;
    let found: HashMap<String, LeadId> =
        found.iter().filter_map(|lead| Some((undo::marker_of(lead.fields())?.to_owned(), lead.id))).collect();
    ctx.store
        .write(move |db| {
            for restore in unknown {
                match found.get(&restore.marker) {
                    Some(new) => {
                        restores::restored(
                            db,
                            (restore.lead_id, restore.job_id, &restore.marker),
                            *new,
                            now,
                        )?;
                    }
                    None => {
                        let why = "its answer was lost, and no lead with its marker is shown";
                        restores::ended(db, &restore.marker, RestoreState::Missing, why, now)?;
                    }
                }
            }
            Ok(())
        })
        .await?;
    Ok(())
}
