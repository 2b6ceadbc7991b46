//! The one thread that writes, and group commit: what has queued up goes into one transaction and is answered after it.
//!
//! Bitrix24 never repeats an event, so nothing may be answered before it is on the disk; one fsync for everything that
//! waits is what makes that affordable. A failed statement reaches only its own caller (each message has a savepoint),
//! a failed COMMIT every caller of its group. No wait is added to make a group larger.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::watch;
use tokio::time::Instant;

use super::error::StoreError;

/// The most messages in a transaction: at 74,000 a second one fsync is then a small part of the time.
pub(super) const MAX_GROUP: usize = 256;

/// A group is closed after this time, so that the first in it does not wait for the work of many.
pub(super) const MAX_GROUP_TIME: Duration = Duration::from_millis(2);

/// How many messages may wait for the writer: a few groups, after which callers wait to hand theirs over.
pub(super) const WRITE_QUEUE: usize = 4096;

/// Told whether the COMMIT held; answers the caller.
pub(super) type Deliver = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Runs in a savepoint, or is told why it can't; says whether to keep what it did.
type Run = Box<dyn FnOnce(Result<&Connection, StoreError>) -> (bool, Deliver) + Send>;

/// Whom a commit concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concerns {
    /// Everyone who watches the file.
    All,
    /// Only the inbox: events arrive thousands of times a second, and everyone who is woken reads the file.
    Inbox,
}

/// What a caller wants done.
pub(super) struct Write {
    run: Run,
    concerns: Concerns,
}

/// Numbers that grow with the commits that changed rows.
#[derive(Debug)]
pub(super) struct Changes {
    /// With those that concern all.
    pub(super) all: watch::Sender<u64>,
    /// With those that concern the inbox alone.
    pub(super) arrivals: watch::Sender<u64>,
}

impl Default for Changes {
    fn default() -> Changes {
        Changes { all: watch::Sender::new(0), arrivals: watch::Sender::new(0) }
    }
}

impl Write {
    /// Answers without having done anything.
    pub(super) fn refuse(self, error: StoreError) {
        let shared = error.shared();
        let (_, deliver) = (self.run)(Err(error));
        deliver(Err(shared));
    }
}

/// What the writer's thread is asked.
pub(super) enum Message {
    /// Do this.
    Write(Write),
    /// Finish what is queued, take nothing more.
    Close,
}

/// A message and where its answer arrives.
pub(super) fn message<T: Send + 'static>(
    concerns: Concerns,
    run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> (Write, oneshot::Receiver<Result<T, StoreError>>) {
    let (sender, receiver) = oneshot::channel();
    // The caller may have given up waiting; what it asked for is done all the same.
    let answer = |answer| drop(sender.send(answer));
    (message_to(concerns, run, answer), receiver)
}

/// A message whose answer is told to `answer`, in the thread that committed.
pub(super) fn message_to<T: Send + 'static>(
    concerns: Concerns,
    run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    answer: impl FnOnce(Result<T, StoreError>) + Send + 'static,
) -> Write {
    let run: Run = Box::new(move |db: Result<&Connection, StoreError>| {
        let outcome = db.and_then(|db| guarded(db, run));
        let keep = outcome.is_ok();
        let deliver: Deliver = Box::new(move |committed| {
            answer(outcome.and_then(|value| committed.map(|()| value)));
        });
        (keep, deliver)
    });
    Write { run, concerns }
}

/// Runs a closure on a connection; a panic in it must not end the thread that everyone depends on.
pub(super) fn guarded<T>(
    db: &Connection,
    run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(|| run(db))) {
        Ok(result) => result.map_err(StoreError::Statement),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(StoreError::Panicked(text.unwrap_or_else(|| "a panic without a text".to_owned())))
        }
    }
}

