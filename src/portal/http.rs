//! The wire: one request out, one bounded reply in, and for every failure whether the request surely was not sent.
//!
//! Redirects are never followed. No error, `Debug` text or log line of this module contains the webhook's
//! address or an application's token.

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use secrecy::{ExposeSecret, SecretString};
use tower::ServiceExt;

use super::errors::{self, CallError, Sent};
use super::mask::mask;
use crate::core::outcome::Fault;

/// How long a request may take: the portal cuts its own work at 60 s (<https://apidocs.bitrix24.com/limits.html>), and
/// 15 s are for the network.
const TIMEOUT: Duration = Duration::from_secs(75);

/// How long a connection may take, name and TLS included. Kept well under [`TIMEOUT`], so that a request that never
/// left is told apart from one without an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an idle connection is kept: less than the 60 s after which servers commonly close theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// The largest reply that is read: 50 leads with all fields are far below a megabyte each.
const MAX_REPLY: usize = 64 * 1024 * 1024;

/// Where requests go.
#[derive(Debug, Clone)]
pub enum Transport {
    /// To a portal over the network.
    Http(HttpClient),
    /// To a router in this process, with the same requests; for rehearsals and tests.
    InProcess(axum::Router),
}

/// A client with our redirect policy and limits; see [`super::Portal::http`].
#[derive(Debug, Clone)]
pub struct HttpClient(reqwest::Client);

/// The HTTP client could not be built, for example because the system's certificates can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be set up")]
pub struct NoClient(#[source] reqwest::Error);

impl HttpClient {
    pub(super) fn new() -> Result<HttpClient, NoClient> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .gzip(true)
            .referer(false)
            .user_agent(user_agent());
        let client = match https_proxy() {
            Some(proxy) => client.proxy(proxy.map_err(|error| NoClient(error.without_url()))?),
            None => client,
        };
        client.build().map(HttpClient).map_err(|error| NoClient(error.without_url()))
    }
}

/// The proxy that the environment names for https. Plain http goes to this machine only, where a proxy can't reach.
pub(crate) fn https_proxy() -> Option<reqwest::Result<reqwest::Proxy>> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let address = names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
    Some(reqwest::Proxy::https(address).map(|proxy| proxy.no_proxy(reqwest::NoProxy::from_env())))
}

fn user_agent() -> String {
    format!("b24-janitor/{}", crate::VERSION)
}

/// The most secrets that are hidden besides the address: an application's own two, and the tokens of three renewals.
const MAX_HIDDEN: usize = 8;

/// Where the methods are, and what must never be shown of it. Clones hide the same secrets.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// `https://HOST/rest/USER/` of a webhook, `https://HOST/rest/` of an application.
    base: String,
    /// `CODE/` of a webhook; an application has none.
    code: SecretString,
    /// Further secrets that a server might repeat, the oldest first.
    hidden: Arc<Mutex<Vec<SecretString>>>,
}

impl Endpoint {
    /// From a validated address `https://HOST/rest/USER/CODE/`.
    pub(super) fn new(webhook: &SecretString) -> Endpoint {
        let address = webhook.expose_secret().trim_end_matches('/');
        let (base, code) = address.rsplit_once('/').unwrap_or((address, ""));
        Endpoint {
            base: format!("{base}/"),
            code: SecretString::from(format!("{code}/")),
            hidden: Arc::default(),
        }
    }

    /// From a validated address `https://HOST` of a portal, whose methods take an access token.
    pub(super) fn of_portal(portal: &str) -> Endpoint {
        let base = format!("{}/rest/", portal.trim_end_matches('/'));
        Endpoint { base, code: SecretString::from(String::new()), hidden: Arc::default() }
    }

    /// `https://HOST/rest/USER/` or `https://HOST/rest/`, which is no secret.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The portal's host, with its port where it names one.
    pub(super) fn host(&self) -> &str {
        split(&self.base).0
    }

    fn address(&self, method: &str) -> SecretString {
        SecretString::from(format!("{}{}{method}", self.base, self.code.expose_secret()))
    }

    /// Hides a secret from now on; of more than eight, the oldest but the first two is forgotten.
    pub(super) fn hide(&self, secret: &SecretString) {
        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        if hidden.iter().any(|known| known.expose_secret() == secret.expose_secret()) {
            return;
        }
        hidden.push(secret.clone());
        if hidden.len() > MAX_HIDDEN {
            hidden.remove(2);
        }
    }

    /// The text without the secrets, should a server have repeated them. What the documentation says stays, so that an
    /// error means the same before and after.
    pub(super) fn scrub(&self, text: &str) -> String {
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        let code = self.code.expose_secret().trim_end_matches('/');
        let secrets = hidden.iter().map(|secret| secret.expose_secret()).chain([code]);
        mask(text, secrets, errors::public_phrases())
    }

