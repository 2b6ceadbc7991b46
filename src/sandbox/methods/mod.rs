//! The REST methods: which exist, what scope they need, what they answer.
//!
//! A method is a function of the state, the parameters and a time; limits, faults and the `time` object are the
//! caller's (`session.rs`).

mod classic;
mod fieldinfo;
mod item;
mod misc;

use jiff::Timestamp;

use super::php::{Arr, Val};
use super::state::State;

/// Rows of a page; fixed in Bitrix24 (`LIST_LIMIT`).
pub(super) const PAGE: usize = 50;

/// An error of a method: `error`, `error_description`, HTTP status.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RestError {
    pub(super) code: String,
    pub(super) text: String,
    pub(super) status: u16,
}

impl RestError {
    pub(super) fn new(status: u16, code: &str, text: impl Into<String>) -> RestError {
        RestError { code: code.to_owned(), text: text.into(), status }
    }

    /// An error of the application: HTTP 400.
    pub(super) fn bad(code: &str, text: impl Into<String>) -> RestError {
        RestError::new(400, code, text)
    }

    pub(super) fn to_arr(&self) -> Arr {
        let mut body = Arr::new();
        body.field("error", self.code.as_str());
        body.field("error_description", self.text.as_str());
        body
    }
}

/// A method's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) result: Val,
    pub(super) total: Option<usize>,
    pub(super) next: Option<usize>,
}

impl Answer {
    pub(super) fn of(result: impl Into<Val>) -> Answer {
        Answer { result: result.into(), total: None, next: None }
    }
}

/// The surroundings of one call.
pub(super) struct Call<'a> {
    pub(super) method: &'a str,
    pub(super) params: &'a Arr,
    pub(super) now: Timestamp,
    /// An injected fault: the filter is lost.
    pub(super) filter_ignored: bool,
    /// The application exception that PHP keeps until the end of the hit (`batch.md` doesn't tell).
    pub(super) stale: &'a mut Option<String>,
}

const METHODS: &[&str] = &[
    "batch",
    "crm.item.add",
    "crm.item.delete",
    "crm.item.fields",
    "crm.item.get",
    "crm.item.import",
    "crm.item.list",
    "crm.item.update",
    "crm.lead.add",
    "crm.lead.delete",
    "crm.lead.fields",
    "crm.lead.get",
    "crm.lead.list",
    "crm.lead.update",
    "crm.status.list",
    "im.notify.system.add",
    "methods",
    "profile",
    "scope",
    "server.time",
    "user.current",
    "user.get",
];

/// Refuses an unknown method and one outside the webhook's scope, before anything is charged.
pub(super) fn check(state: &State, method: &str) -> Result<(), RestError> {
    if !METHODS.contains(&method) {
        return Err(RestError::new(404, "ERROR_METHOD_NOT_FOUND", "Method not found!"));
    }
    let granted = |names: &[&str]| state.options.scope.iter().any(|scope| names.contains(&scope.as_str()));
    let allowed = match method.split('.').next() {
        Some("crm") => granted(&["crm"]),
        Some("im") => granted(&["im"]),
        Some("user") => granted(&["user", "user_basic", "user_brief"]),
        Some(_) | None => true,
    };
    if allowed {
        return Ok(());
    }
    Err(RestError::new(
        401,
        "insufficient_scope",
        "The request requires higher privileges than provided by the webhook token",
    ))
}

/// The virtual seconds that a call takes.
pub(super) fn cost(state: &State, method: &str) -> f64 {
    match method.rsplit('.').next() {
        Some("delete") => state.options.delete_seconds,
        Some("list") => state.options.list_seconds,
        Some(_) | None => state.options.other_seconds,
    }
}

/// Runs a method that [`check`] let through.
pub(super) fn run(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    match call.method {
        "crm.lead.add" => classic::add(state, call),
        "crm.lead.delete" => classic::delete(state, call),
        "crm.lead.get" => classic::get(state, call),
        "crm.lead.list" => classic::list(state, call),
        "crm.lead.update" => classic::update(state, call),
        "crm.lead.fields" => Ok(Answer::of(fieldinfo::classic())),
        "crm.item.add" => item::add(state, call, false),
        "crm.item.import" => item::add(state, call, true),
        "crm.item.delete" => item::delete(state, call),
        "crm.item.get" => item::get(state, call),
        "crm.item.list" => item::list(state, call),
        "crm.item.update" => item::update(state, call),
        "crm.item.fields" => item::fields(state, call),
        "crm.status.list" => Ok(misc::statuses(call.params)),
        "im.notify.system.add" => misc::notify(state, call),
        "methods" => Ok(Answer::of(misc::names(METHODS.iter().copied()))),
        "profile" => Ok(Answer::of(misc::profile(state))),
        "scope" => Ok(Answer::of(misc::names(state.options.scope.iter().map(String::as_str)))),
        "server.time" => Ok(Answer::of(super::time::format(call.now.as_second(), state.offset()))),
        "user.current" => Ok(Answer::of(misc::user(state, state.options.user_id))),
        "user.get" => Ok(misc::users(state, call.params)),
        _ => Err(RestError::new(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")),
    }
}

/// `start`: -1 means no count; any other value is floored to a page.
fn start(params: &Arr) -> Option<usize> {
    let start = params.get("start").map_or(0, Val::to_int);
    if start == -1 {
        return None;
    }
    Some(usize::try_from(start.max(0)).unwrap_or_default() / PAGE * PAGE)
}

/// `next`, where there is more.
fn next(offset: usize, total: usize) -> Option<usize> {
    (offset + PAGE < total).then_some(offset + PAGE)
}
