//! What a restart of the service does to the portal's pace: nothing that the portal would notice; and that listing does
//! not hold it up.

#![cfg(test)]

use std::path::Path;
use std::time::Duration;

use b24_janitor::clock::Clock;
use b24_janitor::core::age::Age;
use b24_janitor::core::rule::{PortalLimits, RuleSet};
use b24_janitor::engine::{Engine, EngineError, Parts, evaluator, pace, plan};
use b24_janitor::metrics::Metrics;
use b24_janitor::portal::{Access, PaceSnapshot, Portal, PortalOptions, Transport};
use b24_janitor::rules;
use b24_janitor::sandbox::{Fault, FaultKind, Sandbox, SandboxOptions};
use b24_janitor::store::runs::Trigger;
use b24_janitor::store::{OpenOptions, Store, Threads, control};
use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::{Map, Value};

const LOOK_EVERY: SignedDuration = SignedDuration::from_millis(250);

fn open(dir: &Path) -> Store {
    let options = OpenOptions { threads: Threads::Inline, create: true };
    Store::open(&dir.join("janitor.db"), options).unwrap()
}

/// As a command makes it.
async fn client(sandbox: &Sandbox, store: &Store, clock: Clock) -> Portal {
    let webhook = SecretString::from(format!("https://portal.example{}", sandbox.webhook_path()));
    let options = PortalOptions {
        access: Access::Webhook(webhook),
        limits: PortalLimits::default(),
        clock,
        observer: None,
        pace: pace::recall(store).await,
    };
    let portal = Portal::new(Transport::InProcess(sandbox.router()), options);
    pace::keep(store, &portal, clock.now()).await.unwrap();
    portal
}

async fn engine(portal: Portal, store: Store, clock: Clock) -> Engine {
    let parts = Parts { store, portal, clock, metrics: Metrics::new(), seed: 1 };
    let keep_history = Age::parse("365d").unwrap();
    let rules = RuleSet {
        rules: Vec::new(),
        protections: Vec::new(),
        portal: PortalLimits::default(),
        keep_history,
        notify: Vec::new(),
    };
    Engine::start(parts, rules).await.unwrap()
}

async fn kept(store: &Store) -> Value {
    let text = store.read(|db| control::get(db, "pace")).await.unwrap().unwrap();
    assert!(PaceSnapshot::parse(&text).is_some());
    serde_json::from_str(&text).unwrap()
}

