//! The address of an incoming webhook, which is a secret as a whole: whoever has it acts as its owner.
//!
//! It is taken apart once, here, so that nothing else handles its text. The form is the one of Bitrix24's page
//! "Incoming and outgoing webhooks" (local-integrations/local-webhooks.md): `https://HOST/rest/USER/CODE/`.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

/// A checked webhook address. Its `Display` and `Debug` are redacted: `https://HOST/rest/USER/…/`.
#[derive(Clone)]
pub struct WebhookUrl {
    /// Scheme, host and port; the path is `/`.
    origin: Url,
    /// The user the webhook acts as.
    user_id: u64,
    /// `/rest/USER/CODE/`.
    path: SecretString,
}

/// Why a text is not a webhook address. Never contains the code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WebhookUrlError {
    /// What is wrong, as half a sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

const WHERE: &str = "copy it from the portal: Developer resources → Other → Incoming webhook; it looks like \
                     https://example.bitrix24.com/rest/1/abcdef0123456789/";

impl WebhookUrl {
    /// Reads an address; adds the slash at its end if that is missing.
    ///
    /// # Errors
    /// Anything else than `https://HOST/rest/USER/CODE/`; `http` is accepted for a host of the loopback only.
    pub fn parse(text: &str) -> Result<WebhookUrl, WebhookUrlError> {
        if text.starts_with(['"', '\'']) {
            return Err(error("it is in quotes", "remove the quotes: environment files take them literally"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(error("there is a blank or a line break in it", WHERE));
        }
        let Ok(url) = Url::parse(text) else {
            return Err(error("it is not a web address", WHERE));
        };
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => {
                return Err(error(
                    "the scheme is http, which would send the code in the clear; Bitrix24 refuses it too",
                    "write https:// (http is only for a loopback host, such as the sandbox)",
                ));
            }
            _ => return Err(error("it does not begin with https://", WHERE)),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(error("there is a user name or a password before the host", WHERE));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(error("there is a `?` or a `#` in it", "end it after the code: .../rest/USER/CODE/"));
        }
        let segments: Vec<&str> = url.path().trim_start_matches('/').split('/').collect();
        let (user, code) = match segments.as_slice() {
            ["rest", user, code] | ["rest", user, code, ""] => (*user, *code),
            ["rest", "api", ..] => {
                return Err(error(
                    "it is an address of the version 3 of the REST interface (/rest/api/)",
                    "write the address without `api`: .../rest/USER/CODE/",
                ));
            }
            ["rest", user, _, ..] if is_number(user) => {
                return Err(error(
                    "something follows the code, such as the method of an example (profile.json)",
                    "end it after the code: .../rest/USER/CODE/",
                ));
            }
            ["rest", ..] => return Err(error("the user and the code are missing after /rest/", WHERE)),
            _ => {
                return Err(error(
                    "its path does not begin with /rest/",
                    "an outgoing webhook's address is where the portal sends its events; this setting is the \
                     address of an *incoming* webhook, .../rest/USER/CODE/",
                ));
            }
        };
        let Some(user_id) = Some(user).filter(|user| is_number(user)).and_then(|user| user.parse().ok())
        else {
            return Err(error("what follows /rest/ is not the number of a user", WHERE));
        };
        if code.is_empty() {
            return Err(error("the code is missing after the user", WHERE));
        }
        if !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(error("the code has characters other than letters and digits", WHERE));
        }
        let path = SecretString::from(format!("/rest/{user}/{code}/"));
        let mut origin = url;
        origin.set_path("/");
        Ok(WebhookUrl { origin, user_id, path })
    }

