//! The SQLite file: events, runs, jobs, attempts, copies and state; the only code that knows SQL.
//!
//! Invariants: what [`Store::write`] has answered is on the disk; one process writes jobs (it holds the [`Lock`]),
//! others change rows in short transactions of their own; every change of a row's state names the state it expects.
//!
//! Each operation is a plain function on a `&Connection`, in the module of its table, and runs inside a closure:
//!
//! ```text
//! store.write(move |db| jobs::claim_due(db, now, limit, &caps)).await?
//! ```

pub mod arrivals;
pub mod audit;
mod columns;
pub mod control;
pub mod copies;
pub mod days;
mod disk;
mod error;
pub mod events;
pub mod forecast;
mod ids;
pub mod jobs;
mod lock;
mod mounts;
pub mod notices;
mod open;
pub mod plans;
pub mod protections;
pub mod prune;
pub mod recover;
pub mod requests;
pub mod restores;
pub mod runs;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use self::writer::Concerns;
use crate::watch;

pub use disk::{BALLAST, Disk, EVENT_FLOOR, Room, WORK_FLOOR};
pub use error::StoreError;
pub use ids::{ClaimId, EventId, JobId, NotAnId, RunId};
pub use lock::{Lock, LockError, lock_path};
pub use open::{APPLICATION_ID, BUSY_TIMEOUT_MS, JOURNAL_SIZE_LIMIT, OpenError, SCHEMA_VERSION, setting};

/// Where the closures run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// In threads of the store's own: one that writes and two that read.
    Own,
    /// In the caller, on one connection: for simulations with paused time, where work in another thread would look
    /// like idleness and let time run ahead.
    Inline,
}

/// How [`Store::open`] opens.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// Where the closures run.
    pub threads: Threads,
    /// Whether a missing file is created.
    pub create: bool,
}

/// How many connections read: a long page and a short look-up at the same time; each open reader lets the WAL grow.
const READERS: usize = 2;

/// How many reads may wait for a reader, after which callers wait to hand theirs over.
const READ_QUEUE: usize = 256;

/// A handle to the open file; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    threads: Runner,
    changes: Arc<writer::Changes>,
    /// The last `PRAGMA data_version` that the writing connection reported.
    data_version: AtomicI64,
}

enum Runner {
    Own {
        writes: mpsc::Sender<writer::Message>,
        reads: mpsc::Sender<ReadMessage>,
        /// Ends when every thread has dropped its end, hence its connection.
        ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
    },
    Inline(Mutex<Option<Connection>>, Mutex<Option<Failpoint>>),
}

/// A moment of a transaction that changed rows, at which a simulation may let the process die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitMoment {
    /// It is complete and not committed: to die here undoes it.
    Before,
    /// It is committed, and nobody has heard of it yet.
    After,
}

/// Asked at every [`CommitMoment`]; `true` lets the store die there: the file is closed as it is, and every caller hears
/// [`StoreError::Closed`].
pub type Failpoint = Box<dyn FnMut(CommitMoment) -> bool + Send>;

enum ReadMessage {
    Read(Box<dyn FnOnce(&Connection) + Send>),
    Close,
}

