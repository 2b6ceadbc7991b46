//! The rules language as a user meets it: what is accepted and what it means, and every mistake's message.
//!
//! `rules_bad/` holds one file a mistake and, beside it, what the program says about it.

use std::fs;
use std::path::{Path, PathBuf};

use b24_janitor::rules::{self, Diagnostic, Input, Loaded};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn parse(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    rules::parse(&[Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() }])
}

fn rendered(result: Result<Loaded, Vec<Diagnostic>>) -> String {
    let found = result.map_or_else(|found| found, |loaded| loaded.warnings);
    found.iter().map(|diagnostic| diagnostic.render(false)).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn every_mistake_has_its_message() {
    let folder = root().join("tests/rules_bad");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 45);
    for path in paths {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let input = Input { file: format!("{stem}.yaml"), bytes: fs::read(&path).unwrap() };
        let result = rules::parse(&[input]);
        assert_eq!(result.is_ok(), stem.starts_with("warn_"), "{stem}");
        let found = rendered(result);
        assert!(!found.is_empty(), "{stem} has no message");
        insta::with_settings!({
            snapshot_path => &folder,
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(stem, found);
        });
    }
}

#[test]
fn the_example_is_accepted_plans_only_and_shows_every_key() {
    let text = fs::read_to_string(root().join("rules.example.yaml")).unwrap();
    let loaded = parse(&text).map_err(|found| rendered(Err(found))).unwrap();
    assert_eq!(loaded.warnings, []);
    assert!(loaded.rules.rules.iter().all(|rule| rule.mode == b24_janitor::core::rule::Mode::Plan));
    for key in rules::grammar::KEYS {
        assert!(text.contains(&format!("{}:", key.name)), "the example does not show `{}`", key.name);
    }
    for (_, word, _, _) in rules::grammar::OPERATORS {
        assert!(text.contains(word), "the example does not name `{word}`");
    }
}
