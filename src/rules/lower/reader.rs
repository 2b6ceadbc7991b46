//! Reads the parts of one file by the grammar and collects what is wrong with them.
//!
//! Invariant: a reading that answers `None` has reported why. Limit: [`MAX_DIAGNOSTICS`] a file.

use std::ops::Range;

use crate::core::field::{FieldName, UnknownField};
use crate::core::spots::{Spot, Spots};
use crate::rules::diagnostic::{Diagnostic, Severity, Source, shown};
use crate::rules::grammar::{self, Key, Kind, Section};
use crate::rules::scalar::Meaning;
use crate::rules::tree::{Node, Scalar, Value};

/// Mistakes shown of one file: more than anyone mends at once; it keeps a file made of mistakes cheap.
const MAX_DIAGNOSTICS: usize = 100;

/// The code of the diagnostic that counts what is not shown.
pub(super) const MORE_MISTAKES: &str = "more-mistakes";

/// One file under reading.
pub(super) struct Reader<'s> {
    /// The file.
    pub(super) source: &'s Source,
    found: Vec<Diagnostic>,
    leaves: Vec<Spot>,
    not_shown: usize,
    /// Takes the help for a diagnostic that is not kept.
    discarded: Diagnostic,
}

/// A map that was read by the grammar: known keys, each once.
pub(super) struct Fields<'t> {
    section: Section,
    span: Range<usize>,
    entries: Vec<Entry<'t>>,
}

/// A key with its value.
#[derive(Clone, Copy)]
pub(super) struct Entry<'t> {
    /// What the grammar says of the key.
    pub(super) key: &'static Key,
    /// The key as it stands in the file.
    pub(super) name: &'t Node,
    /// The value.
    pub(super) value: &'t Node,
}

impl<'t> Fields<'t> {
    /// The entry of that name.
    pub(super) fn get(&self, name: &str) -> Option<Entry<'t>> {
        self.entries.iter().find(|entry| entry.key.name == name).copied()
    }
}

impl<'s> Reader<'s> {
    /// Begins with a file.
    pub(super) fn new(source: &'s Source) -> Reader<'s> {
        let discarded = Diagnostic::about_file("not-shown", &source.file, "");
        Reader { source, found: Vec::new(), leaves: Vec::new(), not_shown: 0, discarded }
    }

    /// What was found, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| diagnostic.span.start);
        if self.not_shown > 0 {
            let mut more = Diagnostic::about_file(
                MORE_MISTAKES,
                &self.source.file,
                format!("{} more mistakes in this file are not shown", self.not_shown),
            );
            more.help("correct the first ones, then check again");
            self.found.push(more);
        }
        self.found
    }

    /// Notes where the leaf is written that was read last.
    pub(super) fn spot(&mut self, field: &Node, test: &Node, value: &Node) {
        let values = match &value.value {
            Value::List(items) => distinct(items),
            Value::Scalar(_) | Value::Map(_) => vec![value.span.clone()],
        };
        self.leaves.push(Spot { field: field.span.clone(), test: test.span.clone(), values });
    }

    /// The places of the leaves of an entry, read since [`Reader::forget_spots`].
    pub(super) fn take_spots(&mut self, entry: &Node) -> Spots {
        let text = self.source.text.clone();
        Spots { entry: lines_of(&text, entry), text, leaves: std::mem::take(&mut self.leaves) }
    }

    /// An entry begins: what one with mistakes left behind is not this one's.
    pub(super) fn forget_spots(&mut self) {
        self.leaves.clear();
    }

