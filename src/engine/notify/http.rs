//! Notices by HTTP: one POST of JSON, a short answer, no redirect followed.
//!
//! The invariant: the address is a secret as a whole, since for many services whoever knows it may write there. No error
//! and no `Debug` text has it, a part of it, or the token.

use std::error::Error as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use http_body_util::BodyExt;
use secrecy::{ExposeSecret, SecretString};
use tower::ServiceExt;
use url::{Host, Url};

use crate::portal::https_proxy;

/// How long a service may take to accept a notice; those that people use answer within a second.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may take, name and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer is read: an error message fits.
const MAX_ANSWER: usize = 4 * 1024;
/// Parts of an address that are shorter are no secret, and are common words ("api", "bot").
const SHORTEST_SECRET: usize = 6;

/// Sends POSTs.
#[derive(Debug, Clone)]
pub(super) enum Poster {
    /// Over the network.
    Network(reqwest::Client),
    /// To a router in this process.
    InProcess(axum::Router),
}

/// The HTTP client for notices could not be set up, for example because the system's certificates can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for notices could not be set up")]
pub struct NoPoster(#[source] reqwest::Error);

/// Where a notice goes.
pub(super) struct Address(Url);

/// A bearer token that can stand in a header.
pub(super) struct Token(SecretString);

impl Token {
    pub(super) fn text(&self) -> &SecretString {
        &self.0
    }
}

/// The address in a secret: `https`, or `http` to this machine.
pub(super) fn address(secret: &SecretString) -> Result<Address, String> {
    let remedy = "set it to an address that begins with https://";
    let url = Url::parse(secret.expose_secret())
        .map_err(|error| format!("it is no address ({error}); {remedy}"))?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(format!("it names no host; {remedy}")),
    };
    match url.scheme() {
        "https" => Ok(Address(url)),
        "http" if local => Ok(Address(url)),
        "http" => Err(format!("it is http, so everyone on the way could read the secret in it; {remedy}")),
        _ => Err(format!("it is neither https nor http; {remedy}")),
    }
}

/// The token in a secret.
pub(super) fn token(secret: &SecretString) -> Result<Token, String> {
    match HeaderValue::from_str(secret.expose_secret()) {
        Ok(_) if secret.expose_secret().is_ascii() => Ok(Token(secret.clone())),
        Ok(_) | Err(_) => Err("a character in it can't stand in a header; enter it anew".to_owned()),
    }
}

impl Address {
    /// What of it must not be shown: the whole, and each part that could be a key.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        let url = &self.0;
        let mut parts: Vec<String> = vec![url.as_str().to_owned(), url.path().to_owned()];
        parts.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
        parts.extend(url.query().map(str::to_owned));
        parts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        parts.extend(url.password().map(str::to_owned));
        parts.push(url.username().to_owned());
        parts.extend(url.fragment().map(str::to_owned));
        parts.retain(|part| part.len() >= SHORTEST_SECRET);
        parts.into_iter().map(SecretString::from).collect()
    }
}

impl Poster {
    pub(super) fn over_network() -> Result<Poster, NoPoster> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .referer(false)
            .user_agent(user_agent());
        let client = match https_proxy() {
            Some(proxy) => client.proxy(proxy.map_err(|error| NoPoster(error.without_url()))?),
            None => client,
        };
        client.build().map(Poster::Network).map_err(|error| NoPoster(error.without_url()))
    }

    pub(super) fn in_process(router: axum::Router) -> Poster {
        Poster::InProcess(router)
    }

    /// POSTs a body: the status and the beginning of the answer, or why it was not accepted. Secrets are not hidden here.
    pub(super) async fn post(
        &self,
        to: &Address,
        token: Option<&Token>,
        body: String,
    ) -> Result<String, String> {
        let exchange = async {
            match self {
                Poster::Network(client) => over_network(client, to, token, body).await,
                Poster::InProcess(router) => in_process(router, to, token, body).await,
            }
        };
        let answered = tokio::time::timeout(TIMEOUT, exchange).await;
        let (status, said) = answered.unwrap_or_else(|_| Err(timed_out()))?;
        let said = String::from_utf8_lossy(&said);
        let said = said.trim();
        match status {
            200..300 => Ok(format!("{status} {said}").trim().to_owned()),
            300..400 => Err(format!(
                "it answered {status}, a redirect, which is not followed: set the address it leads to"
            )),
            _ => Err(format!("it answered {status}: {said}").trim_end_matches([':', ' ']).to_owned()),
        }
    }
}

fn timed_out() -> String {
    format!("no answer within {} s", TIMEOUT.as_secs())
}

fn user_agent() -> String {
    format!("b24-janitor/{}", crate::VERSION)
}

fn bearer(token: &Token) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn over_network(
    client: &reqwest::Client,
    to: &Address,
    token: Option<&Token>,
    body: String,
) -> Result<(u16, Vec<u8>), String> {
    let mut request = client.post(to.0.clone()).header(header::CONTENT_TYPE, "application/json").body(body);
    if let Some(value) = token.and_then(bearer) {
        request = request.header(header::AUTHORIZATION, value);
    }
    let mut response = request.send().await.map_err(why)?;
    let status = response.status().as_u16();
    let mut said = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(why)? {
        said.extend(chunk.iter().take(MAX_ANSWER - said.len()));
        if said.len() >= MAX_ANSWER {
            break;
        }
    }
    Ok((status, said))
}

/// The innermost cause, which is what a person can act on.
fn why(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        return timed_out();
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    if error.is_connect() { format!("no connection: {text}") } else { text }
}

async fn in_process(
    router: &axum::Router,
    to: &Address,
    token: Option<&Token>,
    body: String,
) -> Result<(u16, Vec<u8>), String> {
    let path =
        to.0.query().map_or_else(|| to.0.path().to_owned(), |query| format!("{}?{query}", to.0.path()));
    let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    if let Some(value) = token.and_then(bearer) {
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request.body(Body::from(body)).map_err(|_| "its address is no address".to_owned())?;
    let response = router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|_| "the connection was lost".to_owned())?;
    Ok((status, body.to_bytes().iter().copied().take(MAX_ANSWER).collect()))
}
