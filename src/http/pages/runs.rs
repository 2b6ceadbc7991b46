//! `/runs`: the runs by pages, held ones first with the form that approves them; `/runs.csv`: the same as a file.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use super::download::{self, Part};
use super::filters;
use super::held::{self, HeldRun};
use super::layout::{Layout, Section, render};
use super::moment::{Moment, Zones};
use super::{Asked, Pages, Problem, in_time};
use crate::store::RunId;
use crate::store::runs::{self, Run, RunFilter, RunState};

/// Runs on a page: more than fit on a screen, few enough to look through.
const PAGE: u32 = 50;

/// Which runs are asked for, as a form sends it; what is empty does not matter.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct Wanted {
    #[serde(skip_serializing_if = "String::is_empty")]
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    rule: String,
    /// Runs older than this one.
    #[serde(skip_serializing_if = "String::is_empty")]
    before: String,
}

impl Wanted {
    fn filter(&self, limit: u32) -> Result<RunFilter, Problem> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let state = given(&self.state).map(|word| {
            RunState::parse(&word).ok_or_else(|| Problem::Wrong(format!("`{word}` is no state of a run")))
        });
        let before = given(&self.before)
            .map(|text| text.parse::<RunId>().map_err(|error| Problem::Wrong(error.to_string())));
        Ok(RunFilter {
            rule: given(&self.rule),
            state: state.transpose()?,
            before: before.transpose()?,
            after: None,
            limit,
        })
    }

    fn path(&self, path: &str) -> String {
        let query = serde_urlencoded::to_string(self).unwrap_or_default();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage {
    page: Layout,
    wanted: Wanted,
    states: Vec<&'static str>,
    rules: Vec<String>,
    held: Vec<HeldRun>,
    rows: Vec<RunRow>,
    csv: String,
    newest: Option<String>,
    older: Option<String>,
}

struct RunRow {
    id: i64,
    rule: String,
    trigger: &'static str,
    mode: &'static str,
    state: &'static str,
    tone: &'static str,
    matched: u64,
    protected: u64,
    undecidable: u64,
    already_waiting: u64,
    would_enqueue: u64,
    enqueued: u64,
    started: Moment,
    why: String,
    /// When it was approved, and by whom.
    approved: Option<(Moment, String)>,
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new().route("/runs", get(list)).route("/runs.csv", get(file))
}

async fn list(asked: Asked, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let ctx = &asked.pages.ctx;
    let filter = wanted.filter(PAGE + 1)?;
    let read = ctx.store.read(move |db| Ok((runs::list(db, &filter)?, runs::all_held(db)?)));
    let (mut runs, held) = in_time(read).await?;
    let more = runs.len() > PAGE as usize;
    runs.truncate(PAGE as usize);
    let older = runs.last().filter(|_| more).map(|last| {
        let before = last.id.to_string();
        Wanted { before, ..wanted.clone() }.path("/runs")
    });
    let all = Wanted { before: String::new(), ..wanted.clone() };
    let rules = ctx.rules();
    let zones = Zones::of(&rules);
    let page = RunsPage {
        page: asked.layout(Section::Runs, "Runs"),
        states: RunState::ALL.iter().map(|state| state.as_str()).collect(),
        rules: rules.rules.iter().map(|rule| rule.name.to_string()).collect(),
        held: held.iter().map(|run| held::shown(run, &zones)).collect(),
        rows: runs.iter().map(|run| row(run, &zones)).collect(),
        csv: all.path("/runs.csv"),
        newest: Some(all.path("/runs")).filter(|_| !wanted.before.is_empty()),
        older,
        wanted,
    };
    Ok(render(StatusCode::OK, &page))
}

fn row(run: &Run, zones: &Zones) -> RunRow {
    let RunId(id) = run.id;
    let tone = match run.state {
        RunState::Enqueued => "good",
        RunState::Held => "warn",
        RunState::Failed => "bad",
        RunState::Running | RunState::Planned => "",
    };
    RunRow {
        id,
        rule: run.rule.clone(),
        trigger: run.trigger.as_str(),
        mode: run.mode.as_str(),
        state: run.state.as_str(),
        tone,
        matched: run.matched,
        protected: run.protected,
        undecidable: run.undecidable,
        already_waiting: run.already_waiting,
        would_enqueue: run.would_enqueue,
        enqueued: run.enqueued,
        started: zones.of_rule(&run.rule, run.started_at),
        approved: run.approved_at.map(|at| {
            (zones.of_rule(&run.rule, at), run.approved_by.clone().unwrap_or_else(|| "somebody".to_owned()))
        }),
        why: run.error.clone().or_else(|| run.held_reason.clone()).unwrap_or_default(),
    }
}

const COLUMNS: &[&str] = &[
    "id",
    "rule",
    "trigger",
    "mode",
    "state",
    "matched",
    "protected",
    "undecidable",
    "enqueued",
    "error",
    "started_at",
    "finished_at",
    "already_waiting",
    "would_enqueue",
    "approved_at",
    "approved_by",
];

async fn file(asked: Asked, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let filter = wanted.filter(download::ROWS)?;
    let store = asked.pages.ctx.store.clone();
    let read: download::Read = Arc::new(move |before| {
        let (store, mut filter) = (store.clone(), filter.clone());
        async move {
            filter.before = before.map(RunId).or(filter.before);
            let full = filter.limit as usize;
            let runs = in_time(store.read(move |db| runs::list(db, &filter))).await?;
            let next = runs.last().filter(|_| runs.len() >= full).map(|last| last.id.0);
            Ok(Part { rows: runs.iter().map(cells).collect(), next })
        }
        .boxed()
    });
    download::csv("attachment; filename=\"runs.csv\"", COLUMNS, read).await
}

fn cells(run: &Run) -> Vec<String> {
    vec![
        run.id.to_string(),
        run.rule.clone(),
        run.trigger.as_str().to_owned(),
        run.mode.as_str().to_owned(),
        run.state.as_str().to_owned(),
        run.matched.to_string(),
        run.protected.to_string(),
        run.undecidable.to_string(),
        run.enqueued.to_string(),
        run.error.clone().unwrap_or_default(),
        run.started_at.to_string(),
        run.finished_at.map(|at| at.to_string()).unwrap_or_default(),
        run.already_waiting.to_string(),
        run.would_enqueue.to_string(),
        run.approved_at.map(|at| at.to_string()).unwrap_or_default(),
        run.approved_by.clone().unwrap_or_default(),
    ]
}
