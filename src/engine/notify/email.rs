//! Notices by e-mail: one message over SMTP, by TLS unless the server is this machine. The only file that names lettre.
//!
//! The invariants: user and password go over TLS or to the loopback, never in the clear; the message's id follows from
//! what it tells, so that a mail server can know one that is sent twice.

use std::error::Error as _;
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::core::notice::Letter;
use crate::core::notify::Email;

/// How long a mail server may take for the whole conversation: some greet strangers only after half a minute.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How the conversation is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte (`smtps`).
    Tls,
    /// TLS by STARTTLS; without it nothing is sent.
    StartTls,
    /// None: the server is this machine.
    Loopback,
}

/// A mail server, and who we are there.
pub(super) struct Server {
    host: String,
    port: u16,
    security: Security,
    user: Option<(SecretString, SecretString)>,
}

impl Server {
    /// What must not be shown.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        self.user.iter().flat_map(|(user, password)| [user.clone(), password.clone()]).collect()
    }
}

/// The server in a secret: `smtps://USER:PASSWORD@HOST:465`, or `smtp://` with STARTTLS, or to this machine.
pub(super) fn server(secret: &SecretString) -> Result<Server, String> {
    let remedy = "set it to smtps://USER:PASSWORD@HOST, or smtp:// for STARTTLS";
    let url = Url::parse(secret.expose_secret())
        .map_err(|error| format!("it is no address ({error}); {remedy}"))?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let Some(host) = host else { return Err(format!("it names no host; {remedy}")) };
    // The parser looks into the host of a scheme it does not know as little as into any text.
    let local = match Host::parse(host) {
        Ok(Host::Domain(name)) => name == "localhost",
        Ok(Host::Ipv4(ip)) => ip.is_loopback(),
        Ok(Host::Ipv6(ip)) => ip.is_loopback(),
        Err(_) => return Err(format!("its host is no name; {remedy}")),
    };
    let (security, usual) = match url.scheme() {
        "smtps" => (Security::Tls, 465),
        "smtp" if local => (Security::Loopback, 25),
        "smtp" => (Security::StartTls, 587),
        _ => return Err(format!("it is neither smtps nor smtp; {remedy}")),
    };
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("there is something after its host; {remedy}"));
    }
    let decoded = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(|text| SecretString::from(text.into_owned()))
            .map_err(|_| "its user or password is not UTF-8; enter them anew".to_owned())
    };
    let user = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => Some((decoded(user)?, decoded(password.unwrap_or_default())?)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Server { host, port: url.port().unwrap_or(usual), security, user })
}

/// Sends a letter: what the server said, or why it did not take it. Secrets are not hidden here.
pub(super) async fn send(server: &Server, to: &Email, letter: &Letter) -> Result<String, String> {
    let message = message(to, letter)?;
    let tls = || TlsParameters::new(server.host.clone()).map_err(|error| why(&error));
    let tls = match server.security {
        Security::Tls => Tls::Wrapper(tls()?),
        Security::StartTls => Tls::Required(tls()?),
        Security::Loopback => Tls::None,
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
        .port(server.port)
        .tls(tls)
        .timeout(Some(CONNECT_TIMEOUT));
    if let Some((user, password)) = &server.user {
        let (user, password) = (user.expose_secret().to_owned(), password.expose_secret().to_owned());
        transport = transport.credentials(Credentials::new(user, password));
    }
    let transport = transport.build();
    match tokio::time::timeout(TIMEOUT, transport.send(message)).await {
        Ok(Ok(said)) => Ok(format!("{} {}", said.code(), said.message().collect::<Vec<_>>().join(" "))),
        Ok(Err(error)) => Err(why(&error)),
        Err(_) => Err(format!("the mail server did not take it within {} s", TIMEOUT.as_secs())),
    }
}

fn message(to: &Email, letter: &Letter) -> Result<Message, String> {
    let mailbox = |address: &str| {
        address
            .parse::<Address>()
            .map(|address| Mailbox::new(None, address))
            .map_err(|error| format!("{address} is no e-mail address: {error}"))
    };
    let domain = to.from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let Letter { at, occasion, run, .. } = letter;
    let id = format!("<{}.{occasion}.{run}.b24-janitor@{domain}>", at.as_second());
    // So that nobody's out-of-office note answers (RFC 3834).
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut message = Message::builder()
        .from(mailbox(&to.from)?)
        .date(UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default()))
        .message_id(Some(id))
        .subject(&letter.title)
        .header(ContentType::TEXT_PLAIN)
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
    for recipient in &to.to {
        message = message.to(mailbox(recipient)?);
    }
    message.body(format!("{}\n", letter.text)).map_err(|error| error.to_string())
}

/// The error with its innermost cause, which is what a person can act on.
fn why(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Server, String> {
        server(&SecretString::from(text.to_owned()))
    }

    #[test]
    fn only_the_loopback_is_spoken_to_without_tls() {
        for (text, host, port, security) in [
            ("smtps://user:pass@mail.example.org", "mail.example.org", 465, Security::Tls),
            ("smtp://user:pass@mail.example.org", "mail.example.org", 587, Security::StartTls),
            ("smtp://mail.example.org:2525", "mail.example.org", 2525, Security::StartTls),
            ("smtp://10.0.0.1", "10.0.0.1", 587, Security::StartTls),
            ("smtp://localhost", "localhost", 25, Security::Loopback),
            ("smtp://127.0.0.1:1025", "127.0.0.1", 1025, Security::Loopback),
            ("smtp://[::1]", "::1", 25, Security::Loopback),
        ] {
            let server = read(text).unwrap();
            assert_eq!(
                (server.host.as_str(), server.port, server.security),
                (host, port, security),
                "{text}"
            );
        }
    }

    #[test]
    fn user_and_password_are_read_as_they_were_encoded() {
        let server = read("smtps://me%40example.org:p%2Fw%3A1@mail.example.org").unwrap();
        let secrets: Vec<String> =
            server.secrets().iter().map(|secret| secret.expose_secret().to_owned()).collect();
        assert_eq!(secrets, ["me@example.org", "p/w:1"]);
    }

    #[test]
    fn what_is_no_mail_server_is_refused_without_its_text() {
        for text in
            ["mail.example.org", "https://k3y@example.org", "smtp://k3y@", "smtps://mail.example.org/k3y"]
        {
            let why = read(text).err().unwrap();
            assert!(!why.contains("k3y"), "{why}");
        }
    }
}
