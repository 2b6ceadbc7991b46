//! `serve`: listeners, engine and the process's life: start, reload, watchdog, stop.
//!
//! Ready means listening and recovered. A stop begins no new work, finishes what is in flight within [`GRACE`], and
//! exits 0; what is still open then is recorded as sent, and the next start reads those leads.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::failure::Failure;
use super::health::Health;
use super::reload::{self, Reloading};
use super::workshop::{self, Whose};
use super::{courier, intake, vet};
use crate::clock::Clock;
use crate::engine::{self, Context, Engine, FOREIGN_CHANGES_EVERY, Guards};
use crate::http::admin::{self, Admin};
use crate::http::reload::Reload;
use crate::http::{self, listen, notify};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::{Disk, Lock, control};

/// How long requests in flight may take when the service stops; systemd waits 45 s (`TimeoutStopSec`).
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// How long open HTTP connections may take when the service stops: an event is answered in milliseconds.
const HTTP_GRACE: Duration = Duration::from_secs(5);

/// Resolves when the process is asked to stop, by SIGTERM or Ctrl-C, from this call on: the handlers are there before
/// the future is polled.
pub(super) fn asked_to_stop() -> impl Future<Output = ()> + Send + 'static {
    let handlers = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = handlers else {
            // Without handlers the signals kill the process, which loses nothing: everything accepted is in the
            // database.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// How often the lock is tried at start, and how long after each time: `status` and other commands hold it for
/// moments, to find out whether a service runs.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Takes the database's lock for the life of the service.
async fn own(db: &Path) -> Result<Lock, Failure> {
    let mut tries = 1;
    loop {
        match workshop::whose(db)? {
            Whose::Ours(lock) => return Ok(lock),
            Whose::Service(pid) if tries >= LOCK_TRIES => return Err(already_running(db, pid)),
            Whose::Service(_) => tokio::time::sleep(LOCK_PAUSE).await,
        }
        tries += 1;
    }
}

/// Runs the service.
pub(super) async fn serve(settings: Settings) -> Result<(), Failure> {
    // Handlers first: a signal during start-up must not kill a half-started service.
    let mut hangup = signal(SignalKind::hangup())?;
    let stop_asked = asked_to_stop();
    tokio::pin!(stop_asked);
    let (public_socket, admin_socket) = listen::from_systemd()?;
    let courier = courier::courier()?;
    let rules = vet::load(&settings, &courier).map_err(Failure::Usage)?;
    let lock = own(&settings.db).await?;
    let store = workshop::open_store(&settings.db, true)?;
    let metrics = Metrics::new();
    metrics.reload(true);
    let health = Health::new(store.clone());
    let portal =
        workshop::observed_portal(&settings, &rules, Some(&store), &metrics, health.observer()).await?;
    health.set_portal(portal.clone());
    let unasked = vet::ask(&portal, &rules).await.map_err(Failure::Usage)?;
    let listens = !settings.application_tokens.is_empty();
    if public_socket.is_none() && listens {
        // Nobody took events while the service was down, however short that was.
        engine::note_downtime(&store, Clock::System.now(), SignedDuration::ZERO).await?;
    }
    let public = match public_socket {
        Some(listener) => listener,
        None => listen::bind(&settings.listen.to_string()).await?,
    };
    let admin = match (admin_socket, settings.admin_listen) {
        (_, None) => None,
        (Some(listener), Some(_)) => Some(listener),
        (None, Some(address)) => Some(listen::bind(&address.to_string()).await?),
    };
    let parts = workshop::parts(store.clone(), portal, metrics.clone());
    let engine = match &unasked {
        None => Engine::start(parts, rules).await?,
        Some(why) => Engine::start_unchecked(parts, rules, why).await?,
    };
    reload::record(&engine, &[]).await;
    health.set_unchecked(engine.context().unchecked_changes());
    health.set_room(engine.context().room_changes());
    if settings.silence_alarm.is_some() && !listens {
        warn!(
            "JANITOR_SILENCE_ALARM is set and B24_APPLICATION_TOKEN is not: no events are received, so none are missed"
        );
    }
    let silence_alarm = settings.silence_alarm.filter(|_| listens).map(|age| age.duration());
    let disk = Some(Disk::of(&settings.db));
    let engine = engine.guarding(Guards { disk, silence_alarm }).notifying(courier.clone());
    let engine = Arc::new(engine);
    let stop = CancellationToken::new();
    let listeners = TaskTracker::new();
    serve_public(&settings, &engine, public, &listeners, &stop)?;
    let (reload, mut reloads) = reload::door();
    if let Some(admin) = admin {
        serve_admin(&settings, (&health, engine.context(), reload), admin, &listeners, &stop)?;
    }
    engine.spawn(FOREIGN_CHANGES_EVERY);
    listeners.spawn(feed_watchdog(engine.context().clone(), stop.clone()));
    notify::ready();
    info!(version = crate::VERSION, rules = engine.context().rules().rules.len(), "ready");
    let reloading = Reloading {
        settings: &settings,
        engine: &engine,
        health: &health,
        metrics: &metrics,
        courier: &courier,
    };
    let crashed = tokio::select! {
        () = &mut stop_asked => false,
        () = engine.crashed() => true,
        () = reloading.whenever_asked(&mut hangup, &mut reloads) => false,
    };
    info!("stopping: requests in flight are finished");
    notify::stopping();
    stop.cancel();
    listeners.close();
    let again = asked_to_stop();
    let ending = async {
        let listening = async {
            tokio::time::timeout(HTTP_GRACE + HTTP_GRACE, listeners.wait()).await.ok();
            // From here on events are lost: the next start counts from this heartbeat.
            let now = Clock::System.now();
            if let Err(error) = store.write(move |db| control::heartbeat(db, now)).await {
                warn!(%error, "the time of the stop could not be recorded");
            }
        };
        tokio::join!(engine.stop(GRACE), listening).0
    };
    let in_time = tokio::select! {
        in_time = ending => in_time,
        () = again => {
            return Err(Failure::of(
                "stopped at once by a second signal; nothing is lost: the next start reads the leads of requests that were open",
            ));
        }
    };
    if !in_time {
        warn!("a request was still open after 30 s; the next start reads its leads before it goes on");
    }
    store.close().await;
    drop(lock);
    if crashed {
        return Err(Failure::of(
            "a part of the service panicked; nothing accepted is lost, a restart recovers it",
        ));
    }
    info!("stopped");
    Ok(())
}

fn already_running(db: &Path, pid: Option<u32>) -> Failure {
    let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Failure::of(format!(
        "{who} already works on {}: stop it first, or give this service a database of its own with --db",
        db.display()
    ))
}

fn serve_public(
    settings: &Settings,
    engine: &Arc<Engine>,
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    listen::announce("public", &listener)?;
    let intake = if settings.application_tokens.is_empty() {
        info!("B24_APPLICATION_TOKEN is not set: no events are received, rules run by their schedules");
        None
    } else {
        let host = settings.portal_host();
        Some(intake::intake(engine.context(), settings.application_tokens.clone(), host, tasks))
    };
    tasks.spawn(listen::serve(listener, http::public(intake), stop.clone().cancelled_owned(), HTTP_GRACE));
    Ok(())
}

fn serve_admin(
    settings: &Settings,
    (health, context, reload): (&Health, &Context, Reload),
    listener: TcpListener,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let bound = listen::announce("admin", &listener)?;
    // The settings were checked with their own address; a socket from systemd may have another.
    if settings.admin_token.is_none() && !bound.ip().to_canonical().is_loopback() {
        return Err(Failure::usage(format!(
            "the admin listener can be reached from other machines ({bound}), and JANITOR_ADMIN_TOKEN is not set; set \
             it, or let systemd listen on the loopback only"
        )));
    }
    let router = admin::router(Admin {
        bound,
        hosts: settings.admin_hosts.clone(),
        token: settings.admin_token.clone(),
        ready: health.readiness(),
        context: context.clone(),
        reload,
        reload_problem: health.reload_problem(),
    });
    tasks.spawn(listen::serve(listener, router, stop.clone().cancelled_owned(), HTTP_GRACE));
    Ok(())
}

/// Feeds systemd's watchdog: each time only after a round trip through the store's writer, and while no part of the
/// service hangs.
async fn feed_watchdog(ctx: Context, stop: CancellationToken) {
    let Some(every) = notify::watchdog_interval() else { return };
    loop {
        let answered = tokio::time::timeout(every, ctx.store.write(|_| Ok(()))).await;
        match (answered, ctx.pulse().overdue()) {
            (Ok(Ok(())), None) => notify::watchdog(),
            (Ok(Ok(())), Some(part)) => error!(%part, "a part of the service hangs; the watchdog goes unfed"),
            (Ok(Err(error)), _) => error!(%error, "the database does not answer; the watchdog goes unfed"),
            (Err(_), _) => error!("the database does not answer in time; the watchdog goes unfed"),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return,
        }
    }
}
