//! The body of an event: `application/x-www-form-urlencoded`, read strictly.
//!
//! A lenient decoder would turn a damaged body into a different event. So a stray `%`, bytes that are no UTF-8 and a
//! piece without `=` make the whole body unreadable. Keys are taken literally after decoding: `data[FIELDS][ID]`, sent
//! with literal or with encoded brackets, is that one key
//! (<https://apidocs.bitrix24.com/api-reference/events/index.html>).

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use url::form_urlencoded;

/// The most pairs that a body may have. An event has about fifteen; ten thousand tiny ones in 64 KiB are an attack on
/// whoever builds a map of them.
pub(super) const MAX_PAIRS: usize = 256;

/// Why a body is no form that the portal would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAForm {
    /// It has more than [`MAX_PAIRS`] pairs.
    TooManyPairs,
    /// A `%` without two hexadecimal digits, bytes that are no UTF-8, or a piece without `=`.
    Malformed,
}

/// A key that must be unique is there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubled;

/// The decoded pairs that were wanted, in the order of the body; a text without an escape is the body's own.
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Form<'static> {
    /// Reads a body, and keeps all of it.
    pub(super) fn parse(body: &[u8]) -> Result<Form<'static>, NotAForm> {
        let Form(pairs) = Form::with(body, |_| true)?;
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Ok(Form(pairs.into_iter().map(|(key, value)| (owned(key), owned(value))).collect()))
    }
}

impl<'a> Form<'a> {
    /// Reads a whole body, and keeps the pairs whose key is `wanted`.
    pub(super) fn with(body: &'a [u8], wanted: impl Fn(&str) -> bool) -> Result<Form<'a>, NotAForm> {
        let pieces = || body.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty());
        if pieces().count() > MAX_PAIRS {
            return Err(NotAForm::TooManyPairs);
        }
        if !pieces().all(|piece| piece.contains(&b'=')) || !well_encoded(body) {
            return Err(NotAForm::Malformed);
        }
        serde_urlencoded::Deserializer::new(form_urlencoded::parse(body))
            .deserialize_seq(Wanted(wanted))
            .map(Form)
            .map_err(|_| NotAForm::Malformed)
    }

    /// The value of a key that may be there at most once.
    pub(super) fn one(&self, key: &str) -> Result<Option<&str>, Doubled> {
        let mut values = self.values(key);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Doubled),
        }
    }

    /// The first value of a key that decides nothing.
    pub(super) fn first(&self, key: &str) -> Option<&str> {
        self.values(key).next()
    }

    fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_ref())
    }
}

/// A key or a value.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Keeps the pairs whose key it wants.
struct Wanted<F>(F);

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Wanted<F> {
    type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a form")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while let Some((Text(key), Text(value))) = pairs.next_element()? {
            if (self.0)(&key) {
                kept.push((key, value));
            }
        }
        Ok(kept)
    }
}

/// Whether every `%` starts an escape and the whole decodes to UTF-8. An escape cannot reach over a `&` or `=`, and
/// neither can a character's bytes, so that looking at the whole is looking at every piece.
fn well_encoded(body: &[u8]) -> bool {
    let escapes_whole = body
        .split(|byte| *byte == b'%')
        .skip(1)
        .all(|after| matches!(after, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()));
    let mut decoded = Vec::with_capacity(body.len());
    decoded.extend(percent_decode(body));
    escapes_whole && std::str::from_utf8(&decoded).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(body: &str) -> Result<Vec<(String, String)>, NotAForm> {
        Form::parse(body.as_bytes()).map(|form| {
            form.0.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
        })
    }

    fn pairs(list: &[(&str, &str)]) -> Result<Vec<(String, String)>, NotAForm> {
        Ok(list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn brackets_may_be_literal_or_encoded_in_either_case() {
        let expected = pairs(&[("data[FIELDS][ID]", "7")]);
        for body in ["data[FIELDS][ID]=7", "data%5BFIELDS%5D%5BID%5D=7", "data%5bFIELDS%5d[ID]=%37"] {
            assert_eq!(parse(body), expected, "{body}");
        }
    }

    #[test]
    fn damaged_encodings_are_refused_and_not_guessed() {
        for body in
            ["a=%", "a=%4", "a=%zz", "a=%+1", "%5=1", "a=%ff", "a=%c3&b=%a4", "a", "{\"a\":1}", "a=1&b"]
        {
            assert_eq!(parse(body), Err(NotAForm::Malformed), "{body}");
        }
        assert_eq!(Form::parse(b"a=\xff").err(), Some(NotAForm::Malformed));
        assert_eq!(parse("a=%25zz"), pairs(&[("a", "%zz")]), "an escaped percent sign is one");
    }

    #[test]
    fn the_number_of_pairs_is_bounded() {
        let body = |count: usize| vec!["a=1"; count].join("&");
        assert_eq!(parse(&body(MAX_PAIRS)).map(|pairs| pairs.len()), Ok(MAX_PAIRS));
        assert_eq!(parse(&body(MAX_PAIRS + 1)), Err(NotAForm::TooManyPairs));
    }

    #[test]
    fn a_key_that_must_be_unique_is_refused_twice_even_with_equal_values() {
        let form = Form::with(b"a=1&b=2&a%3D=3&c=4&b=2", |key| key != "c").ok().unwrap();
        assert_eq!(form.one("a"), Ok(Some("1")));
        assert_eq!(form.one("b"), Err(Doubled));
        assert_eq!(form.one("c"), Ok(None), "nobody wanted it");
        assert_eq!(form.first("b"), Some("2"));
    }

    proptest! {
        #[test]
        fn what_an_encoder_writes_is_read_back(pairs in prop::collection::vec((".{0,20}", ".{0,20}"), 0..20)) {
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            prop_assert_eq!(parse(&body), Ok(pairs));
        }

        #[test]
        fn no_bytes_make_it_panic_or_yield_more_than_the_limit(body in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(form) = Form::parse(&body) {
                prop_assert!(form.0.len() <= MAX_PAIRS);
            }
        }
    }
}
