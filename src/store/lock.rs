//! The lock that makes one process the owner of the jobs: `<db>.lock`, held until it is dropped or the process ends.
//!
//! The kernel releases it however the process dies, so a lock file that lies around means nothing. It is never
//! deleted: a deleted and re-created file could be locked twice.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The lock, held while this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} holds {}: it works on this database, stop it first", holder(.pid), .path.display())]
    Held {
        /// The process that wrote its id into the file; `None` where it can't be read.
        pid: Option<u32>,
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file can't be created, locked or written.
    #[error("the lock file {} can't be used", .path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

impl Lock {
    /// Takes the lock that belongs to a database, without waiting.
    pub fn acquire(db: &Path) -> Result<Lock, LockError> {
        let path = lock_path(db);
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { pid: read_pid(&mut file), path });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock { _file: file })
    }
}

/// The lock file of a database.
pub fn lock_path(db: &Path) -> PathBuf {
    let mut name = OsString::from(db);
    name.push(".lock");
    PathBuf::from(name)
}

/// The longest content that is read: a process id and a line end fit several times.
const MAX_PID_TEXT: u64 = 32;

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_PID_TEXT).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
