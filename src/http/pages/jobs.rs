//! `/jobs`: the jobs by pages, with the buttons that retry or cancel one; `/jobs.csv`: the same as a file.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Form, Path, Query};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use super::download::{self, Part};
use super::layout::{Layout, Section, render};
use super::moment::{Moment, Zones};
use super::{Asked, Pages, Problem, in_time};
use crate::core::lead::LeadId;
use crate::core::outcome::Outcome;
use crate::store::jobs::{self, Cancel, Job, JobFilter, JobState, Retry};
use crate::store::{JobId, RunId};

/// Jobs on a page: more than fit on a screen, few enough to look through.
const PAGE: u32 = 50;

/// Which jobs are asked for, as a form sends it; what is empty does not matter.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct Wanted {
    /// A state, or an outcome.
    #[serde(skip_serializing_if = "String::is_empty")]
    state: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    rule: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lead: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    run: String,
    /// Jobs older than this one.
    #[serde(skip_serializing_if = "String::is_empty")]
    before: String,
}

impl Wanted {
    /// The filter, newest first, without a limit.
    fn filter(&self) -> Result<JobFilter, Problem> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let (state, outcome) = match given(&self.state) {
            None => (None, None),
            Some(word) => match (JobState::parse(&word), Outcome::parse(&word)) {
                (Some(state), _) => (Some(state), None),
                (None, Some(outcome)) => (Some(JobState::Done), Some(outcome)),
                (None, None) => {
                    return Err(Problem::Wrong(format!("`{word}` is no state and no outcome of a job")));
                }
            },
        };
        let number = |text: &str| text.trim().parse::<i64>().ok();
        let lead = given(&self.lead).map(|text| {
            let id = number(&text).and_then(|id| LeadId::try_from(id).ok());
            id.ok_or_else(|| Problem::Wrong(format!("`{text}` is not the id of a lead: write its digits")))
        });
        let run = given(&self.run)
            .map(|text| text.parse::<RunId>().map_err(|error| Problem::Wrong(error.to_string())));
        let before = given(&self.before)
            .map(|text| text.parse::<JobId>().map_err(|error| Problem::Wrong(error.to_string())));
        Ok(JobFilter {
            state,
            outcome,
            rule: given(&self.rule),
            lead: lead.transpose()?,
            run: run.transpose()?,
            after: before.transpose()?,
            newest_first: true,
            limit: 0,
        })
    }

    /// The query that asks for the same.
    fn query(&self) -> String {
        serde_urlencoded::to_string(self).unwrap_or_default()
    }

    fn path(&self, path: &str) -> String {
        let query = self.query();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    page: Layout,
    wanted: Wanted,
    /// The states and outcomes to choose from.
    states: Vec<&'static str>,
    rules: Vec<String>,
    rows: Vec<JobRow>,
    /// The query of this page, for the forms that come back to it.
    here: String,
    csv: String,
    newest: Option<String>,
    older: Option<String>,
}

struct JobRow {
    id: i64,
    lead: String,
    rule: String,
    run: i64,
    state: &'static str,
    tone: &'static str,
    at_is: &'static str,
    at: Moment,
    attempts: u32,
    why: String,
    may_retry: bool,
    may_cancel: bool,
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs.csv", get(file))
        .route("/jobs/{job}/retry", post(retry))
        .route("/jobs/{job}/cancel", post(cancel))
}

async fn list(asked: Asked, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let ctx = &asked.pages.ctx;
    let filter = JobFilter { limit: PAGE + 1, ..wanted.filter()? };
    let mut jobs = in_time(ctx.store.read(move |db| jobs::list(db, &filter))).await?;
    let more = jobs.len() > PAGE as usize;
    jobs.truncate(PAGE as usize);
    let older = jobs.last().filter(|_| more).map(|last| {
        let before = last.id.to_string();
        Wanted { before, ..wanted.clone() }.path("/jobs")
    });
    let all = Wanted { before: String::new(), ..wanted.clone() };
    let rules = ctx.rules();
    let zones = Zones::of(&rules);
    let page = JobsPage {
        page: asked.layout(Section::Jobs, "Jobs"),
        states: JobState::ALL
            .iter()
            .map(|state| state.as_str())
            .chain(Outcome::ALL.into_iter().map(Outcome::as_str))
            .collect(),
        rules: rules.rules.iter().map(|rule| rule.name.to_string()).collect(),
        rows: jobs.iter().map(|job| row(job, &zones)).collect(),
        here: wanted.query(),
        csv: all.path("/jobs.csv"),
        newest: Some(all.path("/jobs")).filter(|_| !wanted.before.is_empty()),
        older,
        wanted,
    };
    Ok(render(StatusCode::OK, &page))
}

fn row(job: &Job, zones: &Zones) -> JobRow {
    let (JobId(id), RunId(run)) = (job.id, job.run_id);
    let tone = match job.outcome {
        Some(Outcome::Deleted | Outcome::AlreadyGone) => "good",
        Some(Outcome::Failed) => "bad",
        Some(Outcome::Spared | Outcome::Cancelled) => "warn",
        None => "",
    };
    JobRow {
        id,
        lead: job.lead_id.to_string(),
        rule: job.rule.clone(),
        run,
        state: job.outcome.map_or(job.state.as_str(), Outcome::as_str),
        tone,
        at_is: if job.finished_at.is_some() { "done" } else { "due" },
        at: zones.of_rule(&job.rule, job.finished_at.unwrap_or(job.due_at)),
        attempts: job.attempts,
        why: job.why(),
        may_retry: job.can_be_retried(),
        may_cancel: job.can_be_cancelled(),
    }
}

