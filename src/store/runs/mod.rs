//! Runs: one evaluation of a rule each. running → planned, held, enqueued or failed; held → enqueued or failed.
//!
//! A held run keeps the leads that it would enqueue, and approval enqueues exactly these. A rule has at most one held
//! run. The numbers of an enqueued run add up, or the database refuses it.

mod finish;
mod held;
mod rule_state;
mod run;
mod tell;

pub use finish::{RunEnd, finish};
pub use held::{
    Approval, HELD_FOR, JoinHeld, SUPERSEDED, add_to_held, all_held, approve, expire_held, held_count,
    held_run, matches, set_approver, store_matches, supersede,
};
pub use rule_state::{RuleState, all_rule_states, note_rules, rule_state, set_last_fire};
pub use run::{
    NewRun, Run, RunFilter, RunState, Trigger, enqueued_counts, event_matches_since, get, last_approved,
    list, page, start,
};

pub(super) use finish::fail_interrupted;
pub(super) use held::APPROVED_BY;
