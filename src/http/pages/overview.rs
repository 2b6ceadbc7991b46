//! `/`: what the service does now, what it did, and what stops it.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;

use super::chart::Chart;
use super::figures::Figures;
use super::filters;
use super::held::{self, HeldRun};
use super::layout::{Layout, Section, render};
use super::moment::{Moment, Zones, length};
use super::{Asked, Pages, Problem};
use crate::engine::{Context, remedy_of, silence};
use crate::portal::Levels;
use crate::store::events::EventCounts;
use crate::store::jobs::{DueSummary, JobCounts};

/// How many of the next runs are shown; the page of the rules has all.
const NEXT_RUNS: usize = 10;

/// How many of the gaps are told: after a bad night they are many, and all say the same.
const GAPS_TOLD: usize = 3;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    page: Layout,
    paused: bool,
    /// Whether the portal refuses every call.
    stopped: bool,
    alarms: Vec<Alarm>,
    held: Vec<HeldRun>,
    events: EventCounts,
    jobs: JobCounts,
    due: DueSummary,
    next_due: Option<Moment>,
    bucket: Gauge,
    methods: Vec<Gauge>,
    next_runs: Vec<NextRun>,
    more_rules: usize,
    charts: [Chart; 2],
}

/// Something that a person should know of.
struct Alarm {
    /// Whether nothing is deleted, or something was lost, until a person acts.
    grave: bool,
    title: &'static str,
    text: String,
}

/// How much of a limit is used.
struct Gauge {
    name: String,
    value: f64,
    max: f64,
    /// From where on it is nearly used up.
    high: f64,
    text: String,
}

struct NextRun {
    rule: String,
    mode: &'static str,
    at: Moment,
    last: Option<Moment>,
    /// Why it will not happen.
    unchecked: bool,
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new().route("/", get(overview))
}

async fn overview(asked: Asked) -> Result<Response, Problem> {
    let pages = &asked.pages;
    let ctx = &pages.ctx;
    let zones = Zones::of(&ctx.rules());
    let figures = pages.figures.figures(ctx, zones.common()).await?;
    let now = ctx.clock.now();
    let levels = ctx.portal.levels();
    let mut next_runs = next_runs(ctx, &figures, &zones, now);
    let more_rules = next_runs.len().saturating_sub(NEXT_RUNS);
    next_runs.truncate(NEXT_RUNS);
    let page = Overview {
        page: asked.layout(Section::Overview, "Overview"),
        paused: figures.paused,
        stopped: figures.stop.is_some(),
        alarms: alarms(pages, &figures, &zones),
        held: figures.held.iter().map(|run| held::shown(run, &zones)).collect(),
        events: figures.events,
        jobs: figures.jobs,
        due: figures.due,
        next_due: figures.due.next.map(|at| zones.any(at)),
        bucket: bucket(&levels),
        methods: methods(&levels, &zones, now),
        next_runs,
        more_rules,
        charts: charts(&figures),
    };
    Ok(render(StatusCode::OK, &page))
}

fn alarms(pages: &Pages, figures: &Figures, zones: &Zones) -> Vec<Alarm> {
    let ctx = &pages.ctx;
    let mut alarms = Vec::new();
    let mut tell = |grave: bool, title: &'static str, text: String| alarms.push(Alarm { grave, title, text });
    if let Some(stop) = &figures.stop {
        let text =
            format!("{} {}; {}; since {}", stop.code, stop.text, remedy_of(stop), zones.any(stop.since));
        tell(true, "The portal refuses every call: deletions wait, nothing is lost", text);
    }
    if let Some(problem) = ctx.room().says() {
        tell(true, "The disk is nearly full", problem);
    }
    if let Some(problem) = (pages.reload_problem)() {
        tell(true, "The last reload failed; the old rules stay in force", problem);
    }
    if let Some(says) = ctx.unchecked().says() {
        tell(true, "Unchecked rules", says);
    }
    if let Some(since) = figures.silent {
        tell(true, "Silence", silence(zones.any(since)));
    }
    if let Some((last, earlier)) = figures.gaps.split_last() {
        let mut text: Vec<String> = std::iter::once(last)
            .chain(earlier.iter().rev())
            .take(GAPS_TOLD)
            .map(|gap| format!("{}: {}", zones.any(gap.at), gap.reason))
            .collect();
        if figures.gaps.len() > GAPS_TOLD {
            text.push(format!("and {} more", figures.gaps.len() - GAPS_TOLD));
        }
        tell(false, "Events may have been lost; rules with events sweep once", text.join("\n"));
    }
    for run in &figures.held {
        let text = format!("run {} of {} waits for a person: see Held runs", run.id, run.rule);
        tell(false, "A run is held", text);
    }
    for capped in &figures.capped {
        let on = match capped.frees_at {
            Some(at) => format!("the next may go at {}", zones.of_rule(&capped.rule, at)),
            None => "the next may go when those in flight are answered".to_owned(),
        };
        tell(false, "A rule has used up its deletes_per_day", format!("{}: {on}", capped.rule));
    }
    if let Some((error, at)) = &figures.last_error {
        tell(false, "The last error", format!("{}: {error}", zones.any(*at)));
    }
    alarms
}

