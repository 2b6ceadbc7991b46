//! A deleted lead again: what comes back, once, whatever happens to the answer, and that no rule takes it at once.

use b24_janitor::core::outcome::Outcome;
use b24_janitor::core::undo::ORIGINATOR;
use b24_janitor::engine::restore::{self, Became, Listener, Report, Told};
use b24_janitor::portal::Creation;
use b24_janitor::sandbox::{Contact, Fault, FaultKind, Lead, SandboxOptions};
use b24_janitor::store::restores::{self, Which};
use serde_json::{Map, Value, json};

use crate::world::*;

const IMPORT: &str = "crm.item.import";

/// A junk lead with something in every kind of field.
fn full(world: &World) -> Lead {
    let mut lead = world.fresh("JUNK");
    let day = 24 * 3600;
    lead.title = "Zebulon asks, 25 % off".into();
    (lead.created, lead.moved, lead.closed) = (lead.created - 40 * day, lead.created - 30 * day, None);
    (lead.updated, lead.last_activity) = (lead.moved + day, lead.moved + 2 * day);
    lead.move_to("JUNK", lead.moved);
    lead.source = "WEB".into();
    lead.opportunity = 1234.5;
    (lead.assigned_by, lead.created_by, lead.updated_by) = (3, 4, 5);
    lead.contacts = vec![
        Contact { id: 0, phone: true, value: "+49 555 7654321".into() },
        Contact { id: 0, phone: false, value: "zebulon@secret.example".into() },
    ];
    for (name, value) in [
        ("name", json!("Zebulon")),
        ("comments", json!("a \"remark\" & more\nin lines")),
        ("utmSource", json!("google")),
        ("opened", json!("N")),
        ("currencyId", json!("USD")),
        ("ufCrm_1700000000", json!("very private remark")),
        ("ufCrm_1700000001", json!(12.75)),
        ("ufCrm_1700000002", json!(45)),
        ("ufCrm_1700000003", json!("Y")),
        ("ufCrm_1700000004", json!("2026-02-03T04:05:06+03:00")),
        ("ufCrm_1700000005", json!(["one", "two"])),
    ] {
        assert!(lead.set(name, &value), "{name}");
    }
    lead
}

/// The lead as the portal's `crm.item.get` writes it.
async fn fields(world: &World, lead: u32) -> Map<String, Value> {
    match world.engine().context().portal.get(id(lead)).await.unwrap() {
        b24_janitor::core::outcome::Presence::Present(lead) => lead.fields().clone(),
        other => panic!("{other:?}"),
    }
}

async fn restore(world: &World, which: &Which, again: bool) -> Report {
    let ctx = world.engine().context().hurried();
    let rules = ctx.rules();
    restore::restore(&ctx, &rules, which, again, Listener::Here(&|_, _| ())).await.unwrap()
}

async fn one(world: &World, lead: u32) -> Told {
    restore(world, &Which::Leads(vec![id(lead)]), false).await.leads.remove(0)
}

/// A world in which our rule has deleted this lead.
async fn deleted(options: SandboxOptions) -> (World, u32, Map<String, Value>) {
    let mut world = World::with(options, &nightly()).await;
    let lead = world.place(full(&world));
    let before = fields(&world, lead).await;
    world.run("junk").await;
    world.settled(HOUR).await;
    assert!(!world.exists(lead));
    (world, lead, before)
}

fn new_lead(told: &Told) -> u32 {
    told.new_lead_id.unwrap_or_else(|| panic!("{told:?}")).get()
}

/// The leads that restores of ours created, by the title that they share.
fn created(world: &World) -> Vec<u32> {
    world.sandbox.ids_where(|lead| lead.title.contains("Zebulon"))
}

