//! One request to the authorisation server: a refresh token in, two new tokens out
//! (<https://apidocs.bitrix24.com/settings/oauth/auto-renewal.html>).
//!
//! The invariants: the application's key goes to the server that the settings name or to one of Bitrix24's own, and
//! nowhere else, whatever an answer says; an answer without both tokens is no answer.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use url::{Origin, Url};

use super::envelope;
use super::errors::{self, CallError};
use super::http::{Answer, Endpoint, Transport};
use crate::core::lead::read_number;
use crate::core::outcome::Fault;

/// Bitrix24's authorisation servers: the world's, and that of the portals of ru, by, kz and their neighbours.
const SERVERS: [&str; 2] = ["https://oauth.bitrix.info", "https://oauth.bitrix24.tech"];

/// How long an access token lives where the answer doesn't say.
const LIFETIME: f64 = 3600.0;

/// The longest life that is believed: far more than any token's.
const LONGEST_LIFETIME: f64 = 86_400.0;

/// What a renewal gives.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// What calls carry.
    pub access: SecretString,
    /// What the next renewal takes; the one before is void.
    pub refresh: SecretString,
    /// The authorisation server of the portal's region, `https://HOST`.
    pub server: String,
    /// When they were given, by our clock.
    pub renewed_at: Timestamp,
    /// When the access token expires, by our clock.
    pub expires_at: Timestamp,
}

/// Who asks, and whom.
pub(super) struct Renewal {
    pub(super) transport: Transport,
    pub(super) client_id: String,
    pub(super) client_secret: SecretString,
    /// The server that the settings name.
    pub(super) server: String,
}

impl Renewal {
    /// New tokens for this refresh token, from the server that the last renewal named, if it may be asked.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        refresh: &SecretString,
        server: Option<&str>,
        now: Timestamp,
    ) -> Result<Tokens, CallError> {
        let server = server.and_then(|server| self.trusted(server)).unwrap_or_else(|| self.server.clone());
        let address = self.address(&server, refresh)?;
        let answer = match self.transport.get(endpoint, &address).await {
            Ok(answer) => answer,
            Err(error) => return Err(errors::from_renewal(ours(error.fault), None)),
        };
        let body = read(&answer, endpoint)?;
        let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (Some(access), Some(refresh)) = (text("access_token"), text("refresh_token")) else {
            return Err(shape(&answer, "JSON without both tokens"));
        };
        let named = text("server_endpoint");
        let next = named.and_then(|named| self.trusted(named));
        if let (Some(named), None) = (named, &next) {
            let named = endpoint.scrub(named);
            tracing::warn!(
                named,
                "the authorisation server names another one that is not known: it is not asked"
            );
        }
        let lives = body.get("expires_in").and_then(read_number).filter(|seconds| *seconds > 0.0);
        let lives = SignedDuration::try_from_secs_f64(lives.unwrap_or(LIFETIME).min(LONGEST_LIFETIME));
        let expires_at = lives.ok().and_then(|lives| now.checked_add(lives).ok()).unwrap_or(now);
        Ok(Tokens {
            access: SecretString::from(access),
            refresh: SecretString::from(refresh),
            server: next.unwrap_or(server),
            renewed_at: now,
            expires_at,
        })
    }

    fn address(&self, server: &str, refresh: &SecretString) -> Result<SecretString, CallError> {
        let Ok(mut address) = Url::parse(server) else {
            return Err(CallError::refused_here("the authorisation server's address is no address"));
        };
        address.set_path("/oauth/token/");
        address
            .query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.client_secret.expose_secret())
            .append_pair("refresh_token", refresh.expose_secret());
        Ok(SecretString::from(String::from(address)))
    }

    /// The server of an address such as `https://oauth.bitrix.info/rest/`, if it may be given our key.
    fn trusted(&self, address: &str) -> Option<String> {
        let origin = origin(address)?;
        let known = SERVERS.into_iter().chain([self.server.as_str()]);
        known.into_iter().find(|server| self::origin(server).as_ref() == Some(&origin)).map(str::to_owned)
    }
}

fn origin(address: &str) -> Option<Origin> {
    Url::parse(address).ok().map(|url| url.origin()).filter(Origin::is_tuple)
}

/// The answer's object; everything else is an error.
fn read(answer: &Answer, endpoint: &Endpoint) -> Result<Map<String, Value>, CallError> {
    if (300..400).contains(&answer.status) {
        return Err(shape(answer, "a redirect, which is not followed"));
    }
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&answer.body) else {
        return Err(shape(answer, "no JSON object"));
    };
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        let fault = ours(envelope::fault(error, &body, endpoint));
        return Err(errors::from_renewal(fault, Some(answer.status)));
    }
    if (200..300).contains(&answer.status) {
        Ok(body)
    } else {
        Err(shape(answer, "tokens under a status of failure"))
    }
}

fn shape(answer: &Answer, what: &str) -> CallError {
    let fault = ours(Fault::new(format!("<http {}>", answer.status), what));
    errors::from_renewal(fault, Some(answer.status))
}

/// Says whose words these are: the codes are partly those of the portal.
fn ours(fault: Fault) -> Fault {
    let text = if fault.text.is_empty() { "an error without text" } else { fault.text.as_str() };
    Fault::new(fault.code, format!("authorisation server: {text}"))
}