const COLUMNS: &[&str] = &[
    "id",
    "lead_id",
    "rule",
    "run_id",
    "state",
    "outcome",
    "reason",
    "attempts",
    "due_at",
    "created_at",
    "finished_at",
    "last_error",
];

async fn file(asked: Asked, Query(wanted): Query<Wanted>) -> Result<Response, Problem> {
    let filter = JobFilter { limit: download::ROWS, ..wanted.filter()? };
    let store = asked.pages.ctx.store.clone();
    let read: download::Read = Arc::new(move |after| {
        let (store, mut filter) = (store.clone(), filter.clone());
        async move {
            filter.after = after.map(JobId).or(filter.after);
            let full = filter.limit as usize;
            let jobs = in_time(store.read(move |db| jobs::list(db, &filter))).await?;
            let next = jobs.last().filter(|_| jobs.len() >= full).map(|last| last.id.0);
            Ok(Part { rows: jobs.iter().map(cells).collect(), next })
        }
        .boxed()
    });
    download::csv("attachment; filename=\"jobs.csv\"", COLUMNS, read).await
}

fn cells(job: &Job) -> Vec<String> {
    vec![
        job.id.to_string(),
        job.lead_id.to_string(),
        job.rule.clone(),
        job.run_id.to_string(),
        job.state.as_str().to_owned(),
        job.outcome.map(|outcome| outcome.as_str().to_owned()).unwrap_or_default(),
        job.reason.clone().unwrap_or_default(),
        job.attempts.to_string(),
        job.due_at.to_string(),
        job.created_at.to_string(),
        job.finished_at.map(|at| at.to_string()).unwrap_or_default(),
        job.last_error.clone().unwrap_or_default(),
    ]
}

/// Where a button was pressed.
#[derive(Deserialize)]
struct From {
    /// The query of that page.
    #[serde(default)]
    back: String,
}

impl From {
    /// That page's path: read and written anew, so that no form can lead elsewhere.
    fn path(&self) -> String {
        serde_urlencoded::from_str::<Wanted>(&self.back).unwrap_or_default().path("/jobs")
    }
}

/// The same as the command `retry`.
async fn retry(asked: Asked, Path(job): Path<String>, Form(from): Form<From>) -> Response {
    let Ok(id) = job.parse::<JobId>() else { return no_such(&asked, &from, &job) };
    let ctx = &asked.pages.ctx;
    let now = ctx.clock.now();
    let (status, text) = match in_time(ctx.store.write(move |db| jobs::retry(db, id, now))).await {
        Ok(Retry::Requeued) => {
            tracing::info!(job = %id, "retried on the admin page");
            (StatusCode::OK, format!("Job {id} waits again, due now."))
        }
        Ok(Retry::NotFailed(state, outcome)) => {
            let word = outcome.map_or(state.as_str(), Outcome::as_str);
            (StatusCode::CONFLICT, format!("Job {id} is {word}: only a failed job can be retried."))
        }
        Ok(Retry::LiveJobExists(other)) => (
            StatusCode::CONFLICT,
            format!("Job {id} was not retried: its lead already has the live job {other}."),
        ),
        Ok(Retry::NoSuchJob) => return no_such(&asked, &from, &job),
        Err(problem) => problem.told(),
    };
    asked.pages.figures.forget().await;
    asked.answer(&from.path(), status, &text)
}

/// The same as the command `cancel`.
async fn cancel(asked: Asked, Path(job): Path<String>, Form(from): Form<From>) -> Response {
    let Ok(id) = job.parse::<JobId>() else { return no_such(&asked, &from, &job) };
    let ctx = &asked.pages.ctx;
    let now = ctx.clock.now();
    let (status, text) = match in_time(ctx.store.write(move |db| jobs::cancel(db, id, now))).await {
        Ok(Cancel::Cancelled) => {
            tracing::info!(job = %id, "cancelled on the admin page");
            (
                StatusCode::OK,
                format!("Job {id} is cancelled; its lead is protected from that rule for 30 days."),
            )
        }
        Ok(Cancel::Running) => {
            let text = format!("Job {id} is running: its deletion was or is about to be sent to the portal.");
            (StatusCode::CONFLICT, text)
        }
        Ok(Cancel::AlreadyDone(outcome)) => {
            (StatusCode::CONFLICT, format!("Job {id} is done already: {}.", outcome.as_str()))
        }
        Ok(Cancel::NoSuchJob) => return no_such(&asked, &from, &job),
        Err(problem) => problem.told(),
    };
    asked.pages.figures.forget().await;
    asked.answer(&from.path(), status, &text)
}

fn no_such(asked: &Asked, from: &From, job: &str) -> Response {
    let id: String = job.chars().take(20).collect();
    asked.answer(&from.path(), StatusCode::NOT_FOUND, &format!("There is no job {id}."))
}
