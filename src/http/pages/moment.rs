//! Times as the pages show them: in the rule's zone where there is a rule, else in the machine's, always with the offset.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::core::rule::RuleSet;

/// A time: its text for people, and for `<time datetime>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    /// RFC 3339, in UTC.
    pub(super) iso: String,
    text: String,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The zones of the rules in force.
pub(super) struct Zones {
    of: BTreeMap<String, TimeZone>,
    local: TimeZone,
}

impl Zones {
    /// The zones of these rules.
    pub(super) fn of(rules: &RuleSet) -> Zones {
        let of =
            rules.rules.iter().map(|rule| (rule.name.to_string(), rule.schedule.zone().clone())).collect();
        Zones { of, local: TimeZone::system() }
    }

    /// A time that has to do with a rule.
    pub(super) fn of_rule(&self, rule: &str, at: Timestamp) -> Moment {
        written(at, self.of.get(rule).unwrap_or(&self.local))
    }

    /// A time that has to do with no rule.
    pub(super) fn local(&self, at: Timestamp) -> Moment {
        written(at, &self.local)
    }
}

fn written(at: Timestamp, zone: &TimeZone) -> Moment {
    let text = at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string();
    Moment { iso: at.to_string(), text }
}
