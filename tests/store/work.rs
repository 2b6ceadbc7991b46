use b24_janitor::core::outcome::{Change, Outcome};
use b24_janitor::store::jobs::{
    self, Cancel, Claim, CopyToKeep, Enqueued, Job, JobFilter, JobState, LeadGone, Phase, Retry,
};
use b24_janitor::store::protections::{self, ProtectionReason};
use b24_janitor::store::recover::{self, Recovered};
use b24_janitor::store::{JobId, RunId, copies};
use rusqlite::Connection;

use crate::support::{DAY, HOUR, claim, enqueue, job, lead, leads, on_db, send, start, t};

fn finish(outcome: Outcome) -> Change {
    Change::Finish { outcome, reason: Some("a reason".to_owned()), error: None }
}

fn unknown(settle_at: i64) -> Change {
    Change::Unknown { settle_at: t(settle_at), error: "<timeout>".to_owned() }
}

fn back(due: i64, give_back: bool) -> Change {
    Change::Release { due_at: t(due), error: Some("QUERY_LIMIT_EXCEEDED".to_owned()), give_back }
}

fn settle(db: &Connection, claim: &Claim, id: JobId, change: Change, now: i64) {
    let settled = jobs::settle(db, claim.id, &[(id, change)], t(now)).unwrap();
    assert_eq!((settled.changed, settled.stale), (1, vec![]));
}

/// One job of lead 1, claimed.
fn claimed(db: &Connection) -> (Claim, JobId) {
    enqueue(db, "old-junk", &[lead(1)], 0);
    let claim = claim(db, 0, 50);
    let id = claim.jobs[0].id;
    (claim, id)
}

/// One job of lead 1 whose attempt ended unknown, to be read from 75 s on; a copy is kept.
fn lost(db: &Connection) -> JobId {
    let (claim, id) = claimed(db);
    assert_eq!(jobs::mark_sent(db, claim.id, &[(id, Some(copy()))], t(0)).unwrap(), [id]);
    settle(db, &claim, id, unknown(75), 70);
    id
}

