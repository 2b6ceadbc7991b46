//! `core::schedule` against two witnesses that share no code with it.
//!
//! The first walks the wall clock minute by minute and applies crontab's fields and the two rules about changes
//! of clocks as design and documentation state them. The second is the crate croner, for times that are fixed
//! (one minute, one hour): for intervals it repeats the hour that happens twice, and we don't, on purpose.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on should panic")]

use std::cmp::Ordering;
use std::str::FromStr;

use b24_janitor::core::schedule::{DayFields, Schedule};
use croner::errors::CronError;
use croner::{CivilDateTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::civil::{self, date};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Nights in which something happens to the clocks, and one in which nothing does.
const NIGHTS: &[(&str, (i16, i8, i8))] = &[
    ("Europe/Berlin", (2026, 3, 29)),
    ("Europe/Berlin", (2026, 10, 25)),
    ("America/New_York", (2026, 3, 8)),
    ("America/New_York", (2026, 11, 1)),
    // Half an hour.
    ("Australia/Lord_Howe", (2026, 4, 5)),
    ("Australia/Lord_Howe", (2026, 10, 4)),
    // Begin and end of Ramadan.
    ("Africa/Casablanca", (2026, 2, 15)),
    ("Africa/Casablanca", (2026, 3, 22)),
    // At midnight, so that a day begins at 01:00.
    ("America/Havana", (2026, 3, 8)),
    ("America/Havana", (2026, 11, 1)),
    // A whole day that never was.
    ("Pacific/Apia", (2011, 12, 30)),
    // Never, at an odd offset.
    ("Asia/Kathmandu", (2026, 2, 28)),
];

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn schedule(text: &str, zone_name: &str, day_fields: Option<DayFields>) -> Schedule {
    Schedule::parse(text, zone(zone_name), zone_name, day_fields)
        .unwrap_or_else(|error| panic!("{text}: {error}, {}", error.help))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// One element of a field's list, and how it is written.
#[derive(Debug, Clone)]
struct Item {
    low: i8,
    high: i8,
    step: i8,
    written: String,
}

/// A field: what it says and what it means.
#[derive(Debug, Clone)]
struct Field(Vec<Item>);

impl Field {
    fn holds(&self, value: i8) -> bool {
        self.0.iter().any(|item| {
            value >= item.low && value <= item.high && (value - item.low).rem_euclid(item.step) == 0
        })
    }

    fn restricted(&self) -> bool {
        !self.0.iter().any(|item| item.written == "*")
    }

    fn text(&self) -> String {
        self.0.iter().map(|item| item.written.as_str()).collect::<Vec<_>>().join(",")
    }
}

fn item(low: i8, high: i8) -> impl Strategy<Value = Item> {
    let span = high - low;
    let value = (low..=high).prop_map(|v| Item { low: v, high: v, step: 1, written: v.to_string() });
    let range = (low..=high, low..=high).prop_map(|(a, b)| {
        let (a, b) = (a.min(b), a.max(b));
        Item { low: a, high: b, step: 1, written: format!("{a}-{b}") }
    });
    let every = (1..=span).prop_filter("`*/1` is written `*`", |step| *step > 1).prop_map(move |step| Item {
        low,
        high,
        step,
        written: format!("*/{step}"),
    });
    let stepped = (low..high).prop_flat_map(move |a| (Just(a), a + 1..=high)).prop_flat_map(|(a, b)| {
        (1..=b - a).prop_map(move |step| Item { low: a, high: b, step, written: format!("{a}-{b}/{step}") })
    });
    prop_oneof![4 => value, 2 => range, 2 => every, 1 => stepped]
}

fn field(low: i8, high: i8, stars: u32) -> impl Strategy<Value = Field> {
    let star = Just(Field(vec![Item { low, high, step: 1, written: "*".into() }]));
    let list = prop::collection::vec(item(low, high), 1..4).prop_map(Field);
    prop_oneof![stars => star, 4 => list]
}

fn day_of_week() -> impl Strategy<Value = Field> {
    let names = ["SUN", "Mon", "tue", "WED", "Thu", "FRI", "sat"];
    let named = prop::collection::vec(0i8..=6, 1..4).prop_map(move |days| {
        Field(
            days.iter()
                .map(|day| Item { low: *day, high: *day, step: 1, written: names[*day as usize].into() })
                .collect(),
        )
    });
    let sunday = Just(Field(vec![Item { low: 0, high: 0, step: 1, written: "7".into() }]));
    prop_oneof![4 => field(0, 6, 6), 1 => named, 1 => sunday]
}

/// Five fields and how the days join.
#[derive(Debug, Clone)]
struct Line {
    minute: Field,
    hour: Field,
    day_of_month: Field,
    month: Field,
    day_of_week: Field,
    join: DayFields,
}

impl Line {
    fn text(&self) -> String {
        [&self.minute, &self.hour, &self.day_of_month, &self.month, &self.day_of_week]
            .map(Field::text)
            .join(" ")
    }

    fn holds(&self, wall: civil::DateTime) -> bool {
        let by_month = self.day_of_month.holds(wall.day());
        let by_week = self.day_of_week.holds(wall.weekday().to_sunday_zero_offset());
        let either = self.day_of_month.restricted() && self.day_of_week.restricted();
        let day = match self.join {
            DayFields::Or if either => by_month || by_week,
            DayFields::Or | DayFields::And => by_month && by_week,
        };
        day && self.minute.holds(wall.minute())
            && self.hour.holds(wall.hour())
            && self.month.holds(wall.month())
    }

    /// Whether some day of some leap year is meant.
    fn has_a_date(&self) -> bool {
        (0..366 * 28).any(|days| {
            let day = civil::DateTime::from(date(2004, 1, 1)) + DAY * days;
            let by_month = self.day_of_month.holds(day.day());
            let by_week = self.day_of_week.holds(day.weekday().to_sunday_zero_offset());
            let or =
                self.join == DayFields::Or && self.day_of_month.restricted() && self.day_of_week.restricted();
            self.month.holds(day.month()) && if or { by_month || by_week } else { by_month && by_week }
        })
    }

    /// Every time in `(after, until]`: the wall clock's minutes in order, each at most once; those that a gap
    /// swallows come due together at the first minute that exists.
    fn fires(&self, zone: &TimeZone, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let first = (after - DAY * 2).as_second();
        let last = (until + DAY * 2).as_second();
        let mut fires = Vec::new();
        let mut swallowed = false;
        for second in (first - first.rem_euclid(60)..last).step_by(60) {
            let wall = Offset::UTC.to_datetime(Timestamp::from_second(second).unwrap());
            let ambiguous = zone.to_ambiguous_timestamp(wall);
            if let AmbiguousOffset::Gap { .. } = ambiguous.offset() {
                swallowed |= self.holds(wall);
                continue;
            }
            if self.holds(wall) || swallowed {
                fires.push(ambiguous.earlier().unwrap());
            }
            swallowed = false;
        }
        fires.retain(|fire| *fire > after && *fire <= until);
        fires
    }
}

fn line() -> impl Strategy<Value = Line> {
    // Half of the hours lie in the hours in which clocks change.
    let hour = prop_oneof![
        field(0, 23, 4),
        field(0, 3, 0).prop_filter("`*/2` of 0-3 is not `*/2`", |field| {
            !field.0.iter().any(|item| item.written.starts_with('*'))
        })
    ];
    let join = prop_oneof![Just(DayFields::Or), Just(DayFields::And)];
    (field(0, 59, 1), hour, field(1, 31, 8), field(1, 12, 20), day_of_week(), join).prop_map(
        |(minute, hour, day_of_month, month, day_of_week, join)| Line {
            minute,
            hour,
            day_of_month,
            month,
            day_of_week,
            join,
        },
    )
}

/// A night, and a time from a day and a half before to a day and a half after its noon.
fn night() -> impl Strategy<Value = (&'static str, Timestamp)> {
    (0..NIGHTS.len(), -36 * 3600i64..36 * 3600).prop_map(|(index, seconds)| {
        let (name, (year, month, day)) = NIGHTS[index];
        let noon = date(year, month, day).at(12, 0, 0, 0);
        (name, Offset::UTC.to_timestamp(noon).unwrap() + SignedDuration::from_secs(seconds))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_schedule_fires_when_the_wall_clock_says_so(line in line(), (name, after) in night()) {
        prop_assume!(line.has_a_date());
        let until = after + DAY * 2;
        let schedule = schedule(&line.text(), name, Some(line.join));
        let expected = line.fires(&zone(name), after, until);

        let mut fires = schedule.next_fires(after, expected.len() + 1);
        fires.retain(|fire| *fire <= until);
        prop_assert_eq!(&fires, &expected, "{} in {} after {}", line.text(), name, after);

        // One by one is the same as together, from a fire and from just before one.
        for pair in expected.windows(2).take(3) {
            prop_assert_eq!(schedule.next_fire(pair[0]), Some(pair[1]));
            prop_assert_eq!(schedule.next_fire(pair[1] - SignedDuration::from_nanos(1)), Some(pair[1]));
        }

        // The last in a window is the last the walk finds there.
        let half = after + DAY;
        prop_assert_eq!(
            schedule.last_fire(after, half),
            expected.iter().copied().rfind(|fire| *fire <= half)
        );
    }

    #[test]
    fn a_fixed_time_agrees_with_croner(
        minute in 0i8..60,
        hour in prop_oneof![0i8..4, 0i8..24],
        days in prop_oneof![Just("* * *"), Just("* * 1-5"), Just("1,15 * *"), Just("* * 0"), Just("29 2 *")],
        (name, after) in night(),
    ) {
        // Croner finds no further time once a gap of a whole day is ahead.
        prop_assume!(name != "Pacific/Apia");
        let text = format!("{minute} {hour} {days}");
        let fires = schedule(&text, name, None).next_fires(after, 10);
        let start = Zoned { zone: zone(name), at: after };
        let theirs: Vec<Timestamp> =
            Cron::from_str(&text).unwrap().iter_after(start).take(10).map(|zoned| zoned.at).collect();
        prop_assert_eq!(fires, theirs, "{} in {} after {}", text, name, after);
    }
}

#[test]
fn a_time_that_the_clocks_skip_runs_once_at_the_first_valid_minute() {
    let schedule = schedule("30 2 * * *", "Europe/Berlin", None);
    assert_eq!(
        schedule.next_fires(at("2026-03-28T00:00:00Z"), 3),
        [at("2026-03-28T02:30:00+01:00"), at("2026-03-29T03:00:00+02:00"), at("2026-03-30T02:30:00+02:00")]
    );
}

#[test]
fn a_time_that_happens_twice_runs_the_first_time_only() {
    let schedule = schedule("30 2 * * *", "Europe/Berlin", None);
    assert_eq!(
        schedule.next_fires(at("2026-10-24T12:00:00Z"), 2),
        [at("2026-10-25T02:30:00+02:00"), at("2026-10-26T02:30:00+01:00")]
    );
    // Asked between the two, and at the second, it is over for the day.
    for now in ["2026-10-25T02:30:00+02:00", "2026-10-25T02:10:00+01:00", "2026-10-25T02:30:00+01:00"] {
        assert_eq!(schedule.next_fire(at(now)), Some(at("2026-10-26T02:30:00+01:00")), "{now}");
    }
}

#[test]
fn intervals_follow_the_same_rules() {
    let half_hours = schedule("*/30 * * * *", "Europe/Berlin", None);
    assert_eq!(
        half_hours.next_fires(at("2026-03-29T01:00:00+01:00"), 4),
        [
            at("2026-03-29T01:30:00+01:00"),
            at("2026-03-29T03:00:00+02:00"),
            at("2026-03-29T03:30:00+02:00"),
            at("2026-03-29T04:00:00+02:00"),
        ]
    );
    let hourly = schedule("@hourly", "Europe/Berlin", None);
    assert_eq!(
        hourly.next_fires(at("2026-10-25T01:00:00+02:00"), 2),
        [at("2026-10-25T02:00:00+02:00"), at("2026-10-25T03:00:00+01:00")]
    );
}

/// A jiff time for croner, whose own support is for an older jiff.
#[derive(Debug, Clone)]
struct Zoned {
    zone: TimeZone,
    at: Timestamp,
}

impl CronDateTime for Zoned {
    fn to_civil(&self) -> CivilDateTime {
        let wall = self.zone.to_datetime(self.at);
        let [month, day, hour, minute, second] =
            [wall.month(), wall.day(), wall.hour(), wall.minute(), wall.second()].map(|part| part as u32);
        CivilDateTime::from_ymd_hms_opt(wall.year().into(), month, day, hour, minute, second).unwrap()
    }

    fn civil_weekday(&self) -> Weekday {
        let day = self.zone.to_datetime(self.at).weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(day as u32)
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let wall = date(civil.year() as i16, civil.month() as i8, civil.day() as i8).at(
            civil.hour() as i8,
            civil.minute() as i8,
            civil.second() as i8,
            0,
        );
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        let zoned = |at: Timestamp| Zoned { zone: self.zone.clone(), at };
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(zoned(ambiguous.earlier().unwrap())),
            AmbiguousOffset::Fold { .. } => {
                Resolution::Ambiguous(zoned(ambiguous.earlier().unwrap()), zoned(ambiguous.later().unwrap()))
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let at = self.at.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(Zoned { zone: self.zone.clone(), at })
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
