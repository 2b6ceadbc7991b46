//! The rules files: from text to [`RuleSet`], every mistake found in one pass, all files or none.
//!
//! The way: [`read`] takes bytes from the disk; `tree` makes YAML of them in which every part knows its place;
//! `lower` reads the tree by the table in [`grammar`] and collects [`Diagnostic`]s. [`parse`] is everything after the
//! disk, and pure. [`read_tests`], [`parse_tests`] and [`run_cases`] are the same for tests of rules, [`lint`] says what
//! looks unintended in rules that are valid. Limits: [`MAX_FILE_BYTES`], [`MAX_FILES`], and those of `tree` and `lower`.

pub mod cases;
pub mod grammar;
pub mod schema;

mod diagnostic;
mod lint;
mod lower;
mod saved;
mod scalar;
mod syntax;
mod tree;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

pub use self::cases::{Case, CaseResult, Decision, Tests, run_cases};
pub use self::diagnostic::{Diagnostic, Second, Severity};
pub use self::lint::lint;
pub use self::saved::{SavedTests, save};

use self::diagnostic::Source;
use crate::core::rule::RuleSet;

/// The largest rules file: thousands of rules fit, and reading it stays a matter of milliseconds.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Rules files in a directory: one a department and month would still fit.
pub const MAX_FILES: usize = 200;

/// One rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The file as messages name it.
    pub file: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Rules that may be used, and what looks unintended in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The rules.
    pub rules: RuleSet,
    /// Oddities.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a file, or the `*.yaml` files of a directory in the order of their names; `*.test.yaml` are tests of rules,
/// and hidden files are an editor's. Every file that can't be read is reported.
pub fn read(path: &Path) -> Result<Vec<Input>, Vec<Diagnostic>> {
    let shown = path.display().to_string();
    let kind = fs::metadata(path).map_err(|error| vec![unreadable(&shown, &error)])?;
    if !kind.is_dir() {
        return read_file(path).map(|input| vec![input]);
    }
    let paths = files(path, is_rules).map_err(|error| vec![unreadable(&shown, &error)])?;
    if paths.is_empty() {
        let mut empty =
            Diagnostic::about_file("empty-directory", &shown, "the directory has no rules file (*.yaml)");
        empty.help("the name of a rules file ends in .yaml (.test.yaml is a test of rules); or name another place with JANITOR_RULES or --rules");
        return Err(vec![empty]);
    }
    read_all(&shown, paths)
}

/// The tests beside rules: the `*.test.yaml` of the directory that they are, or that they are in, in the order of their
/// names. None is no mistake.
pub fn read_tests(rules: &Path) -> Result<Vec<Input>, Vec<Diagnostic>> {
    let directory = if rules.is_dir() { rules } else { rules.parent().unwrap_or(rules) };
    // A bare file name has the empty path for a parent.
    let here = Path::new(".");
    let listed = if directory.as_os_str().is_empty() { here } else { directory };
    let shown = listed.display().to_string();
    let paths = files(listed, is_test).map_err(|error| vec![unreadable(&shown, &error)])?;
    let plain = |path: PathBuf| path.strip_prefix(here).map(Path::to_owned).unwrap_or(path);
    read_all(&shown, paths.into_iter().map(plain).collect())
}

fn is_rules(name: &str) -> bool {
    name.ends_with(".yaml") && !name.ends_with(".test.yaml") && !name.starts_with('.')
}

fn is_test(name: &str) -> bool {
    name.ends_with(".test.yaml") && !name.starts_with('.')
}

/// The files of a directory whose names are wanted, one more than [`MAX_FILES`] at most, sorted.
fn files(directory: &Path, wanted: fn(&str) -> bool) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if wanted(&entry.file_name().to_string_lossy()) && !entry.path().is_dir() {
            paths.push(entry.path());
        }
        if paths.len() > MAX_FILES {
            break;
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_all(directory: &str, paths: Vec<PathBuf>) -> Result<Vec<Input>, Vec<Diagnostic>> {
    if paths.len() > MAX_FILES {
        let message = format!("the directory has more than {MAX_FILES} rules files");
        let mut many = Diagnostic::about_file("too-many-files", directory, message);
        many.help("join files, or name another place with JANITOR_RULES or --rules");
        return Err(vec![many]);
    }
    let mut inputs = Vec::new();
    let mut failed = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(input) => inputs.push(input),
            Err(diagnostics) => failed.extend(diagnostics),
        }
    }
    if failed.is_empty() { Ok(inputs) } else { Err(failed) }
}

