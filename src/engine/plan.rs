//! `plan`: what a rule would delete now, what has changed since the last plan, and how long it would take. It shares its
//! survey and its weighing with the runs that enqueue, and changes nothing but what is remembered of the last plan.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::context::{Context, EngineError};
use super::evaluator::weigh;
use super::survey::{Breakdown, PlannedLead, SampleLead, survey};
use crate::core::caps::Cap;
use crate::core::decide::whole_seconds;
use crate::core::estimate::Estimate;
use crate::core::lead::LeadId;
use crate::core::plan_diff;
use crate::core::rule::{Mode, Rule, RuleSet};
use crate::store::plans::{self, LastPlan};

/// How many leads of each difference are shown.
const SAMPLE: usize = 10;

/// The most leads that a plan lists one by one: some ten megabytes, which go through the database beside a service.
pub const MAX_LISTED: usize = 100_000;

/// What a rule would delete now.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlanReport {
    /// The rule.
    pub rule: String,
    /// Its mode.
    pub mode: Mode,
    /// Leads that it selects, protected ones included.
    pub matched: u64,
    /// Of these, kept by a protection.
    pub protected: u64,
    /// Leads that could not be judged; kept.
    pub undecidable: u64,
    /// Leads that the portal returned and our matcher refused on a text.
    pub left_out: u64,
    /// Of the matched, those that wait already.
    pub already_waiting: u64,
    /// Of the matched, those that a run would enqueue.
    pub would_delete: u64,
    /// Why a run would be held; `null` if it would not.
    pub held: Option<String>,
    /// Counts of the selected leads.
    #[serde(flatten)]
    pub breakdown: Breakdown,
    /// The first selected leads.
    pub sample: Vec<SampleLead>,
    /// When this rule was planned before; `null` if it was not.
    pub previous: Option<Timestamp>,
    /// Whether the rule's text has changed since.
    pub rule_changed: bool,
    /// Leads that are selected now and were not then; `null` without an earlier plan.
    pub newly: Option<Difference>,
    /// Leads that were selected then and are not now.
    pub no_longer: Option<Difference>,
    /// How long deleting them would take.
    pub estimate: Estimate,
    /// The selected leads one by one, at most [`MAX_LISTED`], where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leads: Option<Vec<PlannedLead>>,
}

/// Leads that differ between two plans.
#[derive(Debug, Serialize, Deserialize)]
pub struct Difference {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub sample: Vec<LeadId>,
}

impl Difference {
    fn of(leads: &[LeadId]) -> Difference {
        Difference { count: leads.len() as u64, sample: leads.iter().copied().take(SAMPLE).collect() }
    }
}

/// Says what a rule would do now, and remembers it for the next plan. `list` asks for the leads one by one. `progress`
/// hears how many leads were read so far.
pub async fn plan(
    ctx: &Context,
    rules: &RuleSet,
    rule: &Rule,
    list: bool,
    progress: impl Fn(u64),
) -> Result<PlanReport, EngineError> {
    let now = whole_seconds(ctx.clock.now());
    let listed = if list { MAX_LISTED } else { 0 };
    let survey = survey(ctx, rules, rule, now, listed, |_, read| {
        progress(read);
        std::future::ready(Ok(()))
    })
    .await?;
    let weighed = weigh(ctx, rule, &survey, now).await?;
    let (name, plan) = (rule.name.to_string(), LastPlan::new(rule.text(), now, &survey.selected));
    let rule_text = plan.rule_text.clone();
    let before = ctx
        .store
        .write(move |db| {
            let before = plans::last(db, &name)?;
            plans::remember(db, &name, &plan)?;
            Ok(before)
        })
        .await?;
    let diff = before.as_ref().map(|plan| plan_diff::compare(&plan.leads, plan.is_whole(), &survey.selected));
    Ok(PlanReport {
        rule: rule.name.to_string(),
        mode: rule.mode,
        matched: weighed.protected + weighed.already_waiting + weighed.would_enqueue,
        protected: weighed.protected,
        undecidable: survey.undecidable,
        left_out: survey.left_out,
        already_waiting: weighed.already_waiting,
        would_delete: weighed.would_enqueue,
        held: match weighed.cap {
            Cap::Proceed => None,
            Cap::Hold(reason) => Some(reason.to_string()),
        },
        breakdown: survey.breakdown,
        sample: survey.sample,
        previous: before.as_ref().map(|plan| plan.at),
        rule_changed: before.is_some_and(|plan| plan.rule_text != rule_text),
        newly: diff.as_ref().map(|diff| Difference::of(&diff.newly)),
        no_longer: diff.as_ref().map(|diff| Difference::of(&diff.no_longer)),
        estimate: ctx
            .portal
            .drain_estimate(weighed.would_enqueue)
            .capped(weighed.would_enqueue, rule.limits.deletes_per_day),
        leads: list.then_some(survey.listed),
    })
}
