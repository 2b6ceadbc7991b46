//! A rules file, and the same bytes as a file of tests: an answer without a panic, bounded, with places inside the text.

use b24_janitor::rules::{self, Diagnostic, Input};

/// The most diagnostics of one file.
const MAX_FOUND: usize = 250;

/// Reads, lints, runs and renders everything.
pub(crate) fn check(data: &[u8]) {
    let input = |file: &str| Input { file: file.to_owned(), bytes: data.to_vec() };
    let loaded = rules::parse(&[input("rules.yaml")]);
    let tests = rules::parse_tests(&input("a.test.yaml"));
    if let (Ok(loaded), Ok(tests)) = (&loaded, &tests) {
        let _ = rules::run_cases(tests, &loaded.rules);
    }
    let mut found = match loaded {
        Ok(loaded) => {
            let now = "2026-11-25T12:00:00Z".parse().expect("a time");
            rules::lint(&loaded.rules, now).into_iter().chain(loaded.warnings).collect()
        }
        Err(found) => {
            assert!(!found.is_empty(), "refused without a reason");
            found
        }
    };
    assert!(found.len() <= MAX_FOUND, "{} diagnostics", found.len());
    found.extend(tests.err().unwrap_or_default());
    for diagnostic in &found {
        place(diagnostic, data);
        let rendered = diagnostic.render(false);
        assert!(!rendered.contains('\u{1b}'), "what a file holds must not steer the terminal");
        let _ = (diagnostic.render(true), diagnostic.to_json());
    }
}

fn place(diagnostic: &Diagnostic, data: &[u8]) {
    let span = diagnostic.span.clone();
    assert!(span.start <= span.end && span.end <= data.len(), "{diagnostic}: {span:?}");
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(text.get(span).is_some(), "{diagnostic} splits a character");
        let lines = text.split('\n').count();
        assert!(
            usize::try_from(diagnostic.line).is_ok_and(|line| (1..=lines).contains(&line)),
            "{diagnostic}"
        );
    }
}