/// The thread: until it is closed or nobody can send any more.
pub(super) fn run(db: Connection, mut queue: mpsc::Receiver<Message>, changes: Arc<Changes>) {
    while let Some(message) = queue.blocking_recv() {
        let mut closing = false;
        match message {
            Message::Close => closing = true,
            Message::Write(first) => {
                commit_group(
                    &db,
                    &changes,
                    first,
                    || match queue.try_recv() {
                        Ok(Message::Write(write)) => Some(write),
                        Ok(Message::Close) => {
                            closing = true;
                            None
                        }
                        Err(_) => None,
                    },
                    always,
                );
            }
        }
        if closing {
            queue.close();
        }
    }
    checkpoint(&db);
}

/// Nothing but SQLite stands between a transaction and its COMMIT.
fn always(_changed: bool) -> bool {
    true
}

/// Empties the WAL into the main file. A failure loses nothing: the next opening replays it.
pub(super) fn checkpoint(db: &Connection) {
    if let Err(error) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::debug!(%error, "the WAL was not emptied on closing");
    }
}

/// One transaction with `first` and what `next` has ready. Where it changed rows, `changes` grow before the answers.
/// `may_commit` is told whether it did, and has the last word.
pub(super) fn commit_group(
    db: &Connection,
    changes: &Changes,
    first: Write,
    mut next: impl FnMut() -> Option<Write>,
    may_commit: impl FnOnce(bool) -> bool,
) {
    let changes_before = db.total_changes();
    if let Err(error) = execute(db, "BEGIN IMMEDIATE") {
        first.refuse(StoreError::Commit(Arc::new(error)));
        return;
    }
    let started = Instant::now();
    let mut delivers: Vec<Deliver> = Vec::new();
    let (mut concerned_all, mut concerned_inbox) = (false, false);
    let mut write = Some(first);
    while let Some(Write { run, concerns }) = write.take() {
        let before = db.total_changes();
        delivers.push(in_savepoint(db, run));
        let changed = db.total_changes() != before;
        match concerns {
            Concerns::All => concerned_all |= changed,
            Concerns::Inbox => concerned_inbox |= changed,
        }
        // Some failures (a full disk among them) make SQLite undo the whole transaction by itself.
        if db.is_autocommit() || delivers.len() >= MAX_GROUP || started.elapsed() >= MAX_GROUP_TIME {
            break;
        }
        write = next();
    }
    let committed = if db.is_autocommit() {
        Err(StoreError::RolledBack)
    } else if !may_commit(db.total_changes() != changes_before) {
        Err(StoreError::Closed)
    } else {
        execute(db, "COMMIT").map_err(|error| StoreError::Commit(Arc::new(error)))
    };
    if committed.is_err() {
        roll_back(db);
    }
    if committed.is_ok() {
        for (concerned, counted) in [(concerned_all, &changes.all), (concerned_inbox, &changes.arrivals)] {
            if concerned {
                counted.send_modify(|count| *count += 1);
            }
        }
    }
    for deliver in delivers {
        deliver(match &committed {
            Ok(()) => Ok(()),
            Err(error) => Err(error.shared()),
        });
    }
}

fn in_savepoint(db: &Connection, run: Run) -> Deliver {
    if let Err(error) = execute(db, "SAVEPOINT message") {
        let (_, deliver) = run(Err(StoreError::Statement(error)));
        return deliver;
    }
    let (keep, deliver) = run(Ok(db));
    if db.is_autocommit() {
        return deliver;
    }
    let ended = if keep {
        execute(db, "RELEASE message")
    } else {
        execute(db, "ROLLBACK TO message").and_then(|()| execute(db, "RELEASE message"))
    };
    if ended.is_err() {
        // Half a message must never be committed: undo the group, whose callers then learn that it failed.
        roll_back(db);
    }
    deliver
}

fn roll_back(db: &Connection) {
    if !db.is_autocommit()
        && let Err(error) = execute(db, "ROLLBACK")
    {
        tracing::error!(%error, "a transaction could not be rolled back");
    }
}

