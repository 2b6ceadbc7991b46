//! `docs/rules.md` is the reference: its tables of keys are those of the program, and what it shows works.
//!
//! `UPDATE_DOCS=1 cargo test --test rules_reference` writes the tables anew.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::fs;
use std::path::PathBuf;

use b24_janitor::rules::grammar::{Key, Kind, Section};
use b24_janitor::rules::{self, Diagnostic, Input};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md")
}

fn input(text: &str) -> Input {
    Input { file: "it.yaml".to_owned(), bytes: text.as_bytes().to_vec() }
}

fn takes(kind: Kind) -> String {
    match kind {
        Kind::Version => "`1`".to_owned(),
        Kind::Name => "small letters, digits, hyphens".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Bool => "`true`, `false`".to_owned(),
        Kind::Whole { min, max } => format!("{min} to {max}"),
        Kind::Decimal { max } => format!("above 0, at most {max}"),
        Kind::Age => "age".to_owned(),
        Kind::AgeOrNone => "age, `none`".to_owned(),
        Kind::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Zone => "IANA name".to_owned(),
        Kind::Schedule => "[schedule](#schedules)".to_owned(),
        Kind::Events => "list of [events](#events)".to_owned(),
        Kind::Ids => "list of ids".to_owned(),
        Kind::Match => "[conditions](#conditions)".to_owned(),
        Kind::OlderThan => "age, or a map".to_owned(),
        Kind::DateField => "field with a date".to_owned(),
        Kind::Moment => "moment with its offset".to_owned(),
        Kind::Lead => "fields with values".to_owned(),
        Kind::Map(_) => "map".to_owned(),
        Kind::List(_) => "list".to_owned(),
    }
}

fn table(section: Section) -> String {
    let mut lines =
        vec!["| key | takes | meaning | example | refused |".to_owned(), "|---|---|---|---|---|".to_owned()];
    for key in section.keys() {
        let required = if key.required { "**required**, " } else { "" };
        let default = key.default.map_or(String::new(), |value| format!(" (default: `{value}`)"));
        let Key { name, doc, example, mistake, .. } = key;
        let takes = takes(key.kind);
        lines.push(format!("| `{name}` | {required}{takes} | {doc}{default} | `{example}` | `{mistake}` |"));
    }
    lines.join("\n")
}

#[test]
fn the_tables_of_keys_are_those_of_the_program() {
    let old = fs::read_to_string(path()).unwrap();
    let mut new = old.clone();
    for section in Section::ALL {
        let (open, close) = (format!("<!-- keys: {} -->\n", section.noun()), "<!-- /keys -->");
        let start = new.find(&open).unwrap_or_else(|| panic!("no table for {}", section.noun())) + open.len();
        let end = start + new[start..].find(close).unwrap();
        new.replace_range(start..end, &format!("{}\n", table(section)));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path(), &new).unwrap();
        return;
    }
    let drifted: Vec<&str> = new.lines().filter(|line| !old.contains(line)).collect();
    assert_eq!(new, old, "run UPDATE_DOCS=1 cargo test --test rules_reference; new lines: {drifted:#?}");
}

/// A file in which this line stands in that section, with all that the section needs besides, and the line's number.
fn file_with(section: Section, key: &Key, line: &str) -> (String, u32) {
    let rest = |lines: &[&str], indent: &str| {
        let others = lines.iter().filter(|other| !other.starts_with(&format!("{}:", key.name)));
        others.map(|other| format!("\n{indent}{other}")).collect::<String>()
    };
    const RULE: [&str; 3] = ["name: a", "schedule: \"@daily\"", "match: { stageId: JUNK }"];
    const CASE: [&str; 4] = ["name: a", "lead: { stageId: JUNK }", "rule: a", "expect: delete"];
    let head = "version: 1\ntimezone: UTC\n";
    let (before, after) = match section {
        Section::File => (String::new(), rest(&["version: 1", "timezone: UTC"], "")),
        Section::Portal => (format!("{head}portal:\n  "), String::new()),
        Section::Defaults => (format!("{head}defaults:\n  "), String::new()),
        Section::Limits => (format!("{head}defaults:\n  limits:\n    "), String::new()),
        Section::Protection => (format!("{head}protect:\n  - "), rest(&["name: a", "ids: [1]"], "    ")),
        Section::Rule => (format!("{head}rules:\n  - "), rest(&RULE, "    ")),
        Section::OlderThan => (
            format!(
                "{head}rules:\n  - name: a\n    schedule: \"@daily\"\n    match: {{ stageId: JUNK }}\n    older_than:\n      "
            ),
            rest(&["field: movedTime", "age: 1d"], "      "),
        ),
        Section::Tests => (
            String::new(),
            rest(
                &[
                    "now: 2026-11-25T12:00:00Z",
                    "cases: [ { name: a, lead: { id: 1 }, rule: a, expect: delete } ]",
                ],
                "",
            ),
        ),
        Section::Case => ("now: 2026-11-25T12:00:00Z\ncases:\n  - ".to_owned(), rest(&CASE, "    ")),
    };
    let number = u32::try_from(before.matches('\n').count()).unwrap() + 1;
    (format!("{before}{line}{after}\n"), number)
}

