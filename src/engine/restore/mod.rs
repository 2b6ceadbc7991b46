//! Creates deleted leads again from their copies: one request a lead, never two for one deletion.
//!
//! For each lead: is it there already (by the marker that it would carry), then *sending* is committed, then the request.
//! What the portal refuses is asked for again with less: without the times, then without the right to import. An answer
//! that is lost makes the restore *unknown*; when the portal can no longer be working on it, the lead is looked up.
//!
//! A restored lead is protected from every rule for 30 days, from the transaction that knows its id on. Before that its
//! marker protects it: in the inbox, and in the last look.

mod later;
mod one;

use serde::{Deserialize, Serialize};

use self::one::Restoring;
use super::context::{Context, EngineError};
use crate::core::lead::LeadId;
use crate::core::rule::RuleSet;
use crate::portal::{Creation, PAGE};
use crate::store::restores::{self, Which};
use crate::store::{Room, requests};

pub(super) use self::later::run;

/// The most leads of one restore: some hours at two requests a second. More are restored by parts, by run or by time.
pub const MAX_LEADS: u32 = 10_000;

/// What a person is told before anything is created from a copy.
pub const BIN_FIRST: &str = "Look into the portal's recycle bin first (CRM, the gear, Recycle bin; as an administrator): for about 30 \
days it has deleted leads whole, with timeline, activities and files. A copy has the fields alone.";

/// What never comes back from a copy.
pub const NEVER: &str = "Not in a copy, so it can't come back: the old id, the timeline and its activities, tasks, products, and the contents \
of files.";

/// What became of one lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Created now.
    Restored,
    /// Created earlier; nothing was sent.
    AlreadyRestored,
    /// It is not known whether it was created.
    Unknown,
    /// It was certainly not created.
    Failed,
    /// There is nothing to create it from.
    NotPossible,
}

/// One lead of a restore. Names and ids only, never a value of the lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The deleted lead.
    pub lead_id: LeadId,
    /// What became of it.
    pub result: Became,
    /// The new lead.
    pub new_lead_id: Option<LeadId>,
    /// How it was created.
    pub method: Option<Creation>,
    /// Why it was not, or what went wrong afterwards.
    pub why: Option<String>,
    /// Fields in which the new lead differs from the copy; `null` where it could not be read back.
    pub differs: Option<Vec<String>>,
    /// Fields that held files: only their references are in the copy.
    pub files: Vec<String>,
}

/// What became of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Each lead, in the order of their deletion.
    pub leads: Vec<Told>,
    /// Leads that were not come to, because the restore was stopped.
    pub left: u64,
}

/// Who hears how far it is.
#[derive(Clone, Copy)]
pub enum Listener<'a> {
    /// A command that asked by this request; where the request is gone, so is the command, and the restore ends.
    Request(i64),
    /// This process.
    Here(&'a (dyn Fn(u64, u64) + Sync)),
}

/// Restores the leads of these deletions. `again` lets those be created whose earlier request may have created a lead
/// that can't be read.
pub async fn restore(
    ctx: &Context,
    rules: &RuleSet,
    which: &Which,
    again: bool,
    listener: Listener<'_>,
) -> Result<Report, EngineError> {
    let selection = which.clone();
    let leads = ctx.store.read(move |db| restores::select(db, &selection, MAX_LEADS + 1)).await?;
    if leads.len() > MAX_LEADS as usize {
        return Err(EngineError::TooManyToRestore(MAX_LEADS));
    }
    if ctx.room() != Room::Enough {
        return Err(EngineError::NoRoom);
    }
    let mut restoring = Restoring::new(ctx, rules, again);
    let total = leads.len() as u64;
    let mut report = Report { leads: Vec::new(), left: 0 };
    for some in leads.chunks(PAGE) {
        let mut chunk = Vec::new();
        for lead in some.iter().copied() {
            chunk.push(ctx.store.read(move |db| restores::undoable(db, lead)).await?);
        }
        let there = restoring.there(&chunk).await?;
        for undoable in chunk {
            let done = report.leads.len() as u64;
            if ctx.stop.is_cancelled() || !go_on(ctx, listener, done, total).await? {
                report.left = total - done;
                return Ok(report);
            }
            let told = restoring.one(undoable, &there).await?;
            report.leads.push(told);
        }
    }
    go_on(ctx, listener, total, total).await?;
    Ok(report)
}

/// Says how far it is; whether anybody still waits.
async fn go_on(ctx: &Context, listener: Listener<'_>, done: u64, total: u64) -> Result<bool, EngineError> {
    match listener {
        Listener::Here(hears) => {
            hears(done, total);
            Ok(true)
        }
        Listener::Request(id) => {
            Ok(ctx.store.write(move |db| requests::tell(db, id, &format!("{done}/{total}"))).await?)
        }
    }
}
