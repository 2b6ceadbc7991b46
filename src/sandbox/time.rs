//! The portal's dates: ISO 8601 with the server's offset on the way out, PHP's `strtotime` on the way in.
//!
//! Bitrix24 docs: `data-types.md` ("all dates are stored according to the server parameters"). A date without an
//! offset is in the server's zone; fractions of a second are lost; what can't be parsed is `None`, which the lists
//! turn into `IS NULL`.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use jiff::{Span, Timestamp};

/// `date('c')` in the portal's zone.
pub(super) fn format(seconds: i64, offset: Offset) -> String {
    let civil = offset.to_datetime(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH));
    let total = offset.seconds().abs() / 60;
    let sign = if offset.seconds() < 0 { '-' } else { '+' };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{sign}{:02}:{:02}",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second(),
        total / 60,
        total % 60
    )
}

/// The part of `strtotime` that clients use: ISO dates and times with or without an offset, `d.m.Y`, `@seconds`,
/// and a few relative words.
pub(super) fn parse(text: &str, now: i64, offset: Offset) -> Option<i64> {
    let text = text.trim();
    let midnight = |days: i64| {
        let day = offset.to_datetime(Timestamp::from_second(now).ok()?).date();
        stamp(day.checked_add(Span::new().try_days(days).ok()?).ok()?.to_datetime(Time::midnight()), offset)
    };
    match text.to_ascii_lowercase().as_str() {
        "" => return None,
        "now" => return Some(now),
        "today" | "midnight" => return midnight(0),
        "yesterday" => return midnight(-1),
        "tomorrow" => return midnight(1),
        _ => {}
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().ok();
    }
    let (date, rest) = match text.split_once(['T', 't', ' ']) {
        Some((date, rest)) => (date, rest.trim_start()),
        None => (text, ""),
    };
    let date = parse_date(date)?;
    if rest.is_empty() {
        return stamp(date.to_datetime(Time::midnight()), offset);
    }
    let zone_at = rest.find(['+', '-', 'Z', 'z', ' ']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at_checked(zone_at)?;
    let time = parse_clock(clock)?;
    let zone = zone.trim_start();
    let offset = match zone {
        "" => offset,
        "Z" | "z" | "UTC" | "GMT" => Offset::UTC,
        zone => parse_offset(zone)?,
    };
    stamp(date.to_datetime(time), offset)
}

fn stamp(civil: DateTime, offset: Offset) -> Option<i64> {
    offset.to_timestamp(civil).ok().map(Timestamp::as_second)
}

fn parse_date(text: &str) -> Option<Date> {
    let split = |by: char| -> Option<[i16; 3]> {
        let parts: Vec<i16> = text.split(by).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    if text.starts_with(['+', '-']) {
        return None;
    }
    let [year, month, day] = match split('-') {
        Some(parts) => parts,
        None => split('.').map(|[day, month, year]| [year, month, day])?,
    };
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

fn parse_clock(text: &str) -> Option<Time> {
    let text = text.split_once('.').map_or(text, |(whole, _)| whole);
    let mut parts = text.split(':').map(|part| part.parse::<i8>().ok());
    let hour = parts.next()??;
    let minute = parts.next()??;
    let second = parts.next().unwrap_or(Some(0))?;
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

fn parse_offset(text: &str) -> Option<Offset> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits: String = text.get(1..)?.chars().filter(|c| *c != ':').collect();
    let number: i32 = digits.parse().ok()?;
    let (hours, minutes) = if digits.len() <= 2 { (number, 0) } else { (number / 100, number % 100) };
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_without_an_offset_are_in_the_servers_zone_and_garbage_is_none() {
        let moscow = Offset::from_seconds(3 * 3600).unwrap();
        let at = |text: &str| parse(text, 1_700_000_000, moscow);
        assert_eq!(at("2024-01-31T03:00:00"), at("2024-01-31T00:00:00Z"));
        assert_eq!(at("2024-01-31T00:00:00.999+00:00"), at("2024-01-31 00:00:00 +0000"));
        assert_eq!(at("31.01.2024"), at("2024-01-31"));
        assert_eq!(at("2024-01-31T00:00:00 00:00"), None, "a plus sign lost in a form");
        assert_eq!(at("soon"), None);
        assert_eq!(format(at("2024-01-31").unwrap(), moscow), "2024-01-31T00:00:00+03:00");
    }
}
