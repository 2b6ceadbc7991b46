//! Reading leads, and deleting one alone: <https://apidocs.bitrix24.com/api-reference/crm/universal/index.html>.
//!
//! The invariant: what comes back is what was asked for. A list with ids out of order, repeated, or never asked for
//! means that the portal read another request than ours, and is an error as a whole.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::envelope;
use super::{CallError, Class, LEADS, Permit, Portal, Sent, classify_delete};
use crate::core::freshness::Moment;
use crate::core::lead::{Lead, LeadId};
use crate::core::outcome::{DeleteReply, Fault, Presence};
use crate::core::rule::DeleteMethod;

/// The portal's page: at most this many leads a list, whatever is asked
/// (<https://apidocs.bitrix24.com/settings/performance/huge-data.html>).
pub const PAGE: usize = 50;

pub(super) const LIST: &str = "crm.item.list";
pub(super) const GET: &str = "crm.item.get";

/// One page of a list, or several in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The leads, by ascending id.
    pub leads: Vec<Lead>,
    /// Whether nothing comes after it: the last page was not full.
    pub last: bool,
}

impl Portal {
    /// The leads after `after` that the filter selects, 50 at most, by ascending id. Always selects `id`.
    ///
    /// # Errors
    /// Every [`CallError`]; [`Class::Malformed`] when the ids are not strictly ascending and above `after`.
    pub async fn list(
        &self,
        filter: &Map<String, Value>,
        after: Option<LeadId>,
        select: &[String],
    ) -> Result<Page, CallError> {
        let mut filter = filter.clone();
        if let Some(after) = after {
            // A rule may itself ask for ids above a number; the greater of the two covers both.
            let asked = filter.get(">id").and_then(Value::as_i64).unwrap_or(0);
            filter.insert(">id".to_owned(), Value::from(asked.max(i64::from(after))));
        }
        let mut fields: Vec<&str> = select.iter().map(String::as_str).collect();
        if !fields.contains(&"id") {
            fields.insert(0, "id");
        }
        let params = json!({
            "entityTypeId": LEADS,
            "select": fields,
            "filter": filter,
            "order": { "id": "ASC" },
            "start": -1,
        });
        let permit = self.inner.gate.list().await;
        let (reply, _) = self.read_with(permit, LIST, &params).await?;
        page(reply.result, after).map_err(|why| CallError::malformed(Some(reply.status), &why))
    }

    /// The leads of these ids, 50 at most, with all fields, phones and e-mails included. One that is missing may be
    /// deleted or unreadable: a list can't tell.
    ///
    /// # Errors
    /// Every [`CallError`]; [`Class::Malformed`] when a lead comes back that was not asked for.
    pub async fn leads_by_ids(&self, ids: &[LeadId]) -> Result<Vec<Lead>, CallError> {
        self.leads_by_ids_timed(ids).await.map(|(leads, _)| leads)
    }

    /// [`Portal::leads_by_ids`] with the moment at which the request left: the leads were read then or later.
    ///
    /// # Errors
    /// The same.
    pub async fn leads_by_ids_timed(&self, ids: &[LeadId]) -> Result<(Vec<Lead>, Moment), CallError> {
        if ids.is_empty() {
            return Ok((Vec::new(), self.inner.clock.moment()));
        }
        if ids.len() > PAGE {
            return Err(CallError::refused_here("more than 50 ids in one list"));
        }
        let ids: BTreeSet<LeadId> = ids.iter().copied().collect();
        let params = json!({
            "entityTypeId": LEADS,
            "select": ["*", "ufCrm_*"],
            "filter": { "@id": ids },
            "order": { "id": "ASC" },
            "start": -1,
        });
        let (reply, sent_at) = self.read_timed(LIST, &params).await?;
        let leads =
            asked_for(reply.result, &ids).map_err(|why| CallError::malformed(Some(reply.status), &why))?;
        Ok((leads, sent_at))
    }

    /// Whether a lead exists, and its fields: the only authoritative answer.
    ///
    /// # Errors
    /// Every [`CallError`] but the item's own `NOT_FOUND` and `ACCESS_DENIED`, which are answers.
    pub async fn get(&self, id: LeadId) -> Result<Presence, CallError> {
        self.get_timed(id).await.map(|(presence, _)| presence)
    }

    /// [`Portal::get`] with the moment at which the request left: the lead was read then or later.
    pub(super) async fn get_timed(&self, id: LeadId) -> Result<(Presence, Moment), CallError> {
        let permit = self.inner.gate.read(GET).await;
        let sent_at = self.inner.clock.moment();
        let reply = self.read_with(permit, GET, &json!({ "entityTypeId": LEADS, "id": id })).await;
        let presence = match reply {
            Ok((mut reply, _)) => {
                let item = reply.result.get_mut("item").map(Value::take).unwrap_or_default();
                match Lead::from_item(item) {
                    Ok(lead) if lead.id == id => Ok(Presence::Present(lead)),
                    Ok(_) => {
                        Err(CallError::malformed(Some(reply.status), "another lead than the one asked for"))
                    }
                    Err(why) => Err(CallError::malformed(Some(reply.status), &why.to_string())),
                }
            }
            Err(error) if is_items_own(&error, "NOT_FOUND") => Ok(Presence::Gone),
            Err(error) if is_items_own(&error, "ACCESS_DENIED") => Ok(Presence::Unreadable(error.fault)),
            Err(error) => Err(error),
        };
        Ok((presence?, sent_at))
    }

