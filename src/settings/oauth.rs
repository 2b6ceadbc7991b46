//! A local application's settings: a webhook or all of them, never a mixture and never a part.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::reader::{Reader, Reported, has_blank};
use super::webhook_url::is_loopback;
use super::{Need, WebhookUrl};

/// The authorisation server of most portals; a renewal's answer names that of the portal's region
/// (<https://apidocs.bitrix24.com/settings/oauth/index.html>).
const SERVER: &str = "https://oauth.bitrix.info";

const PORTAL_URL: &str = "B24_PORTAL_URL";
const CLIENT_ID: &str = "B24_OAUTH_CLIENT_ID";
const CLIENT_SECRET: &str = "B24_OAUTH_CLIENT_SECRET";
const REFRESH_TOKEN: &str = "B24_OAUTH_REFRESH_TOKEN";
const OAUTH_SERVER: &str = "B24_OAUTH_SERVER";

/// A local application instead of a webhook.
#[derive(Debug, Clone)]
pub struct OAuthSettings {
    /// `B24_OAUTH_CLIENT_ID`
    pub client_id: String,
    /// `B24_OAUTH_CLIENT_SECRET`
    pub client_secret: SecretString,
    /// `B24_OAUTH_REFRESH_TOKEN`: the first one; those that follow are kept in the database.
    pub refresh_token: SecretString,
    /// `B24_PORTAL_URL`
    pub portal: ServerUrl,
    /// `B24_OAUTH_SERVER`
    pub server: ServerUrl,
}

/// A checked address of a server, `https://HOST` with a port if it isn't the usual one; no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    origin: String,
    host: String,
}

impl ServerUrl {
    /// Reads an address. A slash at its end is dropped; `http` is accepted for a host of the loopback only.
    ///
    /// # Errors
    /// What is wrong with anything else, as half a sentence.
    pub fn parse(text: &str) -> Result<ServerUrl, &'static str> {
        if text.starts_with(['"', '\'']) {
            return Err("it is in quotes, which environment files take literally");
        }
        if has_blank(text) {
            return Err("there is a blank or a line break in it");
        }
        let Ok(url) = Url::parse(text) else { return Err("it is not a web address") };
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err("the scheme is http, which would send tokens in the clear"),
            _ => return Err("it does not begin with https://"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("there is a user name or a password before the host");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("something follows the host");
        }
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(ServerUrl { origin: format!("{}://{host}", url.scheme()), host })
    }

    /// The host, with a port if it isn't the usual one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `https://HOST`, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.origin
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl Reader<'_> {
    /// The webhook or the application; under [`Need::Portal`] exactly one of them, or problems.
    pub(super) fn access(&mut self, need: Need) -> (Option<WebhookUrl>, Option<OAuthSettings>) {
        let webhook = self.secret("B24_WEBHOOK_URL");
        let client_id = self.secret(CLIENT_ID);
        let client_secret = self.secret(CLIENT_SECRET);
        let refresh_token = self.secret(REFRESH_TOKEN);
        let portal =
            self.server_url(PORTAL_URL, "the portal's address, such as https://example.bitrix24.com");
        let server = self.server_url(
            OAUTH_SERVER,
            "the authorisation server's address, such as https://oauth.bitrix.info",
        );

        let parts = [
            (CLIENT_ID, is_given(&client_id)),
            (CLIENT_SECRET, is_given(&client_secret)),
            (REFRESH_TOKEN, is_given(&refresh_token)),
            (PORTAL_URL, is_given(&portal)),
        ];
        let all = parts.into_iter().chain([(OAUTH_SERVER, is_given(&server))]);
        let given: Vec<&str> = all.filter(|(_, given)| *given).map(|(name, _)| name).collect();
        if given.is_empty() {
            return (self.webhook(webhook, need), None);
        }
        if is_given(&webhook) {
            let webhook = self.webhook(webhook, need);
            self.problem(
                "B24_WEBHOOK_URL",
                None,
                format!("it is set, and so is a local application ({})", given.join(", ")),
                "keep the webhook or the application, so that it is certain on whose behalf leads are deleted",
            );
            return (webhook, None);
        }
        if need == Need::Portal {
            for (name, _) in parts.into_iter().filter(|(_, given)| !given) {
                self.problem(
                    name,
                    None,
                    format!("it is not set, though a local application is meant by {}", given.join(", ")),
                    "a local application needs B24_PORTAL_URL, B24_OAUTH_CLIENT_ID, B24_OAUTH_CLIENT_SECRET and \
                     B24_OAUTH_REFRESH_TOKEN; set them all, or B24_WEBHOOK_URL and none of them",
                );
            }
        }
        for (name, secret) in
            [(CLIENT_ID, &client_id), (CLIENT_SECRET, &client_secret), (REFRESH_TOKEN, &refresh_token)]
        {
            if let Ok(Some(secret)) = secret
                && (has_blank(secret.expose_secret()) || secret.expose_secret().starts_with(['"', '\'']))
            {
                self.problem(
                    name,
                    None,
                    "there is a blank, a line break or a quote in it",
                    "copy it from the portal, without quotes: Developer resources → the local application",
                );
            }
        }
        match (client_id, client_secret, refresh_token, portal, server) {
            (
                Ok(Some(id)),
                Ok(Some(client_secret)),
                Ok(Some(refresh_token)),
                Ok(Some(portal)),
                Ok(server),
            ) => {
                let client_id = id.expose_secret().to_owned();
                let server = server.unwrap_or_else(|| ServerUrl {
                    origin: SERVER.to_owned(),
                    host: SERVER.trim_start_matches("https://").to_owned(),
                });
                (None, Some(OAuthSettings { client_id, client_secret, refresh_token, portal, server }))
            }
            _ => (None, None),
        }
    }

    fn server_url(&mut self, name: &str, what: &str) -> Result<Option<ServerUrl>, Reported> {
        let Some(text) = self.plain(name)? else { return Ok(None) };
        match ServerUrl::parse(&text) {
            Ok(url) => Ok(Some(url)),
            Err(message) => {
                // A webhook's address put here by mistake is a secret.
                self.problem(name, None, message, format!("write {what} (http is only for a loopback host)"));
                Err(Reported)
            }
        }
    }
}

/// Whether a setting was given, be it rightly or wrongly.
fn is_given<T>(setting: &Result<Option<T>, Reported>) -> bool {
    !matches!(setting, Ok(None))
}
