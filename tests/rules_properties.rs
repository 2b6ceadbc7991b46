//! What holds for every text given to the rules language: an answer without a panic, bounded, with places inside the
//! text; and what is written is what is read.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use b24_janitor::core::compare::{Order, Test, Text};
use b24_janitor::core::condition::Condition;
use b24_janitor::core::field::FieldName;
use b24_janitor::rules::{self, Diagnostic, Input, Loaded};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../rules.example.yaml");

fn parse(bytes: &[u8]) -> Result<Loaded, Vec<Diagnostic>> {
    rules::parse(&[Input { file: "rules.yaml".to_owned(), bytes: bytes.to_vec() }])
}

/// Parses, renders everything, and checks the places.
fn answer(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut found = match parse(bytes) {
        Ok(loaded) => {
            let now = "2026-11-25T12:00:00Z".parse().unwrap();
            rules::lint(&loaded.rules, now).into_iter().chain(loaded.warnings).collect()
        }
        Err(found) => {
            prop_assert!(!found.is_empty());
            found
        }
    };
    prop_assert!(found.len() <= 250);
    let as_tests = rules::parse_tests(&Input { file: "a.test.yaml".to_owned(), bytes: bytes.to_vec() });
    found.extend(as_tests.err().unwrap_or_default());
    for diagnostic in found {
        prop_assert!(diagnostic.span.start <= diagnostic.span.end);
        prop_assert!(diagnostic.span.end <= bytes.len(), "{diagnostic}: {:?}", diagnostic.span);
        if let Ok(text) = std::str::from_utf8(bytes) {
            prop_assert!(text.get(diagnostic.span.clone()).is_some(), "{diagnostic} splits a character");
            let lines = text.split('\n').count();
            prop_assert!((1..=lines).contains(&usize::try_from(diagnostic.line).unwrap()), "{diagnostic}");
        }
        let rendered = diagnostic.render(false);
        let escapes = rendered.contains('\u{1b}');
        prop_assert!(!escapes, "what the file holds must not steer the terminal");
        let _ = (diagnostic.render(true), diagnostic.to_json());
    }
    Ok(())
}

/// Pieces of rules files and of YAML, in any order.
fn near_yaml() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "version: 1\n",
        "timezone: ",
        "Europe/Berlin\n",
        "rules:\n",
        "  - ",
        "name: ",
        "match: ",
        "schedule: ",
        "any: ",
        "not: ",
        "stageId",
        "createdTime",
        "cases:\n",
        "now: 2026-11-25T12:00:00Z\n",
        "lead: ",
        "rule: ",
        "expect: ",
        ": ",
        ":",
        "{ ",
        " }",
        "[",
        "]",
        ", ",
        "\n",
        "\n    ",
        "\t",
        "\"",
        "'",
        "&a ",
        "*a",
        "|\n",
        ">-\n",
        "!!str ",
        "!x ",
        "? ",
        "- ",
        "---\n",
        "...\n",
        "#",
        "~",
        "no",
        "007",
        "1e9",
        ".nan",
        "2024-01-31",
        "90d",
        "JUNK",
        "é",
        "漢",
        "\u{feff}",
        "\r\n",
        "<<: ",
        "%TAG",
        "@daily",
        "\\",
        "\u{0}",
        "ufCrm_1",
        "eq",
        "empty",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

/// The example with some pieces cut out and others put in.
fn damaged_example() -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0usize..8,
        near_yaml().prop_map(|text| text.chars().take(6).collect::<String>()),
    );
    prop::collection::vec(edit, 1..4).prop_map(|edits| {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for (place, cut, put) in edits {
            let from = place.index(text.len());
            let to = (from + cut).min(text.len());
            text.splice(from..to, put.chars());
        }
        text.into_iter().collect()
    })
}

const FIELDS: usize = 7;

/// One field's text in a file and the condition that it means.
fn leaf(field: usize) -> BoxedStrategy<(String, Condition)> {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let words = prop::string::string_regex("[a-zA-Z0-9äж \"#:{}-]{1,12}").unwrap();
    let of = |name: &str, test: Test| Condition::Field { field: FieldName::parse(name).unwrap(), test };
    match field {
        0 => (prop::collection::btree_set("[A-Z]{1,6}", 1..4), any::<bool>())
            .prop_map(move |(values, negated)| {
                let list: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                let word = if negated { "not_in" } else { "in" };
                let values = values.into_iter().map(Text::new).collect();
                (
                    format!("stageId: {{ {word}: [{}] }}", list.join(", ")),
                    of("stageId", Test::TextIn { values, negated }),
                )
            })
            .boxed(),
        1 => words
            .prop_map(move |text| {
                (
                    format!("title: {{ contains: {} }}", quoted(&text)),
                    of("title", Test::Contains(Text::new(text))),
                )
            })
            .boxed(),
        2 => (-9_999i32..9_999)
            .prop_map(move |cents| {
                let than = f64::from(cents) / 4.0;
                (
                    format!("opportunity: {{ lte: {than:?} }}"),
                    of("opportunity", Test::NumberOrder { order: Order::Lte, than }),
                )
            })
            .boxed(),
        3 => any::<bool>()
            .prop_map(move |flag| {
                (format!("hasPhone: {}", if flag { "Y" } else { "N" }), of("hasPhone", Test::Flag(flag)))
            })
            .boxed(),
        4 => any::<bool>()
            .prop_map(move |flag| {
                (format!("comments: {{ empty: {flag} }}"), of("comments", Test::Empty(flag)))
            })
            .boxed(),
        5 => (0i64..4_000_000_000)
            .prop_map(move |second| {
                let than = jiff::Timestamp::from_second(second).unwrap();
                (
                    format!("movedTime: {{ gte: {than} }}"),
                    of("movedTime", Test::TimeOrder { order: Order::Gte, than }),
                )
            })
            .boxed(),
        _ => (1i32..i32::MAX)
            .prop_map(move |id| {
                let test = Test::NumberIn { values: vec![f64::from(id)], negated: true };
                (format!("assignedById: {{ ne: {id} }}"), of("assignedById", test))
            })
            .boxed(),
    }
}

