use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use b24_janitor::core::rule::LeadEvent;
use b24_janitor::store::events::{self, NewEvent};
use b24_janitor::store::{OpenOptions, Store, StoreError, control};

use crate::support::{CREATE, Folder, INLINE, lead, t};

fn event(id: i64) -> NewEvent {
    NewEvent {
        event: LeadEvent::Add,
        lead_id: lead(id),
        portal_ts: None,
        domain: None,
        member_id: None,
        foreign: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_in_the_files_that_a_crash_would_leave() {
    let folder = Folder::new();
    let store = Store::open(&folder.db(), CREATE).unwrap();
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    let mut callers = Vec::new();
    for caller in 0..16 {
        let (store, answered) = (store.clone(), Arc::clone(&answered));
        callers.push(tokio::spawn(async move {
            for number in 1..=5 {
                let event = event(caller * 5 + number);
                let id = store.write(move |db| events::append(db, &event, t(0))).await.unwrap();
                answered.lock().unwrap().insert(id);
            }
        }));
    }
    // A kill -9 leaves the files as they are at some moment; the log is small enough never to be moved into the main
    // file here, so copying one after the other is a moment.
    let mut crashes = Vec::new();
    while crashes.is_empty() || callers.iter().any(|caller| !caller.is_finished()) {
        let known = answered.lock().unwrap().clone();
        let crash = Folder::new();
        std::fs::copy(folder.db(), crash.db()).unwrap();
        std::fs::copy(folder.dir.path().join("janitor.db-wal"), crash.dir.path().join("janitor.db-wal"))
            .unwrap();
        if crashes.len() < 20 {
            crashes.push((known, crash));
        }
        tokio::task::yield_now().await;
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(answered.lock().unwrap().len(), 80);
    for (known, crash) in crashes {
        let store = Store::open(&crash.db(), INLINE).unwrap();
        let stored: BTreeSet<_> = store
            .write(|db| events::take_pending(db, 1000, t(1)))
            .await
            .unwrap()
            .into_iter()
            .flat_map(|pending| pending.events)
            .map(|event| event.id)
            .collect();
        assert!(known.is_subset(&stored), "{known:?} was answered, {stored:?} is there");
    }
}

#[tokio::test]
async fn a_failed_statement_reaches_only_its_own_caller_and_keeps_nothing() {
    let folder = Folder::new();
    for options in [CREATE, INLINE] {
        let store = Store::open(&folder.db(), options).unwrap();
        let good = |key: &'static str| store.write(move |db| control::set(db, key, "1", t(0)));
        let bad = store.write(|db| {
            control::set(db, "half", "1", t(0))?;
            db.execute("INSERT INTO control (key) VALUES ('x')", []).map(drop)
        });
        let (first, failed, last) = tokio::join!(good("first"), bad, good("last"));
        first.unwrap();
        last.unwrap();
        assert!(matches!(failed, Err(StoreError::Statement(_))), "{failed:?}");
        let kept = |key: &'static str| store.read(move |db| control::get(db, key));
        assert_eq!(kept("first").await.unwrap().as_deref(), Some("1"));
        assert_eq!(kept("last").await.unwrap().as_deref(), Some("1"));
        assert_eq!(kept("half").await.unwrap(), None);
        store.close().await;
    }
}

#[tokio::test]
async fn a_panic_reaches_only_its_own_caller_and_keeps_nothing() {
    let folder = Folder::new();
    for options in [CREATE, INLINE] {
        let store = Store::open(&folder.db(), options).unwrap();
        let panicked = store
            .write(|db| -> rusqlite::Result<()> {
                control::set(db, "half", "1", t(0))?;
                panic!("a mistake of ours")
            })
            .await;
        assert!(matches!(&panicked, Err(StoreError::Panicked(text)) if text == "a mistake of ours"));
        let read = store.read(|_| -> rusqlite::Result<()> { panic!("another") }).await;
        assert!(matches!(read, Err(StoreError::Panicked(_))));
        assert_eq!(store.read(|db| control::get(db, "half")).await.unwrap(), None);
        store.write(|db| control::set(db, "after", "1", t(0))).await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn reads_cannot_write() {
    let folder = Folder::new();
    for options in [CREATE, INLINE] {
        let store = Store::open(&folder.db(), options).unwrap();
        let tried = store.read(|db| control::set(db, "key", "1", t(0))).await;
        assert!(matches!(tried, Err(StoreError::Statement(_))), "{tried:?}");
        store.write(|db| control::set(db, "key", "1", t(0))).await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn only_commits_that_changed_rows_are_changes() {
    let folder = Folder::new();
    for options in [CREATE, INLINE] {
        let store = Store::open(&folder.db(), options).unwrap();
        let changes = store.changes();
        let before = *changes.borrow();
        assert_eq!(
            store.write(|db| b24_janitor::store::jobs::claim_due(db, t(0), 50, &[])).await.unwrap(),
            None
        );
        store.read(control::paused).await.unwrap();
        store.write(|db| control::remove(db, "nothing")).await.unwrap();
        assert_eq!(*changes.borrow(), before, "a worker that waits for changes must not wake itself");
        store.write(|db| control::set(db, "key", "1", t(0))).await.unwrap();
        assert_ne!(*changes.borrow(), before);
        store.close().await;
    }
}

#[tokio::test]
async fn writes_of_other_processes_are_noticed_once_and_own_ones_never() {
    for options in [CREATE, INLINE] {
        let folder = Folder::new();
        let store = Store::open(&folder.db(), options).unwrap();
        let command = Store::open(&folder.db(), INLINE).unwrap();
        store.write(|db| control::set(db, "key", "1", t(0))).await.unwrap();
        assert!(!store.poll_foreign_changes().await.unwrap());
        command.write(|db| control::set_paused(db, true, t(0))).await.unwrap();
        let before = *store.changes().borrow();
        assert!(store.poll_foreign_changes().await.unwrap(), "{options:?}");
        assert_ne!(*store.changes().borrow(), before);
        assert!(store.read(control::paused).await.unwrap());
        assert!(!store.poll_foreign_changes().await.unwrap());
        command.close().await;
        store.close().await;
    }
}

#[tokio::test]
async fn closing_finishes_what_was_handed_over_and_empties_the_log() {
    let folder = Folder::new();
    for options in [CREATE, INLINE] {
        let store = Store::open(&folder.db(), options).unwrap();
        let other = store.clone();
        let writes: Vec<_> = (1..=50)
            .map(|id| {
                let store = store.clone();
                tokio::spawn(async move { store.write(move |db| events::append(db, &event(id), t(0))).await })
            })
            .collect();
        tokio::task::yield_now().await;
        store.close().await;
        let mut stored = 0;
        for write in writes {
            match write.await.unwrap() {
                Ok(_) => stored += 1,
                Err(error) => assert!(matches!(error, StoreError::Closed), "{error:?}"),
            }
        }
        assert!(matches!(other.write(|_| Ok(())).await, Err(StoreError::Closed)));
        assert!(matches!(other.read(|_| Ok(())).await, Err(StoreError::Closed)));
        other.close().await;
        let log = std::fs::metadata(folder.dir.path().join("janitor.db-wal"));
        assert!(log.map_or(true, |log| log.len() == 0), "the log is empty or gone");
        let again = Store::open(&folder.db(), INLINE).unwrap();
        let pending = again.read(events::counts).await.unwrap().pending;
        assert!(pending >= stored);
        again.close().await;
    }
}

#[tokio::test]
async fn a_command_can_look_while_another_process_holds_the_write_lock() {
    let folder = Folder::new();
    let service = Store::open(&folder.db(), INLINE).unwrap();
    service.write(|db| control::set_paused(db, true, t(0))).await.unwrap();
    let path = folder.db();
    // The closure runs inside the service's write transaction.
    let looked = service
        .write(move |_| {
            let command = Store::open(&path, OpenOptions { create: false, ..INLINE }).unwrap();
            let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
            let look = move || runtime().block_on(command.read(control::paused));
            Ok(std::thread::spawn(look).join().unwrap())
        })
        .await
        .unwrap();
    assert!(looked.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_a_service_and_of_commands_are_all_kept() {
    let folder = Folder::new();
    let service = Store::open(&folder.db(), CREATE).unwrap();
    let command = Store::open(&folder.db(), OpenOptions { create: false, ..CREATE }).unwrap();
    let bump = |store: &Store| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..40 {
                store.write(|db| control::bump(db, "test", "writes", 1)).await.unwrap();
            }
        })
    };
    let all = [bump(&service), bump(&command), bump(&service), bump(&command)];
    for writer in all {
        writer.await.unwrap();
    }
    assert_eq!(service.read(|db| control::counter(db, "test", "writes")).await.unwrap(), 160);
}
