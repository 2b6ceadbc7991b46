//! Caps: what is held, what a person may approve, and how many a day.

use b24_janitor::core::outcome::Outcome;
use b24_janitor::engine::evaluator::Evaluated;
use b24_janitor::sandbox::{Fault, FaultKind};
use b24_janitor::store::jobs;
use b24_janitor::store::runs::{Approval, RunState, Trigger};

use crate::world::*;

fn capped(limits: &str, more: &str) -> String {
    format!(
        "version: 1\ntimezone: Etc/UTC\ndefaults: {{ mode: delete, limits: {{ max_matches: 100000, max_percent: 100, \
         deletes_per_day: 100000 }} }}\nrules:\n  - {{ name: junk, schedule: \"0 3 * * *\", match: {{ stageId: JUNK }}, \
         limits: {limits}{more} }}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_run_over_max_matches_waits_for_a_person_who_names_the_count() {
    let mut world = World::new(500, &capped("{ max_matches: 50 }", ", grace_period: 1h")).await;
    let selected = world.sandbox.ids_where(junk);
    let count = selected.len() as u64;
    world.until("2026-06-01T03:05:00Z").await;
    let held = world.last_run().await;
    assert_eq!((held.state, held.would_enqueue), (RunState::Held, count));
    assert!(world.jobs().await.is_empty());

    assert_eq!(world.approve(&held, count - 1).await, Approval::WrongCount { actual: count });
    assert_eq!(world.approve(&held, count + 1).await, Approval::WrongCount { actual: count });
    assert!(world.jobs().await.is_empty());

    let late = world.lead("JUNK");
    let revived = selected[0];
    let approved = world.approve(&held, count).await;
    assert_eq!(approved, Approval::Approved { enqueued: count, already_waiting: 0 });
    world.advance(HOUR / 2).await;
    world.sandbox.colleague_update(revived, |lead| lead.stage = "IN_PROCESS".into());
    world.assert_only_deleted(&[]);
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&selected[1..]);
    assert!(world.exists(late), "exactly the leads that were approved");
    assert_eq!(world.outcome(revived).await, Some(Outcome::Spared));
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_over_max_percent_is_held_and_one_of_few_leads_is_not() {
    let world = World::new(400, &capped("{ max_percent: 20 }", "")).await;
    let run = world.run("junk").await;
    assert_eq!(run.state, RunState::Held);
    assert!(run.held_reason.unwrap().contains("max_percent"));
    let small = World::new(60, &capped("{ max_percent: 10 }", "")).await;
    let expected = small.sandbox.ids_where(junk);
    assert!(expected.len() > 6 && expected.len() < 50);
    assert_eq!(small.run("junk").await.state, RunState::Enqueued);
    small.settled(HOUR).await;
    small.assert_only_deleted(&expected);
}

#[tokio::test(start_paused = true)]
async fn scheduled_runs_are_skipped_while_one_is_held_and_a_manual_one_replaces_it() {
    let world = World::new(500, &capped("{ max_matches: 50 }", "")).await;
    world.run("junk").await;
    world.until("2026-06-01T03:05:00Z").await;
    assert_eq!(world.runs().await.len(), 1, "the run of the night was skipped");
    assert_eq!(world.runs().await[0].state, RunState::Held);
    world.run("junk").await;
    let runs = world.runs().await;
    let states: Vec<RunState> = runs.iter().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Failed, RunState::Held]);
    assert_eq!(world.approve(&runs[0], runs[0].would_enqueue).await, Approval::NotHeld(RunState::Failed));
}

