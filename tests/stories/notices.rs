//! Notices: who is told what, how often, and that nothing waits for a target.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use b24_janitor::core::notice::Happening;
use b24_janitor::core::rule::Mode;
use b24_janitor::engine::Courier;
use b24_janitor::sandbox::{Fault, SandboxOptions};
use b24_janitor::store::notices;
use b24_janitor::store::runs::{self, Approval, NewRun, Trigger};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::world::*;

const OPS: &str = "notify:\n  - name: ops\n    on: [held, finished, stopped, silence]\n    http: { url_env: JANITOR_NOTIFY_OPS_URL }\n";
const SILENCE: &str =
    "notify:\n  - name: ops\n    on: [silence]\n    http: { url_env: JANITOR_NOTIFY_OPS_URL }\n";
const CHAT: &str = "notify:\n  - { name: chat, on: [held, stopped], chat: { user_id: 7 } }\n";

/// A service that takes notices: what it got and when; how it answers next; whether it hangs.
#[derive(Clone, Default)]
struct Hook {
    got: Arc<Mutex<Vec<(Timestamp, String)>>>,
    refuses: Arc<Mutex<VecDeque<StatusCode>>>,
    hangs: Arc<Mutex<bool>>,
}

impl Hook {
    fn courier(&self, world: &World) -> Courier {
        let (hook, clock) = (self.clone(), world.clock);
        let router = Router::new().route(
            "/hook/s3cretkey",
            post(move |body: String| async move {
                if *hook.hangs.lock().unwrap() {
                    std::future::pending::<()>().await;
                }
                if let Some(status) = hook.refuses.lock().unwrap().pop_front() {
                    return status;
                }
                let value: serde_json::Value = serde_json::from_str(&body).unwrap();
                let text = value["text"].as_str().unwrap().to_owned();
                hook.got.lock().unwrap().push((clock.now(), text));
                StatusCode::OK
            }),
        );
        let secret = || SecretString::from("https://hooks.invalid/hook/s3cretkey".to_owned());
        Courier::in_process(router, Arc::new(move |_: &str| Ok(Some(secret()))))
    }

    fn texts(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }
}

/// Rules whose caps hold more than ten leads.
fn tight(rest: &str) -> String {
    format!(
        "version: 1\ntimezone: Etc/UTC\ndefaults: {{ mode: delete, limits: {{ max_matches: 10 }} }}\nrules:\n  - {{ name: junk, \
         schedule: \"0 3 * * *\", match: {{ stageId: JUNK }} }}\n{rest}"
    )
}

async fn with_hook(leads: usize, rules: &str) -> (World, Hook) {
    let hook = Hook::default();
    let mut world = World::unstarted(SandboxOptions { leads, ..SandboxOptions::default() }, rules);
    world.courier = hook.courier(&world);
    world.start().await;
    (world, hook)
}

/// A thing to tell, as often as wanted.
async fn silence(world: &World) {
    let now = world.now();
    world.write(move |db| notices::tell(db, &Happening::Silence { since: now }, now)).await;
}

