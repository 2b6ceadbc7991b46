//! A database of every schema version there has been: it opens, has the schema of today, and nothing in it is lost.
//!
//! `tests/fixtures/schema_N.sql` is such a database as text. A new migration needs the one of its own version too, so
//! that it is there, frozen, when the next one comes.

use std::path::{Path, PathBuf};

use b24_janitor::store::{SCHEMA_VERSION, Store, control, jobs};
use rusqlite::{Connection, OpenFlags};

use crate::support::{CREATE, Folder, lead, t};

fn fixture(version: i64) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/schema_{version}.sql"));
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; dump a database of that version there", path.display()))
}

fn restore(path: &Path, version: i64) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    Connection::open_with_flags(path, flags).unwrap().execute_batch(&fixture(version)).unwrap();
}

/// Every table and index with its definition, blanks and comments aside.
fn schema(db: &Connection) -> Vec<(String, String)> {
    let mut query =
        db.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
    rows.map(|row| {
        let (name, sql): (String, String) = row.unwrap();
        let code = sql.lines().map(|line| line.split("--").next().unwrap());
        (name, code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" "))
    })
    .collect()
}

#[tokio::test]
async fn a_database_of_every_earlier_version_opens_with_the_schema_of_today_and_all_its_rows() {
    let fresh = Folder::new();
    let wanted = Store::open(&fresh.db(), CREATE).unwrap().write(|db| Ok(schema(db))).await.unwrap();
    for version in 1..=SCHEMA_VERSION {
        let folder = Folder::new();
        restore(&folder.db(), version);
        let store = Store::open(&folder.db(), CREATE).unwrap();
        let (found, checked) = store
            .write(|db| {
                Ok((schema(db), db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?))
            })
            .await
            .unwrap();
        assert_eq!(
            found, wanted,
            "version {version}; a schema that was published must not be changed in place"
        );
        assert_eq!(checked, "ok", "version {version}");
        let rows = |table: &'static str| {
            let store = store.clone();
            async move {
                let query = format!("SELECT count(*) FROM {table}");
                store.read(move |db| db.query_row(&query, [], |row| row.get::<_, i64>(0))).await.unwrap()
            }
        };
        for (table, count) in
            [("jobs", 20), ("attempts", 4), ("copies", 4), ("runs", 3), ("held_matches", 13), ("events", 1)]
        {
            assert_eq!(rows(table).await, count, "{table}, version {version}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn the_service_goes_on_with_a_database_of_every_earlier_version() {
    for version in 1..=SCHEMA_VERSION {
        let folder = Folder::new();
        restore(&folder.db(), version);
        let store = Store::open(&folder.db(), CREATE).unwrap();
        // The lead whose deletion waits has a job still, so it gets no second one; another one does.
        let enqueued = store
            .write(|db| {
                let run = crate::support::start(db, "junk");
                jobs::enqueue(db, run, "junk", &[lead(20), lead(61)], 0, t(0), t(0))
            })
            .await
            .unwrap();
        assert_eq!((enqueued.enqueued, enqueued.already_waiting), (1, 1), "version {version}");
        let heartbeat = store.read(|db| control::get(db, "heartbeat")).await.unwrap();
        assert!(heartbeat.is_some(), "version {version}");
        store.close().await;
    }
}
