//! The architecture, as a test: imports point down the layers, modules of a folder form no cycle but those listed, a
//! crate that is meant for one place is named there only, and ARCHITECTURE.md names every file of `src`.
//!
//! It reads the sources as tokens, comments and strings left out, so that a path counts wherever it stands. Limit:
//! paths that a macro puts together are not seen; the crate has none.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tokens::tokens;

/// What each layer may import besides itself. `main → commands → http, sandbox → engine → rules · store · portal → core`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("clock", &["core"]),
    ("watch", &[]),
    ("metrics", &["core"]),
    ("settings", &["core"]),
    ("cli", &["core", "settings"]),
    ("rules", &["core"]),
    ("store", &["core", "clock", "watch"]),
    ("portal", &["core", "clock", "watch"]),
    ("engine", &["core", "clock", "watch", "metrics", "rules", "store", "portal"]),
    // It is an independent witness of the portal: of ours it knows the clock and the words of the core.
    ("sandbox", &["core", "clock"]),
    // Its pages show what engine and store know; the listener of events is given hooks.
    ("http", &["core", "clock", "watch", "metrics", "settings", "store", "portal", "engine", "VERSION"]),
    (
        "commands",
        &[
            "core", "clock", "watch", "metrics", "settings", "cli", "rules", "store", "portal", "engine",
            "sandbox", "http", "VERSION",
        ],
    ),
    ("main", &["cli", "commands"]),
    ("lib", &[]),
];

/// Names at the root of the crate that are no layer and may be used by any but the core.
const ROOT_CONSTANTS: &[&str] = &["VERSION"];

/// Crates that only some places may name: `src`-relative prefixes.
const AT_HOME: &[(&str, &[&str])] = &[
    ("serde_saphyr", &["rules/tree.rs"]),
    ("rusqlite", &["store/"]),
    ("reqwest", &["portal/http.rs", "sandbox/events.rs", "engine/notify/http.rs"]),
    ("lettre", &["engine/notify/email.rs"]),
    ("csv", &["core/sheet.rs"]),
    ("cron", &["core/schedule.rs", "core/schedule/"]),
    ("chrono", &["core/schedule.rs", "core/schedule/"]),
];

/// Arrows between modules of a folder that close a cycle and are accepted: what is imported is a word or a plain struct
/// of the other, nothing that calls back. A new one needs a line here; one that is gone must leave.
const ACCEPTED: &[(&str, &str)] = &[
    // A set of rules holds the targets of notices, which are named and placed like rules.
    ("core::rule", "core::notify"),
    // The gate counts by the names of methods, which stand beside the calls.
    ("portal::gate", "portal::batch"),
    ("portal::gate", "portal::leads"),
    // A batch is a request that holds requests: it uses the words of the session that calls it.
    ("sandbox::batch", "sandbox::session"),
    // An OAuth error is a REST error.
    ("sandbox::oauth", "sandbox::methods"),
];