#[tokio::test(start_paused = true)]
async fn an_approval_expires_after_a_day() {
    let world = World::new(500, &capped("{ max_matches: 50 }", "").replace("0 3 * * *", "0 3 1 1 *")).await;
    let held = world.run("junk").await;
    world.advance(DAY - MINUTE).await;
    assert_eq!(world.last_run().await.state, RunState::Held);
    world.advance(3 * MINUTE).await;
    assert_eq!(world.approve(&held, held.would_enqueue).await, Approval::Expired);
    let run = world.last_run().await;
    assert_eq!((run.state, run.error.as_deref()), (RunState::Failed, Some("approval_expired")));
    assert!(world.jobs().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_held_under_another_text_of_the_rule_can_not_be_approved() {
    let text = capped("{ max_matches: 50 }", "");
    let mut world = World::new(500, &text).await;
    let held = world.run("junk").await;
    world.reload(&text.replace("JUNK", "[JUNK, NEW]")).await;
    assert_eq!(world.approve(&held, held.would_enqueue).await, Approval::RuleChanged);
    world.reload(&text.replace("mode: delete", "mode: plan")).await;
    assert_eq!(world.approve(&held, held.would_enqueue).await, Approval::RuleChanged);
    world.reload(&text.replace("name: junk", "name: other")).await;
    assert_eq!(world.approve(&held, held.would_enqueue).await, Approval::RuleChanged);
    world.reload(&text.replace("max_matches: 50", "max_matches: 60")).await;
    let count = held.would_enqueue;
    assert!(
        matches!(world.approve(&held, count).await, Approval::Approved { .. }),
        "limits are no part of it"
    );
}

#[tokio::test(start_paused = true)]
async fn events_past_a_cap_are_held_and_later_ones_join() {
    let text = capped("{ max_matches: 20 }", ", events: [ONCRMLEADADD]");
    let mut world = World::new(100, &text.replace("0 3 * * *", "0 3 1 1 *")).await;
    let mut arrived = Vec::new();
    for _ in 0..15 {
        let lead = world.fresh("JUNK");
        arrived.push(world.arrives(lead));
        world.advance(10 * SECOND).await;
    }
    world.settled(HOUR).await;
    world.assert_only_deleted(&arrived);
    let mut more = Vec::new();
    for _ in 0..15 {
        let lead = world.fresh("JUNK");
        more.push(world.arrives(lead));
        world.advance(10 * SECOND).await;
    }
    let held = world.last_run().await;
    assert_eq!((held.state, held.trigger), (RunState::Held, Trigger::Event));
    assert_eq!(held.would_enqueue, 10);
    let done: Vec<u32> = arrived.iter().chain(&more[..5]).copied().collect();
    world.assert_only_deleted(&done);
    assert_eq!(world.approve(&held, 10).await, Approval::Approved { enqueued: 10, already_waiting: 0 });
    world.settled(HOUR).await;
    let all: Vec<u32> = arrived.into_iter().chain(more).collect();
    world.assert_only_deleted(&all);
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_deletes_per_day_and_the_rest_a_day_later() {
    let text = capped("{ deletes_per_day: 40 }", "").replace("0 3 * * *", "0 3 1 1 *");
    let mut world = World::new(350, &text).await;
    let selected = world.sandbox.ids_where(junk);
    assert!(selected.len() > 80 && selected.len() < 120);
    world.run("junk").await;
    world.advance(HOUR).await;
    assert_eq!(world.counts().await.deleted, 40);
    let requests = world.sandbox.stats().requests;
    world.advance(HOUR).await;
    world.stop().await;
    world.advance(21 * HOUR).await;
    world.start().await;
    world.advance(50 * MINUTE).await;
    assert_eq!(world.counts().await.deleted, 40);
    assert_eq!(world.sandbox.stats().requests, requests, "what has to wait asks nothing");
    world.advance(20 * MINUTE).await;
    assert_eq!(world.counts().await.deleted, 80);
    world.stop().await;
    world.advance(23 * HOUR).await;
    world.start().await;
    assert_eq!(world.counts().await.deleted, 80);
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&selected);
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_lead_is_protected_from_its_rule_for_thirty_days_and_from_no_other() {
    let text = rules(
        "rules:\n  - { name: one, schedule: \"0 3 1 1 *\", match: { stageId: JUNK }, grace_period: 1h }\n  \
         - { name: two, schedule: \"0 3 1 1 *\", match: { stageId: JUNK }, grace_period: 1h }\n",
    );
    let mut world = World::new(0, &text).await;
    let lead = world.lead("JUNK");
    world.run("one").await;
    let (job, now) = (world.job(lead).await.id, world.now());
    assert_eq!(world.write(move |db| jobs::cancel(db, job, now)).await, jobs::Cancel::Cancelled);
    world.stop().await;
    world.advance(29 * DAY).await;
    world.start().await;
    let run = world.run("one").await;
    assert_eq!((run.protected, run.enqueued), (1, 0));
    world.stop().await;
    world.advance(DAY).await;
    world.start().await;
    assert_eq!(world.run("one").await.enqueued, 1);
    let (job, now) = (world.job(lead).await.id, world.now());
    assert_eq!(world.write(move |db| jobs::cancel(db, job, now)).await, jobs::Cancel::Cancelled);
    assert_eq!(world.run("two").await.enqueued, 1);
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&[lead]);
}

#[tokio::test(start_paused = true)]
async fn a_run_far_over_the_usual_is_held() {
    let text = capped("{ max_matches: 5000 }", "").replace("0 3 * * *", "0 3 1 1 *");
    let mut world = World::new(0, &text).await;
    for _ in 0..5 {
        for _ in 0..5 {
            world.lead("JUNK");
        }
        assert_eq!(world.run("junk").await.state, RunState::Enqueued);
        world.settled(HOUR).await;
    }
    for _ in 0..61 {
        world.lead("JUNK");
    }
    match world.try_run("junk").await.unwrap() {
        Evaluated::Run(run) => assert_eq!(run.state, RunState::Held),
        Evaluated::SkippedHeld(run) => panic!("{run}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_manual_run_that_fails_leaves_the_held_one_to_be_approved() {
    let world = World::new(500, &capped("{ max_matches: 50 }", "")).await;
    let selected = world.sandbox.ids_where(junk);
    let held = world.run("junk").await;
    assert_eq!(held.state, RunState::Held);
    world.sandbox.set_fault(Fault::new(FaultKind::FilterIgnored).on("crm.item.list"));
    assert_eq!(world.run("junk").await.state, RunState::Failed);
    world.sandbox.clear_faults();
    let count = held.would_enqueue;
    let approved = world.approve(&held, count).await;
    assert_eq!(approved, Approval::Approved { enqueued: count, already_waiting: 0 });
    world.settled(HOUR).await;
    world.assert_only_deleted(&selected);
}

fn unsure(match_: &str) -> String {
    capped("{ max_matches: 100000 }", "").replace("{ stageId: JUNK }", match_)
}

#[tokio::test(start_paused = true)]
async fn a_run_that_could_judge_less_than_it_selects_is_held_from_fifty_undecidable_leads() {
    // Only a lead that is finished has a `dateClosed`.
    let blind = "{ stageId: [JUNK, NEW, IN_PROCESS], not: { dateClosed: { lt: 2000-01-01 } } }";
    let world = World::new(500, &unsure(blind)).await;
    let selected = world.sandbox.ids_where(junk).len() as u64;
    let open = world.sandbox.ids_where(|lead| ["NEW", "IN_PROCESS"].contains(&&*lead.stage)).len() as u64;
    assert!(open >= 50 && open > selected, "{open} {selected}");
    let held = world.run("junk").await;
    assert_eq!((held.state, held.undecidable, held.would_enqueue), (RunState::Held, open, selected));
    let why = held.held_reason.unwrap();
    assert!(why.starts_with(&format!("{open} leads can't be judged, more than the {selected}")), "{why}");
    assert!(world.jobs().await.is_empty());
    let (ctx, rules) = (world.engine().context(), world.engine().context().rules());
    let plan = b24_janitor::engine::plan::plan(ctx, &rules, rules.rule("junk").unwrap(), false, |_| {})
        .await
        .unwrap();
    assert_eq!(plan.held.as_deref(), Some(why.as_str()));

    let few = World::new(60, &unsure(blind)).await;
    let run = few.run("junk").await;
    assert!((1..50).contains(&run.undecidable) && run.undecidable > run.would_enqueue);
    assert_eq!(run.state, RunState::Enqueued);

    let said = "{ stageId: [JUNK, NEW, IN_PROCESS], dateClosed: { empty: false }, not: { dateClosed: { lt: 2000-01-01 } } }";
    let run = World::new(500, &unsure(said)).await.run("junk").await;
    assert_eq!((run.state, run.undecidable, run.enqueued), (RunState::Enqueued, 0, selected));
}
