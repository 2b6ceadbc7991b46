use b24_janitor::core::rule::Mode;
use b24_janitor::store::runs::{self, Approval, JoinHeld, NewRun, RunEnd, RunFilter, RunState, Trigger};
use b24_janitor::store::{JobId, RunId};
use b24_janitor::store::{jobs, prune};
use rusqlite::Connection;

use crate::support::{DAY, enqueue, job, lead, leads, on_db, start, t};

fn end(state: RunState, matched: u64) -> RunEnd {
    RunEnd {
        state,
        matched,
        protected: 0,
        undecidable: 0,
        already_waiting: 0,
        would_enqueue: matched,
        enqueued: if state == RunState::Enqueued { matched } else { 0 },
        left_out: 0,
        error: (state == RunState::Failed).then(|| "filter_not_honoured".to_owned()),
        held_reason: (state == RunState::Held).then(|| "max_matches".to_owned()),
    }
}

/// A run of `rule` that is held with leads 1 to 5.
fn held(db: &Connection, rule: &str) -> RunId {
    let run = start(db, rule);
    runs::store_matches(db, run, &leads(1..6)).unwrap();
    runs::finish(db, run, &end(RunState::Held, 5), t(10)).unwrap();
    run
}

fn approve(db: &Connection, run: RunId, count: u64, now: i64) -> Approval {
    runs::approve(db, run, count, Some("text of old-junk"), Mode::Delete, 3600, t(now)).unwrap()
}

#[test]
fn approval_enqueues_exactly_the_stored_leads_with_their_grace_from_now_on() {
    on_db(|db| {
        let run = held(db, "old-junk");
        assert_eq!(jobs::counts(db).unwrap().total(), 0, "a held run enqueues nothing");
        enqueue(db, "other", &[lead(3)], 0);
        assert_eq!(approve(db, run, 5, 100), Approval::Approved { enqueued: 4, already_waiting: 1 });
        let live = jobs::live_jobs(db, &leads(1..10)).unwrap();
        assert_eq!(live.len(), 5);
        assert_eq!((live[&lead(1)].run_id, live[&lead(1)].due_at), (run, t(100 + 3600)));
        let told = runs::get(db, run).unwrap().unwrap();
        assert_eq!((told.state, told.enqueued, told.already_waiting), (RunState::Enqueued, 4, 1));
        assert_eq!((told.approved_at, told.finished_at), (Some(t(100)), Some(t(100))));
        assert_eq!(approve(db, run, 5, 101), Approval::NotHeld(RunState::Enqueued));
        assert_eq!(runs::matches(db, run).unwrap(), [], "they are jobs now");
    });
}

#[test]
fn approval_with_another_count_or_of_a_changed_rule_does_nothing() {
    on_db(|db| {
        let run = held(db, "old-junk");
        assert_eq!(approve(db, run, 4, 20), Approval::WrongCount { actual: 5 });
        let with = |text: Option<&str>, mode| runs::approve(db, run, 5, text, mode, 0, t(20)).unwrap();
        assert_eq!(with(Some("another text"), Mode::Delete), Approval::RuleChanged);
        assert_eq!(with(None, Mode::Delete), Approval::RuleChanged);
        assert_eq!(with(Some("text of old-junk"), Mode::Plan), Approval::RuleChanged);
        assert_eq!(approve(db, RunId(99), 5, 20), Approval::NoSuchRun);
        assert_eq!(jobs::counts(db).unwrap().total(), 0);
        assert_eq!(runs::get(db, run).unwrap().unwrap().state, RunState::Held);
    });
}

#[test]
fn a_held_run_can_be_approved_for_24_hours() {
    on_db(|db| {
        let run = held(db, "old-junk");
        assert_eq!(runs::expire_held(db, t(10 + DAY - 1)).unwrap(), 0);
        assert_eq!(approve(db, run, 5, 10 + DAY), Approval::Expired, "even before the clean-up ran");
        assert_eq!(runs::expire_held(db, t(10 + DAY)).unwrap(), 1);
        let told = runs::get(db, run).unwrap().unwrap();
        assert_eq!((told.state, told.error.as_deref()), (RunState::Failed, Some("approval_expired")));
        assert_eq!(runs::matches(db, run).unwrap(), []);
        assert_eq!(approve(db, run, 5, 11 + DAY), Approval::Expired);
    });
}

