//! Opening the file: what is not ours is refused untouched, and every setting is read back.
//!
//! The application id is written before the file becomes a WAL database, so that the header of the main file alone
//! tells whose it is. A setting that SQLite ignored in silence (auto_vacuum after WAL, a misspelt pragma) is an error.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::mounts;

/// Why a database can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file, and it was not to be created.
    #[error("there is no database {}: start `serve` or `run` first, or name another with --db", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is no SQLite database, or that of another program. Nothing in it was changed.
    #[error("{} is not a database of b24-janitor ({found}); it was left as it is: name another file with --db or JANITOR_DB", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// A later version of the program wrote the file. Nothing in it was changed.
    #[error(
        "{} was written by a newer b24-janitor (schema {found}, this program knows {known}); it was left as it is: \
         install that version again, or restore the backup made before the upgrade",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's schema version.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// SQLite finds the file damaged.
    #[error("{} is damaged: restore it from a backup, or recover it with `sqlite3 FILE .recover`", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file lies on a network file system, where SQLite's WAL is not safe.
    #[error("{} lies on a network file system ({kind}): put the database on a local disk", .path.display())]
    NetworkFileSystem {
        /// The file.
        path: PathBuf,
        /// The file system.
        kind: String,
    },
    /// A setting did not take.
    #[error("SQLite did not take {name}={wanted}: it reports {found}")]
    Pragma {
        /// The setting.
        name: &'static str,
        /// What was asked for.
        wanted: String,
        /// What SQLite reports.
        found: String,
    },
    /// The file, its folder or a thread can't be had.
    #[error("{} can't be opened", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// SQLite failed in another way.
    #[error("{} can't be opened", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// What tells our files from others: "b24j" in the header's application id.
pub const APPLICATION_ID: i64 = 0x6232_346a;

/// How long a statement waits for another process's short transaction, in milliseconds.
pub const BUSY_TIMEOUT_MS: u64 = 5000;

/// The WAL file is cut back to this size after a checkpoint, in bytes; a burst may have made it larger.
pub const JOURNAL_SIZE_LIMIT: i64 = 64 * 1024 * 1024;

/// How many prepared statements a connection keeps: more than there are in this folder.
const STATEMENT_CACHE: usize = 128;

/// The schema, a step a version: `user_version` counts the steps that a file has seen.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];

/// The newest schema version that this program knows.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Opens the file for writing, creates it where it may be missing, and brings its schema up to date.
pub(super) fn open_writer(path: &Path, create: bool) -> Result<Connection, OpenError> {
    let sqlite = |source| classify(path, source);
    let found = inspect(path)?;
    match found {
        Found::Nothing if !create => return Err(OpenError::Missing { path: path.to_owned() }),
        Found::Nothing | Found::Empty | Found::Ours => {}
    }
    if let Some(kind) = mounts::network_file_system(path) {
        return Err(OpenError::NetworkFileSystem { path: path.to_owned(), kind });
    }
    match found {
        Found::Nothing | Found::Empty => create_private(path)?,
        Found::Ours => refuse_newer(path)?,
    }
    make_private(path)?;

    let db = connect(path).map_err(sqlite)?;
    if !matches!(found, Found::Ours) {
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(sqlite)?;
        db.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
    }
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(sqlite)?;
    verify(&db, path)?;
    migrate(&db, path)?;
    Ok(db)
}

/// A reader's cache of pages: in KiB, below zero, as SQLite takes it. What is read again is in the system's cache; ours would
/// stay full of what was read once, a page of jobs or an export.
const READER_CACHE: i64 = -256;

/// Opens one more connection to a file that [`open_writer`] has opened; it can't write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let db = connect(path).map_err(|source| classify(path, source))?;
    verify(&db, path)?;
    db.pragma_update(None, "query_only", true).map_err(|source| classify(path, source))?;
    expect_setting(&db, path, "query_only", "1")?;
    db.pragma_update(None, "cache_size", READER_CACHE).map_err(|source| classify(path, source))?;
    Ok(db)
}

enum Found {
    Nothing,
    Empty,
    Ours,
}

