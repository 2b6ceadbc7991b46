//! The portal's pace in the database, so that a restart neither bursts past the limits nor forgets what a call costs.
//!
//! Property wanted: from the moment that a process may send until it has stopped, the database holds a snapshot that
//! says that more may have been sent since; only an orderly stop writes one that can be taken at its word.

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use crate::portal::{PaceSnapshot, Portal};
use crate::store::{Store, StoreError, control};

/// How often the pace is written while it changes: what a crash loses of learnt costs is seconds of them.
pub(super) const SAVE_EVERY: SignedDuration = SignedDuration::from_secs(5);

const KEY: &str = "pace";

/// The pace that the previous process left, if it can be read.
pub async fn recall(store: &Store) -> Option<PaceSnapshot> {
    match store.read(|db| control::get(db, KEY)).await {
        Ok(text) => text.as_deref().and_then(PaceSnapshot::parse),
        Err(error) => {
            warn!(%error, "the portal's pace could not be read: costs are learnt anew");
            None
        }
    }
}

/// Keeps the pace as it stands, to be followed by more requests. Call it before the first one.
pub async fn keep(store: &Store, portal: &Portal, now: Timestamp) -> Result<(), StoreError> {
    write(store, portal.pace_snapshot(), now).await
}

/// Keeps the pace for the next process: nothing is sent after this, and nothing is in flight.
pub async fn close(store: &Store, portal: &Portal, now: Timestamp) -> Result<(), StoreError> {
    write(store, portal.pace_snapshot().closed(), now).await
}

async fn write(store: &Store, snapshot: PaceSnapshot, now: Timestamp) -> Result<(), StoreError> {
    let text = snapshot.to_json();
    store.write(move |db| control::set(db, KEY, &text, now)).await
}

/// Writes the pace when it has changed and is due.
#[derive(Default)]
pub(super) struct PaceKeeper {
    kept: Option<u64>,
    due: Option<Timestamp>,
}

impl PaceKeeper {
    pub(super) async fn step(
        &mut self,
        store: &Store,
        portal: &Portal,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let changes = portal.pace_changes();
        if self.kept == Some(changes) || self.due.is_some_and(|due| now < due) {
            return Ok(());
        }
        keep(store, portal, now).await?;
        self.kept = Some(changes);
        self.due = now.checked_add(SAVE_EVERY).ok();
        Ok(())
    }
}
