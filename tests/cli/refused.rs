//! Database files that `serve` must not touch: it says what they are and what to do.

use std::fs;

use rusqlite::Connection;

use crate::home::{Home, JUNK};
use crate::portal::Portal;
use crate::service::Service;

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"];

#[expect(clippy::disallowed_methods, reason = "another program's file, or what damages ours")]
fn sqlite(home: &Home) -> Connection {
    Connection::open(home.path("janitor.db")).unwrap()
}

/// `serve` must end with status 1 and these words, and leave the file as it is.
fn refused(home: &Home, words: &[&str]) {
    let before = fs::read(home.path("janitor.db")).unwrap();
    let ended = home.fails(1, &SERVE);
    for word in words {
        assert!(ended.err.contains(word), "{word}: {}", ended.err);
    }
    assert_eq!(fs::read(home.path("janitor.db")).unwrap(), before, "not a byte is changed");
}

#[test]
fn a_database_of_another_program_is_refused_untouched() {
    let home = Home::new(&Portal::with_leads(10), JUNK);
    sqlite(&home).execute_batch("PRAGMA application_id = 77; CREATE TABLE theirs (x)").unwrap();
    refused(&home, &["is not a database of b24-janitor", "left as it is", "name another file with --db"]);
    fs::write(home.path("janitor.db"), "no database at all\n").unwrap();
    refused(&home, &["no SQLite database", "name another file with --db"]);
}

#[test]
fn a_database_of_a_newer_version_is_refused_untouched() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    Service::start(&home).stop();
    sqlite(&home).execute_batch("PRAGMA user_version = 999; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    refused(&home, &["written by a newer b24-janitor (schema 999", "install that version again", "backup"]);
}

#[test]
fn a_damaged_database_is_refused_untouched() {
    let portal = Portal::with_leads(10);
    let home = Home::new(&portal, JUNK);
    Service::start(&home).stop();
    let mut bytes = fs::read(home.path("janitor.db")).unwrap();
    bytes[100..4096].fill(0x5a);
    fs::write(home.path("janitor.db"), &bytes).unwrap();
    refused(&home, &["is damaged", "restore it from a backup"]);
}
