//! `/`: what the service does now, and what stops it.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;

use super::layout::{Layout, Section, render};
use super::moment::Zones;
use super::{Asked, Pages, Problem, in_time};
use crate::engine::{remedy_of, silence};
use crate::store::{control, events, jobs};

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    page: Layout,
    rows: Vec<(&'static str, String)>,
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new().route("/", get(overview))
}

async fn overview(asked: Asked) -> Result<Response, Problem> {
    let rows = rows(&asked.pages).await?;
    Ok(render(StatusCode::OK, &Overview { page: asked.layout(Section::Overview, "Overview"), rows }))
}

async fn rows(pages: &Pages) -> Result<Vec<(&'static str, String)>, Problem> {
    let ctx = &pages.ctx;
    let zones = Zones::of(&ctx.rules());
    let read = ctx.store.read(|db| {
        Ok((
            events::counts(db)?,
            jobs::counts(db)?,
            control::paused(db)?,
            control::portal_stop(db)?,
            control::last_error(db)?,
            control::silent_since(db)?,
        ))
    });
    let (events, jobs, paused, stop, last_error, silent) = in_time(read).await?;
    let mut rows = vec![
        ("events", format!("{} pending, {} received", events.pending, events.total)),
        ("jobs", format!("{} waiting, {} running", jobs.waiting, jobs.running)),
        (
            "finished",
            format!(
                "{} deleted, {} already gone, {} spared, {} cancelled, {} failed",
                jobs.deleted, jobs.already_gone, jobs.spared, jobs.cancelled, jobs.failed
            ),
        ),
        ("paused", if paused { "yes: nothing is deleted until it is resumed" } else { "no" }.to_owned()),
    ];
    if let Some(stop) = stop {
        rows.push(("portal", format!("stopped: {} {}; {}", stop.code, stop.text, remedy_of(&stop))));
    }
    rows.extend(ctx.room().says().map(|problem| ("disk", problem)));
    rows.extend(silent.map(|since| ("silence", silence(zones.local(since)))));
    if let Some(problem) = (pages.reload_problem)() {
        rows.push(("rules", format!("the last reload failed; the old ones stay in force: {problem}")));
    }
    rows.extend(ctx.unchecked().says().map(|says| ("unchecked rules", says)));
    if let Some((error, at)) = last_error {
        rows.push(("last error", format!("{}: {error}", zones.local(at))));
    }
    Ok(rows)
}
