//! Text that is no YAML, explained: the parser says what it stumbled over, this says what was probably meant.

mod indent;

use std::ops::Range;

use super::diagnostic::{Diagnostic, Source, shown};
use super::grammar::KEYS;
use super::tree::{SyntaxError, SyntaxKind};

/// Lines reported of a file that is indented with tabs: after some the pattern is clear.
const MAX_TAB_LINES: usize = 5;

/// What stopped the reading of a file; more than one where tabs are the cause.
pub(super) fn explain(source: &Source, error: &SyntaxError) -> Vec<Diagnostic> {
    let span = error.span.clone();
    let one = |code: &'static str, span: Range<usize>, message: String, help: String| {
        let mut diagnostic = source.error(code, span, message);
        diagnostic.help(help);
        vec![diagnostic]
    };
    match &error.kind {
        SyntaxKind::SecondDocument => {
            let before = source.text.get(..span.start).unwrap_or_default();
            let line = before.rfind("\n---").map_or(span, |at| at + 1..at + 4);
            let help =
                "keep one document in a file: remove the line, or move what follows into a file of its own";
            one("second-document", line, "a second document begins here".to_owned(), help.to_owned())
        }
        SyntaxKind::TooMuch => one(
            "too-large",
            span,
            "the aliases of this file (`*name`) repeat too much, or it has too many entries".to_owned(),
            "write the entries out, or split the file".to_owned(),
        ),
        SyntaxKind::TooDeep => one(
            "too-deep",
            span,
            "maps and lists stand too deep inside each other".to_owned(),
            "look for a bracket or brace too many, or split the rule into several".to_owned(),
        ),
        SyntaxKind::Tag => {
            let line_start =
                source.text.get(..span.start).unwrap_or_default().rfind('\n').map_or(0, |at| at + 1);
            let before = source.text.get(line_start..span.start).unwrap_or_default();
            let tag =
                before.rfind('!').map_or(span, |at| line_start + at..line_start + before.trim_end().len());
            one(
                "tag",
                tag,
                "tags (`!something`) are not part of the rules language".to_owned(),
                "remove it, or put the text in quotes".to_owned(),
            )
        }
        SyntaxKind::UnknownAnchor => needs_quotes(source, &span).unwrap_or_else(|| {
            let name = word_at(source, &span);
            one(
                "unknown-anchor",
                span.start..span.start + name.len(),
                format!("`{}` repeats something that this file does not have", shown(name)),
                "name the first place with `&`, before this line; for text or a schedule use quotes"
                    .to_owned(),
            )
        }),
        SyntaxKind::Yaml(words) => {
            let tabs = tabs(source);
            if !tabs.is_empty() {
                return tabs;
            }
            needs_quotes(source, &span)
                .or_else(|| missing_space(source, &span))
                .or_else(|| indent::glued_dash(source, &span))
                .or_else(|| unclosed(source, words, &span))
                .or_else(|| indent::missing_colon(source, words, &span))
                .or_else(|| indent::misindented(source, words, &span))
                .or_else(|| misplaced_colon(source, words, &span))
                .unwrap_or_else(|| {
                    one(
                        "bad-yaml",
                        span,
                        "this can't be read: it does not go on what stands before it".to_owned(),
                        "look at this line and the one above: is something indented by another number of spaces, \
                         is a quote or bracket missing, or the space after a colon?"
                            .to_owned(),
                    )
                })
        }
    }
}

fn word_at<'s>(source: &'s Source, span: &Range<usize>) -> &'s str {
    let rest = source.text.get(span.start..).unwrap_or_default();
    rest.split([' ', '\n', '\r', ',', ']', '}']).next().unwrap_or_default()
}

fn tabs(source: &Source) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in source.text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if line.get(..indent).is_some_and(|indent| indent.contains('\t')) && !line.trim().is_empty() {
            let mut diagnostic =
                source.error("tab", start..start + indent, "this line is indented with a tab");
            diagnostic.help(
                "YAML wants spaces: replace the tab by two or more spaces, as the lines around it have",
            );
            found.push(diagnostic);
            if found.len() == MAX_TAB_LINES {
                break;
            }
        }
        start += line.len();
    }
    found
}

/// `schedule: @daily` and `schedule: */5 * * * *`: the first character means something else to YAML.
fn needs_quotes(source: &Source, span: &Range<usize>) -> Option<Vec<Diagnostic>> {
    let rest = source.text.get(span.start..)?;
    let first = rest.chars().next().filter(|c| matches!(c, '@' | '`' | '%' | '*' | '&' | '!'))?;
    let value = rest.split(['\n', '\r', ',', '}', '#']).next().unwrap_or_default().trim_end();
    let name = value.get(1..).unwrap_or_default();
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if matches!(first, '*' | '&' | '!') && is_name {
        return None;
    }
    let written = shown(value);
    let mut diagnostic = source.error(
        "needs-quotes",
        span.start..span.start + value.len(),
        format!("a text that begins with `{first}` needs quotes"),
    );
    diagnostic.help(format!("write \"{written}\""));
    Some(vec![diagnostic])
}

/// `mode:delete`, on the line of the error or the one above.
fn missing_space(source: &Source, span: &Range<usize>) -> Option<Vec<Diagnostic>> {
    let line_start =
        |before: usize| source.text.get(..before).unwrap_or_default().rfind('\n').map_or(0, |at| at + 1);
    let here = line_start(span.start);
    let above = line_start(here.saturating_sub(1));
    for start in [here, above] {
        let line = source.line_text(start);
        for (at, _) in line.match_indices(':') {
            let word_start = line
                .get(..at)?
                .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .map_or(0, |at| at + 1);
            let word = line.get(word_start..at)?;
            let glued = line.get(at + 1..)?.chars().next().is_some_and(|next| !next.is_whitespace());
            if glued && KEYS.iter().any(|key| key.name == word) {
                let mut diagnostic = source.error(
                    "missing-space",
                    start + word_start..start + at + 1,
                    format!("there is no space after `{word}:`"),
                );
                diagnostic.help(format!("write `{word}: ` with a space behind the colon"));
                return Some(vec![diagnostic]);
            }
        }
    }
    None
}

fn unclosed(source: &Source, words: &str, span: &Range<usize>) -> Option<Vec<Diagnostic>> {
    let (what, help) = if words.contains("unclosed quote") {
        ("this quote is never closed", "add the closing quote at the end of the text")
    } else if words.contains("unclosed bracket") {
        ("this bracket or brace is never closed", "add the closing `]` or `}`")
    } else if words.contains("mismatched bracket") {
        ("this bracket or brace is closed by one of another kind", "close `[` with `]` and `{` with `}`")
    } else {
        return None;
    };
    let mut diagnostic = source.error("unclosed", span.clone(), what);
    diagnostic.help(help);
    Some(vec![diagnostic])
}

/// `description: Junk: old leads`, or a line indented deeper than the one above it allows.
fn misplaced_colon(source: &Source, words: &str, span: &Range<usize>) -> Option<Vec<Diagnostic>> {
    if !words.contains("mapping values are not allowed") {
        return None;
    }
    let line = source.line_text(span.start);
    let mut diagnostic = if line.matches(": ").count() > 1 {
        let mut diagnostic =
            source.error("needs-quotes", span.clone(), "a text with a colon and a space needs quotes");
        diagnostic.help("put the whole text behind the first colon in quotes");
        diagnostic
    } else {
        source.error("bad-indent", span.clone(), "this line does not fit to the one above")
    };
    if diagnostic.help.is_none() {
        diagnostic.help("keys of one map begin in the same column: compare with the line above");
    }
    Some(vec![diagnostic])
}
