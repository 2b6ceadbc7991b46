//! Pages of Markdown: blocks, links, headings.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn exists(name: &str) -> bool {
    root().join(name).exists()
}

/// Every page that users read.
pub(crate) fn all() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .chain(["README.md".to_owned(), "README.ru.md".to_owned()])
        .collect();
    names.sort();
    names
}

fn gather(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = fs::read_to_string(path).unwrap();
            text.push_str(file.split("\n#[cfg(test)]").next().unwrap());
        }
    }
}

fn joined(text: &str) -> String {
    let mut pieces = text.split("\\\n");
    let first = pieces.next().unwrap().to_owned();
    pieces.fold(first, |joined, piece| joined + piece.trim_start())
}

/// The program's sources without their tests as one text, with the pieces of texts that stand on several lines joined.
pub(crate) fn source() -> String {
    let mut text = String::new();
    gather(&root().join("src"), &mut text);
    joined(&text)
}

/// The text up to the quote that ends it.
pub(crate) fn literal(rest: &str) -> String {
    rest.replace("\\\"", "'").split('"').next().unwrap().to_owned()
}

/// The texts between quotes in the sources of a directory.
pub(crate) fn literals(directory: &str) -> Vec<String> {
    let mut text = String::new();
    gather(&root().join(directory), &mut text);
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = joined(&code.join("\n")).replace("\\\"", "'").replace("'\"'", "");
    code.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block {
    pub(crate) text: String,
    /// Whether `<!-- run -->` stands before it.
    pub(crate) run: bool,
}

impl Page {
    pub(crate) fn read(name: &str) -> Page {
        Page { name: name.to_owned(), text: fs::read_to_string(root().join(name)).unwrap() }
    }

    /// The blocks of a language, without the indentation of a list that they stand in.
    pub(crate) fn blocks(&self, language: &str) -> impl Iterator<Item = Block> {
        let mut blocks = Vec::new();
        let (mut open, mut run): (Option<(usize, bool, String)>, bool) = (None, false);
        for line in self.text.lines() {
            let plain = line.trim_start();
            match &mut open {
                Some((_, run, text)) if plain == "```" => {
                    blocks.push(Block { text: std::mem::take(text), run: *run });
                    open = None;
                }
                Some((indent, _, text)) => {
                    text.push_str(line.get(*indent..).unwrap_or_default());
                    text.push('\n');
                }
                None if plain.starts_with("```") && plain == format!("```{language}") => {
                    open = Some((line.len() - plain.len(), run, String::new()));
                    run = false;
                }
                None if plain.starts_with("```") && plain.len() > 3 => {
                    // Another language's block is skipped to its end by its own fence: nothing of it looks like one.
                    run = false;
                }
                None if plain == "<!-- run -->" => run = true,
                None => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.name);
        blocks.into_iter()
    }

    /// What stands between backticks on one line or over two.
    pub(crate) fn code_spans(&self) -> impl Iterator<Item = String> {
        let prose: Vec<&str> = self.text.split("```").step_by(2).collect();
        let spans = prose.into_iter().flat_map(|part| part.split('`').skip(1).step_by(2));
        spans
            .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The relative links.
    pub(crate) fn links(&self) -> Vec<String> {
        let parts = self.text.split("](").skip(1);
        parts
            .filter_map(|part| part.split(')').next())
            .filter(|link| !link.contains("://") && !link.contains(' '))
            .map(str::to_owned)
            .collect()
    }

    /// A file by its path from this page.
    pub(crate) fn beside(&self, file: &str) -> String {
        let mut path: Vec<&str> = self.name.split('/').collect();
        path.pop();
        for part in file.split('/') {
            if part == ".." {
                path.pop();
            } else {
                path.push(part);
            }
        }
        path.join("/")
    }

    /// The anchors of the headings, as they are made where Markdown is shown: small letters, hyphens for blanks, no
    /// other signs.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| line.trim_start_matches('#').trim().to_lowercase())
            .map(|title| {
                let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                kept.map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    }
}
