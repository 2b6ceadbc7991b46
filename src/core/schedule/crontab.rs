//! Reads the five fields of a crontab line, and says in an administrator's words what is wrong with them.
//!
//! The grammar is the common part of all crons, read strictly: numbers, three-letter names of months and days,
//! `*`, ranges, steps on `*` or on a range, and lists of these. Whatever crons disagree about (`5/15`, a range
//! that runs backwards, `L`, `W`, `#`, `?`, seconds) is refused with the text to write instead, because a
//! schedule that is read differently than it was meant deletes at the wrong time.

use std::ops::Range;

use super::ScheduleError;

/// The longest text that is read, in bytes. All five fields written out as full lists take less than 500.
const MAX_TEXT: usize = 1024;

/// The five fields as sets of values.
pub(super) struct Crontab {
    /// 0 to 59.
    pub(super) minute: Field,
    /// 0 to 23.
    pub(super) hour: Field,
    /// 1 to 31.
    pub(super) day_of_month: Field,
    /// 1 to 12.
    pub(super) month: Field,
    /// 0 to 6, 0 is Sunday.
    pub(super) day_of_week: Field,
}

/// One field.
pub(super) struct Field {
    /// The values it selects, in order, each once; never empty.
    pub(super) values: Vec<u8>,
    /// Whether it was written as anything else than `*`. A field that lists every value is restricted too: its
    /// author thought of it as a condition.
    pub(super) restricted: bool,
    /// Where it stands in the text, in bytes.
    pub(super) span: Range<usize>,
}

/// What is particular to one of the five fields.
struct Kind {
    /// As in "the hour".
    name: &'static str,
    /// The lowest and the highest number that may be written.
    low: u8,
    high: u8,
    /// What `*` reaches to: `high`, but for the day of week, where 7 is a second name of 0.
    star_high: u8,
    /// Three-letter names of the numbers from `low` on.
    names: &'static [&'static str],
    /// What an administrator who wrote a wrong number wants to know.
    hint: &'static str,
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// The days of the week by crontab's numbers, Sunday first.
pub(super) const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const MINUTE: Kind =
    Kind { name: "minute", low: 0, high: 59, star_high: 59, names: &[], hint: "minutes go from 0 to 59" };
const HOUR: Kind = Kind {
    name: "hour",
    low: 0,
    high: 23,
    star_high: 23,
    names: &[],
    hint: "hours go from 0 (midnight) to 23; the first field is the minute, the second the hour",
};
const DAY_OF_MONTH: Kind = Kind {
    name: "day of month",
    low: 1,
    high: 31,
    star_high: 31,
    names: &[],
    hint: "days of the month go from 1 to 31",
};
const MONTH: Kind = Kind {
    name: "month",
    low: 1,
    high: 12,
    star_high: 12,
    names: MONTHS,
    hint: "months go from 1 to 12, or JAN to DEC",
};
const DAY_OF_WEEK: Kind = Kind {
    name: "day of week",
    low: 0,
    high: 7,
    star_high: 6,
    names: DAYS,
    hint: "days of the week go from 0 to 7 (0 and 7 are Sunday, 1 is Monday), or SUN to SAT",
};

/// The shorthands, and the five fields that each stands for.
const SHORTHANDS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Reads `text`. The error is the first one from the left; its span lies inside `text`.
pub(super) fn read(text: &str) -> Result<Crontab, ScheduleError> {
    if text.len() > MAX_TEXT {
        return Err(bad(
            0..text.len(),
            format!("this schedule is {} bytes long", text.len()),
            format!("a schedule has at most {MAX_TEXT} bytes; use ranges and steps, such as `*/5` or `8-18`"),
        ));
    }
    let words = words(text);
    let whole = match (words.first(), words.last()) {
        (Some((first, _)), Some((last, word))) => *first..last + word.len(),
        _ => {
            return Err(bad(
                0..text.len(),
                "the schedule is empty".into(),
                "write five fields, minute hour day-of-month month day-of-week: `15 3 * * *` is 03:15 every day"
                    .into(),
            ));
        }
    };
    match words.as_slice() {
        [(at, word), rest @ ..] if word.starts_with('@') => shorthand(*at, word, rest, whole),
        [(at, word), ..] if word.contains('=') => Err(bad(
            *at..at + word.len(),
            format!("`{word}` is not a field of a schedule"),
            "the time zone is a key of its own: `timezone: Europe/Berlin`, in the file or in the rule".into(),
        )),
        &[minute, hour, day_of_month, month, day_of_week] => Ok(Crontab {
            minute: field(&MINUTE, minute)?,
            hour: field(&HOUR, hour)?,
            day_of_month: field(&DAY_OF_MONTH, day_of_month)?,
            month: field(&MONTH, month)?,
            day_of_week: field(&DAY_OF_WEEK, day_of_week)?,
        }),
        words => Err(wrong_count(words, whole)),
    }
}

