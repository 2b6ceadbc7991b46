//! Who we are to the portal: a webhook whose address says it, or a local application with an access token that expires
//! (<https://apidocs.bitrix24.com/settings/oauth/auto-renewal.html>).
//!
//! The invariants: a token is renewed only after the portal has refused it, by one request however many calls wait;
//! both new tokens are stored before either is used, and what could not be stored is stored later, not asked for again;
//! a token that is young and refused all the same is not renewed, since renewals without need get an application
//! blocked.
//!
//! The access token goes into the JSON body as `auth`, as documented: a call whose body is lost on the way then has no
//! authorisation either, and can't be executed without its filter.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::errors::{self, CallError};
use super::http::{Endpoint, Transport};
use super::renewal::{Renewal, Tokens};
use crate::clock::Clock;

/// A token that was renewed less than this ago, has not expired, and is refused, is wrong rather than old: half of an
/// access token's life of an hour.
const YOUNG: SignedDuration = SignedDuration::from_mins(30);

/// After a renewal that failed, the same error answers for this long: whoever waited for it must not ask once more.
const HOLD_OFF: Duration = Duration::from_secs(5);

/// How the portal knows us.
#[derive(Clone)]
pub enum Access {
    /// The validated address `https://HOST/rest/USER/CODE/` of an incoming webhook.
    Webhook(SecretString),
    /// A local application.
    OAuth(OAuthOptions),
}

/// A local application (<https://apidocs.bitrix24.com/local-integrations/local-apps.html>).
#[derive(Clone)]
pub struct OAuthOptions {
    /// The portal's validated address, `https://HOST`.
    pub portal_url: String,
    /// The application's code.
    pub client_id: String,
    /// The application's key.
    pub client_secret: SecretString,
    /// The refresh token that the administrator gave; used until there are stored tokens.
    pub refresh_token: SecretString,
    /// The authorisation server's validated address, `https://HOST`; a renewal may name another one of Bitrix24's.
    pub server: String,
    /// Where the tokens are kept.
    pub vault: Vault,
}

/// Where an application's tokens are kept. Errors are for people, without a secret in them.
#[derive(Clone)]
pub struct Vault {
    /// The tokens kept last, if they came from the application and the refresh token in use. Asked before a renewal, so
    /// that what another process has renewed is found.
    pub load: Arc<dyn Fn() -> BoxFuture<'static, Result<Option<Tokens>, String>> + Send + Sync>,
    /// Replaces the tokens, all of them or none, and returns when that is durable.
    pub keep: Arc<dyn Fn(Tokens) -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

/// An access token that the portal refused, and how.
pub(super) struct Refused {
    pub(super) access: SecretString,
    pub(super) error: CallError,
}

/// The tokens in force, and their renewal.
pub(super) struct Session {
    renewal: Renewal,
    first_refresh: SecretString,
    vault: Vault,
    clock: Clock,
    endpoint: Endpoint,
    in_force: Mutex<Option<Tokens>>,
    /// Held during a renewal: whoever needs a token meanwhile waits here.
    renewing: tokio::sync::Mutex<Renewing>,
}

#[derive(Default)]
struct Renewing {
    /// New tokens that could not be stored: the old refresh token is void, so these are all there is.
    unsaved: Option<Tokens>,
    failed: Option<(Instant, CallError)>,
}

impl Session {
    pub(super) fn new(
        transport: Transport,
        options: OAuthOptions,
        endpoint: Endpoint,
        clock: Clock,
    ) -> Session {
        endpoint.hide(&options.client_secret);
        endpoint.hide(&options.refresh_token);
        Session {
            renewal: Renewal {
                transport,
                client_id: options.client_id,
                client_secret: options.client_secret,
                server: options.server,
            },
            first_refresh: options.refresh_token,
            vault: options.vault,
            clock,
            endpoint,
            in_force: Mutex::new(None),
            renewing: tokio::sync::Mutex::default(),
        }
    }

    /// The access token in force, without waiting.
    pub(super) fn ready(&self) -> Option<SecretString> {
        self.in_force().map(|tokens| tokens.access)
    }

    fn in_force(&self) -> Option<Tokens> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The access token in force; a renewal under way is waited for, and the first token is fetched.
    pub(super) async fn access(self: &Arc<Session>) -> Result<SecretString, CallError> {
        drop(self.renewing.lock().await);
        match self.ready() {
            Some(access) => Ok(access),
            None => self.replace(None).await,
        }
    }

