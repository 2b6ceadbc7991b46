//! One evaluation of a rule: survey, our own protections, caps, and then one transaction that enqueues or nothing.
//!
//! Invariants: nothing is enqueued before the whole match set is known; a run that failed enqueued nothing; for an
//! enqueued run matched = protected + already waiting + enqueued. A rule never overlaps itself.

use std::collections::HashSet;

use jiff::Timestamp;
use tracing::{Instrument, Span, error_span, info, warn};

use super::context::{Context, EngineError, Evaluating};
use super::survey::{Kept, Survey, survey};
use crate::core::caps::{self, Cap, MatchSet};
use crate::core::decide::whole_seconds;
use crate::core::lead::LeadId;
use crate::core::outcome::Outcome;
use crate::core::rule::{Mode, Rule, RuleSet};
use crate::store::RunId;
use crate::store::runs::{self, NewRun, Run, RunEnd, RunState, Trigger};
use crate::store::{jobs, protections};

/// The match set after our own protections, and what the caps say.
pub(super) struct Weighed {
    pub(super) protected: u64,
    pub(super) already_waiting: u64,
    pub(super) would_enqueue: u64,
    pub(super) cap: Cap,
}

/// What happened to a trigger.
#[derive(Debug)]
pub enum Evaluated {
    /// A run was made; here it is.
    Run(Box<Run>),
    /// A run of this rule is held and waits for a person: scheduled runs are skipped meanwhile.
    SkippedHeld(RunId),
}

/// Evaluates a rule over all leads and enqueues what it selects.
pub async fn evaluate(
    ctx: &Context,
    rules: &RuleSet,
    rule: &Rule,
    trigger: Trigger,
) -> Result<Evaluated, EngineError> {
    let name = rule.name.as_str();
    let mark = ctx.begin(name).ok_or_else(|| EngineError::AlreadyRunning(name.to_owned()))?;
    evaluate_marked(ctx, rules, rule, trigger, &mark).await
}

/// [`evaluate`] for a caller that has marked the rule and keeps the mark beyond the run.
pub(super) async fn evaluate_marked(
    ctx: &Context,
    rules: &RuleSet,
    rule: &Rule,
    trigger: Trigger,
    _mark: &Evaluating,
) -> Result<Evaluated, EngineError> {
    let name = rule.name.to_string();
    ctx.require_checked(&name)?;
    let now = whole_seconds(ctx.clock.now());
    if trigger != Trigger::Manual
        && let Some(held) = held_run(ctx, &name).await?
    {
        warn!(rule = name, run = %held.id, "skipped: an earlier run is held and waits for approval");
        return Ok(Evaluated::SkippedHeld(held.id));
    }
    let run = start(ctx, rule, trigger, now).await?;
    evaluate_run(ctx, rules, rule, run, now).instrument(span_of(rule, run)).await
}

/// What every line of the log about a run carries: the ids that lead to its page. Where only errors are logged it is
/// still there.
pub(super) fn span_of(rule: &Rule, run: RunId) -> Span {
    error_span!("run", rule = rule.name.as_str(), run_id = run.0)
}

async fn evaluate_run(
    ctx: &Context,
    rules: &RuleSet,
    rule: &Rule,
    run: RunId,
    now: Timestamp,
) -> Result<Evaluated, EngineError> {
    let name = rule.name.to_string();
    let surveyed =
        survey(ctx, rules, rule, now, 0, |kept, _| spare_kept(ctx.clone(), name.clone(), kept)).await;
    let ended = match surveyed {
        Ok(survey) => conclude(ctx, rule, run, survey, now).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => {}
        // Left as it is: the next start marks it interrupted, and makes it up.
        Err(EngineError::Stopping) => return Err(EngineError::Stopping),
        Err(error) => fail(ctx, run, &error).await?,
    }
    ctx.metrics.rule_ran(&name, ctx.clock.now());
    finished(ctx, run).await
}

pub(super) async fn held_run(ctx: &Context, rule: &str) -> Result<Option<Run>, EngineError> {
    let rule = rule.to_owned();
    Ok(ctx.store.read(move |db| runs::held_run(db, &rule)).await?)
}

