//! How long to wait before another try.

use jiff::{SignedDuration, Timestamp};

/// The first delay.
pub const FIRST: SignedDuration = SignedDuration::from_secs(5);
/// The longest delay: a portal that was down for a night is asked again soon after.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(2);

/// The delay before try number `tries` + 1, `tries` of them having failed: `min(2 h, 5 s · 2ⁿ) · (0.8 … 1.2)`, where
/// `jitter` is a random number in 0 … 1 that keeps many programs from coming back at the same moment.
///
/// ```
/// use b24_janitor::core::retry::{LONGEST, delay};
///
/// let seconds: Vec<i64> = (0..4).map(|failed| delay(failed, 0.5).as_secs()).collect();
/// assert_eq!(seconds, [5, 10, 20, 40]);
/// assert_eq!(delay(40, 0.5), LONGEST);
/// ```
pub fn delay(tries: u32, jitter: f64) -> SignedDuration {
    let doubled = FIRST.as_secs().saturating_mul(1i64.checked_shl(tries.min(32)).unwrap_or(i64::MAX));
    let seconds = doubled.min(LONGEST.as_secs());
    #[expect(clippy::cast_precision_loss, reason = "at most 7,200")]
    let seconds = seconds as f64 * (0.8 + 0.4 * jitter.clamp(0.0, 1.0));
    SignedDuration::try_from_secs_f64(seconds).unwrap_or(LONGEST)
}

/// The moment of the next try.
pub fn at(now: Timestamp, tries: u32, jitter: f64) -> Timestamp {
    now.checked_add(delay(tries, jitter)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_delay_stays_within_a_fifth_of_the_doubling_and_under_its_longest(tries in 0u32..200, jitter in 0.0f64..=1.0) {
            let middle = (5.0 * 2f64.powi(tries.min(40) as i32)).min(7200.0);
            let seconds = delay(tries, jitter).as_secs_f64();
            prop_assert!(seconds >= middle * 0.8 - 1e-6 && seconds <= middle * 1.2 + 1e-6);
        }

        #[test]
        fn delays_never_shrink_before_jitter(tries in 0u32..100, jitter in 0.0f64..=1.0) {
            prop_assert!(delay(tries, jitter) <= delay(tries + 1, jitter));
        }
    }
}
