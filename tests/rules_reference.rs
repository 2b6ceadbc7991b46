//! `docs/rules.md` is the reference: its tables of keys are those of the program, and what it shows works.
//! `docs/rules.ru.md` is its translation: the same tables, whose meanings alone are translated by hand, and the same
//! examples.
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

fn russian_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/rules.ru.md")
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
        Kind::Words(words) => {
            format!("list of {}", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
        }
        Kind::Variable => "`JANITOR_NOTIFY_…`, `JANITOR_SMTP_…`".to_owned(),
        Kind::Template => "JSON with placeholders".to_owned(),
        Kind::Address => "address".to_owned(),
        Kind::Addresses => "list of addresses".to_owned(),
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

fn takes_in_russian(kind: Kind) -> String {
    match kind {
        Kind::Name => "строчные латинские буквы, цифры, дефисы".to_owned(),
        Kind::Text => "текст".to_owned(),
        Kind::Whole { min, max } => format!("от {min} до {max}"),
        Kind::Decimal { max } => format!("больше 0, не больше {max}"),
        Kind::Age => "срок".to_owned(),
        Kind::AgeOrNone => "срок, `none`".to_owned(),
        Kind::Zone => "имя IANA".to_owned(),
        Kind::Schedule => "[расписание](#расписания)".to_owned(),
        Kind::Events => "список [событий](#события)".to_owned(),
        Kind::Ids => "список id".to_owned(),
        Kind::Words(words) => {
            format!(
                "список из {}",
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            )
        }
        Kind::Template => "JSON с подстановками".to_owned(),
        Kind::Address => "адрес".to_owned(),
        Kind::Addresses => "список адресов".to_owned(),
        Kind::Match => "[условия](#условия)".to_owned(),
        Kind::OlderThan => "срок или набор ключей".to_owned(),
        Kind::DateField => "поле с датой".to_owned(),
        Kind::Moment => "момент со смещением".to_owned(),
        Kind::Lead => "поля со значениями".to_owned(),
        Kind::Map(_) => "набор ключей".to_owned(),
        Kind::List(_) => "список".to_owned(),
        Kind::Version | Kind::Bool | Kind::OneOf(_) | Kind::Variable => takes(kind),
    }
}

/// What the table that is there says of a key; the English words of a key that nobody has translated yet.
fn translated(old: &str, key: &Key) -> String {
    let row = old.lines().find(|line| line.starts_with(&format!("| `{}` |", key.name)));
    let meaning =
        row.and_then(|row| row.split(" | ").nth(2)).map(|cell| cell.split(" (по умолчанию").next().unwrap());
    meaning.filter(|meaning| !meaning.trim().is_empty()).unwrap_or(key.doc).trim().to_owned()
}

fn russian_table(section: Section, old: &str) -> String {
    let mut lines = vec![
        "| ключ | принимает | что значит | пример | ошибка |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    for key in section.keys() {
        let required = if key.required { "**обязателен**, " } else { "" };
        let default = key.default.map_or(String::new(), |value| format!(" (по умолчанию `{value}`)"));
        let (takes, meaning) = (takes_in_russian(key.kind), translated(old, key));
        let Key { name, example, mistake, .. } = key;
        lines.push(format!(
            "| `{name}` | {required}{takes} | {meaning}{default} | `{example}` | `{mistake}` |"
        ));
    }
    lines.join("\n")
}

#[test]
fn the_russian_tables_have_the_same_keys_values_and_examples() {
    let old = fs::read_to_string(russian_path()).unwrap();
    let mut new = old.clone();
    for section in Section::ALL {
        let (open, close) = (format!("<!-- keys: {} -->\n", section.noun()), "<!-- /keys -->");
        let start = new.find(&open).unwrap_or_else(|| panic!("no table for {}", section.noun())) + open.len();
        let end = start + new[start..].find(close).unwrap();
        let table = russian_table(section, &new[start..end]);
        new.replace_range(start..end, &format!("{table}\n"));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(russian_path(), &new).unwrap();
        return;
    }
    let drifted: Vec<&str> = new.lines().filter(|line| !old.contains(line)).collect();
    assert_eq!(
        new, old,
        "run UPDATE_DOCS=1 cargo test --test rules_reference and translate what is new: {drifted:#?}"
    );
}

/// Every fenced block in order, but for shell, whose comments are translated.
fn examples(text: &str) -> Vec<&str> {
    text.split("```").skip(1).step_by(2).filter(|block| !block.starts_with("sh\n")).collect()
}

/// How many points the lists of each part have.
fn points(text: &str) -> Vec<usize> {
    let point =
        |line: &&str| line.starts_with("- ") || line.split_once(". ").is_some_and(|(n, _)| n.len() == 1);
    text.split("\n## ").skip(1).map(|part| part.lines().filter(point).count()).collect()
}

/// Headings and examples follow each other as in the original; a part that is added there is missing here until it is
/// translated.
#[test]
fn the_translation_has_the_parts_and_the_examples_of_the_original() {
    let (english, russian) =
        (fs::read_to_string(path()).unwrap(), fs::read_to_string(russian_path()).unwrap());
    let parts = |text: &str| text.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(parts(&russian), parts(&english));
    assert_eq!(points(&russian), points(&english), "a point of a list is missing in one of the two");
    assert_eq!(examples(&russian), examples(&english));
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
    let of_way = |way: &str| format!("{head}notify:\n  - name: a\n    on: [held]\n    {way}:\n      ");
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
        Section::Notify => {
            let way = match key.name {
                "http" | "email" | "chat" => "# told by the key above",
                _ => "chat: { user_id: 1 }",
            };
            (format!("{head}notify:\n  - "), rest(&["name: a", way, "on: [held]"], "    "))
        }
        Section::Http => (of_way("http"), rest(&["url_env: JANITOR_NOTIFY_URL"], "      ")),
        Section::Email => {
            let others = ["to: [a@example.org]", "from: b@example.org", "smtp_env: JANITOR_SMTP_URL"];
            (of_way("email"), rest(&others, "      "))
        }
        Section::Chat => (of_way("chat"), String::new()),
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