#[tokio::test(start_paused = true)]
async fn a_held_run_is_told_within_seconds_with_the_command_that_approves_it() {
    let (world, hook) = with_hook(300, &tight(OPS)).await;
    let run = world.run("junk").await;
    world.advance(10 * SECOND).await;
    let texts = hook.texts();
    assert_eq!(texts.len(), 1, "{texts:?}");
    let command = format!("b24-janitor approve {} --count {}", run.id, run.would_enqueue);
    assert!(texts[0].contains(&command), "{texts:?}");
    world.advance(HOUR).await;
    assert_eq!(hook.texts().len(), 1, "it is told once");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_ended_is_summed_up_in_numbers() {
    let (world, hook) = with_hook(
        100,
        &rules(&format!(
            "rules:\n  - {{ name: junk, schedule: \"0 3 * * *\", match: {{ stageId: JUNK }} }}\n{OPS}"
        )),
    )
    .await;
    let run = world.run("junk").await;
    world.advance(10 * SECOND).await;
    let expected = format!(
        "Run {} of rule junk enqueued {} deletions: {} leads matched, 0 protected, 0 waiting already, 0 undecidable.",
        run.id, run.enqueued, run.matched
    );
    assert_eq!(hook.texts(), [expected]);
}

#[tokio::test(start_paused = true)]
async fn of_many_notices_one_a_minute_arrives_and_the_others_are_counted_in_it() {
    let (world, hook) = with_hook(0, &tight(OPS)).await;
    for _ in 0..8 {
        silence(&world).await;
    }
    world.advance(10 * SECOND).await;
    // The first eight were one, since nobody had looked yet.
    assert!(hook.texts()[0].ends_with("And 7 more of this kind since."), "{:?}", hook.texts());
    for _ in 0..3 {
        silence(&world).await;
    }
    world.advance(40 * SECOND).await;
    assert_eq!(hook.texts().len(), 1);
    world.advance(20 * SECOND).await;
    assert_eq!(hook.texts().len(), 2);
    assert!(hook.texts()[1].ends_with("And 2 more of this kind since."), "{:?}", hook.texts());
}

#[tokio::test(start_paused = true)]
async fn a_target_gets_twenty_notices_an_hour_at_most_and_every_one_is_counted() {
    let (world, hook) = with_hook(0, &tight(SILENCE)).await;
    let mut told = 0;
    for _ in 0..180 {
        silence(&world).await;
        told += 1;
        world.advance(MINUTE).await;
    }
    world.advance(HOUR).await;
    let got = hook.got.lock().unwrap().clone();
    for (index, (at, _)) in got.iter().enumerate() {
        let hour = got.iter().skip(index).filter(|(other, _)| other.duration_since(*at).as_secs() < 3600);
        assert!(hour.count() <= 20);
    }
    let counted: usize = got
        .iter()
        .map(|(_, text)| {
            text.rsplit_once("And ").map_or(0, |(_, more)| more.split(' ').next().unwrap().parse().unwrap())
                + 1
        })
        .sum();
    assert_eq!(counted, told);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_sent_is_tried_again_over_a_restart() {
    let (mut world, hook) = with_hook(300, &tight(OPS)).await;
    hook.refuses.lock().unwrap().extend([StatusCode::INTERNAL_SERVER_ERROR; 3]);
    world.run("junk").await;
    world.advance(10 * SECOND).await;
    assert!(hook.texts().is_empty());
    world.restart().await;
    world.advance(10 * MINUTE).await;
    assert_eq!(hook.texts().len(), 1);
    assert!(hook.refuses.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn after_a_day_a_notice_is_given_up_and_the_next_one_is_sent() {
    let (world, hook) = with_hook(0, &tight(SILENCE)).await;
    hook.refuses.lock().unwrap().extend([StatusCode::BAD_GATEWAY; 1000]);
    silence(&world).await;
    world.advance(DAY + HOUR).await;
    assert_eq!(world.read(notices::counts).await, (0, 1));
    hook.refuses.lock().unwrap().clear();
    world.advance(DAY).await;
    assert!(hook.texts().is_empty(), "what is older than a day is no news");
    silence(&world).await;
    world.advance(10 * SECOND).await;
    assert_eq!(hook.texts().len(), 1);
    let metrics = world.service().metrics.encode();
    assert!(metrics.contains("janitor_notices_total{target=\"ops\",result=\"given_up\"} 1"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_delays_neither_the_work_nor_another_target() {
    let both = format!("{OPS}  - {{ name: chat, on: [held, finished], chat: {{ user_id: 7 }} }}\n");
    let rules = rules(&format!(
        "rules:\n  - {{ name: junk, schedule: \"0 3 * * *\", match: {{ stageId: JUNK }} }}\n{both}"
    ));
    let hook = Hook::default();
    *hook.hangs.lock().unwrap() = true;
    let options = SandboxOptions {
        leads: 300,
        scope: vec!["crm".to_owned(), "im".to_owned()],
        ..SandboxOptions::default()
    };
    let mut world = World::unstarted(options, &rules);
    world.courier = hook.courier(&world);
    world.start().await;
    let expected = world.sandbox.ids_where(junk);
    world.run("junk").await;
    world.settled(5 * MINUTE).await;
    world.assert_only_deleted(&expected);
    world.advance(MINUTE).await;
    assert_eq!(world.sandbox.stats().notifications.len(), 1);
    assert!(hook.texts().is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_notification_in_the_portal_is_one_request_to_its_user() {
    let options = SandboxOptions {
        leads: 300,
        scope: vec!["crm".to_owned(), "im".to_owned()],
        ..SandboxOptions::default()
    };
    let world = World::with(options, &tight(CHAT)).await;
    let run = world.run("junk").await;
    world.advance(MINUTE).await;
    let stats = world.sandbox.stats();
    assert_eq!(stats.requests_by_method["im.notify.system.add"], 1);
    let [told] = stats.notifications.as_slice() else { panic!("{:?}", stats.notifications) };
    assert_eq!(told.user, 7);
    assert!(told.text.starts_with(&format!("Run {} of rule junk is held", run.id)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_scope_is_one_clear_sentence_and_stops_no_work() {
    let world = World::new(300, &tight(CHAT)).await;
    world.run("junk").await;
    world.advance(MINUTE).await;
    assert!(!world.stopped().await);
    let error: String =
        world.read(|db| db.query_row("SELECT error FROM notices", [], |row| row.get(0))).await;
    assert!(error.contains("add the scope `im`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_stops_is_told_once_and_is_not_asked_to_tell_it() {
    let both = format!("{OPS}  - {{ name: chat, on: [stopped], chat: {{ user_id: 7 }} }}\n");
    let (world, hook) = with_hook(300, &tight(&both)).await;
    for method in ["crm.item.list", "crm.item.fields"] {
        world.sandbox.set_fault(Fault::error(method, "INVALID_CREDENTIALS", "revoked", 401));
    }
    let _ = world.try_run("junk").await;
    world.advance(HOUR).await;
    assert!(world.stopped().await);
    let stopped: Vec<String> =
        hook.texts().into_iter().filter(|text| text.starts_with("The portal refuses")).collect();
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert!(!world.sandbox.stats().requests_by_method.contains_key("im.notify.system.add"));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_leaves_the_rules_is_told_nothing_more() {
    let (mut world, hook) = with_hook(0, &tight(OPS)).await;
    hook.refuses.lock().unwrap().extend([StatusCode::BAD_GATEWAY; 2]);
    silence(&world).await;
    world.advance(6 * SECOND).await;
    world.reload(&tight("")).await;
    silence(&world).await;
    world.advance(DAY).await;
    assert!(hook.texts().is_empty());
    assert_eq!(world.read(notices::counts).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_once_and_the_next_silence_again() {
    let hook = Hook::default();
    let rules = tight(SILENCE).replace("schedule: ", "events: [ONCRMLEADADD], schedule: ");
    let options = SandboxOptions { leads: 0, ..SandboxOptions::default() };
    let mut world = World::unstarted(options, &rules);
    world.courier = hook.courier(&world);
    world.guards.silence_alarm = Some(SignedDuration::from_hours(6));
    world.start().await;
    world.arrives(world.fresh("NEW"));
    world.advance(5 * HOUR).await;
    assert!(hook.texts().is_empty());
    world.deafen();
    world.advance(20 * HOUR).await;
    world.restart().await;
    world.advance(5 * HOUR).await;
    let texts = hook.texts();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].starts_with(&format!("No event has come since {}", &START[..13])), "{texts:?}");
    world.hear();
    world.arrives(world.fresh("NEW"));
    world.advance(HOUR).await;
    world.deafen();
    world.advance(7 * HOUR).await;
    assert_eq!(hook.texts().len(), 2);
}

/// What was told of this run, by its beginning.
fn of_run(hook: &Hook, run: i64) -> Vec<String> {
    let begin = format!("Run {run} of rule junk ");
    hook.texts().into_iter().filter(|text| text.starts_with(&begin)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_held_run_that_nobody_approves_is_told_of_once_more_when_it_expires() {
    let (mut world, hook) = with_hook(300, &tight(OPS)).await;
    let run = world.run("junk").await;
    world.advance(DAY + HOUR).await;
    world.restart().await;
    world.advance(HOUR).await;
    let told = of_run(&hook, run.id.0);
    assert_eq!(told.len(), 2, "{told:?}");
    let expired = format!(
        "Run {} of rule junk was held for 24 hours and nobody approved it: it has failed, and {} leads stay as they are.",
        run.id, run.would_enqueue
    );
    assert_eq!(told[1], expired);
}

#[tokio::test(start_paused = true)]
async fn a_held_run_that_a_later_one_replaces_is_told_to_have_ended() {
    let (world, hook) = with_hook(300, &tight(OPS)).await;
    let first = world.run("junk").await;
    world.advance(MINUTE).await;
    let second = world.run("junk").await;
    world.advance(HOUR).await;
    let told = of_run(&hook, first.id.0);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("a later run of the rule replaces it"), "{told:?}");
    assert_eq!(of_run(&hook, second.id.0).len(), 1, "it is held, and has not ended");
}

#[tokio::test(start_paused = true)]
async fn an_approved_run_is_told_with_what_it_enqueued() {
    let (world, hook) = with_hook(300, &tight(OPS)).await;
    let run = world.run("junk").await;
    world.advance(MINUTE).await;
    assert!(matches!(world.approve(&run, run.would_enqueue).await, Approval::Approved { .. }));
    world.advance(HOUR).await;
    let told = of_run(&hook, run.id.0);
    assert_eq!(told.len(), 2, "{told:?}");
    let enqueued = format!("Run {} of rule junk enqueued {} deletions: ", run.id, run.would_enqueue);
    assert!(told[1].starts_with(&enqueued), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_a_restart_interrupts_is_told_once() {
    let (mut world, hook) = with_hook(300, &tight(OPS)).await;
    let now = world.now();
    let run = world
        .write(move |db| {
            let new = NewRun {
                rule: "junk".to_owned(),
                rule_text: "text".to_owned(),
                trigger: Trigger::Manual,
                mode: Mode::Delete,
            };
            runs::start(db, &new, now)
        })
        .await;
    for _ in 0..3 {
        world.restart().await;
        world.advance(5 * MINUTE).await;
    }
    let told = of_run(&hook, run.0);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("was interrupted by a restart"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_held_notice_that_arrives_late_says_when_its_count_was_true() {
    let (world, hook) = with_hook(300, &tight(OPS)).await;
    hook.refuses.lock().unwrap().extend([StatusCode::BAD_GATEWAY; 5]);
    let run = world.run("junk").await;
    world.advance(HOUR).await;
    let told = of_run(&hook, run.id.0);
    let [told] = told.as_slice() else { panic!("{told:?}") };
    let then = format!("at {} {} leads waited for a person", START, run.would_enqueue);
    assert!(told.contains(&then), "{told}");
    assert!(hook.got.lock().unwrap()[0].0.duration_since(world_start()).as_mins() >= 1, "it came late");
}

fn world_start() -> Timestamp {
    START.parse().unwrap()
}
