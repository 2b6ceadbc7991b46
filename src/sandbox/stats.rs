//! What the sandbox counted: the evidence for promises about pace and about which leads were deleted.

use std::collections::BTreeMap;

use serde::Serialize;

/// One deletion, by whichever way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deletion {
    /// The lead.
    pub id: u32,
    /// When, as RFC 3339 in UTC.
    pub at: jiff::Timestamp,
    /// The REST method, or `colleague`.
    pub by: String,
}

/// One notification that a user of the portal got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notification {
    /// The user.
    pub user: u32,
    /// What it says.
    pub text: String,
    /// When, as RFC 3339 in UTC.
    pub at: jiff::Timestamp,
}

/// The counters of a sandbox since it was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// HTTP requests under `/rest`.
    pub requests: u64,
    /// HTTP requests by method, in lower case; a batch is one `batch`.
    pub requests_by_method: BTreeMap<String, u64>,
    /// Calls that ran or were refused by the method itself, single and inside batches, by method.
    pub calls_by_method: BTreeMap<String, u64>,
    /// Requests refused with `QUERY_LIMIT_EXCEEDED` (503).
    pub refused_503: u64,
    /// Calls refused with `OPERATION_TIME_LIMIT` (429), single and inside batches.
    pub refused_429: u64,
    /// Requests cut after `request_seconds`.
    pub cut: u64,
    /// Requests that an injected fault struck, and calls that one refused.
    pub faults: u64,
    /// The longest request in virtual seconds, slept or not.
    pub longest_request_seconds: f64,
    /// Requests under way at this moment.
    pub in_flight: u64,
    /// The most requests that were under way at once.
    pub most_in_flight: u64,
    /// Every deletion in order.
    pub deletions: Vec<Deletion>,
    /// Every notification in order.
    pub notifications: Vec<Notification>,
    /// Events handed to the outgoing webhook's queue or to a subscriber.
    pub events: u64,
    /// Events lost because a queue was full, or whose delivery failed: the portal never tries again.
    pub events_lost: u64,
}
