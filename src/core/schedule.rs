//! When a rule runs: a crontab text in a time zone, from text to times.
//!
//! The crate `cron` knows the calendar but neither crontab's numbering nor changes of clocks. So the five fields
//! are read here (`schedule/crontab.rs`), given to `cron` as plain lists, and asked for in *wall time*, as if it
//! were UTC; each wall time is then placed on the time line of its zone. That makes the promise short:
//!
//! * a wall time that exists once fires then;
//! * one that a change of clocks skips fires at the first valid instant after the gap, and several that are
//!   skipped together fire there once;
//! * one that happens twice fires the first time only.
//!
//! The same holds for intervals (`*/30`, `@hourly`): in the night in which clocks go back they pause for the
//! repeated hour. Times after the year 2100 are not computed, since `cron` ends there.

mod crontab;

use std::fmt;
use std::iter::Peekable;
use std::ops::Range;

use chrono::Utc;
use cron::ScheduleIterator;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil};
use serde::Serialize;

use crontab::{Crontab, DAYS, Field};

/// How far before a time, in seconds of wall time, the search for the next one starts. No gap and no fold is
/// longer than the 24 h by which zones have crossed the date line; 26 h leaves a margin.
const LOOK_BACK_SECONDS: i64 = 26 * 3600;

/// The longest window [`Schedule::last_fire`] looks into: a run missed longer ago than that isn't made up.
pub const MAX_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// How the day of month and the day of week join when both are restricted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DayFields {
    /// Either suffices, as in Unix's crontab: `0 0 13 * 5` is the 13th and every Friday.
    Or,
    /// Both must hold: `0 0 13 * 5` is Friday the 13th.
    And,
}

/// A crontab text in a time zone. Equal when text, name of the zone and `day_fields` are equal.
///
/// ```
/// use b24_janitor::core::schedule::Schedule;
/// use jiff::{Timestamp, tz::TimeZone};
///
/// let zone = TimeZone::get("Europe/Berlin").unwrap();
/// let nightly = Schedule::parse("15 3 * * *", zone, "Europe/Berlin", None).unwrap();
/// let now: Timestamp = "2026-10-24T12:00:00Z".parse().unwrap();
/// let next = nightly.next_fires(now, 2).iter().map(Timestamp::to_string).collect::<Vec<_>>();
/// // In the night before the second one the clocks went back: 3:15 is an hour later in UTC.
/// assert_eq!(next, ["2026-10-25T02:15:00Z", "2026-10-26T02:15:00Z"]);
/// ```
#[derive(Debug, Clone, Serialize)]
pub struct Schedule {
    #[serde(rename = "cron")]
    text: String,
    #[serde(skip)]
    zone: TimeZone,
    #[serde(rename = "timezone")]
    zone_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    day_fields: Option<DayFields>,
    /// One, or two whose union is meant.
    #[serde(skip)]
    calendars: Vec<cron::Schedule>,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Schedule) -> bool {
        (&self.text, &self.zone_name, self.day_fields) == (&other.text, &other.zone_name, other.day_fields)
    }
}

impl Eq for Schedule {}

/// Why a text is not a schedule, for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScheduleError {
    /// `bad-cron` (the text can't be read), `day-fields-ambiguous` (both day fields are restricted and nothing
    /// says how they join) or `never-fires` (its dates don't exist).
    pub code: &'static str,
    /// The bytes of the text that are meant.
    pub span: Range<usize>,
    /// What is wrong, as half a sentence in lower case.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Schedule {
    /// Reads a schedule: five fields of crontab (minute, hour, day of month, month, day of week; 0 and 7 are
    /// Sunday) or one of `@hourly @daily @midnight @weekly @monthly @yearly @annually`.
    ///
    /// `zone_name` is the IANA name that `zone` was found by. `day_fields` is needed if both day fields are
    /// restricted, and has no effect otherwise.
    ///
    /// # Errors
    /// The first mistake from the left; see [`ScheduleError::code`].
    pub fn parse(
        text: &str,
        zone: TimeZone,
        zone_name: &str,
        day_fields: Option<DayFields>,
    ) -> Result<Schedule, ScheduleError> {
        let crontab = crontab::read(text)?;
        let both = crontab.day_of_month.restricted && crontab.day_of_week.restricted;
        let dates = crontab.day_of_month.span.start..crontab.day_of_week.span.end;
        let joined = match (both, day_fields) {
            (true, None) => return Err(ambiguous(text, dates)),
            (true, Some(DayFields::Or)) => DayFields::Or,
            (true, Some(DayFields::And)) | (false, _) => DayFields::And,
        };
        let date_exists = some_date_exists(&crontab);
        let lines = match joined {
            DayFields::And if date_exists => vec![line(&crontab, true, true)],
            DayFields::And => return Err(never(&crontab, text)),
            DayFields::Or if date_exists => vec![line(&crontab, true, false), line(&crontab, false, true)],
            DayFields::Or => vec![line(&crontab, false, true)],
        };
        let calendars =
            lines.iter().map(|line| line.parse()).collect::<Result<_, cron::error::Error>>().map_err(
                |error| ScheduleError {
                    code: "bad-cron",
                    span: 0..text.len(),
                    message: format!("this schedule can't be computed: {error}"),
                    help: "write five fields of crontab, such as `15 3 * * *`".into(),
                },
            )?;
        Ok(Schedule { text: text.to_owned(), zone, zone_name: zone_name.to_owned(), day_fields, calendars })
    }

    /// The first time it fires strictly after `after`. `None` only past the year 2100.
    pub fn next_fire(&self, after: Timestamp) -> Option<Timestamp> {
        self.fires(after).next()
    }

    /// The next `n` times strictly after `after`, in order; fewer only past the year 2100.
    pub fn next_fires(&self, after: Timestamp, n: usize) -> Vec<Timestamp> {
        self.fires(after).take(n).collect()
    }

    /// The latest time it fires in `(since_exclusive, until_inclusive]`: the one run to make up after the
    /// service was down. Of a window longer than [`MAX_WINDOW`] only the end is looked at.
    pub fn last_fire(&self, since_exclusive: Timestamp, until_inclusive: Timestamp) -> Option<Timestamp> {
        let earliest = until_inclusive.checked_sub(MAX_WINDOW).unwrap_or(Timestamp::MIN);
        self.fires(since_exclusive.max(earliest)).take_while(|fire| *fire <= until_inclusive).last()
    }

    /// The time zone its times are in.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The IANA name of that zone, as it was written.
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The schedule as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How the day fields join, as it was written.
    pub fn day_fields(&self) -> Option<DayFields> {
        self.day_fields
    }

    /// All times after `after`, strictly increasing.
    fn fires(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        let mut last = after;
        self.walls(self.zone.to_datetime(after)).map_while(|wall| place(&self.zone, wall)).filter(
            move |fire| {
                // Several wall times of one gap are placed on the same instant; all but the first are not later.
                let later = *fire > last;
                last = last.max(*fire);
                later
            },
        )
    }

    /// The wall times it names, in order, from [`LOOK_BACK_SECONDS`] before `wall`.
    fn walls(&self, wall: civil::DateTime) -> impl Iterator<Item = civil::DateTime> {
        let start = Offset::UTC
            .to_timestamp(wall)
            .ok()
            .and_then(|at| chrono::DateTime::<Utc>::from_timestamp(at.as_second() - LOOK_BACK_SECONDS, 0));
        let sources = match start {
            Some(start) => self.calendars.iter().map(|calendar| calendar.after(&start).peekable()).collect(),
            None => Vec::new(),
        };
        Union { sources }.map_while(|wall| {
            Timestamp::from_second(wall.timestamp()).ok().map(|at| Offset::UTC.to_datetime(at))
        })
    }
}

