//! What is kept, what is not, and a service that has nothing to do.

use b24_janitor::core::outcome::Outcome;
use b24_janitor::sandbox::{Contact, Lead};

use crate::world::*;

fn telling(world: &World) -> Lead {
    let mut lead = world.fresh("JUNK");
    lead.title = "Zebulon Quartermain asks".into();
    lead.contacts = vec![
        Contact { id: 0, phone: true, value: "+49 555 7654321".into() },
        Contact { id: 0, phone: false, value: "zebulon@secret.example".into() },
    ];
    assert!(lead.set("name", &"Zebulon".into()));
    assert!(lead.set("ufCrm_1700000000", &"very private remark".into()));
    lead
}

#[tokio::test(start_paused = true)]
async fn the_copy_of_a_deleted_lead_holds_every_field_and_ends_with_its_time() {
    let mut world = World::new(0, &nightly()).await;
    let lead = world.place(telling(&world));
    world.run("junk").await;
    world.settled(HOUR).await;
    let copy = world.copy(lead).await.unwrap();
    let fields: serde_json::Value = serde_json::from_str(&copy.fields_json).unwrap();
    assert_eq!(fields["title"], "Zebulon Quartermain asks");
    assert_eq!(fields["stageId"], "JUNK");
    assert_eq!(fields["ufCrm_1700000000"], "very private remark");
    assert!(
        copy.fields_json.contains("+49 555 7654321") && copy.fields_json.contains("zebulon@secret.example")
    );
    assert!(copy.deleted_at.is_some());
    world.stop().await;
    world.advance(31 * DAY).await;
    world.start().await;
    world.advance(2 * MINUTE).await;
    assert!(world.copy(lead).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_keep_copy_nothing_is_kept_and_for_a_spared_lead_neither() {
    let text = nightly().replace("mode: delete", "mode: delete, keep_copy: none");
    let mut world = World::new(0, &text).await;
    let lead = world.place(telling(&world));
    world.run("junk").await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&[lead]);
    assert!(world.copy(lead).await.is_none());

    let mut world = World::new(0, &nightly()).await;
    let lead = world.place(telling(&world));
    world.sandbox.veto(lead, "Zebulon stays");
    world.run("junk").await;
    world.settled(HOUR).await;
    assert_eq!(world.outcome(lead).await, Some(Outcome::Failed));
    assert!(world.copy(lead).await.is_none());
}

/// What [`telling`] plants, as it may stand in a file.
const PLANTED: &[&str] = &["Zebulon", "Quartermain", "7654321", "secret.example", "very private"];

fn found_in(bytes: &[u8]) -> Vec<&'static str> {
    let holds =
        |word: &&&str| bytes.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
    PLANTED.iter().filter(holds).copied().collect()
}

