use b24_janitor::core::outcome::{Change, Outcome};
use b24_janitor::store::jobs::{self, Claim};
use jiff::SignedDuration;
use rusqlite::Connection;

use crate::support::{DAY, HOUR, claim, enqueue, leads, leads_of, on_db, send, t};

fn settle_all(db: &Connection, claim: &Claim, change: &Change, now: i64) {
    let all: Vec<_> = claim.jobs.iter().map(|job| (job.id, change.clone())).collect();
    assert!(jobs::settle(db, claim.id, &all, t(now)).unwrap().stale.is_empty());
}

fn deleted() -> Change {
    Change::Finish { outcome: Outcome::Deleted, reason: None, error: None }
}

fn cap(rule: &str, cap: u64) -> Vec<(String, u64)> {
    vec![(rule.to_owned(), cap)]
}

#[test]
fn a_rule_deletes_no_more_than_its_cap_in_any_24_hours() {
    on_db(|db| {
        enqueue(db, "old-junk", &leads(1..11), 0);
        let caps = cap("old-junk", 4);
        let first = jobs::claim_due(db, t(0), 3, &caps).unwrap().unwrap();
        assert_eq!(first.jobs.len(), 3);
        let second = jobs::claim_due(db, t(0), 50, &caps).unwrap().unwrap();
        assert_eq!(second.jobs.len(), 1, "what runs counts");
        for claim in [&first, &second] {
            send(db, claim, 1);
            settle_all(db, claim, &deleted(), 2);
        }
        assert_eq!(jobs::claim_due(db, t(DAY + 1), 50, &caps).unwrap(), None);
        let capped = jobs::capped_rules(db, t(HOUR), &caps).unwrap();
        assert_eq!(capped.len(), 1);
        assert_eq!(capped[0].frees_at, Some(t(2 + DAY)));
        let next = jobs::claim_due(db, t(2 + DAY), 50, &caps).unwrap().unwrap();
        assert_eq!(next.jobs.len(), 4);
    });
}

/// A cap that is far above all that was ever deleted is not counted out; one that a day can reach is, to the last place.
#[test]
fn a_cap_of_several_batches_is_kept_and_used_to_the_last_place() {
    on_db(|db| {
        enqueue(db, "old-junk", &leads(1..401), 0);
        let caps = cap("old-junk", 120);
        for (day, now) in [0, DAY + 3, 2 * DAY + 6].into_iter().enumerate() {
            for batch in [50, 50, 20] {
                let claim = jobs::claim_due(db, t(now), 50, &caps).unwrap().unwrap();
                assert_eq!(claim.jobs.len(), batch, "day {day}");
                send(db, &claim, now + 1);
                settle_all(db, &claim, &deleted(), now + 2);
            }
            assert_eq!(jobs::claim_due(db, t(now + HOUR), 50, &caps).unwrap(), None, "day {day}");
        }
    });
}

/// What a rule deleted in earlier days makes no batch of today smaller.
#[test]
fn what_was_deleted_on_other_days_takes_no_place() {
    on_db(|db| {
        let caps = cap("old-junk", 150);
        enqueue(db, "old-junk", &leads(1..121), 0);
        for batch in [50, 50, 20] {
            let claim = jobs::claim_due(db, t(0), 50, &caps).unwrap().unwrap();
            assert_eq!(claim.jobs.len(), batch);
            send(db, &claim, 1);
            settle_all(db, &claim, &deleted(), 2);
        }
        enqueue(db, "old-junk", &leads(201..301), 0);
        assert_eq!(jobs::claim_due(db, t(DAY + 3), 50, &caps).unwrap().unwrap().jobs.len(), 50);
    });
}

#[test]
fn what_may_have_been_deleted_counts_until_it_is_known_not_to_be() {
    on_db(|db| {
        enqueue(db, "old-junk", &leads(1..4), 0);
        let caps = cap("old-junk", 1);
        let first = jobs::claim_due(db, t(0), 50, &caps).unwrap().unwrap();
        send(db, &first, 0);
        let lost = Change::Unknown { settle_at: t(75), error: "<timeout>".to_owned() };
        settle_all(db, &first, &lost, 60);
        assert_eq!(jobs::claim_due(db, t(80), 50, &caps).unwrap(), None, "unknown");
        let again = jobs::claim_unknown(db, t(80), 50, &[]).unwrap().unwrap();
        let later = Change::Release { due_at: t(90), error: None, give_back: false };
        settle_all(db, &again, &later, 81);
        let third = jobs::claim_due(db, t(95), 50, &caps).unwrap();
        assert_eq!(
            leads_of(&third),
            [1],
            "the one in question itself is not kept back by the cap it is counted in"
        );
        let spared = Change::Finish { outcome: Outcome::Spared, reason: None, error: None };
        settle_all(db, &third.unwrap(), &spared, 96);
        assert_eq!(leads_of(&jobs::claim_due(db, t(97), 50, &caps).unwrap()), [2]);
    });
}

#[test]
fn a_rule_at_its_cap_does_not_hold_up_the_others() {
    on_db(|db| {
        enqueue(db, "capped", &leads(1..2001), 0);
        enqueue(db, "free", &leads(3001..3003), 10);
        enqueue(db, "gone", &leads(4001..4003), 5);
        let caps = vec![("capped".to_owned(), 0), ("free".to_owned(), 100)];
        let claimed = jobs::claim_due(db, t(20), 50, &caps).unwrap();
        assert_eq!(
            leads_of(&claimed),
            [4001, 4002, 3001, 3002],
            "a rule without a cap here is the worker's to spare"
        );
    });
}

#[test]
fn jobs_of_all_rules_are_claimed_in_the_order_in_which_they_are_due() {
    on_db(|db| {
        enqueue(db, "b", &leads(1..3), 30);
        enqueue(db, "a", &leads(3..5), 20);
        enqueue(db, "c", &leads(5..6), 41);
        let claimed = jobs::claim_due(db, t(40), 3, &[]).unwrap();
        assert_eq!(leads_of(&claimed), [3, 4, 1]);
        assert_eq!(leads_of(&Some(claim(db, 40, 50))), [2], "nothing is due before its time");
        assert_eq!(jobs::next_due(db).unwrap(), Some(t(40) + SignedDuration::from_secs(1)));
    });
}
