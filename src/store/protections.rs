//! Leads that the program protects from itself for a time, so that a rule does not loop over a lead that a person
//! cancelled, that the portal refuses to delete, or that somebody took out of the recycle bin.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::Connection;

use super::columns::{at, count_of, ms, words};
use crate::core::lead::LeadId;

words! {
    /// Why a lead is protected.
    ProtectionReason {
        /// A person cancelled its job.
        Cancelled = "cancelled",
        /// The portal refused to delete it.
        Failed = "failed",
        /// It was restored from the recycle bin or by us.
        Restored = "restored",
    }
}

impl ProtectionReason {
    /// Why the lead is left alone, for people.
    pub fn says(self) -> &'static str {
        match self {
            ProtectionReason::Cancelled => "its deletion was cancelled",
            ProtectionReason::Failed => "the portal refused to delete it",
            ProtectionReason::Restored => "it was restored",
        }
    }
}

/// A lead's protection in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeadProtection {
    /// Why.
    pub reason: ProtectionReason,
    /// Until when.
    pub until: Timestamp,
}

/// Which of these leads are protected from a rule now; of several protections the one that lasts longest.
pub fn lead_protections(
    db: &Connection,
    leads: &[LeadId],
    rule: &str,
    now: Timestamp,
) -> rusqlite::Result<HashMap<LeadId, LeadProtection>> {
    const SQL: &str = "SELECT reason, until FROM lead_protections
        WHERE lead_id = ?1 AND rule IN ('', ?2) AND until > ?3 ORDER BY until DESC LIMIT 1";
    let mut statement = db.prepare_cached(SQL)?;
    let mut found = HashMap::new();
    for lead in leads {
        let mut rows = statement.query((lead, rule, ms(now)))?;
        if let Some(row) = rows.next()? {
            found.insert(*lead, LeadProtection { reason: row.get("reason")?, until: at(row, "until")? });
        }
    }
    Ok(found)
}

/// Protects a lead from one rule, or from every rule; an earlier protection for the same reason is never shortened.
pub fn protect_lead(
    db: &Connection,
    lead: LeadId,
    rule: Option<&str>,
    reason: ProtectionReason,
    until: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const SQL: &str = "INSERT INTO lead_protections (lead_id, reason, rule, until, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (lead_id, reason, rule) DO UPDATE SET until = max(until, excluded.until)";
    db.prepare_cached(SQL)?.execute((lead, reason, rule.unwrap_or_default(), ms(until), ms(now))).map(drop)
}

/// Ends a lead's protections for a reason; says whether there was one.
pub fn lift(db: &Connection, lead: LeadId, reason: ProtectionReason) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM lead_protections WHERE lead_id = ?1 AND reason = ?2";
    Ok(db.prepare_cached(sql)?.execute((lead, reason))? > 0)
}

/// How many jobs of a lead failed: *n* in the 24 h · 2ⁿ that it is left alone.
pub fn failures_of_lead(db: &Connection, lead: LeadId) -> rusqlite::Result<u32> {
    let failed = count_of(db, "SELECT count(*) FROM jobs WHERE lead_id = ?1 AND outcome = 'failed'", [lead])?;
    Ok(u32::try_from(failed).unwrap_or(u32::MAX))
}
