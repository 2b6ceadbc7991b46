//! Single facts (pause, portal stop, heartbeat, rotated tokens) and counters that outlive the rows they counted.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::columns::{exactly_one, from_ms, ms, signed, unsigned};
use super::notices;
use crate::core::notice::Happening;

const PAUSED: &str = "paused";
const PORTAL_STOP: &str = "portal_stop";
const HEARTBEAT: &str = "heartbeat";
const LAST_ERROR: &str = "last_error";
const UNCHECKED: &str = "unchecked";
const SILENT: &str = "silent";
const RELOAD_FAILED: &str = "reload_failed";

/// The value of a key.
pub fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    Ok(get_with_time(db, key)?.map(|(value, _)| value))
}

fn get_with_time(db: &Connection, key: &str) -> rusqlite::Result<Option<(String, Timestamp)>> {
    db.prepare_cached("SELECT value, at FROM control WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, from_ms(row.get(1)?)?)))
        .optional()
}

/// Sets the value of a key.
pub fn set(db: &Connection, key: &str, value: &str, now: Timestamp) -> rusqlite::Result<()> {
    const SQL: &str = "INSERT INTO control (key, value, at) VALUES (?1, ?2, ?3)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value, at = excluded.at";
    db.prepare_cached(SQL)?.execute((key, value, ms(now))).map(drop)
}

/// Removes a key; says whether it was there.
pub fn remove(db: &Connection, key: &str) -> rusqlite::Result<bool> {
    Ok(db.prepare_cached("DELETE FROM control WHERE key = ?1")?.execute([key])? > 0)
}

/// Whether claiming is paused.
pub fn paused(db: &Connection) -> rusqlite::Result<bool> {
    Ok(get(db, PAUSED)?.is_some())
}

/// Pauses or resumes claiming; it holds across restarts.
pub fn set_paused(db: &Connection, paused: bool, now: Timestamp) -> rusqlite::Result<()> {
    if paused { set(db, PAUSED, "yes", now) } else { remove(db, PAUSED).map(drop) }
}

/// Why the portal is not asked for anything at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalStop {
    /// The portal's error code.
    pub code: String,
    /// What happened and what to do, for people.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether only a person or a restart ends it; otherwise a probe that succeeds does too.
    pub needs_person: bool,
}

/// Why the portal is stopped, if it is.
pub fn portal_stop(db: &Connection) -> rusqlite::Result<Option<PortalStop>> {
    get(db, PORTAL_STOP)?.map(|text| from_json(&text)).transpose()
}

/// Records that the portal is stopped. A stop that only a person ends stays one, whatever is refused after it.
pub fn set_portal_stop(db: &Connection, stop: &PortalStop) -> rusqlite::Result<()> {
    let known = portal_stop(db)?;
    if !stop.needs_person && known.as_ref().is_some_and(|known| known.needs_person) {
        return Ok(());
    }
    // A stop is told of once, however many calls were refused; and once more where it turns out to need a person.
    if known.is_none_or(|known| stop.needs_person && !known.needs_person) {
        let stopped = Happening::Stopped { code: stop.code.clone(), needs_person: stop.needs_person };
        notices::tell(db, &stopped, stop.since)?;
    }
    let text = serde_json::to_string(stop)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    set(db, PORTAL_STOP, &text, stop.since)
}

/// Records that the portal works again; says whether it was stopped.
pub fn clear_portal_stop(db: &Connection) -> rusqlite::Result<bool> {
    remove(db, PORTAL_STOP)
}

/// Ends a stop that a probe found over, if it is still the one that was probed and no person is needed.
pub fn clear_portal_stop_of(db: &Connection, probed: &PortalStop) -> rusqlite::Result<bool> {
    match portal_stop(db)? {
        Some(known) if known.since == probed.since && !known.needs_person => remove(db, PORTAL_STOP),
        Some(_) | None => Ok(false),
    }
}

fn from_json<T: for<'a> Deserialize<'a>>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// Records that the service lives: after a restart the time since then is one in which events were lost.
pub fn heartbeat(db: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    set(db, HEARTBEAT, "", now)
}

/// When the service last said that it lives.
pub fn last_heartbeat(db: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    Ok(get_with_time(db, HEARTBEAT)?.map(|(_, at)| at))
}

