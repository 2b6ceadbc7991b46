//! From a schedule or an event to a deletion: which leads, when, and with which numbers.

use b24_janitor::core::outcome::Outcome;
use b24_janitor::sandbox::Lead;
use b24_janitor::store::runs::{RunState, Trigger};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_scheduled_run_deletes_exactly_the_leads_that_the_rule_selects() {
    let text = rules(
        "protect:\n  - { name: has-money, match: { opportunity: { gt: 0 } } }\n\
         rules:\n  - { name: old-junk, schedule: \"15 3 * * *\", match: { stageId: JUNK }, older_than: 90d }\n",
    );
    let world = World::new(2000, &text).await;
    let limit = "2026-06-01T03:15:00Z".parse::<jiff::Timestamp>().unwrap().as_second() - 90 * 86_400;
    let selected = |lead: &Lead| junk(lead) && lead.created < limit;
    let rich = world.sandbox.ids_where(|lead| selected(lead) && lead.opportunity > 0.0);
    let poor = world.sandbox.ids_where(|lead| selected(lead) && lead.opportunity == 0.0);
    assert!(rich.len() > 50 && poor.len() > 150, "the portal has something to select");

    world.advance(3 * HOUR + 14 * MINUTE).await;
    assert!(world.runs().await.is_empty(), "nothing runs before its time");
    world.advance(2 * MINUTE).await;
    world.settled(HOUR).await;

    world.assert_only_deleted(&poor);
    let run = world.last_run().await;
    assert_eq!((run.state, run.trigger), (RunState::Enqueued, Trigger::Schedule));
    assert_eq!(run.enqueued, poor.len() as u64);
    assert_eq!(run.protected, rich.len() as u64);
    assert_eq!(world.counts().await.of(Outcome::Deleted), poor.len() as u64);
    world.assert_adds_up().await;
    world.assert_within_limits();
}

#[tokio::test(start_paused = true)]
async fn a_rule_in_mode_plan_says_what_it_would_do_and_enqueues_nothing() {
    let text = nightly().replace("mode: delete", "mode: plan");
    let world = World::new(300, &text).await;
    let selected = world.sandbox.ids_where(junk);
    world.until("2026-06-01T04:00:00Z").await;
    let run = world.last_run().await;
    assert_eq!(run.state, RunState::Planned);
    assert_eq!((run.would_enqueue, run.enqueued), (selected.len() as u64, 0));
    assert!(world.jobs().await.is_empty());
    world.advance(DAY).await;
    world.assert_only_deleted(&[]);
}

#[tokio::test(start_paused = true)]
async fn what_a_protection_covers_or_may_cover_is_kept() {
    let text = rules(
        "protect:\n  - { name: pinned, ids: [2] }\n  - { name: has-money, match: { opportunity: { gt: 0 } } }\n  \
         - { name: promised, match: { ufCrm_1700000004: { gt: \"2030-01-01\" } } }\n\
         rules:\n  - { name: all, schedule: \"0 3 * * *\", match: { stageId: { in: [JUNK, CONVERTED] } } }\n",
    );
    let mut world = World::new(0, &text).await;
    let promised = |date: Option<&str>| {
        let mut lead = world.fresh("JUNK");
        if let Some(date) = date {
            assert!(lead.set("ufCrm_1700000004", &date.into()));
        }
        lead
    };
    let (kept, early, open) = (
        promised(Some("2031-05-01T00:00:00+00:00")),
        promised(Some("2020-05-01T00:00:00+00:00")),
        promised(None),
    );
    let plain = world.place(early.clone());
    let pinned = world.place(early.clone());
    let rich = world.place({
        let mut lead = early.clone();
        lead.opportunity = 5.0;
        lead
    });
    let converted = world.place({
        let mut lead = early.clone();
        lead.move_to("CONVERTED", lead.created);
        lead
    });
    let promised = world.place(kept);
    let unsaid = world.place(open);
    assert_eq!(pinned, 2);
    world.until("2026-06-01T03:00:00Z").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[plain]);
    let run = world.last_run().await;
    assert_eq!(
        (run.matched, run.protected, run.enqueued),
        (6, 5, 1),
        "{rich} {converted} {promised} {unsaid}"
    );
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_cannot_be_judged_is_kept_and_counted() {
    let text = rules(
        "rules:\n  - name: stale\n    schedule: \"0 3 * * *\"\n    match: { stageId: JUNK }\n    \
         older_than: { field: ufCrm_1700000004, age: 30d }\n",
    );
    let mut world = World::new(0, &text).await;
    let dated = |date: Option<&str>| {
        let mut lead = world.fresh("JUNK");
        if let Some(date) = date {
            assert!(lead.set("ufCrm_1700000004", &date.into()));
        }
        lead
    };
    let (old, young, future, none) = (
        dated(Some("2026-01-01T00:00:00+00:00")),
        dated(Some("2026-05-25T00:00:00+00:00")),
        dated(Some("2027-01-01T00:00:00+00:00")),
        dated(None),
    );
    let old = world.place(old);
    world.place(young);
    world.place(future);
    world.place(none);
    world.until("2026-06-01T03:00:00Z").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[old]);
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_forgets_the_filter_makes_the_run_fail_and_nothing_is_enqueued() {
    use b24_janitor::sandbox::{Fault, FaultKind};
    let world = World::new(400, &nightly()).await;
    world.sandbox.set_fault(Fault::new(FaultKind::FilterIgnored).on("crm.item.list"));
    world.until("2026-06-01T04:00:00Z").await;
    let run = world.last_run().await;
    assert_eq!(run.state, RunState::Failed);
    assert!(run.error.unwrap().starts_with("filter_not_honoured"));
    assert!(world.jobs().await.is_empty());

    world.sandbox.clear_faults();
    let expected = world.sandbox.ids_where(junk);
    world.until("2026-06-02T03:00:00Z").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&expected);
}

#[tokio::test(start_paused = true)]
async fn two_rules_that_select_the_same_leads_make_one_job_a_lead() {
    let text = rules(
        "rules:\n  - { name: one, schedule: \"0 3 * * *\", match: { stageId: JUNK }, grace_period: 1d }\n  \
         - { name: two, schedule: \"0 4 * * *\", match: { stageId: { in: [JUNK, \"7\"] } } }\n",
    );
    let world = World::new(300, &text).await;
    let both = world.sandbox.ids_where(junk);
    let all = world.sandbox.ids_where(|lead| junk(lead) || &*lead.stage == "7");
    world.until("2026-06-01T05:00:00Z").await;
    let second = world.last_run().await;
    assert_eq!(second.already_waiting, both.len() as u64);
    assert_eq!(second.enqueued, (all.len() - both.len()) as u64);
    world.settled(2 * DAY).await;
    world.assert_only_deleted(&all);
    world.assert_adds_up().await;
    for job in world.jobs().await {
        assert_eq!(job.outcome, Some(Outcome::Deleted), "{job:?}");
    }
}
