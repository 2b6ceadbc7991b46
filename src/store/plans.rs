//! The last plan of each rule, so that the next one can say what has changed since.
//!
//! A row of `control` each: ids as their distances, which are short where leads are many. Limit: [`MAX_LEADS`] ids.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::columns::ms;
use super::control;
use crate::core::lead::LeadId;

/// The most ids that are remembered of a plan: some hundred kilobytes. Beyond it only the first ones are compared.
pub const MAX_LEADS: usize = 100_000;

/// Plans of rules that nobody has planned for so long are forgotten: the rule is gone, or the answer of no use.
const KEPT: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A plan as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastPlan {
    /// The rule's text: a changed rule explains a changed plan.
    pub rule_text: String,
    /// When.
    pub at: Timestamp,
    /// How many leads were selected.
    pub total: u64,
    /// Their ids, ascending, at most [`MAX_LEADS`].
    pub leads: Vec<LeadId>,
}

impl LastPlan {
    /// A plan that selected these leads, ascending.
    pub fn new(rule_text: String, at: Timestamp, selected: &[LeadId]) -> LastPlan {
        let leads = selected.iter().copied().take(MAX_LEADS).collect();
        LastPlan { rule_text, at, total: selected.len() as u64, leads }
    }

    /// Whether [`LastPlan::leads`] is all that was selected.
    pub fn is_whole(&self) -> bool {
        self.total == self.leads.len() as u64
    }
}

#[derive(Serialize, Deserialize)]
struct Row {
    rule_text: String,
    at: Timestamp,
    total: u64,
    /// Each id less the one before.
    steps: Vec<u32>,
}

fn key(rule: &str) -> String {
    format!("plan:{rule}")
}

/// The last plan of a rule; none where what is kept can't be read, since it is only a help.
pub fn last(db: &Connection, rule: &str) -> rusqlite::Result<Option<LastPlan>> {
    let Some(text) = control::get(db, &key(rule))? else { return Ok(None) };
    let Ok(row) = serde_json::from_str::<Row>(&text) else { return Ok(None) };
    let mut id = 0_i64;
    let leads: Result<Vec<LeadId>, _> = row
        .steps
        .iter()
        .map(|step| {
            id += i64::from(*step);
            LeadId::try_from(id)
        })
        .collect();
    let Ok(leads) = leads else { return Ok(None) };
    Ok(Some(LastPlan { rule_text: row.rule_text, at: row.at, total: row.total, leads }))
}

/// Remembers a plan in place of the one before it.
pub fn remember(db: &Connection, rule: &str, plan: &LastPlan) -> rusqlite::Result<()> {
    let mut before = 0;
    let steps = plan.leads.iter().map(|lead| {
        let step = lead.get().saturating_sub(before);
        before = lead.get();
        step
    });
    let row =
        Row { rule_text: plan.rule_text.clone(), at: plan.at, total: plan.total, steps: steps.collect() };
    let text = serde_json::to_string(&row)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    control::set(db, &key(rule), &text, plan.at)?;
    let old = plan.at.saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
    db.prepare_cached("DELETE FROM control WHERE key GLOB 'plan:*' AND at < ?1")?.execute([ms(old)]).map(drop)
}
