//! The inbox: lead events that were stored before the portal got its 200, and the gaps in which some may be missing.
//!
//! The portal sends no delivery id and its `ts` has whole seconds, so an event is never dropped as a duplicate of one
//! that was taken or processed: it joins one that is still *pending*, whose evaluation will see everything that both
//! announce. pending → taken → processed; back to pending when an evaluation did not end.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use super::columns::{at, at_opt, count, count_of, exactly_one, ms};
use super::control;
use super::ids::EventId;
use super::restores;
use crate::core::lead::LeadId;
use crate::core::rule::LeadEvent;

/// An event as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What happened to the lead.
    pub event: LeadEvent,
    /// The lead.
    pub lead_id: LeadId,
    /// When, by the portal's clock, in whole seconds.
    pub portal_ts: Option<Timestamp>,
    /// The portal that the event names.
    pub domain: Option<String>,
    /// The portal's id that the event names.
    pub member_id: Option<String>,
    /// Whether `domain` or `member_id` is another than our portal's; the token decides all the same.
    pub foreign: bool,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredEvent {
    /// Its id.
    pub id: EventId,
    /// What happened to the lead.
    pub event: LeadEvent,
    /// When it arrived; the first of them, where several were joined.
    pub received_at: Timestamp,
    /// When, by the portal's clock; the last of them, where several were joined.
    pub portal_ts: Option<Timestamp>,
    /// How many more arrived and joined it while it was pending.
    pub repeats: u64,
}

/// The events of one lead that are evaluated together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingLead {
    /// The lead.
    pub lead_id: LeadId,
    /// Its events, at most one of a kind, in the order of arrival.
    pub events: Vec<StoredEvent>,
}

/// How many events there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// Rows that wait for their evaluation.
    pub pending: u64,
    /// Everything ever accepted, repeats and what was pruned included.
    pub total: u64,
}

/// A time in which events may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Its id; they grow.
    pub id: i64,
    /// What happened.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

const STORED: &str = "id, event, lead_id, received_at, portal_ts, repeats";
const COUNTER: &str = "events";
const COUNTER_TOTAL: &str = "total";

fn stored(row: &Row<'_>) -> rusqlite::Result<(LeadId, StoredEvent)> {
    let event = StoredEvent {
        id: row.get("id")?,
        event: row.get("event")?,
        received_at: at(row, "received_at")?,
        portal_ts: at_opt(row, "portal_ts")?,
        repeats: count(row, "repeats")?,
    };
    Ok((row.get("lead_id")?, event))
}

/// Stores an event, or joins it to a pending one of the same lead and kind; the id of the row that stands for it.
pub fn append(db: &Connection, event: &NewEvent, received_at: Timestamp) -> rusqlite::Result<EventId> {
    control::bump(db, COUNTER, COUNTER_TOTAL, 1)?;
    let mut statement = db.prepare_cached(&format!("{APPEND} RETURNING id"))?;
    statement.query_row(appended(event, received_at), |row| row.get(0))
}

/// [`append`] for events that arrived together.
pub fn append_all(db: &Connection, events: &[NewEvent], received_at: Timestamp) -> rusqlite::Result<()> {
    control::bump(db, COUNTER, COUNTER_TOTAL, events.len() as u64)?;
    let mut statement = db.prepare_cached(APPEND)?;
    for event in events {
        statement.execute(appended(event, received_at))?;
    }
    Ok(())
}