/// When the last event came, while the silence alarm is on.
pub fn silent_since(db: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    get(db, SILENT)?.map(|text| from_json(&text)).transpose()
}

/// Records that no event came since then for longer than the silence alarm; `None` when it is over.
pub fn set_silent_since(db: &Connection, since: Option<Timestamp>, now: Timestamp) -> rusqlite::Result<()> {
    match since {
        Some(since) => set(db, SILENT, &format!("\"{since}\""), now),
        None => remove(db, SILENT).map(drop),
    }
}

/// The last error that a person should know of, with its time.
pub fn last_error(db: &Connection) -> rusqlite::Result<Option<(String, Timestamp)>> {
    get_with_time(db, LAST_ERROR)
}

/// Records an error that a person should know of; `None` when it is over.
pub fn set_last_error(db: &Connection, error: Option<&str>, now: Timestamp) -> rusqlite::Result<()> {
    match error {
        Some(text) => set(db, LAST_ERROR, text, now),
        None => remove(db, LAST_ERROR).map(drop),
    }
}

/// Rules that the portal has not confirmed: they neither run nor delete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncheckedRules {
    /// Their names.
    pub rules: Vec<String>,
    /// Why: what the portal does not know, or why it could not be asked.
    pub why: Vec<String>,
}

/// The rules that the service has in force without the portal's word.
pub fn unchecked(db: &Connection) -> rusqlite::Result<UncheckedRules> {
    get(db, UNCHECKED)?.map_or(Ok(UncheckedRules::default()), |text| from_json(&text))
}

/// Records the rules that are unchecked, if any.
pub fn set_unchecked(db: &Connection, unchecked: &UncheckedRules, now: Timestamp) -> rusqlite::Result<()> {
    if unchecked.rules.is_empty() {
        return remove(db, UNCHECKED).map(drop);
    }
    let text = serde_json::to_string(unchecked)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    set(db, UNCHECKED, &text, now)
}

/// A reload of the rules that failed, since which the old ones are in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedReload {
    /// When.
    pub at: Timestamp,
    /// What was wrong, an entry each, with its place.
    pub problems: Vec<String>,
}

/// The last reload, if it failed.
pub fn failed_reload(db: &Connection) -> rusqlite::Result<Option<FailedReload>> {
    let found = get_with_time(db, RELOAD_FAILED)?;
    found.map(|(text, at)| Ok(FailedReload { at, problems: from_json(&text)? })).transpose()
}

/// Records what was wrong with a reload; nothing: it succeeded.
pub fn set_failed_reload(db: &Connection, problems: &[String], now: Timestamp) -> rusqlite::Result<()> {
    if problems.is_empty() {
        return remove(db, RELOAD_FAILED).map(drop);
    }
    let text = serde_json::to_string(problems)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    set(db, RELOAD_FAILED, &text, now)
}

/// Adds to a counter. It is part of every group of events, and `RETURNING` would build a table for its one value each time.
pub fn bump(db: &Connection, name: &str, key: &str, by: u64) -> rusqlite::Result<()> {
    const SQL: &str = "INSERT INTO counters (name, key, value) VALUES (?1, ?2, ?3)
        ON CONFLICT (name, key) DO UPDATE SET value = value + excluded.value";
    db.prepare_cached(SQL)?.execute((name, key, signed(by))).map(drop)
}

/// Takes one from a counter.
pub(super) fn lower(db: &Connection, name: &str, key: &str) -> rusqlite::Result<()> {
    const SQL: &str = "UPDATE counters SET value = value - 1 WHERE name = ?1 AND key = ?2";
    exactly_one(db.prepare_cached(SQL)?.execute((name, key))?)
}

/// The counters of a name, by key.
pub fn counters(db: &Connection, name: &str) -> rusqlite::Result<Vec<(String, u64)>> {
    db.prepare_cached("SELECT key, value FROM counters WHERE name = ?1 ORDER BY key")?
        .query_map([name], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
        .collect()
}

/// One counter; 0 where it was never bumped.
pub fn counter(db: &Connection, name: &str, key: &str) -> rusqlite::Result<u64> {
    let value = db
        .prepare_cached("SELECT value FROM counters WHERE name = ?1 AND key = ?2")?
        .query_row((name, key), |row| row.get(0))
        .optional()?;
    Ok(value.map_or(0, unsigned))
}