/// The words of a text, each with the byte at which it starts.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut at = 0;
    for piece in text.split(|c: char| c.is_ascii_whitespace()) {
        if !piece.is_empty() {
            words.push((at, piece));
        }
        // Every separator is one ASCII byte.
        at += piece.len() + 1;
    }
    words
}

fn shorthand(
    at: usize,
    word: &str,
    rest: &[(usize, &str)],
    whole: Range<usize>,
) -> Result<Crontab, ScheduleError> {
    let span = at..at + word.len();
    if word.eq_ignore_ascii_case("@reboot") {
        return Err(bad(
            span,
            "`@reboot` names no time".into(),
            "a rule runs by the clock, never because a machine was restarted; a run that was missed while the \
             service was down is made up by itself. Write a time, such as `@daily`, or start it by hand with \
             `b24-janitor run RULE`"
                .into(),
        ));
    }
    if word.eq_ignore_ascii_case("@every") {
        return Err(bad(
            whole,
            "`@every` is not a schedule of crontab".into(),
            "write the minutes or hours at which it runs: `*/15 * * * *` is every quarter of an hour, \
             `0 */6 * * *` every six hours"
                .into(),
        ));
    }
    let Some((_, fields)) = SHORTHANDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)) else {
        let known: Vec<&str> = SHORTHANDS.iter().map(|(name, _)| *name).collect();
        let near = known.iter().find(|name| strsim::jaro_winkler(name, &word.to_ascii_lowercase()) >= 0.8);
        let help = match near {
            Some(name) => format!("did you mean `{name}`? Known are {}", known.join(", ")),
            None => format!("known are {}; or write five fields, such as `15 3 * * *`", known.join(", ")),
        };
        return Err(bad(span, format!("`{word}` is not a shorthand"), help));
    };
    if !rest.is_empty() {
        return Err(bad(
            whole,
            format!("`{word}` is a whole schedule, but more follows it"),
            format!("write `{word}` alone, or five fields: `{word}` means `{fields}`"),
        ));
    }
    let mut crontab = read(fields)?;
    for field in [&mut crontab.day_of_month, &mut crontab.month, &mut crontab.day_of_week] {
        field.span = span.clone();
    }
    Ok(crontab)
}

fn wrong_count(words: &[(usize, &str)], whole: Range<usize>) -> ScheduleError {
    let message = match words.len() {
        1 => "this has 1 field, but a schedule has five".to_owned(),
        count => format!("this has {count} fields, but a schedule has five"),
    };
    let written: Vec<&str> = words.iter().map(|(_, word)| *word).collect();
    let help = match written.as_slice() {
        [_, five @ ..] if five.len() == 5 => format!(
            "there are no seconds here: the fields are minute hour day-of-month month day-of-week. Without its \
             first field it reads `{}`",
            five.join(" ").replace('?', "*")
        ),
        [_, five @ .., _] if five.len() == 5 => format!(
            "there are no seconds and no years here: the fields are minute hour day-of-month month day-of-week. \
             Without its first and its last field it reads `{}`",
            five.join(" ").replace('?', "*")
        ),
        _ => "the fields are minute hour day-of-month month day-of-week: `15 3 * * *` is 03:15 every day"
            .into(),
    };
    bad(whole, message, help)
}

fn field(kind: &Kind, (at, text): (usize, &str)) -> Result<Field, ScheduleError> {
    let mut selected = [false; 64];
    let mut restricted = true;
    let mut start = at;
    for piece in text.split(',') {
        let item = Item { kind, at: start, text: piece };
        let (low, high, step) = item.read()?;
        if piece == "*" || piece == "*/1" {
            restricted = false;
        }
        for value in (low..=high).step_by(step) {
            let value = if value > kind.star_high { kind.low } else { value };
            if let Some(slot) = selected.get_mut(usize::from(value)) {
                *slot = true;
            }
        }
        start += piece.len() + 1;
    }
    let values = (0u8..).zip(selected).filter_map(|(value, on)| on.then_some(value)).collect();
    Ok(Field { values, restricted, span: at..at + text.len() })
}

/// One element of a field's list.
struct Item<'a> {
    kind: &'a Kind,
    at: usize,
    text: &'a str,
}