fn copy() -> CopyToKeep {
    CopyToKeep { fields_json: r#"{"id":1,"title":"x"}"#.to_owned(), expires_at: t(30 * DAY) }
}

fn kept(db: &Connection) -> Option<copies::Copy> {
    copies::get(db, lead(1)).unwrap()
}

#[test]
fn a_lead_has_at_most_one_job_that_is_not_done() {
    on_db(|db| {
        enqueue(db, "first", &leads(1..4), 0);
        let run = start(db, "second");
        let second = jobs::enqueue(db, run, "second", &leads(2..6), 0, t(0), t(0)).unwrap();
        assert_eq!(second, Enqueued { enqueued: 2, already_waiting: 2 });
        assert_eq!(jobs::live_jobs(db, &[lead(2)]).unwrap()[&lead(2)].rule, "first");
        let claim = claim(db, 0, 50);
        for job in &claim.jobs {
            settle(db, &claim, job.id, finish(Outcome::Spared), 1);
        }
        let again = jobs::enqueue(db, run, "second", &leads(2..4), 0, t(2), t(2)).unwrap();
        assert_eq!(again, Enqueued { enqueued: 2, already_waiting: 0 }, "done jobs are no obstacle");
    });
}

#[test]
fn a_job_is_claimed_once() {
    on_db(|db| {
        enqueue(db, "old-junk", &leads(1..101), 0);
        let one = claim(db, 0, 60);
        let two = claim(db, 0, 60);
        assert_ne!(one.id, two.id);
        let mut all: Vec<_> = one.jobs.iter().chain(&two.jobs).map(|job| job.id).collect();
        all.sort();
        all.dedup();
        assert_eq!((one.jobs.len(), two.jobs.len(), all.len()), (60, 40, 100));
        assert_eq!(jobs::claim_due(db, t(0), 60, &[]).unwrap(), None);
    });
}

#[test]
fn a_completion_under_an_old_claim_changes_nothing() {
    on_db(|db| {
        let (old, id) = claimed(db);
        assert_eq!(jobs::release_claim(db, old.id).unwrap(), 1);
        let new = claim(db, 0, 50);
        let before = job(db, id);
        for change in [finish(Outcome::Deleted), back(5, true), unknown(75)] {
            let settled = jobs::settle(db, old.id, &[(id, change)], t(9)).unwrap();
            assert_eq!((settled.changed, settled.stale), (0, vec![id]));
        }
        assert_eq!(jobs::mark_sent(db, old.id, &[(id, Some(copy()))], t(9)).unwrap(), []);
        assert_eq!(jobs::release_claim(db, old.id).unwrap(), 0);
        assert_eq!((job(db, id), kept(db)), (before, None));
        settle(db, &new, id, finish(Outcome::Deleted), 10);
        let done = job(db, id);
        let late = jobs::settle(db, new.id, &[(id, finish(Outcome::Failed))], t(11)).unwrap();
        assert_eq!(late.stale, [id], "an answer that comes twice settles once");
        assert_eq!(job(db, id), done);
    });
}

#[test]
fn an_attempt_that_was_surely_not_executed_is_given_back_and_stays_in_the_history() {
    on_db(|db| {
        let (first, id) = claimed(db);
        send(db, &first, 1);
        assert_eq!(job(db, id).attempts, 1);
        settle(db, &first, id, back(10, true), 2);
        let waiting = job(db, id);
        assert_eq!((waiting.state, waiting.attempts, waiting.due_at), (JobState::Waiting, 0, t(10)));
        assert_eq!(waiting.last_error.as_deref(), Some("QUERY_LIMIT_EXCEEDED"));
        let second = claim(db, 10, 50);
        settle(db, &second, id, back(20, true), 11);
        assert_eq!(job(db, id).attempts, 0, "what was never sent has nothing to give back");
        let third = claim(db, 20, 50);
        send(db, &third, 21);
        settle(db, &third, id, back(30, false), 22);
        assert_eq!(job(db, id).attempts, 1);
        let fourth = claim(db, 30, 50);
        settle(db, &fourth, id, back(40, true), 31);
        assert_eq!(job(db, id).attempts, 1, "nor does it give back an earlier attempt");
        let results: Vec<_> = jobs::attempts_of(db, id).unwrap().into_iter().map(|a| a.result).collect();
        assert_eq!(results, [Some("not_executed".to_owned()), Some("retry".to_owned())]);
    });
}

#[test]
fn a_job_whose_answer_was_lost_is_read_again_when_the_portal_has_surely_ended() {
    on_db(|db| {
        let id = lost(db);
        let now = job(db, id);
        assert_eq!(
            (now.state, now.phase, now.unknown_before),
            (JobState::Running, Some(Phase::Unknown), true)
        );
        assert_eq!(jobs::next_due(db).unwrap(), Some(t(75)));
        assert_eq!(jobs::claim_due(db, t(HOUR), 50, &[]).unwrap(), None, "never as if it were new");
        assert_eq!(jobs::claim_unknown(db, t(74), 50, &[]).unwrap(), None);
        let again = jobs::claim_unknown(db, t(75), 50, &[]).unwrap().unwrap();
        assert!(again.jobs[0].unknown_before, "a lead that is gone now was deleted by us");
        assert_eq!(jobs::claim_unknown(db, t(75), 50, &[]).unwrap(), None);
        assert_eq!(jobs::mark_sent(db, again.id, &[(id, Some(copy()))], t(76)).unwrap(), [id]);
        assert!(!job(db, id).unknown_before, "it was read as present");
        settle(db, &again, id, finish(Outcome::Deleted), 77);
        let results: Vec<_> =
            jobs::attempts_of(db, id).unwrap().into_iter().filter_map(|a| a.result).collect();
        assert_eq!(results, ["unknown", "deleted"]);
    });
}

#[test]
fn a_job_may_be_sent_once_more_alone_under_the_same_claim() {
    on_db(|db| {
        let (claim, id) = claimed(db);
        send(db, &claim, 1);
        send(db, &claim, 2);
        settle(db, &claim, id, finish(Outcome::Failed), 3);
        let attempts = jobs::attempts_of(db, id).unwrap();
        let told: Vec<_> = attempts.iter().map(|a| (a.number, a.sent_at, a.result.as_deref())).collect();
        assert_eq!(told, [(1, t(1), Some("repeated")), (2, t(2), Some("failed"))]);
    });
}

#[test]
fn a_copy_is_kept_for_a_lead_that_was_deleted_and_for_no_other() {
    for (change, keeps) in [
        (finish(Outcome::Deleted), true),
        (finish(Outcome::AlreadyGone), false),
        (finish(Outcome::Spared), false),
        (finish(Outcome::Failed), false),
        (back(10, true), false),
        (unknown(75), true),
    ] {
        on_db(move |db| {
            let (claim, id) = claimed(db);
            jobs::mark_sent(db, claim.id, &[(id, Some(copy()))], t(0)).unwrap();
            assert_eq!(kept(db).unwrap().deleted_at, None);
            settle(db, &claim, id, change.clone(), 1);
            assert_eq!(kept(db).is_some(), keeps, "{change:?}");
        });
    }
    on_db(|db| {
        let id = lost(db);
        let again = jobs::claim_unknown(db, t(80), 50, &[]).unwrap().unwrap();
        settle(db, &again, id, back(90, false), 81);
        assert!(kept(db).is_some(), "still in question");
        let again = claim(db, 90, 50);
        settle(db, &again, id, finish(Outcome::Spared), 91);
        assert_eq!(kept(db), None, "it lives");
    });
    on_db(|db| {
        lost(db);
        jobs::lead_gone(db, lead(1), t(80)).unwrap();
        assert_eq!(kept(db).unwrap().deleted_at, Some(t(80)));
        assert_eq!(copies::expire(db, t(30 * DAY - 1), 10).unwrap(), 0);
        assert_eq!(copies::expire(db, t(30 * DAY), 10).unwrap(), 1);
        assert_eq!(kept(db), None);
    });
}

#[test]
fn the_portals_word_that_a_lead_is_gone_settles_what_nobody_works_on() {
    let told = |db: &Connection| jobs::lead_gone(db, lead(1), t(80)).unwrap();
    on_db(move |db| {
        assert_eq!(told(db), LeadGone::NoJob);
        enqueue(db, "old-junk", &[lead(1)], 0);
        assert_eq!(told(db), LeadGone::Finished(JobId(1), Outcome::AlreadyGone));
    });
    on_db(move |db| {
        let id = lost(db);
        assert_eq!(told(db), LeadGone::Finished(id, Outcome::Deleted));
    });
    on_db(move |db| {
        let id = lost(db);
        let again = jobs::claim_unknown(db, t(75), 50, &[]).unwrap().unwrap();
        assert_eq!(told(db), LeadGone::LeftAlone(id), "the worker has it");
        settle(db, &again, id, back(78, false), 76);
        assert_eq!(told(db), LeadGone::Finished(id, Outcome::Deleted));
    });
    on_db(move |db| {
        let (claim, id) = claimed(db);
        assert_eq!(told(db), LeadGone::LeftAlone(id));
        send(db, &claim, 1);
        assert_eq!(told(db), LeadGone::LeftAlone(id), "our own deletion comes back");
    });
}

#[test]
fn cancelling_protects_the_lead_from_the_rule_for_30_days() {
    on_db(|db| {
        enqueue(db, "old-junk", &[lead(1)], HOUR);
        let id = JobId(1);
        assert_eq!(jobs::cancel(db, id, t(5)).unwrap(), Cancel::Cancelled);
        assert_eq!(jobs::cancel(db, id, t(6)).unwrap(), Cancel::AlreadyDone(Outcome::Cancelled));
        assert_eq!(jobs::cancel(db, JobId(2), t(6)).unwrap(), Cancel::NoSuchJob);
        let protected = |rule: &'static str, now: i64| {
            protections::lead_protections(db, &[lead(1)], rule, t(now)).unwrap().get(&lead(1)).copied()
        };
        assert_eq!(protected("old-junk", 6).map(|p| p.reason), Some(ProtectionReason::Cancelled));
        assert!(protected("old-junk", 5 + 30 * DAY - 1).is_some());
        assert_eq!(protected("old-junk", 5 + 30 * DAY), None);
        assert_eq!(protected("another", 6), None);
    });
}

