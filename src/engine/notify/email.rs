//! Notices by e-mail: one message over SMTP, by TLS unless the server is this machine. The only file that names lettre.
//!
//! The invariants: user and password go over TLS or to the loopback, never in the clear; the message's id is that of the
//! notice, so that a mail server can know one that is sent twice; each recipient is asked for by itself, so that one that
//! the server refuses keeps it from nobody else.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::time::{Duration, UNIX_EPOCH};

use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message};
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
    /// What must not be shown: user and password, as they are and as they go over the wire (RFC 4616 and AUTH LOGIN).
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        let forms = |(user, password): &(SecretString, SecretString)| {
            let (name, word) = (user.expose_secret(), password.expose_secret());
            let mut forms = vec![user.clone(), password.clone()];
            for said in [
                format!("\0{name}\0{word}"),
                format!("{name}\0{name}\0{word}"),
                name.to_owned(),
                word.to_owned(),
            ] {
                forms.extend(base64(said).map(SecretString::from));
            }
            forms
        };
        self.user.iter().flat_map(forms).collect()
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

/// A text in base64, without what only fills it up: that way it is also found where it was cut off.
fn base64(text: String) -> Option<String> {
    let body = Body::new_with_encoding(text, ContentTransferEncoding::Base64).ok()?;
    let lines = String::from_utf8(body.into_vec()).ok()?;
    Some(lines.chars().filter(|c| !matches!(c, '\r' | '\n' | '=')).collect())
}

/// What became of a message.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Who has it by now.
    pub(super) took: BTreeSet<String>,
    /// What the server said when it took it.
    pub(super) said: String,
    /// Who does not, and why.
    pub(super) refused: Vec<String>,
    /// Whether another try may bring it to one of these.
    pub(super) again: bool,
}

/// Sends a letter to every recipient who is not in `have`. Secrets are not hidden here.
///
/// # Errors
/// Where no message can be made, or no conversation be begun.
pub(super) async fn send(
    server: &Server,
    to: &Email,
    letter: &Letter,
    have: BTreeSet<String>,
) -> Result<Sent, String> {
    let message = message(to, letter)?.formatted();
    let address = |text: &str| text.parse::<Address>().map_err(|error| format!("{text}: {error}"));
    let from = address(&to.from)?;
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
    let mut sent = Sent { took: have, ..Sent::default() };
    let talk = async {
        for recipient in &to.to {
            if sent.took.contains(recipient) {
                continue;
            }
            let envelope = Envelope::new(Some(from.clone()), vec![address(recipient)?])
                .map_err(|error| error.to_string())?;
            match transport.send_raw(&envelope, &message).await {
                Ok(said) => {
                    sent.said = format!("{} {}", said.code(), said.message().collect::<Vec<_>>().join(" "));
                    sent.took.insert(recipient.clone());
                }
                Err(error) => {
                    sent.again |= !error.is_permanent();
                    sent.refused.push(format!("{recipient}: {}", why(&error)));
                }
            }
        }
        Ok::<(), String>(())
    };
    match tokio::time::timeout(TIMEOUT, talk).await {
        Ok(talked) => talked?,
        Err(_) => {
            sent.again = true;
            sent.refused.push(format!("the mail server did not take it within {} s", TIMEOUT.as_secs()));
        }
    }
    Ok(sent)
}

fn message(to: &Email, letter: &Letter) -> Result<Message, String> {
    let mailbox = |address: &str| {
        address
            .parse::<Address>()
            .map(|address| Mailbox::new(None, address))
            .map_err(|error| format!("{address} is no e-mail address: {error}"))
    };
    let domain = to.from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let Letter { id, at, occasion, run, .. } = letter;
    let id = format!("<{id}.{occasion}.{run}.b24-janitor@{domain}>");
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
    use crate::core::notice::Occasion;
    use crate::core::notify::Variable;

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
        let (user, password) = server.user.unwrap();
        assert_eq!((user.expose_secret(), password.expose_secret()), ("me@example.org", "p/w:1"));
    }

    #[test]
    fn a_message_has_the_same_id_at_every_try_and_another_for_every_target_and_notice() {
        let at = "2026-11-25T10:00:00.25Z".parse().unwrap();
        let id = |target: &str, number: i64, more: u64| {
            let told = ("Something.".to_owned(), "junk".to_owned(), 3, 4);
            let letter = Letter::of((target, number), "acme.bitrix24.com", Occasion::Held, told, at, more);
            let to = Email {
                to: vec!["boss@example.org".to_owned()],
                from: "janitor@example.org".to_owned(),
                smtp: Variable::parse("JANITOR_SMTP_URL").unwrap(),
            };
            let text = String::from_utf8(message(&to, &letter).unwrap().formatted()).unwrap();
            text.lines().find(|line| line.starts_with("Message-ID: ")).unwrap().to_owned()
        };
        assert_eq!(id("ops", 7, 0), id("ops", 7, 5));
        assert_ne!(id("ops", 7, 0), id("boss", 8, 0));
        assert_ne!(id("ops", 7, 0), id("ops", 9, 0));
        let test = |target: &str| Letter::test("acme.bitrix24.com", target, at).id;
        assert_ne!(test("ops"), test("boss"));
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
