//! Jobs that are settled together end as they would one by one.

use b24_janitor::core::outcome::{Change, Outcome};
use b24_janitor::store::JobId;
use b24_janitor::store::jobs::{self, CopyToKeep};
use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::support::{claim, enqueue, leads, on_db, t};

/// As many as a request holds.
const JOBS: usize = 50;

fn change() -> impl Strategy<Value = Change> {
    let outcome = prop_oneof![
        Just(Outcome::Deleted),
        Just(Outcome::AlreadyGone),
        Just(Outcome::Spared),
        Just(Outcome::Failed),
    ];
    let error = || prop_oneof![Just("ACCESS_DENIED".to_owned()), Just("\"}]; it's \u{0}?".to_owned())];
    prop_oneof![
        4 => (outcome, proptest::option::of("[a-z' ]{0,9}"), proptest::option::of(error()))
            .prop_map(|(outcome, reason, error)| Change::Finish { outcome, reason, error }),
        1 => (0_i64..900, proptest::option::of(error()), any::<bool>())
            .prop_map(|(due, error, give_back)| Change::Release { due_at: t(due), error, give_back }),
        1 => (100_i64..900, error()).prop_map(|(at, error)| Change::Unknown { settle_at: t(at), error }),
    ]
}

/// Every row of the tables that settling writes.
fn tables(db: &Connection) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for table in ["jobs", "attempts", "copies", "counters"] {
        let mut all = db.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
        let columns = all.column_count();
        let read = all.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
        rows.extend(read.map(|row: rusqlite::Result<Vec<Value>>| row.unwrap()));
    }
    rows
}

/// Sends the jobs of a claim that are to be sent, with copies or without, and settles them in groups.
fn settled(plan: &[(bool, bool, Change)], groups: usize) -> Vec<Vec<Value>> {
    let plan = plan.to_vec();
    on_db(move |db| {
        enqueue(db, "old-junk", &leads(1..1 + i64::try_from(plan.len()).unwrap()), 0);
        let claim = claim(db, 0, JOBS);
        let sent: Vec<_> = claim
            .jobs
            .iter()
            .zip(&plan)
            .filter(|(_, (sent, _, _))| *sent)
            .map(|(job, (_, copied, _))| {
                let copy =
                    CopyToKeep { fields_json: format!("{{\"id\":{}}}", job.lead_id), expires_at: t(1_000) };
                (job.id, copied.then_some(copy))
            })
            .collect();
        for some in sent.chunks(groups) {
            let marked = jobs::mark_sent(db, claim.id, some, t(1)).unwrap();
            assert_eq!(marked, some.iter().map(|(id, _)| *id).collect::<Vec<JobId>>());
        }
        let changes: Vec<(JobId, Change)> =
            claim.jobs.iter().zip(plan).map(|(job, (_, _, change))| (job.id, change)).collect();
        for some in changes.chunks(groups) {
            let settled = jobs::settle(db, claim.id, some, t(2)).unwrap();
            assert_eq!((settled.changed, settled.stale), (some.len() as u64, vec![]));
        }
        tables(db)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn jobs_settled_together_end_as_one_by_one(
        plan in prop::collection::vec((any::<bool>(), any::<bool>(), change()), 1..=JOBS),
    ) {
        prop_assert_eq!(settled(&plan, JOBS), settled(&plan, 1));
    }
}

#[test]
fn of_a_batch_only_what_the_claim_still_has_is_sent_and_settled() {
    on_db(|db| {
        enqueue(db, "old-junk", &leads(1..6), 0);
        let first = claim(db, 0, 3);
        let other = claim(db, 0, 2);
        let gone = first.jobs[1].id;
        assert_eq!(jobs::release_some(db, first.id, &[gone]).unwrap(), 1);
        let all: Vec<JobId> = first.jobs.iter().chain(&other.jobs).map(|job| job.id).collect();
        let to_send: Vec<_> = all.iter().map(|id| (*id, None)).collect();
        let held = [first.jobs[0].id, first.jobs[2].id];
        assert_eq!(jobs::mark_sent(db, first.id, &to_send, t(1)).unwrap(), held);
        let done = Change::Finish { outcome: Outcome::Deleted, reason: None, error: None };
        let changes: Vec<_> = all.iter().map(|id| (*id, done.clone())).collect();
        let settled = jobs::settle(db, first.id, &changes, t(2)).unwrap();
        assert_eq!((settled.changed, settled.stale), (2, vec![gone, other.jobs[0].id, other.jobs[1].id]));
        let counts = jobs::counts(db).unwrap();
        assert_eq!((counts.waiting, counts.running, counts.deleted), (1, 2, 2));
        let again = jobs::settle(db, first.id, &changes, t(3)).unwrap();
        assert_eq!((again.changed, again.stale.len()), (0, 5), "a late answer changes nothing");
    });
}
