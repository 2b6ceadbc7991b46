//! Random sequences of operations, as a worker, an evaluator, a person, the portal and a crash might mix them.

use std::collections::{BTreeMap, HashSet};

use b24_janitor::core::outcome::{Change, Outcome};
use b24_janitor::store::jobs::{self, CopyToKeep, Job, JobFilter, JobState, Phase};
use b24_janitor::store::{ClaimId, JobId, prune, recover};
use proptest::prelude::*;
use rusqlite::Connection;

use crate::support::{lead, on_db, start, t};

#[derive(Debug, Clone)]
enum Op {
    Enqueue { first: i64, count: i64, rule: u8, due_in: i64 },
    Claim { limit: usize, cap: u64 },
    ClaimUnknown { limit: usize },
    Send { claim: i64, copy: bool },
    Settle { claim: i64, job: i64, change: u8 },
    ReleaseClaim { claim: i64 },
    Cancel { job: i64 },
    Retry { job: i64 },
    SpareLead { lead: i64 },
    SpareRule { rule: u8 },
    Gone { lead: i64 },
    Crash,
    Prune,
    Wait { seconds: i64 },
}

fn op() -> impl Strategy<Value = Op> {
    let small = 1..12_i64;
    let claim = || 1..10_i64;
    let job = || 1..20_i64;
    prop_oneof![
        3 => (1..8_i64, 1..5_i64, 0..2_u8, 0..50_i64)
            .prop_map(|(first, count, rule, due_in)| Op::Enqueue { first, count, rule, due_in }),
        4 => (1..5_usize, 0..6_u64).prop_map(|(limit, cap)| Op::Claim { limit, cap }),
        2 => (1..5_usize).prop_map(|limit| Op::ClaimUnknown { limit }),
        4 => (claim(), any::<bool>()).prop_map(|(claim, copy)| Op::Send { claim, copy }),
        8 => (claim(), job(), 0..9_u8).prop_map(|(claim, job, change)| Op::Settle { claim, job, change }),
        1 => claim().prop_map(|claim| Op::ReleaseClaim { claim }),
        1 => job().prop_map(|job| Op::Cancel { job }),
        1 => job().prop_map(|job| Op::Retry { job }),
        1 => small.clone().prop_map(|lead| Op::SpareLead { lead }),
        1 => (0..2_u8).prop_map(|rule| Op::SpareRule { rule }),
        1 => small.prop_map(|lead| Op::Gone { lead }),
        1 => Just(Op::Crash),
        1 => Just(Op::Prune),
        3 => (1..100_i64).prop_map(|seconds| Op::Wait { seconds }),
    ]
}

fn rule_name(rule: u8) -> String {
    format!("rule-{rule}")
}

fn change_of(number: u8, now: i64) -> Change {
    let release = |give_back| Change::Release { due_at: t(now + 5), error: None, give_back };
    match number {
        0..5 => Change::Finish { outcome: Outcome::ALL[usize::from(number)], reason: None, error: None },
        5 => release(true),
        6 => release(false),
        _ => Change::Unknown { settle_at: t(now + 75), error: "<timeout>".to_owned() },
    }
}

fn all_jobs(db: &Connection) -> BTreeMap<JobId, Job> {
    let filter = JobFilter { limit: 10_000, ..JobFilter::default() };
    jobs::list(db, &filter).unwrap().into_iter().map(|job| (job.id, job)).collect()
}

/// Applies an operation; how many jobs it enqueued.
fn apply(db: &Connection, op: &Op, now: i64) -> u64 {
    match op {
        Op::Enqueue { first, count, rule, due_in } => {
            let run = start(db, &rule_name(*rule));
            let leads: Vec<_> = (*first..*first + *count).map(lead).collect();
            let due = t(now + due_in);
            let result = jobs::enqueue(db, run, &rule_name(*rule), &leads, 0, due, t(now)).unwrap();
            assert_eq!(result.enqueued + result.already_waiting, leads.len() as u64);
            return result.enqueued;
        }
        Op::Claim { limit, cap } => {
            let caps = [(rule_name(0), *cap)];
            if let Some(claim) = jobs::claim_due(db, t(now), *limit, &caps).unwrap() {
                assert!(claim.jobs.len() <= *limit);
                assert!(claim.jobs.iter().all(|job| job.due_at <= t(now)));
                let new = claim.jobs.iter().any(|job| job.rule == rule_name(0) && !job.unknown_before);
                let counted = all_jobs(db)
                    .values()
                    .filter(|job| job.rule == rule_name(0))
                    .filter(|job| match job.state {
                        JobState::Waiting => job.unknown_before,
                        JobState::Running => true,
                        JobState::Done => job.outcome == Some(Outcome::Deleted),
                    })
                    .count() as u64;
                assert!(
                    !new || counted <= *cap,
                    "{counted} deletions, sent or possible, over a cap of {cap}"
                );
            }
        }
        Op::ClaimUnknown { limit } => {
            if let Some(claim) = jobs::claim_unknown(db, t(now), *limit, &[]).unwrap() {
                assert!(claim.jobs.iter().all(|job| job.unknown_before));
            }
        }
        Op::Send { claim, copy } => {
            let copy = copy.then(|| CopyToKeep { fields_json: "{}".to_owned(), expires_at: t(1_000_000) });
            let jobs_to_send: Vec<_> = all_jobs(db).into_keys().map(|id| (id, copy.clone())).collect();
            jobs::mark_sent(db, ClaimId(*claim), &jobs_to_send, t(now)).unwrap();
        }
        Op::Settle { claim, job, change } => {
            let before = all_jobs(db);
            let changes = [(JobId(*job), change_of(*change, now))];
            let settled = jobs::settle(db, ClaimId(*claim), &changes, t(now)).unwrap();
            assert_eq!(settled.changed + settled.stale.len() as u64, 1);
            if settled.changed == 0 {
                assert_eq!(all_jobs(db), before, "a stale completion changes nothing");
            }
        }
        Op::ReleaseClaim { claim } => drop(jobs::release_claim(db, ClaimId(*claim)).unwrap()),
        Op::Cancel { job } => drop(jobs::cancel(db, JobId(*job), t(now)).unwrap()),
        Op::Retry { job } => drop(jobs::retry(db, JobId(*job), t(now)).unwrap()),
        Op::SpareLead { lead: id } => {
            jobs::spare_waiting_of_lead(db, lead(*id), "no longer matches", t(now)).unwrap();
        }
        Op::SpareRule { rule } => drop(jobs::spare_rule(db, &rule_name(*rule), "gone", t(now)).unwrap()),
        Op::Gone { lead: id } => drop(jobs::lead_gone(db, lead(*id), t(now)).unwrap()),
        Op::Crash => {
            recover::recover(db, t(now)).unwrap();
            assert!(
                all_jobs(db).values().all(|job| !matches!(job.phase, Some(Phase::Claimed | Phase::Sent))),
                "nobody works on anything right after a start"
            );
        }
        Op::Prune => drop(prune::prune(db, t(now - 60), 3).unwrap()),
        Op::Wait { .. } => {}
    }
    0
}