/// Reads one file, at most one byte more than [`MAX_FILE_BYTES`].
pub fn read_file(path: &Path) -> Result<Input, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let mut bytes = Vec::new();
    // One byte beyond the limit is enough for `parse` to see that the file is too large.
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
        .map_err(|error| vec![unreadable(&file, &error)])?;
    Ok(Input { file, bytes })
}

fn unreadable(file: &str, error: &std::io::Error) -> Diagnostic {
    let mut diagnostic = Diagnostic::about_file("unreadable-file", file, format!("can't be read: {error}"));
    diagnostic.help(match error.kind() {
        std::io::ErrorKind::NotFound => {
            "name the rules file or directory with JANITOR_RULES or --rules; rules.example.yaml is one to begin with"
        }
        std::io::ErrorKind::PermissionDenied => {
            "let the user that runs b24-janitor read it (chmod, chown), or name another with JANITOR_RULES or --rules"
        }
        _ => "check the path in JANITOR_RULES or --rules",
    });
    diagnostic
}

/// The rules of all files, or every mistake (and oddity) of all files, in the order of the files.
pub fn parse(inputs: &[Input]) -> Result<Loaded, Vec<Diagnostic>> {
    let mut files = Vec::new();
    let mut failed = Vec::new();
    for input in inputs {
        match tree_of(input) {
            Ok(file) => files.push(file),
            Err(diagnostics) => failed.extend(diagnostics),
        }
    }
    let (rules, mut found) = lower::lower(&files);
    if failed.is_empty()
        && let Some(rules) = rules
    {
        return Ok(Loaded { rules, warnings: found });
    }
    found.extend(failed);
    let order = |diagnostic: &Diagnostic| inputs.iter().position(|input| input.file == diagnostic.file);
    found.sort_by_key(order);
    Err(found)
}

/// The tests of a file, or every mistake in it.
pub fn parse_tests(input: &Input) -> Result<Tests, Vec<Diagnostic>> {
    let (source, tree) = tree_of(input)?;
    lower::cases(source, &tree)
}

fn tree_of(input: &Input) -> Result<(Source, tree::Node), Vec<Diagnostic>> {
    let source = text(input)?;
    match tree::read(&source.text) {
        Ok(tree) => Ok((source, tree)),
        Err(error) => Err(syntax::explain(&source, &error)),
    }
}

/// Both: [`read`], then [`parse`].
pub fn load(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    parse(&read(path)?)
}

fn text(input: &Input) -> Result<Source, Vec<Diagnostic>> {
    if input.bytes.len() > MAX_FILE_BYTES {
        let message = format!("the file is larger than {} KiB", MAX_FILE_BYTES / 1024);
        let mut large = Diagnostic::about_file("too-large", &input.file, message);
        large.help("split it into several files in a directory, and name that with JANITOR_RULES or --rules");
        return Err(vec![large]);
    }
    let error = match std::str::from_utf8(&input.bytes) {
        Ok(text) => return Ok(Source::new(&input.file, text.to_owned())),
        Err(error) => error,
    };
    if input.bytes.starts_with(&[0xff, 0xfe]) || input.bytes.starts_with(&[0xfe, 0xff]) {
        let mut utf16 = Diagnostic::about_file("not-utf-8", &input.file, "the file is UTF-16, not UTF-8");
        utf16.help("save it as UTF-8 (in Notepad: Save as, Encoding: UTF-8)");
        return Err(vec![utf16]);
    }
    // What can be read up to the byte shows the place; the caret stands on the byte's replacement.
    let good = error.valid_up_to();
    let rest = input.bytes.get(good..).unwrap_or_default();
    let line_end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let mut readable = String::from_utf8_lossy(input.bytes.get(..good).unwrap_or_default()).into_owned();
    readable.push_str(&String::from_utf8_lossy(rest.get(..line_end).unwrap_or_default()));
    let source = Source::new(&input.file, readable);
    let byte = rest.first().copied().unwrap_or_default();
    let mut bad = source.error(
        "not-utf-8",
        good..good + '\u{fffd}'.len_utf8(),
        format!("the byte 0x{byte:02X} is not UTF-8"),
    );
    bad.help("save the file as UTF-8; from Windows-1251 for example: iconv -f WINDOWS-1251 -t UTF-8 old.yaml > new.yaml");
    // The replacement is wider than the byte: the span is the byte's place in the file.
    bad.span = good..good + 1;
    Err(vec![bad])
}
