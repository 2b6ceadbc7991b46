//! Whatever happens to a request on its way: the right leads, no other, and an honest outcome for each.

use b24_janitor::core::outcome::Outcome;
use b24_janitor::engine::Part;
use b24_janitor::sandbox::{Fault, FaultKind, SandboxOptions};
use b24_janitor::store::jobs::{self, Phase};

use crate::world::*;

/// A drain of some two hundred leads under a fault; the portal is whole again after an hour.
async fn drain_under(fault: Fault) {
    let shown = format!("{fault:?}");
    for method in ["crm.lead.delete", "crm.item.delete"] {
        let text = nightly().replace("timezone", &format!("portal: {{ delete_method: {method} }}\ntimezone"));
        let world = World::new(400, &text).await;
        let expected = world.sandbox.ids_where(junk);
        world.run("junk").await;
        world.sandbox.set_fault(fault.clone());
        world.advance(HOUR).await;
        world.sandbox.clear_faults();
        world.settled(6 * HOUR).await;
        world.assert_only_deleted(&expected);
        for job in world.jobs().await {
            assert_eq!(job.outcome, Some(Outcome::Deleted), "{shown} {job:?}");
        }
        for lead in expected {
            let copy = world.copy(lead).await.unwrap_or_else(|| panic!("{shown}: no copy of {lead}"));
            assert!(copy.deleted_at.is_some());
        }
        world.assert_adds_up().await;
    }
}

macro_rules! drains {
    ($($name:ident: $fault:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            drain_under($fault).await;
        }
    )*};
}

fn html(status: u16) -> Fault {
    Fault::new(FaultKind::Html { status }).on("crm.lead.delete")
}

fn ok_with_error(code: &str) -> Fault {
    Fault::new(FaultKind::ErrorInOk { code: code.to_owned(), text: "no".to_owned() })
}

