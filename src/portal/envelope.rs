//! The reply's JSON: `result` or `error`, and what `time` says about cost. All of it is untrusted.
//!
//! PHP writes an empty map as `[]`, a list with gaps as an object, and numbers now and then as text; this module
//! accepts each of these, and nothing else, in place of what is documented
//! (<https://apidocs.bitrix24.com/settings/how-to-call-rest-api/data-types.html>).

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::errors::{self, CallError};
use super::http::{Answer, Endpoint};
use crate::core::lead::{Lead, read_number};
use crate::core::outcome::Fault;

/// Moments that the portal announces are believed up to this far ahead; its windows are ten minutes long, and an
/// absurd one must not stop a method for days.
const FARTHEST_RESET: f64 = 3600.0;

/// What a call cost, from `time`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    /// Seconds that this call took by the portal's clock.
    pub(super) seconds: Option<f64>,
    /// Seconds that the method has used in its window.
    pub(super) operating: Option<f64>,
    /// The Unix second at which the oldest of them drop.
    reset_at: Option<f64>,
    /// The portal's own time when it had finished, a Unix second.
    finish: Option<f64>,
}

impl Cost {
    /// From a `time` object.
    pub(super) fn read(time: Option<&Value>) -> Cost {
        let number = |key| time.and_then(|time| time.get(key)).and_then(read_number);
        Cost {
            seconds: number("processing").or_else(|| number("duration")).filter(|seconds| *seconds >= 0.0),
            operating: number("operating"),
            reset_at: number("operating_reset_at"),
            finish: number("finish"),
        }
    }

    /// When the oldest seconds drop, on our clock, for a reply that arrived at `now`: the distance is measured on the
    /// portal's clock, so that a difference between the clocks does not count.
    pub(super) fn reset_at(&self, now: Timestamp, portal_now: Option<f64>) -> Option<Timestamp> {
        let reset_at = self.reset_at?;
        let portal_now = self.finish.or(portal_now).unwrap_or_else(|| now.as_duration().as_secs_f64());
        // Both are truncated to seconds in current builds: one more second is never too early.
        let ahead = (reset_at - portal_now + 1.0).clamp(0.0, FARTHEST_RESET);
        now.checked_add(SignedDuration::try_from_secs_f64(ahead).ok()?).ok()
    }

    pub(super) fn finish(&self) -> Option<f64> {
        self.finish
    }
}

/// A reply with a result.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) result: Value,
    pub(super) total: Option<u64>,
    pub(super) next: Option<u64>,
    pub(super) cost: Cost,
}

/// Reads an answer. Everything that is not a JSON object with a `result` and a status of 2xx is an error.
pub(super) fn read(answer: &Answer, endpoint: &Endpoint) -> Result<Reply, CallError> {
    let status = answer.status;
    if (300..400).contains(&status) {
        return Err(errors::from_shape(status, "a redirect, which is not followed"));
    }
    if answer.body.iter().all(u8::is_ascii_whitespace) {
        return Err(errors::from_shape(status, "an empty body"));
    }
    if answer.content_type.as_deref().is_some_and(|kind| !kind.contains("json")) {
        let kind = answer.content_type.as_deref().unwrap_or_default();
        let kind = endpoint.scrub(kind);
        return Err(errors::from_shape(status, &format!("{kind} instead of JSON")));
    }
    let Ok(Value::Object(mut body)) = serde_json::from_slice::<Value>(&answer.body) else {
        return Err(errors::from_shape(status, "no complete JSON object"));
    };
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        return Err(errors::from_json(fault(error, &body, endpoint), status));
    }
    let Some(result) = body.remove("result") else {
        return Err(errors::from_shape(status, "JSON with neither `result` nor `error`"));
    };
    if !(200..300).contains(&status) {
        return Err(errors::from_shape(status, "a result under a status of failure"));
    }
    let whole = |key| body.get(key).and_then(read_number).and_then(whole_number);
    Ok(Reply {
        status,
        result,
        total: whole("total"),
        next: whole("next"),
        cost: Cost::read(body.get("time")),
    })
}

/// A count as the portal writes it.
fn whole_number(number: f64) -> Option<u64> {
    // Counts of leads are below 2^31; within 2^53 the conversion is exact.
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && (0.0..=LARGEST).contains(&number) { Some(number as u64) } else { None }
}

/// The fault of an `error` and its `error_description`; version 3 nests both in `error`.
pub(super) fn fault(error: &Value, body: &Map<String, Value>, endpoint: &Endpoint) -> Fault {
    let (code, text) = match error {
        Value::Object(nested) => (nested.get("code"), nested.get("message")),
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Null => {
            (Some(error), body.get("error_description"))
        }
    };
    endpoint.fault(&words(code), &words(text))
}

fn words(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
            other.to_string()
        }
    }
}

/// A map, where PHP may have written an empty one as `[]` and one with the keys 0, 1, 2 … as a list.
pub(super) fn map(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        Value::Array(list) => {
            Some(list.into_iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// A list, where PHP may have written one with gaps as an object.
pub(super) fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        Value::Object(map) => Some(map.into_iter().map(|(_, item)| item).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The leads of a list's `result`.
pub(super) fn leads(result: Value) -> Result<Vec<Lead>, String> {
    let Value::Object(mut result) = result else { return Err("`result` is no object".to_owned()) };
    let Some(items) = result.remove("items").and_then(list) else {
        return Err("`result.items` is no list".to_owned());
    };
    items.into_iter().map(|item| Lead::from_item(item).map_err(|why| why.to_string())).collect()
}
