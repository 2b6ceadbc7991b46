//! Starts each rule's runs when its schedule says so, and makes up at most one that was missed while the service was
//! down. Which runs are due is a pure function ([`due`]); this file sleeps and spawns.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::context::{Context, EngineError};
use super::evaluator;
use crate::core::rule::{Rule, RuleSet};
use crate::store::control;
use crate::store::runs::{self, RuleState, Trigger};

/// A missed run older than this is not made up.
const MAKE_UP: SignedDuration = SignedDuration::from_hours(24);
/// The scheduler looks at the clock at least this often, so that a clock that was set is noticed.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// The latest time at which a rule should have run and did not: after its text was first loaded, after its last run,
/// and in the last 24 hours.
pub fn due(rule: &Rule, state: &RuleState, now: Timestamp) -> Option<Timestamp> {
    let oldest = now.checked_sub(MAKE_UP).unwrap_or(Timestamp::MIN);
    let since = state.last_fire_at.into_iter().fold(state.first_loaded_at.max(oldest), Timestamp::max);
    if since >= now { None } else { rule.schedule.last_fire(since, now) }
}

/// Runs rules by their schedules until the service stops.
pub(super) async fn run(ctx: Context, tasks: TaskTracker) {
    let mut rules_changed = ctx.rules.clone();
    let mut unchecked = ctx.unchecked_changes();
    while !ctx.stop.is_cancelled() {
        unchecked.mark_unchanged();
        let rules = rules_changed.borrow_and_update().clone();
        let now = ctx.clock.now();
        if let Err(error) = start_due(&ctx, &rules, now, &tasks).await {
            error!(%error, "could not start the rules that are due");
        }
        let next = rules.rules.iter().filter_map(|rule| rule.schedule.next_fire(now)).min();
        let look_again = now.checked_add(ctx.clock.idle(LOOK_AGAIN)).unwrap_or(Timestamp::MAX);
        let until = next.unwrap_or(look_again).min(look_again);
        tokio::select! {
            biased;
            () = ctx.clock.sleep_until(until) => {}
            _ = rules_changed.changed() => {}
            _ = unchecked.changed() => {}
            () = ctx.stop.cancelled() => return,
        }
    }
}

/// Starts the runs that are due at `now`.
pub(super) async fn start_due(
    ctx: &Context,
    rules: &Arc<RuleSet>,
    now: Timestamp,
    tasks: &TaskTracker,
) -> Result<(), EngineError> {
    let (states, stopped) =
        ctx.store.read(|db| Ok((runs::all_rule_states(db)?, control::portal_stop(db)?.is_some()))).await?;
    if stopped {
        // Every call would be refused; what is due now is made up when the portal is back.
        return Ok(());
    }
    let states: BTreeMap<String, RuleState> =
        states.into_iter().map(|state| (state.name.clone(), state)).collect();
    let unchecked = ctx.unchecked().rules;
    // What is due of an unchecked rule is made up when it is checked.
    for rule in rules.rules.iter().filter(|rule| !unchecked.contains(rule.name.as_str())) {
        let Some(at) = states.get(rule.name.as_str()).and_then(|state| due(rule, state, now)) else {
            continue;
        };
        // Held until the firing is recorded, so that no time fires twice.
        let Some(mark) = ctx.begin(rule.name.as_str()) else { continue };
        let (ctx, rules, name) = (ctx.clone(), Arc::clone(rules), rule.name.clone());
        let on = ctx.clone();
        on.spawn(tasks, async move {
            let Some(rule) = rules.rule(name.as_str()) else { return };
            info!(rule = %name, scheduled = %at, "run started");
            match evaluator::evaluate_marked(&ctx, &rules, rule, Trigger::Schedule, &mark).await {
                Ok(_) => {}
                Err(
                    EngineError::Stopping | EngineError::AlreadyRunning(_) | EngineError::NotChecked { .. },
                ) => return,
                Err(error) => warn!(rule = %name, %error, "run failed"),
            }
            // Only now: a run that is cut off by a crash has not happened, and is made up.
            let fired = name.to_string();
            if let Err(error) = ctx.store.write(move |db| runs::set_last_fire(db, &fired, at)).await {
                error!(rule = %name, %error, "could not record the run");
            }
            drop(mark);
        });
    }
    Ok(())
}
