//! The power fails at the worst moments, and the end is the same.

use b24_janitor::core::outcome::Outcome;
use b24_janitor::sandbox::Sandbox;
use b24_janitor::store::runs::RunState;

use crate::world::*;

/// Kills at a request, starts again after `down`, and expects what would have happened anyway.
async fn killed(wanted: fn(&Seen) -> bool, skip: u32, executed: bool, down: std::time::Duration) {
    let mut world = World::new(400, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.run("junk").await;
    world.kill_at(wanted, skip, executed);
    world.advance(10 * MINUTE).await;
    assert!(world.taps_are_used(), "the kill never came");
    world.advance(down).await;
    world.start_again().await;
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&expected);
    for job in world.jobs().await {
        assert_eq!(job.outcome, Some(Outcome::Deleted), "{job:?}");
    }
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn killed_between_the_claim_and_the_deletion() {
    killed(Seen::reads, 0, false, SECOND).await;
    killed(Seen::reads, 0, true, HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_the_sending_was_recorded_before_the_portal_heard_of_it() {
    killed(Seen::deletes, 0, false, SECOND).await;
    killed(Seen::deletes, 2, false, HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn killed_after_the_portal_deleted_before_the_answer_was_settled() {
    killed(Seen::deletes, 0, true, SECOND).await;
    killed(Seen::deletes, 3, true, HOUR).await;
}

#[tokio::test(start_paused = true)]
async fn killed_again_and_again() {
    let mut world = World::new(600, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.run("junk").await;
    for round in 0..12 {
        let wanted: fn(&Seen) -> bool = if round % 3 == 0 { Seen::reads } else { Seen::deletes };
        world.kill_at(wanted, round % 2, round % 4 < 2);
        world.advance(3 * MINUTE).await;
        if !world.taps_are_used() {
            break;
        }
        world.start_again().await;
    }
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&expected);
    world.assert_adds_up().await;
    assert_eq!(world.counts().await.deleted, expected.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_answered_200_survives_a_crash_during_its_evaluation() {
    let text = rules(
        "rules:\n  - { name: spam, schedule: \"0 5 * * *\", events: [ONCRMLEADADD], match: { stageId: JUNK } }\n",
    );
    let mut world = World::new(0, &text).await;
    world.kill_at(Seen::reads, 0, true);
    let lead = world.arrives(world.fresh("JUNK"));
    world.advance(10 * SECOND).await;
    assert!(world.taps_are_used());
    world.start_again().await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_run_that_a_crash_cut_off_is_made_up() {
    let mut world = World::new(300, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.kill_at(|seen| seen.method == "crm.item.list", 0, true);
    world.until("2026-06-01T03:01:00Z").await;
    assert!(world.taps_are_used());
    world.start_again().await;
    world.settled(HOUR).await;
    let states: Vec<RunState> = world.runs().await.iter().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Failed, RunState::Enqueued]);
    world.assert_only_deleted(&expected);
}

#[tokio::test(start_paused = true)]
async fn a_lead_revived_while_the_service_was_down_is_spared() {
    let mut world = World::new(200, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.run("junk").await;
    world.kill_at(Seen::deletes, 0, false);
    world.advance(MINUTE).await;
    let revive = |sandbox: &Sandbox| {
        for lead in sandbox.ids_where(junk) {
            sandbox.colleague_update(lead, |lead| lead.stage = "IN_PROCESS".into());
        }
    };
    revive(&world.sandbox);
    world.advance(MINUTE).await;
    world.start_again().await;
    world.settled(HOUR).await;
    let gone: Vec<u32> = expected.iter().copied().filter(|lead| !world.exists(*lead)).collect();
    world.assert_only_deleted(&gone);
    assert_eq!(world.counts().await.spared, (expected.len() - gone.len()) as u64);
    assert!(gone.len() < expected.len());
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_finishes_what_is_in_flight_and_the_rest_goes_on_after_the_start() {
    let mut world = World::new(400, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.run("junk").await;
    world.advance(std::time::Duration::from_millis(1)).await;
    world.stop().await;
    let so_far = world.sandbox.stats().deletions.len();
    world.advance(HOUR).await;
    assert_eq!(world.sandbox.stats().deletions.len(), so_far);
    world.start().await;
    assert_eq!(world.counts().await.running, 0, "nothing was left in the middle");
    world.settled(HOUR).await;
    world.assert_only_deleted(&expected);
    assert_eq!(world.counts().await.deleted, expected.len() as u64);
}

/// For a while the database refuses statements that settle, as a full disk does in the middle of a turn.
async fn with_a_database_that_refuses(trigger: &'static str) {
    let world = World::new(400, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.write(move |db| db.execute_batch(trigger)).await;
    world.run("junk").await;
    world.advance(30 * SECOND).await;
    world.write(|db| db.execute_batch("DROP TRIGGER refuse")).await;
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&expected);
    for job in world.jobs().await {
        assert_eq!(job.outcome, Some(Outcome::Deleted), "{job:?}");
    }
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn jobs_whose_answers_could_not_be_recorded_are_settled_without_a_restart() {
    with_a_database_that_refuses(
        "CREATE TRIGGER refuse BEFORE UPDATE ON jobs WHEN NEW.state = 'done'
         BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn jobs_whose_sending_could_not_be_recorded_are_not_left_claimed() {
    with_a_database_that_refuses(
        "CREATE TRIGGER refuse BEFORE INSERT ON attempts BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )
    .await;
}