/// Looks at the header without SQLite, which would otherwise replay a foreign file's journal.
fn inspect(path: &Path) -> Result<Found, OpenError> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    const HEADER: u64 = 100;
    const APPLICATION_ID_AT: std::ops::Range<usize> = 68..72;
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let foreign = |found: &str| OpenError::Foreign { path: path.to_owned(), found: found.to_owned() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(io(error)),
    };
    if !file.metadata().map_err(io)?.is_file() {
        return Err(foreign("no regular file"));
    }
    let mut header = Vec::new();
    file.take(HEADER).read_to_end(&mut header).map_err(io)?;
    if header.is_empty() {
        return Ok(Found::Empty);
    }
    if !header.starts_with(MAGIC) {
        return Err(foreign("no SQLite database"));
    }
    match header.get(APPLICATION_ID_AT).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) {
        Some(id) if i64::from(id) == APPLICATION_ID => Ok(Found::Ours),
        Some(_) => Err(foreign("a SQLite database of another program")),
        None => Err(foreign("a SQLite database that is cut off in its header")),
    }
}

/// A connection that only reads leaves even the WAL of a newer file as it is.
fn refuse_newer(path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| classify(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    db.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS)).map_err(sqlite)?;
    let found = user_version(&db).map_err(sqlite)?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(sqlite)?;
    if found > SCHEMA_VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}

fn create_private(path: &Path) -> Result<(), OpenError> {
    // SQLite gives the WAL and its index the mode of the main file.
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn make_private(path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let mut permissions = std::fs::metadata(path).map_err(io)?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o600);
        std::fs::set_permissions(path, permissions).map_err(io)?;
    }
    Ok(())
}

/// A connection with the settings that are a connection's own. The threads here never share one, hence no mutex.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
    db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    // A savepoint's journal in a file would cost a file for each group of events, and hold copies of leads outside ours.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    // A copy whose time is over must not live on in a page that happens to be free.
    db.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
    db.query_row(&format!("PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}"), [], |_| Ok(()))?;
    Ok(db)
}

fn verify(db: &Connection, path: &Path) -> Result<(), OpenError> {
    expect_setting(db, path, "auto_vacuum", "2")?;
    expect_setting(db, path, "journal_mode", "wal")?;
    expect_setting(db, path, "synchronous", "2")?;
    expect_setting(db, path, "foreign_keys", "1")?;
    expect_setting(db, path, "secure_delete", "1")?;
    expect_setting(db, path, "busy_timeout", &BUSY_TIMEOUT_MS.to_string())?;
    expect_setting(db, path, "journal_size_limit", &JOURNAL_SIZE_LIMIT.to_string())?;
    expect_setting(db, path, "application_id", &APPLICATION_ID.to_string())
}

fn expect_setting(db: &Connection, path: &Path, name: &'static str, wanted: &str) -> Result<(), OpenError> {
    let found = setting(db, name).map_err(|source| classify(path, source))?;
    if found.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(OpenError::Pragma { name, wanted: wanted.to_owned(), found })
    }
}

/// What SQLite reports for a pragma, as text.
pub fn setting(db: &Connection, name: &str) -> rusqlite::Result<String> {
    use rusqlite::types::Value;
    db.pragma_query_value(None, name, |row| row.get::<_, Value>(0)).map(|value| match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Null => "nothing".to_owned(),
        Value::Real(number) => number.to_string(),
        Value::Blob(bytes) => format!("{} bytes", bytes.len()),
    })
}

fn user_version(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn migrate(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| classify(path, source);
    // A command beside a busy service, or on a full disk, must not need the write lock only to open the file.
    if user_version(db).map_err(sqlite)? == SCHEMA_VERSION {
        return Ok(());
    }
    // Another process may be at the same: the version counts only inside the transaction.
    db.execute_batch("BEGIN IMMEDIATE").map_err(sqlite)?;
    let result = migrate_in_transaction(db, path).and_then(|()| db.execute_batch("COMMIT").map_err(sqlite));
    if result.is_err() && !db.is_autocommit() {
        db.execute_batch("ROLLBACK").map_err(sqlite)?;
    }
    result
}

fn migrate_in_transaction(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| classify(path, source);
    let version = user_version(db).map_err(sqlite)?;
    let seen = usize::try_from(version).unwrap_or(0);
    let Some(steps) = MIGRATIONS.get(seen..) else {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known: SCHEMA_VERSION });
    };
    if steps.is_empty() {
        return Ok(());
    }
    for step in steps {
        db.execute_batch(step).map_err(sqlite)?;
    }
    // A step may have written SQLite's own table of definitions: other connections then read it again.
    let schema: i64 = db.query_row("PRAGMA schema_version", [], |row| row.get(0)).map_err(sqlite)?;
    db.pragma_update(None, "schema_version", schema + 1).map_err(sqlite)?;
    db.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(sqlite)
}

fn classify(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Corrupt { path, source },
        _ => OpenError::Sqlite { path, source },
    }
}
