//! How an estimate of a drain is told.

use super::print::about;
use crate::core::estimate::Estimate;

/// An estimate in half a sentence: "about 25 min, limited by …, measured".
pub(super) fn estimated(estimate: &Estimate) -> String {
    let source = if estimate.measured { "as measured here" } else { "assuming 0.5 s a deletion" };
    format!("{}, limited by {}, {source}", about(estimate.seconds), estimate.limited_by.words())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::estimate::LimitedBy;

    #[test]
    fn an_estimate_says_how_long_by_what_and_how_it_is_known() {
        let told = Estimate { seconds: 1500.0, limited_by: LimitedBy::OperatingBudget, measured: false };
        let words = "about 25 min, limited by the portal's operating budget, assuming 0.5 s a deletion";
        assert_eq!(estimated(&told), words);
    }
}
