//! How old what was read of a lead may be when its deletion is sent. The portal has no conditional delete, so this is
//! the time in which a colleague's change can go unseen.

use jiff::{SignedDuration, Timestamp};

/// A lead that was read longer ago than this is read again before it is deleted.
pub const FRESH: SignedDuration = SignedDuration::from_secs(2);

/// The oldest reading that a second question may give where the portal is always slow.
const SLOW: SignedDuration = SignedDuration::from_secs(15);

/// Whether a reading may still be acted on that the portal made at `at` or later and whose answer came at `answered_at`.
/// The age counts from when the portal can have read it; a portal that is always slow, but not slower than 15 s, is
/// believed when the answer to a second question (`again`) has just come, or nothing would ever end. A clock that was
/// set back makes nothing fresh.
pub fn is_fresh(at: Timestamp, answered_at: Timestamp, now: Timestamp, again: bool) -> bool {
    let within = |since: Timestamp, most: SignedDuration| {
        let age = now.duration_since(since);
        !age.is_negative() && age <= most
    };
    within(at, FRESH) || (again && within(answered_at, FRESH) && within(at, SLOW))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_older_than_two_seconds_is_fresh_but_the_second_answer_of_a_slow_portal(
            at in -20_000_i64..1_000, took in 0_i64..20_000, since in -1_000_i64..20_000, again: bool,
        ) {
            let millis = |millis: i64| Timestamp::from_millisecond(1_780_272_000_000 + millis).unwrap();
            let (answered, now) = (at + took, at + took + since);
            let fresh = is_fresh(millis(at), millis(answered), millis(now), again);
            let age = now - at;
            let expected = (0..=2_000).contains(&age)
                || (again && (0..=2_000).contains(&since) && (0..=15_000).contains(&age));
            prop_assert_eq!(fresh, expected);
        }
    }
}