fn execute(db: &Connection, sql: &str) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute([]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<(), StoreError>>;

    fn database() -> (Connection, Changes) {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "PRAGMA foreign_keys = ON;
            CREATE TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
        (db, Changes::default())
    }

    /// Commits these statements as one group; their answers.
    fn group(db: &Connection, changes: &Changes, statements: &[&'static str]) -> Vec<Answer> {
        let (mut writes, answers): (Vec<Write>, Vec<Answer>) =
            statements.iter().map(|&sql| message(Concerns::All, move |db| db.execute_batch(sql))).unzip();
        writes.reverse();
        let first = writes.pop().unwrap();
        commit_group(db, changes, first, || writes.pop(), always);
        assert!(writes.is_empty(), "all of them are in the group");
        answers
    }

    fn rows(db: &Connection) -> i64 {
        db.query_row("SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child)", [], |row| {
            row.get(0)
        })
        .unwrap()
    }

    // The paused clock keeps a slow machine from closing a group early.
    #[tokio::test(start_paused = true)]
    async fn a_failed_commit_reaches_every_caller_of_its_group_and_keeps_nothing() {
        let (db, changes) = database();
        let orphan = "INSERT INTO child (parent) VALUES (99)";
        for answer in group(&db, &changes, &["INSERT INTO parent VALUES (1)", orphan, "SELECT 1"]) {
            let answer = answer.await.unwrap();
            assert!(matches!(answer, Err(StoreError::Commit(_))), "{answer:?}");
        }
        assert_eq!((rows(&db), *changes.all.borrow()), (0, 0));
        for answer in group(&db, &changes, &["INSERT INTO parent VALUES (1)"]) {
            answer.await.unwrap().unwrap();
        }
        assert_eq!((rows(&db), *changes.all.borrow()), (1, 1), "the next group is not affected");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_sqlite_undoes_by_itself_is_answered_as_failed() {
        let (db, changes) = database();
        let undone = "INSERT OR ROLLBACK INTO parent VALUES (1)";
        let mut answers = group(&db, &changes, &["INSERT INTO parent VALUES (1)", undone]);
        let own = answers.pop().unwrap().await.unwrap();
        assert!(matches!(own, Err(StoreError::Statement(_))), "{own:?}");
        let other = answers.pop().unwrap().await.unwrap();
        assert!(matches!(other, Err(StoreError::RolledBack)), "{other:?}");
        assert_eq!(rows(&db), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_has_a_limit() {
        let (db, changes) = database();
        let mut left = MAX_GROUP + 10;
        let (first, _) = message(Concerns::All, |db| db.execute_batch("INSERT INTO parent DEFAULT VALUES"));
        commit_group(
            &db,
            &changes,
            first,
            || {
                left -= 1;
                Some(message(Concerns::All, |db| db.execute_batch("INSERT INTO parent DEFAULT VALUES")).0)
            },
            always,
        );
        assert_eq!((left, rows(&db)), (11, 256));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_concerned_by_a_group_follows_from_what_each_message_changed() {
        let (db, changes) = database();
        let counts = || (*changes.all.borrow(), *changes.arrivals.borrow());
        let commit = |of: &[(Concerns, &'static str)]| {
            let mut writes: Vec<Write> = of
                .iter()
                .map(|&(concerns, sql)| message(concerns, move |db| db.execute_batch(sql)).0)
                .collect();
            let first = writes.pop().unwrap();
            commit_group(&db, &changes, first, || writes.pop(), always);
        };
        const INSERT: &str = "INSERT INTO parent DEFAULT VALUES";
        commit(&[(Concerns::Inbox, INSERT)]);
        assert_eq!(counts(), (0, 1));
        commit(&[(Concerns::Inbox, INSERT), (Concerns::All, "SELECT 1")]);
        assert_eq!(counts(), (0, 2), "what only read concerns nobody");
        commit(&[(Concerns::All, INSERT), (Concerns::Inbox, INSERT), (Concerns::Inbox, INSERT)]);
        assert_eq!(counts(), (1, 3), "one group is one change of each kind");
    }
}
