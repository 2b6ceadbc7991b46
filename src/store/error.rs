//! Why a read or a write failed, and whether the caller's own statement was the cause.

use std::sync::Arc;

use rusqlite::ErrorCode;

/// Why a read or a write failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement of this very caller failed; nothing it did was kept.
    #[error("the database refused a statement")]
    Statement(#[source] rusqlite::Error),
    /// The transaction could not begin or be committed; nothing was kept.
    #[error("the database could not commit")]
    Commit(#[source] Arc<rusqlite::Error>),
    /// SQLite undid the transaction because of another caller's statement; nothing was kept.
    #[error("the database undid the transaction because another part of it failed")]
    RolledBack,
    /// The store is closed.
    #[error("the database is closed")]
    Closed,
    /// As many writes as are allowed wait already; this one was not begun.
    #[error("too many writes wait for the database")]
    Crowded,
    /// The closure panicked; nothing it did was kept.
    #[error("a database operation panicked: {0}")]
    Panicked(String),
}

impl StoreError {
    /// Whether the disk is full: the listener answers 503 and the worker stops claiming.
    pub fn is_disk_full(&self) -> bool {
        self.code() == Some(ErrorCode::DiskFull)
    }

    /// Whether another process held the database for longer than the busy timeout.
    pub fn is_busy(&self) -> bool {
        self.code() == Some(ErrorCode::DatabaseBusy)
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            StoreError::Statement(error) => error.sqlite_error_code(),
            StoreError::Commit(error) => error.sqlite_error_code(),
            StoreError::RolledBack | StoreError::Closed | StoreError::Crowded | StoreError::Panicked(_) => {
                None
            }
        }
    }

    /// The same failure for one more caller of a group.
    pub(super) fn shared(&self) -> StoreError {
        match self {
            StoreError::Commit(error) => StoreError::Commit(Arc::clone(error)),
            StoreError::Closed => StoreError::Closed,
            StoreError::RolledBack
            | StoreError::Crowded
            | StoreError::Statement(_)
            | StoreError::Panicked(_) => StoreError::RolledBack,
        }
    }
}
