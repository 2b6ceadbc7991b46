//! What the service keeps an eye on beside its work: the room on the disk, and how long no event has come.

use jiff::{SignedDuration, Timestamp};
use tracing::{error, info, warn};

use super::context::{Context, EngineError};
use crate::core::notice::Happening;
use crate::store::{Disk, Room, control, events, notices};

/// What to keep an eye on; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Guards {
    /// The disk of the database.
    pub disk: Option<Disk>,
    /// Without an event for so long, something between the portal and this service is broken.
    pub silence_alarm: Option<SignedDuration>,
}

/// How often the disk is looked at: a busy service writes a few MiB a second, the floors are tens of them apart.
const DISK_EVERY: SignedDuration = SignedDuration::from_secs(1);
/// How often it is looked whether events come: an alarm is set in hours.
const EVENTS_EVERY: SignedDuration = SignedDuration::from_mins(1);

pub(super) struct Watch {
    guards: Guards,
    /// Before the first event ever: silence counts from here.
    since: Timestamp,
    disk_due: Timestamp,
    disk_fails: bool,
    events_due: Timestamp,
}

impl Watch {
    pub(super) fn new(guards: Guards, now: Timestamp) -> Watch {
        Watch { guards, since: now, disk_due: Timestamp::MIN, disk_fails: false, events_due: Timestamp::MIN }
    }

    /// Looks at the disk if it is time; whether there is more room than before.
    pub(super) fn disk(&mut self, ctx: &Context, now: Timestamp) -> bool {
        let Some(disk) = self.guards.disk.as_ref().filter(|_| now >= self.disk_due) else { return false };
        self.disk_due = now.checked_add(DISK_EVERY).unwrap_or(Timestamp::MAX);
        let free = match disk.free() {
            Ok(free) => free,
            Err(error) => {
                if !std::mem::replace(&mut self.disk_fails, true) {
                    warn!(%error, "the free space of the database's disk can't be told: nothing stops when it is full");
                }
                return false;
            }
        };
        let before = ctx.room();
        let room = Room::judge(before, free);
        if let Err(error) = disk.trim(room)
            && !std::mem::replace(&mut self.disk_fails, true)
        {
            warn!(%error, "no ballast can be kept on the database's disk");
        }
        if room == before {
            return false;
        }
        ctx.room.send_replace(room);
        match (room, room.says()) {
            (Room::Full, Some(what)) => error!(free_bytes = free, "{what}"),
            (Room::Low | Room::Enough, Some(what)) => warn!(free_bytes = free, "{what}"),
            (Room::Low | Room::Enough | Room::Full, None) => {
                info!(free_bytes = free, "the disk has room again: the work goes on");
            }
        }
        room == Room::Enough || before == Room::Full
    }

    /// Looks whether events come, if it is time. Silence makes every rule with events sweep once.
    pub(super) async fn events(&mut self, ctx: &Context, now: Timestamp) -> Result<(), EngineError> {
        if now < self.events_due {
            return Ok(());
        }
        self.events_due = now.checked_add(EVENTS_EVERY).unwrap_or(Timestamp::MAX);
        let (last, known) =
            ctx.store.read(|db| Ok((events::last_received(db)?, control::silent_since(db)?))).await?;
        let heard = last.unwrap_or(self.since);
        let silent = self.guards.silence_alarm.is_some_and(|longest| now.duration_since(heard) >= longest);
        ctx.metrics.set_silent(silent);
        match (known, silent) {
            (None, true) => {
                ctx.store
                    .write(move |db| {
                        control::set_silent_since(db, Some(heard), now)?;
                        notices::tell(db, &Happening::Silence { since: heard }, now)?;
                        events::record_gap(db, &format!("no event came since {heard}"), now)
                    })
                    .await?;
                warn!(since = %heard, "no event came for longer than JANITOR_SILENCE_ALARM: rules with events sweep once");
            }
            (Some(_), false) => {
                ctx.store.write(move |db| control::set_silent_since(db, None, now)).await?;
                info!("events come again, or the silence alarm was changed");
            }
            (None, false) | (Some(_), true) => {}
        }
        Ok(())
    }
}

/// What it means that no event comes, and what to do.
pub fn silence(since: impl std::fmt::Display) -> String {
    format!(
        "no event came since {since}: see in Bitrix24 whether the outgoing webhook still exists and leads here, and whether \
         its address is reached from outside"
    )
}