fn together(mut parts: Vec<Condition>) -> Condition {
    if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) }
}

/// A map of some fields, and on each level perhaps `any` and `not`; its text and its parts.
fn map() -> BoxedStrategy<(String, Vec<Condition>)> {
    let fields = prop::sample::subsequence((0..FIELDS).collect::<Vec<_>>(), 1..=3)
        .prop_flat_map(|fields| fields.into_iter().map(leaf).collect::<Vec<_>>());
    let flat = fields.prop_map(|leaves| {
        let (texts, parts): (Vec<String>, Vec<Condition>) = leaves.into_iter().unzip();
        (texts.join(", "), parts)
    });
    flat.prop_recursive(4, 24, 3, |inner| {
        (inner.clone(), prop::collection::vec(inner.clone(), 0..3), prop::option::of(inner)).prop_map(
            |(first, any, not)| {
                // `any` and `not` may already stand in the first map; a key stands once.
                let (mut text, mut parts) = first;
                if !any.is_empty() && !text.contains("any:") {
                    let (texts, alternatives): (Vec<String>, Vec<_>) = any.into_iter().unzip();
                    let texts: Vec<String> = texts.iter().map(|text| format!("{{ {text} }}")).collect();
                    text.push_str(&format!(", any: [ {} ]", texts.join(", ")));
                    parts.push(Condition::Any(alternatives.into_iter().map(together).collect()));
                }
                if let Some((inside, negated)) = not
                    && !text.contains("not:")
                {
                    text.push_str(&format!(", not: {{ {inside} }}"));
                    parts.push(Condition::Not(Box::new(together(negated))));
                }
                (text, parts)
            },
        )
    })
    .boxed()
}

fn file(selection: &str) -> String {
    format!(
        "version: 1\ntimezone: UTC\nrules:\n  - name: it\n    schedule: \"15 3 * * *\"\n    match: {{ {selection} }}\n"
    )
}

/// Single mistakes, each of which a rule's own lines can hold without hiding another.
const MISTAKES: &[(&str, &str)] = &[
    ("grace_period: 3m", "bad-age"),
    ("keep_copy: no", "wrong-type"),
    ("mode: remove", "unknown-word"),
    ("shedules: \"1\"", "unknown-key"),
    ("events: []", "empty"),
    ("older_than: { field: title, age: 1d }", "wrong-field"),
    ("limits: { max_percent: 101 }", "out-of-range"),
    ("timezone: EST", "timezone-abbreviation"),
    ("description:", "no-value"),
];

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        answer(&bytes)?;
    }

    #[test]
    fn anything_like_yaml_is_answered(text in near_yaml()) {
        answer(text.as_bytes())?;
    }

    #[test]
    fn a_damaged_file_is_answered(text in damaged_example()) {
        answer(text.as_bytes())?;
    }

    #[test]
    fn what_is_written_is_what_is_read((text, parts) in map()) {
        let loaded = parse(file(&text).as_bytes());
        let rules = loaded.map_err(|found| TestCaseError::fail(found[0].render(false)))?.rules.rules;
        prop_assert_eq!(&rules[0].selection, &Condition::All(parts));
    }

    #[test]
    fn two_mistakes_give_two_diagnostics(mistakes in prop::sample::subsequence(MISTAKES, 2)) {
        let mut text = file("stageId: JUNK");
        for (line, _) in &mistakes {
            text.push_str(&format!("    {line}\n"));
        }
        let found = parse(text.as_bytes()).unwrap_err();
        let codes: Vec<&str> = found.iter().map(|found| found.code).collect();
        let planted: Vec<&str> = mistakes.iter().map(|(_, code)| *code).collect();
        prop_assert_eq!(codes, planted);
    }
}

/// A file of the largest size made of one piece is answered, whatever the piece opens, repeats or misspells.
#[test]
fn a_file_made_to_hurt_is_answered() {
    for piece in
        ["[", "{", "? ", "- ", "- x\n", "{a: b}, ", "a: &a [*a]\n", "\"", "- |\n  x\n", "7,", "\n", "é"]
    {
        let prefix = "version: 1\ntimezone: UTC\nprotect: [ { name: a, ids: [";
        for prefix in ["", prefix] {
            let text =
                format!("{prefix}{}", piece.repeat((rules::MAX_FILE_BYTES - prefix.len()) / piece.len()));
            let found = parse(text.as_bytes()).unwrap_err();
            assert!((1..=101).contains(&found.len()), "{piece:?}");
            assert!(found.iter().all(|found| found.render(false).len() < 4_000), "{piece:?}");
        }
    }
}

#[test]
fn a_billion_laughs_are_refused_within_a_second() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    #[expect(clippy::disallowed_methods, reason = "the promise is about real time")]
    let begun = std::time::Instant::now();
    assert!(parse(text.as_bytes()).is_err());
    assert!(begun.elapsed() < std::time::Duration::from_secs(1));
}