impl Store {
    /// Opens the file, creating it or bringing its schema up to date where needed.
    ///
    /// Takes no [`Lock`]: a command that only looks or cancels works beside the running service.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Store, OpenError> {
        let db = open::open_writer(path, options.create)?;
        let version =
            data_version(&db).map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })?;
        let changes = Arc::default();
        let threads = match options.threads {
            Threads::Inline => Runner::Inline(Mutex::new(Some(db)), Mutex::default()),
            Threads::Own => start_threads(path, db, Arc::clone(&changes))?,
        };
        Ok(Store { inner: Arc::new(Inner { threads, changes, data_version: AtomicI64::new(version) }) })
    }

    /// Runs a closure in a transaction and returns its value after the COMMIT. An error of the closure undoes what it
    /// did and reaches only this caller. Dropping the future does not undo a write that was handed over.
    pub async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (write, answer) = writer::message(Concerns::All, run);
        match &self.inner.threads {
            Runner::Own { writes, .. } => {
                writes.send(writer::Message::Write(write)).await.map_err(|_| StoreError::Closed)?;
            }
            Runner::Inline(connection, failpoint) => {
                if !self.write_inline(connection, failpoint, write) {
                    return Err(StoreError::Closed);
                }
            }
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Hands over what only adds or joins events of the inbox, and moves [`Store::arrivals`], not [`Store::changes`].
    /// Nobody waits for it: `answer` is called once, after the COMMIT or with the error, by the thread that writes, and
    /// must not block it. [`StoreError::Crowded`] where too many writes wait already.
    pub fn hand_over_arrivals<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T, StoreError>) + Send + 'static,
    ) {
        let write = writer::message_to(Concerns::Inbox, run, answer);
        match &self.inner.threads {
            Runner::Own { writes, .. } => {
                let (error, message) = match writes.try_send(writer::Message::Write(write)) {
                    Ok(()) => return,
                    Err(mpsc::error::TrySendError::Full(message)) => (StoreError::Crowded, message),
                    Err(mpsc::error::TrySendError::Closed(message)) => (StoreError::Closed, message),
                };
                if let writer::Message::Write(write) = message {
                    write.refuse(error);
                }
            }
            // Of a store that dies after the COMMIT it is told all the same: the answer may have been on its way.
            Runner::Inline(connection, failpoint) => {
                self.write_inline(connection, failpoint, write);
            }
        }
    }

    /// `false` if the store is closed, or died at this write.
    fn write_inline(
        &self,
        connection: &Mutex<Option<Connection>>,
        failpoint: &Mutex<Option<Failpoint>>,
        write: writer::Write,
    ) -> bool {
        let mut connection = locked(connection);
        let Some(db) = connection.as_ref() else {
            write.refuse(StoreError::Closed);
            return false;
        };
        let mut failpoint = locked(failpoint);
        let mut dies_at = |moment| failpoint.as_mut().is_some_and(|dies| dies(moment));
        let (mut died, mut changed_rows) = (false, false);
        writer::commit_group(
            db,
            &self.inner.changes,
            write,
            || None,
            |changed| {
                changed_rows = changed;
                died = changed && dies_at(CommitMoment::Before);
                !died
            },
        );
        died = died || (changed_rows && dies_at(CommitMoment::After));
        if died {
            // Dropped without emptying the WAL, as the end of a process leaves it.
            connection.take();
        }
        !died
    }

    /// Sets what is asked at every commit from now on. Only a store of [`Threads::Inline`] asks: a service's never dies
    /// by it.
    pub fn set_failpoint(&self, failpoint: Option<Failpoint>) {
        if let Runner::Inline(_, slot) = &self.inner.threads {
            *locked(slot) = failpoint;
        }
    }

    /// Runs a closure that only reads, on one consistent state of the file. Keep it short: an open reader keeps the
    /// WAL from being reset.
    pub async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.inner.threads {
            Runner::Own { reads, .. } => {
                let (sender, answer) = oneshot::channel();
                let read = Box::new(move |db: &Connection| {
                    // The caller may have given up waiting.
                    sender.send(snapshot(db, run)).ok();
                });
                reads.send(ReadMessage::Read(read)).await.map_err(|_| StoreError::Closed)?;
                answer.await.unwrap_or(Err(StoreError::Closed))
            }
            Runner::Inline(connection, _) => match locked(connection).as_ref() {
                Some(db) => {
                    db.pragma_update(None, "query_only", true).map_err(StoreError::Statement)?;
                    let result = snapshot(db, run);
                    db.pragma_update(None, "query_only", false).map_err(StoreError::Statement)?;
                    result
                }
                None => Err(StoreError::Closed),
            },
        }
    }

    /// A number that grows with every commit of ours that changed rows, those of [`Store::hand_over_arrivals`] left out, and
    /// with every change by another process that [`Store::poll_foreign_changes`] notices.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.all.subscribe()
    }

    /// A number that grows with every commit of [`Store::hand_over_arrivals`].
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.inner.changes.arrivals.subscribe()
    }

    /// Whether another process has written since the last call (or since opening); if so, [`Store::changes`] moves.
    pub async fn poll_foreign_changes(&self) -> Result<bool, StoreError> {
        // The version seen by the writing connection changes only by the commits of others.
        let now = self.write(data_version).await?;
        let foreign = self.inner.data_version.swap(now, Ordering::SeqCst) != now;
        if foreign {
            self.inner.changes.all.send_modify(|count| *count += 1);
        }
        Ok(foreign)
    }

    /// Finishes what is queued, empties the WAL and closes the file. Later calls on other handles fail with
    /// [`StoreError::Closed`].
    pub async fn close(self) {
        match &self.inner.threads {
            Runner::Own { writes, reads, ended } => {
                // A failed send means that the other end is closed already.
                for _ in 0..READERS {
                    reads.send(ReadMessage::Close).await.ok();
                }
                writes.send(writer::Message::Close).await.ok();
                while ended.lock().await.recv().await.is_some() {}
            }
            Runner::Inline(connection, _) => {
                if let Some(db) = locked(connection).take() {
                    writer::checkpoint(&db);
                }
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

fn start_threads(path: &Path, db: Connection, changes: Arc<writer::Changes>) -> Result<Runner, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let (writes, write_queue) = mpsc::channel(writer::WRITE_QUEUE);
    let (reads, read_queue) = mpsc::channel(READ_QUEUE);
    let (end, ended) = mpsc::channel(1);
    let read_queue = Arc::new(Mutex::new(read_queue));
    for number in 1..=READERS {
        let reader = open::open_reader(path)?;
        let (queue, end) = (Arc::clone(&read_queue), end.clone());
        let work = move || {
            run_reader(reader, &queue);
            drop(end);
        };
        std::thread::Builder::new().name(format!("store-read-{number}")).spawn(work).map_err(io)?;
    }
    let work = move || {
        writer::run(db, write_queue, changes);
        drop(end);
    };
    std::thread::Builder::new().name("store-write".to_owned()).spawn(work).map_err(io)?;
    Ok(Runner::Own { writes, reads, ended: tokio::sync::Mutex::new(ended) })
}

/// A reader's thread. One of them at a time waits in the queue, the other for the queue's mutex.
fn run_reader(db: Connection, queue: &Mutex<mpsc::Receiver<ReadMessage>>) {
    loop {
        let message = locked(queue).blocking_recv();
        match message {
            Some(ReadMessage::Read(read)) => read(&db),
            Some(ReadMessage::Close) => locked(queue).close(),
            None => return,
        }
    }
}

/// Runs a closure in a read transaction.
fn snapshot<T>(
    db: &Connection,
    run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    db.execute_batch("BEGIN").map_err(StoreError::Statement)?;
    let result = writer::guarded(db, run);
    if !db.is_autocommit() {
        db.execute_batch("ROLLBACK").map_err(StoreError::Statement)?;
    }
    result
}

fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA data_version", [], |row| row.get(0))
}

/// A closure's panic is caught before it can reach a guard, so what a poisoned mutex holds is sound.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
