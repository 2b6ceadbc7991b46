//! Which leads a rule selects, by the words of the documentation and from the portal's own record of the lead: nothing
//! of the service is used.

use b24_janitor::sandbox::Lead;

use crate::sim::spec::{Date, Guard, RuleSpec, Spec};

/// Whether the rule may delete this lead at `now` (unix seconds of the service's clock).
pub(crate) fn selects(spec: &Spec, rule: &RuleSpec, lead: &Lead, now: i64) -> bool {
    rule.delete
        && matches(rule, lead, now)
        && (rule.converted || &*lead.stage != "CONVERTED")
        && !spec.guards.iter().any(|guard| guards(guard, lead))
}

fn matches(rule: &RuleSpec, lead: &Lead, now: i64) -> bool {
    let old = rule.older.is_none_or(|(date, hours)| {
        let at = match date {
            Date::Created => lead.created,
            Date::Moved => lead.moved,
            Date::Activity => lead.last_activity,
            Date::Updated => lead.updated,
        };
        // A date in the future can't be judged, and is far from being old as well.
        at <= now - i64::from(hours) * 3600
    });
    old && rule.stages.contains(&&*lead.stage)
        && rule.source.is_none_or(|source| &*lead.source == source)
        && rule.cheaper_than.is_none_or(|price| lead.opportunity < f64::from(price))
        && rule.not_of.is_none_or(|user| lead.assigned_by != user)
        && rule.title.is_none_or(|part| lead.title.to_lowercase().contains(part))
}

fn guards(guard: &Guard, lead: &Lead) -> bool {
    match guard {
        Guard::DearerThan(price) => lead.opportunity > f64::from(*price),
        // A lead without a source can't be judged, and what can't be judged is kept.
        Guard::Source(source) => lead.source.is_empty() || &*lead.source == *source,
        Guard::Pinned(ids) => ids.contains(&lead.id),
    }
}
