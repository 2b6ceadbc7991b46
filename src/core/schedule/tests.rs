//! What is read, what is refused and in which words. That the times are right is shown by
//! `tests/schedule_oracle.rs`.

use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn parse(text: &str) -> Result<Schedule, ScheduleError> {
    Schedule::parse(text, zone("Europe/Berlin"), "Europe/Berlin", None)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next times after 2026-06-01 00:00 Berlin (a Monday), as wall time with the day of the week.
fn next(schedule: &Schedule, n: usize) -> Vec<String> {
    let fires = schedule.next_fires(at("2026-06-01T00:00:00+02:00"), n);
    fires.iter().map(|fire| schedule.zone().to_datetime(*fire).strftime("%a %F %H:%M").to_string()).collect()
}

#[test]
fn shorthands_mean_what_crontab_says() {
    for (text, first) in [
        ("@hourly", "Mon 2026-06-01 01:00"),
        ("@daily", "Tue 2026-06-02 00:00"),
        ("@midnight", "Tue 2026-06-02 00:00"),
        ("@weekly", "Sun 2026-06-07 00:00"),
        ("@monthly", "Wed 2026-07-01 00:00"),
        ("@yearly", "Fri 2027-01-01 00:00"),
        ("@Annually", "Fri 2027-01-01 00:00"),
    ] {
        assert_eq!(next(&parse(text).unwrap(), 1), [first], "{text}");
    }
}

#[test]
fn days_of_the_week_are_numbered_as_in_crontab() {
    for (text, first) in [
        ("0 6 * * 0", "Sun 2026-06-07 06:00"),
        ("0 6 * * 7", "Sun 2026-06-07 06:00"),
        ("0 6 * * 1", "Mon 2026-06-01 06:00"),
        ("0 6 * * sat", "Sat 2026-06-06 06:00"),
        ("0 6 * * 6-7", "Sat 2026-06-06 06:00"),
        ("0 6 * aug *", "Sat 2026-08-01 06:00"),
    ] {
        assert_eq!(next(&parse(text).unwrap(), 1), [first], "{text}");
    }
    assert_eq!(
        next(&parse("0 6 * * FRI-SUN").unwrap(), 4),
        ["Fri 2026-06-05 06:00", "Sat 2026-06-06 06:00", "Sun 2026-06-07 06:00", "Fri 2026-06-12 06:00"]
    );
}

#[test]
fn both_day_fields_join_as_the_rule_says() {
    let text = "0 0 13 * FRI";
    let parse = |join| Schedule::parse(text, zone("Europe/Berlin"), "Europe/Berlin", Some(join)).unwrap();
    assert_eq!(next(&parse(DayFields::And), 2), ["Fri 2026-11-13 00:00", "Fri 2027-08-13 00:00"]);
    assert_eq!(
        next(&parse(DayFields::Or), 3),
        ["Fri 2026-06-05 00:00", "Fri 2026-06-12 00:00", "Sat 2026-06-13 00:00"]
    );
}

#[test]
fn both_day_fields_without_a_word_how_they_join_are_an_error() {
    for text in ["0 0 13 * 5", "0 0 */2 * 1-5", "0 0 1-31 * MON"] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.code, "day-fields-ambiguous", "{text}");
        assert_eq!(&text[error.span.clone()], &text[4..], "{text}");
        assert!(error.help.contains("Unix means OR, people mean AND"), "{}", error.help);
    }
    for text in ["0 0 13 * *", "0 0 * * 5", "0 0 */1 * 5", "0 0 13 * */1"] {
        assert!(parse(text).is_ok(), "{text}");
    }
}

#[test]
fn a_date_that_never_exists_is_an_error() {
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 FEB *"] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.code, "never-fires", "{text}");
        assert_eq!(&text[error.span], text[4..].trim_end_matches(" *"), "{text}");
    }
    let and = Schedule::parse("0 0 30 2 1", zone("UTC"), "UTC", Some(DayFields::And)).unwrap_err();
    assert_eq!(and.code, "never-fires");

    assert_eq!(next(&parse("0 0 29 2 *").unwrap(), 2), ["Tue 2028-02-29 00:00", "Sun 2032-02-29 00:00"]);
    let or =
        Schedule::parse("0 0 30 2 1", zone("Europe/Berlin"), "Europe/Berlin", Some(DayFields::Or)).unwrap();
    assert_eq!(next(&or, 1), ["Mon 2027-02-01 00:00"]);
}

