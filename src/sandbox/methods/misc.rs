//! Dictionaries, users and the methods about the caller.
//!
//! Bitrix24 docs: `status/crm-status-list.md`, `user/user-get.md`, `common/users/profile.md`, `common/system/scope.md`,
//! `chats/notifications/im-notify-system-add.md`.

use crate::sandbox::fields::STATUSES;
use crate::sandbox::methods::{Answer, Call, RestError};
use crate::sandbox::php::{Arr, Val};
use crate::sandbox::state::State;
use crate::sandbox::stats::Notification;

/// Users of the portal: ids 1 to this.
const USERS: u32 = 5;

/// The most notifications that the books keep: a program that sends more has shown enough.
const MAX_NOTIFICATIONS: usize = 10_000;

/// `crm.status.list`; only `ENTITY_ID` and `STATUS_ID` filter here.
pub(super) fn statuses(params: &Arr) -> Answer {
    let filter = params.get("filter").or_else(|| params.get("FILTER"));
    let wanted = |name: &str, value: &str| {
        filter.and_then(|filter| filter.get(name)).is_none_or(|want| want.to_text() == value)
    };
    let mut rows = Arr::new();
    for (status, id) in STATUSES.iter().zip(1i64..) {
        if !wanted("ENTITY_ID", status.dictionary) || !wanted("STATUS_ID", status.code) {
            continue;
        }
        let mut row = Arr::new();
        row.field("ID", id.to_string());
        row.field("ENTITY_ID", status.dictionary);
        row.field("STATUS_ID", status.code);
        row.field("NAME", status.name);
        row.field("NAME_INIT", if status.system { status.name } else { "" });
        row.field("SORT", (id * 10).to_string());
        row.field("SYSTEM", if status.system { "Y" } else { "N" });
        row.field("CATEGORY_ID", Val::Null);
        row.field("COLOR", "#39A8EF");
        let semantics = match status.semantics {
            "S" | "F" => Val::from(status.semantics),
            _ => Val::Null,
        };
        row.field("SEMANTICS", semantics);
        if !status.semantics.is_empty() {
            let mut extra = Arr::new();
            let name = match status.semantics {
                "S" => "success",
                "F" => "failure",
                _ => "process",
            };
            extra.field("SEMANTICS", name);
            extra.field("COLOR", "#39A8EF");
            row.field("EXTRA", extra);
        }
        rows.push(row);
    }
    let total = Some(rows.len());
    Answer { result: Val::Arr(rows), total, next: None }
}

/// A user as `user.current` shows it.
pub(super) fn user(state: &State, id: u32) -> Arr {
    let mut user = Arr::new();
    user.field("ID", id.to_string());
    user.field("ACTIVE", true);
    user.field("NAME", format!("User {id}"));
    user.field("LAST_NAME", "Sandbox");
    user.field("IS_ONLINE", "Y");
    user.field("TIME_ZONE_OFFSET", state.options.utc_offset_seconds.to_string());
    user.field("USER_TYPE", "employee");
    user
}

/// `user.get`, by `ID` or all.
pub(super) fn users(state: &State, params: &Arr) -> Answer {
    let id = params
        .get("ID")
        .or_else(|| params.get("id"))
        .or_else(|| params.get("FILTER").or_else(|| params.get("filter")).and_then(|f| f.get("ID")));
    let wanted: Option<Vec<i64>> = id.map(|value| match value {
        Val::Arr(list) => list.values().map(Val::to_int).collect(),
        Val::Null | Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Str(_) => vec![value.to_int()],
    });
    let mut rows = Arr::new();
    for id in 1..=USERS {
        if wanted.as_ref().is_none_or(|wanted| wanted.contains(&i64::from(id))) {
            rows.push(user(state, id));
        }
    }
    let total = Some(rows.len());
    Answer { result: Val::Arr(rows), total, next: None }
}

/// `profile`.
pub(super) fn profile(state: &State) -> Arr {
    let mut profile = Arr::new();
    profile.field("ID", state.options.user_id.to_string());
    profile.field("ADMIN", !state.options.restricted);
    profile.field("NAME", format!("User {}", state.options.user_id));
    profile.field("LAST_NAME", "Sandbox");
    profile.field("PERSONAL_GENDER", "");
    profile
}

/// `im.notify.system.add`; the notification stands in the books.
pub(super) fn notify(state: &mut State, call: &Call<'_>) -> Result<Answer, RestError> {
    let user = call.params.get("USER_ID").map_or(0, Val::to_int);
    let text = call.params.get("MESSAGE").map(Val::to_text).unwrap_or_default();
    let Some(user) = u32::try_from(user).ok().filter(|user| *user > 0) else {
        return Err(RestError::bad("USER_ID_EMPTY", "User ID can't be empty"));
    };
    if text.is_empty() {
        return Err(RestError::bad("MESSAGE_EMPTY", "Message can't be empty"));
    }
    let notifications = &mut state.stats.notifications;
    if notifications.len() < MAX_NOTIFICATIONS {
        notifications.push(Notification { user, text, at: call.now });
    }
    let id = i64::try_from(notifications.len()).unwrap_or(i64::MAX);
    Ok(Answer::of(id))
}

/// A list of names.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a str>) -> Arr {
    let mut list = Arr::new();
    for name in names {
        list.push(name);
    }
    list
}
