//! Every key of the rules language: where it may stand, what it takes, what it means, an example, a mistake.
//!
//! The tables feed the reading of files, the suggestions in messages, the JSON Schema ([`super::schema`]) and the
//! reference in `docs/rules.md`; a key that is not in them does not exist.

use crate::core::field::FieldKind;

/// A map of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// The file itself.
    File,
    /// `portal:`
    Portal,
    /// `defaults:`
    Defaults,
    /// `limits:` of the defaults or of a rule.
    Limits,
    /// An entry of `protect:`.
    Protection,
    /// An entry of `rules:`.
    Rule,
    /// `older_than:` with a field.
    OlderThan,
    /// An entry of `notify:`.
    Notify,
    /// `http:` of a target of notices.
    Http,
    /// `email:` of a target of notices.
    Email,
    /// `chat:` of a target of notices.
    Chat,
    /// A file of tests (`*.test.yaml`).
    Tests,
    /// An entry of `cases:`.
    Case,
}

impl Section {
    /// Every section, in the order of the reference.
    pub const ALL: [Section; 13] = [
        Section::File,
        Section::Portal,
        Section::Defaults,
        Section::Limits,
        Section::Protection,
        Section::Rule,
        Section::OlderThan,
        Section::Notify,
        Section::Http,
        Section::Email,
        Section::Chat,
        Section::Tests,
        Section::Case,
    ];

    /// Whether it belongs to files of tests, which are another kind of file.
    pub fn is_of_tests(self) -> bool {
        match self {
            Section::Tests | Section::Case => true,
            Section::File
            | Section::Portal
            | Section::Defaults
            | Section::Limits
            | Section::Protection
            | Section::Rule
            | Section::OlderThan
            | Section::Notify
            | Section::Http
            | Section::Email
            | Section::Chat => false,
        }
    }

    /// Where its keys stand, for messages: "`burst` belongs {}".
    pub fn place(self) -> &'static str {
        match self {
            Section::File => "at the top of the file",
            Section::Portal => "under `portal:`",
            Section::Defaults => "under `defaults:`",
            Section::Limits => "under `limits:`",
            Section::Protection => "in an entry of `protect:`",
            Section::Rule => "in a rule (an entry of `rules:`)",
            Section::OlderThan => "under `older_than:`",
            Section::Notify => "in an entry of `notify:`",
            Section::Http => "under `http:`",
            Section::Email => "under `email:`",
            Section::Chat => "under `chat:`",
            Section::Tests => "at the top of a file of tests",
            Section::Case => "in a case (an entry of `cases:`)",
        }
    }

    /// What it is, for messages: "{} needs `name`".
    pub fn noun(self) -> &'static str {
        match self {
            Section::File => "a rules file",
            Section::Portal => "`portal:`",
            Section::Defaults => "`defaults:`",
            Section::Limits => "`limits:`",
            Section::Protection => "a protection",
            Section::Rule => "a rule",
            Section::OlderThan => "`older_than:`",
            Section::Notify => "a target of notices",
            Section::Http => "`http:`",
            Section::Email => "`email:`",
            Section::Chat => "`chat:`",
            Section::Tests => "a file of tests",
            Section::Case => "a case",
        }
    }

    /// Its keys, in the order of the reference.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.section == self)
    }

    /// Its key of that name.
    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// The number of the language's version.
    Version,
    /// The name of a rule or protection.
    Name,
    /// Text for people.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number from `min` to `max`.
    Whole {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A number above 0, at most `max`.
    Decimal {
        /// The greatest.
        max: f64,
    },
    /// An age: `90d`.
    Age,
    /// An age, or `none`.
    AgeOrNone,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An IANA time zone.
    Zone,
    /// A crontab line.
    Schedule,
    /// A list of lead events.
    Events,
    /// A list of lead ids.
    Ids,
    /// A list of these words.
    Words(&'static [&'static str]),
    /// The name of an environment variable with a secret of notices.
    Variable,
    /// JSON with placeholders.
    Template,
    /// An e-mail address.
    Address,
    /// A list of e-mail addresses.
    Addresses,
    /// A condition on a lead's fields.
    Match,
    /// An age, or a map of [`Section::OlderThan`].
    OlderThan,
    /// The name of a field that holds a date.
    DateField,
    /// A moment with its offset.
    Moment,
    /// A lead's fields with their values, as the portal returns them.
    Lead,
    /// A map.
    Map(Section),
    /// A list of maps.
    List(Section),
}

