//! Rules that the portal has not confirmed: they neither run nor delete, and nothing that they missed is lost.

use b24_janitor::engine::EngineError;
use b24_janitor::sandbox::{Fault, FaultKind, SandboxOptions};
use b24_janitor::store::control;
use b24_janitor::store::runs::Trigger;

use crate::world::*;

/// A rule that listens, and one that does not.
fn two() -> String {
    rules(
        "rules:\n  - { name: junk, schedule: \"0 3 * * *\", events: [ONCRMLEADADD], match: { stageId: JUNK } }\n  \
         - { name: seven, schedule: \"0 4 * * *\", match: { stageId: \"7\" } }\n",
    )
}

fn down() -> Fault {
    Fault::new(FaultKind::Refuse)
}

async fn started_without_portal(rules: &str) -> World {
    let mut world = World::unstarted(SandboxOptions { leads: 0, ..SandboxOptions::default() }, rules);
    world.ask();
    world.sandbox.set_fault(down());
    world.start().await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_service_without_its_portal_starts_and_runs_nothing_until_the_rules_are_checked() {
    let mut world = started_without_portal(&two()).await;
    assert_eq!(world.unchecked().await, ["junk", "seven"]);
    let lead = world.lead("JUNK");
    let refused = world.try_run("junk").await;
    assert!(matches!(&refused, Err(EngineError::NotChecked { rule, .. }) if rule == "junk"), "{refused:?}");
    world.until("2026-06-01T03:20:00Z").await;
    assert!(world.runs().await.is_empty(), "neither by hand nor by schedule");

    world.sandbox.clear_faults();
    world.advance(16 * MINUTE).await;
    assert!(world.unchecked().await.is_empty(), "at most 15 minutes lie between two tries");
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
    assert_eq!(world.last_run().await.trigger, Trigger::Schedule, "what was due is made up");
}

#[tokio::test(start_paused = true)]
async fn the_portal_is_asked_after_1_2_4_8_and_then_every_15_minutes() {
    let world = started_without_portal(&two()).await;
    let mut minutes = Vec::new();
    let begun = world.now();
    let mut seen = world.sandbox.stats().requests;
    while minutes.len() < 7 {
        world.advance(SECOND).await;
        let now = world.sandbox.stats().requests;
        if now > seen {
            assert_eq!(now, seen + 1, "after a call that fails the others are not made");
            seen = now;
            minutes.push(world.now().duration_since(begun).as_secs() / 60);
        }
    }
    assert_eq!(minutes, [1, 3, 7, 15, 30, 45, 60]);
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_answers_another_call_is_asked_at_once() {
    let mut world = started_without_portal(&two()).await;
    world.advance(20 * MINUTE).await;
    world.sandbox.clear_faults();
    let lead = world.lead("JUNK");
    assert_eq!(world.unchecked().await, ["junk", "seven"]);
    // As a look at `/readyz` does.
    world.engine().context().portal.probe().await.unwrap();
    world.advance(SECOND).await;
    assert!(world.unchecked().await.is_empty());
    world.run("junk").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
}

#[tokio::test(start_paused = true)]
async fn events_wait_for_the_check() {
    let mut world = started_without_portal(&two()).await;
    let junk = world.fresh("JUNK");
    let lead = world.arrives(junk);
    world.advance(5 * MINUTE).await;
    world.assert_only_deleted(&[]);
    world.sandbox.clear_faults();
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
    assert_eq!(world.last_run().await.trigger, Trigger::Event);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_an_unchecked_rule_are_not_claimed() {
    let mut world = World::new(0, &two()).await;
    world.ask();
    let lead = world.lead("JUNK");
    world.pause(true).await;
    world.run("junk").await;
    let fault = Fault::new(FaultKind::Refuse).on("crm.item.fields");
    world.sandbox.set_fault(fault);
    world.restart().await;
    world.pause(false).await;
    world.advance(5 * MINUTE).await;
    world.assert_only_deleted(&[]);
    assert_eq!(world.counts().await.waiting, 1);
    world.sandbox.clear_faults();
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_answer_was_lost_is_not_repeated_by_an_unchecked_rule() {
    let mut world = World::new(0, &two()).await;
    world.ask();
    let lead = world.lead("JUNK");
    world.kill_at(|seen| seen.deletes(), 0, false);
    world.run("junk").await;
    world.advance(MINUTE).await;
    world.sandbox.set_fault(Fault::new(FaultKind::Refuse).on("crm.item.fields"));
    world.start_again().await;
    world.advance(10 * MINUTE).await;
    world.assert_only_deleted(&[]);
    world.sandbox.clear_faults();
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
}

#[tokio::test(start_paused = true)]
async fn a_reload_without_the_portal_keeps_what_did_not_change_running() {
    let mut world = World::new(0, &two()).await;
    world.ask();
    let fields = Fault::new(FaultKind::Refuse).on("crm.item.fields");
    world.sandbox.set_fault(fields.clone());
    let (junk, seven, new) = (world.lead("JUNK"), world.lead("7"), world.lead("NEW"));
    assert!(world.reload_asking(&two().replace("stageId: \"7\"", "stageId: [\"7\", NEW]")).await);
    assert_eq!(world.unchecked().await, ["seven"]);
    world.run("junk").await;
    assert!(world.try_run("seven").await.is_err());
    world.settled(HOUR).await;
    world.assert_only_deleted(&[junk]);

    // Again, as it was: what was unchecked is not checked by that, but the old text would be.
    assert!(world.reload_asking(&two().replace("stageId: \"7\"", "stageId: [\"7\", NEW]")).await);
    assert_eq!(world.unchecked().await, ["seven"]);
    let protect = two()
        .replace("rules:\n", "protect:\n  - { name: paid, match: { opportunity: { gt: 5 } } }\nrules:\n");
    assert!(world.reload_asking(&protect).await);
    assert_eq!(world.unchecked().await, ["junk", "seven"], "a protection is part of every rule");

    world.sandbox.clear_faults();
    assert!(world.reload_asking(&two().replace("stageId: \"7\"", "stageId: [\"7\", NEW]")).await);
    assert!(world.unchecked().await.is_empty());
    world.run("seven").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[junk, seven, new]);
}

#[tokio::test(start_paused = true)]
async fn a_moved_line_is_no_change() {
    let protect = two()
        .replace("rules:\n", "protect:\n  - { name: paid, match: { opportunity: { gt: 5 } } }\nrules:\n");
    let mut world = World::new(0, &protect).await;
    world.sandbox.set_fault(down());
    assert!(world.reload_asking(&protect.replace("protect:", "# a comment\n\nprotect:")).await);
    assert!(world.unchecked().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_the_portal_refuses_changes_nothing() {
    let mut world = World::new(0, &two()).await;
    assert!(!world.reload_asking(&two().replace("stageId: \"7\"", "stageId: \"8\"")).await);
    assert!(world.unchecked().await.is_empty());
    let lead = world.lead("7");
    world.run("seven").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
}

#[tokio::test(start_paused = true)]
async fn where_the_check_finds_a_mistake_later_only_that_rule_stays_out() {
    let text = two().replace("stageId: JUNK", "stageId: JUNK, ufCrm_1700000003: { ne: Y }");
    let mut world = started_without_portal(&text).await;
    world.sandbox.clear_faults();
    let seven = world.lead("7");
    let junk = world.fresh("JUNK");
    world.arrives(junk);
    world.advance(2 * MINUTE).await;
    assert_eq!(world.unchecked().await, ["junk"]);
    let (said, _) = world.read(control::last_error).await.unwrap();
    assert!(said.contains("error[wrong-type]: junk: `ufCrm_1700000003` holds yes or no"), "{said}");
    world.run("seven").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[seven]);
    assert!(world.try_run("junk").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refused_rule_sweeps_when_it_is_mended_since_events_passed_it_by() {
    let text = two().replace("stageId: JUNK", "stageId: JUNK, ufCrm_9: { empty: true }");
    let mut world = started_without_portal(&text).await;
    world.sandbox.clear_faults();
    world.advance(2 * MINUTE).await;
    assert_eq!(world.unchecked().await, ["junk"]);
    let fresh = world.fresh("JUNK");
    let lead = world.arrives(fresh);
    world.settled(HOUR).await;
    world.assert_only_deleted(&[]);
    assert!(world.reload_asking(&two()).await);
    world.advance(MINUTE).await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
    assert_eq!(world.last_run().await.trigger, Trigger::Event);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_webhook_is_asked_once_and_again_when_a_person_resumes() {
    let mut world = World::unstarted(SandboxOptions { leads: 0, ..SandboxOptions::default() }, &two());
    world.ask();
    world.sandbox.set_fault(Fault::error("crm.item.fields", "OVERLOAD_LIMIT", "REST API is blocked.", 403));
    world.start().await;
    assert!(world.stopped().await);
    let asked = world.sandbox.stats().requests;
    world.advance(DAY).await;
    assert_eq!(world.sandbox.stats().requests, asked, "only a person may go on");
    world.sandbox.clear_faults();
    world.write(|db| control::clear_portal_stop(db).map(drop)).await;
    world.advance(SECOND).await;
    assert!(world.unchecked().await.is_empty());
}
