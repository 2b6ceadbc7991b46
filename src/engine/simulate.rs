//! `simulate`: what the rules would delete on each of the next days. One listing of all leads, then
//! [`core::simulate`](crate::core::simulate); it changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::context::{Context, EngineError};
use crate::core::decide::fields_needed;
use crate::core::rule::RuleSet;
use crate::core::simulate::{self, Forecast, Histories, Window};
use crate::portal::Page;
use crate::store::forecast;

/// The most pages read in one request and kept in memory at a time: as many as a batch has commands.
const PAGES: usize = 50;

/// What a command asks of a running service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The days.
    pub window: Window,
    /// The rules as the command has read them: each one's text by its name.
    pub rules: BTreeMap<String, String>,
}

impl Asked {
    /// For these rules.
    pub fn of(rules: &RuleSet, window: Window) -> Asked {
        let rules = rules.rules.iter().map(|rule| (rule.name.to_string(), rule.text())).collect();
        Asked { window, rules }
    }
}

/// What the rules would do in the next days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many leads it was made from.
    pub leads: u64,
    /// The rules, in their order.
    pub rules: Vec<Forecast>,
}

/// Lists all leads once and simulates the days. `progress` hears how many leads were read so far.
pub async fn simulate(
    ctx: &Context,
    rules: &Arc<RuleSet>,
    window: Window,
    progress: impl Fn(u64),
) -> Result<Report, EngineError> {
    let select: BTreeSet<String> =
        rules.rules.iter().flat_map(|rule| fields_needed(rule, &rules.protections)).collect();
    let select: Vec<String> = select.into_iter().collect();
    let (from, until) = window.whole(rules);
    let mut histories = Histories::new(rules, from, until);
    let mut after = None;
    loop {
        // No filter: what a rule does not select today it may select tomorrow.
        let nothing = Map::new();
        let Page { leads, last } = tokio::select! {
            biased;
            page = ctx.patiently(|| ctx.portal.list_chain(&nothing, after, &select, PAGES)) => page?,
            () = ctx.stop.cancelled() => return Err(EngineError::Stopping),
        };
        for lead in &leads {
            histories.add(rules, lead);
        }
        progress(histories.readable());
        after = leads.last().map(|lead| lead.id).or(after);
        if last {
            break;
        }
    }
    let (of, now) = (Arc::clone(rules), ctx.clock.now());
    let known = ctx.store.read(move |db| forecast::known(db, &of.rules, now)).await?;
    let leads = histories.readable();
    let of = Arc::clone(rules);
    // A million leads over a year are seconds of work, which must not stand in a loop's way.
    let days = tokio::task::spawn_blocking(move || simulate::simulate(&of, histories, &known, &window));
    match days.await {
        Ok(rules) => Ok(Report { leads, rules }),
        Err(_) => Err(EngineError::Stopping),
    }
}
