//! Lines that begin in a column where nothing can begin, told in columns and words of the file, and words without their
//! colon. The parser says only what it expected.

use std::ops::Range;

use crate::rules::diagnostic::{Diagnostic, Source, shown};

/// Lines looked at above the one in question: enough for the longest rule, and cheap in a file of one huge map.
const LINES_ABOVE: usize = 200;

/// A place above where something begins that this line could go on.
struct Open {
    column: usize,
    /// The word there, or nothing for the dash of a list.
    key: String,
    dash: bool,
}

/// Explains a line that stands where nothing can begin.
pub(super) fn misindented(source: &Source, words: &str, span: &Range<usize>) -> Option<Vec<Diagnostic>> {
    let expected = ["did not find expected key", "did not find expected '-' indicator", "<document start>"];
    if !expected.iter().any(|words_of_parser| words.contains(words_of_parser)) {
        return None;
    }
    let line = source.line_text(span.start);
    let start = line_start(source, span.start);
    let indent = line.len() - line.trim_start_matches(' ').len();
    // Only where the line begins with what was not understood.
    let begins_with_dash = line.trim_start_matches(' ').starts_with("- ");
    let dash = if begins_with_dash { 2 } else { 0 };
    if span.start > start + indent + dash {
        return None;
    }
    let column = indent + 1;
    let open = open_above(source, start);
    let here = open.iter().find(|open| open.column == column);
    let message = match here {
        Some(open) if open.dash && !begins_with_dash => {
            "in this column only another entry of the list above can begin, with a dash".to_owned()
        }
        Some(_) if begins_with_dash => "a list can't begin here, among keys".to_owned(),
        Some(_) | None => {
            format!("this line is indented by {}, and nothing above begins there", spaces(indent))
        }
    };
    let choices: Vec<String> = open
        .iter()
        .filter(|open| open.dash == begins_with_dash && open.column != column)
        .map(|open| match open.dash {
            true => format!("{}, like the entry of the list above", spaces(open.column - 1)),
            false => format!("{}, like `{}`", spaces(open.column - 1), shown(&open.key)),
        })
        .collect();
    let help = match choices.as_slice() {
        [] => "what belongs together begins in the same column: compare with the lines above".to_owned(),
        choices => format!("indent it by {}", choices.join("; or by ")),
    };
    let mut diagnostic = source.error("bad-indent", start + indent..start + line.trim_end().len(), message);
    diagnostic.help(help);
    Some(vec![diagnostic])
}

fn spaces(count: usize) -> String {
    match count {
        0 => "no spaces".to_owned(),
        1 => "1 space".to_owned(),
        many => format!("{many} spaces"),
    }
}

fn line_start(source: &Source, at: usize) -> usize {
    source.text.get(..at).unwrap_or_default().rfind('\n').map_or(0, |at| at + 1)
}

/// What is open above a line, the nearest first: each time less indented than what is below it.
fn open_above(source: &Source, start: usize) -> Vec<Open> {
    let mut open: Vec<Open> = Vec::new();
    let mut below = usize::MAX;
    let above = source.text.get(..start).unwrap_or_default();
    for line in above.lines().rev().take(LINES_ABOVE) {
        let text = line.trim_start_matches(' ');
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let column = line.len() - text.len() + 1;
        if column >= below {
            continue;
        }
        let entry = text.strip_prefix("- ");
        let rest = entry.unwrap_or(text).trim_start_matches(' ');
        if let Some((key, _)) = rest.split_once(':') {
            let column = line.len() - rest.len() + 1;
            if open.last().is_none_or(|last| column < last.column) {
                open.push(Open { column, key: key.to_owned(), dash: false });
            }
        }
        if entry.is_some() {
            open.push(Open { column, key: String::new(), dash: true });
        }
        below = column;
    }
    open
}

/// `-name: junk`: a dash without the space behind it, on the line of the error or the one above.
pub(super) fn glued_dash(source: &Source, span: &Range<usize>) -> Option<Vec<Diagnostic>> {
    let here = line_start(source, span.start);
    let above = line_start(source, here.saturating_sub(1));
    for start in [here, above] {
        let line = source.line_text(start);
        let text = line.trim_start_matches(' ');
        let Some((word, _)) = text.strip_prefix('-').and_then(|rest| rest.split_once(':')) else { continue };
        if crate::rules::grammar::KEYS.iter().any(|key| key.name == word) {
            let at = start + line.len() - text.len();
            let message = "there is no space after the dash".to_owned();
            let mut diagnostic = source.error("missing-space", at..at + 1 + word.len(), message);
            diagnostic.help(format!("write `- {word}: ` with a space behind the dash"));
            return Some(vec![diagnostic]);
        }
    }
    None
}

/// `timezone Europe/Berlin`: a key without its colon, on the line of the error or the one above.
pub(super) fn missing_colon(source: &Source, words: &str, span: &Range<usize>) -> Option<Vec<Diagnostic>> {
    if !["expected ':'", "mapping values are not allowed"].iter().any(|known| words.contains(known)) {
        return None;
    }
    let here = line_start(source, span.start);
    let above = line_start(source, here.saturating_sub(1));
    for start in [here, above] {
        let line = source.line_text(start);
        let text = line.trim_start_matches([' ', '-']);
        let word = text.split(' ').next().unwrap_or_default().trim_end();
        let is_key = crate::rules::grammar::KEYS.iter().any(|key| key.name == word);
        if is_key && !line.contains(':') {
            let at = start + line.len() - text.len();
            let message = format!("there is no colon after `{word}`");
            let mut diagnostic = source.error("missing-colon", at..at + word.len(), message);
            let value = text.get(word.len()..).unwrap_or_default().trim();
            diagnostic.help(format!("write `{word}: {}`", shown(value)));
            return Some(vec![diagnostic]);
        }
    }
    None
}
