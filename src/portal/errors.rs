//! What the portal's errors mean: one table for every code, and the shapes of replies that carry none.
//!
//! The code decides, not the HTTP status; the status only tells apart the codes that mean two things. The invariants:
//! a reply that is not the JSON expected is never success; "not found" is certain only where the portal says it in a
//! way that nothing else can be mistaken for; whatever is unclear becomes a question, never an answer.

use crate::core::outcome::{DeleteReply, Fault};
use crate::core::rule::DeleteMethod;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It passes: try again after a while.
    Retry,
    /// The method's operating budget is used up: pause that method.
    PauseMethod,
    /// Too many requests: slow down everything.
    PausePortal,
    /// The access token has expired or is unknown: refresh it once, repeat the call.
    RefreshToken,
    /// The portal refuses everything until its administrator acts; a probe notices when it has.
    StopPortal,
    /// As [`Class::StopPortal`], but no probe may be sent: only a person or a restart resumes.
    StopPortalForPerson,
    /// Final for this request or this lead.
    Final,
    /// The code may mean several things: only `crm.item.get` can tell what has become of the lead.
    Confirm,
    /// The reply is not the JSON expected. It says nothing, and is never success.
    Malformed,
}

impl Class {
    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Class::Retry => "retry",
            Class::PauseMethod => "method_paused",
            Class::PausePortal => "rate_limited",
            Class::RefreshToken => "token_expired",
            Class::StopPortal | Class::StopPortalForPerson => "stopped",
            Class::Final => "final",
            Class::Confirm => "unclear",
            Class::Malformed => "malformed",
        }
    }
}

/// Whether the portal may have begun to execute the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Surely not: it never left, or was refused before anything was done.
    No,
    /// It may have been executed, or may still be.
    Maybe,
}