#[test]
fn mistakes_are_pointed_at_with_what_to_write_instead() {
    for (text, wrong, message, help) in [
        ("", "", "the schedule is empty", "`15 3 * * *`"),
        ("  ", "  ", "the schedule is empty", "`15 3 * * *`"),
        ("15 3 * *", "15 3 * *", "4 fields", "minute hour day-of-month month day-of-week"),
        ("daily", "daily", "1 field,", "minute hour"),
        ("0 15 3 * * *", "0 15 3 * * *", "6 fields", "no seconds here"),
        ("0 15 3 * * ?", "0 15 3 * * ?", "6 fields", "`15 3 * * *`"),
        ("0 15 3 * * ? 2027", "0 15 3 * * ? 2027", "7 fields", "`15 3 * * *`"),
        ("75 3 * * *", "75", "75 is out of range for the minute", "0 to 59"),
        ("0 24 * * *", "24", "24 is out of range for the hour", "midnight"),
        ("0 0 0 * *", "0", "out of range for the day of month", "1 to 31"),
        ("0 0 * 13 *", "13", "out of range for the month", "JAN to DEC"),
        ("0 0 * * 8", "8", "out of range for the day of week", "0 and 7 are Sunday"),
        ("0 999999999999 * * *", "999999999999", "out of range for the hour", "23"),
        ("0 22-2 * * *", "22-2", "runs backwards", "`22-23,0-2`"),
        ("0 22-2/2 * * *", "22-2/2", "runs backwards", "`22,0,2`"),
        ("0 0 * * FRI-MON", "FRI-MON", "runs backwards", "`FRI,SAT,SUN,MON`"),
        ("0 0 * * 5-0", "5-0", "runs backwards", "`5-6,0`"),
        ("0 0 * nov-feb *", "nov-feb", "runs backwards", "`NOV,DEC,JAN,FEB`"),
        ("5/15 * * * *", "5/15", "read differently", "`5-59/15`"),
        ("*/0 * * * *", "*/0", "`0` is not a step", "from 1 on"),
        ("*/x * * * *", "*/x", "`x` is not a step", "from 1 on"),
        ("*/+5 * * * *", "*/+5", "`+5` is not a step", "from 1 on"),
        ("*/90 * * * *", "*/90", "longer than what it divides", "start anew"),
        ("0 */24 * * *", "*/24", "longer than what it divides", "write `0`"),
        ("1,,2 * * * *", "", "empty element", "comma"),
        ("1, 2 * * * *", "1, 2 * * * *", "6 fields", "no seconds"),
        ("0 0 ? * 1", "?", "`?` can't be read as the day of month", "`*` instead of `?`"),
        ("0 0 L * *", "L", "`L` can't be read", "Quartz"),
        ("0 0 15W * *", "15W", "`15W` can't", "Quartz"),
        ("0 0 * * 5#2", "5#2", "`5#2` can't", "Quartz"),
        ("0 0 * * Monday", "Monday", "`Monday` can't be read as the day of week", "write `MON`"),
        ("0 0 * Sept *", "Sept", "`Sept` can't be read as the month", "write `SEP`"),
        ("0 -5 * * *", "-5", "`-5` lacks a number", "both ends"),
        ("0 ü * * *", "ü", "`ü` can't be read as the hour", "0 (midnight) to 23"),
        ("@reboot", "@reboot", "names no time", "made up by itself"),
        ("@every 5m", "@every 5m", "not a schedule of crontab", "`*/15 * * * *`"),
        ("@dayly", "@dayly", "not a shorthand", "did you mean `@daily`?"),
        ("@fortnightly-or-so", "@fortnightly-or-so", "not a shorthand", "known are @hourly"),
        ("@daily 3", "@daily 3", "more follows it", "`0 0 * * *`"),
        ("CRON_TZ=UTC 0 3 * * *", "CRON_TZ=UTC", "not a field", "`timezone: Europe/Berlin`"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.code, "bad-cron", "{text}");
        assert_eq!(&text[error.span.clone()], wrong, "{text}");
        assert!(error.message.contains(message), "{text}: {}", error.message);
        assert!(error.help.contains(help), "{text}: {}", error.help);
    }
}

