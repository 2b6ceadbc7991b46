//! The pace with a portal, kept over a restart: the portal goes on counting while this program does not run.
//!
//! The invariant: whatever the moment of the restart, and whether or not the last process could say goodbye, no window
//! of `t` seconds holds more than `burst + rate·t` places over both lives. A snapshot is a hint from a file: one that
//! can't be read, or that a later version wrote, is no snapshot.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::core::operating::{Operating, SavedOperating};
use crate::core::pace::{Bucket, SavedBucket};

/// The format below.
const VERSION: u32 = 1;

/// A snapshot that seems older than this was written, or is read, by a clock that is wrong.
const OLDEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The pace at one moment; see [`super::Portal::pace_snapshot`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaceSnapshot {
    version: u32,
    /// The host: another portal counts by itself.
    portal: String,
    /// The wall time.
    taken_at: Timestamp,
    /// Whether nothing was sent after it.
    closed: bool,
    bucket: SavedBucket,
    operating: SavedOperating,
    costs: BTreeMap<String, f64>,
}

impl PaceSnapshot {
    pub(super) fn new(
        portal: &str,
        taken_at: Timestamp,
        (bucket, operating): (SavedBucket, SavedOperating),
        costs: &BTreeMap<String, f64>,
    ) -> PaceSnapshot {
        let portal = portal.to_owned();
        PaceSnapshot {
            version: VERSION,
            portal,
            taken_at,
            closed: false,
            bucket,
            operating,
            costs: costs.clone(),
        }
    }

    /// Reads what [`PaceSnapshot::to_json`] wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<PaceSnapshot> {
        serde_json::from_str::<PaceSnapshot>(text).ok().filter(|snapshot| snapshot.version == VERSION)
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        // Every map has text keys and every number is finite, so this can't fail; an empty text would be ignored.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The last one of its process: nothing was sent after it, and nothing is in flight.
    pub fn closed(mut self) -> PaceSnapshot {
        self.closed = true;
        self
    }

    /// What one deletion by this method has cost so far, in seconds of the portal's work, for estimates.
    pub fn seconds_of(&self, method: &str) -> Option<f64> {
        self.costs().find(|(known, _)| known == method).map(|(_, seconds)| seconds)
    }

    pub(super) fn is_of(&self, portal: &str) -> bool {
        self.portal == portal
    }

    pub(super) fn costs(&self) -> impl Iterator<Item = (String, f64)> {
        let usable = |(_, seconds): &(&String, &f64)| seconds.is_finite() && **seconds >= 0.0;
        self.costs.iter().filter(usable).map(|(method, seconds)| (method.clone(), *seconds))
    }

    /// Takes it up at the wall time `now`. Where the clock says that no time has passed, or absurdly much, it counts as
    /// taken just now, and its bucket as full: that errs by the portal's own window at most.
    pub(super) fn restore(&self, bucket: &mut Bucket, operating: &mut Operating, now: Timestamp) {
        let passed = now.duration_since(self.taken_at);
        let believed = !passed.is_negative() && passed <= OLDEST;
        let taken_at = if believed { self.taken_at } else { now };
        bucket.restore(&self.bucket, taken_at, now, !(self.closed && believed));
        operating.restore(&self.operating, taken_at);
    }
}