fn legal(op: &Op, before: &Job, after: Option<&Job>) -> bool {
    let Some(after) = after else {
        return before.state == JobState::Done && matches!(op, Op::Prune);
    };
    if before == after {
        return true;
    }
    let settles = matches!(op, Op::Settle { .. });
    let crash = matches!(op, Op::Crash);
    let person =
        matches!(op, Op::Cancel { .. } | Op::SpareLead { .. } | Op::SpareRule { .. } | Op::Gone { .. });
    match ((before.state, before.phase), (after.state, after.phase)) {
        ((JobState::Waiting, None), (JobState::Running, Some(Phase::Claimed))) => {
            matches!(op, Op::Claim { .. })
        }
        ((JobState::Waiting, None), (JobState::Done, None)) => person,
        ((JobState::Running, Some(Phase::Claimed | Phase::Sent)), (JobState::Running, Some(Phase::Sent))) => {
            matches!(op, Op::Send { .. })
        }
        ((JobState::Running, Some(Phase::Claimed)), (JobState::Waiting, None)) => {
            settles || crash || matches!(op, Op::ReleaseClaim { .. })
        }
        ((JobState::Running, Some(Phase::Sent)), (JobState::Waiting, None)) => settles,
        ((JobState::Running, Some(Phase::Claimed)), (JobState::Running, Some(Phase::Unknown))) => settles,
        ((JobState::Running, Some(Phase::Sent)), (JobState::Running, Some(Phase::Unknown))) => {
            settles || crash
        }
        ((JobState::Running, Some(Phase::Claimed | Phase::Sent)), (JobState::Done, None)) => settles,
        ((JobState::Running, Some(Phase::Unknown)), (JobState::Running, Some(Phase::Claimed))) => {
            matches!(op, Op::ClaimUnknown { .. })
        }
        ((JobState::Running, Some(Phase::Unknown)), (JobState::Done, None)) => {
            matches!(op, Op::Gone { .. }) && after.outcome == Some(Outcome::Deleted)
        }
        ((JobState::Done, None), (JobState::Waiting, None)) => {
            matches!(op, Op::Retry { .. }) && before.outcome == Some(Outcome::Failed)
        }
        _ => false,
    }
}

fn one(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn check(db: &Connection, op: &Op, before: &BTreeMap<JobId, Job>, stored: u64) {
    let after = all_jobs(db);
    for (id, job) in before {
        assert!(legal(op, job, after.get(id)), "{op:?} made of {job:?} {:?}", after.get(id));
    }
    let counts = jobs::counts(db).unwrap();
    assert_eq!(stored, counts.total(), "stored = finished + live + pruned");
    let live: Vec<_> = after.values().filter(|job| job.state != JobState::Done).collect();
    assert_eq!(live.len() as u64, counts.waiting + counts.running);
    let leads: HashSet<_> = live.iter().map(|job| job.lead_id).collect();
    assert_eq!(leads.len(), live.len(), "one live job a lead");
    let sent = live.iter().filter(|job| job.phase == Some(Phase::Sent)).count() as i64;
    assert_eq!(
        one(db, "SELECT count(*) FROM attempts WHERE ended_at IS NULL"),
        sent,
        "open attempts are sent jobs"
    );
    let orphans = "SELECT count(*) FROM copies LEFT JOIN jobs ON jobs.id = copies.job_id
        WHERE deleted_at IS NULL AND jobs.phase IS NOT 'sent' AND jobs.unknown_before IS NOT 1";
    assert_eq!(one(db, orphans), 0, "a copy belongs to a lead that is or may be deleted");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_whatever_order_no_job_is_lost_or_changed_illegally(
        ops in prop::collection::vec(op(), 1..80)
    ) {
        on_db(move |db| {
            let mut now = 0;
            let mut stored = 0;
            for op in &ops {
                if let Op::Wait { seconds } = op {
                    now += seconds;
                }
                let before = all_jobs(db);
                stored += apply(db, op, now);
                check(db, op, &before, stored);
            }
        });
    }
}
