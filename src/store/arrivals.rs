//! Stores the events that arrived together, and compares the portal that they name with the one that is known.

use jiff::Timestamp;
use rusqlite::Connection;

use super::control;
use super::events::{self, NewEvent};

/// Under this key the portal's member id is remembered, from the first event that carried one.
const MEMBER_ID: &str = "member_id";
/// Under this name events that claim to come from another portal are counted.
const FOREIGN_EVENTS: &str = "foreign_events";

/// The portal's member id, as far as a process knows it.
#[derive(Debug, Default)]
pub struct Member {
    known: Option<String>,
    asked: bool,
    kept: bool,
}

impl Member {
    /// What [`store`] did is committed.
    pub fn committed(&mut self) {
        self.kept |= self.known.is_some();
    }
}

/// Stores events in the order of their arrival; how many of them name another portal.
pub fn store(
    db: &Connection,
    member: &mut Member,
    mut arrived: Vec<NewEvent>,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    if arrived.is_empty() {
        return Ok(0);
    }
    if !member.asked {
        member.known = control::get(db, MEMBER_ID)?;
        (member.asked, member.kept) = (true, member.known.is_some());
    }
    for event in &mut arrived {
        match (&member.known, &event.member_id) {
            (Some(ours), Some(theirs)) => event.foreign |= ours != theirs,
            (None, Some(first)) => member.known = Some(first.clone()),
            (_, None) => {}
        }
    }
    if let (Some(known), false) = (&member.known, member.kept) {
        control::set(db, MEMBER_ID, known, now)?;
    }
    let foreign = arrived.iter().filter(|event| event.foreign).count() as u64;
    if foreign > 0 {
        control::bump(db, FOREIGN_EVENTS, "stored", foreign)?;
    }
    events::append_all(db, &arrived, now)?;
    Ok(foreign)
}
