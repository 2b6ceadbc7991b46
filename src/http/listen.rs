//! Sockets and the accept loop: where listeners come from, and how long a connection may keep us waiting.
//!
//! axum's own `serve` (0.8) has no timeout for the headers, and its graceful shutdown waits for ever on a half-sent
//! request. So this loop stands on hyper-util: a client that stalls is dropped, the number of connections is bounded
//! (past it the oldest idle one makes room; where all are at work, whoever comes waits in the kernel's backlog), and a
//! shutdown ends by its deadline whatever clients do.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::attempts::Peer;
use super::busy::{Idle, Watched};

/// How long a client may take over the headers of a request, and how long a connection may be idle between two: the
/// portal's queue sends an event in one go, so ten seconds are a bad network, not a sender.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The most connections at a time: a burst of a thousand changes in the portal is a thousand calls, and each costs a
/// few kilobytes here.
pub const MAX_CONNECTIONS: usize = 1024;

/// The largest head of a request, in bytes. An event's is under 1 KiB; hyper's default would hold 400 KiB for each
/// connection.
const MAX_HEAD: usize = 16 * 1024;

/// How long to wait after `accept` failed: the usual cause is a shortage of file descriptors, which passes, and
/// without a pause the loop would spin until it does.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection may claim. Only tests use other limits than the default ones.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// See [`HEADER_TIMEOUT`].
    pub header_timeout: Duration,
    /// See [`MAX_CONNECTIONS`].
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { header_timeout: HEADER_TIMEOUT, connections: MAX_CONNECTIONS }
    }
}

/// Listens on `addr`, `HOST:PORT`; port 0 takes a free one. The error names the address.
pub async fn bind(addr: &str) -> io::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}")))
}

/// The listeners that systemd hands over: the public one first, the admin one second, in the order of the
/// `ListenStream=` lines of `systemd/b24-janitor.socket`. `None` for what was not handed over.
///
/// Call it once, inside a runtime, before anything else starts threads: it removes `LISTEN_FDS` from the environment,
/// lest a child take the sockets for its own. An inherited descriptor that is no TCP socket is an error.
pub fn from_systemd() -> io::Result<(Option<TcpListener>, Option<TcpListener>)> {
    let mut inherited = ListenFd::from_env();
    let public = take(&mut inherited, 0, "public")?;
    let admin = take(&mut inherited, 1, "admin")?;
    if inherited.len() > 2 {
        tracing::warn!(
            sockets = inherited.len(),
            "systemd handed over more than two sockets; the others stay unused"
        );
    }
    Ok((public, admin))
}

fn take(inherited: &mut ListenFd, index: usize, name: &str) -> io::Result<Option<TcpListener>> {
    let context = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("socket {index} from systemd cannot be the {name} listener: {error}"),
        )
    };
    let Some(listener) = inherited.take_tcp_listener(index).map_err(context)? else { return Ok(None) };
    listener.set_nonblocking(true).map_err(context)?;
    TcpListener::from_std(listener).map(Some).map_err(context)
}

/// Logs the address that a listener got, which with port 0 nobody knows yet, and returns it.
pub fn announce(name: &str, listener: &TcpListener) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    tracing::info!(listener = name, %address, "listening");
    Ok(address)
}

/// Serves `router` until `shutdown` resolves; then takes no more connections, lets requests in progress end for at
/// most `grace`, and drops the rest.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) {
    serve_within(Limits::default(), listener, router, shutdown, grace).await;
}

/// [`serve`] with other limits.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) {
    let mut shutdown = pin!(shutdown);
    let places = Arc::new(Semaphore::new(limits.connections));
    let idle = Idle::default();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();

    loop {
        let next = async {
            let accepted = listener.accept().await;
            if accepted.is_ok() && places.available_permits() == 0 {
                idle.shed_oldest();
            }
            (Arc::clone(&places).acquire_owned().await, accepted)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        while let Some(ended) = connections.try_join_next() {
            report(ended);
        }
        // The semaphore is never closed, so there always is a place.
        let (Ok(place), Ok((stream, peer))) = (place, accepted.inspect_err(report_accept)) else {
            // Whoever holds descriptors without using them gives one back.
            idle.shed_oldest();
            tokio::select! {
                () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                () = &mut shutdown => break,
            }
        };
        let activity = idle.enter();
        let service =
            Watched { router: router.clone(), peer: Peer(peer.ip()), activity: Arc::clone(&activity) };
        let connection = graceful.watch(connection(limits, stream, service));
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                // The connection first: a request that has just come is work.
                biased;
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                },
                () = activity.shed() => tracing::debug!("an idle connection made room for another"),
            }
        });
    }

    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "dropping connections that outlast the grace period");
    }
    connections.shutdown().await;
}

type Connection = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Watched>>;

fn connection(limits: Limits, stream: TcpStream, service: Watched) -> Connection {
    // Answers are one small write; Nagle's algorithm would only hold them back. Failing to say so costs milliseconds.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD)
        // A sender that closes its half after the request still gets its event stored and its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        // A panic in a handler: the connection is lost, the listener goes on.
        tracing::error!(%error, "a connection's task failed");
    }
}

fn report_accept(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
}
