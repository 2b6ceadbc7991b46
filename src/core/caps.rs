//! Whether a run may enqueue what it matched, or must wait for a person.
//!
//! A cap looks at the whole set that the run would touch: what it would enqueue and what already waits. Protected
//! leads do not count, since nothing can happen to them; otherwise ten thousand protected leads would force a cap so
//! high that it protects nothing.

use jiff::SignedDuration;
use serde::Serialize;

use super::rule::Limits;

/// What a run matched, after protections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MatchSet {
    /// Leads that would be enqueued.
    pub would_enqueue: u64,
    /// Leads that wait already.
    pub already_waiting: u64,
    /// Leads that could not be judged; they are kept.
    pub undecidable: u64,
    /// All leads that the webhook can read; needed only where [`needs_readable`] says so.
    pub readable: Option<u64>,
}

/// Whether the run proceeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cap {
    /// It may enqueue.
    Proceed,
    /// It is held.
    Hold(HoldReason),
}

/// Why a run is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// More leads than `max_matches`.
    MaxMatches {
        /// Leads that the run touches.
        touched: u64,
        /// The cap.
        max_matches: u64,
    },
    /// More than `max_percent` of the readable leads.
    MaxPercent {
        /// Leads that the run touches.
        touched: u64,
        /// All readable leads.
        readable: u64,
        /// The cap, in percent.
        max_percent: u8,
    },
    /// More leads could not be judged than the rule selects: something is amiss with the data or the webhook's rights,
    /// and the selection stands on what is left.
    Undecidable {
        /// Leads that could not be judged.
        undecidable: u64,
        /// Leads that the run touches.
        touched: u64,
    },
    /// Far more than the rule usually enqueues.
    Anomaly {
        /// Leads that would be enqueued.
        would_enqueue: u64,
        /// The median of its last runs.
        median: u64,
    },
}

impl std::fmt::Display for HoldReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HoldReason::MaxMatches { touched, max_matches } => {
                write!(f, "{touched} leads are over max_matches {max_matches}")
            }
            HoldReason::MaxPercent { touched, readable, max_percent } => {
                write!(f, "{touched} of {readable} readable leads are over max_percent {max_percent}")
            }
            HoldReason::Undecidable { undecidable, touched } => write!(
                f,
                "{undecidable} leads can't be judged, more than the {touched} that are selected; where a field may be \
                 empty, say so in `match`: {{ empty: false }}"
            ),
            HoldReason::Anomaly { would_enqueue, median } => {
                write!(f, "{would_enqueue} leads are over {ANOMALY_FACTOR} times the rule's usual {median}")
            }
        }
    }
}

/// How long a held run can be approved, and its rule's scheduled runs are skipped meanwhile; its matches are older than
/// any list should be trusted after that.
pub const HELD_FOR: SignedDuration = SignedDuration::from_hours(24);
/// The window of `deletes_per_day`.
pub const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Below this many leads a share of all leads says nothing: 30 of 100 is a normal night of a young portal.
pub const PERCENT_FROM: u64 = 50;
/// Fewer undecidable leads never hold a run: some leads lack a field in every portal.
pub const UNDECIDABLE_FROM: u64 = 50;
/// A run over this many times the median of earlier runs is unusual.
pub const ANOMALY_FACTOR: u64 = 3;
/// How many earlier runs the median needs.
pub const ANOMALY_RUNS: usize = 5;
/// How many earlier runs the median looks at.
pub const ANOMALY_WINDOW: usize = 10;
/// A smaller median counts as this: three times nothing is no reason to wake a person.
pub const ANOMALY_FLOOR: u64 = 20;

/// Whether the number of readable leads matters for this match set: ask the portal only then.
pub fn needs_readable(set: &MatchSet) -> bool {
    touched(set) >= PERCENT_FROM
}

fn touched(set: &MatchSet) -> u64 {
    set.would_enqueue.saturating_add(set.already_waiting)
}

/// Decides. `earlier` holds what the last enqueued scheduled and manual runs of the same rule text enqueued, newest
/// first; leave it empty for runs by event.
pub fn check(limits: &Limits, set: &MatchSet, earlier: &[u64]) -> Cap {
    let touched = touched(set);
    if set.would_enqueue == 0 {
        return Cap::Proceed;
    }
    if touched > limits.max_matches {
        return Cap::Hold(HoldReason::MaxMatches { touched, max_matches: limits.max_matches });
    }
    if needs_readable(set)
        && let Some(readable) = set.readable
        && u128::from(touched) * 100 > u128::from(readable) * u128::from(limits.max_percent)
    {
        return Cap::Hold(HoldReason::MaxPercent { touched, readable, max_percent: limits.max_percent });
    }
    if set.undecidable >= UNDECIDABLE_FROM && set.undecidable > touched {
        return Cap::Hold(HoldReason::Undecidable { undecidable: set.undecidable, touched });
    }
    match median(earlier) {
        Some(median) if set.would_enqueue > ANOMALY_FACTOR.saturating_mul(median) => {
            Cap::Hold(HoldReason::Anomaly { would_enqueue: set.would_enqueue, median })
        }
        Some(_) | None => Cap::Proceed,
    }
}

