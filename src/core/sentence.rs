//! A rule in plain language: what a sales manager reads to know which leads it takes, when, and how carefully.
//!
//! Invariant: the words follow the compiled rule, not its text, so they say what is done. A negation is carried down to
//! the single conditions ("whose source is not WEB"), which means the same in three-valued logic. Limit: the schedule
//! stays a crontab line; pages show the next times beside it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::age::Age;
use super::compare::{Order, Test, Text};
use super::condition::Condition;
use super::field::FieldName;
use super::rule::{KeepCopy, LeadEvent, Mode, Protection, Rule};
use super::trace::{Names, USER_FIELDS};

/// The rule, a sentence each: which leads, when, what happens to them, the caps, the copies.
pub fn rule(rule: &Rule, names: &Names) -> Vec<String> {
    let words = Words { zone: rule.schedule.zone(), names };
    vec![
        format!("Leads {}{}.", words.clause(&rule.selection, false), converted(rule.include_converted)),
        when(rule),
        fate(rule),
        format!(
            "A run that would touch more than {} leads, or more than {} % of all leads, waits until a person approves it; at \
             most {} are deleted in 24 hours.",
            rule.limits.max_matches, rule.limits.max_percent, rule.limits.deletes_per_day
        ),
        match rule.keep_copy {
            KeepCopy::None => "No copies of deleted leads are kept.".to_owned(),
            KeepCopy::For(age) => format!("A copy of each deleted lead is kept for {}.", length(age)),
        },
    ]
}

/// The leads that a protection keeps; its times are told in UTC.
pub fn protection(protection: &Protection, names: &Names) -> String {
    let words = Words { zone: &TimeZone::UTC, names };
    let ids: Vec<String> = protection.ids.iter().take(NAMED_IDS).map(ToString::to_string).collect();
    let more = protection.ids.len().saturating_sub(NAMED_IDS);
    let mut parts = Vec::new();
    if !ids.is_empty() {
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        parts.push(format!("the leads {}{more}", ids.join(", ")));
    }
    parts.extend(protection.condition.as_ref().map(|part| format!("leads {}", words.clause(part, false))));
    format!("No rule deletes {}.", parts.join(", and "))
}

/// Ids of a protection that are named one by one: what fits into a sentence.
const NAMED_IDS: usize = 20;

fn converted(included: bool) -> &'static str {
    if included { "; converted leads too" } else { "; converted leads are kept" }
}

fn when(rule: &Rule) -> String {
    let schedule = format!("Looks for them by the schedule {}", rule.schedule);
    if rule.events.is_empty() {
        return format!("{schedule}.");
    }
    let events: Vec<&str> = rule
        .events
        .iter()
        .map(|event| match event {
            LeadEvent::Add => "created",
            LeadEvent::Update => "changed",
            LeadEvent::Delete => "deleted",
        })
        .collect();
    format!("{schedule}, and at once when a lead is {}.", events.join(" or "))
}

fn fate(rule: &Rule) -> String {
    match rule.mode {
        Mode::Plan => "It only reports what it finds and deletes nothing (mode plan).".to_owned(),
        Mode::Delete if rule.grace_period == Age::ZERO => {
            "A lead that is found is read and judged once more, and then deleted (mode delete).".to_owned()
        }
        Mode::Delete => format!(
            "A lead that is found waits for {}, is then read and judged once more, and deleted (mode delete).",
            length(rule.grace_period)
        ),
    }
}

