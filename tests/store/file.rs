use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use b24_janitor::store::{Lock, LockError, OpenError, OpenOptions, SCHEMA_VERSION, Store, Threads, setting};
use rusqlite::{Connection, OpenFlags};

use crate::support::{CREATE, Folder, INLINE};

/// Another program that opens the file.
fn other_program(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    Connection::open_with_flags(path, flags).unwrap()
}

#[tokio::test]
async fn every_setting_reads_back_as_it_was_asked_for() {
    let folder = Folder::new();
    for round in ["created", "opened again"] {
        let store = Store::open(&folder.db(), CREATE).unwrap();
        let wanted = [
            ("auto_vacuum", "2"),
            ("journal_mode", "wal"),
            ("synchronous", "2"),
            ("foreign_keys", "1"),
            ("secure_delete", "1"),
            ("busy_timeout", "5000"),
            ("journal_size_limit", "67108864"),
            ("application_id", "1647457386"),
            ("user_version", "5"),
        ];
        for (name, value) in wanted {
            assert_eq!(store.write(move |db| setting(db, name)).await.unwrap(), value, "{name}, {round}");
            assert_eq!(store.read(move |db| setting(db, name)).await.unwrap(), value, "{name}, {round}");
        }
        store.close().await;
    }
}

#[test]
fn a_missing_file_is_created_only_where_that_was_asked_for() {
    let folder = Folder::new();
    for threads in [Threads::Own, Threads::Inline] {
        let error = Store::open(&folder.db(), OpenOptions { threads, create: false }).unwrap_err();
        assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
        assert!(!folder.db().exists());
    }
}

#[test]
fn only_the_owner_can_read_the_file_and_its_log() {
    let folder = Folder::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let _store = Store::open(&folder.db(), INLINE).unwrap();
    assert_eq!(mode(&folder.db()), 0o600);
    assert_eq!(mode(&folder.dir.path().join("janitor.db-wal")), 0o600);
    drop(_store);
    std::fs::set_permissions(folder.db(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let _store = Store::open(&folder.db(), INLINE).unwrap();
    assert_eq!(mode(&folder.db()), 0o600, "a file that was opened up is closed again");
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_not_touched() {
    let folder = Folder::new();
    let text = folder.dir.path().join("rules.yaml");
    std::fs::write(&text, "version: 1\n").unwrap();
    let foreign = folder.dir.path().join("other.db");
    other_program(&foreign).execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
    let short = folder.dir.path().join("short.db");
    std::fs::write(&short, &std::fs::read(&foreign).unwrap()[..40]).unwrap();
    for path in [text, foreign, short] {
        let before = std::fs::read(&path).unwrap();
        let error = Store::open(&path, CREATE).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
        assert!(error.to_string().contains("is not a database of b24-janitor"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
    assert!(matches!(Store::open(folder.dir.path(), CREATE), Err(OpenError::Foreign { .. })), "a folder");
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_refused_and_not_touched() {
    let folder = Folder::new();
    Store::open(&folder.db(), CREATE).unwrap().close().await;
    // A crash of the newer program: the new version lies in the log alone.
    let newer = other_program(&folder.db());
    newer.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    let log = |folder: &Folder| folder.dir.path().join("janitor.db-wal");
    let crash = Folder::new();
    std::fs::copy(folder.db(), crash.db()).unwrap();
    std::fs::copy(log(&folder), log(&crash)).unwrap();
    let bytes = || (std::fs::read(crash.db()).unwrap(), std::fs::read(log(&crash)).unwrap());
    let before = bytes();
    assert!(!before.1.is_empty());
    let error = Store::open(&crash.db(), CREATE).unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found, known, .. } if found == SCHEMA_VERSION + 1 && known == SCHEMA_VERSION),
        "{error:?}"
    );
    assert_eq!(bytes(), before);
}

#[tokio::test]
async fn a_damaged_file_is_called_damaged() {
    let folder = Folder::new();
    Store::open(&folder.db(), CREATE).unwrap().close().await;
    let mut bytes = std::fs::read(folder.db()).unwrap();
    bytes[100..4096].fill(0x5a);
    std::fs::write(folder.db(), &bytes).unwrap();
    let error = Store::open(&folder.db(), CREATE).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

#[test]
fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let folder = Folder::new();
    let first = Lock::acquire(&folder.db()).unwrap();
    let error = Lock::acquire(&folder.db()).unwrap_err();
    let own = std::process::id();
    assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == own), "{error:?}");
    assert!(error.to_string().contains(&format!("process {own}")), "{error}");
    drop(first);
    Lock::acquire(&folder.db()).unwrap();
}

#[test]
fn a_lock_file_of_a_process_that_died_means_nothing() {
    let folder = Folder::new();
    let path = b24_janitor::store::lock_path(&folder.db());
    std::fs::write(&path, "4000000000 and more than a process id").unwrap();
    let _lock = Lock::acquire(&folder.db()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), std::process::id().to_string());
}
