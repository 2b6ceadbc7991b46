//! Runs by event: leads that a rule selected among those whose events came in are enqueued, or held past a cap.

use jiff::{SignedDuration, Timestamp};
use tracing::Instrument;

use super::context::{Context, EngineError};
use super::evaluator::{finished, held_run, span_of};
use crate::core::caps::{self, Cap, MatchSet};
use crate::core::lead::LeadId;
use crate::core::rule::{Mode, Rule};
use crate::store::runs::{self, JoinHeld, NewRun, RunEnd, RunState, Trigger};
use crate::store::{jobs, protections};

/// Leads that an event rule selected among those whose events came in.
pub(super) struct EventMatches {
    pub selected: Vec<LeadId>,
    pub protected: u64,
    pub undecidable: u64,
}

/// How far back the caps of event runs look.
const EVENT_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// Enqueues what an event rule selected. The caps count the rule's matches by event over the last 24 hours; past a cap
/// the run is held, and while one is held later events of the rule join it.
pub(super) async fn enqueue_by_event(
    ctx: &Context,
    rule: &Rule,
    matches: EventMatches,
) -> Result<(), EngineError> {
    let now = ctx.clock.now();
    let name = rule.name.to_string();
    let since = now.checked_sub(EVENT_WINDOW).unwrap_or(Timestamp::MIN);
    let (new_here, earlier) = {
        let (name, leads) = (name.clone(), matches.selected.clone());
        ctx.store
            .read(move |db| {
                let own = protections::lead_protections(db, &leads, &name, now)?;
                let live = jobs::live_jobs(db, &leads)?;
                let new = leads.iter().filter(|lead| !own.contains_key(lead) && !live.contains_key(lead));
                Ok((new.count() as u64, runs::event_matches_since(db, &name, since)?))
            })
            .await?
    };
    // Without a new match there is nothing to hold.
    let touched = if new_here == 0 { 0 } else { earlier + new_here };
    // What a few events could not judge says nothing about the rule; the sweep looks at all leads.
    let mut set = MatchSet { would_enqueue: touched, ..MatchSet::default() };
    if rule.mode == Mode::Delete && caps::needs_readable(&set) {
        set.readable = Some(ctx.patiently(|| ctx.portal.count()).await?);
    }
    let cap = caps::check(&rule.limits, &set, &[]);
    let held = held_run(ctx, &name).await?;
    let new = NewRun { rule: name.clone(), rule_text: rule.text(), trigger: Trigger::Event, mode: rule.mode };
    let grace = rule.grace_period;
    let run = ctx
        .store
        .write(move |db| {
            let own = protections::lead_protections(db, &matches.selected, &name, now)?;
            let free: Vec<LeadId> =
                matches.selected.into_iter().filter(|lead| !own.contains_key(lead)).collect();
            let protected = matches.protected + own.len() as u64;
            let live = jobs::live_jobs(db, &free)?;
            if new.mode == Mode::Delete
                && let Some(held) = held
            {
                let joining: Vec<LeadId> =
                    free.iter().copied().filter(|lead| !live.contains_key(lead)).collect();
                let more = JoinHeld {
                    protected,
                    undecidable: matches.undecidable,
                    already_waiting: live.len() as u64,
                    left_out: 0,
                };
                if runs::add_to_held(db, held.id, &joining, &more)?.is_some() {
                    return Ok(held.id);
                }
                // It was approved or ended meanwhile: these leads make a run of their own.
            }
            let run = runs::start(db, &new, now)?;
            let mut end = RunEnd {
                state: RunState::Planned,
                matched: protected + free.len() as u64,
                protected,
                undecidable: matches.undecidable,
                already_waiting: live.len() as u64,
                would_enqueue: (free.len() - live.len()) as u64,
                ..RunEnd::default()
            };
            match (new.mode, cap) {
                (Mode::Plan, _) => {}
                (Mode::Delete, Cap::Hold(reason)) => {
                    end.state = RunState::Held;
                    end.held_reason = Some(reason.to_string());
                    let free: Vec<LeadId> =
                        free.into_iter().filter(|lead| !live.contains_key(lead)).collect();
                    runs::store_matches(db, run, &free)?;
                }
                (Mode::Delete, Cap::Proceed) => {
                    let done = jobs::enqueue(
                        db,
                        run,
                        &new.rule,
                        &free,
                        grace.seconds().unsigned_abs(),
                        grace.after(now),
                        now,
                    )?;
                    end.state = RunState::Enqueued;
                    end.enqueued = done.enqueued;
                    end.already_waiting = done.already_waiting;
                }
            }
            runs::finish(db, run, &end, now)?;
            Ok(run)
        })
        .await?;
    ctx.metrics.rule_ran(rule.name.as_str(), now);
    finished(ctx, run).instrument(span_of(rule, run)).await.map(|_| ())
}
