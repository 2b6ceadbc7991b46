//! The documentation is true: its commands are commands of this program and run, its links lead somewhere, the
//! messages that it explains are messages of the program.
//!
//! A block of shell after `<!-- run -->` is run, against the sandbox, the blocks of a page in one session. What would
//! need root or a real portal is not run, but every command of ours in it must be one that the program understands.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod pages;
mod session;

use std::collections::BTreeSet;

use clap::Parser;

use pages::{Page, source};

/// The program's commands on a line of shell: `b24-janitor …` up to what ends a command.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.trim_start_matches(['#', ' ']);
    let starts = line.starts_with("b24-janitor ") || line.starts_with("sudo b24-janitor ");
    if !starts {
        return Vec::new();
    }
    let line = line.trim_start_matches("sudo ").split(" # ").next().unwrap();
    let line = line.split(['>', '|', ';']).next().unwrap().trim();
    vec![line.split_whitespace().map(str::to_owned).collect()]
}

#[test]
fn every_command_in_the_documentation_is_one_that_the_program_understands() {
    let mut seen = 0;
    for name in pages::all() {
        let page = Page::read(&name);
        let lines =
            page.blocks("sh").flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>());
        for line in lines.chain(page.code_spans()) {
            for words in commands(&line) {
                // Words in capitals stand for what the reader puts there.
                let words = words.iter().map(|word| match word.as_str() {
                    "LEAD_ID" | "RUN" | "JOB" | "N" => "7",
                    word => word,
                });
                let parsed = b24_janitor::cli::Cli::try_parse_from(words);
                assert!(parsed.is_ok(), "{name}: {line}\n{}", parsed.unwrap_err());
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "only {seen} commands were found");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut broken = Vec::new();
    for name in pages::all() {
        let page = Page::read(&name);
        for link in page.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { name.clone() } else { page.beside(file) };
            let there = pages::exists(&target)
                && (anchor.is_empty() || Page::read(&target).anchors().contains(anchor));
            if !there {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The messages of the page: the code spans of the first cells.
fn explained(page: &Page) -> Vec<String> {
    let rows = page.text.lines().filter(|line| line.starts_with("| `") && !line.contains("(systemd)"));
    let cells = rows.filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let spans = cells.flat_map(|cell| match cell.strip_prefix("``") {
        Some(cell) => vec![cell.trim_end_matches('`')],
        None => cell.split('`').skip(1).step_by(2).collect(),
    });
    spans.map(str::to_owned).collect()
}

#[test]
fn every_message_that_is_explained_is_one_of_the_program() {
    let program = source();
    let messages = explained(&Page::read("docs/troubleshooting.md"));
    assert!(messages.len() > 100, "{}", messages.len());
    let invented: Vec<&String> = messages.iter().filter(|message| !program.contains(*message)).collect();
    assert!(invented.is_empty(), "no message of the program: {invented:#?}");
}

/// Messages that have no words of their own, or that no person meets.
const NOT_EXPLAINED: [&str; 4] = ["{message}", "{0}", "{}: {}", "nothing will change any more"];

/// How the settings and the ways of notices begin what they find wrong.
const COMPLAINTS: [&str; 11] = [
    "it is ",
    "it names ",
    "it does not ",
    "it lists ",
    "it answered ",
    "its ",
    "there is ",
    "the scheme ",
    "the code ",
    "the port ",
    "one of the ",
];

#[test]
fn every_error_that_a_person_can_meet_is_explained() {
    let messages = explained(&Page::read("docs/troubleshooting.md"));
    let program = source();
    let errors = program.split("#[error(").skip(1).filter_map(|part| part.trim_start().strip_prefix('"'));
    let errors: Vec<String> = errors.map(pages::literal).collect();
    assert!(errors.len() > 30, "{}", errors.len());
    let found: Vec<String> = ["src/settings", "src/engine/notify"]
        .iter()
        .flat_map(|directory| pages::literals(directory))
        .filter(|text| COMPLAINTS.iter().any(|begin| text.starts_with(begin)))
        .collect();
    assert!(found.len() > 30, "{}", found.len());
    let missing: BTreeSet<&String> = errors
        .iter()
        .chain(&found)
        .filter(|text| !NOT_EXPLAINED.contains(&text.as_str()))
        .filter(|text| !messages.iter().any(|message| text.contains(message)))
        .collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md lacks {missing:#?}");
}

#[test]
fn every_answer_that_stops_the_portal_is_explained() {
    use b24_janitor::portal::{Class, TABLE};
    let page = Page::read("docs/operations.md").text;
    let stops = |class: Class| matches!(class, Class::StopPortal | Class::StopPortalForPerson);
    let missing: BTreeSet<&str> =
        TABLE.iter().filter(|row| stops(row.class) && !page.contains(row.code)).map(|row| row.code).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_quick_start_of_the_readme_works_as_it_stands() {
    session::run("README.md", session::Start::Bare);
}

#[test]
fn the_russian_quick_start_works_as_it_stands() {
    session::run("README.ru.md", session::Start::Bare);
}

#[test]
fn the_commands_for_every_day_backup_and_restore_work_as_they_stand() {
    session::run("docs/operations.md", session::Start::WithDatabase);
}
