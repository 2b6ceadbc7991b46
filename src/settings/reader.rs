//! One method a setting: takes it from its flag, its variable or its default, checks it, and collects what is
//! wrong, so that nothing stops at the first problem.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::EnvFilter;

use super::{LogFormat, Need, Problem, Source, WebhookUrl, address};
use crate::core::age::Age;

/// The most tokens or host names that one variable may list: a portal has one token, two while it is changed.
const MAX_LISTED: usize = 32;

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// A setting that was reported as a problem already.
pub(super) struct Reported;

/// An address and how it came to be, for a problem that shows only later.
pub(super) struct Listen {
    pub(super) address: SocketAddr,
    written: String,
}

/// Reads one setting after the other, and collects what is wrong with them.
pub(super) struct Reader<'a> {
    source: &'a Source,
    pub(super) problems: Vec<Problem>,
}

impl Reader<'_> {
    pub(super) fn new(source: &Source) -> Reader<'_> {
        Reader { source, problems: Vec::new() }
    }

    pub(super) fn webhook(
        &mut self,
        given: Result<Option<SecretString>, Reported>,
        need: Need,
    ) -> Option<WebhookUrl> {
        let name = "B24_WEBHOOK_URL";
        match (given, need) {
            (Ok(Some(text)), _) => match WebhookUrl::parse(text.expose_secret()) {
                Ok(webhook) => return Some(webhook),
                Err(error) => self.problem(name, None, error.message, error.remedy),
            },
            (Ok(None), Need::Portal) => self.problem(
                name,
                None,
                "it is not set, and this command needs the portal",
                "set it to the address of an incoming webhook with the scope crm, \
                 https://HOST/rest/USER/CODE/, or put that into a file and name it in B24_WEBHOOK_URL_FILE; a local \
                 application is set by B24_PORTAL_URL and B24_OAUTH_… instead",
            ),
            (Ok(None), Need::NoPortal) | (Err(Reported), _) => {}
        }
        None
    }

    pub(super) fn application_tokens(&mut self) -> Vec<SecretString> {
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

    pub(super) fn path(&mut self, name: &str, flag: &str, given: Option<&Path>, default: &str) -> PathBuf {
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

    pub(super) fn check_db(&mut self, db: &Path) {
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

    pub(super) fn listen(&mut self, given: Option<&str>) -> Option<Listen> {
        let (name, flag) = ("JANITOR_LISTEN", "--listen");
        let written = self.text(name, flag, given, "127.0.0.1:8080")?;
        self.address(&both(name, flag), written)
    }

    /// The outer `None` is a problem, the inner one `off`.
    pub(super) fn admin_listen(&mut self, given: Option<&str>) -> Option<Option<Listen>> {
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

    pub(super) fn check_listeners(
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

    pub(super) fn log(&mut self, given: Option<&str>) -> String {
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

    pub(super) fn silence_alarm(&mut self, given: Option<&str>) -> Option<Option<Age>> {
        let (name, flag) = ("JANITOR_SILENCE_ALARM", "--silence-alarm");
        let written = self.text(name, flag, given, "off")?;
        if written == "off" {
            return Some(None);
        }
        let problem = match Age::parse(&written) {
            Ok(age) if age > Age::ZERO => return Some(Some(age)),
            Ok(_) => ("no time at all would always be silence".to_owned(), "write 24h, 2d or off".to_owned()),
            Err(bad) => (bad.message, bad.help),
        };
        self.problem(&both(name, flag), Some(written), problem.0, problem.1);
        None
    }

    pub(super) fn log_format(&mut self, given: Option<&str>) -> Option<LogFormat> {
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

    pub(super) fn admin_token(&mut self) -> Result<Option<SecretString>, Reported> {
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

    pub(super) fn admin_hosts(&mut self) -> Vec<String> {
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

    pub(super) fn secret(&mut self, name: &str) -> Result<Option<SecretString>, Reported> {
        self.source.secret(name).map_err(|problem| {
            self.problems.push(problem);
            Reported
        })
    }

    /// A variable that is no secret and has no flag.
    pub(super) fn plain(&mut self, name: &str) -> Result<Option<String>, Reported> {
        let Some(value) = self.source.get(name).map(OsStr::to_owned) else { return Ok(None) };
        self.utf8(name, &value).map(Some).ok_or(Reported)
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

    pub(super) fn problem(
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

pub(super) fn has_blank(text: &str) -> bool {
    text.contains(|c: char| c.is_whitespace() || c.is_control())
}
