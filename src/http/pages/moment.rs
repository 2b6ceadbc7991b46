//! Times as the pages show them: in the rule's zone where there is a rule, else in the zone that all rules share, or in the
//! machine's; always with the offset.

use std::collections::BTreeMap;
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

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
    common: TimeZone,
}

impl Zones {
    /// The zones of these rules.
    pub(super) fn of(rules: &RuleSet) -> Zones {
        let of =
            rules.rules.iter().map(|rule| (rule.name.to_string(), rule.schedule.zone().clone())).collect();
        let mut schedules = rules.rules.iter().map(|rule| &rule.schedule);
        let common = schedules
            .next()
            .filter(|first| schedules.all(|other| other.zone_name() == first.zone_name()))
            .map_or_else(TimeZone::system, |first| first.zone().clone());
        Zones { of, common }
    }

    /// The zone of what has to do with no rule.
    pub(super) fn common(&self) -> &TimeZone {
        &self.common
    }

    /// A time that has to do with a rule.
    pub(super) fn of_rule(&self, rule: &str, at: Timestamp) -> Moment {
        written(at, self.of.get(rule).unwrap_or(&self.common))
    }

    /// A time that has to do with no rule.
    pub(super) fn any(&self, at: Timestamp) -> Moment {
        written(at, &self.common)
    }
}

/// A length of time in at most two units: `2 h 5 min`.
pub(super) fn length(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn written(at: Timestamp, zone: &TimeZone) -> Moment {
    let text = at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string();
    Moment { iso: at.to_string(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_at_most_two_units() {
        let told =
            [-5, 0, 59, 61, 3600, 7384, 90_000].map(|seconds| length(SignedDuration::from_secs(seconds)));
        assert_eq!(told, ["0 s", "0 s", "59 s", "1 min 1 s", "1 h 0 min", "2 h 3 min", "1 d 1 h"]);
    }
}