    /// How many leads the webhook may read.
    ///
    /// # Errors
    /// Every [`CallError`]; [`Class::Malformed`] without a `total`.
    pub async fn count(&self) -> Result<u64, CallError> {
        self.count_of(&Map::new()).await
    }

    /// How many leads the portal says the filter selects; nobody has judged them.
    ///
    /// # Errors
    /// Every [`CallError`]; [`Class::Malformed`] without a `total`.
    pub async fn count_of(&self, filter: &Map<String, Value>) -> Result<u64, CallError> {
        let mut params = json!({
            "entityTypeId": LEADS,
            "select": ["id"],
            "order": { "id": "ASC" },
            "start": 0,
        });
        if let (false, Some(params)) = (filter.is_empty(), params.as_object_mut()) {
            params.insert("filter".to_owned(), Value::Object(filter.clone()));
        }
        let reply = self.read(LIST, &params).await?;
        reply.total.ok_or_else(|| CallError::malformed(Some(reply.status), "a list without `total`"))
    }

    /// Deletes one lead outside a batch, where the portal's answer is about this lead and no other.
    ///
    /// # Errors
    /// A [`CallError`] where the whole request failed; what concerns the lead is a [`DeleteReply`].
    pub async fn delete_one(&self, permit: Permit, id: LeadId) -> Result<DeleteReply, CallError> {
        let method = self.limits().delete_method;
        let name = method.as_str();
        let params = match method {
            DeleteMethod::Lead => json!({ "id": id }),
            DeleteMethod::Item => json!({ "entityTypeId": LEADS, "id": id }),
        };
        let flight = permit.start(&[name.to_owned()]);
        let exchange = self.exchange_once(name, &params).await;
        match self.conclude(name, exchange, flight, Vec::new()) {
            Ok(reply) => {
                if let Some(seconds) = reply.cost.seconds {
                    self.inner.gate.learn(name, seconds);
                }
                Ok(self.deleted(method, &reply.result))
            }
            Err(error) => match (error.class, error.http_status) {
                (Class::Final | Class::Confirm, Some(status)) => {
                    Ok(classify_delete(method, Some(status), error.fault))
                }
                (
                    Class::Retry
                    | Class::PauseMethod
                    | Class::PausePortal
                    | Class::RefreshToken
                    | Class::StopPortal
                    | Class::StopPortalForPerson
                    | Class::Malformed
                    | Class::Final
                    | Class::Confirm,
                    _,
                ) => Err(error),
            },
        }
    }
}

/// A page of a list by ascending id, after `after`.
pub(super) fn page(result: Value, after: Option<LeadId>) -> Result<Page, String> {
    let leads = envelope::leads(result)?;
    if leads.len() > PAGE {
        return Err("more than 50 leads on a page".to_owned());
    }
    let mut before = after;
    for lead in &leads {
        if before.is_some_and(|before| lead.id <= before) {
            return Err("ids out of order: the keyset was not honoured".to_owned());
        }
        before = Some(lead.id);
    }
    let last = leads.len() < PAGE;
    Ok(Page { leads, last })
}

/// `NOT_FOUND` and `ACCESS_DENIED` as a method says them about its item, and not a gateway or the authorisation.
fn is_items_own(error: &CallError, code: &str) -> bool {
    error.fault.code == code && error.class == Class::Final && error.sent == Sent::No
}

impl Portal {
    /// [`deleted`], with our secrets hidden in a result that is none.
    pub(super) fn deleted(&self, method: DeleteMethod, result: &Value) -> DeleteReply {
        match deleted(method, result) {
            DeleteReply::Unknown(fault) => {
                DeleteReply::Unknown(self.inner.endpoint.fault(&fault.code, &fault.text))
            }
            reply => reply,
        }
    }
}

/// What a successful deletion returns: `true` from `crm.lead.delete`, an empty list from `crm.item.delete`. Anything
/// else is no answer.
fn deleted(method: DeleteMethod, result: &Value) -> DeleteReply {
    let as_documented = match method {
        DeleteMethod::Lead => *result == Value::Bool(true),
        DeleteMethod::Item => result.as_array().is_some_and(Vec::is_empty),
    };
    if as_documented {
        DeleteReply::Deleted
    } else {
        DeleteReply::Unknown(Fault {
            code: "<result>".to_owned(),
            text: format!("unexpected result {result}"),
        })
    }
}

/// The leads of a list by ids: each asked for, none twice.
pub(super) fn asked_for(result: Value, ids: &BTreeSet<LeadId>) -> Result<Vec<Lead>, String> {
    let leads = envelope::leads(result)?;
    let mut seen = BTreeSet::new();
    for lead in &leads {
        if !ids.contains(&lead.id) {
            return Err(format!("lead {} was not asked for", lead.id));
        }
        if !seen.insert(lead.id) {
            return Err(format!("lead {} came twice", lead.id));
        }
    }
    Ok(leads)
}
