use b24_janitor::core::outcome::{Change, Outcome};
use b24_janitor::core::rule::LeadEvent;
use b24_janitor::store::control::{self, PortalStop};
use b24_janitor::store::events::{self, NewEvent};
use b24_janitor::store::plans::{self, LastPlan};
use b24_janitor::store::protections::{self, ProtectionReason};
use b24_janitor::store::requests::{self, RequestState};
use b24_janitor::store::runs::{self, RunFilter};
use b24_janitor::store::{Store, jobs, prune, recover};

use crate::support::{DAY, Folder, INLINE, claim, enqueue, lead, leads, on_db, t};

#[test]
fn the_last_plan_of_a_rule_is_remembered_as_far_as_there_is_room() {
    on_db(|db| {
        assert_eq!(plans::last(db, "junk").unwrap(), None);
        let all: Vec<_> = (1..=plans::MAX_LEADS as i64 + 5).map(|id| lead(id * 3)).collect();
        let few = LastPlan::new("first".to_owned(), t(0), &all[..3]);
        plans::remember(db, "junk", &few).unwrap();
        assert!(few.is_whole());
        assert_eq!(plans::last(db, "junk").unwrap(), Some(few));
        plans::remember(db, "junk", &LastPlan::new("second".to_owned(), t(1), &all)).unwrap();
        let kept = plans::last(db, "junk").unwrap().unwrap();
        assert!(!kept.is_whole());
        assert_eq!((kept.total, kept.leads.as_slice()), (all.len() as u64, &all[..plans::MAX_LEADS]));

        // A rule that nobody plans any more is forgotten after a year; what is no plan stays.
        control::set(db, "pace", "{}", t(0)).unwrap();
        plans::remember(db, "other", &LastPlan::new(String::new(), t(400 * DAY), &[])).unwrap();
        assert_eq!(plans::last(db, "junk").unwrap(), None);
        assert_eq!(plans::last(db, "other").unwrap().map(|plan| plan.total), Some(0));
        assert!(control::get(db, "pace").unwrap().is_some());
        control::set(db, "plan:other", "{", t(0)).unwrap();
        assert_eq!(plans::last(db, "other").unwrap(), None, "what can't be read is no plan");
    });
}

#[test]
fn a_pause_and_a_portal_stop_hold_across_restarts() {
    let folder = Folder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let stop = PortalStop {
            code: "insufficient_scope".to_owned(),
            text: "give the webhook the scope crm".to_owned(),
            since: t(0),
            needs_person: false,
        };
        let store = Store::open(&folder.db(), INLINE).unwrap();
        let set = stop.clone();
        store
            .write(move |db| {
                control::set_paused(db, true, t(0))?;
                control::heartbeat(db, t(7))?;
                control::set_last_error(db, Some("a word"), t(8))?;
                control::set_portal_stop(db, &set)
            })
            .await
            .unwrap();
        store.close().await;
        let store = Store::open(&folder.db(), INLINE).unwrap();
        store
            .write(move |db| {
                assert!(control::paused(db)?);
                assert_eq!(control::portal_stop(db)?, Some(stop));
                assert_eq!(control::last_heartbeat(db)?, Some(t(7)));
                assert_eq!(control::last_error(db)?, Some(("a word".to_owned(), t(8))));
                control::set_paused(db, false, t(1))?;
                assert!(!control::paused(db)?);
                assert!(control::clear_portal_stop(db)?);
                assert!(!control::clear_portal_stop(db)?);
                control::set_last_error(db, None, t(9))?;
                assert_eq!(control::last_error(db)?, None);
                Ok(())
            })
            .await
            .unwrap();
    });
}

#[test]
fn the_protection_that_lasts_longest_counts_and_none_is_shortened() {
    on_db(|db| {
        let protect = |rule, reason, until: i64| {
            protections::protect_lead(db, lead(1), rule, reason, t(until), t(0)).unwrap();
        };
        protect(None, ProtectionReason::Failed, 100);
        protect(Some("spam"), ProtectionReason::Cancelled, 200);
        protect(None, ProtectionReason::Restored, 50);
        protect(None, ProtectionReason::Failed, 10);
        let found = |rule: &str, now: i64| {
            let found = protections::lead_protections(db, &leads(1..3), rule, t(now)).unwrap();
            found.get(&lead(1)).map(|protection| (protection.reason, protection.until))
        };
        assert_eq!(found("spam", 0), Some((ProtectionReason::Cancelled, t(200))));
        assert_eq!(found("other", 0), Some((ProtectionReason::Failed, t(100))));
        assert_eq!(found("other", 100), None);
        protect(None, ProtectionReason::Restored, 150);
        assert_eq!(found("other", 0), Some((ProtectionReason::Restored, t(150))));
        assert!(protections::lift(db, lead(1), ProtectionReason::Failed).unwrap());
        assert_eq!(found("other", 0), Some((ProtectionReason::Restored, t(150))));
    });
}

