//! Reads single values by what the grammar says that their key takes.
//!
//! Invariant: nothing is converted. A value that YAML or a person could take for something else is refused with what
//! to write instead.

use super::reader::{Entry, Reader};
use crate::core::age::Age;
use crate::core::rule::KeepCopy;
use crate::rules::diagnostic::{one_line, shown};
use crate::rules::grammar::{self, Kind};
use crate::rules::scalar::Meaning;
use crate::rules::tree::{Node, Scalar, Value};

impl Reader<'_> {
    /// One value.
    pub(super) fn scalar<'t>(&mut self, node: &'t Node, wanted: &str, help: &str) -> Option<&'t Scalar> {
        match &node.value {
            Value::Scalar(scalar) if scalar.meaning() != Meaning::Null => Some(scalar),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                self.wrong(node, wanted, help);
                None
            }
        }
    }

    /// Text that is not empty and that no reader of YAML takes for something else.
    pub(super) fn text<'t>(&mut self, node: &'t Node, help: &str) -> Option<&'t str> {
        let scalar = self.scalar(node, "text", help)?;
        let kind = match scalar.meaning() {
            Meaning::Text if scalar.text.is_empty() => {
                self.error("no-value", &node.span, "the text is empty").help(help);
                return None;
            }
            Meaning::Text | Meaning::Null => return Some(&scalar.text),
            Meaning::Bool(_) | Meaning::YesNo(_) => "a yes/no value",
            Meaning::Whole(_) | Meaning::Decimal(_) | Meaning::OddNumber => "a number",
            Meaning::Date => "a date",
        };
        let written = shown(&scalar.text);
        self.error(
            "wrong-type",
            &node.span,
            format!("text is needed, but `{written}` without quotes is {kind} to YAML"),
        )
        .help(format!("put it in quotes: \"{written}\""));
        None
    }

    /// A word that the grammar lists for the key.
    pub(super) fn word(&mut self, entry: Entry<'_>) -> Option<&'static str> {
        let Kind::OneOf(words) = entry.key.kind else { return None };
        let list = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
        let scalar = self.scalar(entry.value, &list, &format!("write {list}"))?;
        let found = words.iter().copied().find(|word| *word == scalar.text);
        if found.is_none() {
            let written = shown(&scalar.text);
            let help = match grammar::nearest(&scalar.text, words.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write {list}"),
            };
            self.error(
                "unknown-word",
                &entry.value.span,
                format!("`{}` can't be `{written}`", entry.key.name),
            )
            .help(help);
        }
        found
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node) -> Option<bool> {
        let scalar = self.scalar(node, "true or false", "write true or false")?;
        match scalar.meaning() {
            Meaning::Bool(value) => Some(value),
            Meaning::YesNo(value) => {
                let message =
                    format!("`{}` means yes or no to some programs and text to others", shown(&scalar.text));
                self.error("wrong-type", &node.span, message).help(format!("write {value}"));
                None
            }
            Meaning::Text
            | Meaning::Null
            | Meaning::Whole(_)
            | Meaning::Decimal(_)
            | Meaning::OddNumber
            | Meaning::Date => {
                self.wrong(node, "true or false", "write true or false, without quotes");
                None
            }
        }
    }

    /// A whole number in the key's range.
    pub(super) fn whole(&mut self, entry: Entry<'_>) -> Option<u64> {
        let Kind::Whole { min, max } = entry.key.kind else { return None };
        let help = format!("write a whole number from {min} to {max}, for example: {}", entry.key.example);
        let scalar = self.scalar(entry.value, "a whole number", &help)?;
        match scalar.meaning() {
            Meaning::Whole(number) => {
                let fits = u64::try_from(number).ok().filter(|number| (min..=max).contains(number));
                if fits.is_none() {
                    let message = format!("`{}` can't be {number}", entry.key.name);
                    self.error("out-of-range", &entry.value.span, message).help(help);
                }
                fits
            }
            Meaning::Text
            | Meaning::Null
            | Meaning::Bool(_)
            | Meaning::YesNo(_)
            | Meaning::Decimal(_)
            | Meaning::OddNumber
            | Meaning::Date => {
                self.wrong(entry.value, "a whole number", help);
                None
            }
        }
    }

    /// A number above 0, up to the key's greatest.
    pub(super) fn decimal(&mut self, entry: Entry<'_>) -> Option<f64> {
        let Kind::Decimal { max } = entry.key.kind else { return None };
        let help = format!("write a number above 0, at most {max}, for example: {}", entry.key.example);
        let scalar = self.scalar(entry.value, "a number", &help)?;
        let number = match scalar.meaning() {
            #[expect(clippy::cast_precision_loss, reason = "the range check below ends far under 2^53")]
            Meaning::Whole(number) => number as f64,
            Meaning::Decimal(number) => number,
            Meaning::Text
            | Meaning::Null
            | Meaning::Bool(_)
            | Meaning::YesNo(_)
            | Meaning::OddNumber
            | Meaning::Date => {
                self.wrong(entry.value, "a number", help);
                return None;
            }
        };
        if number > 0.0 && number <= max {
            return Some(number);
        }
        self.error("out-of-range", &entry.value.span, format!("`{}` can't be {number}", entry.key.name))
            .help(help);
        None
    }

    /// An age.
    pub(super) fn age(&mut self, node: &Node) -> Option<Age> {
        let scalar = self.scalar(node, "an age", "write a whole number and h, d or w: 24h, 90d, 2w")?;
        match Age::parse(&scalar.text) {
            Ok(age) => Some(age),
            Err(bad) => {
                self.error("bad-age", &node.span, one_line(&bad.message)).help(bad.help);
                None
            }
        }
    }

    /// An age, or `none`.
    pub(super) fn keep_copy(&mut self, node: &Node) -> Option<KeepCopy> {
        let help = "write an age such as 30d, or none for no copies";
        let scalar = self.scalar(node, "an age or `none`", help)?;
        if scalar.text == "none" {
            return Some(KeepCopy::None);
        }
        match scalar.meaning() {
            Meaning::Bool(_) | Meaning::YesNo(_) => {
                self.wrong(node, "an age or `none`", help);
                None
            }
            Meaning::Text
            | Meaning::Null
            | Meaning::Whole(_)
            | Meaning::Decimal(_)
            | Meaning::OddNumber
            | Meaning::Date => self.age(node).map(KeepCopy::For),
        }
    }
}
