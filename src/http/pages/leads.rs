//! `/leads/ID`: one lead against every rule and what became of it, the same as the command `explain`; and the order to restore
//! it from its copy. `/leads?id=ID` is where the search form leads to.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asking::{self, Outcome};
use super::compared::Compared;
use super::explained::Explained;
use super::layout::{Layout, Section, render};
use super::{Asked, Pages, Problem, in_time};
use crate::core::lead::LeadId;
use crate::core::outcome::Presence;
use crate::engine::explain::{Explanation, explain_within};
use crate::engine::restore::{BIN_FIRST, Became, NEVER, Report, Told};
use crate::engine::{Context, EngineError};
use crate::store::copies::{self, Copy};
use crate::store::restores::{RestoreLine, Which};

/// How long a page waits for the portal before it shows what the database knows alone.
const PORTAL_PATIENCE: Duration = Duration::from_secs(8);

#[derive(Template)]
#[template(path = "lead.html")]
struct LeadPage {
    page: Layout,
    lead: Explained,
    compared: Option<Compared>,
    bin_first: &'static str,
    never: &'static str,
}

pub(super) fn routes() -> Router<Arc<Pages>> {
    Router::new()
        .route("/leads", get(search))
        .route("/leads/{id}", get(one))
        .route("/leads/{id}/restore", post(restore))
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    id: String,
}

async fn search(Query(search): Query<Search>) -> Result<Response, Problem> {
    let id = read(search.id.trim())?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, format!("/leads/{id}"))]).into_response())
}

fn read(id: &str) -> Result<LeadId, Problem> {
    if id.is_empty() {
        return Err(Problem::Wrong(
            "write the id of a lead: it stands in the address of the lead's page in Bitrix24".into(),
        ));
    }
    id.parse().map_err(|error: crate::core::lead::NotALeadId| Problem::Wrong(error.to_string()))
}

async fn one(asked: Asked, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = read(&id)?;
    let ctx = asked.pages.ctx.hurried();
    let rules = ctx.rules();
    let told = explain_within(&ctx, &rules, id, PORTAL_PATIENCE).await.map_err(|error| match error {
        EngineError::Store(error) => Problem::Store(error),
        other => Problem::Unavailable(other.to_string()),
    })?;
    let copy = in_time(ctx.store.read(move |db| copies::get(db, id))).await?;
    let known =
        !told.jobs.is_empty() || !told.events.is_empty() || !told.restores.is_empty() || copy.is_some();
    if told.presence == "gone" && !known {
        return Err(Problem::NotFound(format!(
            "there is no lead {id}: neither the portal nor the history here knows it"
        )));
    }
    let personal = asked.visitor.holds_token;
    let compared = match &copy {
        Some(copy) => compare(&ctx, &told, copy, personal).await,
        None => None,
    };
    let page = asked.layout(Section::None, format!("Lead {id}"));
    let lead = Explained::new(told, copy, &rules, personal);
    Ok(render(StatusCode::OK, &LeadPage { page, lead, compared, bin_first: BIN_FIRST, never: NEVER }))
}

/// The copy beside the lead that was made from it, if one was. A portal that has just failed to answer is not asked again.
async fn compare(ctx: &Context, told: &Explanation, copy: &Copy, personal: bool) -> Option<Compared> {
    let of_copy = |restore: &&RestoreLine| restore.lead_id == copy.lead_id && restore.job_id == copy.job_id;
    let new = told.restores.iter().find(of_copy)?.new_lead_id?;
    if told.portal_error.is_some() {
        return Some(Compared::of(&copy.fields_json, new, None, personal));
    }
    let found = tokio::time::timeout(PORTAL_PATIENCE, ctx.portal.get(new)).await;
    let found = match &found {
        Ok(Ok(Presence::Present(lead))) => Some(lead.fields()),
        Ok(Ok(Presence::Gone | Presence::Unreadable(_)) | Err(_)) | Err(_) => None,
    };
    Some(Compared::of(&copy.fields_json, new, found, personal))
}

#[derive(Default, Deserialize)]
struct RestoreForm {
    #[serde(default)]
    confirm: String,
}

/// The same as the command `restore` with one lead.
async fn restore(
    asked: Asked,
    Path(id): Path<String>,
    form: Result<Form<RestoreForm>, FormRejection>,
) -> Result<Response, Problem> {
    let id = read(&id)?;
    let here = format!("/leads/{id}");
    // A script may send no form at all.
    let form = form.map(|Form(form)| form).unwrap_or_default();
    if form.confirm != "yes" {
        let text = "Nothing was restored: look into the portal's recycle bin first, then tick the box.";
        return Ok(asked.answer(&here, StatusCode::BAD_REQUEST, text));
    }
    tracing::info!(lead = %id, "restore ordered on the admin page");
    let args = json!({ "which": Which::Leads(vec![id]), "again": false });
    let (status, text) = match asking::order(&asked.pages, "restore", &args).await? {
        Outcome::Done(report) => became(&report),
        Outcome::Refused(error) => (StatusCode::CONFLICT, format!("Nothing was restored: {error}")),
        Outcome::GoesOn => (
            StatusCode::ACCEPTED,
            "The restore goes on. What comes of it stands below; load the page again.".into(),
        ),
    };
    Ok(asked.answer(&here, status, &text))
}

/// What became of the lead, in a sentence.
fn became(report: &Value) -> (StatusCode, String) {
    let told = Report::deserialize(report).ok().and_then(|report| report.leads.into_iter().next());
    let Some(Told { result, new_lead_id, why, differs, files, .. }) = told else {
        return (StatusCode::CONFLICT, "Nothing was restored: the service stops.".to_owned());
    };
    let new = new_lead_id.map(|id| id.to_string()).unwrap_or_default();
    let why = why.map(|why| format!(" {why}.")).unwrap_or_default();
    match result {
        Became::Restored => {
            let mut text = format!("Restored as lead {new}. Every rule leaves it alone for 30 days.{why}");
            let names = [("It differs in", differs.unwrap_or_default()), ("Files are missing in", files)];
            for (words, names) in names.into_iter().filter(|(_, names)| !names.is_empty()) {
                text.push_str(&format!(" {words} {}.", names.join(", ")));
            }
            (StatusCode::OK, text)
        }
        Became::AlreadyRestored => (
            StatusCode::CONFLICT,
            format!("It is restored already, as lead {new}: it is not restored twice.{why}"),
        ),
        Became::Unknown => (StatusCode::CONFLICT, format!("It is not known whether it was created.{why}")),
        Became::Failed => (StatusCode::CONFLICT, format!("It was not created.{why}")),
        Became::NotPossible => (StatusCode::CONFLICT, format!("It can't be restored.{why}")),
    }
}