    /// Reports an error; the diagnostic takes help and a second place.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        // A part that aliases repeat is wrong once, where it is written.
        let message = message.into();
        let known = self.found.iter().any(|other| other.span == *span && other.message == message);
        if known || self.found.len() >= MAX_DIAGNOSTICS {
            self.not_shown += usize::from(!known);
            return &mut self.discarded;
        }
        self.found.push(self.source.error(code, span.clone(), message));
        self.found.last_mut().unwrap_or(&mut self.discarded)
    }

    /// Reports a warning.
    pub(super) fn warning(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let diagnostic = self.error(code, span, message);
        diagnostic.severity = Severity::Warning;
        diagnostic
    }

    /// Reports a value of the wrong kind.
    pub(super) fn wrong(&mut self, node: &Node, wanted: &str, help: impl Into<String>) {
        let message = match &node.value {
            Value::Scalar(scalar) if scalar.meaning() == Meaning::Null => {
                self.error("no-value", &node.span, format!("the value is missing: {wanted} is needed"))
                    .help(help);
                return;
            }
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                format!("{wanted} is needed, but this is {}", describe(node))
            }
        };
        self.error("wrong-type", &node.span, message).help(help);
    }

    /// The entries of a map that the grammar does not describe (a condition), repeated keys reported and left out.
    pub(super) fn entries<'t>(&mut self, entries: &'t [(Node, Node)]) -> Vec<(&'t str, &'t Node, &'t Node)> {
        let mut seen = std::collections::HashMap::new();
        let mut unique = Vec::new();
        for (name, value) in entries {
            let Value::Scalar(Scalar { text, .. }) = &name.value else {
                self.error(
                    "wrong-type",
                    &name.span,
                    format!("a name is needed here, but this is {}", describe(name)),
                )
                .help("an entry is written as `name: value`; braces and brackets in text need quotes");
                continue;
            };
            if text == "<<" {
                self.error("merge-key", &name.span, "`<<` (a merge key) is not part of the rules language")
                    .help("write the keys out, or put what is shared under `defaults:`");
                continue;
            }
            if let Some(first) = seen.insert(text.as_str(), name.span.start) {
                let second = self.source.second("already set", first);
                self.error("duplicate-key", &name.span, format!("`{}` is set twice", shown(text)))
                    .second(second)
                    .help("keep one of the two");
                seen.insert(text.as_str(), first);
                continue;
            }
            unique.push((text.as_str(), name, value));
        }
        unique
    }

    /// A map by the grammar. Unknown, repeated and missing keys are reported; what is left can still be read.
    pub(super) fn fields<'t>(&mut self, node: &'t Node, section: Section) -> Option<Fields<'t>> {
        let noun = section.noun();
        let Value::Map(entries) = &node.value else {
            let example = section.keys().next().map_or("", |key| key.example);
            self.wrong(node, &format!("a map of keys for {noun}"), format!("for example: {example}"));
            return None;
        };
        if entries.is_empty() {
            let keys: Vec<&str> = section.keys().map(|key| key.name).collect();
            self.error("empty", &node.span, format!("{noun} is empty"))
                .help(format!("write at least one of {}, or remove it", keys.join(", ")));
            return None;
        }
        let mut fields = Fields { section, span: node.span.clone(), entries: Vec::new() };
        let mut meant = Vec::new();
        for (text, name, value) in self.entries(entries) {
            match section.key(text) {
                Some(key) => fields.entries.push(Entry { key, name, value }),
                None => meant.push(self.unknown_key(section, text, name)),
            }
        }
        self.missing(&fields, &meant);
        Some(fields)
    }

    /// Reports a key that the section does not have, and answers with what was suggested.
    fn unknown_key(&mut self, section: Section, text: &str, name: &Node) -> String {
        let is_rule = matches!(section, Section::Rule | Section::Protection);
        let field = FieldName::parse(text);
        let suggestion = match field {
            Ok(field) if is_rule && grammar::suggest(section, text).is_none() => {
                format!("`{field}` is a field of a lead: it belongs under `match:`")
            }
            Err(UnknownField::Classic(_, ours)) if is_rule => {
                format!("write `{ours}` under `match:`")
            }
            Ok(_) | Err(_) => grammar::suggest(section, text).unwrap_or_else(|| {
                let keys: Vec<&str> = section.keys().map(|key| key.name).collect();
                format!("keys {}: {}", section.place(), keys.join(", "))
            }),
        };
        self.error("unknown-key", &name.span, format!("{} has no key `{}`", section.noun(), shown(text)))
            .help(suggestion.as_str());
        suggestion
    }

    /// Reports required keys that are not there, unless a misspelt one was taken for them.
    fn missing(&mut self, fields: &Fields<'_>, meant: &[String]) {
        for key in fields.section.keys().filter(|key| key.required && fields.get(key.name).is_none()) {
            if meant.contains(&grammar::did_you_mean(key.name)) {
                continue;
            }
            let noun = fields.section.noun();
            let help = match (key.kind, fields.get("events")) {
                (Kind::Schedule, Some(_)) => format!(
                    "a rule with `events` needs a schedule too: it finds the leads whose events were lost; for \
                     example: {}",
                    key.example
                ),
                (Kind::Match, _) => {
                    format!("there is no way to say \"all leads\": say which, for example: {}", key.example)
                }
                _ => format!("{}; for example: {}", key.doc, key.example),
            };
            let span = self.first_character(&fields.span);
            self.error("missing-key", &span, format!("{noun} needs `{}`", key.name)).help(help);
        }
    }

    fn first_character(&self, span: &Range<usize>) -> Range<usize> {
        if !span.is_empty() {
            return span.clone();
        }
        let rest = self.source.text.get(span.start..).unwrap_or_default();
        let word = rest.find([':', '\n', ' ']).unwrap_or(rest.len());
        span.start..span.start + word
    }

    /// The items of a list that has at least one.
    pub(super) fn items<'t>(&mut self, entry: Entry<'t>) -> Option<&'t [Node]> {
        let Value::List(items) = &entry.value.value else {
            let help = match entry.key.kind {
                Kind::List(section) => {
                    let first = section.keys().next().map_or("", |key| key.example);
                    format!(
                        "begin each entry with a dash: `- {first}`; to have none, remove `{}:`",
                        entry.key.name
                    )
                }
                _ => format!("for example: {}", entry.key.example),
            };
            self.wrong(entry.value, "a list", help);
            return None;
        };
        if items.is_empty() {
            self.empty_list(entry.value, entry.key.name);
            return None;
        }
        Some(items)
    }

    /// Reports an empty list.
    pub(super) fn empty_list(&mut self, node: &Node, name: &str) {
        self.error("empty", &node.span, format!("the list of `{}` is empty", shown(name)))
            .help(format!("write at least one entry, or remove `{}`", shown(name)));
    }
}