drains! {
    lost_replies_to_batches: Fault::new(FaultKind::Drop).on("crm.lead.delete").nth(1, 2);
    lost_replies_to_anything: Fault::new(FaultKind::Drop).with_probability(0.3);
    replies_that_come_after_the_client_gave_up: Fault::new(FaultKind::Late { seconds: 80.0 }).on("crm.lead.delete").nth(1, 2);
    replies_that_come_late: Fault::new(FaultKind::Late { seconds: 61.0 }).on("crm.lead.delete").nth(0, 3);
    lists_that_always_come_late: Fault::new(FaultKind::Late { seconds: 3.0 }).on("crm.item.list");
    lists_that_come_late: Fault::new(FaultKind::Late { seconds: 5.0 }).on("crm.item.list").nth(0, 6);
    truncated_replies: Fault::new(FaultKind::Truncated).with_probability(0.4);
    a_page_with_status_200: html(200).nth(0, 2);
    a_page_with_status_200_after_the_work: html(200).nth(1, 2).after_executing();
    a_bad_gateway: html(502).nth(0, 3);
    a_bad_gateway_after_the_work: html(502).nth(0, 3).after_executing();
    a_page_with_status_503: html(503).nth(0, 3);
    a_page_with_status_503_after_the_work: html(503).nth(0, 3).after_executing();
    a_fatal_error: Fault::new(FaultKind::Fatal).with_probability(0.4);
    a_fatal_error_after_the_work: Fault::new(FaultKind::Fatal).on("crm.lead.delete").nth(0, 2).after_executing();
    an_empty_reply: Fault::new(FaultKind::Empty).with_probability(0.4);
    an_empty_reply_after_the_work: Fault::new(FaultKind::Empty).on("crm.lead.delete").nth(0, 2).after_executing();
    a_redirect: Fault::new(FaultKind::Redirect { to: "https://elsewhere.example".to_owned() }).nth(2, 1);
    a_redirect_after_the_work:
        Fault::new(FaultKind::Redirect { to: "https://elsewhere.example".to_owned() }).on("crm.lead.delete").nth(1, 1)
            .after_executing();
    an_internal_error_under_200: ok_with_error("INTERNAL_SERVER_ERROR").nth(0, 3);
    an_unknown_error_under_200: ok_with_error("WHO_KNOWS").on("crm.lead.delete").nth(0, 2);
    a_rate_refusal_under_200: ok_with_error("QUERY_LIMIT_EXCEEDED").nth(0, 3);
    commands_missing_from_a_batch: Fault::new(FaultKind::MissingKeys { count: 4 }).on("crm.lead.delete").nth(0, 4);
    all_commands_missing_from_a_batch: Fault::new(FaultKind::MissingKeys { count: 50 }).on("crm.lead.delete").nth(0, 2);
    refused_connections: Fault::new(FaultKind::Refuse).with_probability(0.4);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_without_an_answer_is_looked_at_when_the_portal_can_no_longer_be_at_work() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.lead("JUNK");
    world.deafen();
    world.sandbox.set_fault(Fault::new(FaultKind::Drop).on("crm.lead.delete").nth(0, 1));
    let sent = world.now();
    world.run("junk").await;
    world.advance(SECOND).await;
    let job = world.job(lead).await;
    assert_eq!(job.phase, Some(Phase::Unknown), "{job:?}");
    world.advance(87 * SECOND).await;
    assert_eq!(world.job(lead).await.outcome, None, "not before 90 s");
    world.settled(MINUTE).await;
    let job = world.job(lead).await;
    assert_eq!(job.outcome, Some(Outcome::Deleted));
    assert!(job.finished_at.unwrap().duration_since(sent).as_secs() >= 90);
    world.assert_only_deleted(&[lead]);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_deletion_that_the_portals_event_confirms_is_settled_by_it() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.lead("JUNK");
    world.deafen();
    world.sandbox.set_fault(Fault::new(FaultKind::Drop).on("crm.lead.delete").nth(0, 1));
    world.run("junk").await;
    world.advance(SECOND).await;
    world.hear();
    let (now, before) = (world.now(), world.sandbox.stats().requests);
    let told = world.write(move |db| jobs::lead_gone(db, id(lead), now)).await;
    assert!(matches!(told, jobs::LeadGone::Finished(_, Outcome::Deleted)));
    world.advance(10 * MINUTE).await;
    assert_eq!(world.sandbox.stats().requests, before);
    world.assert_only_deleted(&[lead]);
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_survived_a_lost_request_and_was_revived_is_spared() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.lead("JUNK");
    world.deafen();
    world.sandbox.set_fault(Fault::new(FaultKind::Refuse).on("crm.lead.delete").nth(0, 1));
    world.run("junk").await;
    world.advance(10 * SECOND).await;
    world.sandbox.colleague_update(lead, |lead| lead.stage = "IN_PROCESS".into());
    world.settled(HOUR).await;
    assert_eq!(world.outcome(lead).await, Some(Outcome::Spared));
    world.assert_only_deleted(&[]);
    assert!(world.copy(lead).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn everything_at_once_still_deletes_the_right_leads_and_tells_the_truth() {
    for seed in 1..=2 {
        let options = SandboxOptions { leads: 400, seed, ..SandboxOptions::default() };
        let world = World::with(options, &nightly()).await;
        let expected = world.sandbox.ids_where(junk);
        for kind in [
            FaultKind::Drop,
            FaultKind::Refuse,
            FaultKind::Truncated,
            FaultKind::Fatal,
            FaultKind::Empty,
            FaultKind::Html { status: 502 },
            FaultKind::Html { status: 503 },
            FaultKind::Late { seconds: 80.0 },
            FaultKind::MissingKeys { count: 3 },
        ] {
            world.sandbox.set_fault(Fault::new(kind).with_probability(0.07));
        }
        world.run("junk").await;
        world.settled(20 * HOUR).await;
        world.assert_only_deleted(&expected);
        assert_eq!(world.counts().await.deleted, expected.len() as u64);
        world.assert_adds_up().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_seconds_ago_is_read_again_before_anything_is_deleted() {
    for ahead in [false, true] {
        let world = World::new(
            if ahead { 300 } else { 30 },
            &nightly().replace("timezone", "portal: { concurrency: 1 }\ntimezone"),
        )
        .await;
        let expected = world.sandbox.ids_where(junk);
        world.deafen();
        let sandbox = world.sandbox.clone();
        let wanted: fn(&Seen) -> bool =
            if ahead { |seen| seen.deletes() && seen.body.contains("crm.item.list") } else { Seen::reads };
        world.tap(false, wanted, 0, move || {
            Box::pin(async move {
                // Nobody hears of it, and the answer is on its way for a while.
                for lead in sandbox.ids_where(junk) {
                    sandbox.colleague_update(lead, |lead| lead.stage = "IN_PROCESS".into());
                }
                tokio::time::sleep(5 * SECOND).await;
            })
        });
        world.run("junk").await;
        world.settled(HOUR).await;
        assert!(world.taps_are_used());
        let gone = world.sandbox.stats().deletions.len();
        assert_eq!(gone == 0, !ahead, "{gone} of {}", expected.len());
        assert!(gone <= 10, "what a slow answer said was believed");
        assert_eq!(world.counts().await.spared, (expected.len() - gone) as u64);
    }
}

/// Lists and drains about 2,000 leads; how many requests that took, and how many of them a fault struck.
async fn requests_of_a_long_drain(probability: f64) -> (u64, u64) {
    let options = SandboxOptions { leads: 6600, ..SandboxOptions::default() };
    let world = World::with(options, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    assert!(expected.len() > 1900, "{}", expected.len());
    world.run("junk").await;
    for kind in [
        FaultKind::Drop,
        FaultKind::Refuse,
        FaultKind::Truncated,
        FaultKind::Fatal,
        FaultKind::Empty,
        FaultKind::Html { status: 502 },
        FaultKind::Late { seconds: 80.0 },
        FaultKind::MissingKeys { count: 3 },
    ] {
        world.sandbox.set_fault(Fault::new(kind).with_probability(probability));
    }
    world.settled(20 * HOUR).await;
    world.assert_only_deleted(&expected);
    assert_eq!(world.counts().await.deleted, expected.len() as u64);
    let stats = world.sandbox.stats();
    (stats.requests, stats.faults)
}

#[tokio::test(start_paused = true)]
async fn faults_make_no_storm_of_requests() {
    let (calm, none) = requests_of_a_long_drain(0.0).await;
    assert_eq!(none, 0);
    let (requests, faults) = requests_of_a_long_drain(0.008).await;
    assert!(faults >= 3, "{faults} faults test nothing");
    let most = calm * 12 / 10 + faults;
    assert!(requests <= most, "{requests} requests, {faults} of them struck; without faults {calm}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_portal_a_budget_or_a_person_is_not_taken_for_hung() {
    // Ten minutes have 480 seconds for 320 deletions of 1.5 s: the lanes wait for the budget most of the time.
    let options =
        SandboxOptions { leads: 900, delete_seconds: 1.5, sleep_scale: 1.0, ..SandboxOptions::default() };
    let world = World::with(options, &nightly()).await;
    world.run("junk").await;
    let alive = async |minutes: u32| {
        for _ in 0..minutes {
            world.advance(MINUTE).await;
            assert_eq!(world.engine().context().pulse().overdue(), None);
        }
    };
    let watched = world.engine().context().pulse().watched();
    assert_eq!(watched, [Part::Lane(0), Part::Lane(1), Part::Control], "as many lanes as requests at a time");
    alive(60).await;
    // Each request runs into our timeout, and the pauses between the tries grow to hours.
    world.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 200.0 }));
    alive(5 * 60).await;
    world.sandbox.clear_faults();
    world.pause(true).await;
    alive(60).await;
    world.pause(false).await;
    alive(3 * 60).await;
    assert_eq!(world.counts().await.waiting, 0);
}