/// A call without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// What to do about it.
    pub class: Class,
    /// The portal's words, or ours in angle brackets; never with a secret in them.
    pub fault: Fault,
    /// The HTTP status, where there was a reply.
    pub http_status: Option<u16>,
    /// Whether it may have been executed.
    pub sent: Sent,
    /// What the administrator does, in one sentence.
    pub remedy: &'static str,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.fault)?;
        match self.http_status {
            Some(status) => write!(f, " (HTTP {status})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CallError {}

impl CallError {
    /// What the failure of the whole request makes of each deletion in it.
    pub fn as_reply(&self) -> DeleteReply {
        let fault = self.fault.clone();
        match (self.sent, self.class) {
            (Sent::Maybe, _) => DeleteReply::Unknown(fault),
            (Sent::No, Class::PauseMethod) => DeleteReply::MethodPaused(fault),
            (Sent::No, Class::PausePortal | Class::Retry) => DeleteReply::Busy(fault),
            (Sent::No, Class::RefreshToken | Class::StopPortal | Class::StopPortalForPerson) => {
                DeleteReply::Stopped(fault)
            }
            (Sent::No, Class::Final | Class::Confirm | Class::Malformed) => DeleteReply::NotExecuted(fault),
        }
    }

    pub(super) fn malformed(http_status: Option<u16>, why: &str) -> CallError {
        CallError {
            class: Class::Malformed,
            fault: Fault::new("<malformed>", why),
            http_status,
            sent: Sent::Maybe,
            remedy: NOT_OUR_JSON,
        }
    }

    pub(super) fn refused_here(why: &str) -> CallError {
        CallError {
            class: Class::Final,
            fault: Fault::new("<not sent>", why),
            http_status: None,
            sent: Sent::No,
            remedy: OUR_BUG,
        }
    }
}

/// On which HTTP statuses a row applies. Inside a batch there is no status: only [`On::Any`] and [`On::Lead`] rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// On every status.
    Any,
    /// Where the authorisation refuses: 401 and 403.
    Auth,
    /// On 5xx.
    Server,
    /// Where a method answers about its item: 400, 200, and inside a batch.
    Lead,
}

impl On {
    fn holds(self, status: Option<u16>) -> bool {
        match self {
            On::Any => true,
            On::Auth => matches!(status, Some(401 | 403)),
            On::Server => status.is_some_and(|status| status >= 500),
            On::Lead => status.is_none_or(|status| matches!(status, 200 | 400)),
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The JSON `error`, compared without regard to case.
    pub code: &'static str,
    /// Where it means this.
    pub on: On,
    /// What to do.
    pub class: Class,
    /// Whether the call may have been executed all the same.
    pub sent: Sent,
    /// What the administrator does.
    pub remedy: &'static str,
    /// The page of <https://apidocs.bitrix24.com> that it comes from, without that address.
    pub page: &'static str,
}

const fn row(
    code: &'static str,
    on: On,
    class: Class,
    sent: Sent,
    remedy: &'static str,
    page: &'static str,
) -> Row {
    Row { code, on, class, sent, remedy, page }
}

const WAIT: &str = "Nothing to do: the portal has a passing trouble, and the call is repeated.";
const SLOWER: &str = "Nothing to do if it is rare; if it persists, another program shares this address: lower \
                      `portal.requests_per_second`.";
const BUDGET: &str = "Nothing to do: the portal allows this method again in some minutes; another integration may be \
                      using the same budget.";
const OVERLOAD: &str = "Bitrix24 has blocked this webhook by hand for overload: ask Bitrix24 support to lift it, then \
                        run `b24-janitor resume`.";
const WEBHOOK: &str = "The webhook is revoked or its address is wrong: create a new incoming webhook with the scope \
                       `crm` and put its address into B24_WEBHOOK_URL.";
const HTTPS: &str = "The request was refused: the portal accepts calls over https only, so put `https://` into \
                     B24_WEBHOOK_URL or B24_PORTAL_URL; of a local application check the B24_OAUTH_ settings too.";
const SCOPE: &str = "A permission is missing: tick `crm` (CRM) in the settings of the webhook or of the local \
                     application.";
const TOKEN: &str = "The portal refuses the application's access token, even a new one: B24_PORTAL_URL must be the \
                     portal in which the application is installed; if it is, authorise the application again and put \
                     the new refresh token into B24_OAUTH_REFRESH_TOKEN.";
const GRANT: &str = "The refresh token is no longer valid (it lives 180 days, and a renewal by another program \
                     replaces it): authorise the application again in the portal, put the new refresh token into \
                     B24_OAUTH_REFRESH_TOKEN and restart.";
const CLIENT: &str = "The authorisation server does not know the application: check B24_OAUTH_CLIENT_ID and \
                      B24_OAUTH_CLIENT_SECRET, and that the application is installed in the portal.";
const USER: &str = "The webhook's owner has been dismissed or may not use the application: create the webhook, or \
                    authorise the application, under an active user with the right to delete leads.";
const PLAN: &str =
    "The portal's plan does not include the REST API: renew the plan or the Market subscription.";
const APP: &str = "The application is not installed, unpaid or unknown: install or renew it in the portal.";
const CONFIRM_IT: &str =
    "A person must allow this call in the portal: an administrator confirms the request there.";
const METHOD: &str = "The portal does not know the method, or the webhook lacks its scope: tick `crm` in the \
                      webhook's settings; on an old on-premise portal, update it.";
const DELETED: &str = "The portal has been deleted: point B24_WEBHOOK_URL at an existing one.";
const RIGHTS: &str = "The webhook's owner has no right to this lead: give that user the right to read and delete all \
                      leads.";
const VETO: &str = "A handler on the portal forbids the deletion of this lead: its developer knows why.";
const GONE: &str = "Nothing to do: the lead does not exist any more.";
const LOOK: &str = "Nothing to do: whether the lead still exists is asked next.";
const OUR_BUG: &str = "The request itself is wrong: please report it, with the portal's words.";
const FIELDS: &str = "The portal does not accept a field or value of the request: `b24-janitor check --online` names \
                      the rule.";
const NOT_OUR_JSON: &str = "Something between this program and the portal answers in the portal's place: look for a \
                            proxy, a firewall or a maintenance page.";
const NETWORK: &str =
    "The portal cannot be reached: check the network, the name of the host and its certificate.";
const RENAMED: &str = "The portal answers with a redirect, most likely because it was renamed: put its new host into \
                       B24_WEBHOOK_URL.";
const AWAY: &str = "The authorisation server cannot be reached or has a passing trouble: the call is repeated; if it \
                    persists, check the network and B24_OAUTH_SERVER.";
const RENEWAL: &str = "The authorisation server refuses to renew the access token: look at its words, and check the \
                       B24_OAUTH_ settings.";
const KEEPING: &str = "Nothing to do if it is rare: the call is repeated; if it persists, the database cannot be \
                       written, and the log says why.";
const UNHEARD: &str = "The portal answered with an error that is not documented: look at its words.";

const SYSTEM: &str = "api-reference/common/system/index.html";
const LIMITS: &str = "limits.html";
const BATCH: &str = "settings/how-to-call-rest-api/batch.html";
const ITEM_DELETE: &str = "api-reference/crm/universal/crm-item-delete.html";
const LEAD_DELETE: &str = "api-reference/crm/leads/crm-lead-delete.html";
const ITEM_LIST: &str = "api-reference/crm/universal/crm-item-list.html";
const OAUTH: &str = "settings/oauth/error-codes.html";
const TOKENS: &str = "settings/oauth/auto-renewal.html";
const HOOKS: &str = "local-integrations/local-webhooks.html";
const ACCESS: &str = "first-steps/access-to-rest-api.html";

/// Every error with a code; of two rows of one code the first that holds counts.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row("INTERNAL_SERVER_ERROR", On::Any, Class::Retry, Sent::Maybe, WAIT, SYSTEM),
    row("ERROR_UNEXPECTED_ANSWER", On::Any, Class::Retry, Sent::Maybe, WAIT, SYSTEM),
    row("QUERY_LIMIT_EXCEEDED", On::Any, Class::PausePortal, Sent::No, SLOWER, LIMITS),
    row("OPERATION_TIME_LIMIT", On::Any, Class::PauseMethod, Sent::No, BUDGET, LIMITS),
    row("OVERLOAD_LIMIT", On::Any, Class::StopPortalForPerson, Sent::No, OVERLOAD, LIMITS),
    row("ERROR_BATCH_METHOD_NOT_ALLOWED", On::Any, Class::Final, Sent::No, OUR_BUG, BATCH),
    row("ERROR_BATCH_LENGTH_EXCEEDED", On::Any, Class::Final, Sent::No, OUR_BUG, BATCH),
    row("NO_AUTH_FOUND", On::Any, Class::StopPortal, Sent::No, WEBHOOK, HOOKS),
    row("INVALID_REQUEST", On::Any, Class::StopPortal, Sent::No, HTTPS, HOOKS),
    row("INVALID_CREDENTIALS", On::Any, Class::StopPortal, Sent::No, WEBHOOK, HOOKS),
    row("insufficient_scope", On::Any, Class::StopPortal, Sent::No, SCOPE, HOOKS),
    row("invalid_scope", On::Any, Class::StopPortal, Sent::No, SCOPE, OAUTH),
    row("expired_token", On::Any, Class::RefreshToken, Sent::No, TOKEN, TOKENS),
    row("invalid_token", On::Any, Class::RefreshToken, Sent::No, TOKEN, TOKENS),
    row("invalid_grant", On::Any, Class::StopPortal, Sent::No, GRANT, OAUTH),
    row("invalid_client", On::Any, Class::StopPortal, Sent::No, CLIENT, OAUTH),
    row("user_access_error", On::Any, Class::StopPortal, Sent::No, USER, SYSTEM),
    row("authorization_error", On::Any, Class::StopPortal, Sent::No, USER, SYSTEM),
    row("allowed_only_intranet_user", On::Any, Class::StopPortal, Sent::No, USER, ITEM_DELETE),
    row("ACCESS_DENIED", On::Auth, Class::StopPortal, Sent::No, PLAN, ACCESS),
    row("ACCESS_DENIED", On::Lead, Class::Final, Sent::No, RIGHTS, ITEM_DELETE),
    row("CONNECTION_ERROR", On::Any, Class::Retry, Sent::No, WAIT, SYSTEM),
    row("APPLICATION_NOT_FOUND", On::Any, Class::StopPortal, Sent::No, APP, OAUTH),
    row("ERROR_OAUTH", On::Any, Class::StopPortal, Sent::No, APP, OAUTH),
    row("PAYMENT_REQUIRED", On::Any, Class::StopPortal, Sent::No, PLAN, OAUTH),
    row("WRONG_CLIENT", On::Any, Class::StopPortal, Sent::No, CLIENT, OAUTH),
    row("WRONG_AUTH_TYPE", On::Any, Class::StopPortal, Sent::No, METHOD, SYSTEM),
    row("METHOD_CONFIRM_WAITING", On::Any, Class::StopPortal, Sent::No, CONFIRM_IT, SYSTEM),
    row("METHOD_CONFIRM_DENIED", On::Any, Class::StopPortalForPerson, Sent::No, CONFIRM_IT, SYSTEM),
    row("ERROR_METHOD_NOT_FOUND", On::Any, Class::StopPortal, Sent::No, METHOD, SYSTEM),
    row("ERROR_MANIFEST_IS_NOT_AVAILABLE", On::Any, Class::Final, Sent::No, UNHEARD, SYSTEM),
    row("PORTAL_DELETED", On::Any, Class::StopPortal, Sent::No, DELETED, SYSTEM),
    row("ERROR_CORE", On::Server, Class::Retry, Sent::Maybe, WAIT, SYSTEM),
    row("ERROR_CORE", On::Any, Class::Confirm, Sent::Maybe, LOOK, LEAD_DELETE),
    row("", On::Server, Class::Retry, Sent::Maybe, WAIT, SYSTEM),
    row("", On::Any, Class::Confirm, Sent::Maybe, LOOK, LEAD_DELETE),
    row("NOT_FOUND", On::Lead, Class::Final, Sent::No, GONE, ITEM_DELETE),
    row("CRM_ITEM_DELETE_ACCESS_DENIED", On::Any, Class::Final, Sent::No, RIGHTS, ITEM_DELETE),
    row("TERMINATED_BY_EVENT_COMPATIBLE", On::Any, Class::Final, Sent::No, VETO, ITEM_DELETE),
    row("ENTITY_TYPE_NOT_SUPPORTED", On::Any, Class::Final, Sent::No, OUR_BUG, ITEM_DELETE),
    row("ERROR_ARGUMENT", On::Any, Class::Final, Sent::No, FIELDS, SYSTEM),
    row("100", On::Any, Class::Final, Sent::No, OUR_BUG, ITEM_DELETE),
    row("INVALID_ARG_VALUE", On::Any, Class::Final, Sent::No, FIELDS, ITEM_LIST),
    row("WRONG_ENCODING", On::Any, Class::Final, Sent::No, OUR_BUG, SYSTEM),
];

/// Whether a code is one of the documentation's.
pub(super) fn is_known(code: &str) -> bool {
    TABLE.iter().any(|row| row.code.eq_ignore_ascii_case(code))
}

/// What this module recognises in texts: documented, hence no secret.
pub(super) fn public_phrases() -> impl Iterator<Item = &'static str> {
    let starts = [PLAN_TEXT, PLAN_TEXT_OF_BATCH, SQL_ERROR, NOT_FOUND_START];
    starts.into_iter().chain(NOT_FOUND_TEXTS.iter().copied())
}

/// The row that an error means; `None` for a code that no page mentions. `status` is `None` inside a batch.
pub fn find(code: &str, text: &str, status: Option<u16>) -> Option<&'static Row> {
    // Inside a batch there is no status to tell the portal's refusal from an item's by.
    let status = if status.is_none() && code.eq_ignore_ascii_case("ACCESS_DENIED") && is_about_the_plan(text)
    {
        Some(401)
    } else {
        status
    };
    TABLE.iter().find(|row| row.code.eq_ignore_ascii_case(code) && row.on.holds(status))
}

