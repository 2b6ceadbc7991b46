//! What is wrong with a rules file, where, and what to write instead; for people and as JSON.
//!
//! Limits: a diagnostic keeps [`EXCERPT_BYTES`] of its line, so that a file of one huge line stays cheap.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::core::rule::Place;
use crate::core::spots::Spots;

/// What is kept of the line on each side of the mistake: more than a terminal shows.
const EXCERPT_BYTES: usize = 240;

/// Longer texts are cut when a message quotes them.
const SHOWN_CHARACTERS: usize = 40;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The rules can't be used.
    Error,
    /// The rules can be used, but something looks unintended.
    Warning,
}

impl Severity {
    /// The word in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A second place that a message speaks of, such as where a key was set first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Second {
    /// What is there: `already set`.
    pub label: String,
    /// The file as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}:{}", self.label, self.file, self.line, self.column)
    }
}

/// A mistake or an oddity in the rules files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable short name of the kind of mistake, in kebab case.
    pub code: &'static str,
    /// The file as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The mistake as a byte range of the file; empty at 0 where the file itself is the matter.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The other place, where there is one.
    pub second: Option<Second>,
    excerpt: Option<Excerpt>,
}

/// The part of the line around the mistake, and the mistake's byte range in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    marked: Range<usize>,
}

impl Diagnostic {
    /// A diagnostic about a whole file, of which no line is to be shown.
    pub(super) fn about_file(code: &'static str, file: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            file: file.to_owned(),
            line: 1,
            column: 1,
            span: 0..0,
            message: message.into(),
            help: None,
            second: None,
            excerpt: None,
        }
    }

    /// A diagnostic about a rule that was read without fault, such as a stage that the portal does not have.
    pub fn about_rule(
        severity: Severity,
        code: &'static str,
        place: &Place,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic { severity, line: place.line, ..Diagnostic::about_file(code, &place.file, message) }
    }

    /// A diagnostic about one condition, or a value in it, of a rule that was read without fault.
    pub fn about_condition(
        severity: Severity,
        code: &'static str,
        place: &Place,
        (spots, span): (&Spots, Range<usize>),
        message: impl Into<String>,
    ) -> Diagnostic {
        // A whole index of lines for one place would cost more than looking for it.
        let text = &*spots.text;
        let before = text.get(..span.start).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let (line, column) = (number(line), column(text, start, span.start));
        let excerpt = Some(excerpt(line_from(text, start), start, &span));
        let about = Diagnostic::about_file(code, &place.file, message);
        Diagnostic { severity, line, column, span, excerpt, ..about }
    }

    /// Sets what to write instead.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Shows nothing of the line: there may be a secret in it.
    pub(super) fn hide_line(&mut self) -> &mut Diagnostic {
        self.excerpt = None;
        self
    }

    /// Names the other place.
    pub(super) fn second(&mut self, second: Second) -> &mut Diagnostic {
        self.second = Some(second);
        self
    }

    /// The diagnostic for a terminal: `file:line:column: error[code]: message`, the line with a caret, the other place
    /// and the remedy. Ends without a line break.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let place = format!("{}:{}:{}:", self.file, self.line, self.column);
        let kind = format!("{}[{}]:", self.severity.as_str(), self.code);
        let first = if color {
            let paint = match self.severity {
                Severity::Error => "\u{1b}[1;31m",
                Severity::Warning => "\u{1b}[1;33m",
            };
            format!("{place} {paint}{kind}\u{1b}[0m \u{1b}[1m{}\u{1b}[0m", self.message)
        } else {
            format!("{place} {kind} {}", self.message)
        };
        let mut below = Group::with_level(level);
        if let Some(excerpt) = &self.excerpt {
            below = below.element(
                Snippet::source(excerpt.text.as_str())
                    .line_start(usize::try_from(self.line).unwrap_or(1))
                    .annotation(AnnotationKind::Primary.span(excerpt.marked.clone())),
            );
        }
        if let Some(second) = &self.second {
            below = below.element(Level::NOTE.message(second.to_string()));
        }
        if let Some(help) = &self.help {
            below = below.element(Level::HELP.message(help.as_str()));
        }
        if below.is_empty() {
            return first;
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        format!("{first}\n{}", renderer.render(&[below]))
    }

    /// What is wrong, with the other place where there is one, on one line.
    pub fn whole_message(&self) -> String {
        match &self.second {
            Some(second) => format!("{} ({second})", self.message),
            None => self.message.clone(),
        }
    }

    /// The diagnostic as an object of `check --json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "severity": self.severity.as_str(),
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "code": self.code,
            "message": self.whole_message(),
            "help": self.help,
        })
    }
}

