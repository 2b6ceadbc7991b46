//! A whole service and its portal in one process, in paused time: nothing waits, and every order of things is exact.
//!
//! The store runs inline, since work in another thread would look like idleness and let time run ahead. A crash is a
//! store that is closed under the running loops: whatever they do afterwards reaches no disk, while a request that has
//! left goes on at the portal.

mod books;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use b24_janitor::clock::Clock;
use b24_janitor::core::lead::LeadId;
use b24_janitor::core::outcome::Outcome;
use b24_janitor::core::rule::RuleSet;
use b24_janitor::engine::evaluator::{self, Evaluated};
use b24_janitor::engine::{Courier, Engine, EngineError, Guards, Parts, online};
use b24_janitor::metrics::Metrics;
use b24_janitor::portal::{Access, CallError, Portal, PortalOptions, Transport};
use b24_janitor::rules::{self, Input};
use b24_janitor::sandbox::{Lead, Sandbox, SandboxOptions};
use b24_janitor::store::jobs::{Job, JobCounts, JobFilter};
use b24_janitor::store::runs::{Approval, Run, RunFilter, RunState, Trigger};
use b24_janitor::store::{OpenOptions, Store, Threads, control, copies, events, jobs, runs};
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use rusqlite::types::ValueRef;
use secrecy::SecretString;
use tower::ServiceExt;

use crate::listener::listener;
pub(crate) use crate::wires::Seen;
use crate::wires::{Ear, Tap, Taps, deliver, tapped, watch};

/// When every story begins.
pub(crate) const START: &str = "2026-06-01T00:00:00Z";
/// How often the engine looks for the writes of other processes. These stories share the store, hence seldom.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(30);

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// The running service.
pub(crate) struct Service {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
}

/// A portal and a service.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) sandbox: Sandbox,
    service: Option<Service>,
    rules: String,
    file: PathBuf,
    taps: Taps,
    ear: Ear,
    known: BTreeSet<u32>,
    asks: bool,
    /// What the next start keeps an eye on.
    pub(crate) guards: Guards,
    /// Who brings the notices of the next start.
    pub(crate) courier: Courier,
    _directory: tempfile::TempDir,
    _watchdog: mpsc::Sender<()>,
}

/// Rules with the caps out of the way.
pub(crate) fn rules(rest: &str) -> String {
    format!(
        "version: 1\ntimezone: Etc/UTC\ndefaults: {{ mode: delete, limits: {{ max_matches: 100000, max_percent: 100, \
         deletes_per_day: 100000 }} }}\n{rest}"
    )
}

/// One rule that deletes junk at three every night.
pub(crate) fn nightly() -> String {
    rules("rules:\n  - { name: junk, schedule: \"0 3 * * *\", match: { stageId: JUNK } }\n")
}

pub(crate) fn parse(text: &str) -> RuleSet {
    let input = Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
    match rules::parse(&[input]) {
        Ok(loaded) => loaded.rules,
        Err(problems) => {
            let shown: Vec<String> = problems.iter().map(|problem| problem.render(false)).collect();
            panic!("{}", shown.join("\n"))
        }
    }
}

pub(crate) fn id(id: u32) -> LeadId {
    LeadId::try_from(i64::from(id)).unwrap()
}

pub(crate) fn junk(lead: &Lead) -> bool {
    &*lead.stage == "JUNK"
}

impl World {
    /// A portal of the documented limits with `leads` leads, and a service with these rules.
    pub(crate) async fn new(leads: usize, rules: &str) -> World {
        World::with(SandboxOptions { leads, ..SandboxOptions::default() }, rules).await
    }

    pub(crate) async fn with(options: SandboxOptions, rules: &str) -> World {
        let mut world = World::unstarted(options, rules);
        world.start().await;
        world
    }

    /// A portal, and a service that is not running yet.
    pub(crate) fn unstarted(options: SandboxOptions, rules: &str) -> World {
        let clock = Clock::starting_at(START.parse().unwrap());
        let sandbox = Sandbox::new(options, clock);
        let directory = match tempfile::tempdir_in("/dev/shm") {
            Ok(directory) => directory,
            Err(_) => tempfile::tempdir().unwrap(),
        };
        let ear = Ear::default();
        tokio::spawn(deliver(sandbox.events(), Arc::clone(&ear)));
        let known = sandbox.ids_where(|_| true).into_iter().collect();
        World {
            clock,
            service: None,
            rules: rules.to_owned(),
            file: directory.path().join("janitor.db"),
            taps: Taps::default(),
            ear,
            known,
            asks: false,
            guards: Guards::default(),
            courier: Courier::default(),
            sandbox,
            _directory: directory,
            _watchdog: watch(),
        }
    }