fn read(section: Section, text: &str) -> Result<(), Vec<Diagnostic>> {
    if section.is_of_tests() {
        rules::parse_tests(&input(text)).map(|_| ())
    } else {
        rules::parse(&[input(text)]).map(|_| ())
    }
}

#[test]
fn every_example_is_accepted_and_every_mistake_is_refused_on_its_line() {
    for section in Section::ALL {
        for key in section.keys() {
            let (good, _) = file_with(section, key, key.example);
            let found = read(section, &good).err().unwrap_or_default();
            let shown: Vec<String> = found.iter().map(|one| one.render(false)).collect();
            assert!(found.is_empty(), "{}: {}", key.example, shown.join("\n"));
            let (bad, line) = file_with(section, key, key.mistake);
            let found = read(section, &bad).expect_err(key.mistake);
            assert!(found.iter().all(|one| one.line == line), "{}: {found:?}", key.mistake);
        }
    }
}

#[test]
fn the_defaults_that_the_reference_names_are_those_that_hold() {
    let rule = "version: 1\ntimezone: UTC\nrules:\n  - name: a\n    schedule: \"@daily\"\n    match: { stageId: JUNK }\n";
    let lines = |section: Section, indent: &str| -> String {
        let keys = section.keys().filter_map(|key| Some((key.name, key.default?)));
        keys.map(|(name, value)| format!("{indent}{name}: {value}\n")).collect()
    };
    let spelt_out = format!(
        "{rule}{}portal:\n{}defaults:\n{}  limits:\n{}",
        lines(Section::Rule, "    "),
        lines(Section::Portal, "  "),
        lines(Section::Defaults, "  "),
        lines(Section::Limits, "    "),
    );
    assert_eq!(spelt_out.lines().count(), rule.lines().count() + 1 + 6 + 5 + 1 + 3);
    let load = |text: &str| rules::parse(&[input(text)]).unwrap().rules;
    assert_eq!(load(&spelt_out), load(rule));
}

/// The blocks of YAML under a heading.
fn blocks(text: &str, heading: &str) -> Vec<String> {
    let start = text.find(&format!("\n## {heading}\n")).unwrap() + 1;
    let rest = &text[start..];
    let section = &rest[..rest[3..].find("\n## ").map_or(rest.len(), |end| end + 3)];
    section.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_recipe_is_valid_and_without_a_warning() {
    let recipes = blocks(&fs::read_to_string(path()).unwrap(), "Recipes");
    assert_eq!(recipes.len(), 5);
    for recipe in recipes {
        let shown =
            |found: Vec<Diagnostic>| found.iter().map(|one| one.render(false)).collect::<Vec<_>>().join("\n");
        let loaded = rules::parse(&[input(&recipe)]).map_err(shown).unwrap();
        assert_eq!(loaded.warnings, []);
        assert_eq!(rules::lint(&loaded.rules, "2026-11-25T12:00:00Z".parse().unwrap()), [], "{recipe}");
    }
}

#[test]
fn the_tests_that_are_shown_pass_with_the_first_recipe() {
    let text = fs::read_to_string(path()).unwrap();
    let recipe = blocks(&text, "Recipes").remove(0);
    let tests = blocks(&text, "Testing rules").remove(0);
    let rules = rules::parse(&[input(&recipe)]).unwrap().rules;
    let tests = rules::parse_tests(&input(&tests)).unwrap();
    let results = rules::run_cases(&tests, &rules).unwrap();
    assert_eq!(results.len(), 4);
    for result in results {
        assert!(result.passed(), "{result:?}");
    }
}
