//! Warns of times that a change of clocks skips or doubles in the coming year. The same schedule read in UTC has the wall
//! times as if no clock were ever changed; those between the two offsets of a change are the ones in question.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::warning;
use crate::core::rule::Rule;
use crate::core::schedule::Schedule;
use crate::rules::diagnostic::Diagnostic;

/// How far changes of clocks are looked for: each kind of change that there is comes once in a year.
const LOOK_AHEAD: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A schedule with at least so many times in the day around a change is an interval: one more or less is no matter.
const INTERVAL_A_DAY: usize = 12;

/// Times of the schedule that a change of clocks skips or doubles.
pub(super) fn clocks(rule: &Rule, now: Timestamp, found: &mut Vec<Diagnostic>) {
    let schedule = &rule.schedule;
    let zone = schedule.zone();
    let end = now.saturating_add(LOOK_AHEAD).unwrap_or(Timestamp::MAX);
    // The wall times themselves, as if no clock were ever changed.
    let Ok(walls) = Schedule::parse(schedule.text(), TimeZone::UTC, "UTC", schedule.day_fields()) else {
        return;
    };
    let (mut skipped, mut doubled) = (false, false);
    for change in zone.following(now).take_while(|change| change.timestamp() <= end) {
        let at = change.timestamp();
        let second = SignedDuration::from_secs(1);
        let before = zone.to_offset(at.saturating_sub(second).unwrap_or(at));
        let after = change.offset();
        let (from, to) = (wall(at, before.min(after)), wall(at, before.max(after)));
        let Some(fire) = first_from(&walls, from).filter(|fire| *fire < to) else { continue };
        if is_interval(&walls, from) {
            continue;
        }
        let time = fire.strftime("%H:%M on %-d %B %Y");
        let (name, city) = (&rule.name, schedule.zone_name());
        let (from, to) = (from.strftime("%H:%M"), to.strftime("%H:%M"));
        if after > before && !skipped {
            skipped = true;
            let message = format!("rule {name}: {time} does not exist in {city}, since clocks go forward");
            let help = format!("it runs at {to} that day; or choose a time before {from}, or from {to} on");
            found.push(warning(rule, "time-skipped", message, help));
        } else if after < before && !doubled {
            doubled = true;
            let message = format!("rule {name}: {time} comes twice in {city}, since clocks go back");
            let help =
                format!("it runs the first time only; or choose a time before {from}, or from {to} on");
            found.push(warning(rule, "time-doubled", message, help));
        }
    }
}

/// What clocks with that offset show, as if it were UTC.
fn wall(at: Timestamp, offset: Offset) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(i64::from(offset.seconds()))).unwrap_or(at)
}

fn first_from(walls: &Schedule, from: Timestamp) -> Option<Timestamp> {
    walls.next_fire(from.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(from))
}

/// Whether it fires so often in the day around a time that it must be an interval.
fn is_interval(walls: &Schedule, around: Timestamp) -> bool {
    let half = SignedDuration::from_hours(12);
    let (from, to) = (around.saturating_sub(half), around.saturating_add(half));
    let (Ok(from), Ok(to)) = (from, to) else { return false };
    walls.next_fires(from, INTERVAL_A_DAY).get(INTERVAL_A_DAY - 1).is_some_and(|last| *last < to)
}
