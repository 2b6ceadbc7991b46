//! How long the portal needs for so many deletions at its limits, and which of the limits decides.
//!
//! Invariants: never shorter than the best that the limits allow; more leads never take less time. An estimate, not a
//! promise: what others use of the portal, and what the network adds, is not in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule::PortalLimits;

/// What one deletion is taken to cost until the portal has said what it does, in seconds of its work.
pub const ASSUMED_SECONDS: f64 = 0.5;

/// Deletions in one request at most: the portal takes 50 commands in a batch, and the last one reads
/// (<https://apidocs.bitrix24.com/api-reference/how-to-call-rest-api/batch.html>).
const LARGEST_BATCH: f64 = 49.0;

/// How long a request is aimed to take: as in [`super::batch_size`].
const AIM_SECONDS: f64 = 15.0;

/// The length of the portal's operating window (<https://apidocs.bitrix24.com/limits.html>).
const WINDOW_SECONDS: f64 = 600.0;

const DAY_SECONDS: f64 = 86_400.0;

/// What an estimate starts from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Leads to delete.
    pub leads: u64,
    /// What the portal allows.
    pub limits: PortalLimits,
    /// What one deletion costs, in seconds of the portal's work; `None` where nothing was measured.
    pub seconds_per_delete: Option<f64>,
    /// Requests in the portal's bucket now.
    pub level: f64,
    /// Seconds of the method's operating budget that are used up now.
    pub used_seconds: f64,
}

/// What decides how long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// The requests a second, once the burst is used up.
    Requests,
    /// The operating seconds that the method may use in the portal's window.
    OperatingBudget,
    /// The time that the deletions themselves take.
    DeletionTime,
    /// The rule's `deletes_per_day`.
    DeletesPerDay,
}

impl LimitedBy {
    /// The limit in words, after "limited by".
    pub fn words(self) -> &'static str {
        match self {
            LimitedBy::Requests => "requests per second",
            LimitedBy::OperatingBudget => "the portal's operating budget",
            LimitedBy::DeletionTime => "the time that deletions take",
            LimitedBy::DeletesPerDay => "deletes_per_day",
        }
    }
}

/// How long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// From now to the last deletion, in seconds.
    pub seconds: f64,
    /// What decides.
    pub limited_by: LimitedBy,
    /// Whether the cost of a deletion was measured on this portal, or assumed.
    pub measured: bool,
}

impl fmt::Display for Estimate {
    /// In half a sentence: "about 25 min, limited by …, as measured here".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = if self.measured { "as measured here" } else { "assuming 0.5 s a deletion" };
        write!(f, "{}, limited by {}, {source}", about(self.seconds), self.limited_by.words())
    }
}

/// A length of time as people say it: "about 25 min".
fn about(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 3600.0;
    match seconds {
        few if few < MINUTE => "less than a minute".to_owned(),
        minutes if minutes < 2.0 * HOUR => format!("about {:.0} min", minutes / MINUTE),
        hours if hours < 2.0 * DAY_SECONDS => format!("about {:.0} h", hours / HOUR),
        days => format!("about {:.0} days", days / DAY_SECONDS),
    }
}

/// Estimates a drain.
pub fn estimate(load: &Load) -> Estimate {
    let limits = load.limits;
    let measured = load.seconds_per_delete.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let each = measured.unwrap_or(ASSUMED_SECONDS);
    let leads = whole(load.leads);
    let batch = (AIM_SECONDS / each).floor().clamp(1.0, LARGEST_BATCH);
    let requests = (leads / batch).ceil();
    let work = leads * each;

    let level = load.level.max(0.0);
    let over = (requests + level - f64::from(limits.burst)).max(0.0);
    let by_requests = if requests > 0.0 { over / limits.requests_per_second } else { 0.0 };
    let free = (limits.method_seconds - load.used_seconds.max(0.0)).max(0.0);
    let by_budget = (work - free).max(0.0) * WINDOW_SECONDS / limits.method_seconds;
    let by_deletions = work / f64::from(limits.concurrency.max(1));

    let mut found =
        Estimate { seconds: by_deletions, limited_by: LimitedBy::DeletionTime, measured: measured.is_some() };
    for (seconds, limited_by) in [(by_budget, LimitedBy::OperatingBudget), (by_requests, LimitedBy::Requests)]
    {
        if seconds > found.seconds {
            found = Estimate { seconds, limited_by, ..found };
        }
    }
    found
}

impl Estimate {
    /// The same under a rule's cap of `per_day` deletions in 24 hours, of which none is used up yet.
    #[must_use]
    pub fn capped(self, leads: u64, per_day: u64) -> Estimate {
        let days = whole(leads.saturating_sub(1) / per_day.max(1));
        let seconds = days * DAY_SECONDS;
        if seconds > self.seconds {
            Estimate { seconds, limited_by: LimitedBy::DeletesPerDay, ..self }
        } else {
            self
        }
    }
}

