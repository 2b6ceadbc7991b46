//! Whether a condition makes sense on a user field, whose type only the portal knows. The rules language takes a value
//! as it is written; a value of another type than the field's would never match, or with `ne` always. Pure.
//!
//! Types: <https://apidocs.bitrix24.com/api-reference/crm/universal/user-defined-fields/index.html>. One that is not
//! known here is not judged.

use crate::core::compare::{Test, Text};
use crate::core::field::FieldName;
use crate::portal::FieldInfo;

/// Options of a list that a message names.
const OPTIONS_SHOWN: usize = 5;

/// What is asked of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// A test of `match`.
    Test(&'a Test),
    /// `older_than`.
    Age,
}

/// The part of a condition that a message points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Field,
    Test,
    /// A value, counted from 0.
    Value(usize),
}

/// What is wrong with what is asked, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub code: &'static str,
    pub part: Part,
    pub message: String,
    pub help: String,
}

/// What a field of the portal's type holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Number,
    Flag,
    Time,
    Option,
    Reference,
    File,
    /// A type that is not known here.
    Something,
}

impl Holds {
    fn of(kind: &str) -> Holds {
        match kind {
            "string" | "url" | "address" | "crm_status" => Holds::Text,
            "integer" | "double" | "money" => Holds::Number,
            "boolean" => Holds::Flag,
            "date" | "datetime" => Holds::Time,
            "enumeration" => Holds::Option,
            "employee" | "user" | "iblock_section" | "iblock_element" | "hlblock" => Holds::Reference,
            "file" => Holds::File,
            _ => Holds::Something,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Holds::Text => "text",
            Holds::Number => "a number",
            Holds::Flag => "yes or no",
            Holds::Time => "a date",
            Holds::Option => "an option of a list",
            Holds::Reference => "the id of another record",
            Holds::File => "a file",
            Holds::Something => "a value",
        }
    }
}

/// What is wrong with asking this of a user field of this kind, if anything.
pub(super) fn mismatch(field: &FieldName, info: &FieldInfo, asked: Asked<'_>) -> Option<Mismatch> {
    let holds = Holds::of(&info.kind);
    let test = match asked {
        Asked::Test(Test::Empty(_)) => return None,
        Asked::Test(test) => Some(test),
        Asked::Age => None,
    };
    let ordered = match test {
        None => true,
        Some(Test::NumberOrder { .. } | Test::TimeOrder { .. }) => true,
        Some(
            Test::TextIn { .. }
            | Test::NumberIn { .. }
            | Test::Contains(_)
            | Test::StartsWith(_)
            | Test::Flag(_),
        ) => false,
        Some(Test::Empty(_)) => return None,
    };
    let speaker = Speaker { field, holds, test };
    if info.is_multiple && ordered && holds != Holds::Something {
        return Some(Mismatch {
            code: "wrong-operator",
            part: Part::Test,
            message: format!("`{field}` holds several values, which have no order: {}", speaker.asked()),
            help: "a field of several values takes in, not_in, contains, starts_with, empty".to_owned(),
        });
    }
    match holds {
        Holds::Something => None,
        Holds::Text => speaker.text(),
        Holds::Number => speaker.number(),
        Holds::Flag => speaker.flag(),
        Holds::Time => speaker.time(),
        Holds::Option => speaker.option(&info.options),
        Holds::Reference => speaker.reference(),
        Holds::File => {
            speaker.wrong(format!("all that can be asked of a file is {field}: {{ empty: true }}"))
        }
    }
}

struct Speaker<'a> {
    field: &'a FieldName,
    holds: Holds,
    /// `None` for an age.
    test: Option<&'a Test>,
}