    /// A server's words, masked. They are freed of control characters first: between two halves of a secret one would
    /// hide it from the mask and then go.
    pub(super) fn fault(&self, code: &str, text: &str) -> Fault {
        let plain = |words: &str| -> String { words.chars().filter(|c| !c.is_control()).collect() };
        let code = plain(code);
        let code = if errors::is_known(&code) { code } else { self.scrub(&code) };
        Fault::new(code, self.scrub(&plain(text)))
    }
}

/// A complete reply.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Transport {
    /// POSTs a JSON body to a method and waits for the complete reply, 75 s at most.
    pub(super) async fn post(
        &self,
        endpoint: &Endpoint,
        method: &str,
        body: String,
    ) -> Result<Answer, CallError> {
        self.send(endpoint, &endpoint.address(method), Some(body)).await
    }

    /// GETs an address, whose secrets `endpoint` hides, and waits for the complete reply, 75 s at most.
    pub(super) async fn get(&self, endpoint: &Endpoint, address: &SecretString) -> Result<Answer, CallError> {
        self.send(endpoint, address, None).await
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        address: &SecretString,
        body: Option<String>,
    ) -> Result<Answer, CallError> {
        let exchange = async {
            match self {
                Transport::Http(client) => over_network(client, endpoint, address, body).await,
                Transport::InProcess(router) => in_process(router, address, body).await,
            }
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out()),
        }
    }
}

fn timed_out() -> CallError {
    let text = format!("no complete reply within {} s", TIMEOUT.as_secs());
    errors::from_network(Sent::Maybe, "<timeout>", &text)
}

fn too_large(status: u16) -> CallError {
    CallError::malformed(Some(status), "the reply is larger than 64 MiB")
}

async fn over_network(
    client: &HttpClient,
    endpoint: &Endpoint,
    address: &SecretString,
    body: Option<String>,
) -> Result<Answer, CallError> {
    let request = match body {
        Some(body) => {
            let request = client.0.post(address.expose_secret());
            request.header(header::CONTENT_TYPE, "application/json").body(body)
        }
        None => client.0.get(address.expose_secret()),
    };
    let request = request.header(header::ACCEPT, "application/json");
    let mut response = request.send().await.map_err(|error| network_fault(endpoint, error))?;
    let status = response.status().as_u16();
    let content_type = content_type(response.headers());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| network_fault(endpoint, error))? {
        if body.len() + chunk.len() > MAX_REPLY {
            return Err(too_large(status));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, content_type, body })
}

/// A request that failed while it was connecting surely was not sent; everything later may have been executed.
fn network_fault(endpoint: &Endpoint, error: reqwest::Error) -> CallError {
    let error = error.without_url();
    let (sent, code) = if error.is_connect() || error.is_builder() {
        (Sent::No, "<no connection>")
    } else if error.is_timeout() {
        return timed_out();
    } else {
        (Sent::Maybe, "<connection lost>")
    };
    // The innermost cause is what a person can act on ("Connection refused", "invalid peer certificate").
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    errors::from_network(sent, code, &endpoint.scrub(&text))
}

async fn in_process(
    router: &axum::Router,
    address: &SecretString,
    body: Option<String>,
) -> Result<Answer, CallError> {
    let (host, path) = split(address.expose_secret());
    let request = match &body {
        Some(_) => Request::post(path).header(header::CONTENT_TYPE, "application/json"),
        None => Request::get(path),
    };
    let request = request
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, user_agent())
        .body(body.map_or_else(Body::empty, Body::from))
        .map_err(|_| CallError::refused_here("the portal's address is no address"))?;
    // A task of its own: a portal goes on working when its client gives up waiting.
    let handled = tokio::spawn(router.clone().oneshot(request)).await;
    let Ok(Ok(response)) = handled else { return Err(reset()) };
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = stream.frame().await {
        let Ok(frame) = frame else { return Err(reset()) };
        if let Some(chunk) = frame.data_ref() {
            if body.len() + chunk.len() > MAX_REPLY {
                return Err(too_large(parts.status.as_u16()));
            }
            body.extend_from_slice(chunk);
        }
    }
    Ok(Answer { status: StatusCode::as_u16(&parts.status), content_type: content_type(&parts.headers), body })
}

fn reset() -> CallError {
    errors::from_network(Sent::Maybe, "<connection lost>", "the connection was reset")
}

/// Host and path of an absolute address.
fn split(address: &str) -> (&str, &str) {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash))
}

fn content_type(headers: &axum::http::HeaderMap) -> Option<String> {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_ascii_lowercase)
}