fn bucket(levels: &Levels) -> Gauge {
    let max = f64::from(levels.limits.burst);
    let rate = levels.limits.requests_per_second * levels.share;
    let mut text = format!("{:.1} of {max:.0} places taken; {rate:.2} a second come free", levels.places);
    if levels.share < 1.0 {
        text.push_str(", less than configured, because the portal answered 503");
    }
    if let Some(wait) = levels.paused_for {
        text.push_str(&format!("; nothing is sent for {}", length(wait)));
    }
    Gauge { name: "Requests".to_owned(), value: levels.places, max, high: max * 0.8, text }
}

fn methods(levels: &Levels, zones: &Zones, now: Timestamp) -> Vec<Gauge> {
    let max = levels.limits.method_seconds;
    let shown = levels.methods.iter().map(|level| {
        let mut text = format!("{:.1} of {max:.0} s used", level.seconds);
        if let Some(wait) = level.drops_in {
            let at =
                now.checked_add(wait).map_or_else(|_| String::new(), |at| format!(", at {}", zones.any(at)));
            text.push_str(&format!("; some of it comes free in {}{at}", length(wait)));
        }
        if let Some(wait) = level.blocked_for {
            text.push_str(&format!("; the portal refused it, nothing is sent for {}", length(wait)));
        }
        let name = match level.method.strip_prefix("batch:") {
            Some(method) => format!("{method}, in batches"),
            None => level.method.clone(),
        };
        Gauge { name, value: level.seconds, max, high: max * 0.8, text }
    });
    shown.collect()
}

/// Every rule's next run, the next one first.
fn next_runs(ctx: &Context, figures: &Figures, zones: &Zones, now: Timestamp) -> Vec<NextRun> {
    let (rules, unchecked) = (ctx.rules(), ctx.unchecked().rules);
    let last = |name: &str| {
        figures.states.iter().find(|state| state.name == name).and_then(|state| state.last_fire_at)
    };
    let mut runs: Vec<(Timestamp, NextRun)> = rules
        .rules
        .iter()
        .filter_map(|rule| {
            let (at, name) = (rule.schedule.next_fire(now)?, rule.name.as_str());
            let run = NextRun {
                rule: name.to_owned(),
                mode: rule.mode.as_str(),
                at: zones.of_rule(name, at),
                last: last(name).map(|at| zones.of_rule(name, at)),
                unchecked: unchecked.contains(name),
            };
            Some((at, run))
        })
        .collect();
    runs.sort_by_key(|(at, _)| *at);
    runs.into_iter().map(|(_, run)| run).collect()
}

fn charts(figures: &Figures) -> [Chart; 2] {
    let days = &figures.days;
    let events = days.iter().map(|day| (day.date, day.events)).collect();
    let deleted = days.iter().map(|day| (day.date, day.deleted)).collect();
    [
        Chart { id: "events-a-day", what: "Events evaluated", paint: "bar", days: events },
        Chart { id: "deletions-a-day", what: "Leads deleted", paint: "bar-2", days: deleted },
    ]
}
