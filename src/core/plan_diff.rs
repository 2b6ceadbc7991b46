//! What a rule selects now that it did not select before, and the other way round.
//!
//! Invariant: both sides ascending, a lead is in at most one of the two lists, and nothing beyond what is remembered
//! of the earlier plan is claimed to be new.

use super::lead::LeadId;

/// The differences between two plans, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanDiff {
    /// Selected now and not before.
    pub newly: Vec<LeadId>,
    /// Selected before and not now.
    pub no_longer: Vec<LeadId>,
}

/// Compares two ascending lists. `whole` says that `before` is all that was selected then; else only ids up to its
/// last are compared, since of later ones nobody knows.
pub fn compare(before: &[LeadId], whole: bool, now: &[LeadId]) -> PlanDiff {
    let horizon = if whole { None } else { before.last().copied() };
    let known = |lead: LeadId| whole || horizon.is_some_and(|horizon| lead <= horizon);
    let absent = |lead: &LeadId, among: &[LeadId]| among.binary_search(lead).is_err();
    PlanDiff {
        newly: now.iter().copied().filter(|lead| known(*lead) && absent(lead, before)).collect(),
        no_longer: before.iter().copied().filter(|lead| absent(lead, now)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn leads() -> impl Strategy<Value = Vec<LeadId>> {
        proptest::collection::btree_set(1i64..60, 0..30)
            .prop_map(|ids| ids.into_iter().map(|id| LeadId::try_from(id).unwrap()).collect())
    }

    proptest! {
        #[test]
        fn the_differences_lead_from_one_plan_to_the_other(before in leads(), now in leads()) {
            let diff = compare(&before, true, &now);
            let mut then: BTreeSet<LeadId> = before.iter().copied().collect();
            for lead in &diff.no_longer {
                prop_assert!(then.remove(lead));
            }
            for lead in &diff.newly {
                prop_assert!(then.insert(*lead));
            }
            prop_assert_eq!(then.into_iter().collect::<Vec<_>>(), now);
        }

        #[test]
        fn what_was_not_remembered_is_not_called_new(all in leads(), now in leads(), kept in 0usize..30) {
            let before = &all[..kept.min(all.len())];
            let diff = compare(before, before.len() == all.len(), &now);
            let truth = compare(&all, true, &now);
            prop_assert!(diff.newly.iter().all(|lead| truth.newly.contains(lead)));
            prop_assert!(diff.no_longer.iter().all(|lead| truth.no_longer.contains(lead)));
        }
    }
}