impl Item<'_> {
    /// The lowest value, the highest and the step.
    fn read(&self) -> Result<(u8, u8, usize), ScheduleError> {
        let Item { kind, text, .. } = self;
        if text.is_empty() {
            return Err(self.bad(
                format!("the list of the {} has an empty element", kind.name),
                "remove the comma that is too many; lists are written without blanks: `1,15`".into(),
            ));
        }
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (*text, None),
        };
        let (low, high) = if range == "*" {
            (kind.low, kind.star_high)
        } else if let Some((from, to)) = range.split_once('-') {
            self.range(from, to, step)?
        } else {
            let value = self.value(range)?;
            if let Some(step) = step {
                return Err(self.bad(
                    format!("`{text}` is read differently by different crons"),
                    format!(
                        "a step needs `*` or a range: write `{range}-{}/{step}` for every {step} from {range} on, \
                         or `{range}` for that one",
                        kind.star_high
                    ),
                ));
            }
            (value, value)
        };
        let step = match step {
            Some(step) => self.step(step, low, high)?,
            None => 1,
        };
        Ok((low, high, step))
    }

    fn range(&self, from: &str, to: &str, step: Option<&str>) -> Result<(u8, u8), ScheduleError> {
        let kind = self.kind;
        let low = self.value(from)?;
        let high = self.value(to)?;
        // `FRI-SUN` has one meaning only: the Sunday that follows.
        let named_sunday = to.eq_ignore_ascii_case("SUN") && kind.high > kind.star_high;
        let high = if named_sunday && low > 0 { kind.high } else { high };
        if low <= high {
            return Ok((low, high));
        }
        let every = step.and_then(|step| step.parse::<usize>().ok()).filter(|step| *step > 0).unwrap_or(1);
        let named = !from.starts_with(|c: char| c.is_ascii_digit());
        let instead = if every == 1 && !named {
            let part = |from, to| if from == to { format!("{from}") } else { format!("{from}-{to}") };
            format!("{},{}", part(low, kind.star_high), part(kind.low, high))
        } else {
            (low..=kind.star_high)
                .chain(kind.low..=high)
                .step_by(every)
                .map(|value| match kind.names.get(usize::from(value - kind.low)) {
                    Some(name) if named => (*name).to_owned(),
                    _ => value.to_string(),
                })
                .collect::<Vec<_>>()
                .join(",")
        };
        Err(self.bad(
            format!("the range `{}` runs backwards", self.text),
            format!("write the two parts of it: `{instead}`"),
        ))
    }

    fn step(&self, step: &str, low: u8, high: u8) -> Result<usize, ScheduleError> {
        let number = match step.parse::<usize>() {
            Ok(number) if number > 0 && step.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => {
                return Err(self.bad(
                    format!("`{step}` is not a step"),
                    "a step is a whole number from 1 on: `*/15`, `8-18/2`".into(),
                ));
            }
        };
        if number > usize::from(high - low) {
            return Err(self.bad(
                format!("the step of `{}` is longer than what it divides", self.text),
                format!(
                    "steps count inside one field and start anew in the next hour, day or month, so this would \
                     only ever select {low}: write `{low}` if that is meant, or a list of times"
                ),
            ));
        }
        Ok(number)
    }

    fn value(&self, word: &str) -> Result<u8, ScheduleError> {
        let kind = self.kind;
        if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
            return match word.parse::<u8>() {
                Ok(value) if (kind.low..=kind.high).contains(&value) => Ok(value),
                _ => {
                    Err(self
                        .bad(format!("{word} is out of range for the {}", kind.name), kind.hint.to_owned()))
                }
            };
        }
        if let Some((value, _)) =
            (kind.low..).zip(kind.names).find(|(_, name)| name.eq_ignore_ascii_case(word))
        {
            return Ok(value);
        }
        if word.is_empty() {
            return Err(self.bad(
                format!("`{}` lacks a number", self.text),
                format!("write both ends of a range: `2-5`; {}", kind.hint),
            ));
        }
        let message = format!("`{word}` can't be read as the {}", kind.name);
        if is_quartz(word) {
            return Err(self.bad(
                message,
                "`?`, `L`, `W` and `#` are Quartz's, not crontab's: write `*` instead of `?`; for the last, the \
                 nearest or the n-th day list the days that may be meant, such as `28-31`"
                    .into(),
            ));
        }
        // A longer name starts with ours: `Monday`, `sept`.
        let near = kind
            .names
            .iter()
            .find(|name| word.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(name)));
        let help = match near {
            Some(name) => format!("write `{name}`: names have three letters"),
            None => kind.hint.to_owned(),
        };
        Err(self.bad(message, help))
    }

    fn bad(&self, message: String, help: String) -> ScheduleError {
        bad(self.at..self.at + self.text.len(), message, help)
    }
}

/// Whether a word is one of Quartz's days: `L`, `LW`, `15W`, `5L`.
fn is_quartz(word: &str) -> bool {
    let letters = word.trim_start_matches(|c: char| c.is_ascii_digit());
    word.contains(['?', '#']) || ["L", "W", "LW"].iter().any(|known| letters.eq_ignore_ascii_case(known))
}

fn bad(span: Range<usize>, message: String, help: String) -> ScheduleError {
    ScheduleError { code: "bad-cron", span, message, help }
}