    /// Starts the service on the world's file, as at boot.
    pub(crate) async fn start(&mut self) {
        let store = Store::open(&self.file, OpenOptions { threads: Threads::Inline, create: true }).unwrap();
        let rules = parse(&self.rules);
        let webhook = format!("http://portal.invalid{}", self.sandbox.webhook_path());
        let taps = self.taps.clone();
        let router = self.sandbox.router().layer(middleware::from_fn(move |request: Request, next: Next| {
            tapped(taps.clone(), request, next)
        }));
        let portal = Portal::new(
            Transport::InProcess(router),
            PortalOptions {
                access: Access::Webhook(SecretString::from(webhook)),
                limits: rules.portal,
                clock: self.clock,
                observer: None,
                pace: None,
            },
        );
        let metrics = Metrics::new();
        let parts =
            Parts { store: store.clone(), portal, clock: self.clock, metrics: metrics.clone(), seed: 7 };
        let engine = match self.unasked(&parts.portal, &rules).await {
            None => Engine::start(parts, rules).await.unwrap(),
            Some(why) => Engine::start_unchecked(parts, rules, &why).await.unwrap(),
        };
        let engine = engine.guarding(self.guards.clone()).notifying(self.courier.clone());
        engine.spawn(LOOK_EVERY);
        *self.ear.lock().unwrap() = Some(listener(engine.context()));
        self.service = Some(Service { engine, store, metrics });
    }

    /// Why the portal can't be asked about the rules, in a world that asks.
    async fn unasked(&self, portal: &Portal, rules: &RuleSet) -> Option<CallError> {
        if !self.asks {
            return None;
        }
        let report = online::check_rules(portal, rules).await;
        assert_eq!(report.errors().count(), 0, "such rules would not be started");
        report.unanswered
    }

    /// From now on the portal is asked about rules before they are taken into force, as `serve` does.
    pub(crate) fn ask(&mut self) {
        self.asks = true;
    }

    /// A reload as `serve` does it; `false` where the portal refused the rules.
    pub(crate) async fn reload_asking(&mut self, rules: &str) -> bool {
        let parsed = parse(rules);
        let report = online::check_rules(&self.engine().context().portal, &parsed).await;
        if report.errors().next().is_some() {
            return false;
        }
        match report.unanswered {
            None => self.engine().reload(parsed).await.unwrap(),
            Some(why) => self.engine().reload_unchecked(parsed, &why).await.unwrap(),
        }
        rules.clone_into(&mut self.rules);
        true
    }

    /// The rules that are unchecked, as a person sees them.
    pub(crate) async fn unchecked(&self) -> Vec<String> {
        let recorded = self.read(control::unchecked).await.rules;
        let held: Vec<String> = self.engine().context().unchecked().rules.into_iter().collect();
        assert_eq!(recorded, held, "`status` tells the truth");
        recorded
    }

    /// The power fails: nothing is finished, nothing more is written.
    pub(crate) async fn kill(&mut self) {
        let service = self.service.take().expect("the service runs");
        *self.ear.lock().unwrap() = None;
        service.store.clone().close().await;
        service.engine.context().stop.cancel();
    }

    /// An orderly end.
    pub(crate) async fn stop(&mut self) {
        let service = self.service.take().expect("the service runs");
        *self.ear.lock().unwrap() = None;
        assert!(service.engine.stop(Duration::from_secs(30)).await, "what was in flight took too long");
        service.store.close().await;
    }

    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    /// The next request of this kind is the last thing the service does: it reaches the portal if `executed`, and its
    /// answer never arrives.
    pub(crate) fn kill_at(&self, wanted: fn(&Seen) -> bool, skip: u32, executed: bool) {
        let service = self.service();
        let (store, stop) = (service.store.clone(), service.engine.context().stop.clone());
        let ear = Arc::clone(&self.ear);
        self.tap(!executed, wanted, skip, move || {
            Box::pin(async move {
                *ear.lock().unwrap() = None;
                store.close().await;
                stop.cancel();
                std::future::pending::<()>().await;
            })
        });
    }

    /// Clears away a service that [`World::kill_at`] ended, and starts it again.
    pub(crate) async fn start_again(&mut self) {
        let service = self.service.take().expect("a service was there");
        assert!(service.engine.context().stop.is_cancelled(), "the service was to be killed and is not");
        self.start().await;
    }

