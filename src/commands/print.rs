//! The only code that writes to the terminal: tables, JSON, colours, progress. A reader that went away (`| head`) is
//! no error.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::failure::Failure;
use crate::core::sheet;

/// Where a command's output goes, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out {
    /// Whether JSON was asked for.
    pub json: bool,
}

impl Out {
    /// Output as JSON, or for people.
    pub(super) fn new(json: bool) -> Out {
        Out { json }
    }

    /// Whether to colour what goes to standard error, where every diagnostic and the log go: only on a terminal, and
    /// not where `NO_COLOR` is set.
    pub(super) fn color() -> bool {
        io::stderr().is_terminal() && colors_wanted()
    }

    /// The same for standard output.
    pub(super) fn colors_answers(&self) -> bool {
        !self.json && io::stdout().is_terminal() && colors_wanted()
    }

    /// A line for people; nothing where JSON was asked for.
    pub(super) fn say(&self, line: impl AsRef<str>) -> io::Result<()> {
        if self.json { Ok(()) } else { write_line(io::stdout().lock(), line.as_ref()) }
    }

    /// One JSON object on one line; nothing where JSON was not asked for.
    pub(super) fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        if self.json {
            write_line(io::stdout().lock(), &serde_json::to_string(value)?)?;
        }
        Ok(())
    }

    /// A table for people; nothing where JSON was asked for.
    pub(super) fn table(&self, head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        write_line(io::stdout().lock(), &table(head, rows))
    }

    /// A progress bar on standard error; hidden where that is no terminal or JSON was asked for.
    pub(super) fn progress(&self, total: u64, what: &'static str) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template(
            "{prefix} [{bar:30}] {pos}/{len} {msg} {elapsed} (about {eta} left)",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
        bar.set_style(style);
        bar.set_prefix(what);
        bar
    }
}

fn colors_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table without frames, its columns aligned.
pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().map(|title| Cell::new(title.to_uppercase())));
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Rows as CSV on standard output, the columns' names first (RFC 4180, lines end with a line feed).
pub(super) struct Sheet;

impl Sheet {
    /// A sheet with these columns.
    pub(super) fn new(columns: &[&str]) -> Result<Sheet, Failure> {
        let mut sheet = Sheet;
        sheet.row(columns)?;
        Ok(sheet)
    }

    /// One more row.
    pub(super) fn row(&mut self, cells: &[&str]) -> Result<(), Failure> {
        let mut to = io::stdout().lock();
        match to.write_all(&sheet::line(cells)).and_then(|()| to.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}

/// A message on standard error.
pub(super) fn complain(message: impl AsRef<str>) {
    // Nobody is left to be told where standard error is closed.
    let _ = write_line(io::stderr().lock(), message.as_ref());
}

/// A question on standard error; the cursor stays behind it.
pub(super) fn ask(question: &str) {
    let mut to = io::stderr().lock();
    // Who can't be asked can't answer either.
    let _ = to.write_all(question.as_bytes()).and_then(|()| to.flush());
}

fn write_line(mut to: impl Write, line: &str) -> io::Result<()> {
    match writeln!(to, "{line}").and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
