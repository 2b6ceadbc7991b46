use b24_janitor::core::rule::LeadEvent;
use b24_janitor::store::EventId;
use b24_janitor::store::events::{self, EventCounts, NewEvent};
use rusqlite::Connection;

use crate::support::{lead, on_db, t};

fn arrive(db: &Connection, event: LeadEvent, id: i64, at: i64) -> EventId {
    let new = NewEvent {
        event,
        lead_id: lead(id),
        portal_ts: Some(t(at - 1)),
        domain: Some("example.bitrix24.de".to_owned()),
        member_id: None,
        foreign: false,
    };
    events::append(db, &new, t(at)).unwrap()
}

#[test]
fn an_event_joins_a_pending_one_of_its_lead_and_kind_only() {
    on_db(|db| {
        let first = arrive(db, LeadEvent::Update, 7, 0);
        assert_eq!(arrive(db, LeadEvent::Update, 7, 5), first);
        assert_ne!(arrive(db, LeadEvent::Add, 7, 6), first, "another kind");
        assert_ne!(arrive(db, LeadEvent::Update, 8, 6), first, "another lead");
        let taken = events::take_pending(db, 1, t(7)).unwrap();
        assert_eq!(taken.len(), 1);
        let update = &taken[0].events[0];
        assert_eq!((update.repeats, update.received_at, update.portal_ts), (1, t(0), Some(t(4))));
        let while_taken = arrive(db, LeadEvent::Update, 7, 8);
        assert_ne!(while_taken, first, "its evaluation may have read the lead before this change");
        events::finish(db, &[first], "no rule", None, t(9)).unwrap();
        assert_eq!(arrive(db, LeadEvent::Update, 7, 10), while_taken);
        assert_eq!(events::counts(db).unwrap(), EventCounts { pending: 2, total: 6 });
    });
}

#[test]
fn leads_are_taken_in_the_order_in_which_they_have_waited_with_all_their_events() {
    on_db(|db| {
        arrive(db, LeadEvent::Add, 3, 0);
        arrive(db, LeadEvent::Update, 1, 1);
        arrive(db, LeadEvent::Update, 3, 2);
        arrive(db, LeadEvent::Delete, 3, 3);
        arrive(db, LeadEvent::Add, 2, 4);
        let taken = events::take_pending(db, 2, t(5)).unwrap();
        let kinds = |n: usize| taken[n].events.iter().map(|event| event.event).collect::<Vec<_>>();
        assert_eq!(taken.iter().map(|taken| taken.lead_id).collect::<Vec<_>>(), [lead(3), lead(1)]);
        assert_eq!(kinds(0), [LeadEvent::Add, LeadEvent::Update, LeadEvent::Delete]);
        assert_eq!(kinds(1), [LeadEvent::Update]);
        let rest = events::take_pending(db, 50, t(6)).unwrap();
        assert_eq!(rest.iter().map(|taken| taken.lead_id).collect::<Vec<_>>(), [lead(2)]);
        assert_eq!(events::take_pending(db, 50, t(7)).unwrap(), []);
    });
}

#[test]
fn what_a_process_had_taken_when_it_died_is_pending_again() {
    on_db(|db| {
        let one = arrive(db, LeadEvent::Update, 1, 0);
        let two = arrive(db, LeadEvent::Update, 2, 0);
        events::take_pending(db, 50, t(1)).unwrap();
        let later = arrive(db, LeadEvent::Update, 2, 2);
        assert_eq!(events::requeue_taken(db).unwrap(), 2);
        let pending = events::take_pending(db, 50, t(3)).unwrap();
        let ids: Vec<_> = pending.iter().flat_map(|lead| &lead.events).map(|event| event.id).collect();
        assert_eq!(ids, [one, later], "the later event stands for both");
        let history = events::of_lead(db, lead(2), 10).unwrap();
        let old = history.iter().find(|line| line.event.id == two).unwrap();
        assert_eq!(old.result.as_deref(), Some(events::MERGED), "and the earlier one is still there");
    });
}

#[test]
fn an_event_that_is_not_taken_can_not_be_finished_and_giving_it_back_changes_nothing() {
    on_db(|db| {
        let id = arrive(db, LeadEvent::Add, 1, 0);
        events::finish(db, &[id], "evaluated", None, t(1)).unwrap_err();
        events::release(db, &[id]).unwrap();
        assert_eq!(events::counts(db).unwrap().pending, 1);
        events::take_pending(db, 1, t(1)).unwrap();
        events::finish(db, &[id], "failed", Some("the portal's words"), t(2)).unwrap();
        events::finish(db, &[id], "evaluated", None, t(3)).unwrap_err();
        events::release(db, &[id]).unwrap();
        assert_eq!(events::counts(db).unwrap().pending, 0, "what was processed stays so");
        let history = events::of_lead(db, lead(1), 10).unwrap();
        assert_eq!(history[0].error.as_deref(), Some("the portal's words"));
    });
}

#[test]
fn closing_gaps_leaves_those_that_came_after_the_sweep_began() {
    on_db(|db| {
        let first = events::record_gap(db, "the service was down", t(0)).unwrap();
        let known = events::open_gaps(db).unwrap();
        assert_eq!(known.last().map(|gap| gap.id), Some(first));
        let second = events::record_gap(db, "the service was down", t(1)).unwrap();
        assert_eq!(events::close_gaps(db, first).unwrap(), 1);
        let open = events::open_gaps(db).unwrap();
        assert_eq!(open.iter().map(|gap| (gap.id, gap.at)).collect::<Vec<_>>(), [(second, t(1))]);
        events::close_gaps(db, second).unwrap();
        assert!(events::record_gap(db, "again", t(2)).unwrap() > second, "ids are never used twice");
    });
}