#[test]
fn what_the_worker_has_or_may_have_deleted_cannot_be_cancelled() {
    on_db(|db| {
        let (claim, id) = claimed(db);
        assert_eq!(jobs::cancel(db, id, t(1)).unwrap(), Cancel::Running);
        send(db, &claim, 1);
        assert_eq!(jobs::cancel(db, id, t(1)).unwrap(), Cancel::Running);
        settle(db, &claim, id, unknown(75), 2);
        assert_eq!(jobs::cancel(db, id, t(3)).unwrap(), Cancel::Running);
        let again = jobs::claim_unknown(db, t(80), 50, &[]).unwrap().unwrap();
        settle(db, &again, id, back(90, false), 81);
        assert_eq!(jobs::cancel(db, id, t(82)).unwrap(), Cancel::Running, "it waits, and may be deleted");
        assert_eq!(jobs::spare_rule(db, "old-junk", "the rule is gone", t(82)).unwrap(), 0);
        // A reading that shows it may be older than our own deletion.
        assert!(!jobs::spare_waiting_of_lead(db, lead(1), "stageId is NEW", t(82)).unwrap());
        assert_eq!(job(db, id).state, JobState::Waiting);
    });
}

#[test]
fn only_a_failed_job_can_be_retried() {
    on_db(|db| {
        let (claim, id) = claimed(db);
        assert_eq!(jobs::retry(db, id, t(1)).unwrap(), Retry::NotFailed(JobState::Running, None));
        assert_eq!(jobs::retry(db, JobId(9), t(1)).unwrap(), Retry::NoSuchJob);
        send(db, &claim, 1);
        settle(db, &claim, id, finish(Outcome::Failed), 2);
        let reason = ProtectionReason::Failed;
        protections::protect_lead(db, lead(1), None, reason, t(DAY), t(2)).unwrap();
        assert_eq!(protections::failures_of_lead(db, lead(1)).unwrap(), 1);
        let run = start(db, "other");
        jobs::enqueue(db, run, "other", &[lead(1)], 0, t(DAY), t(3)).unwrap();
        assert_eq!(jobs::retry(db, id, t(4)).unwrap(), Retry::LiveJobExists(JobId(2)));
        jobs::cancel(db, JobId(2), t(4)).unwrap();
        assert_eq!(jobs::retry(db, id, t(5)).unwrap(), Retry::Requeued);
        let waiting = job(db, id);
        assert_eq!((waiting.state, waiting.due_at, waiting.attempts), (JobState::Waiting, t(5), 1));
        let protected = protections::lead_protections(db, &[lead(1)], "any", t(6)).unwrap();
        assert!(protected.is_empty(), "{protected:?}");
    });
}