/// A key of the language.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// The map that it stands in.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it takes.
    pub kind: Kind,
    /// What it means, in one line.
    pub doc: &'static str,
    /// The value that holds where nothing is written, as it would be written; `None` where there is none.
    pub default: Option<&'static str>,
    /// The key with a value, as it could stand in a file.
    pub example: &'static str,
    /// The key with a value that is refused.
    pub mistake: &'static str,
    /// Other words that people try for it.
    pub also: &'static [&'static str],
}

/// Whole numbers beyond this are typing errors: no portal has so many leads.
const MANY: u64 = 1_000_000_000;

/// The events that a rule may wait for.
pub const EVENTS: &[&str] = &["ONCRMLEADADD", "ONCRMLEADUPDATE"];

/// What a target of notices can be told, in the words of [`crate::core::notice::Occasion`].
pub const OCCASIONS: &[&str] = &["held", "finished", "stopped", "reload_failed", "silence"];

const MODES: Kind = Kind::OneOf(&["plan", "delete"]);

/// What a case may expect, in the words of [`crate::core::decide::Verdict`].
pub const EXPECTATIONS: &[&str] = &["delete", "protected", "no_match", "undecidable"];

const fn key(
    section: Section,
    name: &'static str,
    kind: Kind,
    doc: &'static str,
    example: &'static str,
    mistake: &'static str,
    also: &'static [&'static str],
) -> Key {
    Key { section, name, required: false, kind, doc, default: None, example, mistake, also }
}

const fn required(key: Key) -> Key {
    Key { required: true, ..key }
}

const fn default(value: &'static str, key: Key) -> Key {
    Key { default: Some(value), ..key }
}

