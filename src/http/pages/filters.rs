//! Filters of the templates.

#![expect(unreachable_pub, reason = "askama makes a public type of each filter")]

use std::fmt::Display;

use askama::Values;

use crate::core::figure;

/// A number with its digits in groups of three; whatever is no number stays as it is.
#[askama::filter_fn]
pub(super) fn thousands(number: impl Display, _: &dyn Values) -> askama::Result<String> {
    let text = number.to_string();
    Ok(text.parse().map_or(text, figure::thousands))
}
