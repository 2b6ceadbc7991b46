//! Comparing a presented secret with the configured ones, so that the time it takes tells nothing.
//!
//! Every comparison looks at every configured token to its end, over one width that depends only on the longest of
//! them; a token's own length is not to be learnt. An empty token never matches.

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use subtle::{Choice, ConstantTimeEq};

/// Tokens are padded to a multiple of this many bytes, so that the width gives away a rough length only.
const WIDTH_STEP: usize = 64;

/// The configured tokens, ready to be compared.
pub(super) struct Tokens {
    width: usize,
    tokens: Vec<Padded>,
}

struct Padded {
    bytes: SecretSlice<u8>,
    length: u64,
}

impl Tokens {
    /// The non-empty ones of `tokens`; `None` where there are none, since nothing could ever match.
    pub(super) fn new(tokens: &[SecretString]) -> Option<Tokens> {
        let usable: Vec<&str> =
            tokens.iter().map(ExposeSecret::expose_secret).filter(|token| !token.is_empty()).collect();
        let longest = usable.iter().map(|token| token.len()).max()?;
        let width = longest.next_multiple_of(WIDTH_STEP);
        let tokens = usable
            .into_iter()
            .map(|token| Padded { bytes: pad(token.as_bytes(), width).into(), length: length(token) })
            .collect();
        Some(Tokens { width, tokens })
    }

    /// Whether `presented` is one of the tokens.
    pub(super) fn accept(&self, presented: &str) -> bool {
        let bytes = pad(presented.as_bytes(), self.width);
        let presented_length = length(presented);
        let mut found = Choice::from(0);
        for token in &self.tokens {
            found |= token.bytes.expose_secret().ct_eq(&bytes) & token.length.ct_eq(&presented_length);
        }
        found.into()
    }
}

fn pad(bytes: &[u8], width: usize) -> Vec<u8> {
    let mut padded: Vec<u8> = bytes.iter().copied().take(width).collect();
    padded.resize(width, 0);
    padded
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// How a secret was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// By a program that was given it.
    Bearer,
    /// Maybe by a browser, which repeats it by itself.
    Basic,
}

/// The secret in an `Authorization` header: a bearer token, or the password of a Basic login, whatever its user.
pub(super) fn presented(headers: &HeaderMap) -> Option<(Scheme, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Some((Scheme::Bearer, rest.trim().to_owned()))
    } else if scheme.eq_ignore_ascii_case("basic") {
        let login = String::from_utf8(base64(rest.trim())?).ok()?;
        login.split_once(':').map(|(_user, password)| (Scheme::Basic, password.to_owned()))
    } else {
        None
    }
}

/// Decodes standard base64, with or without padding; `None` for anything else. A Basic login is all that needs it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(words: &[&str]) -> Option<Tokens> {
        Tokens::new(&words.iter().map(|word| SecretString::from(*word)).collect::<Vec<_>>())
    }

    #[test]
    fn each_configured_token_is_accepted_and_nothing_near_it() {
        let long = "x".repeat(200);
        let ours = tokens(&["first", "second", &long]).unwrap();
        for good in ["first", "second", &long] {
            assert!(ours.accept(good), "{good}");
        }
        let longer = format!("{long}x");
        for bad in
            ["", "firs", "first\0", "first ", "FIRST", "firstsecond", "first,second", &long[1..], &longer]
        {
            assert!(!ours.accept(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_token_that_fills_the_width_is_no_prefix_of_a_longer_one() {
        let full = "y".repeat(WIDTH_STEP);
        let ours = tokens(&[&full]).unwrap();
        assert!(ours.accept(&full));
        assert!(!ours.accept(&format!("{full}z")));
    }

    #[test]
    fn empty_tokens_are_no_tokens() {
        assert!(tokens(&[]).is_none());
        assert!(tokens(&["", ""]).is_none());
        assert!(!tokens(&["", "real"]).unwrap().accept(""));
    }

    fn header(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        presented(&headers).map(|(_, secret)| secret)
    }

    #[test]
    fn the_secret_is_read_from_a_bearer_and_from_a_basic_header() {
        assert_eq!(header("Bearer s3cret").as_deref(), Some("s3cret"));
        assert_eq!(header("bearer  s3cret ").as_deref(), Some("s3cret"));
        assert_eq!(header("Basic YWRtaW46czNjcmV0").as_deref(), Some("s3cret"));
        assert_eq!(header("basic OnMzOmNy").as_deref(), Some("s3:cr"), "a password may hold a colon");
        for bad in ["Bearer", "Basic", "Basic !!!!", "Basic YWRtaW4=", "Digest x", "Basic Y"] {
            assert_eq!(header(bad), None, "{bad}");
        }
        assert_eq!(presented(&HeaderMap::new()), None);
    }

    #[test]
    fn base64_agrees_with_the_vectors_of_rfc_4648() {
        for (text, plain) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
    }
}
