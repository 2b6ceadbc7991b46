//! `notify:`, from its entries to targets of notices.
//!
//! Invariant: what looks like a secret is never shown, neither in a message nor in the line under it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::entries::{Named, inside, name};
use super::reader::{Entry, Fields, Reader};
use super::values::duplicate;
use crate::core::notice::Occasion;
use crate::core::notify::{Email, HttpPost, MAX_TARGETS, Target, Template, Variable, Way};
use crate::core::rule::Place;
use crate::rules::diagnostic::{Diagnostic, Source, one_line, shown};
use crate::rules::grammar::{self, OCCASIONS, Section};
use crate::rules::tree::{Node, Value};

/// The longest e-mail address (RFC 5321, 4.5.3.1.3).
const LONGEST_ADDRESS: usize = 254;

/// An entry of `notify:`, with its name where that could be read although something else could not.
pub(super) fn target(reader: &mut Reader<'_>, node: &Node) -> (Option<Named>, Option<Target>) {
    if let Some(written) = written_out(node) {
        // Whatever else is wrong with the entry, its lines are not to be shown.
        reader
            .error("secret-in-rules", &written.span, "an address stands in the rules, and such an address is a secret")
            .help(
                "put it into the environment, for example as JANITOR_NOTIFY_OPS_URL, and write its name: url_env: \
                 JANITOR_NOTIFY_OPS_URL",
            )
            .hide_line();
        return (None, None);
    }
    let Some(fields) = reader.fields(node, Section::Notify) else { return (None, None) };
    let name = fields.get("name").and_then(|entry| name(reader, entry));
    let on = fields.get("on").and_then(|entry| occasions(reader, entry));
    let way = way(reader, node, &fields);
    let place = Place { line: reader.source.line(node.span.start), file: reader.source.file.clone() };
    let read = || Some(Target { name: name.clone()?.0, on: on?, way: way?, place });
    let target = read();
    (name, target)
}

/// The first value of an entry that is an address, but for the body, which may hold a link for people.
fn written_out(node: &Node) -> Option<&Node> {
    match &node.value {
        Value::Scalar(scalar) => scalar.text.contains("://").then_some(node),
        Value::List(items) => items.iter().find_map(written_out),
        Value::Map(entries) => {
            let is_body = |name: &Node| matches!(&name.value, Value::Scalar(scalar) if scalar.text == "body");
            entries
                .iter()
                .filter(|(name, _)| !is_body(name))
                .find_map(|(name, value)| written_out(name).or_else(|| written_out(value)))
        }
    }
}

/// The error of a file with which there are more targets than all files may have.
pub(super) fn too_many(source: &Source, names: &[Named]) -> Option<Diagnostic> {
    let (_, span) = names.last()?;
    let message = format!("there are more than {MAX_TARGETS} targets of notices");
    let mut error = source.error("too-many-targets", span.clone(), message);
    error.help("let a group, a channel or a mailing list tell the people behind it");
    Some(error)
}

