//! What is remembered of each rule: since when its text is known, and when its schedule last fired.
//!
//! Only times after `first_loaded_at` count for what was missed, so a new or edited rule makes nothing up.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::store::columns::{at, at_opt, exactly_one, ms};

/// What is remembered of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleState {
    /// Its name.
    pub name: String,
    /// Its text as last loaded.
    pub text: String,
    /// When this text was first loaded.
    pub first_loaded_at: Timestamp,
    /// When its schedule last fired.
    pub last_fire_at: Option<Timestamp>,
}

const SELECT: &str = "SELECT name, text, first_loaded_at, last_fire_at FROM rule_states";

fn read(row: &Row<'_>) -> rusqlite::Result<RuleState> {
    Ok(RuleState {
        name: row.get("name")?,
        text: row.get("text")?,
        first_loaded_at: at(row, "first_loaded_at")?,
        last_fire_at: at_opt(row, "last_fire_at")?,
    })
}

/// Records the rules (name and text) that were loaded. A text that is new or changed counts as loaded now.
pub fn note_rules(db: &Connection, rules: &[(String, String)], now: Timestamp) -> rusqlite::Result<()> {
    const SQL: &str = "INSERT INTO rule_states (name, text, first_loaded_at) VALUES (?1, ?2, ?3)
        ON CONFLICT (name) DO UPDATE SET text = excluded.text, first_loaded_at = excluded.first_loaded_at
        WHERE text <> excluded.text";
    let mut note = db.prepare_cached(SQL)?;
    for (name, text) in rules {
        note.execute((name, text, ms(now)))?;
    }
    Ok(())
}

/// What is remembered of a rule.
pub fn rule_state(db: &Connection, name: &str) -> rusqlite::Result<Option<RuleState>> {
    db.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?.query_row([name], read).optional()
}

/// What is remembered of every rule that was ever loaded, by name.
pub fn all_rule_states(db: &Connection) -> rusqlite::Result<Vec<RuleState>> {
    db.prepare_cached(&format!("{SELECT} ORDER BY name"))?.query_map([], read)?.collect()
}

/// Records that a rule's schedule fired. The rule must have been noted.
pub fn set_last_fire(db: &Connection, name: &str, at: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE rule_states SET last_fire_at = ?2 WHERE name = ?1";
    exactly_one(db.prepare_cached(sql)?.execute((name, ms(at)))?)
}