#[test]
fn a_request_is_taken_once_and_its_answer_found() {
    on_db(|db| {
        let id = requests::submit(db, "run", r#"{"rule":"old-junk"}"#, t(0)).unwrap();
        assert_eq!(requests::poll(db, id).unwrap(), RequestState::Pending);
        requests::answer(db, id, true, "{}", t(1)).unwrap_err();
        let taken = requests::take(db, t(1)).unwrap();
        assert_eq!(
            taken.iter().map(|request| (request.id, request.kind.as_str())).collect::<Vec<_>>(),
            [(id, "run")]
        );
        assert_eq!(requests::take(db, t(1)).unwrap(), []);
        assert!(requests::tell(db, id, "500 of 2000").unwrap());
        assert_eq!(
            requests::poll(db, id).unwrap(),
            RequestState::Taken { progress: Some("500 of 2000".to_owned()) }
        );
        requests::answer(db, id, true, r#"{"run":7}"#, t(2)).unwrap();
        let done = RequestState::Done { ok: true, result: r#"{"run":7}"#.to_owned() };
        assert_eq!(requests::poll(db, id).unwrap(), done);
        requests::expire(db, t(3 + 3600)).unwrap();
        assert_eq!(requests::poll(db, id).unwrap(), RequestState::Unknown);
    });
}

#[test]
fn a_request_that_came_to_nobody_is_never_acted_on_later() {
    on_db(|db| {
        let late = requests::submit(db, "run", "{}", t(0)).unwrap();
        assert_eq!(requests::take(db, t(31)).unwrap(), []);
        assert!(matches!(requests::poll(db, late).unwrap(), RequestState::Done { ok: false, .. }));
        let cut = requests::submit(db, "run", "{}", t(40)).unwrap();
        requests::take(db, t(41)).unwrap();
        recover::recover(db, t(42)).unwrap();
        assert!(matches!(requests::poll(db, cut).unwrap(), RequestState::Done { ok: false, .. }));
    });
}

#[test]
fn pruning_forgets_rows_and_keeps_counts_and_what_is_not_done() {
    on_db(|db| {
        enqueue(db, "old-junk", &leads(1..11), 0);
        let claim = claim(db, 0, 8);
        let changes: Vec<_> = claim
            .jobs
            .iter()
            .map(|job| (job.id, Change::Finish { outcome: Outcome::Deleted, reason: None, error: None }))
            .collect();
        let all: Vec<_> = claim.jobs.iter().map(|job| (job.id, None)).collect();
        jobs::mark_sent(db, claim.id, &all, t(1)).unwrap();
        jobs::settle(db, claim.id, &changes, t(2)).unwrap();
        let event = NewEvent {
            event: LeadEvent::Add,
            lead_id: lead(1),
            portal_ts: None,
            domain: None,
            member_id: None,
            foreign: false,
        };
        let processed = events::append(db, &event, t(0)).unwrap();
        events::take_pending(db, 1, t(0)).unwrap();
        events::finish(db, &[processed], "no rule", None, t(1)).unwrap();
        events::append(db, &event, t(0)).unwrap();
        let before = (jobs::counts(db).unwrap(), events::counts(db).unwrap());

        assert_eq!(prune::prune(db, t(2), 100).unwrap(), 1, "the event; no job ended before then");
        assert_eq!(prune::prune(db, t(DAY), 5).unwrap(), 5, "a bounded piece");
        assert_eq!(prune::prune(db, t(DAY), 5).unwrap(), 3);
        assert_eq!(prune::prune(db, t(DAY), 5).unwrap(), 0);
        assert_eq!((jobs::counts(db).unwrap(), events::counts(db).unwrap()), before);
        let rows = |table: &str| -> i64 {
            db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!((rows("jobs"), rows("attempts"), rows("events")), (2, 0, 1));
        let runs = runs::list(db, &RunFilter { limit: 9, ..RunFilter::default() }).unwrap();
        assert_eq!(runs.len(), 1, "a run that jobs refer to stays");
    });
}

#[test]
fn a_stop_that_only_a_person_ends_is_neither_weakened_by_another_nor_ended_by_a_probe() {
    on_db(|db| {
        let stop = |needs_person, at| control::PortalStop {
            code: "OVERLOAD_LIMIT".to_owned(),
            text: String::new(),
            since: t(at),
            needs_person,
        };
        let probed = stop(false, 1);
        control::set_portal_stop(db, &probed).unwrap();
        control::set_portal_stop(db, &stop(true, 2)).unwrap();
        control::set_portal_stop(db, &stop(false, 3)).unwrap();
        assert_eq!(control::portal_stop(db).unwrap(), Some(stop(true, 2)));
        assert!(!control::clear_portal_stop_of(db, &probed).unwrap(), "the probe was of an earlier stop");
        assert!(!control::clear_portal_stop_of(db, &stop(true, 2)).unwrap());
        assert!(control::clear_portal_stop(db).unwrap(), "a person");
        control::set_portal_stop(db, &probed).unwrap();
        assert!(control::clear_portal_stop_of(db, &probed).unwrap());
    });
}