    /// Once, when the wanted request arrives at the portal (`before`) or its answer leaves.
    pub(crate) fn tap(
        &self,
        before: bool,
        wanted: fn(&Seen) -> bool,
        skip: u32,
        act: impl FnOnce() -> BoxFuture<'static, ()> + Send + 'static,
    ) {
        self.taps.0.lock().unwrap().push(Tap { before, skip, wanted, act: Box::new(act) });
    }

    /// Whether every tap was used.
    pub(crate) fn taps_are_used(&self) -> bool {
        self.taps.0.lock().unwrap().is_empty()
    }

    /// Gives up what has not happened yet.
    pub(crate) fn forget_taps(&self) {
        self.taps.0.lock().unwrap().clear();
    }

    /// The portal's events no longer reach the service.
    pub(crate) fn deafen(&self) {
        *self.ear.lock().unwrap() = None;
    }

    /// Sends an event of a lead, as the portal would; the answer's status.
    pub(crate) async fn post(&self, event: &str, lead: u32) -> StatusCode {
        let token = SandboxOptions::default().application_token;
        let body = format!("event={event}&data[FIELDS][ID]={lead}&auth[application_token]={token}");
        let request = Request::post("/bitrix24/events")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap();
        let router = self.ear.lock().unwrap().clone().expect("the service hears");
        router.oneshot(request).await.unwrap().status()
    }

    /// They reach it again.
    pub(crate) fn hear(&self) {
        let service = self.service();
        *self.ear.lock().unwrap() = Some(listener(service.engine.context()));
    }

    pub(crate) fn service(&self) -> &Service {
        self.service.as_ref().expect("the service runs")
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.service().engine
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time pass, every timer in its order.
    pub(crate) async fn advance(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Lets time pass until the clock shows `at`, and a moment more.
    pub(crate) async fn until(&self, at: &str) {
        let at: Timestamp = at.parse().unwrap();
        assert!(at > self.now(), "{at} has passed");
        self.clock.sleep_until(at).await;
        self.advance(Duration::from_millis(10)).await;
    }

    /// Lets time pass until no job is open and no event is pending.
    pub(crate) async fn settled(&self, at_most: Duration) {
        let begun = self.now();
        let last = begun.checked_add(at_most).unwrap();
        loop {
            let long = self.now().duration_since(begun) > SignedDuration::from_mins(10);
            self.advance(if long { MINUTE } else { SECOND }).await;
            let (counts, events) = self.read(|db| Ok((jobs::counts(db)?, events::counts(db)?))).await;
            if counts.waiting + counts.running + events.pending == 0 {
                return;
            }
            assert!(self.now() < last, "not settled in time: {counts:?}, {events:?}");
        }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        self.service().store.read(run).await.unwrap()
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> T {
        self.service().store.write(run).await.unwrap()
    }

    pub(crate) async fn reload(&mut self, rules: &str) {
        self.engine().reload(parse(rules)).await.unwrap();
        rules.clone_into(&mut self.rules);
    }

    /// What the next start reads, as an editor would leave it.
    pub(crate) fn edit(&mut self, rules: &str) {
        rules.clone_into(&mut self.rules);
    }

    /// `run RULE`.
    pub(crate) async fn run(&self, rule: &str) -> Run {
        match self.try_run(rule).await.unwrap() {
            Evaluated::Run(run) => *run,
            Evaluated::SkippedHeld(held) => panic!("skipped for held run {held}"),
        }
    }

    pub(crate) async fn try_run(&self, rule: &str) -> Result<Evaluated, EngineError> {
        let rules = self.engine().context().rules();
        let named = rules.rule(rule).expect("the rule is in the rules");
        evaluator::evaluate(self.engine().context(), &rules, named, Trigger::Manual).await
    }

    /// `approve RUN --count N`.
    pub(crate) async fn approve(&self, run: &Run, count: u64) -> Approval {
        let (rules, now, id, name) = (self.engine().context().rules(), self.now(), run.id, run.rule.clone());
        self.write(move |db| {
            let rule = rules.rule(&name);
            let text = rule.map(|rule| rule.text());
            let mode = rule.map(|rule| rule.mode).unwrap_or_default();
            let grace = rule.map_or(0, |rule| rule.grace_period.seconds().unsigned_abs());
            runs::approve(db, id, count, text.as_deref(), mode, grace, now)
        })
        .await
    }

    pub(crate) async fn pause(&self, paused: bool) {
        let now = self.now();
        self.write(move |db| control::set_paused(db, paused, now)).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The loops of this world must not run on beside those of the next one in the same story.
        if let Some(service) = &self.service {
            service.engine.context().stop.cancel();
        }
    }
}
