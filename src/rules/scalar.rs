//! What an unquoted value means to YAML, decided here alone, so that `no`, `007` and dates are never guessed at.

use super::tree::Scalar;

/// What a value is, before it is known what it is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// Quoted, or plain words.
    Text,
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// `yes`, `no`, `on`, `off`: booleans for some readers of YAML and words for others.
    YesNo(bool),
    /// A whole number in plain digits.
    Whole(i64),
    /// A number with a decimal point in plain digits.
    Decimal(f64),
    /// A number in a notation that readers of YAML disagree about: `007`, `0x1F`, `1_000`, `1e3`, `.inf`.
    OddNumber,
    /// What starts like a date.
    Date,
}

impl Scalar {
    /// What the value is.
    pub(super) fn meaning(&self) -> Meaning {
        if self.quoted { Meaning::Text } else { unquoted(&self.text) }
    }
}

fn unquoted(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Meaning::YesNo(true),
        "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Meaning::YesNo(false),
        _ => {}
    }
    if starts_like_a_date(text) {
        return Meaning::Date;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let whole = |part: &str| plain(part) && (part == "0" || !part.starts_with('0'));
    if whole(digits) {
        return text.parse().map_or(Meaning::OddNumber, Meaning::Whole);
    }
    if let Some((before, after)) = digits.split_once('.')
        && whole(before)
        && plain(after)
    {
        return match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Meaning::Decimal(number),
            Ok(_) | Err(_) => Meaning::OddNumber,
        };
    }
    if is_odd_number(text) { Meaning::OddNumber } else { Meaning::Text }
}

/// `2024-01-31`, and the same with anything behind it.
fn starts_like_a_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: Option<&str>, least: usize, most: usize| {
        part.is_some_and(|part| {
            (least..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        })
    };
    digits(parts.next(), 4, 4)
        && digits(parts.next(), 1, 2)
        && parts.next().is_some_and(|rest| rest.bytes().next().is_some_and(|b| b.is_ascii_digit()))
}

fn is_odd_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if matches!(lower.as_str(), ".inf" | ".nan") {
        return true;
    }
    let radix = |prefix: &str, is_digit: fn(&u8) -> bool| {
        lower
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.as_bytes().iter().all(|b| is_digit(b) || *b == b'_'))
    };
    if radix("0x", u8::is_ascii_hexdigit)
        || radix("0o", u8::is_ascii_digit)
        || radix("0b", u8::is_ascii_digit)
    {
        return true;
    }
    let starts = lower.bytes().find(|b| *b != b'.').is_some_and(|b| b.is_ascii_digit());
    let written_as_number =
        lower.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'e' | b'+' | b'-'));
    let cleaned = lower.replace('_', "");
    starts && written_as_number && cleaned.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> Meaning {
        Scalar { text: text.to_owned(), quoted: false }.meaning()
    }

    #[test]
    fn what_readers_of_yaml_disagree_about_is_never_plain_text() {
        for text in [
            "007", "-007", "+7", "0x1F", "0o17", "1_000", "1e3", ".5", "5.", ".inf", "-.INF", ".nan", "1e999",
        ] {
            assert_eq!(meaning(text), Meaning::OddNumber, "{text}");
        }
        for text in ["no", "NO", "yes", "on", "Off"] {
            assert!(matches!(meaning(text), Meaning::YesNo(_)), "{text}");
        }
        for text in ["2024-01-31", "2024-1-3", "2024-01-31T10:00:00+03:00", "2024-01-31 10:00"] {
            assert_eq!(meaning(text), Meaning::Date, "{text}");
        }
    }

    #[test]
    fn codes_and_words_are_text() {
        for text in [
            "JUNK",
            "UC_1",
            "7a",
            "Y",
            "n",
            "12:30",
            "1.2.3",
            "DT1031_5:NEW",
            "+49 30 1234",
            "30d",
            "0 5 * * *",
        ] {
            assert_eq!(meaning(text), Meaning::Text, "{text}");
        }
        assert_eq!(Scalar { text: "no".into(), quoted: true }.meaning(), Meaning::Text);
    }

    #[test]
    fn plain_numbers_are_numbers() {
        assert_eq!(meaning("7"), Meaning::Whole(7));
        assert_eq!(meaning("-1"), Meaning::Whole(-1));
        assert_eq!(meaning("1.0"), Meaning::Decimal(1.0));
        assert_eq!(meaning("99999999999999999999"), Meaning::OddNumber);
    }
}
