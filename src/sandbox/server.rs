//! HTTP in and out: URLs, bodies, replies, and the listener.
//!
//! Bitrix24 docs: `general-principles.md`, `local-webhooks.md`. The same router serves tests in process and a socket;
//! nothing in it needs either.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::php::{Arr, Val, parse_str};
use super::session::{Auth, Incoming, Reply, error, to_json};
use super::{Sandbox, control};

/// The largest body that is read; a batch of 50 commands with long filters stays well under it.
const MAX_BODY: usize = 16 << 20;

/// How long requests under way are waited for at the end: the sandbox keeps nothing that could be lost.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The router: `/rest/…` as a portal has it, `/sandbox/…` for whoever rehearses.
pub(super) fn router(sandbox: Sandbox) -> Router {
    Router::new()
        .route("/rest/{*path}", any(rest))
        .route("/oauth/token/", any(renew))
        .route("/oauth/token", any(renew))
        .nest("/sandbox", control::router())
        .fallback(|| async {
            respond(Reply::Page { status: 404, content_type: "text/html", body: "404".into() })
        })
        .with_state(sandbox)
}

/// Serves until `shutdown` resolves.
///
/// # Errors
/// The listener failed.
pub(super) async fn serve(
    sandbox: Sandbox,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    sandbox.start_event_delivery();
    // Without it every small answer waits for the peer's delayed acknowledgement.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let (ended, end) = oneshot::channel();
    let serve = axum::serve(listener, router(sandbox)).with_graceful_shutdown(async move {
        shutdown.await;
        let _ = ended.send(());
    });
    tokio::select! {
        result = async { serve.await } => result,
        // A half-sent request would hold the graceful end for ever.
        () = async {
            let _ = end.await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        } => Ok(()),
    }
}

async fn rest(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return respond(Reply::Page { status: 413, content_type: "text/html", body: "413".to_owned() });
    };
    let path = parts.uri.path().strip_prefix("/rest/").unwrap_or_default();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut params = parse_str(parts.uri.query().unwrap_or_default());
    params.replace(body_params(&parts.headers, &body));
    let (auth, method) = match segments.as_slice() {
        [user, code, rest @ ..] => {
            let valid = sandbox.lock().options.user_id.to_string() == *user && sandbox.has_code(code);
            (if valid { Auth::Valid } else { Auth::Wrong }, rest.first().copied().unwrap_or_default())
        }
        [method] => {
            let token = access_token(&parts.headers, &params);
            (token.map_or(Auth::Missing, Auth::Token), *method)
        }
        [] => (Auth::Missing, ""),
    };
    let method = method.to_ascii_lowercase();
    let method = method.strip_suffix(".json").map_or(method.clone(), str::to_owned);
    respond(sandbox.handle(Incoming { method, params, auth }).await)
}

/// The access token of a request: the header wins over the parameters.
fn access_token(headers: &HeaderMap, params: &Arr) -> Option<String> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let param = || params.get("auth").or_else(|| params.get("access_token")).map(Val::to_text);
    bearer.or_else(param).filter(|token| !token.is_empty())
}

/// The authorization server's one page.
async fn renew(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return respond(Reply::Page { status: 413, content_type: "text/html", body: "413".to_owned() });
    };
    let mut params = parse_str(parts.uri.query().unwrap_or_default());
    params.replace(body_params(&parts.headers, &body));
    let now = sandbox.now().as_second();
    let mut state = sandbox.lock();
    let options = state.options.clone();
    let renewed = state.tokens.renew(
        options.oauth.as_ref(),
        &params,
        now,
        &options.domain,
        &options.scope,
        options.user_id,
    );
    drop(state);
    respond(match renewed {
        Ok(body) => Reply::Json(200, to_json(&body)),
        Err(refused) => error(&refused),
    })
}

/// The parameters of a body. One that can't be decoded counts as none, and so does one of an unknown type.
fn body_params(headers: &HeaderMap, body: &Bytes) -> Arr {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if content_type == "application/json" || content_type.ends_with("+json") {
        return match serde_json::from_slice::<Val>(body) {
            Ok(Val::Arr(array)) => array,
            Ok(Val::Null | Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Str(_)) | Err(_) => Arr::new(),
        };
    }
    if content_type == "application/x-www-form-urlencoded" {
        return parse_str(&String::from_utf8_lossy(body));
    }
    Arr::new()
}

/// A reply as HTTP. A broken connection is a body that fails at once: hyper then drops the connection, and a caller
/// in process gets an error from the body.
pub(super) fn respond(reply: Reply) -> Response {
    let (status, content_type, body) = match reply {
        Reply::Json(status, body) => (status, "application/json; charset=utf-8", Body::from(body)),
        Reply::Page { status, content_type, body } => (status, content_type, Body::from(body)),
        Reply::Redirect(to) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::FOUND;
            if let Ok(to) = HeaderValue::from_str(&to) {
                response.headers_mut().insert(header::LOCATION, to);
            }
            return response;
        }
        Reply::Reset => {
            let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            let stream = futures_util::stream::once(async { Err::<Bytes, _>(reset) });
            (200, "application/json; charset=utf-8", Body::from_stream(stream))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
