//! Who may ask the admin listener, and who may change something by it. A middleware around all its routes, so that no
//! handler can forget it.
//!
//! 1. **Names.** Only to a `Host` of ours; a page whose name is rebound to this machine gets 421.
//! 2. **Who.** With `JANITOR_ADMIN_TOKEN`: a session's cookie, or the token as a bearer token (scripts, Prometheus), or
//!    as the password of a Basic login (for reading only, since browsers send that by themselves). Past the failures of
//!    [`super::attempts`] an address gets 429 whatever it presents, sessions excepted.
//! 3. **Changes.** Whatever is neither GET nor HEAD must not say that it comes from another origin, and must carry what
//!    a stranger's page can't know or can't send: the session's token in the form's field [`CSRF_FIELD`], or a bearer
//!    token; on a listener without a token also the header [`SCRIPT_HEADER`].
//!
//! The style sheet is public: the login page needs it. What handlers use: the extractor [`Form`](axum::Form) for the
//! fields, which by then are checked and bounded by [`MAX_FORM`]; the extension `Visitor`, whose `csrf` goes into every
//! form of a page as a hidden field.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};

use super::attempts::{Attempts, Peer};
use super::form::Form;
use super::pages::{self, login};
use super::plain;
use super::sessions::{self, CSRF_FIELD, NoRandomness, Sessions, Visitor};
use super::token::{self, Scheme, Tokens};

/// What a script sends, with any value, to change something on a listener without a token. A page of another origin
/// can't send it without being allowed to, and nobody allows it.
pub const SCRIPT_HEADER: &str = "x-janitor-script";

/// The largest form, in bytes.
pub const MAX_FORM: usize = 64 * 1024;

/// How long a form may take to arrive.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

const COOKIE: &str = "janitor_session";

/// What protects the listener.
pub(super) struct Guard {
    bound: IpAddr,
    hosts: Vec<String>,
    token: Lock,
    sessions: Sessions,
    attempts: Attempts,
}

enum Lock {
    /// No token is configured: whoever reaches the address may ask. The forms' token, if the system gave one.
    Open(Result<String, NoRandomness>),
    Token(Tokens),
    Shut,
}

/// How a request was let in.
enum Admitted {
    Session { id: String, csrf: String },
    Bearer,
    Basic,
    Open(Option<String>),
}

impl Guard {
    pub(super) fn new(bound: IpAddr, hosts: Vec<String>, token: Option<secrecy::SecretString>) -> Guard {
        let token = match token.map(|token| Tokens::new(&[token])) {
            None => Lock::Open(sessions::random()),
            Some(Some(tokens)) => Lock::Token(tokens),
            Some(None) => Lock::Shut,
        };
        Guard { bound, hosts, token, sessions: Sessions::default(), attempts: Attempts::default() }
    }

    fn admit(&self, headers: &HeaderMap, peer: Option<Peer>) -> Result<Admitted, Box<Response>> {
        let tokens = match &self.token {
            Lock::Open(csrf) => return Ok(Admitted::Open(csrf.as_ref().ok().cloned())),
            Lock::Token(tokens) => tokens,
            Lock::Shut => return Err(Box::new(unauthorised(headers))),
        };
        if let Some(id) = cookie(headers)
            && let Some(csrf) = self.sessions.csrf_of(&id)
        {
            return Ok(Admitted::Session { id, csrf });
        }
        let Some((scheme, secret)) = token::presented(headers) else {
            return Err(Box::new(unauthorised(headers)));
        };
        if self.attempts.exhausted(peer) {
            return Err(Box::new(too_many()));
        }
        if !tokens.accept(&secret) {
            self.attempts.failed(peer);
            return Err(Box::new(unauthorised(headers)));
        }
        Ok(match scheme {
            Scheme::Bearer => Admitted::Bearer,
            Scheme::Basic => Admitted::Basic,
        })
    }

    /// Whether the request names a host that is ours: exactly one `Host`, and the target's own host, if it has one,
    /// likewise.
    fn knows(&self, target: &Uri, headers: &HeaderMap) -> bool {
        host(headers).is_some_and(|host| self.is_ours(host.host()))
            && target.host().is_none_or(|host| self.is_ours(host))
    }

    fn is_ours(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return ip.is_loopback() || ip == self.bound || self.bound.is_unspecified();
        }
        host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    /// The login form's answer.
    fn login(&self, form: &Form, headers: &HeaderMap, peer: Option<Peer>) -> Response {
        let Lock::Token(tokens) = &self.token else { return see_other("/") };
        if self.attempts.exhausted(peer) {
            return too_many();
        }
        let presented = form.one("token").ok().flatten().unwrap_or_default();
        if !tokens.accept(presented) {
            self.attempts.failed(peer);
            return login::page(StatusCode::FORBIDDEN, Some("This is not the token."));
        }
        let Ok(id) = self.sessions.open() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the system gives no random numbers\n");
        };
        signed(see_other("/"), &id, sessions::LIFETIME.as_secs(), headers)
    }
}