pub(super) async fn finished(ctx: &Context, run: RunId) -> Result<Evaluated, EngineError> {
    let run = ctx.store.read(move |db| runs::get(db, run)).await?.ok_or(EngineError::Stopping)?;
    match run.state {
        RunState::Failed => warn!(error = run.error.as_deref().unwrap_or_default(), "run failed"),
        RunState::Held => warn!(
            would_enqueue = run.would_enqueue,
            reason = run.held_reason.as_deref().unwrap_or_default(),
            "run held: approve it with `b24-janitor approve {} --count {}`",
            run.id,
            run.would_enqueue
        ),
        RunState::Running | RunState::Planned | RunState::Enqueued => info!(
            state = run.state.as_str(),
            matched = run.matched,
            protected = run.protected,
            undecidable = run.undecidable,
            already_waiting = run.already_waiting,
            enqueued = run.enqueued,
            "run finished"
        ),
    }
    Ok(Evaluated::Run(Box::new(run)))
}

pub(super) async fn start(
    ctx: &Context,
    rule: &Rule,
    trigger: Trigger,
    now: Timestamp,
) -> Result<RunId, EngineError> {
    let new = NewRun { rule: rule.name.to_string(), rule_text: rule.text(), trigger, mode: rule.mode };
    Ok(ctx.store.write(move |db| runs::start(db, &new, now)).await?)
}

async fn fail(ctx: &Context, run: RunId, error: &EngineError) -> Result<(), EngineError> {
    let now = ctx.clock.now();
    let end = RunEnd { state: RunState::Failed, error: Some(error.to_string()), ..RunEnd::default() };
    let text = error.to_string();
    ctx.store
        .write(move |db| {
            crate::store::control::set_last_error(db, Some(&text), now)?;
            runs::finish(db, run, &end, now)
        })
        .await?;
    Ok(())
}

/// A full read that shows a waiting job's lead no longer matching spares it at once.
async fn spare_kept(ctx: Context, rule: String, kept: Vec<Kept>) -> Result<(), EngineError> {
    if kept.is_empty() {
        return Ok(());
    }
    let now = ctx.clock.now();
    let leads: Vec<LeadId> = kept.iter().map(|kept| kept.lead).collect();
    let live = ctx.store.read(move |db| jobs::live_jobs(db, &leads)).await?;
    let mut spared: Vec<Kept> = kept;
    spared.retain(|kept| {
        live.get(&kept.lead).is_some_and(|job| job.rule == rule && job.state == jobs::JobState::Waiting)
    });
    if spared.is_empty() {
        return Ok(());
    }
    let count = ctx
        .store
        .write(move |db| {
            let mut count = 0u64;
            for kept in &spared {
                count += u64::from(jobs::spare_waiting_of_lead(db, kept.lead, &kept.reason, now)?);
            }
            Ok(count)
        })
        .await?;
    for _ in 0..count {
        ctx.metrics.job_finished(Outcome::Spared.as_str());
    }
    Ok(())
}

/// How many earlier runs the anomaly cap is shown.
const EARLIER_RUNS: u32 = caps::ANOMALY_WINDOW as u32;

/// Applies our own protections and the caps.
pub(super) async fn weigh(
    ctx: &Context,
    rule: &Rule,
    survey: &Survey,
    now: Timestamp,
) -> Result<Weighed, EngineError> {
    let (leads, name, text) = (survey.selected.clone(), rule.name.to_string(), rule.text());
    let (own, already_waiting, earlier) = ctx
        .store
        .read(move |db| {
            let own = protections::lead_protections(db, &leads, &name, now)?;
            let free: Vec<LeadId> = leads.into_iter().filter(|lead| !own.contains_key(lead)).collect();
            let live = jobs::live_jobs(db, &free)?.len() as u64;
            Ok((own.len() as u64, live, runs::enqueued_counts(db, &name, &text, EARLIER_RUNS)?))
        })
        .await?;
    let would_enqueue = survey.selected.len() as u64 - own - already_waiting;
    let mut set =
        MatchSet { would_enqueue, already_waiting, undecidable: survey.undecidable, readable: None };
    if caps::needs_readable(&set) {
        set.readable = Some(ctx.patiently(|| ctx.portal.count()).await?);
    }
    let cap = caps::check(&rule.limits, &set, &earlier);
    Ok(Weighed { protected: survey.protected + own, already_waiting, would_enqueue, cap })
}

