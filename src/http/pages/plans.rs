//! `/rules/NAME/plan`: what a rule would delete now, the same as the command `plan`.
//!
//! A plan may take minutes, so it is asked of the service and the page looks again until it is there. One plan of the pages
//! at a time, since each reads a whole portal. Of a plan only its request's id is kept here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::asking::{self, Outcome};
use super::filters;
use super::layout::{Layout, Section, render};
use super::moment::{Moment, Zones};
use super::names::Known;
use super::rules::named;
use super::{Asked, Pages, Problem};
use crate::engine::plan::{Difference, PlanReport};
use crate::http::plain;
use crate::store::requests::RequestState;

/// The plans that are remembered, the last of each rule: their results are in the database for an hour.
const MAX_PLANS: usize = 64;
/// The bars of a breakdown; what is rarer is one bar together.
const BARS: usize = 12;
/// How often the page of a plan that is being made looks again, in seconds.
const LOOK_AGAIN: u32 = 2;

/// The plans that the pages have asked for, the last one at the end: only that one can be in the making.
#[derive(Default)]
pub(super) struct Plans(Mutex<VecDeque<Planned>>);

struct Planned {
    rule: String,
    request: i64,
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new().route("/rules/{name}/plan", post(begin).get(result))
}

/// Begins a plan, unless one is being made.
async fn begin(asked: Asked, Path(name): Path<String>) -> Result<Response, Problem> {
    let pages = &asked.pages;
    let rules = pages.ctx.rules();
    let rule = named(&rules, &name)?;
    let mut plans = pages.plans.0.lock().await;
    if let Some(last) = plans.back()
        && let RequestState::Pending | RequestState::Taken { .. } = asking::state(pages, last.request).await?
    {
        let text = format!("One plan is made at a time, and now it is that of rule {}.", last.rule);
        return Ok(asked.answer(&format!("/rules/{}/plan", last.rule), StatusCode::CONFLICT, &text));
    }
    let request = asking::submit(pages, "plan", &json!({ "rule": name, "text": rule.text() })).await?;
    plans.retain(|plan| plan.rule != name);
    if plans.len() >= MAX_PLANS {
        plans.pop_front();
    }
    plans.push_back(Planned { rule: name.clone(), request });
    if !asked.wants_page {
        return Ok(plain(StatusCode::ACCEPTED, format!("the plan is made: GET /rules/{name}/plan\n")));
    }
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, format!("/rules/{name}/plan"))]).into_response())
}

#[derive(Template)]
#[template(path = "plan.html")]
struct PlanPage {
    page: Layout,
    rule: String,
    state: State,
    look_again: u32,
}

enum State {
    /// Nobody has asked for it, or its result is no longer kept.
    None,
    /// It is being made, and so many leads were read; the page looks again.
    Making(String),
    Failed(String),
    Ready(Box<Report>),
}

struct Report {
    mode: &'static str,
    matched: u64,
    protected: u64,
    already_waiting: u64,
    undecidable: u64,
    left_out: u64,
    would_delete: u64,
    held: Option<String>,
    estimate: Option<String>,
    previous: Option<Moment>,
    rule_changed: bool,
    differences: Vec<Differing>,
    breakdowns: Vec<Breakdown>,
    sample: Vec<Sample>,
}

struct Differing {
    title: &'static str,
    count: u64,
    leads: Vec<String>,
}

struct Breakdown {
    title: &'static str,
    bars: Vec<Bar>,
    most: u64,
}

struct Bar {
    name: String,
    count: u64,
}

struct Sample {
    id: String,
    stage: String,
    created: String,
    reason: String,
}

async fn result(asked: Asked, Path(name): Path<String>) -> Result<Response, Problem> {
    let pages = &asked.pages;
    let rules = pages.ctx.rules();
    named(&rules, &name)?;
    let request = {
        let plans = pages.plans.0.lock().await;
        plans.iter().find(|plan| plan.rule == name).map(|plan| plan.request)
    };
    let state = match request {
        None => State::None,
        Some(request) => match asking::state(pages, request).await? {
            RequestState::Unknown => State::None,
            RequestState::Pending => State::Making("0".to_owned()),
            RequestState::Taken { progress } => State::Making(progress.unwrap_or_else(|| "0".to_owned())),
            RequestState::Done { ok, result } => match asking::outcome(ok, &result) {
                Outcome::Done(report) => match PlanReport::deserialize(&report) {
                    Ok(report) => State::Ready(Box::new(told(pages, report).await)),
                    Err(error) => State::Failed(format!("the answer can't be read: {error}")),
                },
                Outcome::Refused(error) => State::Failed(error),
                Outcome::GoesOn => State::Making("0".to_owned()),
            },
        },
    };
    let page = asked.layout(Section::Rules, format!("Plan of rule {name}"));
    Ok(render(StatusCode::OK, &PlanPage { page, rule: name, state, look_again: LOOK_AGAIN }))
}