const APPEND: &str = "INSERT INTO events
        (event, lead_id, state, received_at, last_received_at, portal_ts, domain, member_id, foreign_portal)
    VALUES (?1, ?2, 'pending', ?3, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (lead_id, event) WHERE state = 'pending' DO UPDATE SET
        repeats = repeats + 1,
        last_received_at = max(last_received_at, excluded.last_received_at),
        portal_ts = max(coalesce(portal_ts, excluded.portal_ts), coalesce(excluded.portal_ts, portal_ts)),
        foreign_portal = max(foreign_portal, excluded.foreign_portal)";

fn appended(event: &NewEvent, received_at: Timestamp) -> impl rusqlite::Params {
    (
        event.event,
        event.lead_id,
        ms(received_at),
        event.portal_ts.map(ms),
        &event.domain,
        &event.member_id,
        event.foreign,
    )
}

/// Takes the pending events of the `leads` leads that have waited longest. While a lead is being restored, events of new
/// leads wait: one of them may be that lead, whose id and protection are not known yet.
pub fn take_pending(db: &Connection, leads: usize, now: Timestamp) -> rusqlite::Result<Vec<PendingLead>> {
    // A lead has at most one pending row of each kind, so this many rows hold that many leads.
    let rows = leads.saturating_mul(LeadEvent::ALL.len());
    const NEXT: &str = "SELECT lead_id FROM events WHERE state = 'pending' AND (?2 = 0 OR NOT EXISTS
        (SELECT 1 FROM events AS added WHERE added.lead_id = events.lead_id AND added.state = 'pending'
         AND added.event = 'ONCRMLEADADD')) ORDER BY id LIMIT ?1";
    let restoring = restores::in_flight(db)?;
    let mut oldest: Vec<LeadId> = Vec::new();
    {
        let mut statement = db.prepare_cached(NEXT)?;
        let mut seen = std::collections::HashSet::new();
        for lead in
            statement.query_map((i64::try_from(rows).unwrap_or(i64::MAX), restoring), |row| row.get(0))?
        {
            let lead: LeadId = lead?;
            if oldest.len() < leads && seen.insert(lead) {
                oldest.push(lead);
            }
        }
    }
    let sql = format!(
        "UPDATE events SET state = 'taken', taken_at = ?2 WHERE lead_id = ?1 AND state = 'pending' RETURNING {STORED}"
    );
    oldest
        .into_iter()
        .map(|lead_id| {
            let mut events = db
                .prepare_cached(&sql)?
                .query_map((lead_id, ms(now)), |row| stored(row).map(|(_, event)| event))?
                .collect::<rusqlite::Result<Vec<StoredEvent>>>()?;
            events.sort_by_key(|event| event.id);
            Ok(PendingLead { lead_id, events })
        })
        .collect()
}

/// Marks taken events as processed: what came of them, and the error if it was one.
pub fn finish(
    db: &Connection,
    ids: &[EventId],
    result: &str,
    error: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    const SQL: &str = "UPDATE events SET state = 'processed', processed_at = ?2, result = ?3, error = ?4
        WHERE id = ?1 AND state = 'taken'";
    let mut statement = db.prepare_cached(SQL)?;
    for id in ids {
        exactly_one(statement.execute((id, ms(now), result, error))?)?;
    }
    Ok(())
}

/// The result of an event whose evaluation was given up for the one of a later event of the same lead and kind.
pub const MERGED: &str = "merged into a later event";

/// Gives taken events back; those that were processed meanwhile stay so. Where a later event of the same lead and kind
/// waits already, it stands for both.
pub fn release(db: &Connection, ids: &[EventId]) -> rusqlite::Result<()> {
    const LATER: &str = "SELECT later.last_received_at FROM events AS taken JOIN events AS later
            ON later.lead_id = taken.lead_id AND later.event = taken.event AND later.state = 'pending'
        WHERE taken.id = ?1 AND taken.state = 'taken'";
    const MERGE: &str = "UPDATE events SET state = 'processed', processed_at = ?2, result = ?3
        WHERE id = ?1 AND state = 'taken'";
    const BACK: &str = "UPDATE events SET state = 'pending' WHERE id = ?1 AND state = 'taken'";
    const TAKEN: &str = "SELECT EXISTS (SELECT 1 FROM events WHERE id = ?1 AND state = 'taken')";
    for id in ids {
        if !db.prepare_cached(TAKEN)?.query_row([id], |row| row.get::<_, bool>(0))? {
            continue;
        }
        let later: Option<i64> = db.prepare_cached(LATER)?.query_row([id], |row| row.get(0)).optional()?;
        let changed = match later {
            Some(later_at) => db.prepare_cached(MERGE)?.execute((id, later_at, MERGED))?,
            None => db.prepare_cached(BACK)?.execute([id])?,
        };
        exactly_one(changed)?;
    }
    Ok(())
}

