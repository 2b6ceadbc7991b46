//! The service's switches: pause, resume, reload of the rules.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;

use super::{Asked, Pages, in_time};
use crate::http::reload;
use crate::store::control;

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new()
        .route("/pause", post(async |asked: Asked| switch(asked, true).await))
        .route("/resume", post(async |asked: Asked| switch(asked, false).await))
        .route("/rules/reload", post(reload_rules))
}

/// The same as the commands `pause` and `resume`.
async fn switch(asked: Asked, pause: bool) -> Response {
    let ctx = &asked.pages.ctx;
    let now = ctx.clock.now();
    let write = ctx.store.write(move |db| {
        if !pause {
            control::clear_portal_stop(db)?;
        }
        control::set_paused(db, pause, now)
    });
    let written = in_time(write).await;
    asked.pages.figures.forget().await;
    match written {
        Ok(()) => {
            tracing::info!(pause, "ordered on the admin page");
            let text = if pause {
                "Paused: nothing is claimed any more; requests in flight are finished."
            } else {
                "Resumed: jobs that are due are deleted."
            };
            asked.answer("/", StatusCode::OK, text)
        }
        Err(problem) => {
            let (status, text) = problem.told();
            asked.answer("/", status, &text)
        }
    }
}

async fn reload_rules(asked: Asked) -> Response {
    let (status, text) = reload::reload(&asked.pages.reload).await;
    asked.answer("/", status, &text)
}