/// The places of a list's values: one that is there twice is one value, at its first place.
fn distinct(items: &[Node]) -> Vec<Range<usize>> {
    let mut seen = std::collections::HashSet::new();
    let first = |item: &&Node| match &item.value {
        Value::Scalar(scalar) => seen.insert(scalar.text.to_lowercase()),
        Value::List(_) | Value::Map(_) => true,
    };
    items.iter().filter(first).map(|item| item.span.clone()).collect()
}

/// What a part is, in words.
pub(super) fn describe(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map (keys with values)".to_owned(),
        Value::Scalar(scalar) => {
            let text = shown(&scalar.text);
            match scalar.meaning() {
                Meaning::Text if scalar.text.is_empty() => "an empty text".to_owned(),
                Meaning::Text => format!("the text \"{text}\""),
                Meaning::Null => "nothing".to_owned(),
                Meaning::Bool(_) | Meaning::YesNo(_) => format!("the yes/no value `{text}`"),
                Meaning::Whole(_) | Meaning::Decimal(_) => format!("the number {text}"),
                Meaning::OddNumber => format!("`{text}`, an unusual way to write a number"),
                Meaning::Date => format!("the date {text}"),
            }
        }
    }
}

/// The whole lines from an entry's first character to its last value, and the brackets that close it.
fn lines_of(text: &str, entry: &Node) -> Range<usize> {
    let before = text.get(..entry.span.start).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    // A text block reaches to the line after it.
    let mut end = start + text.get(start..end_of(entry)).unwrap_or_default().trim_end().len();
    let mut rest = text.get(end..).unwrap_or_default().split_inclusive('\n');
    end += rest.next().map_or(0, str::len);
    for line in rest.take_while(|line| line.trim_start().starts_with(['}', ']'])) {
        end += line.len();
    }
    start..end
}

/// Where the last part of a node ends. What an alias repeats stands further up in the text.
fn end_of(node: &Node) -> usize {
    let parts = match &node.value {
        Value::Scalar(_) => None,
        Value::List(items) => items.iter().map(end_of).max(),
        Value::Map(entries) => entries.iter().map(|(name, value)| end_of(name).max(end_of(value))).max(),
    };
    node.span.end.max(parts.unwrap_or_default())
}
