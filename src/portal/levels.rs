//! How much of what the portal allows is used at a moment, for people to see. Lengths of time instead of times: the gate
//! lives by a clock of its own, which nobody can set.

use jiff::{SignedDuration, Timestamp};

use crate::core::operating::Operating;
use crate::core::pace::Bucket;
use crate::core::rule::PortalLimits;

/// What is used of both limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels {
    /// The limits.
    pub limits: PortalLimits,
    /// How many places of the bucket are taken.
    pub places: f64,
    /// The part of the configured rate in use, 1/16 to 1: less than 1 where others share our address.
    pub share: f64,
    /// How long nothing is sent, after a 503.
    pub paused_for: Option<SignedDuration>,
    /// The methods that have used something of their budgets.
    pub methods: Vec<MethodLevel>,
}

/// What a method has used of its operating budget.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodLevel {
    /// The name it is counted under: `batch:METHOD` for its calls in a batch.
    pub method: String,
    /// Used seconds, calls in flight included.
    pub seconds: f64,
    /// In how long the next of them drop, as far as known.
    pub drops_in: Option<SignedDuration>,
    /// How long nothing of it is started, because the portal refused it.
    pub blocked_for: Option<SignedDuration>,
}

impl Levels {
    pub(super) fn of(limits: PortalLimits, bucket: &Bucket, operating: &Operating, now: Timestamp) -> Levels {
        let from_now = |at: Timestamp| at.duration_since(now);
        let methods = operating.report(now).into_iter().map(|used| MethodLevel {
            method: used.method,
            seconds: used.seconds,
            drops_in: used.drops_at.map(from_now),
            blocked_for: used.blocked_until.map(from_now),
        });
        Levels {
            limits,
            places: bucket.level(now),
            share: bucket.share(now),
            paused_for: bucket.paused_until(now).map(from_now),
            methods: methods.collect(),
        }
    }
}
