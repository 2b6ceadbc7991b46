//! Held runs, with the form that approves one: the person types how many leads it is about.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;

use super::moment::{Moment, Zones};
use super::{Asked, Pages, in_time};
use crate::core::figure::thousands;
use crate::engine;
use crate::store::RunId;
use crate::store::runs::{Approval, HELD_FOR, Run, SUPERSEDED};

/// A held run as a page shows it; templates know it as `run`.
pub(super) struct HeldRun {
    pub(super) id: i64,
    pub(super) rule: String,
    /// Why it is held.
    pub(super) why: String,
    /// How many leads it would delete.
    pub(super) would_enqueue: u64,
    pub(super) matched: u64,
    pub(super) protected: u64,
    pub(super) undecidable: u64,
    pub(super) already_waiting: u64,
    pub(super) held_at: Option<Moment>,
    /// When it is too late to approve it.
    pub(super) expires_at: Option<Moment>,
}

/// A run that is held.
pub(super) fn shown(run: &Run, zones: &Zones) -> HeldRun {
    let RunId(id) = run.id;
    let of_rule = |at| zones.of_rule(&run.rule, at);
    HeldRun {
        id,
        rule: run.rule.clone(),
        why: run.held_reason.clone().unwrap_or_default(),
        would_enqueue: run.would_enqueue,
        matched: run.matched,
        protected: run.protected,
        undecidable: run.undecidable,
        already_waiting: run.already_waiting,
        held_at: run.held_at.map(of_rule),
        expires_at: run.held_at.and_then(|at| at.checked_add(HELD_FOR).ok()).map(of_rule),
    }
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new().route("/runs/{run}/approve", post(approve))
}

#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    count: String,
    /// The page it was typed on: `runs`, else the overview.
    #[serde(default)]
    back: String,
}

/// The same as the command `approve`.
async fn approve(asked: Asked, Path(run): Path<String>, Form(typed): Form<Typed>) -> Response {
    let back = if typed.back == "runs" { "/runs" } else { "/" };
    let Ok(id) = run.parse::<RunId>() else {
        return asked.answer(back, StatusCode::NOT_FOUND, "There is no such run.");
    };
    // As it stands on the page, or in plain digits.
    let is_number =
        |typed: &str, count: u64| typed == thousands(count) || typed.bytes().all(|b| b.is_ascii_digit());
    let count = typed.count.trim();
    let Some(count) = count.replace(',', "").parse::<u64>().ok().filter(|number| is_number(count, *number))
    else {
        let text = format!("Run {id} was not approved: type the number of its leads, in digits.");
        return asked.answer(back, StatusCode::BAD_REQUEST, &text);
    };
    let ctx = &asked.pages.ctx;
    let rules = ctx.rules();
    let approved =
        in_time(engine::approve(&ctx.store, &rules, id, count, &asked.approver(), ctx.clock.now())).await;
    let (status, text) = match approved {
        Ok(Some((run, approval))) => told(id, &run, count, approval),
        Ok(None) => (StatusCode::NOT_FOUND, format!("There is no run {id}.")),
        Err(problem) => problem.told(),
    };
    asked.pages.figures.forget().await;
    asked.answer(back, status, &text)
}

fn told(id: RunId, run: &Run, count: u64, approval: Approval) -> (StatusCode, String) {
    let rule = &run.rule;
    match approval {
        Approval::Approved { enqueued, already_waiting } => {
            tracing::info!(run = %id, rule, enqueued, "run approved on the admin page");
            let text = format!(
                "Run {id} of {rule} is approved: {} leads enqueued, {} were waiting already. Each is read and judged again \
                 before its deletion.",
                thousands(enqueued),
                thousands(already_waiting)
            );
            (StatusCode::OK, text)
        }
        Approval::WrongCount { actual } => {
            let text = format!(
                "Run {id} was not approved: it would enqueue {} leads, and {} was typed. Look at it again.",
                thousands(actual),
                thousands(count)
            );
            (StatusCode::CONFLICT, text)
        }
        Approval::NotHeld(_) if run.error.as_deref() == Some(SUPERSEDED) => (
            StatusCode::CONFLICT,
            format!("Run {id} was replaced by a later run of {rule}: there is nothing to approve."),
        ),
        Approval::NotHeld(state) => (StatusCode::CONFLICT, format!("Run {id} is {state}, not held.")),
        Approval::RuleChanged => (
            StatusCode::CONFLICT,
            format!("Run {id} was not approved: rule {rule} has changed since. Run it again."),
        ),
        Approval::Expired => (
            StatusCode::CONFLICT,
            format!("Run {id} was held for more than 24 hours and has expired: run {rule} again."),
        ),
        Approval::NoSuchRun => (StatusCode::NOT_FOUND, format!("There is no run {id}.")),
    }
}
