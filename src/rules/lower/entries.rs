//! The entries of a file: rules, protections, defaults, the portal's limits.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::age::older_than;
use super::reader::{Entry, Fields, Reader};
use super::selection::conditions;
use super::values::duplicate;
use super::zone::{Zone, zone};
use crate::core::age::Age;
use crate::core::condition::Condition;
use crate::core::lead::{LeadId, MAX_LEAD_ID};
use crate::core::rule::{
    DeleteMethod, KeepCopy, LeadEvent, Limits, Mode, Place, PortalLimits, Protection, Rule, RuleName,
};
use crate::core::schedule::{DayFields, Schedule};
use crate::rules::diagnostic::{one_line, shown};
use crate::rules::grammar::{self, EVENTS, Section};
use crate::rules::scalar::Meaning;
use crate::rules::tree::{Node, Value};

/// How long copies are kept where no file says otherwise.
const KEEP_COPY: Age = Age::days(30);

/// A name and where it stands.
pub(super) type Named = (RuleName, Range<usize>);

/// What the rules of a file have where they say nothing.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    mode: Mode,
    grace_period: Age,
    keep_copy: KeepCopy,
    limits: Limits,
    /// `keep_history`, where the file sets it.
    pub(super) keep_history: Option<(Age, Range<usize>)>,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults {
            mode: Mode::Plan,
            grace_period: Age::ZERO,
            keep_copy: KeepCopy::For(KEEP_COPY),
            limits: Limits::default(),
            keep_history: None,
        }
    }
}

/// `defaults:`
pub(super) fn defaults(reader: &mut Reader<'_>, node: &Node) -> Defaults {
    let built_in = Defaults::default();
    let Some(fields) = reader.fields(node, Section::Defaults) else { return built_in };
    let keep_history = fields
        .get("keep_history")
        .and_then(|entry| reader.age(entry.value).map(|age| (age, entry.name.span.clone())));
    Defaults {
        mode: mode(reader, &fields).unwrap_or(built_in.mode),
        grace_period: age(reader, &fields, "grace_period").unwrap_or(built_in.grace_period),
        keep_copy: keep_copy(reader, &fields).unwrap_or(built_in.keep_copy),
        limits: limits(reader, &fields, built_in.limits),
        keep_history,
    }
}

/// `portal:`
pub(super) fn portal(reader: &mut Reader<'_>, node: &Node) -> Option<PortalLimits> {
    let fields = reader.fields(node, Section::Portal)?;
    let mut limits = PortalLimits::default();
    if let Some(number) = fields.get("requests_per_second").and_then(|entry| reader.decimal(entry)) {
        limits.requests_per_second = number;
    }
    if let Some(number) = fields.get("method_seconds").and_then(|entry| reader.decimal(entry)) {
        limits.method_seconds = number;
    }
    if let Some(number) = fields.get("burst").and_then(|entry| reader.whole(entry)) {
        limits.burst = u32::try_from(number).unwrap_or(limits.burst);
    }
    if let Some(number) = fields.get("concurrency").and_then(|entry| reader.whole(entry)) {
        limits.concurrency = u8::try_from(number).unwrap_or(limits.concurrency);
    }
    if let Some(word) = fields.get("delete_method").and_then(|entry| reader.word(entry)) {
        let method =
            [DeleteMethod::Lead, DeleteMethod::Item].into_iter().find(|method| method.as_str() == word);
        limits.delete_method = method.unwrap_or_default();
    }
    Some(limits)
}

/// An entry of `protect:`, with its name where that could be read although something else could not.
pub(super) fn protection(
    reader: &mut Reader<'_>,
    node: &Node,
    file_zone: &Zone,
) -> (Option<Named>, Option<Protection>) {
    let Some(fields) = reader.fields(node, Section::Protection) else { return (None, None) };
    reader.forget_spots();
    let name = fields.get("name").and_then(|entry| name(reader, entry));
    let ids = fields.get("ids").map(|entry| ids(reader, entry));
    let condition = fields
        .get("match")
        .map(|entry| conditions(reader, entry.value, "match", file_zone).map(Condition::All));
    if ids.is_none() && condition.is_none() {
        reader
            .error("protects-nothing", &node_start(node, &fields), "this protection protects no lead")
            .help("say which leads: ids: [10243], or match: { opportunity: { gt: 0 } }");
        return (name, None);
    }
    let place = Place { line: reader.source.line(node.span.start), file: reader.source.file.clone() };
    let spots = reader.take_spots(node);
    let read = || {
        Some(Protection {
            name: name.clone()?.0,
            ids: ids.unwrap_or(Some(BTreeSet::new()))?,
            condition: condition.map_or(Some(None), |read| read.map(Some))?,
            place,
            spots,
        })
    };
    let protection = read();
    (name, protection)
}

