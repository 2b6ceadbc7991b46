//! What the program was told from outside: flag beats environment beats default; every problem in one pass.
//!
//! The command line is read elsewhere (`cli`); here its values arrive as plain data, so that everything in this
//! module is a function of its arguments and of the secret files that they name. A secret's value is in no
//! `Debug`, no [`Problem`] and no flag.

mod address;
mod source;
mod webhook_url;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

pub use source::Source;
pub use webhook_url::{WebhookUrl, WebhookUrlError};

/// The most tokens or host names that one variable may list: a portal has one token, two while it is changed.
const MAX_LISTED: usize = 32;

/// The variables of a local application, which this version does not support.
const OAUTH: &[&str] = &[
    "B24_OAUTH_CLIENT_ID",
    "B24_OAUTH_CLIENT_SECRET",
    "B24_OAUTH_REFRESH_TOKEN",
    "B24_PORTAL_URL",
    "B24_OAUTH_SERVER",
];

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

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
    /// `--log`
    pub log: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

/// What a command can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It talks to the portal: the webhook's address is required.
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
    /// `B24_WEBHOOK_URL`; always there under [`Need::Portal`].
    pub webhook: Option<WebhookUrl>,
    /// `B24_APPLICATION_TOKEN`: the outgoing webhook's tokens. Without one no event is accepted.
    pub application_tokens: Vec<SecretString>,
    /// `JANITOR_RULES`: a file, or a directory of them. Not looked at here.
    pub rules: PathBuf,
    /// `JANITOR_DB`.
    pub db: PathBuf,
    /// `JANITOR_LISTEN`: the public listener.
    pub listen: SocketAddr,
    /// `JANITOR_ADMIN_LISTEN`: the admin listener; `None` is `off`.
    pub admin_listen: Option<SocketAddr>,
    /// `JANITOR_LOG`: a filter that `tracing_subscriber::EnvFilter` reads.
    pub log: String,
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
        let mut reader = Reader { source, problems: Vec::new() };
        let webhook = reader.webhook(need);
        let application_tokens = reader.application_tokens();
        reader.refuse_oauth();
        let rules = reader.path("JANITOR_RULES", "--rules", flags.rules.as_deref(), "rules.yaml");
        let db = reader.path("JANITOR_DB", "--db", flags.db.as_deref(), "janitor.db");
        reader.check_db(&db);
        let listen = reader.listen(flags.listen.as_deref());
        let admin_listen = reader.admin_listen(flags.admin_listen.as_deref());
        let log = reader.log(flags.log.as_deref());
        let log_format = reader.log_format(flags.log_format.as_deref());
        let admin_token = reader.admin_token();
        let admin_hosts = reader.admin_hosts();
        reader.check_listeners(listen.as_ref(), admin_listen.as_ref(), &admin_token);

        match (listen, admin_listen, log_format, admin_token) {
            (Some(listen), Some(admin_listen), Some(log_format), Ok(admin_token))
                if reader.problems.is_empty() =>
            {
                Ok(Settings {
                    webhook,
                    application_tokens,
                    rules,
                    db,
                    listen: listen.address,
                    admin_listen: admin_listen.map(|admin| admin.address),
                    log,
                    log_format,
                    admin_token,
                    admin_hosts,
                })
            }
            _ => Err(reader.problems),
        }
    }
}

/// A setting that was reported as a problem already.
struct Reported;

/// An address and how it came to be, for a problem that shows only later.
struct Listen {
    address: SocketAddr,
    written: String,
}

