//! A lead as the portal's `crm.item.*` methods return it, and how its fields are read: never guessed.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest lead id: Bitrix24 keeps ids in a signed 32-bit column.
pub const MAX_LEAD_ID: i64 = i32::MAX as i64;

/// The id of a lead, 1 … 2³¹−1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct LeadId(u32);

/// A number that is no lead id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a lead id: ids go from 1 to {MAX_LEAD_ID}")]
pub struct NotALeadId(String);

impl LeadId {
    /// The number itself.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for LeadId {
    type Error = NotALeadId;

    fn try_from(id: i64) -> Result<LeadId, NotALeadId> {
        match u32::try_from(id) {
            Ok(small) if (1..=MAX_LEAD_ID).contains(&id) => Ok(LeadId(small)),
            Ok(_) | Err(_) => Err(NotALeadId(id.to_string())),
        }
    }
}

impl From<LeadId> for i64 {
    fn from(id: LeadId) -> i64 {
        i64::from(id.0)
    }
}

impl std::str::FromStr for LeadId {
    type Err = NotALeadId;

    /// Decimal digits only: no sign, no space.
    fn from_str(text: &str) -> Result<LeadId, NotALeadId> {
        let not = || NotALeadId(format!("`{}`", text.chars().take(32).collect::<String>()));
        if text.is_empty() || text.len() > 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(not());
        }
        text.parse::<i64>().ok().and_then(|id| LeadId::try_from(id).ok()).ok_or_else(not)
    }
}

impl fmt::Display for LeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One lead with the fields that a reply carried.
#[derive(Debug, Clone, PartialEq)]
pub struct Lead {
    /// Its id.
    pub id: LeadId,
    fields: Map<String, Value>,
}

/// Why an element of a reply is no lead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotALead {
    /// The element is no JSON object.
    #[error("an item of the reply is not an object")]
    NotAnObject,
    /// `id` is missing or no lead id.
    #[error("an item of the reply has no usable id")]
    NoId,
}

impl Lead {
    /// A lead from an element of `result.items` (`crm.item.list`) or from `result.item` (`crm.item.get`).
    pub fn from_item(item: Value) -> Result<Lead, NotALead> {
        let Value::Object(fields) = item else { return Err(NotALead::NotAnObject) };
        let id = match fields.get("id") {
            Some(Value::Number(number)) => number.as_i64().and_then(|id| LeadId::try_from(id).ok()),
            Some(Value::String(text)) => text.parse().ok(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
        };
        Ok(Lead { id: id.ok_or(NotALead::NoId)?, fields })
    }

    /// A lead with these fields, for tests and rule tests; `id` among the fields is replaced.
    pub fn new(id: LeadId, mut fields: Map<String, Value>) -> Lead {
        fields.insert("id".to_owned(), Value::from(i64::from(id)));
        Lead { id, fields }
    }

    /// The raw value of a field; `None` where the reply had no such key.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// All fields, for the copy that is kept before a deletion.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}

/// A number as the portal writes it: a JSON number, or decimal digits in a string (`"15000.00"`), a money field with
/// its currency behind a bar (`"15000.00|EUR"`) included. `None` for everything else, the empty string included.
pub fn read_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => {
            let digits = text.split('|').next().unwrap_or_default();
            let plain = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
            if plain { digits.parse::<f64>().ok().filter(|number| number.is_finite()) } else { None }
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A yes or no as the portal writes it: `Y`/`N`, `1`/`0`, `true`/`false`. `None` for everything else.
pub fn read_flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.as_str() {
            "Y" | "y" | "1" | "true" => Some(true),
            "N" | "n" | "0" | "false" => Some(false),
            _ => None,
        },
        Value::Number(number) => match number.as_i64() {
            Some(1) => Some(true),
            Some(0) => Some(false),
            _ => None,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A date with its offset, as the portal writes dates (ISO 8601, <https://apidocs.bitrix24.com/api-reference/data-types.html>).
/// `None` where there is no offset (it would have to be guessed), and for the epoch's first days, which is what a date
/// that could not be read becomes in too many programs.
pub fn read_time(value: &Value) -> Option<Timestamp> {
    const FIRST_CREDIBLE: i64 = 2 * 24 * 3600;
    let Value::String(text) = value else { return None };
    let at: Timestamp = text.parse().ok()?;
    (at.as_second() >= FIRST_CREDIBLE || at.as_second() < -FIRST_CREDIBLE).then_some(at)
}
