//! New files, never over existing ones: the rules for everyone to read, the environment for its owner alone.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::super::failure::Failure;
use crate::settings::Settings;

/// The rules hold no secret, and the service's user must read them.
pub(super) const READABLE: u32 = 0o644;
/// Who reads the environment file acts as the webhook's user.
const SECRET: u32 = 0o600;

/// Where systemd looks for the files of `LoadCredential=` (systemd.exec(5)).
const CREDENTIALS: &str = "/etc/credstore";

/// A file that is there now.
pub(super) struct Written {
    path: PathBuf,
    /// Whether it is ours; else it was there before, and is as it was.
    new: bool,
}

impl Written {
    pub(super) fn kept(path: &Path) -> Written {
        Written { path: path.to_owned(), new: false }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "path": self.path, "state": if self.new { "written" } else { "kept" } })
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.new {
            true => write!(f, "written: {path}"),
            false => write!(f, "left alone: {path} was there already"),
        }
    }
}

/// Writes a file that does not exist yet; one that appears meanwhile is left alone.
pub(super) fn write_new(path: &Path, text: &str, mode: u32) -> Result<Written, Failure> {
    let mut file = match File::options().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Written::kept(path)),
        Err(error) => return Err(failed(path, &error)),
    };
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        // Half a file would be left alone the next time.
        let _ = std::fs::remove_file(path);
        return Err(failed(path, &error));
    }
    Ok(Written { path: path.to_owned(), new: true })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::of(format!("{} can't be written: {error}", path.display()))
}

/// Writes the settings that this run was given, secrets included.
pub(super) fn write_environment(path: &Path, settings: &Settings, host: &str) -> Result<Written, Failure> {
    write_new(path, &environment(settings, host), SECRET)
}

fn environment(settings: &Settings, host: &str) -> String {
    let mut text = format!(
        "# Settings of b24-janitor for {host}, written by `b24-janitor init`.\n\
         # One NAME=value a line, without quotes: systemd reads it (EnvironmentFile=), and a shell does\n\
         # (set -a; . FILE; set +a). It holds secrets: keep its mode 0600.\n\n"
    );
    match &settings.webhook {
        Some(webhook) => {
            text.push_str("# The incoming webhook: whoever has this address acts as its user.\n");
            text.push_str(&secret_line("B24_WEBHOOK_URL", webhook.secret().expose_secret()));
        }
        None => text.push_str("# The local application's settings stay where you have set them.\n"),
    }
    text.push_str("\n# The outgoing webhook's token: what proves that an event comes from the portal.\n");
    let tokens: Vec<&str> = settings.application_tokens.iter().map(|token| token.expose_secret()).collect();
    if tokens.is_empty() {
        text.push_str("# Without it no event is accepted, and rules run by their schedules alone.\n");
        text.push_str("#B24_APPLICATION_TOKEN=\n");
    } else {
        text.push_str(&secret_line("B24_APPLICATION_TOKEN", &tokens.join(",")));
    }
    text.push_str("\n# More (all of them: README, \"Settings\").\n");
    text.push_str(&address_line("JANITOR_LISTEN", Some(settings.listen), "127.0.0.1:8080"));
    text.push_str(&address_line("JANITOR_ADMIN_LISTEN", settings.admin_listen, "127.0.0.1:8081"));
    text.push_str("#JANITOR_LOG=info\n");
    text
}

/// An address that was chosen for this run is kept; the usual one, or any free port, stands there as a comment.
fn address_line(name: &str, address: Option<SocketAddr>, usual: &str) -> String {
    match address {
        None => format!("{name}=off\n"),
        Some(address) if address.port() != 0 && address.to_string() != usual => format!("{name}={address}\n"),
        Some(_) => format!("#{name}={usual}\n"),
    }
}

/// A secret that a file or systemd's credentials hold stays there alone: set twice it would be an error.
fn secret_line(name: &str, value: &str) -> String {
    match std::env::var(format!("{name}_FILE")) {
        Ok(file) if file.starts_with(CREDENTIALS) => {
            format!("# {name}: in {file}, which systemd hands to the service.\n")
        }
        Ok(file) if !file.is_empty() => {
            let whole = std::path::absolute(&file).unwrap_or_else(|_| PathBuf::from(&file));
            format!("{name}_FILE={}\n", whole.display())
        }
        Ok(_) | Err(_) => format!("{name}={value}\n"),
    }
}