/// Every key.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    required(key(Section::File, "version", Kind::Version, "the version of the rules language, always 1", "version: 1", "version: 2", &[])),
    required(key(Section::File, "timezone", Kind::Zone, "the time zone that schedules and dates are in", "timezone: Europe/Berlin", "timezone: CET", &["time_zone", "tz", "zone"])),
    key(Section::File, "portal", Kind::Map(Section::Portal), "how fast the portal may be asked", "portal: { requests_per_second: 2 }", "portal: 2", &["bitrix24", "bitrix"]),
    key(Section::File, "defaults", Kind::Map(Section::Defaults), "what the rules of this file have where they say nothing", "defaults: { mode: plan }", "defaults: { match: { stageId: JUNK } }", &["default"]),
    key(Section::File, "protect", Kind::List(Section::Protection), "leads that no rule may delete", "protect: [ { name: pinned, ids: [10243] } ]", "protect: [10243]", &["protected", "protections", "exclude", "except", "keep"]),
    key(Section::File, "rules", Kind::List(Section::Rule), "the rules", "rules: [ { name: old-junk, schedule: \"15 3 * * *\", match: { stageId: JUNK } } ]", "rules: { old-junk: { match: { stageId: JUNK } } }", &["rule"]),
    key(Section::File, "notify", Kind::List(Section::Notify), "who is told what happens", "notify: [ { name: chat, on: [held, stopped], chat: { user_id: 1 } } ]", "notify: ops@example.org", &["notifications", "notification", "notices", "alerts", "alert"]),

    default("2", key(Section::Portal, "requests_per_second", Kind::Decimal { max: 50.0 }, "requests a second in the long run; Enterprise plans allow 5", "requests_per_second: 5", "requests_per_second: 0", &["rps", "rate"])),
    default("50", key(Section::Portal, "burst", Kind::Whole { min: 1, max: 10_000 }, "requests that may be sent at once before the rate counts; Enterprise plans allow 250", "burst: 250", "burst: 0", &[])),
    default("480", key(Section::Portal, "method_seconds", Kind::Decimal { max: 86_400.0 }, "seconds of the portal's work that one method may use in ten minutes", "method_seconds: 300", "method_seconds: 8m", &["operating", "operating_seconds"])),
    default("2", key(Section::Portal, "concurrency", Kind::Whole { min: 1, max: 8 }, "requests under way at the same time", "concurrency: 4", "concurrency: 9", &["parallel", "threads", "workers"])),
    default("crm.lead.delete", key(Section::Portal, "delete_method", Kind::OneOf(&["crm.lead.delete", "crm.item.delete"]), "the portal's method that deletes", "delete_method: crm.item.delete", "delete_method: crm.lead.remove", &["method"])),

    default("plan", key(Section::Defaults, "mode", MODES, "plan: only report; delete: delete", "mode: plan", "mode: dry-run", &["dry_run", "action"])),
    default("0h", key(Section::Defaults, "grace_period", Kind::Age, "how long a matched lead waits before it is deleted", "grace_period: 24h", "grace_period: 24", &["grace", "delay"])),
    default("30d", key(Section::Defaults, "keep_copy", Kind::AgeOrNone, "how long the copy of a deleted lead is kept, or none", "keep_copy: none", "keep_copy: no", &["backup", "copy"])),
    key(Section::Defaults, "limits", Kind::Map(Section::Limits), "caps that hold a run for a person's approval", "limits: { max_matches: 500 }", "limits: 500", &["limit", "caps"]),
    default("365d", key(Section::Defaults, "keep_history", Kind::Age, "how long finished jobs, events and runs are kept; their counts stay", "keep_history: 730d", "keep_history: 2y", &["history"])),

    default("1000", key(Section::Limits, "max_matches", Kind::Whole { min: 1, max: MANY }, "a run with more leads waits for approval", "max_matches: 200", "max_matches: none", &["max", "max_leads"])),
    default("20", key(Section::Limits, "max_percent", Kind::Whole { min: 1, max: 100 }, "a run with a greater share of all leads, in percent, waits for approval; ignored under 50 leads", "max_percent: 5", "max_percent: 5%", &["percent"])),
    default("10000", key(Section::Limits, "deletes_per_day", Kind::Whole { min: 1, max: MANY }, "deletions in any 24 hours; the rest waits", "deletes_per_day: 2000", "deletes_per_day: 0", &["per_day", "daily"])),

    required(key(Section::Protection, "name", Kind::Name, "the protection's name, unique over all files", "name: pinned", "name: Pinned leads", &["id", "title"])),
    key(Section::Protection, "ids", Kind::Ids, "leads by id", "ids: [10243, 99812]", "ids: [\"10243\"]", &["lead_ids", "leads"]),
    key(Section::Protection, "match", Kind::Match, "leads by what their fields hold", "match: { opportunity: { gt: 0 } }", "match: { opportunity: { gt: \"0\" } }", &["where", "filter", "when", "if", "condition", "conditions"]),

    required(key(Section::Rule, "name", Kind::Name, "the rule's name, unique over all files", "name: old-junk", "name: Old Junk", &["id", "title"])),
    key(Section::Rule, "description", Kind::Text, "what the rule is for", "description: Junk leads older than 90 days", "description: 2024", &["comment", "note", "desc"]),
    required(key(Section::Rule, "schedule", Kind::Schedule, "when it runs: a crontab line", "schedule: \"15 3 * * *\"", "schedule: \"3:15\"", &["cron", "crontab", "every", "at", "time"])),
    key(Section::Rule, "day_fields", Kind::OneOf(&["or", "and"]), "how a schedule with both a day of the month and a day of the week is meant", "day_fields: and", "day_fields: both", &[]),
    key(Section::Rule, "timezone", Kind::Zone, "a time zone for this rule alone", "timezone: Asia/Yekaterinburg", "timezone: MSK", &["time_zone", "tz", "zone"]),
    key(Section::Rule, "events", Kind::Events, "events of the portal that make it look at a lead at once", "events: [ONCRMLEADADD, ONCRMLEADUPDATE]", "events: [ONCRMLEADDELETE]", &["event", "on", "trigger", "triggers"]),
    required(key(Section::Rule, "match", Kind::Match, "which leads, by what their fields hold", "match: { stageId: JUNK }", "match: { STATUS_ID: JUNK }", &["where", "filter", "when", "if", "condition", "conditions"])),
    key(Section::Rule, "older_than", Kind::OlderThan, "only leads created so long ago, or whose other date lies so far back", "older_than: 90d", "older_than: 3m", &["age", "older", "min_age"]),
    default("false", key(Section::Rule, "include_converted", Kind::Bool, "whether converted leads may be deleted", "include_converted: true", "include_converted: yes", &["converted"])),
    key(Section::Rule, "mode", MODES, "plan: only report; delete: delete", "mode: delete", "mode: remove", &["dry_run", "action"]),
    key(Section::Rule, "grace_period", Kind::Age, "how long a matched lead waits before it is deleted", "grace_period: 48h", "grace_period: 2 days", &["grace", "delay"]),
    key(Section::Rule, "keep_copy", Kind::AgeOrNone, "how long the copy of a deleted lead is kept, or none", "keep_copy: 180d", "keep_copy: false", &["backup", "copy"]),
    key(Section::Rule, "limits", Kind::Map(Section::Limits), "caps of this rule; what it leaves out comes from the defaults", "limits: { max_matches: 200 }", "limits: {}", &["limit", "caps"]),

    required(key(Section::OlderThan, "field", Kind::DateField, "the field that holds the date", "field: lastActivityTime", "field: stageId", &[])),
    required(key(Section::OlderThan, "age", Kind::Age, "how long ago, at least", "age: 90d", "age: 90", &["older_than", "than"])),

    required(key(Section::Notify, "name", Kind::Name, "the target's name, unique over all files", "name: ops", "name: The Ops", &["id", "title"])),
    required(key(Section::Notify, "on", Kind::Words(OCCASIONS), "what it is told: a run is held, a run has ended, the portal refuses every call, the rules were not reloaded, no events come", "on: [held, stopped]", "on: [hold]", &["events", "event", "when", "about"])),
    key(Section::Notify, "http", Kind::Map(Section::Http), "by an HTTP POST", "http: { url_env: JANITOR_NOTIFY_OPS_URL }", "http: https://example.org", &["webhook", "slack", "telegram", "https", "post"]),
    key(Section::Notify, "email", Kind::Map(Section::Email), "by e-mail", "email: { to: [boss@example.org], from: janitor@example.org, smtp_env: JANITOR_SMTP_URL }", "email: boss@example.org", &["mail", "e_mail", "smtp"]),
    key(Section::Notify, "chat", Kind::Map(Section::Chat), "by a notification in the portal itself; the webhook needs the scope `im` for it", "chat: { user_id: 1 }", "chat: 1", &["bitrix24", "bitrix", "im"]),

    required(key(Section::Http, "url_env", Kind::Variable, "the environment variable with the address, which is a secret", "url_env: JANITOR_NOTIFY_OPS_URL", "url_env: OPS_URL", &["url", "address", "uri"])),
    key(Section::Http, "token_env", Kind::Variable, "the environment variable with a token, sent as `Authorization: Bearer`", "token_env: JANITOR_NOTIFY_OPS_TOKEN", "token_env: TOKEN", &["token", "bearer", "authorization", "secret"]),
    default("'{\"text\": \"{{text}}\"}'", key(Section::Http, "body", Kind::Template, "the body, JSON; `{{text}}`, `{{title}}`, `{{occasion}}`, `{{rule}}`, `{{run}}`, `{{count}}`, `{{time}}` and `{{portal}}` are filled in", "body: '{\"chat_id\": \"-1001\", \"text\": \"{{text}}\"}'", "body: '{\"text\": \"{{message}}\"}'", &["template", "json", "text", "payload", "data"])),

    required(key(Section::Email, "to", Kind::Addresses, "whom to", "to: [boss@example.org]", "to: [boss]", &["recipients", "recipient"])),
    required(key(Section::Email, "from", Kind::Address, "whom from", "from: janitor@example.org", "from: janitor", &["sender"])),
    required(key(Section::Email, "smtp_env", Kind::Variable, "the environment variable with the mail server: smtps://USER:PASSWORD@HOST, or smtp:// for STARTTLS", "smtp_env: JANITOR_SMTP_URL", "smtp_env: SMTP_URL", &["smtp", "server", "url_env", "smtp_url"])),

    required(key(Section::Chat, "user_id", Kind::Whole { min: 1, max: 2_147_483_647 }, "the id of the portal's user who is told", "user_id: 1", "user_id: boss", &["user", "id", "to"])),

    required(key(Section::Tests, "now", Kind::Moment, "the moment at which every case is judged, with its offset", "now: 2026-11-25T12:00:00+01:00", "now: today", &["at", "time", "date"])),
    key(Section::Tests, "rules", Kind::Text, "the rules file or directory, seen from the file of tests; without it JANITOR_RULES or --rules, else the rules.yaml beside it", "rules: rules.yaml", "rules: [a.yaml, b.yaml]", &["file", "path"]),
    required(key(Section::Tests, "cases", Kind::List(Section::Case), "the cases", "cases: [ { name: junk goes, lead: { stageId: JUNK }, rule: old-junk, expect: delete } ]", "cases: []", &["tests", "case"])),

    required(key(Section::Case, "name", Kind::Text, "what the case is about, unique in its file", "name: junk of last year goes", "name: 7", &["title", "description"])),
    required(key(Section::Case, "lead", Kind::Lead, "the lead's fields; what is left out is missing, but for `id` (1) and `stageSemanticId` (from the stage)", "lead: { stageId: JUNK, opportunity: \"0.00\" }", "lead: { STATUS_ID: JUNK }", &["fields", "item"])),
    required(key(Section::Case, "rule", Kind::Name, "the rule that judges it", "rule: old-junk", "rule: Old Junk", &["rules"])),
    required(key(Section::Case, "expect", Kind::OneOf(EXPECTATIONS), "what the rule must say", "expect: delete", "expect: deleted", &["expected", "result", "verdict"])),
    key(Section::Case, "reason", Kind::Text, "a part of the reason that must be given", "reason: \"protected by has-money\"", "reason: [money]", &["because", "why"]),
];