    /// The portal's host, with a port if it isn't the usual one.
    pub fn host(&self) -> String {
        let host = self.origin.host_str().unwrap_or_default();
        match self.origin.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The user the webhook acts as; what that user may not read or delete, we can't either.
    pub fn user_id(&self) -> u64 {
        self.user_id
    }

    /// The address of a method, such as `crm.item.list`. **A secret**: hand it to the HTTP client, never to a
    /// log or an error, and strip it from the client's errors (`reqwest::Error::without_url`).
    pub fn method_url(&self, method: &str) -> Url {
        let mut url = self.origin.clone();
        url.set_path(&format!("{}{method}", self.path.expose_secret()));
        url
    }

    /// The whole address, for the client. **A secret.**
    pub fn secret(&self) -> SecretString {
        SecretString::from(self.method_url("").to_string())
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/rest/{}/…/", self.origin.scheme(), self.host(), self.user_id)
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn error(message: &str, remedy: &str) -> WebhookUrlError {
    WebhookUrlError { message: message.to_owned(), remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_completed() {
        for text in ["https://a.bitrix24.de/rest/12/s3cr3tcode/", "https://a.bitrix24.de/rest/12/s3cr3tcode"]
        {
            let webhook = WebhookUrl::parse(text).unwrap();
            assert_eq!(webhook.host(), "a.bitrix24.de");
            assert_eq!(webhook.user_id(), 12);
            assert_eq!(
                webhook.method_url("crm.item.list").as_str(),
                "https://a.bitrix24.de/rest/12/s3cr3tcode/crm.item.list"
            );
        }
    }

    #[test]
    fn the_code_is_never_shown() {
        let webhook = WebhookUrl::parse("https://a.bitrix24.de/rest/12/s3cr3tcode/").unwrap();
        assert_eq!(webhook.to_string(), "https://a.bitrix24.de/rest/12/…/");
        assert_eq!(format!("{webhook:?}"), "WebhookUrl(https://a.bitrix24.de/rest/12/…/)");
    }

    #[test]
    fn http_is_for_loopback_hosts_only() {
        for host in ["localhost:8090", "127.0.0.1:8090", "127.9.9.9", "[::1]:8090"] {
            let webhook = WebhookUrl::parse(&format!("http://{host}/rest/1/code/")).unwrap();
            assert_eq!(webhook.host(), host);
        }
        for host in ["a.bitrix24.de", "10.0.0.1", "localhost.example.com", "0.0.0.0", "[::2]"] {
            let error = WebhookUrl::parse(&format!("http://{host}/rest/1/code/")).unwrap_err();
            assert!(error.message.contains("http, which"), "{host}: {error}");
        }
    }

    #[test]
    fn common_mistakes_get_their_own_words_and_never_the_code() {
        for (text, message) in [
            ("https://a.bitrix24.de/rest/1/s3cr3tcode/profile.json", "follows the code"),
            ("https://a.bitrix24.de/rest/1/s3cr3tcode//", "follows the code"),
            ("https://a.bitrix24.de/rest/s3cr3tcode/1/", "not the number of a user"),
            ("https://a.bitrix24.de/rest/-1/s3cr3tcode/", "not the number of a user"),
            ("https://a.bitrix24.de/rest/99999999999999999999/s3cr3tcode/", "not the number of a user"),
            ("https://a.bitrix24.de/rest/1/", "code is missing"),
            ("https://a.bitrix24.de/rest/", "user and the code are missing"),
            ("https://a.bitrix24.de/rest/api/1/s3cr3tcode/", "version 3"),
            ("https://janitor.example.com/bitrix24/events?s3cr3tcode", "`?`"),
            ("https://janitor.example.com/bitrix24/events/s3cr3tcode", "does not begin with /rest/"),
            ("https://a.bitrix24.de/rest/1/s3cr3tcode/?x=1", "`?`"),
            ("https://a.bitrix24.de/rest/1/s3cr3tcode/#x", "`#`"),
            ("https://me:s3cr3tcode@a.bitrix24.de/rest/1/s3cr3tcode/", "before the host"),
            ("https://a.bitrix24.de/rest/1/s3cr3tcode%20/", "letters and digits"),
            ("ftp://a.bitrix24.de/rest/1/s3cr3tcode/", "https://"),
            ("a.bitrix24.de/rest/1/s3cr3tcode/", "not a web address"),
            ("\"https://a.bitrix24.de/rest/1/s3cr3tcode/\"", "quotes"),
            ("https://a.bitrix24.de/rest/1/ s3cr3tcode/", "blank"),
        ] {
            let error = WebhookUrl::parse(text).expect_err(text);
            assert!(error.message.contains(message), "{text}: {error}");
            assert!(!format!("{error:?}").contains("s3cr3tcode"), "{error:?}");
        }
    }
}
