//! Asks the portal again about rules that it has not confirmed.
//!
//! Invariant: a rule ends to be unchecked only when the very version of the rules that is in force was checked; set and
//! version change together ([`Context::put_into_force`]).
//!
//! The portal is asked after 1, 2, 4 … 15 minutes, and at once when it answers any other call; not while it is stopped.
//! Where it finds mistakes, the rules that they are in stay unchecked, and it is asked again in case they are mended
//! there.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tracing::{error, info, warn};

use super::context::{Context, EngineError};
use super::online::{self, Report};
use super::unchecked::Unchecked;
use crate::core::rule::RuleSet;
use crate::store::control;

/// The first time the portal is asked again.
const FIRST: SignedDuration = SignedDuration::from_mins(1);
/// It is asked at least this often.
const LONGEST: SignedDuration = SignedDuration::from_mins(15);
/// A portal that answers other calls and not these is asked no more often than this.
const SOONEST: SignedDuration = SignedDuration::from_secs(30);

/// Asks the portal about unchecked rules until the service stops.
pub(super) async fn run(ctx: Context) {
    let mut unchecked = ctx.unchecked_changes();
    let mut answered = ctx.portal.answered();
    let mut changes = ctx.store.changes();
    let mut version: Option<Arc<RuleSet>> = None;
    let mut wait = FIRST;
    let mut asked = ctx.clock.now();
    let mut was_stopped = false;
    while !ctx.stop.is_cancelled() {
        let state = unchecked.borrow_and_update().clone();
        if !version.as_ref().is_some_and(|version| Arc::ptr_eq(version, &state.of)) {
            // Another version was asked about when it was put into force, hence just now.
            (version, wait, asked) = (Some(Arc::clone(&state.of)), FIRST, ctx.clock.now());
            answered.mark_unchanged();
        }
        if state.rules.is_empty() {
            tokio::select! {
                biased;
                changed = unchecked.changed() => if changed.is_err() { return },
                () = ctx.stop.cancelled() => {}
            }
            continue;
        }
        changes.borrow_and_update();
        let stopped = match ctx.store.read(|db| Ok(control::portal_stop(db)?.is_some())).await {
            Ok(stopped) => stopped,
            Err(error) => {
                error!(%error, "the database does not answer");
                true
            }
        };
        let resumed = was_stopped && !stopped;
        was_stopped = stopped;
        if !resumed {
            let after = |pause| asked.checked_add(pause).unwrap_or(Timestamp::MAX);
            let heard = async {
                // A portal that is gone with its sender is not waited for.
                if answered.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                ctx.clock.sleep_until(after(SOONEST)).await;
            };
            tokio::select! {
                biased;
                // Every call would be refused; the end of the stop is a change of the database.
                changed = changes.changed(), if stopped => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = heard, if !stopped => {}
                () = ctx.clock.sleep_until(after(wait)), if !stopped => {}
                _ = unchecked.changed() => continue,
                () = ctx.stop.cancelled() => return,
            }
        }
        let report = tokio::select! {
            biased;
            report = online::check_rules(&ctx.portal, &state.of) => report,
            () = ctx.stop.cancelled() => return,
        };
        asked = ctx.clock.now();
        wait = (wait * 2).min(LONGEST);
        answered.mark_unchanged();
        if let Err(error) = conclude(&ctx, &state, report).await {
            error!(%error, "could not record which rules are checked");
        }
    }
}

/// Writes down what the portal said of this version, if it is still the one in force.
async fn conclude(ctx: &Context, state: &Unchecked, report: Report) -> Result<(), EngineError> {
    let mistakes: Vec<String> = report.errors().map(ToString::to_string).collect();
    let mut next = state.clone();
    match &report.unanswered {
        Some(error) => {
            warn!(error = %error.fault, "the rules could still not be checked against the portal");
            ctx.note(error).await;
            next.why = vec![error.fault.to_string()];
        }
        None => {
            let refused = report.refused(&state.of);
            next.rules.retain(|rule| refused.contains(rule));
            next.why.clear();
        }
    }
    if next.rules.is_empty() {
        next = Unchecked::none(Arc::clone(&state.of));
        info!(rules = state.rules.len(), "the portal knows what the rules name: they are checked");
    } else if !mistakes.is_empty() {
        mistakes.iter().for_each(|mistake| error!("{mistake}"));
        let names: Vec<&str> = next.rules.iter().map(String::as_str).collect();
        error!(rules = names.join(", "), "the portal does not know what these rules name: they do not run");
        next.why = mistakes;
        next.refused = true;
    }
    ctx.set_unchecked(next).await
}
