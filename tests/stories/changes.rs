//! Rules that change, and runs that were missed.

use std::time::Duration;

use b24_janitor::core::outcome::Outcome;
use b24_janitor::store::runs::{RunState, Trigger};

use crate::world::*;

fn graceful(grace: &str) -> String {
    rules(&format!(
        "rules:\n  - {{ name: junk, schedule: \"0 3 * * *\", match: {{ stageId: JUNK }}, grace_period: {grace} }}\n"
    ))
}

#[tokio::test(start_paused = true)]
async fn the_waiting_jobs_of_a_rule_that_is_gone_or_only_plans_are_spared_and_say_why() {
    let other = graceful("2h").replace("name: junk", "name: other").replace("JUNK", "CONVERTED");
    let plan = graceful("2h").replace("mode: delete", "mode: plan");
    for (text, word) in [(other, "no longer in the rules"), (plan, "mode plan")] {
        for restart in [false, true] {
            let mut world = World::new(200, &graceful("2h")).await;
            let count = world.run("junk").await.enqueued;
            if restart {
                world.edit(&text);
                world.restart().await;
            } else {
                world.reload(&text).await;
            }
            let counts = world.counts().await;
            assert_eq!((counts.waiting, counts.spared), (0, count));
            for job in world.jobs().await {
                assert!(job.reason.as_deref().unwrap().contains(word), "{job:?}");
            }
            // Back again, it takes a new run.
            world.reload(&graceful("2h")).await;
            world.advance(150 * MINUTE).await;
            world.assert_only_deleted(&[]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_selects_less_spares_the_rest_at_the_last_look() {
    let mut world = World::new(300, &graceful("1h")).await;
    world.run("junk").await;
    world.reload(&graceful("1h").replace("stageId: JUNK", "stageId: JUNK, opportunity: { gt: 0 }")).await;
    let rich = world.sandbox.ids_where(|lead| junk(lead) && lead.opportunity > 0.0);
    world.advance(90 * MINUTE).await;
    world.assert_only_deleted(&rich);
    let counts = world.counts().await;
    assert_eq!(counts.waiting + counts.running, 0);
    assert!(counts.spared > 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_protection_saves_leads_that_wait() {
    let mut world = World::new(0, &graceful("1h")).await;
    let (one, two) = (world.lead("JUNK"), world.lead("JUNK"));
    world.run("junk").await;
    let with = graceful("1h")
        .replace("rules:\n", &format!("protect:\n  - {{ name: pinned, ids: [{one}] }}\nrules:\n"));
    world.reload(&with).await;
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&[two]);
    assert_eq!(world.outcome(one).await, Some(Outcome::Spared));
}

#[tokio::test(start_paused = true)]
async fn a_longer_grace_period_holds_for_jobs_that_wait_and_a_shorter_one_does_not() {
    let mut world = World::new(0, &graceful("2h").replace("0 3 * * *", "0 3 1 1 *")).await;
    let lead = world.lead("JUNK");
    world.run("junk").await;
    world.advance(HOUR).await;
    world.reload(&graceful("5h").replace("0 3 * * *", "0 3 1 1 *")).await;
    world.advance(4 * HOUR - MINUTE).await;
    world.assert_only_deleted(&[]);
    world.reload(&graceful("1h").replace("0 3 * * *", "0 3 1 1 *")).await;
    world.advance(30 * SECOND).await;
    world.assert_only_deleted(&[]);
    world.advance(MINUTE).await;
    world.assert_only_deleted(&[lead]);
}

/// Runs by schedule so far, not counting interrupted ones.
async fn scheduled(world: &World) -> usize {
    let runs = world.runs().await;
    runs.iter().filter(|run| run.trigger == Trigger::Schedule && run.state == RunState::Enqueued).count()
}

#[tokio::test(start_paused = true)]
async fn a_missed_run_is_made_up_once_within_a_day_and_not_after_it() {
    let mut world = World::new(0, &nightly()).await;
    world.until("2026-06-01T02:00:00Z").await;
    world.stop().await;
    world.until("2026-06-01T08:00:00Z").await;
    world.start().await;
    world.advance(2 * MINUTE).await;
    assert_eq!(scheduled(&world).await, 1, "made up");
    world.restart().await;
    world.advance(2 * MINUTE).await;
    assert_eq!(scheduled(&world).await, 1, "once");

    world.stop().await;
    world.until("2026-06-05T02:00:00Z").await;
    world.start().await;
    world.advance(2 * MINUTE).await;
    assert_eq!(scheduled(&world).await, 2, "of several nights one: the last, 23 hours ago");
    let daily = nightly().replace("0 3 * * *", "0 3 * * 5");
    world.edit(&daily);
    world.restart().await;
    world.stop().await;
    world.until("2026-06-06T04:00:00Z").await;
    world.start().await;
    world.advance(2 * MINUTE).await;
    assert_eq!(scheduled(&world).await, 2, "what was missed 25 hours ago stays missed");
}

#[tokio::test(start_paused = true)]
async fn a_new_or_edited_rule_makes_nothing_up() {
    let mut world = World::new(0, &nightly()).await;
    world.until("2026-06-01T02:00:00Z").await;
    world.stop().await;
    world.until("2026-06-01T08:00:00Z").await;
    world.edit(&nightly().replace("stageId: JUNK", "stageId: [JUNK, NEW]"));
    world.start().await;
    world.advance(2 * MINUTE).await;
    assert_eq!(scheduled(&world).await, 0, "edited");
    world.edit(&nightly().replace("name: junk", "name: other"));
    world.restart().await;
    world.advance(2 * MINUTE).await;
    assert_eq!(scheduled(&world).await, 0, "new");
}

#[tokio::test(start_paused = true)]
async fn every_time_of_the_schedule_fires_once() {
    let text = nightly().replace("0 3 * * *", "*/15 * * * *");
    let mut world = World::new(0, &text).await;
    for round in 0..8u32 {
        world.advance(Duration::from_secs(607 * 2)).await;
        if round % 3 == 2 {
            world.restart().await;
        }
        if round % 3 == 1 {
            world.reload(&text).await;
        }
    }
    let elapsed = 607 * 2 * 8 / 900;
    let runs = world.runs().await;
    assert_eq!(runs.len(), elapsed, "{:?}", runs.iter().map(|run| run.started_at).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_rule_does_not_overlap_itself() {
    use b24_janitor::sandbox::{Fault, FaultKind};
    let text = nightly().replace("0 3 * * *", "*/5 * * * *");
    let world = World::new(300, &text).await;
    world.pause(true).await;
    world.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 70.0 }).on("crm.item.list"));
    for _ in 0..60 {
        world.advance(MINUTE).await;
        let running = world.runs().await.iter().filter(|run| run.state == RunState::Running).count();
        assert!(running <= 1);
    }
    assert!(world.sandbox.stats().most_in_flight <= 1);
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_run_found_under_rules_that_are_gone_is_not_deleted() {
    use b24_janitor::sandbox::{Fault, FaultKind};
    let mut world = World::new(300, &nightly()).await;
    world.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 30.0 }).on("crm.item.list").nth(1, 1));
    world.until("2026-06-01T03:00:05Z").await;
    assert_eq!(world.last_run().await.state, RunState::Running);
    world.reload(&nightly().replace("name: junk", "name: other").replace("JUNK", "CONVERTED")).await;
    world.settled(HOUR).await;
    world.advance(2 * MINUTE).await;
    assert_eq!(world.last_run().await.state, RunState::Enqueued);
    world.assert_only_deleted(&[]);
    assert!(world.jobs().await.iter().all(|job| job.outcome == Some(Outcome::Spared)));
}