/// Gives back everything that an earlier process had taken; how many rows.
pub fn requeue_taken(db: &Connection) -> rusqlite::Result<u64> {
    let taken = db
        .prepare_cached("SELECT id FROM events WHERE state = 'taken' ORDER BY id")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<EventId>>>()?;
    release(db, &taken)?;
    Ok(taken.len() as u64)
}

/// How many events wait and how many there were.
pub fn counts(db: &Connection) -> rusqlite::Result<EventCounts> {
    Ok(EventCounts {
        pending: count_of(db, "SELECT count(*) FROM events WHERE state = 'pending'", [])?,
        total: control::counter(db, COUNTER, COUNTER_TOTAL)?,
    })
}

/// Whether an event waits for its evaluation.
pub fn any_pending(db: &Connection) -> rusqlite::Result<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM events WHERE state = 'pending')";
    db.prepare_cached(SQL)?.query_row([], |row| row.get(0))
}

/// The latest rows among which the last arrival is looked for: an older one that still waits can have been joined later.
const LATEST: u32 = 1000;

/// When the last event came, as far as it is kept.
pub fn last_received(db: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    const SQL: &str = "SELECT max(last_received_at) AS at
        FROM (SELECT last_received_at FROM events ORDER BY id DESC LIMIT ?1)";
    db.prepare_cached(SQL)?.query_row([LATEST], |row| at_opt(row, "at"))
}

/// One line of a lead's history of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventLine {
    /// The event.
    #[serde(flatten)]
    pub event: StoredEvent,
    /// When its evaluation ended.
    pub processed_at: Option<Timestamp>,
    /// What came of it.
    pub result: Option<String>,
    /// The error, if it ended in one.
    pub error: Option<String>,
}

/// The latest events of a lead, the last first.
pub fn of_lead(db: &Connection, lead: LeadId, limit: u32) -> rusqlite::Result<Vec<EventLine>> {
    let sql = format!(
        "SELECT {STORED}, processed_at, result, error FROM events WHERE lead_id = ?1 ORDER BY id DESC LIMIT ?2"
    );
    db.prepare_cached(&sql)?
        .query_map((lead, limit), |row| {
            Ok(EventLine {
                event: stored(row)?.1,
                processed_at: at_opt(row, "processed_at")?,
                result: row.get("result")?,
                error: row.get("error")?,
            })
        })?
        .collect()
}

/// Records that events may have been lost: every rule with `events` must sweep once.
pub fn record_gap(db: &Connection, reason: &str, now: Timestamp) -> rusqlite::Result<i64> {
    db.prepare_cached("INSERT INTO gaps (reason, at) VALUES (?1, ?2) RETURNING id")?
        .query_row((reason, ms(now)), |row| row.get(0))
}

/// The most gaps that [`open_gaps`] returns: the last id is what a sweep closes up to, the texts are for people.
const MAX_GAPS: u32 = 1000;

/// The gaps that no sweep has closed yet, the oldest first; at most a thousand, further ones after these are closed.
pub fn open_gaps(db: &Connection) -> rusqlite::Result<Vec<Gap>> {
    db.prepare_cached("SELECT id, reason, at FROM gaps ORDER BY id LIMIT ?1")?
        .query_map([MAX_GAPS], |row| {
            Ok(Gap { id: row.get("id")?, reason: row.get("reason")?, at: at(row, "at")? })
        })?
        .collect()
}

/// Closes the gaps up to the last one that was known before the sweeps began.
pub fn close_gaps(db: &Connection, up_to_id: i64) -> rusqlite::Result<u64> {
    Ok(db.prepare_cached("DELETE FROM gaps WHERE id <= ?1")?.execute([up_to_id])? as u64)
}

/// Whether one of these leads was added or changed at `since` or later, as far as the portal's events say. The events
/// of our own deletions don't count.
pub fn any_change_since(db: &Connection, leads: &[LeadId], since: Timestamp) -> rusqlite::Result<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM events
        WHERE lead_id = ?1 AND event <> 'ONCRMLEADDELETE' AND last_received_at >= ?2)";
    let mut find = db.prepare_cached(SQL)?;
    for lead in leads {
        if find.query_row((lead, ms(since)), |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}
