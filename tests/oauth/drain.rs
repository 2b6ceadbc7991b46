//! The worker as a local application, while its token expires.

use std::time::Duration;

use b24_janitor::core::rule::RuleSet;
use b24_janitor::engine::evaluator::{self, Evaluated};
use b24_janitor::engine::{Engine, Parts};
use b24_janitor::metrics::Metrics;
use b24_janitor::portal::{Access, Portal, PortalOptions, Transport};
use b24_janitor::rules::{self, Input};
use b24_janitor::sandbox::{Lead, OauthApp, Sandbox, SandboxOptions};
use b24_janitor::store::runs::Trigger;
use b24_janitor::store::{OpenOptions, Store, Threads, control, jobs};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use super::{CLIENT, FIRST, KEY, Safe, application, clock};

/// Leads to delete, half a second of the portal's time each: some minutes of work.
const LEADS: usize = 400;
/// The token has this long to live when the work begins.
const LEFT: Duration = Duration::from_secs(30);

fn rules() -> RuleSet {
    let text = "version: 1\ntimezone: Etc/UTC\nrules:\n  - { name: all-junk, schedule: \"0 3 * * *\", mode: delete, \
                match: { stageId: JUNK }, limits: { max_matches: 100000, max_percent: 100 } }\n";
    let input = Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
    rules::parse(&[input]).unwrap().rules
}

#[tokio::test(start_paused = true)]
async fn a_drain_during_which_the_token_expires_renews_it_once_and_loses_nothing() {
    let clock = clock();
    let oauth = OauthApp {
        client_id: CLIENT.to_owned(),
        client_secret: KEY.to_owned(),
        refresh_token: FIRST.to_owned(),
    };
    let sandbox = Sandbox::new(
        SandboxOptions {
            oauth: Some(oauth),
            delete_seconds: 0.5,
            sleep_scale: 1.0,
            ..SandboxOptions::default()
        },
        clock,
    );
    for _ in 0..LEADS {
        let mut lead = Lead::new("lead", sandbox.now());
        assert!(lead.set("stageId", &json!("JUNK")));
        sandbox.insert(lead);
    }
    let dir = TempDir::new().unwrap();
    let options = OpenOptions { threads: Threads::Inline, create: true };
    let store = Store::open(&dir.path().join("janitor.db"), options).unwrap();
    let (safe, rules) = (Safe::default(), rules());
    let portal = Portal::new(
        Transport::InProcess(safe.diary.of(sandbox.router())),
        PortalOptions {
            access: Access::OAuth(application(safe.vault(), "https://portal.example")),
            limits: rules.portal,
            clock,
            observer: None,
            pace: None,
        },
    );
    portal.probe().await.unwrap();
    sleep(Duration::from_secs(3600) - LEFT).await;
    let parts = Parts { store: store.clone(), portal, clock, metrics: Metrics::new(), seed: 1 };
    let engine = Engine::start(parts, rules).await.unwrap();
    let rules = engine.context().rules();
    let rule = rules.rule("all-junk").unwrap();
    let run = evaluator::evaluate(engine.context(), &rules, rule, Trigger::Manual).await.unwrap();
    let Evaluated::Run(run) = run else { panic!("the run is skipped") };
    let (name, since) = (run.rule, run.started_at);
    engine.spawn_worker();
    let mut looks = 0;
    let progress = loop {
        sleep(Duration::from_secs(1)).await;
        looks += 1;
        let now = clock.now();
        let name = name.clone();
        let progress = store.read(move |db| jobs::progress_of_rule(db, &name, since, now)).await.unwrap();
        if progress.due + progress.running + progress.later == 0 {
            break progress;
        }
        assert!(looks < 1800, "{progress:?}");
        assert_eq!(store.read(control::portal_stop).await.unwrap(), None);
    };
    assert_eq!((progress.deleted, progress.done()), (LEADS as u64, LEADS as u64), "{progress:?}");
    assert_eq!(sandbox.lead_count(), 0);
    let lines = safe.diary.lines();
    let second = lines.iter().rposition(|line| line.starts_with("renew")).unwrap();
    assert_eq!(safe.diary.count("renew"), 2);
    assert_eq!(
        lines[second - 1],
        "call batch access00000001",
        "it was a deletion that met the expired token"
    );
    assert!(engine.stop(Duration::from_secs(30)).await);
}
