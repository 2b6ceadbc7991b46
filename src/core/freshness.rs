//! How old what was read of a lead may be when its deletion is sent. The portal has no conditional delete, so this is
//! the time in which a colleague's change can go unseen.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// A lead that was read longer ago than this is read again before it is deleted.
pub const FRESH: SignedDuration = SignedDuration::from_secs(2);

/// The oldest reading that a second question may give where the portal is always slow.
const SLOW: SignedDuration = SignedDuration::from_secs(15);

/// By how much the two clocks of a [`Moment`] may differ over a few seconds: far more than the time between looking at one
/// and at the other, or than a clock that is only being slowed, and too little to hide a change.
const AGREE: SignedDuration = SignedDuration::from_millis(50);

/// A moment on two clocks: the wall's, which people and programs set, and one that nobody sets, but that stands still
/// while the machine sleeps. Each shows what the other hides.
///
/// ```
/// use std::time::Instant;
///
/// use b24_janitor::core::freshness::{Moment, is_fresh};
/// use jiff::{SignedDuration, Timestamp};
///
/// let read = Moment { wall: Timestamp::UNIX_EPOCH, steady: Instant::now() };
/// let later = read.after(SignedDuration::from_secs(1));
/// assert!(is_fresh(read, read, later, false));
/// assert!(!is_fresh(read, read, read.after(SignedDuration::from_secs(3)), false), "it is too old");
/// // Somebody set the wall's clock: the two disagree, and nothing is fresh.
/// let set = Moment { wall: read.wall, ..later };
/// assert!(!is_fresh(read, read, set, false));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// On the wall's clock.
    pub wall: Timestamp,
    /// On the steady one.
    pub steady: Instant,
}

impl Moment {
    /// The moment `time` later; a time below zero counts as none.
    #[must_use]
    pub fn after(self, time: SignedDuration) -> Moment {
        let steady = self.steady.checked_add(time.max(SignedDuration::ZERO).unsigned_abs());
        Moment {
            wall: self.wall.saturating_add(time.max(SignedDuration::ZERO)).unwrap_or(Timestamp::MAX),
            steady: steady.unwrap_or(self.steady),
        }
    }

    /// How long before `now` it was; `None` where the clocks disagree: one was set, or the machine slept.
    fn age(self, now: Moment) -> Option<SignedDuration> {
        let wall = now.wall.duration_since(self.wall);
        let steady = now.steady.saturating_duration_since(self.steady);
        let steady = SignedDuration::try_from(steady).unwrap_or(SignedDuration::MAX);
        let apart = wall.checked_sub(steady)?;
        (apart.abs() <= AGREE).then(|| wall.max(steady))
    }

    /// What the wall's clock shows for everything that comes after this moment, or a little earlier: where the clock was
    /// set back by more, nothing read before is fresh.
    pub fn heard_since(self) -> Timestamp {
        self.wall.saturating_sub(AGREE).unwrap_or(Timestamp::MIN)
    }
}

/// When a list was read at the earliest that a request ran as its last part: after the other parts, each of which `took` so
/// many seconds by the portal's clock. `whole` are the seconds from sending the request to its reply; where the parts say
/// that they took longer than that, or less than no time, they are believed in nothing.
pub fn read_last(sent: Moment, took: &[f64], whole: f64) -> Moment {
    let work: f64 = took.iter().sum();
    let believed = took.iter().all(|seconds| *seconds >= 0.0) && work <= whole;
    let work = SignedDuration::try_from_secs_f64(work).ok().filter(|_| believed);
    sent.after(work.unwrap_or_default())
}

