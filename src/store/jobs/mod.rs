//! Jobs: one deletion of one lead each. waiting → running → done; at most one that is not done a lead.
//!
//! A running job is *claimed* (nothing has left yet), *sent* (an answer is awaited) or *unknown* (no trustworthy answer
//! came; its lead is read again from `settle_at` on, when the portal has surely ended). Every change of a running job
//! names the claim it was made under, so a completion that comes after a rescue changes nothing.

mod cap;
mod claim;
mod end;
mod enqueue;
mod job;
mod list;
mod page;
mod progress;
mod settle;

pub use cap::{Capped, capped_rules};
pub use claim::{Claim, claim_due, claim_unknown, release_claim, release_some};
pub use end::{
    CANCEL_PROTECTS, Cancel, LeadGone, Retry, cancel, lead_gone, retry, spare_rule, spare_waiting_of_lead,
};
pub use enqueue::{Enqueued, enqueue, extend_grace};
pub use job::{Job, JobState, Phase};
pub use list::{
    AttemptLine, DueSummary, JobCounts, attempts_of, counts, deleted_since, due_summary, get, live_jobs,
    next_due, waiting_rules,
};
pub use page::{JobFilter, list};
pub use progress::{RuleProgress, progress_of_rule, used_today};
pub use settle::{Settled, abandon_claim, mark_sent, settle};

pub(super) use claim::release_all_claimed;
pub(super) use settle::sent_to_unknown;

pub use super::copies::CopyToKeep;
