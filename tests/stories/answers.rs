//! What the portal answers to a deletion, and what the service makes of it.

use std::sync::atomic::{AtomicI64, Ordering};

use b24_janitor::core::outcome::Outcome;
use b24_janitor::sandbox::{Fault, FaultKind, Language, NotFoundStyle, SandboxOptions};
use b24_janitor::store::jobs::{self, Retry};

use crate::world::*;

fn with_method(method: &str) -> String {
    nightly().replace("timezone", &format!("portal: {{ delete_method: {method} }}\ntimezone"))
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_a_colleague_deletes_first_is_already_gone_however_the_portal_says_it() {
    for method in ["crm.lead.delete", "crm.item.delete"] {
        for not_found in [NotFoundStyle::Item, NotFoundStyle::Lead, NotFoundStyle::Documented] {
            for (language, restricted) in
                [(Language::English, false), (Language::Russian, false), (Language::English, true)]
            {
                let options = SandboxOptions { not_found, language, restricted, ..SandboxOptions::default() };
                let mut world = World::with(options, &with_method(method)).await;
                let leads: Vec<u32> = (0..6).map(|_| world.lead("JUNK")).collect();
                world.deafen();
                // Two before they are read, two between their reading and their deletion.
                let (early, late) = ([leads[0], leads[3]], [leads[1], leads[4]]);
                let sandbox = world.sandbox.clone();
                world.tap(true, Seen::reads, 0, {
                    let sandbox = sandbox.clone();
                    move || {
                        for lead in early {
                            sandbox.colleague_delete(lead);
                        }
                        Box::pin(std::future::ready(()))
                    }
                });
                world.tap(true, Seen::deletes, 0, move || {
                    for lead in late {
                        sandbox.colleague_delete(lead);
                    }
                    Box::pin(std::future::ready(()))
                });
                world.run("junk").await;
                world.settled(HOUR).await;
                assert!(world.taps_are_used());
                world.assert_only_deleted(&[leads[2], leads[5]]);
                for lead in early.into_iter().chain(late) {
                    let job = world.job(lead).await;
                    assert_eq!(
                        job.outcome,
                        Some(Outcome::AlreadyGone),
                        "{method} {not_found:?} {language:?} {restricted} {job:?}"
                    );
                    assert!(world.copy(lead).await.is_none());
                }
                world.assert_adds_up().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_vetoed_lead_behind_a_missing_one_in_a_batch_fails_and_is_never_called_gone() {
    for restricted in [false, true] {
        let options = SandboxOptions { restricted, ..SandboxOptions::default() };
        let mut world = World::with(options, &nightly()).await;
        let leads: Vec<u32> = (0..8).map(|_| world.lead("JUNK")).collect();
        let missing = [leads[0], leads[4]];
        world.sandbox.veto(leads[1], "Keep it!");
        world.sandbox.veto(leads[6], "Item was not found.");
        world.sandbox.deny(leads[2]);
        world.deafen();
        let sandbox = world.sandbox.clone();
        world.tap(true, Seen::deletes, 0, move || {
            for lead in missing {
                sandbox.colleague_delete(lead);
            }
            Box::pin(std::future::ready(()))
        });
        world.run("junk").await;
        world.settled(HOUR).await;
        let deleted = [leads[3], leads[5], leads[7]];
        world.assert_only_deleted(&deleted);
        for lead in [leads[1], leads[2], leads[6]] {
            let job = world.job(lead).await;
            // A veto with the very words of "not found", alone, is beyond telling apart by words; the get tells.
            assert_eq!(job.outcome, Some(Outcome::Failed), "{restricted} {job:?}");
            assert!(world.exists(lead) && world.copy(lead).await.is_none());
        }
        for lead in missing {
            assert_eq!(world.outcome(lead).await, Some(Outcome::AlreadyGone));
        }
        world.assert_adds_up().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_cannot_be_deleted_is_left_alone_for_a_day_then_two_then_four() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.lead("JUNK");
    world.sandbox.veto(lead, "No.");
    for days in [1u32, 2, 4] {
        let run = world.run("junk").await;
        assert_eq!(run.enqueued, 1, "before {days}");
        world.settled(HOUR).await;
        assert_eq!(world.outcome(lead).await, Some(Outcome::Failed));
        world.stop().await;
        world.advance(days * DAY - 5 * MINUTE).await;
        world.start().await;
        assert_eq!(world.run("junk").await.protected, 1, "within {days} days");
        world.stop().await;
        world.advance(10 * MINUTE).await;
        world.start().await;
        // What a made-up run of the night enqueues meanwhile is the story of another test.
        assert!(world.jobs_of(lead).await.len() <= days.trailing_zeros() as usize + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_job_is_tried_again_when_a_person_asks() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.lead("JUNK");
    world.sandbox.veto(lead, "No.");
    world.run("junk").await;
    world.settled(HOUR).await;
    let job = world.job(lead).await.id;
    let now = world.now();
    world.sandbox.permit(lead);
    assert_eq!(world.write(move |db| jobs::retry(db, job, now)).await, Retry::Requeued);
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
    assert_eq!(world.jobs_of(lead).await.len(), 1);
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_the_webhook_may_not_read_any_more_is_spared_not_called_gone() {
    let mut world = World::new(0, &nightly().replace("mode: delete", "mode: delete, grace_period: 1h")).await;
    let lead = world.lead("JUNK");
    world.run("junk").await;
    world.sandbox.hide(lead);
    world.settled(2 * HOUR).await;
    let job = world.job(lead).await;
    assert_eq!(job.outcome, Some(Outcome::Spared), "{job:?}");
    world.assert_only_deleted(&[]);
}

#[tokio::test(start_paused = true)]
async fn a_lead_revived_while_the_look_before_its_lone_deletion_was_on_its_way_is_spared() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.lead("JUNK");
    world.deafen();
    world.sandbox.veto(lead, "This lead is under audit");
    // The first look confirms the veto of the batch; the second, before the lone deletion, is answered late.
    world.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 20.0 }).on("crm.item.get").nth(1, 1));
    world.run("junk").await;
    world.advance(5 * SECOND).await;
    world.sandbox.permit(lead);
    world.sandbox.colleague_update(lead, |lead| lead.stage = "IN_PROCESS".into());
    world.settled(HOUR).await;
    assert!(world.exists(lead), "it was deleted on a reading of 20 seconds ago");
    assert_eq!(world.outcome(lead).await, Some(Outcome::Spared));
}

/// Drains about 600 leads, of which a colleague has deleted every `nth`; how many requests that took.
async fn requests_with_every_nth_gone(nth: usize) -> u64 {
    let world = World::with(SandboxOptions { leads: 2000, ..SandboxOptions::default() }, &nightly()).await;
    let leads = world.sandbox.ids_where(junk);
    world.deafen();
    world.pause(true).await;
    world.run("junk").await;
    let gone: Vec<u32> = leads.iter().copied().step_by(nth).collect();
    for lead in &gone {
        world.sandbox.colleague_delete(*lead);
    }
    let before = world.sandbox.stats().requests;
    world.pause(false).await;
    world.settled(HOUR).await;
    let left: Vec<u32> = leads.iter().copied().filter(|lead| !gone.contains(lead)).collect();
    world.assert_only_deleted(&left);
    let counts = world.counts().await;
    assert_eq!((counts.deleted, counts.already_gone), (left.len() as u64, gone.len() as u64));
    world.assert_within_limits();
    world.sandbox.stats().requests - before
}

#[tokio::test(start_paused = true)]
async fn leads_that_are_gone_meanwhile_cost_no_requests_of_their_own() {
    let only_the_first = requests_with_every_nth_gone(10_000).await;
    let five_percent = requests_with_every_nth_gone(20).await;
    assert!(five_percent <= only_the_first, "{five_percent} requests instead of {only_the_first}");
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_a_list_leaves_out_and_a_question_finds_is_judged_like_any_other() {
    let mut world = World::new(0, &nightly()).await;
    let leads: Vec<u32> = (0..5).map(|_| world.lead("JUNK")).collect();
    world.deafen();
    let (found, revived) = (leads[1], leads[3]);
    let sandbox = world.sandbox.clone();
    world.tap(true, Seen::reads, 0, {
        let sandbox = sandbox.clone();
        move || {
            sandbox.hide(found);
            sandbox.hide(revived);
            Box::pin(std::future::ready(()))
        }
    });
    world.tap(true, Seen::deletes, 0, move || {
        sandbox.permit(found);
        sandbox.permit(revived);
        sandbox.colleague_update(revived, |lead| lead.stage = "IN_PROCESS".into());
        Box::pin(std::future::ready(()))
    });
    world.run("junk").await;
    world.settled(HOUR).await;
    assert!(world.taps_are_used());
    world.assert_only_deleted(&[leads[0], found, leads[2], leads[4]]);
    assert_eq!(world.outcome(revived).await, Some(Outcome::Spared));
    assert!(world.copy(found).await.is_some(), "deleted without a copy");
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_the_webhook_may_not_read_is_spared_beside_others_that_are_deleted() {
    let mut world = World::new(0, &nightly().replace("mode: delete", "mode: delete, grace_period: 1h")).await;
    let leads: Vec<u32> = (0..4).map(|_| world.lead("JUNK")).collect();
    world.run("junk").await;
    world.sandbox.hide(leads[2]);
    world.settled(2 * HOUR).await;
    assert_eq!(world.outcome(leads[2]).await, Some(Outcome::Spared));
    world.assert_only_deleted(&[leads[0], leads[1], leads[3]]);
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn where_every_question_takes_three_seconds_a_vetoed_lead_still_fails_in_the_end() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.lead("JUNK");
    world.sandbox.veto(lead, "This lead is under audit");
    world.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 3.0 }).on("crm.item.get"));
    world.run("junk").await;
    world.settled(HOUR).await;
    assert_eq!(world.outcome(lead).await, Some(Outcome::Failed));
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_found_lead_that_a_colleague_deletes_before_anything_was_sent_is_already_gone() {
    let mut world = World::new(0, &nightly()).await;
    let leads: Vec<u32> = (0..3).map(|_| world.lead("JUNK")).collect();
    world.deafen();
    let found = leads[1];
    let sandbox = world.sandbox.clone();
    world.tap(true, Seen::reads, 0, {
        let sandbox = sandbox.clone();
        move || {
            sandbox.hide(found);
            Box::pin(std::future::ready(()))
        }
    });
    world.tap(true, Seen::deletes, 0, {
        let sandbox = sandbox.clone();
        move || {
            sandbox.permit(found);
            Box::pin(std::future::ready(()))
        }
    });
    // The look before its lone deletion gets no answer, and then it is gone.
    world.sandbox.set_fault(Fault::new(FaultKind::Drop).on("crm.item.get").nth(1, 1));
    world.tap(
        true,
        |seen| seen.method == "crm.item.get",
        0,
        move || {
            sandbox.colleague_delete(found);
            Box::pin(std::future::ready(()))
        },
    );
    world.run("junk").await;
    world.settled(HOUR).await;
    assert!(world.taps_are_used());
    world.assert_only_deleted(&[leads[0], leads[2]]);
    assert_eq!(world.outcome(found).await, Some(Outcome::AlreadyGone));
    world.assert_adds_up().await;
}

/// The wall's clock is set back while a reading is on its way: by that clock it is young, and a colleague has taken the lead
/// up since. No event tells of it.
#[tokio::test(start_paused = true)]
async fn a_reading_is_no_younger_for_a_clock_that_was_set_back() {
    for (late, back) in [(5.0, 4_000), (5.0, 3_600_000), (30.0, 29_000), (3.0, 1_500)] {
        let mut world =
            World::unstarted(SandboxOptions { leads: 0, ..SandboxOptions::default() }, &nightly());
        let set: &'static AtomicI64 = Box::leak(Box::default());
        world.clock = world.clock.set_by(set);
        world.start().await;
        let (lead, kept) = (world.lead("JUNK"), world.lead("JUNK"));
        world.pause(true).await;
        assert_eq!(world.run("junk").await.enqueued, 2);
        world.deafen();
        world.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: late }).on("crm.item.list").nth(0, 1));
        world.pause(false).await;
        world.advance(SECOND).await;
        assert!(world.sandbox.colleague_update(kept, |lead| lead.stage = "IN_PROCESS".into()));
        set.store(-back, Ordering::SeqCst);
        world.settled(HOUR).await;
        world.assert_only_deleted(&[lead]);
        assert_eq!(world.job(kept).await.outcome, Some(Outcome::Spared), "late {late} s, back {back} ms");
    }
}