fn node_start(node: &Node, fields: &Fields<'_>) -> Range<usize> {
    fields.get("name").map_or(node.span.clone(), |entry| entry.value.span.clone())
}

/// An entry of `rules:`, with its name where that could be read although something else could not.
pub(super) fn rule(
    reader: &mut Reader<'_>,
    node: &Node,
    file_zone: &Zone,
    defaults: &Defaults,
) -> (Option<Named>, Option<Rule>) {
    let Some(fields) = reader.fields(node, Section::Rule) else { return (None, None) };
    let name = fields.get("name").and_then(|entry| name(reader, entry));
    let description = fields.get("description").map(|entry| {
        reader.text(entry.value, "describe the rule, or remove `description`").map(str::to_owned)
    });
    reader.forget_spots();
    let own_zone = fields.get("timezone").map(|entry| zone(reader, entry.value));
    let rule_zone = match own_zone {
        Some(own) => own.unwrap_or_else(Zone::placeholder),
        None => file_zone.clone(),
    };
    let schedule = schedule(reader, &fields, &rule_zone);
    let events = match fields.get("events") {
        Some(entry) => events(reader, entry),
        None => Some(BTreeSet::new()),
    };
    let selection =
        fields.get("match").and_then(|entry| conditions(reader, entry.value, "match", &rule_zone));
    let older_than = fields.get("older_than").map(|entry| older_than(reader, entry.value));
    let spots = reader.take_spots(node);
    let include_converted = fields.get("include_converted").map(|entry| reader.boolean(entry.value));
    let mode = mode(reader, &fields).unwrap_or(defaults.mode);
    let grace_period = age(reader, &fields, "grace_period").unwrap_or(defaults.grace_period);
    let keep_copy = keep_copy(reader, &fields).unwrap_or(defaults.keep_copy);
    let limits = limits(reader, &fields, defaults.limits);
    let line = reader.source.line(node.span.start);
    let file = reader.source.file.clone();
    let read = || {
        let mut parts = selection?;
        if let Some(older) = older_than {
            parts.push(older?);
        }
        Some(Rule {
            name: name.clone()?.0,
            description: description.map_or(Some(None), |read| read.map(Some))?,
            mode,
            schedule: schedule?,
            events: events?,
            selection: Condition::All(parts),
            include_converted: include_converted.unwrap_or(Some(false))?,
            grace_period,
            keep_copy,
            limits,
            place: Place { file, line },
            spots,
        })
    };
    let rule = read();
    (name, rule)
}

