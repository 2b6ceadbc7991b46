//! From text to a tree that knows where each of its parts stands. The only file that names the YAML parser.
//!
//! Invariant: every span lies inside the text, on character boundaries. Scalars keep the text as it was written and
//! whether it was quoted; what an unquoted scalar *means* is decided in [`super::scalar`], by the field it is for.
//! Limits: [`MAX_DEPTH`], [`MAX_NODES`], [`MAX_ALIAS_EVENTS`]; the caller bounds the text itself.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};

/// How deep maps and lists may stand inside each other. The deepest rule that lowering accepts needs 28, and 48 still
/// fit into the 2 MiB stack of a thread in a build without optimisation.
const MAX_DEPTH: usize = 32;

/// Parts of one file: a file of the largest size has fewer unless it is made to hurt.
const MAX_NODES: usize = 200_000;

/// Parts that aliases may repeat: far more than shared lists of stages need, and refused in milliseconds.
const MAX_ALIAS_EVENTS: usize = 10_000;

/// A part of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// What it is.
    pub(super) value: Value,
    /// Where it is written; for an alias the place that it repeats. A map's or list's span is its first character.
    pub(super) span: Range<usize>,
}

/// What a part is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// One value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map with its keys in the order written, repeated ones included.
    Map(Vec<(Node, Node)>),
}

/// One value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar {
    /// Its text, without quotes and with escapes resolved.
    pub(super) text: String,
    /// Whether it was written in quotes or as a text block: then it is text, whatever it looks like.
    pub(super) quoted: bool,
}

/// Why there is no tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SyntaxError {
    /// What kind of mistake it is.
    pub(super) kind: SyntaxKind,
    /// Where the parser noticed.
    pub(super) span: Range<usize>,
}

/// The kinds of mistakes that leave no tree.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SyntaxKind {
    /// The text is no YAML; the parser's words.
    Yaml(String),
    /// A second document begins.
    SecondDocument,
    /// `*name` without `&name`.
    UnknownAnchor,
    /// Aliases repeat too much, or the file has too many parts.
    TooMuch,
    /// Maps and lists stand too deep inside each other.
    TooDeep,
    /// A tag (`!something`).
    Tag,
}

/// What the parser hands over before the text is looked at again.
enum Raw {
    Text(String),
    /// A boolean, number or null: its spelling is in the source.
    Typed,
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_recorded_anchor_events: MAX_NODES,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIAS_EVENTS,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        ignore_binary_tag_for_string: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// Reads a text that holds one YAML document; a text without content is an empty scalar.
pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()) {
        Ok(raw) => Ok(node(raw, text)),
        Err(error) => Err(syntax_error(&error, text)),
    }
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let span = bytes_of(raw.defined, text);
    let value = match raw.value {
        Raw::Text(read) => {
            let source = text.get(span.clone()).unwrap_or_default();
            // A text block's span ends with its line; an unquoted scalar's never does.
            let quoted = source.starts_with(['"', '\'']) || source.ends_with('\n');
            // The parser's spelling of a number that is none (`.inf` for `1e999`) is not what was written.
            let own_words = quoted || source.contains('\n') || source.is_empty();
            Value::Scalar(Scalar { text: if own_words { read } else { source.to_owned() }, quoted })
        }
        Raw::Typed => {
            let source = text.get(span.clone()).unwrap_or_default();
            let quoted = source.starts_with(['"', '\'']);
            Value::Scalar(Scalar { text: source.trim_matches(['"', '\'']).to_owned(), quoted })
        }
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (node(key, text), node(value, text))).collect())
        }
    };
    Node { value, span }
}

/// A location as a byte range of the text. The parser gives bytes for what it read and only characters for what it
/// could not read.
fn bytes_of(location: serde_saphyr::Location, text: &str) -> Range<usize> {
    let span = location.span();
    let in_bytes = span.byte_offset().zip(span.byte_len()).and_then(|(offset, length)| {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        text.get(start..end).map(|_| start..end)
    });
    in_bytes.unwrap_or_else(|| {
        let offset = usize::try_from(span.offset()).unwrap_or(usize::MAX);
        let start = text.char_indices().nth(offset).map_or(text.len(), |(at, _)| at);
        let length = text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        start..start + length
    })
}

fn syntax_error(error: &serde_saphyr::Error, text: &str) -> SyntaxError {
    use serde_saphyr::Error;

    let error = error.without_snippet();
    let span = error.location().map_or(0..0, |location| bytes_of(location, text));
    let inner = match error {
        Error::AliasError { error, .. } => error.without_snippet(),
        other => other,
    };
    let words = || {
        let whole = inner.to_string();
        whole.split(" at line ").next().unwrap_or_default().to_owned()
    };
    let kind = match inner {
        Error::MultipleDocuments { .. } => SyntaxKind::SecondDocument,
        Error::UnknownAnchor { .. } => SyntaxKind::UnknownAnchor,
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::RecursiveReferencesRequireWeakTypes { .. } => SyntaxKind::TooMuch,
        Error::Budget { breach: serde_saphyr::budget::BudgetBreach::Depth { .. }, .. } => SyntaxKind::TooDeep,
        Error::Budget { .. } => SyntaxKind::TooMuch,
        _ if words().contains("unsupported tag") => SyntaxKind::Tag,
        _ if words().contains("nesting") || words().contains("recursion limit") => SyntaxKind::TooDeep,
        _ => SyntaxKind::Yaml(words()),
    };
    SyntaxError { kind, span }
}