/// Counts beyond 2⁵³ leads do not occur: ids have 31 bits.
#[expect(clippy::cast_precision_loss, reason = "a lead's id has 31 bits")]
fn whole(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load() -> impl Strategy<Value = Load> {
        (
            0u64..2_000_000,
            (0.1f64..50.0, 1u32..300, 1.0f64..1000.0, 1u8..9),
            proptest::option::of(0.0f64..20.0),
            0.0f64..300.0,
            0.0f64..1000.0,
        )
            .prop_map(
                |(leads, (rate, burst, budget, lanes), seconds_per_delete, level, used_seconds)| {
                    let limits = PortalLimits {
                        requests_per_second: rate,
                        burst,
                        method_seconds: budget,
                        concurrency: lanes,
                        ..PortalLimits::default()
                    };
                    Load { leads, limits, seconds_per_delete, level, used_seconds }
                },
            )
    }

    proptest! {
        #[test]
        fn more_leads_never_take_less_time(load in load(), more in 0u64..100_000, cap in 1u64..100_000) {
            let fewer = estimate(&load).capped(load.leads, cap);
            let leads = load.leads + more;
            let all = estimate(&Load { leads, ..load }).capped(leads, cap);
            prop_assert!(all.seconds >= fewer.seconds, "{:?} then {:?}", fewer, all);
        }

        #[test]
        fn it_is_never_below_the_best_that_the_limits_allow(load in load()) {
            let told = estimate(&load);
            let each = load.seconds_per_delete.unwrap_or(0.5);
            let leads = load.leads as f64;
            // In `t` seconds no more than burst + rate·t requests of 49 deletions leave, an empty portal gives each
            // method one budget at once and one a window after it, and the lanes work side by side.
            let limits = load.limits;
            let t = told.seconds + 1e-6;
            prop_assert!(leads <= 49.0 * (f64::from(limits.burst) + limits.requests_per_second * t).ceil());
            prop_assert!(leads * each <= limits.method_seconds * (1.0 + t / 600.0) + 1e-3);
            prop_assert!(leads * each <= f64::from(limits.concurrency) * t + 1e-3);
            prop_assert!(told.seconds.is_finite() && told.seconds >= 0.0);
        }

        #[test]
        fn a_fuller_portal_never_makes_it_faster(load in load(), level in 0.0f64..50.0, used in 0.0f64..50.0) {
            let fuller =
                Load { level: load.level + level, used_seconds: load.used_seconds + used, ..load };
            prop_assert!(estimate(&fuller).seconds >= estimate(&load).seconds);
        }
    }

    fn of(leads: u64, seconds: Option<f64>) -> Estimate {
        estimate(&Load {
            leads,
            limits: PortalLimits::default(),
            seconds_per_delete: seconds,
            level: 0.0,
            used_seconds: 0.0,
        })
    }

    #[test]
    fn the_limit_that_decides_is_named() {
        assert_eq!(of(100, Some(0.05)).limited_by, LimitedBy::DeletionTime);
        assert_eq!(of(100_000, Some(0.05)).limited_by, LimitedBy::OperatingBudget);
        assert_eq!(of(100_000, Some(0.001)).limited_by, LimitedBy::Requests);
        assert_eq!(of(25_000, Some(0.001)).capped(25_000, 10_000).limited_by, LimitedBy::DeletesPerDay);
        assert_eq!(of(10_000, Some(0.001)).capped(10_000, 10_000).limited_by, LimitedBy::Requests);
        assert_eq!(of(0, None).seconds, 0.0);
    }

    #[test]
    fn without_a_measure_half_a_second_is_assumed_and_said() {
        let assumed = of(2000, None);
        assert!(!assumed.measured);
        assert_eq!(assumed.seconds, of(2000, Some(0.5)).seconds);
        // 1000 s of work: 480 s at once, the other 520 s at 0.8 a second.
        assert_eq!((assumed.seconds, assumed.limited_by), (650.0, LimitedBy::OperatingBudget));
    }

    #[test]
    fn an_estimate_says_how_long_by_what_and_how_it_is_known() {
        let told = Estimate { seconds: 1500.0, limited_by: LimitedBy::OperatingBudget, measured: false };
        let words = "about 25 min, limited by the portal's operating budget, assuming 0.5 s a deletion";
        assert_eq!(told.to_string(), words);
    }

    #[test]
    fn a_length_of_time_is_told_in_one_unit() {
        let told = [0.0, 59.9, 1500.0, 7300.0, 200_000.0].map(about);
        assert_eq!(
            told,
            ["less than a minute", "less than a minute", "about 25 min", "about 2 h", "about 2 days"]
        );
    }
}