#[test]
fn what_a_message_suggests_is_a_schedule_itself() {
    for text in ["0 22-2 * * *", "0 22-2/2 * * *", "0 0 * * FRI-MON", "0 0 * * 5-0", "5/15 * * * *"] {
        let error = parse(text).unwrap_err();
        let suggestion = error.help.split('`').nth(if text.starts_with('5') { 3 } else { 1 }).unwrap();
        let fixed = text.replace(&text[error.span.clone()], suggestion);
        assert!(parse(&fixed).is_ok(), "{text} → {fixed}");
    }
}

#[test]
fn a_span_counts_bytes_of_the_text_as_written() {
    let text = "\t 0   3 *\t13 * ";
    assert_eq!(parse(text).unwrap_err().span, 10..12);
    assert!(parse("  15   3 * *\t* ").is_ok());
    assert_eq!(parse(&"*".repeat(5000)).unwrap_err().span, 0..5000);
}

#[test]
fn a_missed_run_is_the_latest_in_the_window() {
    let schedule = parse("15 3 * * *").unwrap();
    let fire = at("2026-06-02T03:15:00+02:00");
    let hour = SignedDuration::from_hours(1);
    assert_eq!(schedule.last_fire(fire - hour, fire), Some(fire), "the end belongs to the window");
    assert_eq!(schedule.last_fire(fire, fire + hour), None, "the start does not");
    assert_eq!(schedule.last_fire(fire + hour, fire + hour * 2), None);
    assert_eq!(schedule.last_fire(fire + hour, fire), None, "a window that runs backwards is empty");
    // Weeks of absence make up one run, and none that is a day old.
    assert_eq!(schedule.last_fire(fire - hour * 500, fire + hour * 23), Some(fire));
    let weekly = parse("15 3 * * 2").unwrap();
    assert_eq!(weekly.last_fire(fire - hour * 500, fire + hour * 24), None);
    assert_eq!(
        parse("@hourly").unwrap().last_fire(fire - hour * 24, fire),
        Some(at("2026-06-02T03:00:00+02:00"))
    );
}

#[test]
fn equality_is_of_what_was_written() {
    let schedule = parse("0 3 * * *").unwrap();
    assert_eq!(schedule, parse("0 3 * * *").unwrap());
    assert_ne!(schedule, parse("0 4 * * *").unwrap());
    assert_ne!(schedule, Schedule::parse("0 3 * * *", zone("Europe/Rome"), "Europe/Rome", None).unwrap());
    let and =
        Schedule::parse("0 3 * * *", zone("Europe/Berlin"), "Europe/Berlin", Some(DayFields::And)).unwrap();
    assert_ne!(schedule, and);
    assert_eq!(schedule.to_string(), "0 3 * * * Europe/Berlin");
    assert_eq!(
        serde_json::to_string(&schedule).unwrap(),
        r#"{"cron":"0 3 * * *","timezone":"Europe/Berlin"}"#
    );
    assert_eq!(
        serde_json::to_string(&and).unwrap(),
        r#"{"cron":"0 3 * * *","timezone":"Europe/Berlin","day_fields":"and"}"#
    );
}

#[test]
fn the_ends_of_time_do_not_panic() {
    let schedule = parse("* * * * *").unwrap();
    assert_eq!(schedule.next_fire(Timestamp::MAX), None);
    assert_eq!(schedule.last_fire(Timestamp::MIN, Timestamp::MIN), None);
    let _ = schedule.next_fire(Timestamp::MIN);
}

proptest! {
    #[test]
    fn any_text_is_a_schedule_or_an_error_inside_the_text(text in "[-0-9a-zA-Z*/,?#@ \\tü]{0,40}") {
        if let Err(error) = parse(&text) {
            prop_assert!(text.get(error.span).is_some());
            prop_assert!(!error.message.is_empty() && !error.help.is_empty());
        }
    }

    #[test]
    fn times_are_strictly_increasing(
        minute in "(\\*|\\*/[1-9]|[0-5]?[0-9])", hour in "(\\*|\\*/[1-9]|[0-9])", after in 0i64..4_000_000_000,
    ) {
        let schedule = parse(&format!("{minute} {hour} * * *")).unwrap();
        let after = Timestamp::from_second(after).unwrap();
        let fires = schedule.next_fires(after, 20);
        prop_assert!(fires[0] > after);
        prop_assert!(fires.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