impl fmt::Display for Diagnostic {
    /// The first line of [`Diagnostic::render`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { file, line, column, severity, code, message, .. } = self;
        write!(f, "{file}:{line}:{column}: {}[{code}]: {message}", severity.as_str())
    }
}

/// A file's text and where its lines begin.
#[derive(Debug)]
pub(super) struct Source {
    /// The file as it was given.
    pub(super) file: String,
    /// Its text.
    pub(super) text: Arc<str>,
    lines: Vec<usize>,
}

impl Source {
    /// A file's text.
    pub(super) fn new(file: &str, text: String) -> Source {
        let mut lines = vec![0];
        lines.extend(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        Source { file: file.to_owned(), text: text.into(), lines }
    }

    /// The line and the column in characters, both from 1, of a byte offset. A byte order mark is not counted.
    pub(super) fn position(&self, offset: usize) -> (u32, u32) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.line_start(line);
        (number(line), column(&self.text, start, offset))
    }

    /// The line, from 1, of a byte offset.
    pub(super) fn line(&self, offset: usize) -> u32 {
        self.position(offset).0
    }

    fn line_start(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0)
    }

    /// The text of the line that holds a byte offset, without its line break.
    pub(super) fn line_text(&self, offset: usize) -> &str {
        let start = self.line_start(self.lines.partition_point(|start| *start <= offset));
        line_from(&self.text, start)
    }

    /// An error at a place of this file.
    pub(super) fn error(
        &self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Diagnostic {
        let (line, column) = self.position(span.start);
        let excerpt = Some(self.excerpt(&span));
        Diagnostic { line, column, span, excerpt, ..Diagnostic::about_file(code, &self.file, message) }
    }

    /// A place of this file as the second one of a diagnostic.
    pub(super) fn second(&self, label: &str, offset: usize) -> Second {
        let (line, column) = self.position(offset);
        Second { label: label.to_owned(), file: self.file.clone(), line, column }
    }

    fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let start = self.line_start(self.lines.partition_point(|start| *start <= span.start));
        excerpt(self.line_text(span.start), start, span)
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The column in characters, from 1, of an offset in the line that begins at `start`; a byte order mark is not counted.
fn column(text: &str, start: usize, offset: usize) -> u32 {
    let before = text.get(start..offset).unwrap_or_default();
    number(before.chars().filter(|c| *c != '\u{feff}').count() + 1)
}

/// The line that begins at `start`, without its line break.
fn line_from(text: &str, start: usize) -> &str {
    let rest = text.get(start..).unwrap_or_default();
    rest.split('\n').next().unwrap_or_default().trim_end_matches('\r')
}

/// What is shown of a line that begins at the file's offset `start`, with the part of it that is marked.
fn excerpt(line: &str, start: usize, span: &Range<usize>) -> Excerpt {
    let from = boundary(line, span.start.saturating_sub(start).min(line.len()));
    let to = boundary(line, span.end.saturating_sub(start).clamp(from, line.len()));
    let first = boundary(line, from.saturating_sub(EXCERPT_BYTES));
    let last = boundary(line, to.min(from + EXCERPT_BYTES).saturating_add(EXCERPT_BYTES).min(line.len()));
    let text = line.get(first..last).unwrap_or_default();
    // A byte order mark at the file's start has no width, but would shift the caret.
    let mark = text.strip_prefix('\u{feff}').map_or(0, |rest| text.len() - rest.len());
    let text = text.get(mark..).unwrap_or_default().to_owned();
    let shift = first + mark;
    let marked = from.saturating_sub(shift)..to.saturating_sub(shift).min(text.len());
    Excerpt { text, marked }
}

/// The last character boundary at or before an offset.
fn boundary(text: &str, mut offset: usize) -> usize {
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// A sentence on one line: what it quotes may hold characters that steer a terminal.
pub(super) fn one_line(sentence: &str) -> String {
    // Marks of writing direction would reorder the message on the screen.
    let steers = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::new();
    for c in sentence.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A text as messages quote it: short, on one line, without control characters.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", one_line(text.get(..end).unwrap_or_default())),
        None => one_line(text),
    }
}
