//! How commands speak of times, of other commands and of rules: times in the rule's zone where there is a rule, else in
//! the machine's, always with the offset; commands with the places that were given to this one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::failure::Failure;
use crate::core::age::Age;
use crate::core::rule::RuleSet;
use crate::rules;
use crate::settings::Settings;

/// The zones of the rules, for a command that can do without them.
pub(super) struct Zones {
    of: BTreeMap<String, TimeZone>,
    local: TimeZone,
}

impl Zones {
    /// The zones of the rules that the settings name; none of a file with mistakes.
    pub(super) fn read(settings: &Settings) -> Zones {
        match rules::load(&settings.rules) {
            Ok(loaded) => Zones::of(&loaded.rules),
            Err(_) => Zones { of: BTreeMap::new(), local: TimeZone::system() },
        }
    }

    /// The zones of these rules.
    pub(super) fn of(rules: &RuleSet) -> Zones {
        let of =
            rules.rules.iter().map(|rule| (rule.name.to_string(), rule.schedule.zone().clone())).collect();
        Zones { of, local: TimeZone::system() }
    }

    /// A time that has to do with a rule.
    pub(super) fn of_rule(&self, rule: &str, at: Timestamp) -> String {
        written(at, self.of.get(rule).unwrap_or(&self.local))
    }

    /// A time that has to do with no rule.
    pub(super) fn local(&self, at: Timestamp) -> String {
        written(at, &self.local)
    }

    /// The same for a time as it stands in JSON; what is no time stays as it is.
    pub(super) fn text(&self, rule: Option<&str>, at: &str) -> String {
        match (at.parse::<Timestamp>(), rule) {
            (Ok(at), Some(rule)) => self.of_rule(rule, at),
            (Ok(at), None) => self.local(at),
            (Err(_), _) => at.to_owned(),
        }
    }
}

/// A moment in the past as people type it: a date (its midnight in the rule's zone), a time with its offset, or an age.
pub(super) fn moment(
    text: &str,
    zones: &Zones,
    rule: Option<&str>,
    now: Timestamp,
) -> Result<Timestamp, Failure> {
    let zone = rule.and_then(|rule| zones.of.get(rule)).unwrap_or(&zones.local);
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == "2026-01-31".len()
        && let Ok(midnight) = zone.to_timestamp(date.at(0, 0, 0, 0))
    {
        return Ok(midnight);
    }
    Age::parse(text).map(|age| age.before(now)).map_err(|_| {
        Failure::usage(format!(
            "--since {text}: write a date (2026-01-31), a time with its offset (2026-01-31T08:00:00+01:00), or an age (24h, 7d)"
        ))
    })
}

fn written(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string()
}

/// A command to type, with `--rules` and `--db` where they were typed for this one.
pub(super) fn command(settings: &Settings, words: &str) -> String {
    let mut typed = format!("b24-janitor {words}");
    for (flag, path) in &settings.given {
        let path = path.display().to_string();
        let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
        let quoted =
            if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) };
        typed.push_str(&format!(" {flag} {quoted}"));
    }
    format!("`{typed}`")
}

/// Names at least this similar (Jaro-Winkler, 0 to 1) are worth suggesting; below, a suggestion confuses.
const NEAR_ENOUGH: f64 = 0.8;

/// A rule that is not there, with the one that was probably meant.
pub(super) fn no_rule(rules: &RuleSet, name: &str) -> Failure {
    let names: Vec<&str> = rules.rules.iter().map(|rule| rule.name.as_str()).collect();
    let like = |known: &str| strsim::jaro_winkler(known, &name.to_lowercase().replace('_', "-"));
    let near = names.iter().map(|known| (like(known), known)).filter(|(score, _)| *score >= NEAR_ENOUGH);
    let meant = near
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(|| "; the".to_owned(), |(_, near)| format!(": did you mean `{near}`? The"));
    Failure::usage(format!("there is no rule `{name}`{meant} rules are: {}", names.join(", ")))
}

/// Says so if nothing was found because no rule has this name. Rules that can't be read are not the matter here.
pub(super) fn insist_on_rule(settings: &Settings, name: Option<&str>) -> Result<(), Failure> {
    match (name, rules::load(&settings.rules)) {
        (Some(name), Ok(loaded)) if loaded.rules.rule(name).is_none() => Err(no_rule(&loaded.rules, name)),
        (_, _) => Ok(()),
    }
}