fn is_about_the_plan(text: &str) -> bool {
    text.starts_with(PLAN_TEXT) || text.contains(PLAN_TEXT_OF_BATCH)
}

/// What the administrator does about an error of a single deletion in a batch.
pub fn remedy(fault: &Fault) -> &'static str {
    find(&fault.code, &fault.text, None).map_or(UNHEARD, |row| row.remedy)
}

/// The error of a whole request, from its JSON.
pub(super) fn from_json(fault: Fault, status: u16) -> CallError {
    let (class, sent, remedy) = match find(&fault.code, &fault.text, Some(status)) {
        Some(row) => (row.class, row.sent, row.remedy),
        None => match status {
            500.. => (Class::Retry, Sent::Maybe, WAIT),
            429 => (Class::PausePortal, Sent::Maybe, SLOWER),
            401 | 403 => (Class::StopPortal, Sent::Maybe, UNHEARD),
            ..=428 | 430..=499 => (Class::Final, Sent::Maybe, UNHEARD),
        },
    };
    CallError { class, fault, http_status: Some(status), sent, remedy }
}

/// The error of a command of a batch that reads, in a reply with this status.
pub(super) fn from_command(fault: Fault, status: u16) -> CallError {
    let (class, sent, remedy) = match find(&fault.code, &fault.text, None) {
        Some(row) => (row.class, row.sent, row.remedy),
        None => (Class::Final, Sent::Maybe, UNHEARD),
    };
    CallError { class, fault, http_status: Some(status), sent, remedy }
}