/// The name of a rule or protection.
pub(super) fn name(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Named> {
    let text = reader.text(entry.value, "give it a name, for example old-junk")?;
    match text.parse::<RuleName>() {
        Ok(name) => Some((name, entry.value.span.clone())),
        Err(_) => {
            let plain: String = text
                .to_lowercase()
                .chars()
                .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
                .take(RuleName::MAX_LENGTH)
                .collect();
            let proposal = plain.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
            let rules = format!(
                "use small letters a-z, digits and hyphens, at most {}, beginning with a letter or digit",
                RuleName::MAX_LENGTH
            );
            let help = if proposal.is_empty() { rules } else { format!("{rules}: {proposal}") };
            reader
                .error("bad-name", &entry.value.span, format!("`{}` can't be a name", shown(text)))
                .help(help);
            None
        }
    }
}

fn mode(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Mode> {
    let word = fields.get("mode").and_then(|entry| reader.word(entry))?;
    [Mode::Plan, Mode::Delete].into_iter().find(|mode| mode.as_str() == word)
}

fn age(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Option<Age> {
    fields.get(name).and_then(|entry| reader.age(entry.value))
}

fn keep_copy(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<KeepCopy> {
    fields.get("keep_copy").and_then(|entry| reader.keep_copy(entry.value))
}

/// `limits:` over those that hold without it, key by key.
fn limits(reader: &mut Reader<'_>, fields: &Fields<'_>, mut limits: Limits) -> Limits {
    let Some(fields) = fields.get("limits").and_then(|entry| reader.fields(entry.value, Section::Limits))
    else {
        return limits;
    };
    if let Some(number) = fields.get("max_matches").and_then(|entry| reader.whole(entry)) {
        limits.max_matches = number;
    }
    if let Some(number) = fields.get("max_percent").and_then(|entry| reader.whole(entry)) {
        limits.max_percent = u8::try_from(number).unwrap_or(limits.max_percent);
    }
    if let Some(number) = fields.get("deletes_per_day").and_then(|entry| reader.whole(entry)) {
        limits.deletes_per_day = number;
    }
    limits
}

fn schedule(reader: &mut Reader<'_>, fields: &Fields<'_>, zone: &Zone) -> Option<Schedule> {
    let days = fields.get("day_fields").map(|entry| reader.word(entry));
    let entry = fields.get("schedule")?;
    let text = reader.text(entry.value, "write a crontab line in quotes, for example \"15 3 * * *\"")?;
    let days = match days {
        Some(word) => Some(if word? == "or" { DayFields::Or } else { DayFields::And }),
        None => None,
    };
    match Schedule::parse(text, zone.zone.clone(), &zone.name, days) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            let span = inside(reader, entry.value, text, &error.span);
            reader.error(error.code, &span, one_line(&error.message)).help(one_line(&error.help));
            None
        }
    }
}

/// A byte range of a scalar's text as one of the file; the whole scalar where escapes or folding moved the bytes.
pub(super) fn inside(reader: &Reader<'_>, node: &Node, text: &str, part: &Range<usize>) -> Range<usize> {
    let source = reader.source.text.get(node.span.clone()).unwrap_or_default();
    let shift = if source == text {
        0
    } else if source.get(1..source.len().saturating_sub(1)) == Some(text) {
        1
    } else {
        return node.span.clone();
    };
    if text.get(part.clone()).is_none() {
        return node.span.clone();
    }
    let start = node.span.start + shift;
    start + part.start..start + part.end
}

fn events(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<BTreeSet<LeadEvent>> {
    let items = reader.items(entry)?;
    let mut events = BTreeSet::new();
    let mut whole = true;
    for item in items {
        match event(reader, item) {
            Some(event) if events.insert(event) => {}
            Some(_) => duplicate(reader, item),
            None => whole = false,
        }
    }
    whole.then_some(events)
}

fn event(reader: &mut Reader<'_>, item: &Node) -> Option<LeadEvent> {
    let list = EVENTS.join(" or ");
    let text = reader.text(item, &format!("write {list}"))?;
    let parsed = LeadEvent::parse(text);
    let (code, message, help) = match parsed {
        Some(LeadEvent::Delete) => (
            "useless-event",
            "a rule can't wait for ONCRMLEADDELETE: the lead is gone by then".to_owned(),
            format!("write {list}, or remove it; deletions by others are noticed anyway"),
        ),
        Some(event @ (LeadEvent::Add | LeadEvent::Update)) if event.as_str() == text => return Some(event),
        Some(event @ (LeadEvent::Add | LeadEvent::Update)) => (
            "unknown-event",
            format!("`{}` is not how the event is written", shown(text)),
            format!("write {}", event.as_str()),
        ),
        None => (
            "unknown-event",
            format!("there is no event `{}` for a rule", shown(text)),
            match grammar::nearest(text, EVENTS.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("write {list}"),
            },
        ),
    };
    reader.error(code, &item.span, message).help(help);
    None
}

fn ids(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<BTreeSet<LeadId>> {
    let items = reader.items(entry)?;
    let mut ids = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut whole = true;
    for item in items {
        let help = format!("write lead ids from 1 to {MAX_LEAD_ID}, without quotes: [10243, 99812]");
        let id = match &item.value {
            Value::Scalar(scalar) => match scalar.meaning() {
                Meaning::Whole(number) => LeadId::try_from(number).ok(),
                Meaning::Text
                | Meaning::Null
                | Meaning::Bool(_)
                | Meaning::YesNo(_)
                | Meaning::Decimal(_)
                | Meaning::OddNumber
                | Meaning::Date => None,
            },
            Value::List(_) | Value::Map(_) => None,
        };
        match id {
            Some(id) => {
                ids.insert(id);
                if !seen.insert(id) {
                    duplicate(reader, item);
                }
            }
            None => {
                reader.wrong(item, "a lead id", help);
                whole = false;
            }
        }
    }
    whole.then_some(ids)
}