fn median(earlier: &[u64]) -> Option<u64> {
    let mut counts: Vec<u64> = earlier.iter().copied().take(ANOMALY_WINDOW).collect();
    if counts.len() < ANOMALY_RUNS {
        return None;
    }
    counts.sort_unstable();
    counts.get(counts.len() / 2).map(|middle| (*middle).max(ANOMALY_FLOOR))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set() -> impl Strategy<Value = MatchSet> {
        (0u64..5000, 0u64..5000, 0u64..9000, proptest::option::of(0u64..20_000)).prop_map(
            |(would_enqueue, already_waiting, undecidable, readable)| MatchSet {
                would_enqueue,
                already_waiting,
                undecidable,
                readable,
            },
        )
    }

    proptest! {
        #[test]
        fn raising_a_cap_never_turns_proceed_into_hold(
            set in set(), matches in 1u64..6000, percent in 1u8..100, more in 0u64..6000,
            earlier in proptest::collection::vec(0u64..500, 0..12),
        ) {
            let low = Limits { max_matches: matches, max_percent: percent, deletes_per_day: 1 };
            let high = Limits { max_matches: matches + more, max_percent: percent + 1, deletes_per_day: 1 };
            if check(&low, &set, &earlier) == Cap::Proceed {
                prop_assert_eq!(check(&high, &set, &earlier), Cap::Proceed);
            }
        }

        #[test]
        fn more_undecidable_leads_never_turn_hold_into_proceed_and_under_fifty_change_nothing(
            set in set(), more in 0u64..9000, few in 0u64..UNDECIDABLE_FROM,
            earlier in proptest::collection::vec(0u64..500, 0..12),
        ) {
            let limits = Limits { max_matches: 4000, max_percent: 50, deletes_per_day: 1 };
            let with = |undecidable| check(&limits, &MatchSet { undecidable, ..set }, &earlier);
            prop_assert_eq!(with(few), with(0));
            if with(set.undecidable) != Cap::Proceed {
                prop_assert_ne!(with(set.undecidable + more), Cap::Proceed);
            }
        }

        #[test]
        fn a_run_over_max_matches_is_always_held(set in set(), matches in 1u64..6000) {
            let limits = Limits { max_matches: matches, ..Limits::default() };
            if set.would_enqueue > matches {
                let held = matches!(check(&limits, &set, &[]), Cap::Hold(HoldReason::MaxMatches { .. }));
                prop_assert!(held);
            }
        }
    }

    #[test]
    fn the_share_is_ignored_under_fifty_leads_and_counts_from_fifty() {
        let limits = Limits { max_percent: 20, ..Limits::default() };
        let of = |would_enqueue| MatchSet {
            would_enqueue,
            already_waiting: 0,
            undecidable: 0,
            readable: Some(100),
        };
        assert_eq!(check(&limits, &of(49), &[]), Cap::Proceed);
        assert!(matches!(check(&limits, &of(50), &[]), Cap::Hold(HoldReason::MaxPercent { .. })));
    }

    #[test]
    fn a_run_of_which_more_is_undecidable_than_selected_is_held_from_fifty() {
        let of = |would_enqueue, undecidable| {
            let set = MatchSet { would_enqueue, already_waiting: 0, undecidable, readable: None };
            check(&Limits::default(), &set, &[])
        };
        assert_eq!(of(1, 49), Cap::Proceed);
        assert_eq!(of(1, 50), Cap::Hold(HoldReason::Undecidable { undecidable: 50, touched: 1 }));
        assert_eq!(of(50, 50), Cap::Proceed);
        assert_eq!(of(0, 5000), Cap::Proceed, "there is nothing to hold");
    }

    #[test]
    fn a_run_far_over_the_usual_is_held_once_there_is_a_usual() {
        let limits = Limits { max_percent: 100, ..Limits::default() };
        let of = |would_enqueue| MatchSet {
            would_enqueue,
            already_waiting: 0,
            undecidable: 0,
            readable: Some(10_000),
        };
        assert_eq!(check(&limits, &of(61), &[3, 2, 4, 1]), Cap::Proceed, "four earlier runs are no usual");
        assert_eq!(check(&limits, &of(60), &[3, 2, 4, 1, 5]), Cap::Proceed, "a median under 20 counts as 20");
        assert!(matches!(check(&limits, &of(61), &[3, 2, 4, 1, 5]), Cap::Hold(HoldReason::Anomaly { .. })));
    }
}