/// The error of a reply that is not JSON of the portal: a page, an empty body, half a document, a redirect.
pub(super) fn from_shape(status: u16, what: &str) -> CallError {
    let (class, remedy) = match status {
        503 | 429 => (Class::PausePortal, SLOWER),
        500.. => (Class::Retry, WAIT),
        300..=399 => (Class::StopPortal, RENAMED),
        400..=428 | 430..=499 => (Class::StopPortal, NOT_OUR_JSON),
        ..=299 => (Class::Malformed, NOT_OUR_JSON),
    };
    CallError {
        class,
        fault: Fault::new(format!("<http {status}>"), what),
        http_status: Some(status),
        sent: Sent::Maybe,
        remedy,
    }
}

/// What the authorisation server's error means for the call that needed a token. Its errors never say anything about
/// the portal's pace, and the portal surely has not executed that call.
pub(super) fn from_renewal(fault: Fault, http_status: Option<u16>) -> CallError {
    let row = find(&fault.code, &fault.text, http_status);
    let (class, remedy) = match (row, http_status) {
        (Some(row), _) => match row.class {
            Class::Retry | Class::PauseMethod | Class::PausePortal => (Class::Retry, AWAY),
            Class::StopPortal | Class::StopPortalForPerson => (row.class, row.remedy),
            Class::RefreshToken | Class::Final | Class::Confirm | Class::Malformed => {
                (Class::StopPortal, RENEWAL)
            }
        },
        // Whatever stands where its answer should be passes, unless it says that the request itself is wrong.
        (None, None | Some(..=299 | 429 | 500..)) => (Class::Retry, AWAY),
        (None, Some(300..=428 | 430..=499)) => (Class::StopPortal, RENEWAL),
    };
    CallError { class, fault, http_status, sent: Sent::No, remedy }
}

