//! `/rules` and `/rules/NAME`: what each rule does, in plain words and as it is written, when it runs next, what its last runs
//! came to; and the order to run it now.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use askama::Template;
use axum::extract::Path;
use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Form, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::asking::{self, Outcome};
use super::filters;
use super::layout::{Layout, Section, render};
use super::moment::{Moment, Zones};
use super::names::{self, Known};
use super::{Asked, Pages, Problem, in_time};
use crate::core::rule::{Mode, Rule, RuleSet};
use crate::core::sentence;
use crate::store::runs::{self, Run, RunFilter, RunState};

/// The next times that a rule's own page shows.
const NEXT: usize = 5;
/// The last runs that it shows.
const RUNS: u32 = 5;
/// The most rules on one page: more is a file that a program wrote, and each has a page of its own.
const MOST_RULES: usize = 200;

/// A rule as a page shows it.
struct Shown {
    name: String,
    file: String,
    line: u32,
    description: Option<String>,
    mode: &'static str,
    deletes: bool,
    sentences: Vec<String>,
    next: Vec<Moment>,
    runs: Vec<ShownRun>,
    written: String,
    unchecked: bool,
    version: String,
}

struct ShownRun {
    id: String,
    state: &'static str,
    started: Moment,
    matched: u64,
    protected: u64,
    undecidable: u64,
    enqueued: u64,
    error: String,
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage {
    page: Layout,
    rules: Vec<Shown>,
    more: usize,
    protections: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "rule.html")]
struct RulePage {
    page: Layout,
    rule: Shown,
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new()
        .route("/rules", get(all))
        .route("/rules/{name}", get(one))
        .route("/rules/{name}/run", post(run_now))
}

/// The rule of that name, or the page that says that there is none.
pub(super) fn named<'r>(rules: &'r RuleSet, name: &str) -> Result<&'r Rule, Problem> {
    rules.rule(name).ok_or_else(|| {
        let name: String = name.chars().take(80).collect();
        Problem::NotFound(format!("there is no rule `{name}` in force"))
    })
}

async fn all(asked: Asked) -> Result<Response, Problem> {
    let pages = &asked.pages;
    let rules = pages.ctx.rules();
    let known = pages.names.of(&pages.ctx, &names::users_of(&rules)).await;
    let wanted: Vec<&Rule> = rules.rules.iter().take(MOST_RULES).collect();
    let shown = shown(pages, &rules, &wanted, &known, (1, 1)).await?;
    let protections = rules
        .protections
        .iter()
        .map(|one| (one.name.to_string(), sentence::protection(one, &known.names)))
        .collect();
    let more = rules.rules.len() - shown.len();
    let page = asked.layout(Section::Rules, "Rules");
    Ok(render(StatusCode::OK, &RulesPage { page, rules: shown, more, protections }))
}

async fn one(asked: Asked, Path(name): Path<String>) -> Result<Response, Problem> {
    let pages = &asked.pages;
    let rules = pages.ctx.rules();
    let rule = named(&rules, &name)?;
    let known = pages.names.of(&pages.ctx, &names::users_of(&rules)).await;
    let shown = shown(pages, &rules, &[rule], &known, (NEXT, RUNS)).await?;
    let page = asked.layout(Section::Rules, format!("Rule {name}"));
    let Some(rule) = shown.into_iter().next() else { return Err(Problem::NotFound(name)) };
    Ok(render(StatusCode::OK, &RulePage { page, rule }))
}

/// Each rule with so many next times and last runs.
async fn shown(
    pages: &Pages,
    rules: &RuleSet,
    wanted: &[&Rule],
    known: &Known,
    (next, last): (usize, u32),
) -> Result<Vec<Shown>, Problem> {
    let ctx = &pages.ctx;
    let names: Vec<String> = wanted.iter().map(|rule| rule.name.to_string()).collect();
    let found = in_time(ctx.store.read(move |db| {
        let filter = |rule: String| RunFilter { rule: Some(rule), limit: last, ..RunFilter::default() };
        names.into_iter().map(|name| runs::list(db, &filter(name))).collect::<Result<Vec<_>, _>>()
    }))
    .await?;
    let (zones, now, unchecked) = (Zones::of(rules), ctx.clock.now(), ctx.unchecked());
    let of_one = |(rule, runs): (&&Rule, Vec<Run>)| {
        let name = rule.name.as_str();
        Shown {
            name: name.to_owned(),
            file: rule.place.file.clone(),
            line: rule.place.line,
            description: rule.description.clone(),
            mode: rule.mode.as_str(),
            deletes: rule.mode == Mode::Delete,
            sentences: sentence::rule(rule, &known.names),
            next: next_times(rule, now, next).into_iter().map(|at| zones.of_rule(name, at)).collect(),
            runs: runs.into_iter().map(|run| shown_run(run, &zones)).collect(),
            written: rule.written(),
            unchecked: unchecked.rules.contains(name),
            version: version(rule),
        }
    };
    Ok(wanted.iter().zip(found).map(of_one).collect())
}