async fn conclude(
    ctx: &Context,
    rule: &Rule,
    run: RunId,
    survey: Survey,
    now: Timestamp,
) -> Result<(), EngineError> {
    let weighed = weigh(ctx, rule, &survey, now).await?;
    let mut end = RunEnd {
        state: RunState::Planned,
        matched: weighed.protected + weighed.already_waiting + weighed.would_enqueue,
        protected: weighed.protected,
        undecidable: survey.undecidable,
        already_waiting: weighed.already_waiting,
        would_enqueue: weighed.would_enqueue,
        left_out: survey.left_out,
        ..RunEnd::default()
    };
    let selected = survey.selected;
    let kept_by_rules = survey.protected;
    let (name, at) = (rule.name.to_string(), ctx.clock.now());
    match (rule.mode, weighed.cap) {
        (Mode::Plan, _) => ctx.store.write(move |db| runs::finish(db, run, &end, at)).await?,
        (Mode::Delete, Cap::Hold(reason)) => {
            end.state = RunState::Held;
            end.held_reason = Some(reason.to_string());
            ctx.store
                .write(move |db| {
                    let own = protections::lead_protections(db, &selected, &name, at)?;
                    let live = jobs::live_jobs(db, &selected)?;
                    // A lead that a job of ours deleted after it was listed had its job, and needs no other.
                    let deleted = jobs::deleted_since(db, now)?;
                    let gone: HashSet<LeadId> =
                        selected.iter().copied().filter(|lead| deleted.contains(lead)).collect();
                    let unprotected: Vec<LeadId> =
                        selected.into_iter().filter(|lead| !own.contains_key(lead)).collect();
                    let count = unprotected.len() as u64;
                    let free: Vec<LeadId> = unprotected
                        .into_iter()
                        .filter(|lead| !live.contains_key(lead) && !gone.contains(lead))
                        .collect();
                    end.would_enqueue = free.len() as u64;
                    end.already_waiting = count - end.would_enqueue;
                    end.protected = kept_by_rules + own.len() as u64;
                    end.matched = end.protected + count;
                    runs::store_matches(db, run, &free)?;
                    runs::finish(db, run, &end, at)
                })
                .await?;
        }
        (Mode::Delete, Cap::Proceed) => {
            end.state = RunState::Enqueued;
            let (grace, due_at) = (rule.grace_period, rule.grace_period.after(at));
            ctx.store
                .write(move |db| {
                    // Once more inside the transaction: a person may have cancelled a job since the caps were checked.
                    // Only now: had this run failed, the held one could still be approved.
                    if let Some(held) = runs::held_run(db, &name)? {
                        runs::supersede(db, held.id, at)?;
                    }
                    let own = protections::lead_protections(db, &selected, &name, at)?;
                    // A lead that a job of ours deleted after it was listed had its job, and needs no other.
                    let deleted = jobs::deleted_since(db, now)?;
                    let gone: HashSet<LeadId> =
                        selected.iter().copied().filter(|lead| deleted.contains(lead)).collect();
                    let free: Vec<LeadId> = selected
                        .into_iter()
                        .filter(|lead| !own.contains_key(lead) && !gone.contains(lead))
                        .collect();
                    let done =
                        jobs::enqueue(db, run, &name, &free, grace.seconds().unsigned_abs(), due_at, at)?;
                    end.protected = kept_by_rules + own.len() as u64;
                    let gone = gone.iter().filter(|lead| !own.contains_key(lead)).count() as u64;
                    end.already_waiting = done.already_waiting + gone;
                    end.enqueued = done.enqueued;
                    end.would_enqueue = done.enqueued;
                    end.matched = end.protected + end.already_waiting + end.enqueued;
                    runs::finish(db, run, &end, at)
                })
                .await?;
        }
    }
    Ok(())
}