fn occasions(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<BTreeSet<Occasion>> {
    let list = OCCASIONS.join(", ");
    let mut on = BTreeSet::new();
    let mut whole = true;
    for item in reader.items(entry)? {
        let Some(word) = reader.text(item, &format!("write some of {list}")) else {
            whole = false;
            continue;
        };
        match Occasion::parse(word) {
            Some(occasion) if on.insert(occasion) => {}
            Some(_) => duplicate(reader, item),
            None => {
                let help = match grammar::nearest(word, OCCASIONS.iter().copied()) {
                    Some(near) => grammar::did_you_mean(near),
                    None => format!("write some of {list}"),
                };
                let message = format!("there is no notice of `{}`", shown(word));
                reader.error("unknown-word", &item.span, message).help(help);
                whole = false;
            }
        }
    }
    whole.then_some(on)
}

/// The one way of a target.
fn way(reader: &mut Reader<'_>, node: &Node, fields: &Fields<'_>) -> Option<Way> {
    let ways: Vec<Entry<'_>> = ["http", "email", "chat"].iter().filter_map(|way| fields.get(way)).collect();
    let read = match (fields.get("http"), fields.get("email"), fields.get("chat")) {
        (Some(entry), _, _) => http(reader, entry.value),
        (None, Some(entry), _) => email(reader, entry.value),
        (None, None, Some(entry)) => chat(reader, entry.value),
        (None, None, None) => {
            let span = fields.get("name").map_or(node.span.clone(), |entry| entry.value.span.clone());
            reader
                .error("no-way", &span, "this target says not how it is told")
                .help("write one of http:, email: and chat:; for example: chat: { user_id: 1 }");
            return None;
        }
    };
    if let [_, second, ..] = ways.as_slice() {
        reader
            .error("two-ways", &second.name.span, "a target is told in one way only")
            .help("make a target of each");
        return None;
    }
    read
}

fn http(reader: &mut Reader<'_>, node: &Node) -> Option<Way> {
    let fields = reader.fields(node, Section::Http)?;
    let url = fields.get("url_env").and_then(|entry| variable(reader, entry));
    let token = fields.get("token_env").map(|entry| variable(reader, entry));
    let body = match fields.get("body") {
        Some(entry) => template(reader, entry),
        None => Template::parse(Template::DEFAULT).ok(),
    };
    let token = token.map_or(Some(None), |read| read.map(Some));
    Some(Way::Http(HttpPost { url: url?, token: token?, body: body? }))
}

fn email(reader: &mut Reader<'_>, node: &Node) -> Option<Way> {
    let fields = reader.fields(node, Section::Email)?;
    let from = fields.get("from").and_then(|entry| address(reader, entry.value));
    let smtp = fields.get("smtp_env").and_then(|entry| variable(reader, entry));
    let mut to = Vec::new();
    let mut whole = true;
    for item in fields.get("to").and_then(|entry| reader.items(entry)).unwrap_or_default() {
        match address(reader, item) {
            Some(address) if to.contains(&address) => duplicate(reader, item),
            Some(address) => to.push(address),
            None => whole = false,
        }
    }
    let to = (whole && !to.is_empty()).then_some(to);
    Some(Way::Email(Email { to: to?, from: from?, smtp: smtp? }))
}

fn chat(reader: &mut Reader<'_>, node: &Node) -> Option<Way> {
    let fields = reader.fields(node, Section::Chat)?;
    let user = fields.get("user_id").and_then(|entry| reader.whole(entry))?;
    Some(Way::Chat { user_id: u32::try_from(user).ok()? })
}

/// The name of a variable with a secret.
fn variable(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Variable> {
    let help = format!("write the name of an environment variable, for example: {}", entry.key.example);
    let name = reader.text(entry.value, &help)?;
    let read = Variable::parse(name);
    if read.is_none() {
        let begins = Variable::PREFIXES.join(" or ");
        let message = if looks_secret(name) {
            format!("`{}` takes the name of a variable, and this is no name", entry.key.name)
        } else {
            format!("`{}` can't name a secret of notices", shown(name))
        };
        let help = format!(
            "put the secret into the environment, under a name of capital letters, digits and underscores that begins with \
             {begins}: {}",
            entry.key.example
        );
        let error = reader.error("bad-variable", &entry.value.span, message);
        error.help(help);
        if looks_secret(name) {
            error.hide_line();
        }
    }
    read
}

/// Whether a person may have written the secret itself.
fn looks_secret(text: &str) -> bool {
    text.chars().any(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ')))
        || text.len() > Variable::MAX_LENGTH
}

fn template(reader: &mut Reader<'_>, entry: Entry<'_>) -> Option<Template> {
    let help = format!("write JSON in single quotes: '{}'", Template::DEFAULT);
    let text = reader.text(entry.value, &help)?;
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(bad) => {
            let span = inside(reader, entry.value, text, &bad.span);
            reader.error(bad.code, &span, one_line(&bad.message)).help(one_line(&bad.help));
            None
        }
    }
}

fn address(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let help = "write an address such as boss@example.org, without a name";
    let text = reader.text(node, help)?;
    if is_address(text) {
        return Some(text.to_owned());
    }
    let span: &Range<usize> = &node.span;
    reader.error("bad-address", span, format!("`{}` is no e-mail address", shown(text))).help(help);
    None
}

/// Whether it is `local@domain` without anything that could add a header or another recipient.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let of_local = |c: char| {
        c.is_ascii_graphic()
            && !matches!(c, '@' | '<' | '>' | ',' | ';' | ':' | '"' | '(' | ')' | '\\' | '[' | ']')
    };
    let dots = |text: &str| !text.starts_with('.') && !text.ends_with('.') && !text.contains("..");
    text.len() <= LONGEST_ADDRESS
        && (1..=64).contains(&local.len())
        && local.chars().all(of_local)
        && dots(local)
        && !domain.is_empty()
        && domain
            .split('.')
            .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        && domain.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
}