/// An operator of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// One of a list.
    In,
    /// None of a list.
    NotIn,
    /// Greater, or later.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less, or earlier.
    Lt,
    /// Less or equal.
    Lte,
    /// Whether there is no value.
    Empty,
    /// The text has this part.
    Contains,
    /// The text begins so.
    StartsWith,
}

/// Every operator with its word, what it asks in a few words, and other words that people try.
#[rustfmt::skip]
pub const OPERATORS: &[(Operator, &str, &str, &[&str])] = &[
    (Operator::Eq, "eq", "equals", &["=", "==", "is", "equals", "equal"]),
    (Operator::Ne, "ne", "does not equal", &["!=", "<>", "neq", "not_eq", "is_not"]),
    (Operator::In, "in", "is one of a list", &["one_of", "any_of"]),
    (Operator::NotIn, "not_in", "is none of a list", &["nin", "none_of", "notin"]),
    (Operator::Gt, "gt", "is greater or later than", &[">", "after", "above", "more_than", "greater"]),
    (Operator::Gte, "gte", "is at least", &[">=", "ge", "from", "min", "since"]),
    (Operator::Lt, "lt", "is less or earlier than", &["<", "before", "below", "less_than", "less"]),
    (Operator::Lte, "lte", "is at most", &["<=", "le", "to", "max", "until"]),
    (Operator::Empty, "empty", "has no value (true) or has one (false)", &["is_empty", "null", "exists", "blank"]),
    (Operator::Contains, "contains", "has this text in it", &["like", "includes", "has", "matches", "regex"]),
    (Operator::StartsWith, "starts_with", "begins with this text", &["prefix", "begins_with", "startswith"]),
];

