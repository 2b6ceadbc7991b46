//! PHP's values: ordered arrays with mixed keys, loose casts, `parse_str`, and the way they become JSON.
//!
//! The portal is written in PHP, and several of its traps (`[]` for an empty map, a list for keys 0..n-1, `(int)` of
//! a non-empty array being 1) are PHP's. They are reproduced here once, so that the methods can be written as the
//! portal's are. Limits: nesting of decoded JSON is serde_json's 128 levels; sizes are bounded by the request body.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A PHP value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Val {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(String),
    /// An array, list or map alike.
    Arr(Arr),
}

/// An array key: PHP turns a decimal string into an integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// An integer key.
    Int(i64),
    /// Any other key.
    Str(String),
}

impl Key {
    pub(super) fn new(text: &str) -> Key {
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Key::Int(number),
            Ok(_) | Err(_) => Key::Str(text.to_owned()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Int(number) => write!(f, "{number}"),
            Key::Str(text) => f.write_str(text),
        }
    }
}

/// An ordered PHP array.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Arr {
    items: Vec<(Key, Val)>,
    next: i64,
}

impl Arr {
    pub(super) fn new() -> Arr {
        Arr::default()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Val)> {
        self.items.iter().map(|(key, value)| (key, value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Val> {
        self.items.iter().map(|(_, value)| value)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Val> {
        let key = Key::new(key);
        self.items.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// `$array[] = $value`.
    pub(super) fn push(&mut self, value: impl Into<Val>) {
        self.items.push((Key::Int(self.next), value.into()));
        self.next = self.next.saturating_add(1);
    }

    /// `$array[$key] = $value`.
    pub(super) fn set(&mut self, key: Key, value: impl Into<Val>) {
        *self.slot(key) = value.into();
    }

    /// Appends under a key that is known to be absent: rows are built with it, a thousand fields a page.
    pub(super) fn field(&mut self, key: &str, value: impl Into<Val>) {
        self.items.push((Key::Str(key.to_owned()), value.into()));
    }

    /// `array_replace($this, $over)`.
    pub(super) fn replace(&mut self, over: Arr) {
        for (key, value) in over.items {
            self.set(key, value);
        }
    }

    fn slot(&mut self, key: Key) -> &mut Val {
        if let Key::Int(number) = key {
            self.next = self.next.max(number.saturating_add(1));
        }
        let at = match self.items.iter().position(|(k, _)| *k == key) {
            Some(at) => at,
            None => {
                self.items.push((key, Val::Null));
                self.items.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "`at` was found or pushed just above")]
        &mut self.items[at].1
    }

    fn is_list(&self) -> bool {
        self.items.iter().zip(0i64..).all(|((key, _), n)| *key == Key::Int(n))
    }
}

impl Val {
    pub(super) fn get(&self, key: &str) -> Option<&Val> {
        self.as_arr().and_then(|array| array.get(key))
    }

    pub(super) fn as_arr(&self) -> Option<&Arr> {
        match self {
            Val::Arr(array) => Some(array),
            Val::Null | Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Str(_) => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Val::Str(text) => Some(text),
            Val::Null | Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Arr(_) => None,
        }
    }

    /// `(int)$value`: leading digits of a string; 1 for any array that is not empty.
    pub(super) fn to_int(&self) -> i64 {
        match self {
            Val::Null => 0,
            Val::Bool(flag) => i64::from(*flag),
            Val::Int(number) => *number,
            Val::Float(number) => *number as i64,
            Val::Str(text) => leading_number(text) as i64,
            Val::Arr(array) => i64::from(!array.is_empty()),
        }
    }

    /// `(float)$value`.
    pub(super) fn to_float(&self) -> f64 {
        match self {
            Val::Float(number) => *number,
            Val::Str(text) => leading_number(text),
            Val::Null | Val::Bool(_) | Val::Int(_) | Val::Arr(_) => self.to_int() as f64,
        }
    }

    /// `(string)$value`.
    pub(super) fn to_text(&self) -> String {
        match self {
            Val::Null | Val::Bool(false) => String::new(),
            Val::Bool(true) => "1".to_owned(),
            Val::Int(number) => number.to_string(),
            Val::Float(number) => number.to_string(),
            Val::Str(text) => text.clone(),
            Val::Arr(_) => "Array".to_owned(),
        }
    }

    /// `(bool)$value`.
    pub(super) fn truthy(&self) -> bool {
        match self {
            Val::Null => false,
            Val::Bool(flag) => *flag,
            Val::Int(number) => *number != 0,
            Val::Float(number) => *number != 0.0,
            Val::Str(text) => !text.is_empty() && text != "0",
            Val::Arr(array) => !array.is_empty(),
        }
    }

    /// `is_numeric`.
    pub(super) fn is_numeric(&self) -> bool {
        match self {
            Val::Int(_) | Val::Float(_) => true,
            Val::Str(text) => text.trim().parse::<f64>().is_ok_and(f64::is_finite),
            Val::Null | Val::Bool(_) | Val::Arr(_) => false,
        }
    }
}

fn leading_number(text: &str) -> f64 {
    let text = text.trim_start();
    let mut end = 0;
    let mut seen_dot = false;
    for (at, c) in text.char_indices() {
        let part = match c {
            '+' | '-' => at == 0,
            '.' => !std::mem::replace(&mut seen_dot, true),
            c => c.is_ascii_digit(),
        };
        if !part {
            break;
        }
        end = at + c.len_utf8();
    }
    text.get(..end).unwrap_or_default().trim_end_matches('.').parse().unwrap_or(0.0)
}

impl From<&str> for Val {
    fn from(text: &str) -> Val {
        Val::Str(text.to_owned())
    }
}
impl From<String> for Val {
    fn from(text: String) -> Val {
        Val::Str(text)
    }
}
impl From<i64> for Val {
    fn from(number: i64) -> Val {
        Val::Int(number)
    }
}
impl From<u32> for Val {
    fn from(number: u32) -> Val {
        Val::Int(i64::from(number))
    }
}
impl From<f64> for Val {
    fn from(number: f64) -> Val {
        Val::Float(number)
    }
}
impl From<bool> for Val {
    fn from(flag: bool) -> Val {
        Val::Bool(flag)
    }
}
impl From<Arr> for Val {
    fn from(array: Arr) -> Val {
        Val::Arr(array)
    }
}
impl From<&serde_json::Value> for Val {
    fn from(json: &serde_json::Value) -> Val {
        // A round trip through text keeps one conversion: the decoder below.
        serde_json::from_str(&json.to_string()).unwrap_or(Val::Null)
    }
}

impl Serialize for Val {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Val::Null => serializer.serialize_unit(),
            Val::Bool(flag) => serializer.serialize_bool(*flag),
            Val::Int(number) => serializer.serialize_i64(*number),
            // PHP writes a whole float without a fraction.
            Val::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                serializer.serialize_i64(*number as i64)
            }
            Val::Float(number) => serializer.serialize_f64(*number),
            Val::Str(text) => serializer.serialize_str(text),
            Val::Arr(array) if array.is_list() => {
                let mut list = serializer.serialize_seq(Some(array.len()))?;
                for value in array.values() {
                    list.serialize_element(value)?;
                }
                list.end()
            }
            Val::Arr(array) => {
                let mut map = serializer.serialize_map(Some(array.len()))?;
                for (key, value) in array.iter() {
                    match key {
                        Key::Str(text) => map.serialize_entry(text, value)?,
                        Key::Int(number) => map.serialize_entry(&number.to_string(), value)?,
                    }
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Val {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Val, D::Error> {
        deserializer.deserialize_any(ValVisitor)
    }
}

struct ValVisitor;

impl<'de> Visitor<'de> for ValVisitor {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<Val, E> {
        Ok(Val::Null)
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Val, E> {
        Ok(Val::Bool(flag))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Val, E> {
        Ok(Val::Int(number))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Val, E> {
        Ok(i64::try_from(number).map_or(Val::Float(number as f64), Val::Int))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Val, E> {
        Ok(Val::Float(number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Val, E> {
        Ok(Val::Str(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Val, A::Error> {
        let mut array = Arr::new();
        while let Some(value) = seq.next_element::<Val>()? {
            array.push(value);
        }
        Ok(Val::Arr(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Val, A::Error> {
        let mut array = Arr::new();
        while let Some((key, value)) = map.next_entry::<String, Val>()? {
            array.set(Key::new(&key), value);
        }
        Ok(Val::Arr(array))
    }
}

/// `urldecode`: `+` is a space, `%XX` a byte; bytes that are no UTF-8 become U+FFFD.
pub(super) fn url_decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// `parse_str`: pairs into nested arrays by the brackets in their names.
pub(super) fn parse_str(query: &str) -> Arr {
    let mut root = Arr::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = url_decode(name);
        let name = name.trim_start();
        let (base, mut rest) = match name.find('[') {
            Some(at) if at > 0 => name.split_at(at),
            Some(_) | None => (name, ""),
        };
        if base.is_empty() {
            continue;
        }
        let base = base.replace(['.', ' '], "_");
        let mut slot = root.slot(Key::new(&base));
        while let Some((key, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            rest = after;
            if slot.as_arr().is_none() {
                *slot = Val::Arr(Arr::new());
            }
            let Val::Arr(array) = slot else { break };
            let key = if key.is_empty() { Key::Int(array.next) } else { Key::new(key) };
            slot = array.slot(key);
        }
        *slot = Val::Str(url_decode(value));
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_keys_and_appended_values_become_arrays() {
        let array = parse_str("filter%5B%3EID%5D=5&select[]=ID&select[]=TITLE&a.b=1+2");
        let json = serde_json::to_string(&Val::Arr(array)).unwrap();
        assert_eq!(json, r#"{"filter":{">ID":"5"},"select":["ID","TITLE"],"a_b":"1 2"}"#);
    }

    #[test]
    fn maps_that_look_like_lists_are_written_as_lists() {
        for (text, written) in
            [("{}", "[]"), (r#"{"0":1,"1":2}"#, "[1,2]"), (r#"{"1":1}"#, r#"{"1":1}"#), ("2.0", "2")]
        {
            let value: Val = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), written);
        }
    }

    #[test]
    fn casts_to_int_are_as_loose_as_in_php() {
        let array = |text: &str| serde_json::from_str::<Val>(text).unwrap().to_int();
        assert_eq!(Val::from("12abc").to_int(), 12);
        assert_eq!(Val::from("abc").to_int(), 0);
        assert_eq!(array("[[5]]"), 1);
        assert_eq!(array("[]"), 0);
    }
}