async fn told(pages: &Pages, plan: PlanReport) -> Report {
    let people = largest(plan.breakdown.by_responsible);
    let ids: Vec<i64> = people.iter().filter_map(|bar| bar.name.parse().ok()).collect();
    let Known { names, sources } = pages.names.of(&pages.ctx, &ids).await;
    let users: BTreeMap<String, String> =
        names.users.iter().map(|(id, name)| (id.to_string(), name.clone())).collect();
    let zones = Zones::of(&pages.ctx.rules());
    let mut differences = Vec::new();
    for (title, difference) in [("Newly selected", plan.newly), ("No longer selected", plan.no_longer)] {
        if let Some(Difference { count, sample }) = difference {
            let leads = sample.iter().map(ToString::to_string).collect();
            differences.push(Differing { title, count, leads });
        }
    }
    Report {
        mode: plan.mode.as_str(),
        matched: plan.matched,
        protected: plan.protected,
        already_waiting: plan.already_waiting,
        undecidable: plan.undecidable,
        left_out: plan.left_out,
        would_delete: plan.would_delete,
        held: plan.held,
        estimate: (plan.would_delete > 0).then(|| plan.estimate.to_string()),
        previous: plan.previous.map(|at| zones.of_rule(&plan.rule, at)),
        rule_changed: plan.rule_changed,
        differences,
        breakdowns: vec![
            breakdown("By stage", largest(plan.breakdown.by_stage), &names.stages),
            breakdown("By source", largest(plan.breakdown.by_source), &sources),
            breakdown("By responsible person", people, &users),
        ],
        sample: plan
            .sample
            .into_iter()
            .map(|lead| Sample {
                id: lead.id.to_string(),
                stage: lead.stage,
                created: lead.created,
                reason: lead.reason,
            })
            .collect(),
    }
}

/// The largest counts, the largest first, and the rest together.
fn largest(counts: BTreeMap<String, u64>) -> Vec<Bar> {
    let mut bars: Vec<Bar> = counts.into_iter().map(|(name, count)| Bar { name, count }).collect();
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.count));
    // One that is left has a name, and needs no other.
    if bars.len() > BARS + 1 {
        let rest = bars.split_off(BARS);
        let count = rest.iter().map(|bar| bar.count).sum();
        bars.push(Bar { name: format!("{} others", rest.len()), count });
    }
    bars
}

fn breakdown(title: &'static str, bars: Vec<Bar>, names: &BTreeMap<String, String>) -> Breakdown {
    let named = |bar: Bar| {
        let name = match names.get(&bar.name) {
            Some(name) => format!("{} ({name})", bar.name),
            None => bar.name,
        };
        Bar { name, ..bar }
    };
    let bars: Vec<Bar> = bars.into_iter().map(named).collect();
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(1);
    Breakdown { title, bars, most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breakdown_has_few_bars_and_every_lead_is_in_one() {
        let counts: BTreeMap<String, u64> = (1..=20).map(|n| (format!("S{n:02}"), n)).collect();
        let bars = largest(counts);
        assert_eq!(bars.len(), BARS + 1);
        assert_eq!((bars[0].name.as_str(), bars[0].count), ("S20", 20));
        assert_eq!((bars[BARS].name.as_str(), bars[BARS].count), ("8 others", 36));
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 210);
        assert_eq!(largest((0..13).map(|n| (n.to_string(), 1)).collect()).len(), BARS + 1);
        let names = BTreeMap::from([("A".to_owned(), "Alpha".to_owned())]);
        let few = BTreeMap::from([("A".to_owned(), 3), ("B".to_owned(), 5)]);
        let told = breakdown("", largest(few), &names);
        let words: Vec<&str> = told.bars.iter().map(|bar| bar.name.as_str()).collect();
        assert_eq!((words, told.most), (vec!["B", "A (Alpha)"], 5));
    }
}