impl Speaker<'_> {
    fn asked(&self) -> String {
        self.test.map_or_else(|| "older_than".to_owned(), ToString::to_string)
    }

    fn wrong(&self, help: String) -> Option<Mismatch> {
        let message = format!(
            "`{}` holds {} in the portal, and is compared with {}",
            self.field,
            self.holds.words(),
            self.other()
        );
        Some(Mismatch { code: "wrong-type", part: Part::Value(0), message, help })
    }

    fn other(&self) -> String {
        let what = match self.test {
            None => return "an age".to_owned(),
            Some(Test::TextIn { .. } | Test::Contains(_) | Test::StartsWith(_)) => "text",
            Some(Test::NumberIn { .. } | Test::NumberOrder { .. }) => "a number",
            Some(Test::TimeOrder { .. }) => "a date",
            Some(Test::Flag(_)) => "yes or no",
            Some(Test::Empty(_)) => "nothing",
        };
        format!("{what}: {}", self.asked())
    }

    fn text(&self) -> Option<Mismatch> {
        let field = self.field;
        match self.test {
            // The order of numbers in a field of texts is a question that has an answer, value by value.
            Some(
                Test::TextIn { .. }
                | Test::Contains(_)
                | Test::StartsWith(_)
                | Test::NumberOrder { .. }
                | Test::Empty(_),
            ) => None,
            Some(Test::NumberIn { values, negated }) => {
                let quoted = values.iter().map(|number| format!("\"{number}\"")).collect();
                self.wrong(format!("put it in quotes: {}", among(field, quoted, *negated)))
            }
            Some(Test::Flag(flag)) => self.wrong(format!("put it in quotes: {field}: \"{flag}\"")),
            Some(Test::TimeOrder { .. }) | None => {
                self.wrong("text has no dates: use a field of the type date, or createdTime".to_owned())
            }
        }
    }

    fn number(&self) -> Option<Mismatch> {
        let field = self.field;
        match self.test {
            Some(Test::NumberIn { .. } | Test::NumberOrder { .. } | Test::Empty(_)) => None,
            Some(Test::TextIn { values, negated }) => {
                let numbers: Option<Vec<String>> = values.iter().map(digits).collect();
                self.wrong(match numbers {
                    Some(numbers) => format!("write it without quotes: {}", among(field, numbers, *negated)),
                    None => format!("write a number without quotes, for example {field}: 5"),
                })
            }
            Some(Test::Contains(_) | Test::StartsWith(_) | Test::Flag(_) | Test::TimeOrder { .. }) | None => {
                self.wrong(format!("write numbers: {field}: 5, or {field}: {{ gt: 5 }}"))
            }
        }
    }

    fn flag(&self) -> Option<Mismatch> {
        let field = self.field;
        let (said, negated) = match self.test {
            Some(Test::Flag(_) | Test::Empty(_)) => return None,
            Some(Test::TextIn { values, negated }) => match values.as_slice() {
                [one] => (yes_or_no(one.as_str()), *negated),
                _ => (None, false),
            },
            Some(Test::NumberIn { values, .. }) if values.iter().all(|one| matches!(*one, 0.0 | 1.0)) => {
                return None;
            }
            Some(Test::NumberIn { values, negated }) => match values.as_slice() {
                [one] => (yes_or_no(&one.to_string()), *negated),
                _ => (None, false),
            },
            Some(
                Test::Contains(_) | Test::StartsWith(_) | Test::NumberOrder { .. } | Test::TimeOrder { .. },
            )
            | None => (None, false),
        };
        self.wrong(match said {
            Some(flag) => format!("write {field}: {}", flag != negated),
            None => format!("write {field}: true or {field}: false"),
        })
    }

    fn time(&self) -> Option<Mismatch> {
        let field = self.field;
        match self.test {
            None | Some(Test::TimeOrder { .. } | Test::Empty(_)) => None,
            Some(
                Test::TextIn { .. }
                | Test::Contains(_)
                | Test::StartsWith(_)
                | Test::NumberIn { .. }
                | Test::NumberOrder { .. }
                | Test::Flag(_),
            ) => self.wrong(format!(
                "write {field}: {{ lt: 2024-01-31 }} without quotes, or older_than: {{ field: {field}, age: 90d }} in the rule"
            )),
        }
    }

    fn option(&self, options: &[(i64, String)]) -> Option<Mismatch> {
        let field = self.field;
        let shown = |(id, name): &(i64, String)| format!("{id} ({name})");
        let mut list: Vec<String> = options.iter().take(OPTIONS_SHOWN).map(shown).collect();
        if options.len() > OPTIONS_SHOWN {
            list.push("…".to_owned());
        }
        let known = if list.is_empty() { String::new() } else { format!("; it has {}", list.join(", ")) };
        match self.test {
            Some(Test::NumberIn { values, .. }) => {
                #[expect(clippy::cast_precision_loss, reason = "ids are far below 2^53")]
                let is_option =
                    |wanted: &f64| options.iter().any(|(id, _)| (*id as f64 - *wanted).abs() < 0.5);
                let mut numbered = values.iter().enumerate();
                let (index, unknown) =
                    numbered.find(|(_, wanted)| !options.is_empty() && !is_option(wanted))?;
                Some(Mismatch {
                    code: "unknown-option",
                    part: Part::Value(index),
                    message: format!("`{field}` has no option {unknown}"),
                    help: format!("write the number of an option{known}"),
                })
            }
            Some(Test::TextIn { values, negated }) => {
                let ids: Option<Vec<String>> = values
                    .iter()
                    .map(|text| {
                        let named =
                            |(_, name): &&(i64, String)| name.to_lowercase() == text.as_str().to_lowercase();
                        options.iter().find(named).map(|(id, _)| id.to_string()).or_else(|| digits(text))
                    })
                    .collect();
                self.wrong(match ids {
                    Some(ids) => format!("write the option's number: {}{known}", among(field, ids, *negated)),
                    None => format!("write the option's number, as the portal's leads hold it{known}"),
                })
            }
            Some(Test::Empty(_)) => None,
            Some(
                Test::Contains(_)
                | Test::StartsWith(_)
                | Test::NumberOrder { .. }
                | Test::TimeOrder { .. }
                | Test::Flag(_),
            )
            | None => {
                self.wrong(format!("it takes eq, ne, in, not_in, empty and the number of an option{known}"))
            }
        }
    }

    fn reference(&self) -> Option<Mismatch> {
        let field = self.field;
        match self.test {
            Some(Test::NumberIn { .. } | Test::Empty(_)) => None,
            Some(
                Test::TextIn { .. }
                | Test::Contains(_)
                | Test::StartsWith(_)
                | Test::NumberOrder { .. }
                | Test::TimeOrder { .. }
                | Test::Flag(_),
            )
            | None => self.wrong(format!("write the number of the record without quotes: {field}: 15")),
        }
    }
}

/// `field: value`, a list, or their negation, as the rules language writes them.
fn among(field: &FieldName, values: Vec<String>, negated: bool) -> String {
    match (values.as_slice(), negated) {
        ([one], false) => format!("{field}: {one}"),
        ([one], true) => format!("{field}: {{ ne: {one} }}"),
        (_, false) => format!("{field}: [{}]", values.join(", ")),
        (_, true) => format!("{field}: {{ not_in: [{}] }}", values.join(", ")),
    }
}

fn digits(text: &Text) -> Option<String> {
    text.as_str().parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number.to_string())
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "1" | "true" | "on" => Some(true),
        "n" | "no" | "0" | "false" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
