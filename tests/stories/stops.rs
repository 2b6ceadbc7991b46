//! Pause, a portal that refuses everything, and the portal's limits.

use std::time::Duration;

use b24_janitor::core::outcome::Outcome;
use b24_janitor::sandbox::{BatchCharge, Fault, FaultKind, SandboxOptions};
use b24_janitor::store::control;
use b24_janitor::store::runs::RunState;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn pause_stops_everything_across_restarts_until_resume() {
    let mut world = World::new(200, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.pause(true).await;
    world.run("junk").await;
    let requests = world.sandbox.stats().requests;
    world.advance(30 * MINUTE).await;
    assert_eq!(world.sandbox.stats().requests, requests);
    let counts = world.counts().await;
    assert_eq!((counts.waiting, counts.running), (expected.len() as u64, 0));
    world.restart().await;
    world.advance(30 * MINUTE).await;
    world.assert_only_deleted(&[]);
    world.pause(false).await;
    world.settled(10 * MINUTE).await;
    world.assert_only_deleted(&expected);
}

#[tokio::test(start_paused = true)]
async fn pause_between_the_claim_and_the_deletion_sends_nothing() {
    let world = World::new(200, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    let (store, now) = (world.service().store.clone(), world.now());
    world.tap(false, Seen::reads, 0, move || {
        Box::pin(async move {
            store.write(move |db| control::set_paused(db, true, now)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        })
    });
    world.run("junk").await;
    world.advance(MINUTE).await;
    assert!(world.taps_are_used());
    // What another lane had sent before the pause is finished; nothing comes after it.
    let sent = world.sandbox.stats().deletions.len();
    world.advance(HOUR).await;
    assert_eq!(world.sandbox.stats().deletions.len(), sent);
    let counts = world.counts().await;
    assert_eq!((counts.running, counts.waiting), (0, (expected.len() - sent) as u64));
    world.pause(false).await;
    world.settled(10 * MINUTE).await;
    world.assert_only_deleted(&expected);
}

#[tokio::test(start_paused = true)]
async fn pause_while_a_refused_lead_waits_to_be_tried_alone_sends_nothing() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.lead("JUNK");
    world.sandbox.veto(lead, "Not yet");
    let (store, now) = (world.service().store.clone(), world.now());
    world.tap(
        false,
        |seen| seen.deletes(),
        0,
        move || {
            Box::pin(async move {
                store.write(move |db| control::set_paused(db, true, now)).await.unwrap();
            })
        },
    );
    world.run("junk").await;
    world.advance(MINUTE).await;
    assert!(world.taps_are_used());
    world.sandbox.permit(lead);
    world.advance(HOUR).await;
    world.assert_only_deleted(&[]);
    assert_eq!(world.job(lead).await.outcome, None);
    world.pause(false).await;
    world.settled(10 * MINUTE).await;
    world.assert_only_deleted(&[lead]);
}

/// A portal that refuses every call with this error, from the first batch of deletions on.
async fn refusing(code: &str, status: u16) -> (World, Vec<u32>) {
    let world = World::new(300, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.run("junk").await;
    let kind = FaultKind::Error { code: code.to_owned(), text: "no".to_owned(), status };
    world.sandbox.set_fault(Fault::new(kind));
    let before = world.sandbox.stats().requests;
    world.advance(50 * SECOND).await;
    let refused = world.sandbox.stats().requests - before;
    assert!((1..=2).contains(&refused), "{code}: {refused} refused calls before the stop");
    assert!(world.stopped().await);
    let counts = world.counts().await;
    assert_eq!((counts.failed, counts.running), (0, 0), "jobs wait, they don't fail");
    (world, expected)
}

#[tokio::test(start_paused = true)]
async fn a_revoked_webhook_stops_the_worker_and_a_probe_that_succeeds_resumes_it() {
    for (code, status) in [("INVALID_CREDENTIALS", 401), ("insufficient_scope", 403)] {
        let (world, expected) = refusing(code, status).await;
        let before = world.sandbox.stats().requests;
        world.advance(6 * HOUR).await;
        let probes = world.sandbox.stats().requests - before;
        assert!((6..=30).contains(&probes), "{probes} probes in six hours");
        world.sandbox.clear_faults();
        world.advance(16 * MINUTE).await;
        assert!(!world.stopped().await);
        world.settled(HOUR).await;
        world.assert_only_deleted(&expected);
        assert_eq!(world.counts().await.deleted, expected.len() as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn an_overload_block_is_not_even_asked_about_until_a_person_restarts() {
    let (mut world, expected) = refusing("OVERLOAD_LIMIT", 403).await;
    let before = world.sandbox.stats().requests;
    world.advance(6 * HOUR).await;
    assert_eq!(world.runs().await.len(), 1, "no run asks either");
    assert_eq!(world.sandbox.stats().requests, before);
    world.sandbox.clear_faults();
    world.advance(HOUR).await;
    assert_eq!(world.sandbox.stats().requests, before);
    world.restart().await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&expected);
}

#[tokio::test(start_paused = true)]
async fn an_overload_block_of_the_method_alone_is_a_persons_too() {
    let mut world = World::new(300, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.sandbox.set_fault(Fault::error("crm.lead.delete", "OVERLOAD_LIMIT", "no", 403));
    world.run("junk").await;
    world.advance(MINUTE).await;
    assert!(world.stopped().await);
    world.sandbox.clear_faults();
    let before = world.sandbox.stats().requests;
    world.advance(HOUR).await;
    assert_eq!(world.sandbox.stats().requests, before);
    world.restart().await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&expected);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_due_while_the_portal_refused_everything_is_made_up() {
    let world = World::new(300, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    let kind =
        FaultKind::Error { code: "INVALID_CREDENTIALS".to_owned(), text: "no".to_owned(), status: 401 };
    world.sandbox.set_fault(Fault::new(kind));
    world.run("junk").await;
    assert!(world.stopped().await);
    world.until("2026-06-01T05:00:00Z").await;
    world.sandbox.clear_faults();
    world.advance(20 * MINUTE).await;
    world.settled(HOUR).await;
    let states: Vec<RunState> = world.runs().await.iter().map(|run| run.state).collect();
    assert_eq!(states, [RunState::Failed, RunState::Enqueued]);
    world.assert_only_deleted(&expected);
}

#[tokio::test(start_paused = true)]
async fn three_thousand_deletions_meet_no_refusal_by_the_documented_limits() {
    for (charge, delete_seconds, leads, at_most) in [
        (BatchCharge::Method, 0.05, 10_000, 20 * MINUTE),
        (BatchCharge::Method, 0.7, 4000, 40 * MINUTE),
        (BatchCharge::MethodBatched, 0.7, 4000, 40 * MINUTE),
        (BatchCharge::Batch, 0.05, 4000, 10 * MINUTE),
        (BatchCharge::Batch, 0.7, 4000, 40 * MINUTE),
    ] {
        let options = SandboxOptions {
            leads,
            batch_charge: charge,
            delete_seconds,
            sleep_scale: 1.0,
            ..SandboxOptions::default()
        };
        let world = World::with(options, &nightly()).await;
        let expected = world.sandbox.ids_where(junk);
        assert!(expected.len() * 4 > leads);
        world.run("junk").await;
        world.settled(at_most).await;
        world.assert_only_deleted(&expected);
        world.assert_within_limits();
        let stats = world.sandbox.stats();
        assert!(stats.cut == 0 && stats.longest_request_seconds < 40.0, "{}", stats.longest_request_seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn others_behind_the_same_address_slow_us_and_nothing_goes_wrong() {
    let world = World::new(2000, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.sandbox.configure(|options| {
        options.requests_per_second = 0.5;
        options.burst = 5.0;
    });
    world.run("junk").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&expected);
    assert_eq!(world.counts().await.of(Outcome::Deleted), expected.len() as u64);
    let stats = world.sandbox.stats();
    assert!(stats.refused_503 > 0 && stats.refused_503 * 2 < stats.requests, "{}", stats.refused_503);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_operating_budget_than_we_know_of_is_learnt_from_the_refusal() {
    let options = SandboxOptions { leads: 1500, method_seconds: 5.0, ..SandboxOptions::default() };
    let world = World::with(options, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    world.run("junk").await;
    world.settled(6 * HOUR).await;
    world.assert_only_deleted(&expected);
    assert_eq!(world.counts().await.of(Outcome::Deleted), expected.len() as u64);
}