#[test]
fn sparing_touches_waiting_jobs_only() {
    on_db(|db| {
        enqueue(db, "gone", &leads(1..4), 0);
        enqueue(db, "stays", &leads(4..5), 0);
        let running = claim(db, 0, 1).jobs[0].clone();
        assert!(!jobs::spare_waiting_of_lead(db, running.lead_id, "stageId is NEW", t(1)).unwrap());
        assert!(jobs::spare_waiting_of_lead(db, lead(2), "stageId is NEW", t(1)).unwrap());
        assert!(!jobs::spare_waiting_of_lead(db, lead(2), "stageId is NEW", t(1)).unwrap());
        assert_eq!(jobs::waiting_rules(db).unwrap(), ["gone", "stays"]);
        assert_eq!(jobs::spare_rule(db, "gone", "the rule is gone", t(1)).unwrap(), 1);
        assert_eq!(jobs::waiting_rules(db).unwrap(), ["stays"]);
        let counts = jobs::counts(db).unwrap();
        assert_eq!((counts.waiting, counts.running, counts.spared), (1, 1, 2));
    });
}

#[test]
fn a_longer_grace_period_moves_waiting_jobs_and_a_shorter_one_does_not() {
    on_db(|db| {
        let run = start(db, "spam");
        jobs::enqueue(db, run, "spam", &leads(1..3), 3600, t(HOUR), t(0)).unwrap();
        assert_eq!(jobs::extend_grace(db, "spam", 7200).unwrap(), 2);
        assert_eq!(job(db, JobId(1)).due_at, t(2 * HOUR));
        assert_eq!(jobs::extend_grace(db, "spam", 60).unwrap(), 0);
        assert_eq!(job(db, JobId(1)).due_at, t(2 * HOUR));
        let summary = jobs::due_summary(db, t(HOUR + 1)).unwrap();
        assert_eq!((summary.due_now, summary.within_hour, summary.next), (0, 2, Some(t(2 * HOUR))));
    });
}