#[test]
fn later_events_join_a_held_run_and_its_numbers_still_add_up() {
    on_db(|db| {
        let run = held(db, "old-junk");
        let more = JoinHeld { protected: 2, already_waiting: 1, ..JoinHeld::default() };
        assert_eq!(
            runs::add_to_held(db, run, &leads(5..8), &more).unwrap(),
            Some(2),
            "lead 5 is in it already"
        );
        let told = runs::held_run(db, "old-junk").unwrap().unwrap();
        assert_eq!((told.matched, told.protected, told.already_waiting, told.would_enqueue), (10, 2, 1, 7));
        assert_eq!(approve(db, run, 7, 20), Approval::Approved { enqueued: 7, already_waiting: 0 });
        assert_eq!(runs::add_to_held(db, run, &leads(8..9), &more).unwrap(), None);
    });
}

#[test]
fn held_runs_are_found_however_many_runs_came_after_them() {
    on_db(|db| {
        let first = held(db, "old-junk");
        let second = held(db, "other");
        for _ in 0..1500 {
            let run = start(db, "third");
            runs::finish(db, run, &RunEnd::default(), t(2)).unwrap();
        }
        let found: Vec<RunId> = runs::all_held(db).unwrap().into_iter().map(|run| run.id).collect();
        assert_eq!(found, [first, second]);
    });
}

#[test]
fn a_rule_has_one_held_run_and_the_later_one_replaces_it() {
    on_db(|db| {
        let first = held(db, "old-junk");
        let other = held(db, "other");
        let second = held(db, "old-junk");
        assert_eq!(runs::get(db, first).unwrap().unwrap().state, RunState::Failed);
        assert_eq!(runs::held_run(db, "old-junk").unwrap().map(|run| run.id), Some(second));
        assert_eq!(runs::held_run(db, "other").unwrap().map(|run| run.id), Some(other));
        assert!(runs::supersede(db, second, t(20)).unwrap());
        assert!(!runs::supersede(db, second, t(21)).unwrap());
        assert_eq!(runs::held_run(db, "old-junk").unwrap(), None);
    });
}

#[test]
fn a_run_ends_once_and_only_with_numbers_that_add_up() {
    on_db(|db| {
        let run = start(db, "old-junk");
        let wrong = RunEnd { protected: 1, ..end(RunState::Enqueued, 5) };
        runs::finish(db, run, &wrong, t(1)).unwrap_err();
        let silent = RunEnd { error: None, ..end(RunState::Failed, 0) };
        runs::finish(db, run, &silent, t(1)).unwrap_err();
        runs::finish(db, run, &end(RunState::Failed, 0), t(1)).unwrap();
        runs::finish(db, run, &end(RunState::Enqueued, 0), t(2)).unwrap_err();
        assert_eq!(runs::get(db, run).unwrap().unwrap().finished_at, Some(t(1)));
    });
}

#[test]
fn the_median_counts_enqueued_scheduled_and_manual_runs_of_the_same_text() {
    on_db(|db| {
        let run = |text: &str, trigger, state, matched| {
            let new = NewRun {
                rule: "old-junk".to_owned(),
                rule_text: text.to_owned(),
                trigger,
                mode: Mode::Delete,
            };
            let id = runs::start(db, &new, t(0)).unwrap();
            runs::finish(db, id, &end(state, matched), t(1)).unwrap();
        };
        run("old", Trigger::Schedule, RunState::Enqueued, 1);
        run("now", Trigger::Schedule, RunState::Enqueued, 10);
        run("now", Trigger::Manual, RunState::Enqueued, 20);
        run("now", Trigger::Event, RunState::Enqueued, 30);
        run("now", Trigger::Schedule, RunState::Planned, 40);
        run("now", Trigger::Schedule, RunState::Failed, 50);
        run("now", Trigger::Event, RunState::Held, 60);
        assert_eq!(runs::enqueued_counts(db, "old-junk", "now", 10).unwrap(), [20, 10]);
        assert_eq!(runs::enqueued_counts(db, "old-junk", "now", 1).unwrap(), [20]);
        assert_eq!(runs::event_matches_since(db, "old-junk", t(0)).unwrap(), 90);
        assert_eq!(runs::event_matches_since(db, "old-junk", t(1)).unwrap(), 0);
    });
}

