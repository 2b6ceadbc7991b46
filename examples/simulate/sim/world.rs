//! The portal and the service of one seed: starting, dying at a commit, starting again.
//!
//! A service that died goes on nowhere: its store is closed, its requests neither leave nor are answered, and no event
//! reaches it. The file stays as the last commit left it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use b24_janitor::clock::Clock;
use b24_janitor::core::rule::RuleSet;
use b24_janitor::engine::{Engine, Parts, online, pace};
use b24_janitor::metrics::Metrics;
use b24_janitor::portal::{Access, Portal, PortalOptions, Transport};
use b24_janitor::rules::{self, Input};
use b24_janitor::sandbox::{Lead, Sandbox, SandboxOptions};
use b24_janitor::store::{CommitMoment, OpenOptions, Store, Threads};
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::sim::listener::listener;
use crate::sim::people::courier;
use crate::sim::report::Counts;
use crate::sim::spec::Spec;
use crate::sim::wires::Wire;

/// When every simulation begins: a Monday.
const START: &str = "2026-06-01T00:00:00Z";
/// How often the service looks for the writes of other processes. Here everyone shares its store, hence seldom.
const LOOK_EVERY: SignedDuration = SignedDuration::from_mins(30);
/// How much longer than usual loops rest that have nothing to do.
const LEISURE: i32 = 60;
/// How long an orderly stop waits for requests in flight, as `serve` does.
const GRACE: Duration = Duration::from_secs(30);

/// What a part of the simulation comes to; the text of an error says which promise was broken.
pub(crate) type Checked<T = ()> = Result<T, String>;

/// The running service.
pub(crate) struct Service {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    dead: Arc<AtomicBool>,
}

/// One seed's world.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) begun: Timestamp,
    pub(crate) sandbox: Sandbox,
    pub(crate) wire: Wire,
    pub(crate) spec: Spec,
    /// By how many milliseconds the clock of the service's machine is ahead of the portal's.
    pub(crate) skew: &'static AtomicI64,
    /// Whether that may change.
    pub(crate) skews: bool,
    /// Whether others use the portal from the same address.
    pub(crate) shared: bool,
    pub(crate) counts: Counts,
    pub(crate) service: Option<Service>,
    /// The next process dies at its commit of this number; 0 never.
    pub(crate) dies_at: u32,
    /// Whether it dies before that commit rather than after it.
    pub(crate) dies_before: bool,
    file: PathBuf,
    seed: u64,
    _directory: tempfile::TempDir,
}

pub(crate) fn parse(spec: &Spec) -> Checked<RuleSet> {
    let text = spec.yaml();
    let input = Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
    rules::parse(&[input]).map(|loaded| loaded.rules).map_err(|problems| {
        let shown: Vec<String> = problems.iter().map(|problem| problem.render(false)).collect();
        format!("the simulation wrote bad rules: {}\n{text}", shown.join("\n"))
    })
}

impl World {
    pub(crate) fn new(seed: u64, options: SandboxOptions, spec: Spec) -> Checked<World> {
        let start: Timestamp = START.parse().map_err(|error| format!("{error}"))?;
        let clock = Clock::starting_at(start);
        let sandbox = Sandbox::new(options, clock);
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.map_err(|error| error.to_string())?;
        let wire = Wire::new(clock, sandbox.clone(), Rng::with_seed(seed ^ 0xc011));
        tokio::spawn(wire.clone().deliver(sandbox.events(), Rng::with_seed(seed ^ 0x5eed)));
        for lead in sandbox.leads() {
            wire.ledger().note(start, lead);
        }
        Ok(World {
            clock,
            begun: start,
            sandbox,
            wire,
            spec,
            // A clock is a value that is copied; what sets it lives as long as the program, and is eight bytes a seed.
            skew: Box::leak(Box::default()),
            skews: false,
            shared: false,
            counts: Counts::default(),
            service: None,
            dies_at: 0,
            dies_before: false,
            file: directory.path().join("janitor.db"),
            seed,
            _directory: directory,
        })
    }

    /// The clock of the service's machine.
    pub(crate) fn service_clock(&self) -> Clock {
        Clock::leisurely(self.clock.now(), LEISURE).set_by(self.skew)
    }

    /// Someone sets that clock, whether the service runs or not.
    pub(crate) fn set_clock(&self, milliseconds: i64) {
        self.skew.store(milliseconds, Ordering::SeqCst);
        self.wire.skewed(milliseconds);
        self.wire.line(&format!("the clock is {milliseconds} ms ahead of the portal's"));
    }

    /// What the service's clock shows.
    pub(crate) fn service_now(&self) -> Checked<Timestamp> {
        Ok(self.running()?.engine.context().clock.now())
    }