#[tokio::test(start_paused = true)]
async fn without_keep_copy_no_byte_of_a_lead_is_in_the_file_before_or_after_its_retention() {
    let text = nightly()
        .replace("mode: delete", "mode: delete, keep_copy: none, keep_history: 9d")
        .replace("name: junk,", "name: junk, events: [ONCRMLEADUPDATE],");
    let mut world = World::new(0, &text).await;
    let deleted = world.place(telling(&world));
    let refused = world.place(telling(&world));
    let cancelled = world.place(telling(&world));
    world.sandbox.veto(refused, "this lead stays");
    world.run("junk").await;
    world.settled(HOUR).await;
    world.sandbox.colleague_update(cancelled, |lead| lead.title = "Quartermain calls back".into());
    world.settled(HOUR).await;
    assert!(!world.exists(deleted));
    // What lives on would be judged again after the retention.
    assert!(world.sandbox.colleague_delete(refused));
    world.advance(MINUTE).await;
    assert_eq!(found_in(&world.bytes()), [] as [&str; 0], "while the history is kept");
    world.stop().await;
    assert_eq!(found_in(&world.bytes()), [] as [&str; 0], "after an orderly end");
    world.advance(10 * DAY).await;
    world.start().await;
    world.advance(3 * MINUTE).await;
    assert_eq!(world.jobs().await, [], "the history is over");
    assert_eq!(found_in(&world.bytes()), [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn when_the_time_of_a_copy_is_over_no_byte_of_it_stays_in_a_free_page() {
    let mut world = World::new(0, &nightly()).await;
    for _ in 0..30 {
        world.place(telling(&world));
    }
    world.run("junk").await;
    world.settled(HOUR).await;
    assert_eq!(found_in(&world.bytes()), PLANTED, "the copies are there");
    world.stop().await;
    world.advance(31 * DAY).await;
    world.start().await;
    world.advance(2 * MINUTE).await;
    world.stop().await;
    assert_eq!(found_in(&world.bytes()), [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_leads_texts_are_nowhere_but_in_its_copy() {
    let text = rules(
        "protect:\n  - { name: vip, match: { title: { contains: vip } } }\nrules:\n  - name: told\n    \
         schedule: \"0 3 * * *\"\n    events: [ONCRMLEADADD, ONCRMLEADUPDATE]\n    grace_period: 1h\n    match:\n      \
         any:\n        - { title: { contains: zebulon }, name: { starts_with: Ze }, ufCrm_1700000000: { contains: private } }\n        \
         - { stageId: NEW }\n",
    );
    let mut world = World::new(0, &text).await;
    let deleted = world.arrives(telling(&world));
    let spared = world.arrives(telling(&world));
    let protected = world.arrives({
        let mut lead = telling(&world);
        lead.title = "Zebulon, a VIP".into();
        lead
    });
    let dull = world.arrives({
        let mut lead = telling(&world);
        lead.title = "Hieronymus".into();
        lead
    });
    world.advance(MINUTE).await;
    world.run("told").await;
    world.sandbox.colleague_update(spared, |lead| lead.title = "Hieronymus calls".into());
    world.settled(3 * HOUR).await;
    world.run("told").await;
    world.assert_only_deleted(&[deleted]);
    assert!(world.exists(protected) && world.exists(dull));
    for (table, text) in world.dump().await {
        for word in ["Quartermain", "Hieronymus", "VIP", "7654321", "@secret", "very private"] {
            assert!(!text.contains(word), "{word} in {table}: {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_with_nothing_to_do_does_nothing() {
    let world = World::new(100, &nightly().replace("0 3 * * *", "0 3 1 1 *")).await;
    world.run("junk").await;
    world.settled(HOUR).await;
    world.advance(5 * MINUTE).await;
    let requests = world.sandbox.stats().requests;
    let changes = *world.service().store.changes().borrow();
    world.advance(DAY).await;
    assert_eq!(world.sandbox.stats().requests, requests);
    let written = *world.service().store.changes().borrow() - changes;
    // One sign of life in twenty seconds, and nothing that answers to it.
    assert!(written <= 24 * 3600 / 20 + 10, "{written} commits in an idle day");
}

#[tokio::test(start_paused = true)]
async fn jobs_that_can_not_go_on_ask_nothing_of_the_portal() {
    let text =
        nightly().replace("deletes_per_day: 100000", "deletes_per_day: 10").replace("0 3 * * *", "0 3 1 1 *");
    let world = World::new(200, &text).await;
    world.run("junk").await;
    world.advance(HOUR).await;
    let requests = world.sandbox.stats().requests;
    let changes = *world.service().store.changes().borrow();
    world.advance(5 * HOUR).await;
    assert_eq!(world.sandbox.stats().requests, requests);
    let written = *world.service().store.changes().borrow() - changes;
    assert!(written <= 5 * 3600 / 20 + 10, "{written} commits while everything waits");
    assert_eq!(world.counts().await.deleted, 10);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_can_not_go_on_do_not_use_up_the_pace_of_others() {
    let text =
        nightly().replace("deletes_per_day: 100000", "deletes_per_day: 10").replace("0 3 * * *", "0 3 1 1 *");
    let world = World::new(10_000, &text).await;
    world.run("junk").await;
    world.advance(10 * MINUTE).await;
    for _ in 0..3000 {
        // Anything that writes wakes the worker.
        world.pause(false).await;
        world.advance(SECOND / 10).await;
        world.pause(true).await;
        world.pause(false).await;
    }
    let begun = world.now();
    world.run("junk").await;
    let requests = world.sandbox.ids_where(junk).len() / 50 + 2;
    let took = world.now().duration_since(begun).as_secs();
    let at_best = (requests as i64 - 50) / 2;
    assert!(took <= at_best + 5, "{took} s where {at_best} s would do");
}