impl Operator {
    /// The operator of that word.
    pub fn parse(word: &str) -> Option<Operator> {
        OPERATORS.iter().find(|(_, known, _, _)| *known == word).map(|(operator, ..)| *operator)
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        OPERATORS.iter().find(|(operator, ..)| *operator == self).map_or("", |(_, word, _, _)| word)
    }
}

/// The operators that make sense for a kind of field.
pub fn operators(kind: FieldKind) -> &'static [Operator] {
    use Operator::{Contains, Empty, Eq, Gt, Gte, In, Lt, Lte, Ne, NotIn, StartsWith};
    match kind {
        FieldKind::Stage => &[Eq, Ne, In, NotIn, Empty],
        FieldKind::Text => &[Eq, Ne, In, NotIn, Empty, Contains, StartsWith],
        FieldKind::Number | FieldKind::Id => &[Eq, Ne, In, NotIn, Gt, Gte, Lt, Lte, Empty],
        FieldKind::Reference => &[Eq, Ne, In, NotIn, Empty],
        FieldKind::Time => &[Gt, Gte, Lt, Lte, Empty],
        FieldKind::Flag => &[Eq, Ne, Empty],
        FieldKind::Custom => &[Eq, Ne, In, NotIn, Gt, Gte, Lt, Lte, Empty, Contains, StartsWith],
    }
}