#[test]
fn imports_point_down_the_layers() {
    let mut wrong = Vec::new();
    for module in modules() {
        let layer = module.layer();
        let (_, allowed) = MAY_IMPORT.iter().find(|(name, _)| *name == layer).unwrap_or_else(|| {
            panic!("{}: the layer {layer} is not in the table of this test", module.file.display())
        });
        for path in &module.imports {
            let Some(to) = path.first() else { continue };
            let constant = ROOT_CONSTANTS.contains(&to.as_str()) && layer != "core";
            if to != layer && !constant && !allowed.contains(&to.as_str()) {
                wrong.push(format!("{} imports {}", module.file.display(), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn a_crate_with_one_home_is_named_there_only() {
    let mut wrong = Vec::new();
    for module in modules() {
        let file = module.file.to_string_lossy().into_owned();
        for (name, homes) in AT_HOME {
            if module.crates.contains(*name) && !homes.iter().any(|home| file.starts_with(home)) {
                wrong.push(format!("{file} names {name}, which belongs to {}", homes.join(" and ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_of_a_folder_form_no_cycles_but_the_listed_ones() {
    let modules = modules();
    let names: BTreeSet<Vec<String>> = modules.iter().map(|module| module.path.clone()).collect();
    let exports: BTreeMap<&[String], &BTreeMap<String, Vec<String>>> =
        modules.iter().map(|module| (module.path.as_slice(), &module.exports)).collect();
    let mut arrows: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for module in modules.iter().filter(|module| !module.is_tests()) {
        for import in &module.own_imports {
            let Some(target) = target_of(import, &names, &exports) else { continue };
            // A folder's head declares its modules and holds the words they share: both look at each other.
            let is_head = module.path.starts_with(&target) || target.starts_with(&module.path);
            if !is_head && target.first() == module.path.first() {
                arrows.entry(module.path.clone()).or_default().insert(target);
            }
        }
    }
    for (from, to) in ACCEPTED {
        let (from, to): (Vec<String>, Vec<String>) =
            (from.split("::").map(str::to_owned).collect(), to.split("::").map(str::to_owned).collect());
        let removed = arrows.get_mut(&from).is_some_and(|targets| targets.remove(&to));
        assert!(removed, "{} no longer imports {}: take it off the list", from.join("::"), to.join("::"));
    }
    let cycles: Vec<String> = cycles(&arrows).iter().map(|cycle| cycle.join(" ↔ ")).collect();
    assert!(cycles.is_empty(), "modules that import each other:\n{}", cycles.join("\n"));
}

#[test]
fn the_map_names_every_source_file_and_no_other() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let files: BTreeSet<String> = sources().iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let named: BTreeSet<String> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.strip_prefix("src/"))
        .filter(|code| code.ends_with(".rs"))
        .map(str::to_owned)
        .collect();
    let missing: Vec<&String> = files.difference(&named).collect();
    let gone: Vec<&String> = named.difference(&files).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
    assert!(gone.is_empty(), "ARCHITECTURE.md names files that do not exist: {gone:?}");
}

/// A file that nobody can keep in mind is asking to be two.
#[test]
fn no_file_has_more_than_500_lines() {
    let mut long = Vec::new();
    let mut open: Vec<PathBuf> = ["src", "tests", "examples", "benches"].map(|part| root().join(part)).into();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > 500 {
                long.push((path, lines));
            }
        }
    }
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn the_reader_of_this_test_sees_through_groups_comments_strings_and_super() {
    let code = r##"
        //! crate::commands in a comment
        use crate::{core::{age::Age, lead}, portal::Portal as P};
        pub use batch::Row;
        fn f<'a>(x: &'a str) { super::sibling::call('"', "crate::store", r#"crate::http"#); self::inner::go(); }
        #[cfg(test)]
        mod tests { use super::super::cousin; use super::own; fn g() { crate::metrics::M; } }
    "##;
    let read = Module::read("engine/lane.rs".into(), code);
    let text = |paths: &[Vec<String>]| paths.iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(
        text(&read.imports),
        [
            "core::age::Age",
            "core::lead",
            "portal::Portal",
            "engine::sibling::call",
            "engine::lane::inner::go",
            "engine::cousin",
            "engine::lane::own",
            "metrics::M"
        ]
    );
    assert_eq!(
        text(&read.own_imports),
        [
            "core::age::Age",
            "core::lead",
            "portal::Portal",
            "engine::sibling::call",
            "engine::lane::inner::go"
        ]
    );
    assert_eq!(read.exports.get("Row").unwrap().join("::"), "engine::lane::batch::Row");
}

/// One source file.
struct Module {
    /// Relative to `src`.
    file: PathBuf,
    /// Its place in the crate: `["engine", "lane"]`.
    path: Vec<String>,
    /// What it names of this crate, from the crate's root; test code included.
    imports: Vec<Vec<String>>,
    /// The same without its test code.
    own_imports: Vec<Vec<String>>,
    /// Names that it passes on with `pub use`, and where they come from.
    exports: BTreeMap<String, Vec<String>>,
    /// Every word before a `::`, and every word after a `use`.
    crates: BTreeSet<String>,
}

impl Module {
    fn read(file: PathBuf, code: &str) -> Module {
        let mut path: Vec<String> =
            file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if path.last().is_some_and(|last| last == "mod") {
            path.pop();
        }
        let tokens = tokens(code);
        let mut module = Module {
            file,
            path,
            imports: Vec::new(),
            own_imports: Vec::new(),
            exports: BTreeMap::new(),
            crates: BTreeSet::new(),
        };
        module.walk(&tokens);
        module
    }

    fn layer(&self) -> &str {
        self.path.first().map_or("lib", String::as_str)
    }

    fn is_tests(&self) -> bool {
        self.path.last().is_some_and(|last| last == "tests")
    }

    fn walk(&mut self, tokens: &[String]) {
        let word = |at: usize| tokens.get(at).map_or("", String::as_str);
        let mut depth = 0_usize;
        // Inline modules that are open: the depth at which each ends, and its name.
        let mut inside: Vec<(usize, String)> = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            match word(at) {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inside.last().is_some_and(|(ends, _)| *ends == depth) {
                        inside.pop();
                    }
                }
                "mod" if word(at + 2) == "{" => inside.push((depth, word(at + 1).to_owned())),
                _ => {}
            }
            let is_use = at > 0 && word(at - 1) == "use";
            let begins = is_use || (word(at + 1) == "::" && (at == 0 || word(at - 1) != "::"));
            if !begins {
                at += 1;
                continue;
            }
            let exported = is_use && at > 1 && matches!(word(at - 2), "pub" | ")");
            let (paths, next) = paths(tokens, at);
            for (path, name) in paths {
                self.note(path, name, exported, &inside);
            }
            at = next.max(at + 1);
        }
    }

    fn note(&mut self, path: Vec<String>, name: String, exported: bool, inside: &[(usize, String)]) {
        let Some(first) = path.first() else { return };
        self.crates.insert(first.clone());
        let nested: Vec<String> = inside.iter().map(|(_, name)| name.clone()).collect();
        let here: Vec<String> = self.path.iter().chain(&nested).cloned().collect();
        let absolute = match first.as_str() {
            // The binary names the library by its name.
            "crate" | "b24_janitor" => path.get(1..).unwrap_or_default().to_vec(),
            "self" => here.into_iter().chain(path.into_iter().skip(1)).collect(),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let kept = here.len().saturating_sub(up);
                here.into_iter().take(kept).chain(path.into_iter().skip(up)).collect()
            }
            // A child module, or another crate.
            _ => {
                let child: Vec<String> = here.into_iter().chain(path).collect();
                if exported {
                    self.exports.insert(name, child);
                } else if nested.is_empty() && self.is_child_file(&child) {
                    self.own_imports.push(child);
                }
                return;
            }
        };
        if exported {
            self.exports.insert(name, absolute.clone());
        }
        if nested.is_empty() && !exported {
            self.own_imports.push(absolute.clone());
        }
        self.imports.push(absolute);
    }

    /// Whether a path's next part after this module is a file of the sources.
    fn is_child_file(&self, path: &[String]) -> bool {
        let Some(child) = path.get(..=self.path.len()) else { return false };
        let base = child.iter().fold(root().join("src"), |dir, part| dir.join(part));
        base.with_extension("rs").is_file() || base.join("mod.rs").is_file()
    }
}

/// The paths that begin at a token, groups spread out, each with the name that it gets here; and where they end.
fn paths(tokens: &[String], start: usize) -> (Vec<(Vec<String>, String)>, usize) {
    let word = |at: usize| tokens.get(at).map_or("", String::as_str);
    if word(start) == "{" {
        return group(tokens, start, &[]);
    }
    let mut path = vec![word(start).to_owned()];
    let mut at = start + 1;
    while word(at) == "::" {
        if word(at + 1) == "{" {
            return group(tokens, at + 1, &path);
        }
        let next = word(at + 1);
        if next.is_empty() || !next.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return (named(path, None), at + 1);
        }
        path.push(next.to_owned());
        at += 2;
    }
    if word(at) == "as" {
        let name = word(at + 1).to_owned();
        return (named(path, Some(name)), at + 2);
    }
    (named(path, None), at)
}

fn group(tokens: &[String], open: usize, before: &[String]) -> (Vec<(Vec<String>, String)>, usize) {
    let word = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut found = Vec::new();
    let mut at = open + 1;
    while !matches!(word(at), "}" | "") {
        if word(at) == "," {
            at += 1;
            continue;
        }
        let (inner, next) = paths(tokens, at);
        for (path, name) in inner {
            let parts = path.into_iter().filter(|part| part != "self");
            let whole: Vec<String> = before.iter().cloned().chain(parts).collect();
            found.push((whole, name));
        }
        at = next.max(at + 1);
    }
    (found, at + 1)
}

fn named(path: Vec<String>, alias: Option<String>) -> Vec<(Vec<String>, String)> {
    let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
    vec![(path, name)]
}

/// The module that a path leads to, through what modules pass on; `None` for another crate's.
fn target_of(
    path: &[String],
    names: &BTreeSet<Vec<String>>,
    exports: &BTreeMap<&[String], &BTreeMap<String, Vec<String>>>,
) -> Option<Vec<String>> {
    let mut path = path.to_vec();
    // A name is passed on a few times at most; a cycle of `pub use` would not compile.
    for _ in 0..8 {
        let known = (1..=path.len()).rev().find_map(|length| {
            let prefix = path.get(..length)?;
            names.contains(prefix).then(|| prefix.to_vec())
        })?;
        let passed_on = path.get(known.len()).and_then(|name| exports.get(known.as_slice())?.get(name));
        match passed_on {
            Some(from) => path = from.clone(),
            None => return Some(known),
        }
    }
    None
}

/// Groups of modules that reach each other.
fn cycles(arrows: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Vec<Vec<String>> {
    let reach = |from: &Vec<String>| {
        let mut seen: BTreeSet<Vec<String>> = BTreeSet::new();
        let mut open: Vec<&Vec<String>> = vec![from];
        while let Some(module) = open.pop() {
            for next in arrows.get(module).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> =
        arrows.keys().map(|module| (module, reach(module))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, reached) in &all {
        if reached.contains(*module) {
            let mates =
                all.iter().filter(|(other, back)| reached.contains(**other) && back.contains(*module));
            found.insert(mates.map(|(other, _)| other.join("::")).collect());
        }
    }
    found.into_iter().collect()
}

fn modules() -> Vec<Module> {
    let read = |file: PathBuf| {
        let code = std::fs::read_to_string(root().join("src").join(&file)).unwrap();
        Module::read(file, &code)
    };
    let modules: Vec<Module> = sources().into_iter().map(read).collect();
    assert!(modules.len() > 50, "the sources were not found");
    modules
}

/// Every source file, relative to `src`, sorted.
fn sources() -> Vec<PathBuf> {
    let src = root().join("src");
    let mut files = Vec::new();
    let mut open = vec![src.clone()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(&src).unwrap().to_path_buf());
            }
        }
    }
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