#[tokio::test(start_paused = true)]
async fn a_restored_lead_is_field_by_field_the_one_that_was_deleted() {
    let (world, lead, before) = deleted(SandboxOptions::default()).await;
    let told = one(&world, lead).await;
    assert_eq!((told.result, told.method), (Became::Restored, Some(Creation::Import)));
    let after = fields(&world, new_lead(&told)).await;
    let mut different: Vec<&str> = before
        .iter()
        .filter(|(name, old)| after.get(*name) != Some(old))
        .map(|(name, _)| name.as_str())
        .collect();
    different.sort_unstable();
    // The ids of the phones' rows are new, and the origin tells where the lead comes from.
    assert_eq!(different, ["fm", "id", "lastActivityTime", "originId", "originatorId"]);
    let phones = |fields: &Map<String, Value>| -> Vec<Value> {
        let list = fields["fm"].as_array().unwrap();
        list.iter().map(|entry| json!([entry["typeId"], entry["value"], entry["valueType"]])).collect()
    };
    assert_eq!(phones(&before), phones(&after));
    assert_eq!(told.differs.unwrap(), ["lastActivityTime"]);
    assert_eq!(after["originatorId"], ORIGINATOR);
}

#[tokio::test(start_paused = true)]
async fn a_created_time_that_the_portal_refuses_is_left_out_and_told() {
    let (world, lead, before) = deleted(SandboxOptions::default()).await;
    // The portal creates none before one that is there.
    world.sandbox.insert(world.fresh("NEW"));
    let told = one(&world, lead).await;
    assert_eq!((told.result, told.method), (Became::Restored, Some(Creation::Import)));
    let differs = told.differs.clone().unwrap();
    assert!(
        differs.contains(&"createdTime".to_owned()) && differs.contains(&"createdBy".to_owned()),
        "{differs:?}"
    );
    let after = fields(&world, new_lead(&told)).await;
    for (name, old) in before.iter().filter(|(name, _)| !differs.contains(*name)) {
        if !matches!(name.as_str(), "id" | "fm" | "originId" | "originatorId") {
            assert_eq!(after.get(name), Some(old), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_import_the_lead_is_added_and_without_both_the_portals_words_are_told() {
    let (world, lead, _) = deleted(SandboxOptions { import_denied: true, ..SandboxOptions::default() }).await;
    world.sandbox.set_fault(Fault::error("crm.item.add", "ACCESS_DENIED", "Access denied", 400));
    let told = one(&world, lead).await;
    assert_eq!((told.result, told.new_lead_id), (Became::Failed, None));
    assert!(told.why.unwrap().contains("ACCESS_DENIED"));
    assert_eq!(created(&world), [] as [u32; 0]);
    world.sandbox.clear_faults();
    let told = one(&world, lead).await;
    assert_eq!((told.result, told.method), (Became::Restored, Some(Creation::Add)));
    assert_eq!(created(&world), [new_lead(&told)]);
}

#[tokio::test(start_paused = true)]
async fn no_deletion_is_undone_twice_even_by_an_older_backup() {
    let (world, lead, _) = deleted(SandboxOptions::default()).await;
    let told = one(&world, lead).await;
    let again = one(&world, lead).await;
    assert_eq!((again.result, again.new_lead_id), (Became::AlreadyRestored, told.new_lead_id));
    world.write(|db| db.execute_batch("DELETE FROM restores; DELETE FROM lead_protections")).await;
    let backup = restore(&world, &Which::Leads(vec![id(lead)]), true).await.leads.remove(0);
    assert_eq!((backup.result, backup.new_lead_id), (Became::AlreadyRestored, told.new_lead_id));
    assert_eq!(created(&world), [new_lead(&told)]);
    world.run("junk").await;
    world.settled(HOUR).await;
    assert!(world.exists(new_lead(&told)), "its protection is known again");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_looked_up_and_the_lead_is_there_once() {
    for kind in [FaultKind::Drop, FaultKind::Truncated, FaultKind::Late { seconds: 80.0 }] {
        let (world, lead, _) = deleted(SandboxOptions::default()).await;
        world.sandbox.set_fault(Fault::new(kind.clone()).on(IMPORT).nth(0, 1));
        let told = one(&world, lead).await;
        assert_eq!(told.result, Became::Restored, "{kind:?}: {told:?}");
        assert_eq!(created(&world), [new_lead(&told)], "{kind:?}");
        assert_eq!(told.differs.unwrap(), ["lastActivityTime"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_looked_up_is_never_sent_again_unless_a_person_says_so() {
    let (world, lead, _) = deleted(SandboxOptions::default()).await;
    world.sandbox.set_fault(Fault::new(FaultKind::Html { status: 502 }).on(IMPORT).nth(0, 1));
    for _ in 0..2 {
        let told = one(&world, lead).await;
        assert_eq!(told.result, Became::Unknown, "{told:?}");
        assert!(told.why.unwrap().contains("--again"));
        assert_eq!(created(&world), [] as [u32; 0]);
        assert_eq!(world.sandbox.stats().requests_by_method[IMPORT], 1);
    }
    let told = restore(&world, &Which::Leads(vec![id(lead)]), true).await.leads.remove(0);
    assert_eq!(told.result, Became::Restored);
    assert_eq!(created(&world), [new_lead(&told)]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_dies_while_a_lead_is_created_finds_it_and_no_rule_takes_it() {
    let text = rules(
        "rules:\n  - { name: junk, schedule: \"0 3 * * *\", events: [ONCRMLEADADD, ONCRMLEADUPDATE], match: { stageId: \
         JUNK } }\n",
    );
    for executed in [true, false] {
        let mut world = World::new(0, &text).await;
        let lead = world.place(full(&world));
        world.run("junk").await;
        world.settled(HOUR).await;
        // Created as new, so that its times give nothing away.
        world.sandbox.insert(world.fresh("NEW"));
        world.kill_at(|seen| seen.method == IMPORT, 1, executed);
        {
            let ctx = world.engine().context().hurried();
            let rules = ctx.rules();
            let which = Which::Leads(vec![id(lead)]);
            let work = restore::restore(&ctx, &rules, &which, false, Listener::Here(&|_, _| ()));
            assert!(tokio::time::timeout(MINUTE, work).await.is_err(), "it never ends");
        }
        world.start_again().await;
        assert!(world.read(restores::in_flight).await);
        world.run("junk").await;
        world.advance(5 * MINUTE).await;
        assert!(!world.read(restores::in_flight).await);
        world.run("junk").await;
        world.settled(HOUR).await;
        assert_eq!(created(&world).len(), usize::from(executed), "executed: {executed}");
        let told = one(&world, lead).await;
        let expected = if executed { Became::AlreadyRestored } else { Became::Unknown };
        assert_eq!(told.result, expected, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_in_the_making_is_taken_by_no_event_and_no_run() {
    let text = rules(
        "rules:\n  - { name: junk, schedule: \"0 3 * * *\", events: [ONCRMLEADADD, ONCRMLEADUPDATE], match: { stageId: \
         JUNK } }\n",
    );
    let mut world = World::new(0, &text).await;
    let lead = world.place(full(&world));
    world.run("junk").await;
    world.settled(HOUR).await;
    world.sandbox.insert(world.fresh("NEW"));
    // Created at once, answered after twenty seconds.
    world.sandbox.set_fault(Fault::new(FaultKind::Late { seconds: 20.0 }).on(IMPORT).nth(1, 1));
    let told = {
        let meanwhile = async {
            world.advance(5 * SECOND).await;
            let new = world.sandbox.ids_where(|lead| lead.title.contains("Zebulon"));
            assert_eq!(new.len(), 1, "it is there before we know");
            let run = world.run("junk").await;
            assert_eq!(run.enqueued, 1, "its id is not known yet");
            world.advance(10 * SECOND).await;
            assert!(world.exists(new[0]));
            assert_eq!(world.job(new[0]).await.reason.as_deref(), Some("protected: restored"));
        };
        let (told, ()) = tokio::join!(one(&world, lead), meanwhile);
        told
    };
    assert_eq!(told.result, Became::Restored);
    world.settled(HOUR).await;
    assert!(world.exists(new_lead(&told)));
}

#[tokio::test(start_paused = true)]
async fn a_restored_lead_is_protected_for_thirty_days_and_then_a_lead_as_any() {
    let (mut world, lead, _) = deleted(SandboxOptions::default()).await;
    let new = new_lead(&one(&world, lead).await);
    world.stop().await;
    world.advance(29 * DAY).await;
    world.start().await;
    assert_eq!(world.run("junk").await.protected, 1);
    assert!(world.exists(new));
    world.stop().await;
    world.advance(2 * DAY).await;
    world.start().await;
    world.run("junk").await;
    world.settled(HOUR).await;
    assert_eq!(world.outcome(new).await, Some(Outcome::Deleted));
    // Which can be undone in its turn, as another deletion.
    let told = one(&world, new).await;
    assert_eq!(told.result, Became::Restored, "{told:?}");
    assert_ne!(new_lead(&told), new);
}

#[tokio::test(start_paused = true)]
async fn a_leads_own_origin_is_put_back() {
    let mut world = World::new(0, &nightly()).await;
    let mut lead = full(&world);
    assert!(lead.set("originId", &"order-17".into()) && lead.set("originatorId", &"shop".into()));
    let lead = world.place(lead);
    world.run("junk").await;
    world.settled(HOUR).await;
    let told = one(&world, lead).await;
    let after = fields(&world, new_lead(&told)).await;
    assert_eq!((&after["originatorId"], &after["originId"]), (&json!("shop"), &json!("order-17")));
    assert_eq!(one(&world, lead).await.result, Became::AlreadyRestored);
}

#[tokio::test(start_paused = true)]
async fn without_a_copy_it_is_said_why_and_nothing_is_asked_of_the_portal() {
    let text = nightly().replace("mode: delete", "mode: delete, keep_copy: none");
    let mut world = World::new(0, &text).await;
    let lead = world.place(full(&world));
    let stranger = world.lead("NEW");
    let run = world.run("junk").await;
    world.settled(HOUR).await;
    let requests = world.sandbox.stats().requests;
    let report = restore(&world, &Which::Run(run.id), false).await;
    assert_eq!(report.leads[0].lead_id, id(lead));
    assert_eq!(report.leads[0].result, Became::NotPossible);
    assert!(report.leads[0].why.as_ref().unwrap().contains("`keep_copy: none`"));
    let told = one(&world, stranger).await;
    assert!(told.why.unwrap().contains("no deletion"));
    assert_eq!(world.sandbox.stats().requests, requests);
    world.stop().await;

    let (mut world, lead, _) = deleted(SandboxOptions::default()).await;
    world.stop().await;
    world.advance(31 * DAY).await;
    world.start().await;
    world.advance(2 * MINUTE).await;
    let told = one(&world, lead).await;
    assert!(told.why.unwrap().contains("expired"));
}

#[tokio::test(start_paused = true)]
async fn the_leads_of_a_run_and_of_a_rule_since_a_time_are_restored_each_once() {
    let mut world = World::new(0, &nightly()).await;
    let mut of_run = Vec::new();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let leads: Vec<u32> = (0..60).map(|_| world.place(full(&world))).collect();
        runs.push(world.run("junk").await);
        world.settled(HOUR).await;
        of_run.push(leads);
    }
    let since = runs[1].started_at;
    let report = restore(&world, &Which::Rule { rule: "junk".to_owned(), since }, false).await;
    assert_eq!(report.leads.iter().map(|told| told.lead_id.get()).collect::<Vec<_>>(), of_run[1]);
    assert_eq!(world.sandbox.stats().calls_by_method[IMPORT], 60, "one request a lead");
    // The portal creates none before one that is there, and is not asked to for each.
    world.sandbox.insert(world.fresh("NEW"));
    let report = restore(&world, &Which::Run(runs[0].id), false).await;
    assert_eq!(world.sandbox.stats().calls_by_method[IMPORT], 60 + 61);
    assert_eq!(report.leads.iter().map(|told| told.lead_id.get()).collect::<Vec<_>>(), of_run[0]);
    assert!(report.leads.iter().all(|told| told.result == Became::Restored));
    assert_eq!(created(&world).len(), 120);
    let report = restore(&world, &Which::Run(runs[0].id), false).await;
    assert!(report.leads.iter().all(|told| told.result == Became::AlreadyRestored));
    assert_eq!(created(&world).len(), 120);
    world.assert_within_limits();
}
