//! A local application's OAuth: tokens that expire, and the authorization server that renews them.
//!
//! Bitrix24 docs: `settings/oauth/index.md`, `auto-renewal.md`, `error-codes.md`. An access token lives 3,600 s. A
//! renewal replaces both tokens; the old refresh token is refused from then on, which is the harder case for a client
//! that loses the answer.

use super::methods::RestError;
use super::php::{Arr, Val};

/// Seconds that an access token lives.
const LIFETIME_SECONDS: i64 = 3600;

/// A local application that is installed in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthApp {
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`.
    pub client_secret: String,
    /// The refresh token that the application starts with; it has no access token yet.
    pub refresh_token: String,
}

/// The tokens in force.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    renewed: u64,
    access: Option<(String, i64)>,
    refresh: Option<String>,
    past: Vec<String>,
}

impl Tokens {
    /// `GET /oauth/token/?grant_type=refresh_token&…`: new tokens, or the documented error.
    pub(super) fn renew(
        &mut self,
        app: Option<&OauthApp>,
        params: &Arr,
        now: i64,
        domain: &str,
        scope: &[String],
        user_id: u32,
    ) -> Result<Arr, RestError> {
        let param = |name: &str| params.get(name).and_then(Val::as_str).unwrap_or_default();
        let refuse = |code: &str, text: &str| Err(RestError::new(400, code, text));
        let Some(app) = app
            .filter(|app| app.client_id == param("client_id") && app.client_secret == param("client_secret"))
        else {
            return refuse("invalid_client", "The client credentials are invalid");
        };
        if param("grant_type") != "refresh_token" {
            return refuse("invalid_request", "Unsupported grant type");
        }
        if self.refresh.as_ref().unwrap_or(&app.refresh_token) != param("refresh_token") {
            return refuse("invalid_grant", "Invalid refresh token");
        }
        self.renewed += 1;
        let access = format!("access{:08}", self.renewed);
        let refresh = format!("refresh{:08}", self.renewed);
        if let Some((old, _)) = self.access.replace((access.clone(), now + LIFETIME_SECONDS)) {
            self.past.push(old);
        }
        self.refresh = Some(refresh.clone());
        let mut body = Arr::new();
        body.field("access_token", access);
        body.field("refresh_token", refresh);
        body.field("expires", now + LIFETIME_SECONDS);
        body.field("expires_in", LIFETIME_SECONDS);
        body.field("client_endpoint", format!("http://{domain}/rest/"));
        body.field("server_endpoint", format!("http://{domain}/rest/"));
        body.field("domain", domain);
        body.field("member_id", "a223c6b3710f85df22e9377d6c4f7553");
        body.field("scope", scope.join(","));
        body.field("status", "L");
        body.field("user_id", user_id);
        Ok(body)
    }

    /// Whether an access token is in force.
    ///
    /// # Errors
    /// `expired_token` or `invalid_token`, HTTP 401.
    pub(super) fn check(&self, token: &str, now: i64) -> Result<(), RestError> {
        match &self.access {
            Some((access, expires)) if access == token && now < *expires => Ok(()),
            Some((access, _)) if access == token || self.past.iter().any(|past| past == token) => {
                Err(RestError::new(401, "expired_token", "The access token provided has expired"))
            }
            Some(_) | None => Err(RestError::new(401, "invalid_token", "Unable to get application by token")),
        }
    }
}
