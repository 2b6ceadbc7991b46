//! A simulated process dies at a commit: before it nothing is kept, after it everything, and either way it is over.

use b24_janitor::store::{CommitMoment, OpenOptions, Store, StoreError, Threads, control};

const OPTIONS: OpenOptions = OpenOptions { threads: Threads::Inline, create: true };

async fn dies(at: CommitMoment, kept: bool) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("janitor.db");
    let store = Store::open(&file, OPTIONS).unwrap();
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    store.set_failpoint(Some(Box::new(move |moment| moment == at)));
    assert!(!store.write(control::paused).await.unwrap(), "what changes nothing is no commit to die at");
    let died = store.write(move |db| control::set_paused(db, true, now)).await;
    assert!(matches!(died, Err(StoreError::Closed)), "{died:?}");
    assert!(matches!(store.read(control::paused).await, Err(StoreError::Closed)));
    let again = Store::open(&file, OPTIONS).unwrap();
    assert_eq!(again.read(control::paused).await.unwrap(), kept);
}

#[tokio::test]
async fn a_store_that_dies_before_a_commit_keeps_nothing_of_it() {
    dies(CommitMoment::Before, false).await;
}

#[tokio::test]
async fn a_store_that_dies_after_a_commit_keeps_it_though_nobody_heard() {
    dies(CommitMoment::After, true).await;
}
