//! What the program was told from outside: flag beats environment beats default; every problem in one pass.
//!
//! The command line is read elsewhere (`cli`); here its values arrive as plain data, so that everything in this
//! module is a function of its arguments and of the secret files that they name. A secret's value is in no
//! `Debug`, no [`Problem`] and no flag.

mod address;
mod oauth;
mod reader;
mod source;
mod webhook_url;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Serialize;

use crate::core::age::Age;
pub use oauth::{OAuthSettings, ServerUrl};
use reader::Reader;
pub use source::Source;
pub use webhook_url::{WebhookUrl, WebhookUrlError};

/// What the command line said; `None` is a flag that wasn't given.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--rules`
    pub rules: Option<PathBuf>,
    /// `--db`
    pub db: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<String>,
    /// `--admin-listen`
    pub admin_listen: Option<String>,
    /// `--silence-alarm`
    pub silence_alarm: Option<String>,
    /// `--log`
    pub log: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

/// What a command can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It talks to the portal: a webhook's address or a local application is required.
    Portal,
    /// It works on files and the database only.
    NoPortal,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `B24_WEBHOOK_URL`; under [`Need::Portal`] it or [`Settings::oauth`] is there, never both.
    pub webhook: Option<WebhookUrl>,
    /// `B24_PORTAL_URL` and `B24_OAUTH_…`: a local application instead of a webhook.
    pub oauth: Option<OAuthSettings>,
    /// `B24_APPLICATION_TOKEN`: the outgoing webhook's tokens. Without one no event is accepted.
    pub application_tokens: Vec<SecretString>,
    /// `JANITOR_RULES`: a file, or a directory of them. Not looked at here.
    pub rules: PathBuf,
    /// `JANITOR_DB`.
    pub db: PathBuf,
    /// `--rules` and `--db` as they were typed, for commands that are suggested.
    pub given: Vec<(&'static str, PathBuf)>,
    /// `JANITOR_LISTEN`: the public listener.
    pub listen: SocketAddr,
    /// `JANITOR_ADMIN_LISTEN`: the admin listener; `None` is `off`.
    pub admin_listen: Option<SocketAddr>,
    /// `JANITOR_SILENCE_ALARM`: without an event for so long, rules with events sweep and `/readyz` says so; `None` is `off`.
    pub silence_alarm: Option<Age>,
    /// `JANITOR_LOG`: a filter that `tracing_subscriber::EnvFilter` reads.
    pub log: String,
    /// Whether nobody chose [`Settings::log`]: commands that end by themselves then log less.
    pub log_is_default: bool,
    /// `JANITOR_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `JANITOR_ADMIN_TOKEN`: what the admin listener asks for; required beyond the loopback.
    pub admin_token: Option<SecretString>,
    /// `JANITOR_ADMIN_HOSTS`: further names that the admin listener answers to, in lower case, without ports.
    pub admin_hosts: Vec<String>,
}

/// One thing wrong with the settings, for the person who made them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The variable, and the flag if there is one: `JANITOR_LISTEN (--listen)`.
    pub variable: String,
    /// What it was set to; never a secret's value.
    pub value: Option<String>,
    /// What is wrong, as half a sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.variable)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for Problem {}

impl Settings {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// Every problem there is, in the order of the documentation's table.
    pub fn load(flags: &Flags, source: &Source, need: Need) -> Result<Settings, Vec<Problem>> {
        let mut reader = Reader::new(source);
        let (webhook, oauth) = reader.access(need);
        let application_tokens = reader.application_tokens();
        let rules = reader.path("JANITOR_RULES", "--rules", flags.rules.as_deref(), "rules.yaml");
        let db = reader.path("JANITOR_DB", "--db", flags.db.as_deref(), "janitor.db");
        reader.check_db(&db);
        let given = [("--rules", &flags.rules), ("--db", &flags.db)];
        let given = given.into_iter().filter_map(|(flag, path)| Some((flag, path.clone()?))).collect();
        let listen = reader.listen(flags.listen.as_deref());
        let admin_listen = reader.admin_listen(flags.admin_listen.as_deref());
        let silence_alarm = reader.silence_alarm(flags.silence_alarm.as_deref());
        let log = reader.log(flags.log.as_deref());
        let log_is_default = flags.log.is_none() && source.get("JANITOR_LOG").is_none();
        let log_format = reader.log_format(flags.log_format.as_deref());
        let admin_token = reader.admin_token();
        let admin_hosts = reader.admin_hosts();
        reader.check_listeners(listen.as_ref(), admin_listen.as_ref(), &admin_token);

        match (listen, admin_listen, silence_alarm, log_format, admin_token) {
            (Some(listen), Some(admin_listen), Some(silence_alarm), Some(log_format), Ok(admin_token))
                if reader.problems.is_empty() =>
            {
                Ok(Settings {
                    webhook,
                    oauth,
                    application_tokens,
                    rules,
                    db,
                    given,
                    listen: listen.address,
                    admin_listen: admin_listen.map(|admin| admin.address),
                    silence_alarm,
                    log,
                    log_is_default,
                    log_format,
                    admin_token,
                    admin_hosts,
                })
            }
            _ => Err(reader.problems),
        }
    }

    /// The portal's host, with a port if it isn't the usual one; `None` where neither a webhook nor an application is
    /// set.
    pub fn portal_host(&self) -> Option<String> {
        let application = || self.oauth.as_ref().map(|oauth| oauth.portal.host().to_owned());
        self.webhook.as_ref().map(WebhookUrl::host).or_else(application)
    }
}

#[cfg(test)]
mod tests;
