//! Hides our secrets in a server's words, should it have repeated them: as they are, and as they stand in an address.
//!
//! The invariant: what the documentation says is no secret. A known phrase stays whole whatever the secrets are, so that
//! a secret that is by chance a part of it ("grant" in "invalid_grant") changes no meaning and is not given away either.

use std::ops::Range;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands in a secret's place.
const MASK: &str = "***";

/// The text without the secrets. `public` are the phrases that stay.
pub(crate) fn mask<'a>(
    text: &str,
    secrets: impl IntoIterator<Item = &'a str>,
    public: impl IntoIterator<Item = &'static str>,
) -> String {
    let mut hidden = vec![false; text.len()];
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        for form in forms(secret) {
            occurrences(text, &form).for_each(|range| fill(&mut hidden, range, true));
        }
    }
    if !hidden.contains(&true) {
        return text.to_owned();
    }
    for phrase in public.into_iter().filter(|phrase| !phrase.is_empty()) {
        occurrences(text, phrase).for_each(|range| fill(&mut hidden, range, false));
    }
    let mut masked = String::with_capacity(text.len());
    let mut within = false;
    for ((_, character), hide) in text.char_indices().zip(starts(text, &hidden)) {
        if !hide {
            masked.push(character);
        } else if !within {
            masked.push_str(MASK);
        }
        within = hide;
    }
    masked
}

/// A secret as it may be written: plain, and percent-encoded with digits of either case.
fn forms(secret: &str) -> Vec<String> {
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    // Encoders differ in what they leave alone; these are what tokens and keys are made of.
    let usual = [("%2D", "-"), ("%2E", "."), ("%5F", "_"), ("%7E", "~")]
        .iter()
        .fold(encoded.clone(), |text, (code, plain)| text.replace(code, plain));
    let lower = |text: &str| {
        let mut pieces = text.split('%');
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |joined, piece| match piece.split_at_checked(2) {
            Some((digits, rest)) => format!("{joined}%{}{rest}", digits.to_ascii_lowercase()),
            None => format!("{joined}%{piece}"),
        })
    };
    let mut forms = vec![secret.to_owned(), lower(&encoded), lower(&usual), encoded, usual];
    forms.sort();
    forms.dedup();
    forms
}

/// Every place of a piece, those that overlap included.
fn occurrences(text: &str, piece: &str) -> impl Iterator<Item = Range<usize>> {
    let starts = text.char_indices().map(|(start, _)| start);
    starts
        .filter(move |start| text.get(*start..).is_some_and(|rest| rest.starts_with(piece)))
        .map(move |start| start..start + piece.len())
}

fn fill(hidden: &mut [bool], range: Range<usize>, value: bool) {
    if let Some(part) = hidden.get_mut(range) {
        part.fill(value);
    }
}

/// Whether each character is hidden.
fn starts<'a>(text: &'a str, hidden: &'a [bool]) -> impl Iterator<Item = bool> + 'a {
    text.char_indices().map(|(start, _)| hidden.get(start).copied().unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_form_it_has_in_an_address() {
        for text in ["key k+y/1=é here", "key k%2By%2F1%3D%C3%A9 here", "key k%2by%2f1%3d%c3%a9 here"] {
            assert_eq!(mask(text, ["k+y/1=é"], []), "key *** here", "{text}");
        }
        assert_eq!(mask("a=x-1_2.3%204", ["x-1_2.3 4"], []), "a=***");
    }

    #[test]
    fn overlapping_secrets_leave_no_rest_behind() {
        assert_eq!(mask("abcdef", ["abcd", "cdef"], []), "***");
        assert_eq!(mask("aaaa b", ["aaa"], []), "*** b");
    }

    #[test]
    fn what_the_documentation_says_stays_whole() {
        assert_eq!(mask("invalid_grant", ["grant"], ["invalid_grant"]), "invalid_grant");
        assert_eq!(
            mask("SQL query error s3cr3t", ["error s3cr3t"], ["SQL query error"]),
            "SQL query error***"
        );
        assert_eq!(mask("no grant", ["grant"], ["invalid_grant"]), "no ***");
    }

    proptest! {
        #[test]
        fn no_secret_outlives_it(text in "[abc%é]{0,12}", secret in "[abcdé]{1,4}", after in "[abcé]{0,6}") {
            let masked = mask(&format!("{text}{secret}{after}"), [secret.as_str()], []);
            prop_assert!(!masked.contains(&secret), "{masked}");
        }
    }
}
