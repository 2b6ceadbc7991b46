//! What a lane works on: claimed jobs, what was read of their leads, and what that makes of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::freshness::{Moment, read_last};
use crate::core::lead::{Lead, LeadId};
use crate::core::outcome::{Fault, Presence};
use crate::core::rule::RuleSet;
use crate::portal::BatchReply;
use crate::store::jobs::{Claim, CopyToKeep, Job};

/// Jobs that are claimed, with what was read of their leads, if it was.
pub(in crate::engine) struct Batch {
    pub claim: Claim,
    pub rules: Arc<RuleSet>,
    pub(super) read: Option<Reading>,
}

/// What the portal said of the leads of a batch.
pub(super) struct Reading {
    /// The leads were read then or later: how old the reading is.
    pub(super) at: Moment,
    /// When the answer had come.
    pub(super) answered_at: Moment,
    /// Before the request left: an event from then on may tell what the answer does not.
    pub(super) asked_at: Moment,
    /// By lead; one that a list left out is not there.
    pub(super) found: HashMap<LeadId, Result<Presence, Fault>>,
}

impl Reading {
    /// The leads of a list in a request that deletes. It ran after the deletions, whose seconds the portal tells; the rest
    /// of the time may have passed before it or after it.
    pub(super) fn listed(reply: &BatchReply, leads: Vec<Lead>) -> Reading {
        Reading {
            at: read_last(reply.sent_at, &reply.delete_seconds, reply.seconds),
            answered_at: reply.finished_at,
            asked_at: reply.sent_at,
            found: leads.into_iter().map(|lead| (lead.id, Ok(Presence::Present(lead)))).collect(),
        }
    }
}

/// What a batch's reading makes of its jobs; those it settles are no longer in the batch.
pub(super) struct Judged {
    /// To be deleted.
    pub(super) doomed: Vec<Doomed>,
    /// The list left their leads out, which proves nothing: the request that deletes the others asks about them.
    pub(super) absent: Vec<Job>,
}

/// A job whose lead was just read and is to be deleted.
pub(in crate::engine) struct Doomed {
    pub job: Job,
    /// The conditions that selected it, for the job's history.
    pub why: String,
    pub copy: Option<CopyToKeep>,
}
