//! From the trees of all files to one [`RuleSet`], every mistake of every file reported in one pass.
//!
//! Invariant: a rule set comes out only if no file has an error; nothing that could not be read is left out silently.

mod age;
mod cases;
mod entries;
mod notify;
mod reader;
mod scalars;
mod selection;
mod values;
mod zone;

use std::collections::HashMap;
use std::ops::Range;

pub(super) use self::cases::cases;

use self::entries::Named;
use self::reader::{MORE_MISTAKES, Reader};
use self::zone::Zone;
use super::diagnostic::{Diagnostic, Second, Severity, Source};
use super::grammar::Section;
use super::scalar::Meaning;
use super::tree::{Node, Value};
use crate::core::age::Age;
use crate::core::notify::{MAX_TARGETS, Target};
use crate::core::rule::{PortalLimits, Protection, Rule, RuleName, RuleSet};

/// How long history is kept where no file says otherwise.
const KEEP_HISTORY: Age = Age::days(365);

/// One file as it was read.
#[derive(Debug, Default)]
struct Lowered {
    rules: Vec<Rule>,
    rule_names: Vec<Named>,
    protections: Vec<Protection>,
    protection_names: Vec<Named>,
    portal: Option<(PortalLimits, Range<usize>)>,
    keep_history: Option<(Age, Range<usize>)>,
    targets: Vec<Target>,
    target_names: Vec<Named>,
    found: Vec<Diagnostic>,
}

/// The meaning of the files, with everything that is wrong or odd. `None` if anything is wrong.
pub(super) fn lower(files: &[(Source, Node)]) -> (Option<RuleSet>, Vec<Diagnostic>) {
    let mut rules = RuleSet {
        rules: Vec::new(),
        protections: Vec::new(),
        portal: PortalLimits::default(),
        keep_history: KEEP_HISTORY,
        notify: Vec::new(),
    };
    let mut rule_names = HashMap::new();
    let mut protection_names = HashMap::new();
    let mut target_names = HashMap::new();
    let mut portal: Option<(PortalLimits, Second)> = None;
    let mut keep_history: Option<(Age, Second)> = None;
    let mut found = Vec::new();
    for (source, tree) in files {
        let mut one = file(source, tree);
        unique(source, &one.rule_names, "rule", "duplicate-rule", &mut rule_names, &mut one.found);
        unique(
            source,
            &one.protection_names,
            "protection",
            "duplicate-protection",
            &mut protection_names,
            &mut one.found,
        );
        unique(
            source,
            &one.target_names,
            "target of notices",
            "duplicate-target",
            &mut target_names,
            &mut one.found,
        );
        if rules.notify.len() + one.targets.len() > MAX_TARGETS {
            one.found.extend(notify::too_many(source, &one.target_names));
        }
        one_setting(source, "portal", one.portal, &mut portal, &mut one.found);
        one_setting(source, "keep_history", one.keep_history, &mut keep_history, &mut one.found);
        one.found.sort_by_key(|diagnostic| (diagnostic.code == MORE_MISTAKES, diagnostic.span.start));
        rules.rules.extend(one.rules);
        rules.protections.extend(one.protections);
        rules.notify.extend(one.targets);
        found.extend(one.found);
    }
    if let Some((limits, _)) = portal {
        rules.portal = limits;
    }
    if let Some((age, _)) = keep_history {
        rules.keep_history = age;
    }
    let failed = found.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    ((!failed).then_some(rules), found)
}

fn file(source: &Source, tree: &Node) -> Lowered {
    let mut reader = Reader::new(source);
    let mut out = Lowered::default();
    if let Value::Scalar(scalar) = &tree.value
        && scalar.meaning() == Meaning::Null
    {
        let mut empty = Diagnostic::about_file("empty-file", &source.file, "the file has no rules in it");
        empty.help("begin with a copy of rules.example.yaml; `b24-janitor demo --dir DIR` writes rules too");
        out.found.push(empty);
        return out;
    }
    if let Some(fields) = reader.fields(tree, Section::File) {
        if let Some(entry) = fields.get("version") {
            version(&mut reader, entry.value);
        }
        let zone = fields
            .get("timezone")
            .and_then(|entry| zone::zone(&mut reader, entry.value))
            .unwrap_or_else(Zone::placeholder);
        out.portal = fields.get("portal").and_then(|entry| {
            entries::portal(&mut reader, entry.value).map(|limits| (limits, entry.name.span.clone()))
        });
        let defaults = match fields.get("defaults") {
            Some(entry) => entries::defaults(&mut reader, entry.value),
            None => entries::Defaults::default(),
        };
        out.keep_history.clone_from(&defaults.keep_history);
        if let Some(entry) = fields.get("protect") {
            for item in reader.items(entry).unwrap_or_default() {
                let (name, protection) = entries::protection(&mut reader, item, &zone);
                out.protection_names.extend(name);
                out.protections.extend(protection);
            }
        }
        if let Some(entry) = fields.get("rules") {
            for item in reader.items(entry).unwrap_or_default() {
                let (name, rule) = entries::rule(&mut reader, item, &zone, &defaults);
                out.rule_names.extend(name);
                out.rules.extend(rule);
            }
        }
        if let Some(entry) = fields.get("notify") {
            for item in reader.items(entry).unwrap_or_default() {
                let (name, target) = notify::target(&mut reader, item);
                out.target_names.extend(name);
                out.targets.extend(target);
            }
        }
    }
    out.found = reader.finish();
    out
}

fn version(reader: &mut Reader<'_>, node: &Node) {
    let Some(scalar) = reader.scalar(node, "the number 1", "write version: 1") else { return };
    match scalar.meaning() {
        Meaning::Whole(1) => {}
        Meaning::Whole(_)
        | Meaning::Text
        | Meaning::Null
        | Meaning::Bool(_)
        | Meaning::YesNo(_)
        | Meaning::Decimal(_)
        | Meaning::OddNumber
        | Meaning::Date => {
            reader
                .error("bad-version", &node.span, "this program reads version 1 of the rules language")
                .help("write version: 1, without quotes");
        }
    }
}

/// Reports names that an earlier entry of any file has.
fn unique(
    source: &Source,
    names: &[Named],
    what: &str,
    code: &'static str,
    taken: &mut HashMap<RuleName, Second>,
    found: &mut Vec<Diagnostic>,
) {
    for (name, span) in names {
        if let Some(first) = taken.get(name) {
            let mut twice =
                source.error(code, span.clone(), format!("there is another {what} named `{name}`"));
            twice.second(first.clone()).help("give one of them another name");
            found.push(twice);
        } else {
            taken.insert(name.clone(), source.second("first used", span.start));
        }
    }
}

/// Takes a setting that holds for all files: equal ones may repeat, differing ones are an error.
fn one_setting<T: PartialEq>(
    source: &Source,
    name: &str,
    mine: Option<(T, Range<usize>)>,
    taken: &mut Option<(T, Second)>,
    found: &mut Vec<Diagnostic>,
) {
    let Some((value, span)) = mine else { return };
    match taken {
        Some((first, place)) if *first != value => {
            let message = format!("`{name}` holds for all files, but another file sets it otherwise");
            let mut differs = source.error("conflicting-setting", span, message);
            differs.second(place.clone()).help("keep it in one file");
            found.push(differs);
        }
        Some(_) => {}
        None => *taken = Some((value, source.second("set", span.start))),
    }
}
