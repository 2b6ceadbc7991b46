//! Notices of runs that did not come to their own end: held ones, and those that a restart interrupted. Each is written in
//! the transaction of the change that it tells of.

use jiff::Timestamp;
use rusqlite::Connection;

use super::run::{self, RunState};
use crate::core::notice::{Ended, Happening};
use crate::store::ids::RunId;
use crate::store::notices;

/// Tells how a run ended that did not come to its own end: a held one, or one that a restart interrupted.
pub(super) fn tell_ended(db: &Connection, id: RunId, ended: Ended, now: Timestamp) -> rusqlite::Result<()> {
    let Some(run) = run::get(db, id)? else { return Ok(()) };
    let finished = Happening::Finished {
        run: id.0,
        rule: run.rule,
        ended,
        matched: run.matched,
        protected: run.protected,
        undecidable: run.undecidable,
        waiting: run.already_waiting,
        leads: if run.state == RunState::Enqueued { run.enqueued } else { run.would_enqueue },
    };
    notices::tell(db, &finished, now)
}
