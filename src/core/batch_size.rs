//! How many commands (deletions, or pages of a list) go into one request, so that it ends well inside the 60 seconds
//! after which the portal cuts it (<https://apidocs.bitrix24.com/limits.html>).

/// Most commands in one batch (<https://apidocs.bitrix24.com/settings/how-to-call-rest-api/batch.html>).
pub const MAX: usize = 50;
/// The first batch, before anything is known of this portal.
pub const FIRST: usize = 10;
/// A request should end after about this many seconds.
pub const TARGET_SECONDS: f64 = 15.0;
/// A request that takes longer than this many seconds halves the next one at once.
pub const SLOW_SECONDS: f64 = 25.0;
/// How many deletions a batch grows by at most, unless even a full one is far from the target: one fast answer is no
/// promise.
const STEP: usize = 10;
const MAX_AS_F64: f64 = MAX as f64;

/// The size of the next batch, learnt from the last ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchSize {
    next: usize,
    /// Estimated seconds a command; rises at once, falls slowly.
    seconds_each: Option<f64>,
}

impl Default for BatchSize {
    fn default() -> BatchSize {
        BatchSize::starting_at(FIRST)
    }
}

impl BatchSize {
    /// Begins with `first` commands, 1 to [`MAX`].
    pub fn starting_at(first: usize) -> BatchSize {
        BatchSize { next: first.clamp(1, MAX), seconds_each: None }
    }

    /// How many commands to send next, 1 to [`MAX`].
    pub fn next(&self) -> usize {
        self.next
    }

    /// Whether anything is known of this portal yet.
    pub fn is_learnt(&self) -> bool {
        self.seconds_each.is_some()
    }

    /// Learns from a request that was answered: how many commands it held and how many seconds it took.
    pub fn answered(&mut self, commands: usize, seconds: f64) {
        if commands == 0 || !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 50")]
        let each = seconds / commands as f64;
        let learnt = match self.seconds_each {
            Some(before) if each < before => 0.7 * before + 0.3 * each,
            Some(_) | None => each,
        };
        self.seconds_each = Some(learnt);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 1 … 50 before the cast"
        )]
        let fits = (TARGET_SECONDS / learnt.max(1e-6)).floor().clamp(1.0, MAX as f64) as usize;
        // Where even a full batch at three times this cost would meet the target, there is nothing to be careful about.
        let step = if learnt * MAX_AS_F64 * 3.0 <= TARGET_SECONDS { MAX } else { STEP };
        self.next = fits.min(self.next.saturating_add(step)).clamp(1, MAX);
        if seconds > SLOW_SECONDS {
            self.next = self.next.min((commands / 2).max(1));
        }
    }

    /// Learns from a request that timed out or was cut: halves at once.
    pub fn timed_out(&mut self, commands: usize) {
        self.next = self.next.min((commands / 2).max(1));
        self.seconds_each = Some(self.seconds_each.unwrap_or(0.0).max(TARGET_SECONDS / self.next as f64));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_size_is_always_between_one_and_fifty_and_grows_by_steps_unless_far_from_the_target(
            answers in proptest::collection::vec((0usize..60, 0.0f64..80.0, any::<bool>()), 0..40),
        ) {
            let mut size = BatchSize::default();
            for (deletions, seconds, timed_out) in answers {
                let before = size.next();
                if timed_out { size.timed_out(deletions) } else { size.answered(deletions, seconds) }
                prop_assert!((1..=MAX).contains(&size.next()));
                let far_from_target = seconds * 3.0 * 50.0 <= TARGET_SECONDS * deletions.max(1) as f64;
                prop_assert!(size.next() <= before + STEP || (far_from_target && !timed_out));
                if timed_out { prop_assert!(size.next() <= (deletions / 2).max(1)); }
            }
        }

        #[test]
        fn with_a_steady_portal_requests_settle_under_the_target(each in 0.01f64..14.0) {
            let mut size = BatchSize::default();
            for _ in 0..60 {
                let sent = size.next();
                size.answered(sent, sent as f64 * each);
            }
            prop_assert!(size.next() as f64 * each <= TARGET_SECONDS);
            prop_assert!(size.next() == MAX || (size.next() + 1) as f64 * each > TARGET_SECONDS);
        }
    }
}
