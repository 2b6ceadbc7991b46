//! `/sandbox/…`: what a rehearsal sees and does beside the portal's own API. None of it exists in Bitrix24.
//!
//! * `GET /sandbox/stats`: the counters.
//! * `GET /sandbox/leads?stage=&source=&created_before=&created_after=&closed=`: ids, by code that shares nothing with
//!   the REST filters.
//! * `POST /sandbox/colleague` `{"action":"update|add|delete|veto|deny|hide","id":1,"fields":{…},"text":"…"}`.
//! * `POST /sandbox/faults`: a fault or a list of them; `DELETE` clears.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::faults::Fault;
use super::{Lead, Sandbox};

pub(super) fn router() -> Router<Sandbox> {
    Router::new()
        .route("/stats", get(stats))
        .route("/leads", get(leads))
        .route("/colleague", post(colleague))
        .route("/faults", post(add_faults).delete(clear_faults))
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_string(body).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn refuse(status: StatusCode, problem: &str) -> Response {
    json(status, &serde_json::json!({ "problem": problem }))
}

async fn stats(State(sandbox): State<Sandbox>) -> Response {
    json(StatusCode::OK, &sandbox.stats())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    stage: Option<String>,
    source: Option<String>,
    created_before: Option<jiff::Timestamp>,
    created_after: Option<jiff::Timestamp>,
    closed: Option<bool>,
}

impl Which {
    fn holds(&self, lead: &Lead) -> bool {
        self.stage.as_deref().is_none_or(|stage| stage == &*lead.stage)
            && self.source.as_deref().is_none_or(|source| source == &*lead.source)
            && self.created_before.is_none_or(|at| lead.created < at.as_second())
            && self.created_after.is_none_or(|at| lead.created > at.as_second())
            && self.closed.is_none_or(|closed| closed == lead.closed.is_some())
    }
}

#[derive(Serialize)]
struct Listed {
    count: usize,
    ids: Vec<u32>,
}

async fn leads(State(sandbox): State<Sandbox>, Query(which): Query<Which>) -> Response {
    let ids: Vec<u32> =
        sandbox.lock().leads.values().filter(|lead| which.holds(lead)).map(|lead| lead.id).collect();
    json(StatusCode::OK, &Listed { count: ids.len(), ids })
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Update,
    Add,
    Delete,
    Veto,
    Deny,
    Hide,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deed {
    action: Action,
    #[serde(default)]
    id: u32,
    #[serde(default)]
    fields: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    text: String,
}

async fn colleague(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    let deed: Deed = match serde_json::from_slice(&body) {
        Ok(deed) => deed,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let mut unknown = None;
    let mut set = |lead: &mut Lead| {
        unknown =
            deed.fields.iter().find(|(name, value)| !lead.set(name, value)).map(|(name, _)| name.clone());
    };
    let (id, done) = match deed.action {
        Action::Update => (deed.id, sandbox.colleague_update(deed.id, set)),
        Action::Delete => (deed.id, sandbox.colleague_delete(deed.id)),
        Action::Add => {
            let mut lead = Lead::new("", sandbox.now());
            set(&mut lead);
            lead.id = deed.id;
            (sandbox.add_lead(lead), true)
        }
        Action::Veto => {
            sandbox.veto(deed.id, &deed.text);
            (deed.id, true)
        }
        Action::Deny => {
            sandbox.deny(deed.id);
            (deed.id, true)
        }
        Action::Hide => {
            sandbox.hide(deed.id);
            (deed.id, true)
        }
    };
    match (unknown, done) {
        (Some(name), _) => {
            refuse(StatusCode::BAD_REQUEST, &format!("can't set `{name}`; names are crm.item's"))
        }
        (None, false) => refuse(StatusCode::NOT_FOUND, "no such lead"),
        (None, true) => json(StatusCode::OK, &serde_json::json!({ "id": id })),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Fault),
    More(Vec<Fault>),
}

async fn add_faults(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    let faults = match serde_json::from_slice(&body) {
        Ok(OneOrMore::One(fault)) => vec![fault],
        Ok(OneOrMore::More(faults)) => faults,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let added = faults.len();
    for fault in faults {
        sandbox.set_fault(fault);
    }
    json(StatusCode::OK, &serde_json::json!({ "added": added }))
}

async fn clear_faults(State(sandbox): State<Sandbox>) -> Response {
    sandbox.clear_faults();
    json(StatusCode::OK, &serde_json::json!({}))
}