/// Reads one setting after the other, and collects what is wrong with them.
struct Reader<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn webhook(&mut self, need: Need) -> Option<WebhookUrl> {
        let name = "B24_WEBHOOK_URL";
        match (self.secret(name), need) {
            (Ok(Some(text)), _) => match WebhookUrl::parse(text.expose_secret()) {
                Ok(webhook) => return Some(webhook),
                Err(error) => self.problem(name, None, error.message, error.remedy),
            },
            (Ok(None), Need::Portal) => self.problem(
                name,
                None,
                "it is not set, and this command needs the portal",
                "set it to the address of an incoming webhook with the scope crm, \
                 https://HOST/rest/USER/CODE/, or put that into a file and name it in B24_WEBHOOK_URL_FILE",
            ),
            (Ok(None), Need::NoPortal) | (Err(Reported), _) => {}
        }
        None
    }

    fn application_tokens(&mut self) -> Vec<SecretString> {
        let name = "B24_APPLICATION_TOKEN";
        let Ok(Some(text)) = self.secret(name) else { return Vec::new() };
        let tokens: Vec<&str> = text.expose_secret().split(',').map(str::trim).collect();
        let remedy = "write the token that the portal shows in the form of the outgoing webhook; several are \
                      separated by one comma each";
        if tokens.len() > MAX_LISTED {
            self.problem(name, None, format!("it lists more than {MAX_LISTED} tokens"), remedy);
        }
        if tokens.iter().any(|token| token.is_empty()) {
            self.problem(name, None, "one of the tokens is empty", remedy);
        }
        if tokens.iter().any(|token| has_blank(token)) {
            self.problem(name, None, "there is a blank or a line break inside a token", remedy);
        }
        tokens.into_iter().map(SecretString::from).collect()
    }

    fn refuse_oauth(&mut self) {
        for name in OAUTH {
            for name in [(*name).to_owned(), format!("{name}_FILE")] {
                if self.source.get(&name).is_some() {
                    self.problem(
                        &name,
                        None,
                        "OAuth (a local application) is not supported by this version",
                        "unset it, and set B24_WEBHOOK_URL to the address of an incoming webhook",
                    );
                }
            }
        }
    }

    fn path(&mut self, name: &str, flag: &str, given: Option<&Path>, default: &str) -> PathBuf {
        let path = given
            .map(Path::as_os_str)
            .or_else(|| self.source.get(name))
            .map_or_else(|| PathBuf::from(default), PathBuf::from);
        if path.as_os_str().is_empty() {
            self.problem(
                &both(name, flag),
                Some(String::new()),
                "the path is empty",
                format!("name a path, or leave the flag out for the default, {default}"),
            );
        }
        path
    }

    fn check_db(&mut self, db: &Path) {
        let message =
            if db.as_os_str() == ":memory:" || db.as_os_str().as_encoded_bytes().starts_with(b"file:") {
                "the database must be a file: events and jobs have to survive a restart"
            } else if db.is_dir() || db.as_os_str().as_encoded_bytes().ends_with(b"/") {
                "this is a directory"
            } else {
                return;
            };
        self.problem(
            &both("JANITOR_DB", "--db"),
            Some(db.display().to_string()),
            message,
            "write the path of a file on a local disk, such as /var/lib/b24-janitor/janitor.db",
        );
    }

    fn listen(&mut self, given: Option<&str>) -> Option<Listen> {
        let (name, flag) = ("JANITOR_LISTEN", "--listen");
        let written = self.text(name, flag, given, "127.0.0.1:8080")?;
        self.address(&both(name, flag), written)
    }

    /// The outer `None` is a problem, the inner one `off`.
    fn admin_listen(&mut self, given: Option<&str>) -> Option<Option<Listen>> {
        let (name, flag) = ("JANITOR_ADMIN_LISTEN", "--admin-listen");
        let written = self.text(name, flag, given, "127.0.0.1:8081")?;
        if written.eq_ignore_ascii_case("off") {
            return Some(None);
        }
        self.address(&both(name, flag), written).map(Some)
    }

    fn address(&mut self, variable: &str, written: String) -> Option<Listen> {
        match address::listen(&written) {
            Ok(address) => Some(Listen { address, written }),
            Err((message, remedy)) => {
                self.problem(variable, Some(written), message, remedy);
                None
            }
        }
    }

    fn check_listeners(
        &mut self,
        listen: Option<&Listen>,
        admin: Option<&Option<Listen>>,
        token: &Result<Option<SecretString>, Reported>,
    ) {
        let Some(Some(admin)) = admin else { return };
        let variable = both("JANITOR_ADMIN_LISTEN", "--admin-listen");
        if !address::is_loopback(admin.address) && matches!(token, Ok(None)) {
            self.problem(
                &variable,
                Some(admin.written.clone()),
                "other machines can reach this address, and JANITOR_ADMIN_TOKEN is not set",
                "set JANITOR_ADMIN_TOKEN (or JANITOR_ADMIN_TOKEN_FILE), or listen on 127.0.0.1",
            );
        }
        if listen.is_some_and(|listen| address::collide(listen.address, admin.address)) {
            self.problem(
                &variable,
                Some(admin.written.clone()),
                "the public listener (JANITOR_LISTEN) has the same address and port",
                "give the admin listener a port of its own, such as 127.0.0.1:8081, or `off`",
            );
        }
    }

    fn log(&mut self, given: Option<&str>) -> String {
        let (name, flag) = ("JANITOR_LOG", "--log");
        let Some(filter) = self.text(name, flag, given, "info") else { return String::new() };
        let help = "write a level (off, error, warn, info, debug, trace), or several filters such as \
                    info,b24_janitor=debug";
        if let Err(error) = EnvFilter::try_new(&filter) {
            self.problem(&both(name, flag), Some(filter.clone()), error.to_string(), help);
        }
        // To the filter a bare word that isn't a level is a module, so that `inof` would silence all others.
        let stray = filter.split(',').map(str::trim).find(|word| {
            let bare = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
            bare && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
        });
        if let Some(word) = stray {
            self.problem(
                &both(name, flag),
                Some(filter.clone()),
                format!("`{word}` is not a level"),
                format!("{help}; for a module say its level too: {word}=debug"),
            );
        }
        filter
    }

    fn log_format(&mut self, given: Option<&str>) -> Option<LogFormat> {
        let (name, flag) = ("JANITOR_LOG_FORMAT", "--log-format");
        let written = self.text(name, flag, given, "text")?;
        match written.as_str() {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => {
                self.problem(
                    &both(name, flag),
                    Some(written),
                    "this format is unknown",
                    "write text or json",
                );
                None
            }
        }
    }

    fn admin_token(&mut self) -> Result<Option<SecretString>, Reported> {
        let name = "JANITOR_ADMIN_TOKEN";
        let token = self.secret(name)?;
        if token.as_ref().is_some_and(|token| has_blank(token.expose_secret())) {
            self.problem(
                name,
                None,
                "there is a blank or a line break inside it",
                "make one without, for example with `openssl rand -hex 32`",
            );
            return Err(Reported);
        }
        Ok(token)
    }

    fn admin_hosts(&mut self) -> Vec<String> {
        let name = "JANITOR_ADMIN_HOSTS";
        let Some(list) = self.source.get(name).map(OsStr::to_owned) else { return Vec::new() };
        let Some(list) = self.utf8(name, &list) else { return Vec::new() };
        if list.split(',').count() > MAX_LISTED {
            self.problem(
                name,
                None,
                format!("it lists more than {MAX_LISTED} names"),
                "list only those in use",
            );
            return Vec::new();
        }
        let mut hosts = Vec::new();
        for written in list.split(',').map(str::trim) {
            match address::host_name(written) {
                Some(host) => hosts.push(host),
                None => self.problem(
                    name,
                    Some(list.clone()),
                    format!("`{written}` is not a host name"),
                    "list names alone, separated by commas, without scheme, port, path or `*`: \
                     janitor.example.com,10.0.0.5",
                ),
            }
        }
        hosts
    }

    fn secret(&mut self, name: &str) -> Result<Option<SecretString>, Reported> {
        self.source.secret(name).map_err(|problem| {
            self.problems.push(problem);
            Reported
        })
    }

    /// A flag, else a variable, else the default.
    fn text(&mut self, name: &str, flag: &str, given: Option<&str>, default: &str) -> Option<String> {
        if let Some(given) = given {
            return Some(given.to_owned());
        }
        match self.source.get(name).map(OsStr::to_owned) {
            Some(value) => self.utf8(&both(name, flag), &value),
            None => Some(default.to_owned()),
        }
    }

    fn utf8(&mut self, variable: &str, value: &OsString) -> Option<String> {
        let text = value.to_str().map(str::to_owned);
        if text.is_none() {
            let shown = value.to_string_lossy().into_owned();
            self.problem(variable, Some(shown), "it is not UTF-8", "enter it anew");
        }
        text
    }

    fn problem(
        &mut self,
        variable: &str,
        value: Option<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (message, remedy) = (message.into(), remedy.into());
        self.problems.push(Problem { variable: variable.to_owned(), value, message, remedy });
    }
}

fn both(variable: &str, flag: &str) -> String {
    format!("{variable} ({flag})")
}

fn has_blank(text: &str) -> bool {
    text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests;