    /// Starts the service on the file, as at boot; again where it dies while starting.
    pub(crate) async fn start(&mut self) -> Checked {
        while !self.try_start().await? {
            self.counts.crashes += 1;
            self.dies_at = 0;
            self.advance(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    async fn try_start(&mut self) -> Checked<bool> {
        let begun = self.clock.now();
        let options = OpenOptions { threads: Threads::Inline, create: true };
        let store =
            Store::open(&self.file, options).map_err(|error| format!("the file can't be opened: {error}"))?;
        let mended = store.write(|db| db.execute_batch("DROP TRIGGER IF EXISTS refuse")).await;
        mended.map_err(|error| format!("the file can't be written: {error}"))?;
        let dead = Arc::new(AtomicBool::new(false));
        let stop: Arc<Mutex<Option<CancellationToken>>> = Arc::default();
        self.arm(&store, &dead, &stop);
        let clock = self.service_clock();
        let set = parse(&self.spec)?;
        let (wire, alive) = (self.wire.clone(), Arc::clone(&dead));
        let router = self.sandbox.router().layer(middleware::from_fn(move |request: Request, next: Next| {
            wire.clone().pass(Arc::clone(&alive), request, next)
        }));
        let webhook = format!("http://portal.invalid{}", self.sandbox.webhook_path());
        let access = Access::Webhook(SecretString::from(webhook));
        let recalled = pace::recall(&store).await;
        let limits = set.portal;
        let options = PortalOptions { access, limits, clock, observer: None, pace: recalled };
        let portal = Portal::new(Transport::InProcess(router), options);
        let metrics = Metrics::new();
        let parts = Parts {
            store: store.clone(),
            portal: portal.clone(),
            clock,
            metrics: metrics.clone(),
            seed: self.seed,
        };
        let started = async {
            pace::keep(&store, &portal, clock.now()).await.map_err(|error| error.to_string())?;
            let report = online::check_rules(&portal, &set).await;
            match report.unanswered {
                None => Engine::start(parts, set).await,
                Some(why) => Engine::start_unchecked(parts, set, &why).await,
            }
            .map_err(|error| error.to_string())
        };
        let engine = match started.await {
            Ok(engine) => engine,
            Err(_) if dead.load(Ordering::SeqCst) => return Ok(false),
            Err(error) => return Err(format!("the service did not start: {error}")),
        };
        *stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine.context().stop.clone());
        let engine = engine.notifying(courier(&self.wire, &dead));
        engine.spawn(LOOK_EVERY);
        self.wire.listen(Some(listener(engine.context())));
        self.wire.ledger().rules(begun, self.clock.now(), &self.spec);
        self.wire.line("started");
        self.service = Some(Service { engine, store, dead });
        Ok(true)
    }

    /// Lets the store die at the commit that was chosen.
    fn arm(&self, store: &Store, dead: &Arc<AtomicBool>, stop: &Arc<Mutex<Option<CancellationToken>>>) {
        let left = Arc::new(AtomicU32::new(self.dies_at));
        let wanted = if self.dies_before { CommitMoment::Before } else { CommitMoment::After };
        let (wire, dead, stop) = (self.wire.clone(), Arc::clone(dead), Arc::clone(stop));
        store.set_failpoint(Some(Box::new(move |moment| {
            let number = left.load(Ordering::SeqCst);
            if moment != wanted || number == 0 {
                return false;
            }
            left.store(number - 1, Ordering::SeqCst);
            if number == 1 {
                dead.store(true, Ordering::SeqCst);
                wire.listen(None);
                wire.line("died at a commit");
                if let Some(stop) = stop.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                    stop.cancel();
                }
            }
            number == 1
        })));
    }

    /// Whether the service died by itself, that is at a commit.
    pub(crate) fn is_dead(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.dead.load(Ordering::SeqCst))
    }

    /// The power fails: nothing is finished, nothing more is written.
    pub(crate) async fn kill(&mut self) {
        self.wire.listen(None);
        let Some(service) = self.service.take() else { return };
        service.dead.store(true, Ordering::SeqCst);
        service.store.close().await;
        service.engine.context().stop.cancel();
        self.counts.crashes += 1;
        self.wire.line("killed");
    }

    /// An orderly end.
    pub(crate) async fn stop(&mut self) {
        self.wire.listen(None);
        let Some(service) = self.service.take() else { return };
        service.engine.stop(GRACE).await;
        service.dead.store(true, Ordering::SeqCst);
        service.store.close().await;
        self.counts.stops += 1;
        self.wire.line("stopped");
    }

    /// Lets time pass, every timer in its order.
    pub(crate) async fn advance(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    pub(crate) fn running(&self) -> Checked<&Service> {
        self.service.as_ref().ok_or_else(|| "the service does not run".to_owned())
    }

    /// What the database holds; `None` where the service died over it.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Checked<Option<T>> {
        let service = self.running()?;
        match service.store.read(run).await {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.is_dead() => Ok(None),
            Err(error) => Err(format!("the database can't be read: {error:?}")),
        }
    }

    /// What a command writes; `None` where the service died over it.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Checked<Option<T>> {
        let service = self.running()?;
        match service.store.write(run).await {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.is_dead() => Ok(None),
            Err(error) => Err(format!("the database can't be written: {error:?}")),
        }
    }

    /// A reload as `serve` does it.
    pub(crate) async fn reload(&mut self, spec: Spec) -> Checked {
        let begun = self.clock.now();
        let set = parse(&spec)?;
        let service = self.running()?;
        let report = online::check_rules(&service.engine.context().portal, &set).await;
        let reloaded = match report.unanswered {
            _ if report.findings.iter().any(online::Finding::is_error) => return Ok(()),
            None => service.engine.reload(set).await,
            Some(why) => service.engine.reload_unchecked(set, &why).await,
        };
        match reloaded {
            Ok(()) => self.counts.reloads += 1,
            Err(_) if self.is_dead() => {}
            Err(error) => return Err(format!("the rules were not reloaded: {error}")),
        }
        self.wire.ledger().rules(begun, self.clock.now(), &spec);
        self.wire.line(&format!("reloaded {}", spec.yaml()));
        self.spec = spec;
        Ok(())
    }

    /// A lead comes in.
    pub(crate) fn arrives(&mut self, lead: Lead) -> u32 {
        let id = self.sandbox.add_lead(lead);
        if let Some(lead) = self.sandbox.lead(id) {
            let now = self.clock.now();
            let mut ledger = self.wire.ledger();
            ledger.line(now, &format!("lead {id} arrives in {}", lead.stage));
            ledger.note(now, lead);
        }
        id
    }
}