/// Lists single leads as fast as the pace allows, for so long.
async fn list_for(portal: &Portal, time: Duration) {
    let listing = async {
        loop {
            portal.list_chain(&Map::new(), None, &[], 1).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(time, listing).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn whenever_a_process_ends_the_next_one_is_never_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::starting_at("2026-11-25T00:00:00Z".parse().unwrap());
    let sandbox = Sandbox::new(SandboxOptions { leads: 60, ..SandboxOptions::default() }, clock);
    // How long each life is, whether it ends in order, and how long none runs.
    for (life_ms, orderly, down_ms) in [
        (0, false, 0),
        (100, false, 0),
        (100, false, 50),
        (4_000, true, 0),
        (30, true, 10_000),
        (6_000, false, 30_000),
        (500, true, 20_000),
        (500, false, 100),
        (1, true, 100),
        (1, false, 60_000),
        (20_000, true, 100),
    ] {
        let store = open(dir.path());
        let portal = client(&sandbox, &store, clock).await;
        list_for(&portal, Duration::from_millis(life_ms)).await;
        if orderly {
            engine(portal, store.clone(), clock).await.stop(Duration::from_secs(1)).await;
        }
        store.close().await;
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
    }
    let stats = sandbox.stats();
    assert!(stats.requests > 100, "{}", stats.requests);
    assert_eq!(stats.refused_503, 0);
}

#[tokio::test(start_paused = true)]
async fn a_running_service_keeps_the_pace_within_five_seconds_and_closes_it_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::starting_at("2026-11-25T00:00:00Z".parse().unwrap());
    let sandbox = Sandbox::new(SandboxOptions { leads: 60, ..SandboxOptions::default() }, clock);
    let store = open(dir.path());
    let portal = client(&sandbox, &store, clock).await;
    let engine = engine(portal.clone(), store.clone(), clock).await;
    engine.spawn(LOOK_EVERY);
    tokio::time::sleep(Duration::from_secs(7)).await;
    let quiet = kept(&store).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(kept(&store).await, quiet, "nothing was sent, nothing is written");

    for _ in 0..40 {
        portal.list_chain(&Map::new(), None, &[], 2).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    let busy = kept(&store).await;
    assert!(busy["bucket"]["level"].as_f64().unwrap() > 25.0, "{busy}");
    assert_eq!(busy["closed"], false);

    assert!(engine.stop(Duration::from_secs(30)).await);
    assert_eq!(kept(&store).await["closed"], true);
    let _next = client(&sandbox, &store, clock).await;
    assert_eq!(kept(&store).await["closed"], false, "the next process may send from now on");
}

/// A rule that selects every lead of the sandbox, and what evaluates it.
async fn surveyor(options: SandboxOptions, dir: &Path) -> (Sandbox, Engine) {
    let clock = Clock::starting_at("2026-11-25T00:00:00Z".parse().unwrap());
    let sandbox = Sandbox::new(options, clock);
    let store = open(dir);
    let portal = client(&sandbox, &store, clock).await;
    let text = "version: 1\ntimezone: UTC\nrules:\n  - name: all\n    schedule: '@daily'\n    match: { id: { gt: 0 } }\n";
    let input = rules::Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
    let rules = rules::parse(&[input]).unwrap().rules;
    let parts = Parts { store, portal, clock, metrics: Metrics::new(), seed: 1 };
    (sandbox, Engine::start(parts, rules).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_rule_reads_its_leads_in_chains() {
    let dir = tempfile::tempdir().unwrap();
    let (sandbox, engine) =
        surveyor(SandboxOptions { leads: 20_000, ..SandboxOptions::default() }, dir.path()).await;
    let ctx = engine.context();
    let rules = ctx.rules();
    let report = plan::plan(ctx, &rules, &rules.rules[0], false, |_| ()).await.unwrap();
    assert_eq!(report.matched + report.undecidable + report.left_out, 20_000);
    let stats = sandbox.stats();
    assert!(stats.requests <= 15, "{} requests", stats.requests);
    assert_eq!(stats.requests_by_method["batch"], 9);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_waits_for_its_budget_ends_at_once_when_the_service_stops() {
    let dir = tempfile::tempdir().unwrap();
    let slow =
        SandboxOptions { leads: 60_000, list_seconds: 2.0, sleep_scale: 1.0, ..SandboxOptions::default() };
    let (sandbox, engine) = surveyor(slow, dir.path()).await;
    let (ctx, rules) = (engine.context().clone(), engine.context().rules());
    let plan =
        tokio::spawn(async move { plan::plan(&ctx, &rules, &rules.rules[0], false, |_| ()).await.map(drop) });
    tokio::time::sleep(Duration::from_secs(520)).await;
    let sent = sandbox.stats().requests;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(sandbox.stats().requests, sent, "the budget is used up");
    let began = tokio::time::Instant::now();
    engine.stop(Duration::from_secs(30)).await;
    assert!(matches!(plan.await.unwrap(), Err(EngineError::Stopping)));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(sandbox.stats().refused_429, 0);
}

#[tokio::test(start_paused = true)]
async fn lanes_stand_back_while_others_share_the_address_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::starting_at("2026-11-25T00:00:00Z".parse().unwrap());
    // Half a second a deletion: a request takes seconds, so lanes that may run do overlap.
    let slow =
        SandboxOptions { leads: 3_000, delete_seconds: 0.5, sleep_scale: 1.0, ..SandboxOptions::raised() };
    let sandbox = Sandbox::new(slow, clock);
    let store = open(dir.path());
    let portal = client(&sandbox, &store, clock).await;
    let text = "version: 1\ntimezone: UTC\nrules:\n  - name: all\n    schedule: '@daily'\n    match: { id: { gt: 0 } }\n    \
                include_converted: true\n    mode: delete\n    limits: { max_matches: 10000, max_percent: 100 }\n";
    let input = rules::Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
    let mut rules = rules::parse(&[input]).unwrap().rules;
    rules.portal = PortalLimits {
        requests_per_second: 1_000.0,
        burst: 10_000,
        method_seconds: 1e8,
        concurrency: 4,
        ..PortalLimits::default()
    };
    let parts = Parts { store, portal, clock, metrics: Metrics::new(), seed: 1 };
    let engine = Engine::start(parts, rules).await.unwrap();
    let (ctx, rules) = (engine.context(), engine.context().rules());
    evaluator::evaluate(ctx, &rules, &rules.rules[0], Trigger::Manual).await.unwrap();

    let code = "QUERY_LIMIT_EXCEEDED".to_owned();
    sandbox.set_fault(Fault::new(FaultKind::Error { code, text: "x".to_owned(), status: 503 }).on("batch"));
    engine.spawn_worker();
    tokio::time::sleep(Duration::from_secs(40)).await;
    sandbox.clear_faults();
    let deleted = sandbox.stats().deletions.len();
    let most = most_in_flight(&sandbox, 30).await;
    assert!(sandbox.stats().deletions.len() > deleted, "the deletions go on");
    assert_eq!(most, 1, "others need the room");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(most_in_flight(&sandbox, 30).await > 2, "the room is free again");
    assert!(engine.stop(Duration::from_secs(60)).await);
}

/// The most requests under way at a moment of the next so many seconds.
async fn most_in_flight(sandbox: &Sandbox, seconds: u64) -> u64 {
    let mut most = 0;
    for _ in 0..seconds * 20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(sandbox.stats().in_flight);
    }
    most
}