/// The tokens could be read or written no more, or a deletion met an old token: nothing was executed, and it passes.
pub(super) fn not_now(code: &str, text: &str) -> CallError {
    CallError {
        class: Class::Retry,
        fault: Fault::new(code, text),
        http_status: None,
        sent: Sent::No,
        remedy: KEEPING,
    }
}

/// The error of a request without a reply. `code` is a word in angle brackets.
pub(super) fn from_network(sent: Sent, code: &str, text: &str) -> CallError {
    CallError { class: Class::Retry, fault: Fault::new(code, text), http_status: None, sent, remedy: NETWORK }
}

const PLAN_TEXT: &str = "REST is available only";
const PLAN_TEXT_OF_BATCH: &str = "can't be authorized";
const SQL_ERROR: &str = "SQL query error";
const NOT_FOUND_START: &str = "Not found";

/// Texts of `crm.lead.delete` that mean a missing lead where its code is `ERROR_CORE`: the English and Russian strings
/// of the portal's source and documentation. Other languages are asked about with `crm.item.get`.
const NOT_FOUND_TEXTS: &[&str] = &[
    "Item was not found",
    "Item not found",
    "Element not found",
    "Element was not found",
    "Lead was not found",
    "Lead not found",
    "Элемент не найден",
    "Лид не найден",
];

