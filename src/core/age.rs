//! Lengths of time as administrators write them: `24h`, `90d`, `2w`. One day is 24 hours.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

/// The longest age that is accepted, in seconds: a hundred years, far inside what timestamps can hold.
pub const MAX_SECONDS: i64 = 100 * 365 * 24 * 3600;

/// A length of time in whole hours, days or weeks; never negative, at most [`MAX_SECONDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Age {
    seconds: i64,
}

/// What is wrong with an age, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadAge {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Age {
    /// No time at all.
    pub const ZERO: Age = Age { seconds: 0 };

    /// An age of whole hours.
    pub const fn hours(hours: u32) -> Age {
        Age { seconds: hours as i64 * 3600 }
    }

    /// An age of whole days of 24 hours.
    pub const fn days(days: u32) -> Age {
        Age { seconds: days as i64 * 24 * 3600 }
    }

    /// Its length in seconds.
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Its length as a duration.
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_secs(self.seconds)
    }

    /// The moment that lies this long before `now`.
    pub fn before(self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.duration()).unwrap_or(Timestamp::MIN)
    }

    /// The moment that lies this long after `now`.
    pub fn after(self, now: Timestamp) -> Timestamp {
        now.checked_add(self.duration()).unwrap_or(Timestamp::MAX)
    }

    /// Reads `24h`, `90d` or `2w`.
    ///
    /// ```
    /// use b24_janitor::core::age::Age;
    ///
    /// assert_eq!(Age::parse("2w"), Ok(Age::days(14)));
    /// assert!(Age::parse("3m").is_err(), "a month has no fixed length");
    /// ```
    pub fn parse(text: &str) -> Result<Age, BadAge> {
        let bad = |message: String, help: &str| Err(BadAge { message, help: help.to_owned() });
        let shown: String = text.chars().take(40).collect();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return bad(
                format!("`{shown}` is not an age"),
                "write a whole number and h, d or w: 24h, 90d, 2w",
            );
        }
        let word = unit.trim().to_ascii_lowercase();
        let hours = match unit {
            "h" => 1,
            "d" => 24,
            "w" => 7 * 24,
            "" => {
                return bad(
                    format!("`{shown}` has no unit"),
                    &format!("write {number}d for days, {number}h for hours"),
                );
            }
            _ if matches!(word.as_str(), "m" | "mo" | "month" | "months") => {
                let days = number.parse::<u64>().ok().and_then(|n| n.checked_mul(30));
                let help = match days {
                    Some(days) => format!("months differ in length: write days, for example {days}d"),
                    None => "months differ in length: write days, for example 90d".to_owned(),
                };
                return bad(format!("`{shown}`: months are not a unit of age"), &help);
            }
            _ if matches!(word.as_str(), "y" | "year" | "years") => {
                let days = number.parse::<u64>().ok().and_then(|n| n.checked_mul(365));
                let help = match days {
                    Some(days) => format!("years differ in length: write days, for example {days}d"),
                    None => "years differ in length: write days, for example 365d".to_owned(),
                };
                return bad(format!("`{shown}`: years are not a unit of age"), &help);
            }
            _ if matches!(
                word.as_str(),
                "h" | "hour" | "hours" | "d" | "day" | "days" | "w" | "week" | "weeks"
            ) =>
            {
                let letter: String = word.chars().take(1).collect();
                return bad(
                    format!("`{shown}` is not written as an age"),
                    &format!("write {number}{letter}"),
                );
            }
            _ => {
                return bad(
                    format!("`{shown}` has an unknown unit"),
                    "units are h (hours), d (days) and w (weeks): 24h, 90d, 2w",
                );
            }
        };
        let seconds = number.parse::<i64>().ok().and_then(|n| n.checked_mul(hours * 3600));
        match seconds {
            Some(seconds) if seconds <= MAX_SECONDS => Ok(Age { seconds }),
            Some(_) | None => {
                bad(format!("`{shown}` is too long"), "the longest age is a hundred years (36500d)")
            }
        }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.seconds / 3600;
        if hours != 0 && hours % 24 == 0 { write!(f, "{}d", hours / 24) } else { write!(f, "{hours}h") }
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn months_and_years_are_refused_with_the_days_to_write() {
        assert_eq!(
            Age::parse("3m").unwrap_err().help,
            "months differ in length: write days, for example 90d"
        );
        assert_eq!(
            Age::parse("2y").unwrap_err().help,
            "years differ in length: write days, for example 730d"
        );
    }

    #[test]
    fn an_age_in_words_is_refused_with_the_letters_to_write() {
        assert_eq!(Age::parse("90 days").unwrap_err().help, "write 90d");
        assert_eq!(Age::parse("1D").unwrap_err().help, "write 1d");
        assert_eq!(
            Age::parse("3 months").unwrap_err().help,
            "months differ in length: write days, for example 90d"
        );
    }

    #[test]
    fn what_is_no_age_is_refused() {
        for text in ["", "d", "-1d", "1.5d", "90", "90 d", "90days", "1D", "99999999999999999999d", "36501d"]
        {
            assert!(Age::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_equal(hours in 0u32..800_000) {
            let age = Age::hours(hours);
            prop_assert_eq!(Age::parse(&age.to_string()).unwrap(), age);
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "\\PC{0,40}") {
            let _ = Age::parse(&text);
        }
    }
}