fn next_times(rule: &Rule, now: Timestamp, count: usize) -> Vec<Timestamp> {
    rule.schedule.next_fires(now, count)
}

fn shown_run(run: Run, zones: &Zones) -> ShownRun {
    ShownRun {
        id: run.id.to_string(),
        state: run.state.as_str(),
        started: zones.of_rule(&run.rule, run.started_at),
        matched: run.matched,
        protected: run.protected,
        undecidable: run.undecidable,
        enqueued: run.enqueued,
        error: run.error.or(run.held_reason).unwrap_or_default(),
    }
}

/// What a form says of the rule that its page showed, so that another version of it is not run unseen.
fn version(rule: &Rule) -> String {
    let mut hasher = DefaultHasher::new();
    rule.text().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The form of the button.
#[derive(Default, Deserialize)]
struct RunForm {
    /// [`version`] of the rule that was seen; a script may leave it out.
    #[serde(default)]
    version: String,
}

/// The same as the command `run`.
async fn run_now(
    asked: Asked,
    Path(name): Path<String>,
    form: Result<Form<RunForm>, FormRejection>,
) -> Result<Response, Problem> {
    let rules = asked.pages.ctx.rules();
    let rule = named(&rules, &name)?;
    let here = format!("/rules/{name}");
    // A script may send no form at all.
    let form = form.map(|Form(form)| form).unwrap_or_default();
    if !form.version.is_empty() && form.version != version(rule) {
        let text =
            "The rule was changed since its page was loaded. Nothing was run: look at it as it is now.";
        return Ok(asked.answer(&here, StatusCode::CONFLICT, text));
    }
    tracing::info!(rule = name, "run ordered on the admin page");
    let (status, text) =
        match asking::order(&asked.pages, "run", &json!({ "rule": name, "text": rule.text() })).await? {
            Outcome::Done(run) => came_to(&run),
            Outcome::Refused(error) => (StatusCode::CONFLICT, format!("Nothing was run: {error}")),
            Outcome::GoesOn => (
                StatusCode::ACCEPTED,
                "The run goes on. It is among the last runs; load the page again.".into(),
            ),
        };
    asked.pages.figures.forget().await;
    Ok(asked.answer(&here, status, &text))
}

/// What a run came to, in a sentence.
fn came_to(run: &Value) -> (StatusCode, String) {
    let number = |key: &str| run.get(key).and_then(Value::as_u64).unwrap_or_default();
    let id = number("id");
    let state: Option<RunState> = run.get("state").and_then(|state| RunState::deserialize(state).ok());
    match state {
        Some(RunState::Enqueued) => (
            StatusCode::OK,
            format!(
                "Run {id}: {} deletions enqueued of {} leads matched.",
                number("enqueued"),
                number("matched")
            ),
        ),
        Some(RunState::Planned) => (
            StatusCode::OK,
            format!(
                "Run {id}: {} leads would be enqueued; the mode is plan, nothing was.",
                number("would_enqueue")
            ),
        ),
        Some(RunState::Held) => (
            StatusCode::CONFLICT,
            format!("Run {id} is held: nothing is enqueued until a person approves it."),
        ),
        Some(RunState::Failed) => {
            let error = run.get("error").and_then(Value::as_str).unwrap_or_default();
            (StatusCode::BAD_GATEWAY, format!("Run {id} failed, nothing was enqueued: {error}"))
        }
        Some(RunState::Running) | None => (StatusCode::ACCEPTED, format!("Run {id} goes on.")),
    }
}
