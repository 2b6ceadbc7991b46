//! A schedule: a text is refused with a place inside it, or fires at strictly increasing times that agree with each other.
//!
//! Input: a byte for the time zone, one for the joining of the day fields, four for the time, and the text.

use b24_janitor::core::schedule::{DayFields, Schedule};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Zones with odd changes of their clocks: half an hour, a skipped day, midnight, none.
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Tehran",
    "Africa/Casablanca",
];

/// Parses, computes the next and the last times, and compares them.
pub(crate) fn check(data: &[u8]) {
    let [zone, day_fields, a, b, c, d, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let name = ZONES[usize::from(*zone) % ZONES.len()];
    let zone = TimeZone::get(name).expect("a time zone");
    let day_fields = [None, Some(DayFields::Or), Some(DayFields::And)][usize::from(*day_fields) % 3];
    // 1970 to 2106: the end is past the last year of a schedule.
    let now = Timestamp::from_second(i64::from(u32::from_be_bytes([*a, *b, *c, *d]))).expect("a time");
    let schedule = match Schedule::parse(text, zone.clone(), name, day_fields) {
        Ok(schedule) => schedule,
        Err(error) => {
            assert!(text.get(error.span.clone()).is_some(), "{error}: {:?} of {text:?}", error.span);
            assert!(
                ["bad-cron", "day-fields-ambiguous", "never-fires"].contains(&error.code),
                "{}",
                error.code
            );
            assert!(!error.message.is_empty() && !error.help.is_empty());
            return;
        }
    };
    assert_eq!(Schedule::parse(schedule.text(), zone, name, day_fields).as_ref(), Ok(&schedule));
    let fires = schedule.next_fires(now, 4);
    assert!(fires.iter().all(|fire| *fire > now), "a time that has passed: {text:?} {name} {now}");
    assert!(fires.is_sorted_by(|one, next| one < next), "{text:?} {name} {now}: {fires:?}");
    assert_eq!(schedule.next_fire(now), fires.first().copied());
    for pair in fires.windows(2) {
        let [one, next] = pair else { continue };
        assert_eq!(schedule.next_fire(*one), Some(*next), "{text:?} {name} {now}");
        let second_before = *next - jiff::SignedDuration::from_secs(1);
        assert_eq!(schedule.last_fire(now, *next), Some(*next), "{text:?} {name} {now}");
        if *one < second_before {
            let last = schedule.last_fire(*one, second_before);
            assert_eq!(last, None, "{text:?} {name}: between {one} and {next}");
        }
    }
}
