//! Where settings come from: the environment and systemd's credentials; and how a secret is found among them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::Problem;

/// The largest secret file that is read, in bytes: far more than any token, and little enough to hold if the
/// name of a log or a device was given by mistake.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// Where settings are read from; tests pass a map.
#[derive(Clone, Default)]
pub struct Source {
    /// The environment.
    pub env: BTreeMap<String, OsString>,
    /// systemd's directory of credentials (`$CREDENTIALS_DIRECTORY`).
    pub credentials_dir: Option<PathBuf>,
}

impl Source {
    /// The source of this process. Keeps only the variables that are ours, so that no other program's secret is
    /// held.
    pub fn process() -> Source {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("B24_") || name.starts_with("JANITOR_"))
            .collect();
        let credentials_dir =
            std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Source { env, credentials_dir }
    }

    /// A variable; an empty one is unset.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.env.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A secret from `NAME`, from the file that `NAME_FILE` names or from a systemd credential; blanks and line
    /// breaks around it are removed.
    ///
    /// # Errors
    /// Where more than one of the three is set, or one can't be read.
    pub fn secret(&self, name: &str) -> Result<Option<SecretString>, Problem> {
        let file_variable = format!("{name}_FILE");
        let credential = name.to_ascii_lowercase().replace('_', "-");
        let value = self.get(name);
        let file = self.get(&file_variable).map(Path::new);
        let credential_file = self
            .credentials_dir
            .as_ref()
            .map(|dir| dir.join(&credential))
            // What can't be looked at is opened below, and that says why.
            .filter(|path| path.try_exists().unwrap_or(true));

        let mut found = Vec::new();
        if value.is_some() {
            found.push(name.to_owned());
        }
        if file.is_some() {
            found.push(file_variable.clone());
        }
        if credential_file.is_some() {
            found.push(format!("the systemd credential {credential}"));
        }
        if found.len() > 1 {
            return Err(problem(
                name,
                format!("it is set more than once: by {}", found.join(" and by ")),
                "keep one of them, so that it is certain which one counts".into(),
            ));
        }
        let (source, text) = match (value, file, credential_file.as_deref()) {
            (Some(value), _, _) => match value.to_str() {
                Some(text) => (name.to_owned(), SecretString::from(text)),
                None => return Err(problem(name, "it is not UTF-8".into(), "enter it anew".into())),
            },
            (None, Some(path), _) => (file_variable.clone(), read(&file_variable, path)?),
            (None, None, Some(path)) => (name.to_owned(), read(name, path)?),
            (None, None, None) => return Ok(None),
        };
        let trimmed = text.expose_secret().trim();
        if trimmed.is_empty() {
            return Err(problem(
                &source,
                "there is nothing but blanks in it".into(),
                format!("put the secret there, or unset {source}"),
            ));
        }
        Ok(Some(SecretString::from(trimmed)))
    }
}

fn read(variable: &str, path: &Path) -> Result<SecretString, Problem> {
    let shown = path.display();
    let unreadable = |error: io::Error| {
        problem(
            variable,
            format!("{shown} can't be read: {error}"),
            "name a file that the service's user may read, with the secret as its only content".into(),
        )
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET_FILE + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET_FILE {
        return Err(problem(
            variable,
            format!("{shown} is larger than 64 KiB"),
            "name a file with the secret as its only content".into(),
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(SecretString::from(text)),
        Err(_) => Err(problem(
            variable,
            format!("{shown} is not a text in UTF-8"),
            "name a file with the secret as its only content".into(),
        )),
    }
}

/// A problem of a secret: never with its value.
fn problem(variable: &str, message: String, remedy: String) -> Problem {
    Problem { variable: variable.to_owned(), value: None, message, remedy }
}