#[test]
fn runs_are_listed_newest_first_and_told_in_the_contracts_keys() {
    on_db(|db| {
        for rule in ["a", "b", "a"] {
            start(db, rule);
        }
        let ids = |filter: RunFilter| -> Vec<i64> {
            runs::list(db, &filter).unwrap().into_iter().map(|run| run.id.0).collect()
        };
        let page = RunFilter { limit: 2, ..RunFilter::default() };
        assert_eq!(ids(page.clone()), [3, 2]);
        assert_eq!(ids(RunFilter { before: Some(RunId(2)), ..page.clone() }), [1]);
        assert_eq!(ids(RunFilter { after: Some(RunId(2)), ..page.clone() }), [3]);
        assert_eq!(ids(RunFilter { rule: Some("a".to_owned()), ..page }), [3, 1]);
        assert_eq!(
            serde_json::to_string(&runs::get(db, RunId(1)).unwrap()).unwrap(),
            r#"{"id":1,"rule":"a","trigger":"schedule","mode":"delete","state":"running","matched":0,"protected":0,"undecidable":0,"enqueued":0,"error":null,"started_at":"2026-11-25T03:15:00Z","finished_at":null,"already_waiting":0,"would_enqueue":0,"approved_by":null}"#
        );
    });
}

#[test]
fn a_rule_counts_as_loaded_since_its_text_last_changed() {
    on_db(|db| {
        let rules = |text: &str| vec![("old-junk".to_owned(), text.to_owned())];
        runs::set_last_fire(db, "old-junk", t(0)).unwrap_err();
        runs::note_rules(db, &rules("one"), t(0)).unwrap();
        runs::set_last_fire(db, "old-junk", t(5)).unwrap();
        runs::note_rules(db, &rules("one"), t(10)).unwrap();
        let state = runs::rule_state(db, "old-junk").unwrap().unwrap();
        assert_eq!((state.first_loaded_at, state.last_fire_at), (t(0), Some(t(5))));
        runs::note_rules(db, &rules("two"), t(20)).unwrap();
        let state = runs::rule_state(db, "old-junk").unwrap().unwrap();
        assert_eq!((state.text.as_str(), state.first_loaded_at), ("two", t(20)));
        assert_eq!(runs::all_rule_states(db).unwrap(), [state]);
        assert_eq!(runs::rule_state(db, "new").unwrap(), None);
    });
}

#[test]
fn a_job_keeps_its_run() {
    on_db(|db| {
        enqueue(db, "old-junk", &[lead(1)], 0);
        assert_eq!(job(db, JobId(1)).run_id, RunId(1));
        db.execute("DELETE FROM runs WHERE id = 1", []).unwrap_err();
    });
}

#[test]
fn who_approved_a_run_is_kept_as_long_as_the_run() {
    on_db(|db| {
        let (kept, gone) = (held(db, "a"), held(db, "b"));
        for (run, who) in [(kept, "the command line, user ada"), (gone, "the admin page")] {
            runs::set_approver(db, run, who, t(20)).unwrap();
        }
        let by = |run| runs::get(db, run).unwrap().unwrap().approved_by;
        assert_eq!(by(kept).unwrap(), "the command line, user ada");
        runs::supersede(db, gone, t(30)).unwrap();
        prune::prune(db, t(31), 10).unwrap();
        assert_eq!(by(kept).unwrap(), "the command line, user ada");
        let left: u32 = db
            .query_row("SELECT count(*) FROM control WHERE key LIKE 'approved_by:%'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 1);
    });
}