/// An age in words: `90 days`, `36 hours`.
pub fn length(age: Age) -> String {
    const DAY: i64 = 24;
    let hours = age.seconds() / 3600;
    let (number, unit) = if hours > DAY && hours % DAY == 0 { (hours / DAY, "day") } else { (hours, "hour") };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// What a field is called in a sentence about leads.
enum Noun {
    /// "whose … is".
    Whose(&'static str),
    /// A moment: "that were …", then when.
    That(&'static str),
    /// A flag: what leads are or do where it is set, and where it is not.
    Flag(&'static str, &'static str),
}

/// Fields by their names in sentences; what is not here is called by its own name.
const NOUNS: &[(&str, Noun)] = &[
    ("id", Noun::Whose("id")),
    ("title", Noun::Whose("title")),
    ("stageId", Noun::Whose("stage")),
    ("stageSemanticId", Noun::Whose("kind of stage")),
    ("statusDescription", Noun::Whose("note on the stage")),
    ("createdTime", Noun::That("were created")),
    ("updatedTime", Noun::That("were last changed")),
    ("movedTime", Noun::That("came into their stage")),
    ("lastActivityTime", Noun::That("had their last activity")),
    ("dateClosed", Noun::That("were closed")),
    ("assignedById", Noun::Whose("responsible person")),
    ("createdBy", Noun::Whose("creator")),
    ("updatedBy", Noun::Whose("last editor")),
    ("movedBy", Noun::Whose("last mover")),
    ("lastActivityBy", Noun::Whose("last active person")),
    ("sourceId", Noun::Whose("source")),
    ("sourceDescription", Noun::Whose("note on the source")),
    ("opportunity", Noun::Whose("amount")),
    ("isManualOpportunity", Noun::Flag("have an amount entered by hand", "have no amount entered by hand")),
    ("taxValue", Noun::Whose("tax")),
    ("currencyId", Noun::Whose("currency")),
    ("opened", Noun::Flag("are open to everyone", "are not open to everyone")),
    ("hasPhone", Noun::Flag("have a phone number", "have no phone number")),
    ("hasEmail", Noun::Flag("have an e-mail address", "have no e-mail address")),
    ("hasImol", Noun::Flag("have an open channel chat", "have no open channel chat")),
    ("isReturnCustomer", Noun::Flag("come from a returning customer", "come from no returning customer")),
    ("companyId", Noun::Whose("company")),
    ("contactId", Noun::Whose("contact")),
    ("contactIds", Noun::Whose("contacts")),
    ("observers", Noun::Whose("observers")),
    ("companyTitle", Noun::Whose("company's name")),
    ("honorific", Noun::Whose("form of address")),
    ("name", Noun::Whose("first name")),
    ("secondName", Noun::Whose("second name")),
    ("lastName", Noun::Whose("last name")),
    ("post", Noun::Whose("position")),
    ("comments", Noun::Whose("comment")),
    ("webformId", Noun::Whose("web form")),
];

struct Words<'a> {
    zone: &'a TimeZone,
    names: &'a Names,
}

impl Words<'_> {
    /// What leads a condition means, as relative clauses; `negated` asks for all others.
    fn clause(&self, condition: &Condition, negated: bool) -> String {
        match (condition, negated) {
            (Condition::All(parts), false) | (Condition::Any(parts), true) => {
                self.joined(parts, negated, " and ")
            }
            (Condition::Any(parts), false) | (Condition::All(parts), true) => {
                self.joined(parts, negated, " or ")
            }
            (Condition::Not(part), negated) => self.clause(part, !negated),
            (Condition::Field { field, test }, negated) => self.test(field, test, negated),
            (Condition::OlderThan { field, age }, negated) => {
                let long = length(*age);
                let when =
                    if negated { format!("less than {long} ago") } else { format!("at least {long} ago") };
                self.at(field, &when)
            }
        }
    }

    fn joined(&self, parts: &[Condition], negated: bool, word: &str) -> String {
        let one = |part: &Condition| {
            let clause = self.clause(part, negated);
            if parts.len() > 1 && is_group(part) { format!("({clause})") } else { clause }
        };
        parts.iter().map(one).collect::<Vec<_>>().join(word)
    }

    fn test(&self, field: &FieldName, test: &Test, negated: bool) -> String {
        match test {
            Test::TextIn { values, negated: not } => {
                let values = values.iter().map(|value| self.text(field, value)).collect();
                format!("{} {}", subject(field), among(values, *not != negated))
            }
            Test::NumberIn { values, negated: not } => {
                let values = values.iter().map(|value| self.number(field, *value)).collect();
                format!("{} {}", subject(field), among(values, *not != negated))
            }
            Test::Contains(part) => {
                let verb = if negated { "does not contain" } else { "contains" };
                format!("{} {verb} “{}”", subject(field), part.as_str())
            }
            Test::StartsWith(part) => {
                let verb = if negated { "does not begin with" } else { "begins with" };
                format!("{} {verb} “{}”", subject(field), part.as_str())
            }
            Test::NumberOrder { order, than } => {
                let words = match opposite(*order, negated) {
                    Order::Gt => "more than",
                    Order::Gte => "at least",
                    Order::Lt => "less than",
                    Order::Lte => "at most",
                };
                format!("{} is {words} {than}", subject(field))
            }
            Test::TimeOrder { order, than } => {
                let words = match opposite(*order, negated) {
                    Order::Gt => "after",
                    Order::Gte => "at or after",
                    Order::Lt => "before",
                    Order::Lte => "at or before",
                };
                self.at(field, &format!("{words} {}", self.moment(*than)))
            }
            Test::Flag(wanted) => {
                let set = *wanted != negated;
                match noun(field) {
                    Some(Noun::Flag(yes, no)) => format!("that {}", if set { yes } else { no }),
                    Some(Noun::Whose(_) | Noun::That(_)) | None => {
                        format!("{} is {}", subject(field), if set { "Y" } else { "N" })
                    }
                }
            }
            Test::Empty(wanted) => {
                let words = if *wanted == negated { "is filled in" } else { "is empty" };
                format!("{} {words}", subject(field))
            }
        }
    }

    /// A condition on a moment.
    fn at(&self, field: &FieldName, when: &str) -> String {
        match noun(field) {
            Some(Noun::That(verb)) => format!("that {verb} {when}"),
            Some(Noun::Whose(_) | Noun::Flag(..)) | None => format!("{} is {when}", subject(field)),
        }
    }

    fn moment(&self, at: Timestamp) -> String {
        let local = at.to_zoned_datetime(self.zone.clone());
        let whole_day = local.time() == jiff::civil::Time::midnight();
        local.strftime(if whole_day { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M:%S%:z" }).to_string()
    }

    fn text(&self, field: &FieldName, value: &Text) -> String {
        let stages = &self.names.stages;
        let stage = |code: &str| stages.iter().find(|(known, _)| known.eq_ignore_ascii_case(code));
        match (field.as_str(), stage(value.as_str())) {
            ("stageId", Some((_, name))) => format!("{} ({name})", value.as_str()),
            (_, _) => value.as_str().to_owned(),
        }
    }

    fn number(&self, field: &FieldName, value: f64) -> String {
        #[expect(clippy::cast_possible_truncation, reason = "the ids of users are far below 2^53")]
        let name = self.names.users.get(&(value as i64)).filter(|_| USER_FIELDS.contains(&field.as_str()));
        name.map_or_else(|| value.to_string(), |name| format!("{value} ({name})"))
    }
}

/// Whether a condition is told as several clauses.
fn is_group(condition: &Condition) -> bool {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.len() > 1 || parts.iter().any(is_group),
        Condition::Not(part) => is_group(part),
        Condition::Field { .. } | Condition::OlderThan { .. } => false,
    }
}

fn noun(field: &FieldName) -> Option<&'static Noun> {
    NOUNS.iter().find(|(known, _)| *known == field.as_str()).map(|(_, noun)| noun)
}

/// "whose …", for a verb to follow.
fn subject(field: &FieldName) -> String {
    match noun(field) {
        Some(Noun::Whose(name)) => format!("whose {name}"),
        Some(Noun::That(_) | Noun::Flag(..)) | None => format!("whose field {field}"),
    }
}

fn among(values: Vec<String>, negated: bool) -> String {
    match (values.split_last(), negated) {
        (None, false) => "is nothing".to_owned(),
        (None, true) => "is anything".to_owned(),
        (Some((only, [])), false) => format!("is {only}"),
        (Some((only, [])), true) => format!("is not {only}"),
        (Some((last, some)), false) => format!("is {} or {last}", some.join(", ")),
        (Some((last, some)), true) => format!("is neither {} nor {last}", some.join(", ")),
    }
}

fn opposite(order: Order, negated: bool) -> Order {
    match (order, negated) {
        (Order::Gt, false) | (Order::Lte, true) => Order::Gt,
        (Order::Gte, false) | (Order::Lt, true) => Order::Gte,
        (Order::Lt, false) | (Order::Gte, true) => Order::Lt,
        (Order::Lte, false) | (Order::Gt, true) => Order::Lte,
    }
}