/// Whether a reading may still be acted on that the portal made at `at` or later and whose answer came at `answered`.
/// The age counts from when the portal can have read it; a portal that is always slow, but not slower than 15 s, is
/// believed when the answer to a second question (`again`) has just come, or nothing would ever end. A clock that was
/// set, and a machine that slept, make nothing fresh.
///
/// ```
/// use b24_janitor::{clock::Clock, core::freshness::{Moment, is_fresh}};
/// use jiff::SignedDuration;
///
/// let read = Clock::System.moment();
/// let answered = read.after(SignedDuration::from_millis(300));
/// let sent = read.after(SignedDuration::from_secs(1));
/// assert!(is_fresh(read, answered, sent, false));
/// // A minute later, and someone has set the clock back by it.
/// let set_back = Moment { wall: sent.wall, ..read.after(SignedDuration::from_mins(1)) };
/// assert!(!is_fresh(read, answered, set_back, false));
/// ```
pub fn is_fresh(at: Moment, answered: Moment, now: Moment, again: bool) -> bool {
    let within = |since: Moment, most: SignedDuration| since.age(now).is_some_and(|age| age <= most);
    within(at, FRESH) || (again && within(answered, FRESH) && within(at, SLOW))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn moment(wall: i64, steady: u64) -> Moment {
        static BOOT: std::sync::LazyLock<Instant> =
            std::sync::LazyLock::new(|| tokio::time::Instant::now().into_std());
        Moment {
            wall: Timestamp::from_millisecond(1_780_272_000_000 + wall).unwrap(),
            steady: *BOOT + Duration::from_millis(steady),
        }
    }

    #[test]
    fn a_list_was_read_after_the_work_before_it_unless_that_took_longer_than_all_of_it() {
        let sent = moment(0, 0);
        for (took, whole, expected) in [
            (vec![0.5, 0.75], 31.0, 1_250),
            (vec![], 31.0, 0),
            (vec![20.0, 11.5], 31.0, 0),
            (vec![5.0, -1.0], 31.0, 0),
            (vec![f64::NAN, 1.0], 31.0, 0),
            (vec![f64::INFINITY], f64::INFINITY, 0),
        ] {
            assert_eq!(read_last(sent, &took, whole), moment(expected, expected.unsigned_abs()), "{took:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_older_than_two_seconds_is_fresh_but_the_second_answer_of_a_slow_portal(
            at in 0_u32..1_000, took in 0_u32..20_000, since in 0_u32..20_000, again: bool,
        ) {
            let millis = |millis: u32| moment(i64::from(millis), u64::from(millis));
            let (answered, now) = (at + took, at + took + since);
            let fresh = is_fresh(millis(at), millis(answered), millis(now), again);
            let age = now - at;
            let expected = age <= 2_000 || (again && since <= 2_000 && age <= 15_000);
            prop_assert_eq!(fresh, expected);
        }

        /// Whatever the clock was set to meanwhile, and however long the machine slept.
        #[test]
        fn what_is_fresh_is_so_on_both_clocks(
            wall in -30_000_i64..30_000, steady in 0_u64..30_000, took in 0_u64..3_000, again: bool,
        ) {
            let (at, now) = (moment(0, 0), moment(wall, steady));
            let answered = moment(took.min(steady).cast_signed(), took.min(steady));
            let most = if again { 15_000_u64 } else { 2_000 };
            if is_fresh(at, answered, now, again) {
                prop_assert!(steady <= most && wall <= most.cast_signed() && wall.abs_diff(steady.cast_signed()) <= 50);
            }
            if wall.abs_diff(steady.cast_signed()) <= 50 && steady.max(wall.unsigned_abs()) <= 2_000 {
                prop_assert!(is_fresh(at, answered, now, again));
            }
        }

        /// A clock that was set back by less than makes a reading stale hides no event that came after it.
        #[test]
        fn no_event_after_a_fresh_reading_is_overlooked(
            back in 0_i64..3_000, heard in 0_u64..2_000, since in 0_u64..2_000,
        ) {
            let (at, steady) = (moment(0, 0), heard + since);
            let now = moment(steady.cast_signed() - back, steady);
            let stamped = moment(heard.cast_signed() - back, heard).wall;
            if is_fresh(at, at, now, false) {
                prop_assert!(stamped >= at.heard_since());
            }
        }
    }
}
