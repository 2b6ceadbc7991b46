//! Events: judged at once, never lost, and what they do to jobs that wait.

use std::time::Duration;

use axum::http::StatusCode;
use b24_janitor::core::outcome::Outcome;
use b24_janitor::core::rule::LeadEvent;
use b24_janitor::sandbox::{Fault, Lead, Sandbox, SandboxOptions};
use b24_janitor::store::control::{self, PortalStop};
use b24_janitor::store::events::{self, NewEvent};
use b24_janitor::store::jobs::JobState;
use b24_janitor::store::runs::{Run, Trigger};
use jiff::SignedDuration;

use crate::world::*;

fn listening(more: &str) -> String {
    rules(&format!(
        "rules:\n  - {{ name: spam, schedule: \"0 5 * * *\", events: [ONCRMLEADADD, ONCRMLEADUPDATE], match: \
         {{ stageId: JUNK }}, {more} }}\n"
    ))
}

/// A colleague moves a lead to another stage.
fn moves(sandbox: &Sandbox, lead: u32, stage: &str) {
    let now = sandbox.now().as_second();
    assert!(sandbox.colleague_update(lead, |lead| lead.move_to(stage, now)));
}

#[tokio::test(start_paused = true)]
async fn an_event_makes_a_job_that_waits_for_the_grace_period_and_not_a_second_less() {
    let mut world = World::new(100, &listening("grace_period: 2h")).await;
    let others = world.sandbox.ids_where(|lead| !junk(lead));
    let added = world.arrives(world.fresh("JUNK"));
    let dull = world.arrives(world.fresh("NEW"));
    let changed = others[0];
    world.advance(10 * SECOND).await;
    moves(&world.sandbox, changed, "JUNK");
    world.advance(2 * HOUR - 11 * SECOND).await;
    world.assert_only_deleted(&[]);
    world.advance(5 * SECOND).await;
    world.assert_only_deleted(&[added]);
    world.advance(10 * SECOND).await;
    world.assert_only_deleted(&[added, changed]);
    assert!(world.jobs_of(dull).await.is_empty());
    assert!(world.runs().await.iter().all(|run| run.trigger == Trigger::Event));
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_a_colleague_revives_is_spared_at_once_and_a_new_match_waits_anew() {
    let mut world = World::new(0, &listening("grace_period: 2h")).await;
    let lead = world.arrives(world.fresh("JUNK"));
    world.advance(HOUR).await;
    moves(&world.sandbox, lead, "IN_PROCESS");
    world.advance(SECOND).await;
    let spared = world.job(lead).await;
    assert_eq!(spared.outcome, Some(Outcome::Spared));
    let reason = spared.reason.unwrap();
    assert!(reason.contains("stageId"), "{reason}");
    assert!(world.exists(lead));

    world.advance(HOUR / 2).await;
    moves(&world.sandbox, lead, "JUNK");
    world.advance(2 * HOUR - 10 * SECOND).await;
    assert!(world.exists(lead), "a new match starts a new grace period");
    world.advance(20 * SECOND).await;
    world.assert_only_deleted(&[lead]);
    assert_eq!(world.jobs_of(lead).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_was_revived_unheard_is_spared_at_the_last_look() {
    let mut world = World::new(0, &listening("grace_period: 2h")).await;
    let lead = world.arrives(world.fresh("JUNK"));
    world.advance(HOUR).await;
    world.deafen();
    moves(&world.sandbox, lead, "IN_PROCESS");
    world.advance(HOUR - SECOND).await;
    world.advance(10 * SECOND).await;
    assert_eq!(world.outcome(lead).await, Some(Outcome::Spared));
    world.assert_only_deleted(&[]);
    assert_eq!(
        world.sandbox.stats().calls_by_method.get("crm.lead.delete"),
        None,
        "no deletion was even tried"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lead_revived_between_its_last_read_and_its_deletion_is_read_again_and_spared() {
    let mut world = World::new(0, &nightly()).await;
    let (lead, other) = (world.lead("JUNK"), world.lead("JUNK"));
    let sandbox = world.sandbox.clone();
    world.tap(false, Seen::reads, 0, move || {
        Box::pin(async move {
            moves(&sandbox, lead, "IN_PROCESS");
            // The answer takes a moment, in which the event arrives and is stored.
            tokio::time::sleep(SECOND / 2).await;
        })
    });
    world.until("2026-06-01T03:00:00Z").await;
    world.settled(HOUR).await;
    assert!(world.taps_are_used());
    world.assert_only_deleted(&[other]);
    assert_eq!(world.outcome(lead).await, Some(Outcome::Spared));
}

#[tokio::test(start_paused = true)]
async fn a_lead_revived_while_the_batch_before_it_is_deleted_is_read_again_and_spared() {
    let world = World::new(400, &nightly().replace("timezone", "portal: { concurrency: 1 }\ntimezone")).await;
    let expected = world.sandbox.ids_where(junk);
    let sandbox = world.sandbox.clone();
    world.tap(
        false,
        |seen| seen.deletes() && seen.body.contains("crm.item.list"),
        0,
        move || {
            Box::pin(async move {
                for lead in sandbox.ids_where(junk) {
                    moves(&sandbox, lead, "IN_PROCESS");
                }
                tokio::time::sleep(SECOND).await;
            })
        },
    );
    world.until("2026-06-01T03:00:00Z").await;
    world.settled(HOUR).await;
    assert!(world.taps_are_used());
    let gone: Vec<u32> = expected.iter().copied().filter(|lead| !world.exists(*lead)).collect();
    assert!(!gone.is_empty() && gone.len() < expected.len());
    world.assert_only_deleted(&gone);
    let revived = expected.iter().filter(|lead| world.exists(**lead));
    for lead in revived {
        assert_eq!(world.outcome(*lead).await, Some(Outcome::Spared));
    }
}

#[tokio::test(start_paused = true)]
async fn the_portals_news_of_a_deletion_settles_a_waiting_job_without_a_call() {
    let mut world = World::new(0, &listening("grace_period: 2h")).await;
    let lead = world.arrives(world.fresh("JUNK"));
    world.advance(MINUTE).await;
    let before = world.sandbox.stats().requests;
    world.sandbox.colleague_delete(lead);
    world.advance(MINUTE).await;
    assert_eq!(world.outcome(lead).await, Some(Outcome::AlreadyGone));
    assert_eq!(world.sandbox.stats().requests, before);
    world.advance(3 * HOUR).await;
    assert_eq!(world.sandbox.stats().requests, before);
    world.assert_only_deleted(&[]);
}

#[tokio::test(start_paused = true)]
async fn a_lead_from_the_recycle_bin_is_protected_from_every_rule() {
    let mut world = World::new(0, &listening("grace_period: 1h")).await;
    let mut old = world.fresh("JUNK");
    old.created -= 40 * 86_400;
    let lead = world.arrives(old);
    let young = world.arrives(world.fresh("JUNK"));
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&[young]);
    world.stop().await;
    world.advance(29 * DAY).await;
    world.start().await;
    assert_eq!(world.run("spam").await.protected, 1);
    assert!(world.jobs_of(lead).await.is_empty());
    world.stop().await;
    world.advance(DAY).await;
    world.start().await;
    assert_eq!(world.run("spam").await.protected, 0);
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&[young, lead]);
}

#[tokio::test(start_paused = true)]
async fn a_lead_from_the_recycle_bin_is_spared_though_a_run_found_it_before_its_event_came() {
    let mut world = World::new(0, &listening("grace_period: 1h")).await;
    world.deafen();
    let mut old = world.fresh("JUNK");
    old.created -= 40 * 86_400;
    let lead = world.arrives(old);
    world.advance(SECOND).await;
    world.run("spam").await;
    assert_eq!(world.job(lead).await.state, JobState::Waiting);
    let now = world.now();
    let event = NewEvent {
        event: LeadEvent::Add,
        lead_id: id(lead),
        portal_ts: Some(now),
        domain: None,
        member_id: None,
        foreign: false,
    };
    world.write(move |db| events::append(db, &event, now)).await;
    world.advance(2 * HOUR).await;
    world.assert_only_deleted(&[]);
    let job = world.job(lead).await;
    assert_eq!(job.outcome, Some(Outcome::Spared), "{job:?}");
}

#[tokio::test(start_paused = true)]
async fn events_that_were_lost_during_downtime_are_made_up_by_one_sweep() {
    let mut world = World::new(0, &listening("grace_period: 1h")).await;
    let lead = world.arrives(world.fresh("NEW"));
    world.advance(MINUTE).await;
    world.stop().await;
    moves(&world.sandbox, lead, "JUNK");
    world.advance(10 * MINUTE).await;
    world.start().await;
    world.advance(2 * MINUTE).await;
    let run = world.last_run().await;
    assert_eq!((run.trigger, run.enqueued), (Trigger::Event, 1));
    let runs = world.runs().await.len();
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&[lead]);
    assert_eq!(world.runs().await.len(), runs, "one sweep and no more");
}

#[tokio::test(start_paused = true)]
async fn gaps_sweep_once_in_five_minutes_at_most() {
    let world = World::new(10, &listening("grace_period: 1d")).await;
    for _ in 0..20 {
        let now = world.now();
        world.write(move |db| events::record_gap(db, "refused", now)).await;
        world.advance(30 * SECOND).await;
    }
    world.advance(10 * MINUTE).await;
    let runs = world.runs().await;
    assert!((2..=4).contains(&runs.len()), "{} sweeps in twenty minutes", runs.len());
    let starts: Vec<_> = runs.iter().map(|run| run.started_at).collect();
    assert!(starts.windows(2).all(|pair| pair[1].duration_since(pair[0]).as_secs() >= 299));
    assert!(world.read(events::open_gaps).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_failed_is_repeated() {
    use b24_janitor::sandbox::{Fault, FaultKind};
    let mut world = World::new(0, &listening("grace_period: 1h")).await;
    world.deafen();
    let lead = world.arrives(world.fresh("JUNK"));
    world.advance(SECOND).await;
    world.hear();
    world.sandbox.set_fault(Fault::new(FaultKind::FilterIgnored).on("crm.item.list"));
    let other = world.lead("NEW");
    let now = world.now();
    world.write(move |db| events::record_gap(db, "refused", now)).await;
    world.advance(2 * MINUTE).await;
    assert!(world.last_run().await.error.is_some());
    world.sandbox.clear_faults();
    world.advance(10 * MINUTE).await;
    assert_eq!(world.last_run().await.enqueued, 1);
    world.settled(2 * HOUR).await;
    world.assert_only_deleted(&[lead]);
    assert!(world.exists(other));
}

#[tokio::test(start_paused = true)]
async fn an_event_storm_is_judged_fifty_leads_a_request_and_a_repeated_event_once() {
    let mut world = World::new(0, &listening("grace_period: 1h")).await;
    let mut leads = Vec::new();
    for _ in 0..500 {
        let lead = world.fresh("JUNK");
        leads.push(world.arrives(lead));
    }
    for lead in &leads {
        world.sandbox.colleague_update(*lead, |lead: &mut Lead| lead.opportunity = 1.0);
    }
    world.advance(10 * MINUTE).await;
    let requests = world.sandbox.stats().requests;
    assert!(requests <= 80, "{requests} requests for 500 leads");
    for lead in &leads {
        let lines = world
            .read({
                let l = id(*lead);
                move |db| events::of_lead(db, l, 10)
            })
            .await;
        assert_eq!(world.jobs_of(*lead).await.len(), 1, "{lead} {lines:?}");
    }
    world.settled(4 * HOUR).await;
    world.assert_only_deleted(&leads);
    world.assert_adds_up().await;
    world.assert_within_limits();
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_updates_is_read_once_when_it_is_over_and_one_without_end_after_ten_seconds() {
    let mut world = World::new(0, &listening("grace_period: 1h")).await;
    let leads: Vec<u32> = (0..100).map(|_| world.lead("NEW")).collect();
    let lists = |world: &World| {
        world.sandbox.stats().requests_by_method.get("crm.item.list").copied().unwrap_or_default()
    };
    let before = lists(&world);
    let storm = async |rounds: u32| {
        for round in 0..rounds {
            for lead in &leads {
                world.sandbox.colleague_update(*lead, |lead: &mut Lead| lead.opportunity = f64::from(round));
            }
            world.advance(Duration::from_millis(150)).await;
        }
    };
    storm(20).await;
    assert_eq!(lists(&world) - before, 0, "a lead was read in the middle of a storm of three seconds");
    world.advance(MINUTE).await;
    assert_eq!(
        lists(&world) - before,
        2,
        "a hundred leads are two requests, however often they were changed"
    );
    storm(80).await;
    let within = lists(&world) - before;
    assert!((4..=5).contains(&within), "{within} lists: after ten seconds of twelve the leads are read");
    world.advance(MINUTE).await;
    assert!(lists(&world) - before <= 7);
    world.assert_only_deleted(&[]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nothing_can_store_is_refused_at_once_and_so_is_the_next() {
    let mut world = World::new(0, &listening("grace_period: 1h")).await;
    let lead = world.lead("NEW");
    assert_eq!(world.post("ONCRMLEADUPDATE", lead).await, StatusCode::OK);
    world.service().store.clone().close().await;
    let before = world.now();
    for _ in 0..2 {
        assert_eq!(world.post("ONCRMLEADUPDATE", lead).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(world.now(), before, "nobody waited for a time to run out");
}

#[tokio::test(start_paused = true)]
async fn events_whose_evaluation_failed_half_way_are_evaluated_without_a_restart() {
    let text = rules(
        "rules:\n  - { name: spam, schedule: \"0 5 * * *\", events: [ONCRMLEADADD], match: { stageId: JUNK } }\n",
    );
    let mut world = World::new(0, &text).await;
    let gone = world.lead("NEW");
    // While the portal is stopped events wait, so that both are taken in one go.
    let now = world.now();
    let stop =
        PortalStop { code: "OVERLOAD_LIMIT".into(), text: String::new(), since: now, needs_person: true };
    world.write(move |db| control::set_portal_stop(db, &stop)).await;
    world.sandbox.colleague_delete(gone);
    let spam = world.arrives(world.fresh("JUNK"));
    world.advance(SECOND).await;
    // The deletion is processed before the list for the other is refused.
    world.sandbox.set_fault(Fault::error("crm.item.list", "INVALID_CREDENTIALS", "revoked", 401));
    world.write(control::clear_portal_stop).await;
    world.advance(10 * SECOND).await;
    assert!(world.exists(spam));
    world.sandbox.clear_faults();
    world.settled(HOUR).await;
    assert!(!world.exists(spam), "its event was not forgotten");
    world.assert_only_deleted(&[spam]);
}

#[tokio::test(start_paused = true)]
async fn silence_makes_rules_with_events_sweep_once_and_is_told_until_an_event_comes() {
    let mut world = World::unstarted(
        SandboxOptions { leads: 0, ..SandboxOptions::default() },
        &listening("grace_period: 1h"),
    );
    world.guards.silence_alarm = Some(SignedDuration::from_hours(6));
    world.start().await;
    let lead = world.arrives(world.fresh("NEW"));
    world.advance(5 * HOUR + MINUTE).await;
    // The outgoing webhook is gone.
    world.deafen();
    moves(&world.sandbox, lead, "JUNK");
    world.advance(HOUR / 2).await;
    let by_event = |runs: Vec<Run>| runs.iter().filter(|run| run.trigger == Trigger::Event).count();
    assert_eq!(by_event(world.runs().await), 0, "not silent for long enough");
    assert_eq!(world.read(control::silent_since).await, None);
    world.advance(HOUR).await;
    let run = world.last_run().await;
    assert_eq!((run.trigger, run.enqueued), (Trigger::Event, 1));
    assert!(world.read(control::silent_since).await.is_some());
    assert!(world.service().metrics.encode().contains("janitor_events_silent 1"));
    world.advance(10 * HOUR).await;
    world.assert_only_deleted(&[lead]);
    world.restart().await;
    world.advance(HOUR).await;
    assert_eq!(by_event(world.runs().await), 1, "one silence is one sweep, over a restart too");

    world.hear();
    world.arrives(world.fresh("NEW"));
    world.advance(2 * MINUTE).await;
    assert_eq!(world.read(control::silent_since).await, None);
    assert!(world.service().metrics.encode().contains("janitor_events_silent 0"));
    world.deafen();
    world.advance(7 * HOUR).await;
    assert_eq!(by_event(world.runs().await), 2, "the next silence is another");
}

#[tokio::test(start_paused = true)]
async fn without_an_alarm_silence_is_nothing() {
    let world = World::new(0, &listening("grace_period: 1h")).await;
    world.advance(30 * HOUR).await;
    assert_eq!(world.read(control::silent_since).await, None);
    assert!(world.runs().await.iter().all(|run| run.trigger == Trigger::Schedule));
}