impl fmt::Display for Schedule {
    /// The text and the zone: `15 3 * * * Europe/Berlin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone_name)
    }
}

/// The wall times of several calendars in order, each once.
struct Union<'a> {
    sources: Vec<Peekable<ScheduleIterator<'a, Utc>>>,
}

impl Iterator for Union<'_> {
    type Item = chrono::DateTime<Utc>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.sources.iter_mut().filter_map(|source| source.peek().copied()).min()?;
        for source in &mut self.sources {
            source.next_if_eq(&first);
        }
        Some(first)
    }
}

/// A wall time as an instant: in a gap the first valid instant after it, in a fold the first of the two. `None`
/// only at the ends of jiff's range.
fn place(zone: &TimeZone, wall: civil::DateTime) -> Option<Timestamp> {
    let at = zone.to_ambiguous_timestamp(wall);
    match at.offset() {
        AmbiguousOffset::Gap { after, .. } => {
            // Zones also have changes that move no clock (only a name), so it is the one that leads to `after`.
            let (before, behind) = (at.earlier().ok()?, at.later().ok()?);
            let change = zone
                .following(before)
                .map(|change| change.timestamp())
                .take_while(|change| *change <= behind)
                .find(|change| zone.to_offset(*change) == after);
            Some(change.unwrap_or(behind))
        }
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => at.compatible().ok(),
    }
}

/// A line for the crate `cron`: seconds first, days of the week by name because it counts them from 1.
fn line(crontab: &Crontab, by_month_day: bool, by_week_day: bool) -> String {
    let list = |field: &Field| -> String {
        if !field.restricted {
            return "*".into();
        }
        field.values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
    };
    let month_days = if by_month_day { list(&crontab.day_of_month) } else { "*".into() };
    let week_days = if by_week_day && crontab.day_of_week.restricted {
        let names = crontab.day_of_week.values.iter().filter_map(|day| DAYS.get(usize::from(*day)));
        names.copied().collect::<Vec<_>>().join(",")
    } else {
        "*".into()
    };
    format!(
        "0 {} {} {month_days} {} {week_days}",
        list(&crontab.minute),
        list(&crontab.hour),
        list(&crontab.month)
    )
}

/// Whether one of the months has one of the days, in some year.
fn some_date_exists(crontab: &Crontab) -> bool {
    let longest = crontab.month.values.iter().map(|month| match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    });
    longest.max() >= crontab.day_of_month.values.first().copied()
}

fn ambiguous(text: &str, span: Range<usize>) -> ScheduleError {
    let fields = text.get(span.clone()).unwrap_or(text);
    ScheduleError {
        code: "day-fields-ambiguous",
        span,
        message: format!("`{fields}` restricts both the day of month and the day of week"),
        help: "Unix means OR, people mean AND: say which with `day_fields: or` (runs on each of those days of the \
               month and also on each of those days of the week) or `day_fields: and` (runs only when both hold)"
            .into(),
    }
}

fn never(crontab: &Crontab, text: &str) -> ScheduleError {
    let span = crontab.day_of_month.span.start..crontab.month.span.end;
    let fields = text.get(span.clone()).unwrap_or(text);
    ScheduleError {
        code: "never-fires",
        span,
        message: format!("this never fires: no month of `{fields}` has such a day"),
        help:
            "April, June, September and November have 30 days, February has 28 or 29; for the end of every \
               month write `0 0 1 * *`, the midnight that ends it"
                .into(),
    }
}

#[cfg(test)]
mod tests;