#[test]
fn after_a_crash_everything_goes_on_and_what_was_sent_is_in_question() {
    on_db(|db| {
        enqueue(db, "old-junk", &leads(1..4), 0);
        let one = claim(db, 0, 1);
        send(db, &one, 10);
        settle(db, &one, one.jobs[0].id, unknown(500), 20);
        let two = claim(db, 0, 1);
        send(db, &two, 100);
        let three = claim(db, 0, 1);
        let recovered = recover::recover(db, t(130)).unwrap();
        assert_eq!(recovered, Recovered { released: 1, unknown: 1, events: 0, runs: 1 });
        let states = |claim: &Claim| {
            let job = job(db, claim.jobs[0].id);
            (job.state, job.phase, job.settle_at, job.attempts)
        };
        assert_eq!(states(&one), (JobState::Running, Some(Phase::Unknown), Some(t(500)), 1));
        assert_eq!(states(&two), (JobState::Running, Some(Phase::Unknown), Some(t(190)), 1), "sent + 90 s");
        assert_eq!(states(&three), (JobState::Waiting, None, None, 0));
        assert_eq!(recover::recover(db, t(131)).unwrap(), Recovered::default());
    });
}

#[test]
fn jobs_are_listed_by_page_and_told_in_the_contracts_keys() {
    on_db(|db| {
        enqueue(db, "a", &leads(1..6), 0);
        enqueue(db, "b", &leads(6..8), 0);
        let ids = |filter: JobFilter| -> Vec<i64> {
            jobs::list(db, &filter).unwrap().into_iter().map(|job: Job| job.id.0).collect()
        };
        let page = JobFilter { limit: 2, ..JobFilter::default() };
        assert_eq!(ids(page.clone()), [1, 2]);
        assert_eq!(ids(JobFilter { after: Some(JobId(2)), ..page.clone() }), [3, 4]);
        assert_eq!(ids(JobFilter { rule: Some("b".to_owned()), ..page.clone() }), [6, 7]);
        assert_eq!(ids(JobFilter { lead: Some(lead(3)), ..page.clone() }), [3]);
        assert_eq!(ids(JobFilter { run: Some(RunId(2)), ..page.clone() }), [6, 7]);
        assert_eq!(ids(JobFilter { newest_first: true, ..page.clone() }), [7, 6]);
        assert_eq!(ids(JobFilter { newest_first: true, after: Some(JobId(3)), ..page.clone() }), [2, 1]);
        jobs::cancel(db, JobId(4), t(1)).unwrap();
        assert_eq!(ids(JobFilter { outcome: Some(Outcome::Cancelled), ..page.clone() }), [4]);
        assert_eq!(ids(JobFilter { state: Some(JobState::Done), ..page }), [4]);
        assert_eq!(
            serde_json::to_string(&job(db, JobId(4))).unwrap(),
            r#"{"id":4,"lead_id":4,"rule":"a","run_id":1,"state":"done","outcome":"cancelled","reason":"cancelled by a person","attempts":0,"due_at":"2026-11-25T03:15:00Z","created_at":"2026-11-25T03:15:00Z","finished_at":"2026-11-25T03:15:01Z","last_error":null}"#
        );
    });
}