    /// An access token other than the refused one. Runs to its end even if nobody waits any more: the answer holds the
    /// only valid refresh token.
    pub(super) async fn replace(
        self: &Arc<Session>,
        refused: Option<Refused>,
    ) -> Result<SecretString, CallError> {
        let session = Arc::clone(self);
        let renewal = tokio::spawn(async move { session.replace_once(refused).await });
        match renewal.await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(errors::not_now("<interrupted>", "the renewal of the access token was interrupted"))
            }
        }
    }

    async fn replace_once(&self, refused: Option<Refused>) -> Result<SecretString, CallError> {
        let mut renewing = self.renewing.lock().await;
        let refused = refused.as_ref();
        if let Some(tokens) = self.in_force().filter(|tokens| is_other(tokens, refused)) {
            return Ok(tokens.access);
        }
        if let Some((_, error)) = renewing.failed.as_ref().filter(|(at, _)| at.elapsed() < HOLD_OFF) {
            return Err(error.clone());
        }
        match self.obtain(&mut renewing, refused).await {
            Ok(tokens) => {
                renewing.failed = None;
                let access = tokens.access.clone();
                *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokens);
                Ok(access)
            }
            Err(error) => {
                renewing.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn obtain(&self, renewing: &mut Renewing, refused: Option<&Refused>) -> Result<Tokens, CallError> {
        if renewing.unsaved.is_some() {
            return self.save(renewing).await;
        }
        let stored = self.load().await?;
        if let Some(tokens) = stored.clone().filter(|tokens| is_other(tokens, refused)) {
            return Ok(tokens);
        }
        let last = stored.or_else(|| self.in_force());
        let now = self.clock.now();
        if let (Some(last), Some(refused)) = (&last, refused)
            && is_young(last, now)
        {
            return Err(refused.error.clone());
        }
        let refresh = last.as_ref().map_or(&self.first_refresh, |last| &last.refresh);
        let server = last.as_ref().map(|last| last.server.as_str());
        match self.renewal.ask(&self.endpoint, refresh, server, now).await {
            Ok(tokens) => {
                self.hide(&tokens);
                renewing.unsaved = Some(tokens);
                self.save(renewing).await
            }
            // Another process may have used up the refresh token a moment ago.
            Err(error) if error.fault.code == "invalid_grant" => match self.load().await? {
                Some(tokens) if tokens.refresh.expose_secret() != refresh.expose_secret() => Ok(tokens),
                Some(_) | None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn load(&self) -> Result<Option<Tokens>, CallError> {
        match (self.vault.load)().await {
            Ok(tokens) => {
                if let Some(tokens) = &tokens {
                    self.hide(tokens);
                }
                Ok(tokens)
            }
            Err(why) => {
                let why = self.endpoint.scrub(&format!("the stored tokens can't be read: {why}"));
                Err(errors::not_now("<tokens not read>", &why))
            }
        }
    }

    /// Stores what is unsaved, and only then gives it out.
    async fn save(&self, renewing: &mut Renewing) -> Result<Tokens, CallError> {
        let Some(tokens) = renewing.unsaved.clone() else {
            return Err(errors::not_now("<tokens not stored>", "there are none"));
        };
        if let Err(why) = (self.vault.keep)(tokens.clone()).await {
            let why = self.endpoint.scrub(&format!("the new tokens can't be stored: {why}"));
            tracing::error!("{why}; they are kept in memory and stored later");
            return Err(errors::not_now("<tokens not stored>", &why));
        }
        renewing.unsaved = None;
        tracing::info!(expires_at = %tokens.expires_at, "the access token was renewed");
        Ok(tokens)
    }

    fn hide(&self, tokens: &Tokens) {
        self.endpoint.hide(&tokens.access);
        self.endpoint.hide(&tokens.refresh);
    }
}

/// Whether these are other tokens than the refused one.
fn is_other(tokens: &Tokens, refused: Option<&Refused>) -> bool {
    refused.is_none_or(|refused| refused.access.expose_secret() != tokens.access.expose_secret())
}

fn is_young(tokens: &Tokens, now: Timestamp) -> bool {
    let age = now.duration_since(tokens.renewed_at);
    // A clock that was set back says nothing about the age.
    !age.is_negative() && age < YOUNG && now < tokens.expires_at
}

/// The body of a call: its parameters, and the access token of an application.
pub(super) fn body(params: &Value, access: Option<&SecretString>) -> String {
    match (params, access) {
        (Value::Object(params), Some(access)) => {
            let mut params = params.clone();
            params.insert("auth".to_owned(), Value::from(access.expose_secret()));
            Value::Object(params).to_string()
        }
        (params, _) => params.to_string(),
    }
}
