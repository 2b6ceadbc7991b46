//! How much room the database's disk has, and a ballast file that holds some of it back.
//!
//! On a full disk SQLite can't even delete or empty its WAL, and no answer of the portal could be written down. So work
//! stops while there is still room: first nothing is claimed ([`WORK_FLOOR`]), then no event is accepted
//! ([`EVENT_FLOOR`]), and the ballast is given up, so that what is on its way can be settled and the gap recorded.
//! While the ballast is missing its size counts as used: its own room never looks like recovery.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MIB: u64 = 1024 * 1024;

/// With less free, nothing is claimed: the copies and answers of eight full batches, and a WAL that a long reader
/// keeps from being emptied, fit well into it.
pub const WORK_FLOOR: u64 = 32 * MIB;
/// With less free, no event is accepted: an event takes some hundred bytes, and is lost if it is refused, so it is
/// taken for longer than work is begun.
pub const EVENT_FLOOR: u64 = 8 * MIB;
/// So much more than a floor must be free before what it stopped goes on, lest it flap.
const MARGIN: u64 = 4 * MIB;
/// The ballast: room to settle what is on its way, to record gaps and to empty the WAL.
pub const BALLAST: u64 = 8 * MIB;

/// What the disk has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Everything.
    Enough,
    /// What is under way, and events; no new work.
    Low,
    /// What is under way only; events are refused.
    Full,
}

impl Room {
    /// What so many free bytes are room for, after it was `before`.
    pub fn judge(before: Room, free: u64) -> Room {
        let (work, event) = match before {
            Room::Enough => (WORK_FLOOR, EVENT_FLOOR),
            Room::Low => (WORK_FLOOR + MARGIN, EVENT_FLOOR),
            Room::Full => (WORK_FLOOR + MARGIN, EVENT_FLOOR + MARGIN),
        };
        if free < event {
            Room::Full
        } else if free < work {
            Room::Low
        } else {
            Room::Enough
        }
    }

    /// What it means and what to do, for people; `None` for [`Room::Enough`].
    pub fn says(self) -> Option<String> {
        let go_on = (WORK_FLOOR + MARGIN) / MIB;
        match self {
            Room::Enough => None,
            Room::Low => Some(format!(
                "the disk is nearly full: nothing is claimed for deletion, events are still stored; free at least {go_on} MiB \
                 and it goes on by itself"
            )),
            Room::Full => Some(format!(
                "the disk is full: nothing is claimed for deletion and events are refused (rules with events sweep \
                 afterwards); free at least {go_on} MiB and it goes on by itself"
            )),
        }
    }
}

/// The disk under a database.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    ballast: PathBuf,
}

impl Disk {
    /// The disk of a database file.
    pub fn of(db: &Path) -> Disk {
        let folder = match db.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let mut name = OsString::from(db);
        name.push(".ballast");
        Disk { folder, ballast: PathBuf::from(name) }
    }

    /// The bytes that are free for us, with the ballast where it should be.
    pub fn free(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.folder)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        Ok(if self.has_ballast() { free } else { free.saturating_sub(BALLAST) })
    }

    fn has_ballast(&self) -> bool {
        const BLOCK: u64 = 512;
        // By what it takes from the disk: a file with holes holds nothing back.
        std::fs::metadata(&self.ballast).is_ok_and(|file| file.blocks() * BLOCK >= BALLAST)
    }

    /// Gives the ballast up where the disk is full, and lays it down again where there is enough.
    pub fn trim(&self, room: Room) -> io::Result<()> {
        match room {
            Room::Full => match std::fs::remove_file(&self.ballast) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
            Room::Enough if !self.has_ballast() => {
                let file = File::options()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&self.ballast)?;
                Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST)?)
            }
            Room::Enough | Room::Low => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stops_before_events_do_and_neither_flaps() {
        let after = |before, mib: u64| Room::judge(before, mib * MIB);
        assert_eq!(
            [32, 31, 8, 7].map(|mib| after(Room::Enough, mib)),
            [Room::Enough, Room::Low, Room::Low, Room::Full]
        );
        assert_eq!([35, 36].map(|mib| after(Room::Low, mib)), [Room::Low, Room::Enough]);
        assert_eq!(
            [11, 12, 35, 36].map(|mib| after(Room::Full, mib)),
            [Room::Full, Room::Low, Room::Low, Room::Enough]
        );
    }

    #[test]
    fn the_ballast_is_given_up_on_a_full_disk_and_its_room_is_not_taken_for_recovery() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::of(&folder.path().join("janitor.db"));
        disk.trim(Room::Low).unwrap();
        assert!(!disk.ballast.exists(), "it would make matters worse");
        disk.trim(Room::Enough).unwrap();
        assert!(disk.has_ballast());
        disk.trim(Room::Full).unwrap();
        disk.trim(Room::Full).unwrap();
        assert!(!disk.ballast.exists());
        let space = rustix::fs::statvfs(folder.path()).unwrap();
        assert!(disk.free().unwrap() < space.f_bavail * space.f_frsize, "the missing ballast counts as used");
    }
}