/// The middleware.
pub(super) async fn check(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if !guard.knows(request.uri(), request.headers()) {
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            "this name is not known here: add it to JANITOR_ADMIN_HOSTS, or use the address\n",
        );
    }
    let peer = request.extensions().get::<Peer>().copied();
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && from_elsewhere(request.headers()) {
        return plain(StatusCode::FORBIDDEN, "a page of another origin can't do this\n");
    }
    let path = request.uri().path();
    if !changes && pages::is_asset(path) {
        return next.run(request).await;
    }
    let (logs_in, logs_out) = (changes && path == "/login", changes && path == "/logout");
    let admitted = guard.admit(request.headers(), peer);
    let admitted = match (admitted, logs_in) {
        (_, true) => {
            return match take_form(&mut request).await {
                Ok((form, _)) => guard.login(&form, request.headers(), peer),
                Err(refusal) => refusal,
            };
        }
        (Ok(admitted), false) => admitted,
        (Err(refusal), false) => return *refusal,
    };
    if changes {
        let expected = match &admitted {
            Admitted::Bearer => None,
            Admitted::Open(_) if request.headers().contains_key(SCRIPT_HEADER) => None,
            Admitted::Session { csrf, .. } | Admitted::Open(Some(csrf)) => Some(csrf.as_str()),
            Admitted::Basic | Admitted::Open(None) => return no_csrf(),
        };
        let (form, bytes) = match take_form(&mut request).await {
            Ok(taken) => taken,
            Err(refusal) => return refusal,
        };
        let presented = form.one(CSRF_FIELD).ok().flatten().unwrap_or_default();
        if expected.is_some_and(|expected| !sessions::same(expected, presented)) {
            return no_csrf();
        }
        *request.body_mut() = Body::from(bytes);
    }
    let visitor = match admitted {
        Admitted::Session { id, .. } if logs_out => {
            guard.sessions.close(&id);
            return signed(see_other("/"), "", 0, request.headers());
        }
        Admitted::Session { csrf, .. } => Visitor { csrf: Some(csrf), signed_in: true, holds_token: true },
        Admitted::Open(csrf) => Visitor { csrf, signed_in: false, holds_token: false },
        Admitted::Bearer | Admitted::Basic => Visitor { csrf: None, signed_in: false, holds_token: true },
    };
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

/// The fields of a request's body, and its bytes; an empty body is an empty form.
async fn take_form(request: &mut Request) -> Result<(Form<'static>, Vec<u8>), Response> {
    let body = std::mem::take(request.body_mut());
    let read = tokio::time::timeout(FORM_TIMEOUT, Limited::new(body, MAX_FORM).collect()).await;
    let bytes = match read {
        Ok(Ok(body)) => body.to_bytes().to_vec(),
        Ok(Err(_)) => return Err(closing(plain(StatusCode::PAYLOAD_TOO_LARGE, "the form is over 64 KiB\n"))),
        Err(_) => {
            return Err(closing(plain(StatusCode::REQUEST_TIMEOUT, "the form did not arrive in time\n")));
        }
    };
    match Form::parse(&bytes) {
        Ok(form) => Ok((form, bytes)),
        Err(_) => Err(plain(StatusCode::BAD_REQUEST, "the body is not a form\n")),
    }
}

fn closing(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The one `Host` of a request. `user@host` is legal as an authority, never there.
fn host(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    Authority::try_from(host.as_bytes()).ok().filter(|host| !host.as_str().contains('@'))
}

/// Whether a browser says that another origin's page sent this. Programs send neither header.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return true;
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else { return false };
    let origin = origin.parse::<Uri>().ok().and_then(|origin| origin.authority().cloned());
    origin.is_none() || origin != host(headers)
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, id)| id.to_owned())
}

/// The answer with the session's cookie. `Secure` where a proxy says that the browser came by https: over plain http
/// the browser would drop the cookie, and a lie here only makes it stricter.
fn signed(mut answer: Response, id: &str, seconds: u64, headers: &HeaderMap) -> Response {
    let https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let secure = if https { "; Secure" } else { "" };
    let text = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        answer.headers_mut().insert(header::SET_COOKIE, value);
    }
    answer
}

fn see_other(path: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

fn no_csrf() -> Response {
    plain(
        StatusCode::FORBIDDEN,
        "the form has no valid token: load its page again; scripts send the admin token as a bearer token, or \
         X-Janitor-Script where there is none\n",
    )
}

fn too_many() -> Response {
    let mut answer = plain(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens: wait a minute\n");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
    closing(answer)
}

/// 401: a browser gets the login page, a program the challenge.
fn unauthorised(headers: &HeaderMap) -> Response {
    let (mut answer, challenge) = if pages::wants_page(headers) {
        // A challenge of Basic would open the browser's own dialog before the page.
        (login::page(StatusCode::UNAUTHORIZED, None), "Bearer realm=\"b24-janitor\"")
    } else {
        let answer = plain(StatusCode::UNAUTHORIZED, "the admin token is required\n");
        (answer, "Basic realm=\"b24-janitor\", charset=\"UTF-8\"")
    };
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}
