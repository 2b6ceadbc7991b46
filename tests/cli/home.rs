//! A directory of its own for each test, and the commands that are run in it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::portal::Portal;

/// One rule that deletes the junk among the leads, without any cap in its way.
pub(crate) const JUNK: &str = r#"version: 1
timezone: Europe/Berlin
defaults: { limits: { max_matches: 100000, max_percent: 100 } }
rules:
  - name: junk
    description: Everything in the stage JUNK
    schedule: "15 3 * * *"
    match: { stageId: JUNK }
    mode: delete
"#;

/// A working directory with rules, and the variables that its commands see.
pub(crate) struct Home {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

/// What a command said and how it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    /// A directory with these rules, and no portal.
    pub(crate) fn without_portal(rules: &str) -> Home {
        let home = Home { dir: tempfile::tempdir().unwrap(), variables: Vec::new() };
        home.write("rules.yaml", rules);
        home
    }

    /// A directory with these rules for this portal.
    pub(crate) fn new(portal: &Portal, rules: &str) -> Home {
        Home::without_portal(rules).with("B24_WEBHOOK_URL", &portal.webhook())
    }

    /// Sets a variable for every command.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Home {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The names of the files there, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The program with these arguments, not started yet. It sees no setting of whoever runs the tests.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.wrap(Command::new(assert_cmd::cargo::cargo_bin!("b24-janitor")), args)
    }

    /// Another program that starts ours, with this directory and these variables.
    pub(crate) fn wrap(&self, mut command: Command, args: &[&str]) -> Command {
        command.args(args).current_dir(self.dir.path()).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("TMPDIR", self.dir.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.out, ended.err);
        ended.out
    }

    /// What a command said that must end with this status.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}{}", ended.out, ended.err);
        ended
    }

    /// The objects that a command prints, one a line.
    pub(crate) fn objects(&self, args: &[&str]) -> Vec<Value> {
        objects(&self.ok(args))
    }

    /// The one object that a command prints.
    pub(crate) fn object(&self, args: &[&str]) -> Value {
        let mut objects = self.objects(args);
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects.remove(0)
    }

    /// One of the counts of `status --json`, such as `deleted`.
    pub(crate) fn jobs(&self, word: &str) -> u64 {
        self.object(&["status", "--json"])["jobs"][word].as_u64().unwrap()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The objects in a text, one a line.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

/// The keys of an object, sorted, joined by blanks.
pub(crate) fn keys(object: &Value) -> String {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

/// Whether a JSON value is a time as RFC 3339 writes it, with an offset.
pub(crate) fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        let offset = text.ends_with('Z')
            || text.as_bytes()[text.len() - 6..].first().is_some_and(|b| b"+-".contains(b));
        offset && text.contains('T') && text.parse::<jiff::Timestamp>().is_ok()
    })
}