/// What a kind of field holds, in words.
pub fn holds(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Stage => "a stage",
        FieldKind::Text => "text",
        FieldKind::Number => "a number",
        FieldKind::Id => "the lead's id",
        FieldKind::Reference => "the id of another record",
        FieldKind::Time => "a date",
        FieldKind::Flag => "Y or N",
        FieldKind::Custom => "a value of your own",
    }
}

/// Names at least this similar (Jaro-Winkler, 0 to 1) are worth suggesting; below, a suggestion confuses.
const NEAR_ENOUGH: f64 = 0.8;

/// The candidate nearest to a word, if one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&candidate.to_lowercase(), &word), candidate))
        .filter(|(score, _)| *score >= NEAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The operator that a word was meant for, if that can be told.
pub fn meant_operator(word: &str) -> Option<&'static str> {
    let lower = word.to_lowercase();
    let synonym = OPERATORS.iter().find(|(_, _, _, also)| also.contains(&lower.as_str()));
    synonym
        .map(|(_, known, _, _)| *known)
        .or_else(|| nearest(word, OPERATORS.iter().map(|(_, known, _, _)| *known)))
}

/// The suggestion of a name.
pub fn did_you_mean(known: &str) -> String {
    format!("did you mean `{known}`?")
}

/// What to write instead of a key that a section does not have; `None` where nothing is near.
pub fn suggest(section: Section, name: &str) -> Option<String> {
    let spelt = name.to_lowercase().replace('-', "_");
    let in_case = section.key(&spelt).map(|key| key.name);
    let synonym = section.keys().find(|key| key.also.contains(&spelt.as_str())).map(|key| key.name);
    let elsewhere = || {
        let mut places: Vec<&str> = KEYS
            .iter()
            .filter(|key| key.name == spelt && key.section != section)
            .filter(|key| key.section.is_of_tests() == section.is_of_tests())
            .map(|key| key.section.place())
            .collect();
        places.dedup();
        (!places.is_empty()).then(|| format!("`{spelt}` belongs {}", places.join(" or ")))
    };
    in_case
        .map(did_you_mean)
        .or_else(elsewhere)
        .or_else(|| synonym.map(did_you_mean))
        .or_else(|| nearest(&spelt, section.keys().map(|key| key.name)).map(did_you_mean))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_has_an_example_that_begins_with_it_and_stands_once_in_its_section() {
        let mut seen = BTreeSet::new();
        for key in KEYS {
            assert!(key.example.starts_with(&format!("{}: ", key.name)), "{}", key.name);
            assert!(key.mistake.starts_with(&format!("{}: ", key.name)), "{}", key.name);
            assert!(!key.doc.is_empty() && !key.doc.ends_with('.'), "{}", key.name);
            assert!(seen.insert((key.section.place(), key.name)), "{} twice", key.name);
        }
    }

    #[test]
    fn a_known_key_at_the_wrong_level_is_sent_to_its_place() {
        assert_eq!(suggest(Section::Rule, "max_matches").unwrap(), "`max_matches` belongs under `limits:`");
        assert_eq!(suggest(Section::Rule, "shedule").unwrap(), "did you mean `schedule`?");
        assert_eq!(suggest(Section::Rule, "cron").unwrap(), "did you mean `schedule`?");
        assert_eq!(suggest(Section::Rule, "grace-period").unwrap(), "did you mean `grace_period`?");
        assert_eq!(suggest(Section::Rule, "zzz"), None);
    }
}