/// What an error means for the deletion it answers. `status` is `None` inside a batch.
///
/// Inside a batch `crm.lead.delete` can report one lead's error under the next one's key, so that no text and no
/// ambiguous code proves anything there.
pub fn classify_delete(method: DeleteMethod, status: Option<u16>, fault: Fault) -> DeleteReply {
    let Some(row) = find(&fault.code, &fault.text, status) else {
        return match status {
            Some(500..) => DeleteReply::Unknown(fault),
            Some(_) | None => DeleteReply::Unsure(fault),
        };
    };
    match row.class {
        Class::PauseMethod => DeleteReply::MethodPaused(fault),
        Class::PausePortal => DeleteReply::Busy(fault),
        Class::RefreshToken | Class::StopPortal | Class::StopPortalForPerson => DeleteReply::Stopped(fault),
        Class::Retry => match row.sent {
            Sent::No => DeleteReply::Busy(fault),
            Sent::Maybe => DeleteReply::Unknown(fault),
        },
        Class::Malformed => DeleteReply::Unknown(fault),
        Class::Confirm => match method {
            DeleteMethod::Lead if status.is_some() && says_not_found(&fault) => DeleteReply::NotFound,
            DeleteMethod::Lead | DeleteMethod::Item if fault.text.starts_with(SQL_ERROR) => {
                DeleteReply::Unknown(fault)
            }
            DeleteMethod::Lead | DeleteMethod::Item => DeleteReply::Unsure(fault),
        },
        Class::Final => match (method, row.code) {
            (_, "ERROR_BATCH_METHOD_NOT_ALLOWED" | "ERROR_BATCH_LENGTH_EXCEEDED") => {
                DeleteReply::NotExecuted(fault)
            }
            (DeleteMethod::Item, "NOT_FOUND") => DeleteReply::NotFound,
            (
                DeleteMethod::Item,
                "ACCESS_DENIED" | "CRM_ITEM_DELETE_ACCESS_DENIED" | "TERMINATED_BY_EVENT_COMPATIBLE",
            ) => DeleteReply::Refused(fault),
            (DeleteMethod::Lead | DeleteMethod::Item, _) => DeleteReply::Unsure(fault),
        },
    }
}

/// Whether a fault is one of the known ways of `crm.lead.delete` to say that there is no such lead.
pub fn says_not_found(fault: &Fault) -> bool {
    if fault.code.is_empty() {
        return fault.text.starts_with(NOT_FOUND_START);
    }
    let text = fault.text.trim_end_matches('.');
    NOT_FOUND_TEXTS.contains(&text)
}
