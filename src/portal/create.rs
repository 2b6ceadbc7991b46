//! Creating a lead from fields, and finding one that may have been created:
//! <https://apidocs.bitrix24.com/api-reference/crm/universal/import/crm-item-import.html>,
//! <https://apidocs.bitrix24.com/api-reference/crm/universal/crm-item-add.html>.
//!
//! Nothing here is repeated: a creation has no key by which the portal would know it again.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::envelope;
use super::leads::{LIST, PAGE, page};
use super::{CallError, Class, LEADS, Portal, Sent};
use crate::core::lead::{Lead, LeadId, read_time};

/// How a lead is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Creation {
    /// By `crm.item.import`: no automation starts, and an administrator may set created and changed times.
    Import,
    /// By `crm.item.add`.
    Add,
}

impl Creation {
    fn method(self) -> &'static str {
        match self {
            Creation::Import => "crm.item.import",
            Creation::Add => "crm.item.add",
        }
    }
}

impl CallError {
    /// Whether the portal certainly did not do what was asked, because of the request itself: another one may succeed.
    pub fn refused_as_such(&self) -> bool {
        let by_method = self.fault.code.eq_ignore_ascii_case("ERROR_METHOD_NOT_FOUND");
        by_method || (self.class == Class::Final && (self.sent == Sent::No || self.http_status == Some(400)))
    }
}

impl Portal {
    /// Creates a lead with these fields, and returns its id.
    ///
    /// # Errors
    /// Every [`CallError`]; with [`Sent::Maybe`] and not [`CallError::refused_as_such`] the lead may be there all the
    /// same.
    pub async fn create(&self, how: Creation, fields: &Map<String, Value>) -> Result<LeadId, CallError> {
        let params = json!({ "entityTypeId": LEADS, "fields": fields });
        let (result, status) = self.change(how.method(), &params).await?;
        let id = result.get("item").and_then(|item| item.get("id"));
        let id = match id {
            Some(Value::Number(number)) => number.as_i64().and_then(|id| LeadId::try_from(id).ok()),
            Some(Value::String(text)) => text.parse().ok(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
        };
        id.ok_or_else(|| CallError::malformed(Some(status), "a created lead without an id"))
    }

    /// Sets fields of a lead. It may be repeated: the result is the same.
    ///
    /// # Errors
    /// Every [`CallError`].
    pub async fn set_fields(&self, id: LeadId, fields: &Map<String, Value>) -> Result<(), CallError> {
        let params = json!({ "entityTypeId": LEADS, "id": id, "fields": fields });
        self.change("crm.item.update", &params).await.map(drop)
    }

    /// The leads with this `originatorId` and one of these `originId`s, 50 at most. One that is missing may be
    /// unreadable: a list can't tell.
    ///
    /// # Errors
    /// Every [`CallError`]; [`Class::Malformed`] when a lead comes back that was not asked for.
    pub async fn leads_by_origin(
        &self,
        originator: &str,
        origins: &[String],
    ) -> Result<Vec<Lead>, CallError> {
        if origins.is_empty() {
            return Ok(Vec::new());
        }
        if origins.len() > PAGE {
            return Err(CallError::refused_here("more than 50 origins in one list"));
        }
        let params = json!({
            "entityTypeId": LEADS,
            "select": ["id", "originatorId", "originId"],
            "filter": { "=originatorId": originator, "@originId": origins },
            "order": { "id": "ASC" },
            "start": -1,
        });
        let permit = self.inner.gate.list().await;
        let (reply, _) = self.read_with(permit, LIST, &params).await?;
        let found = page(reply.result, None).map_err(|why| CallError::malformed(Some(reply.status), &why))?;
        let asked = |lead: &Lead| {
            let text = |name: &str| lead.get(name).and_then(Value::as_str).unwrap_or_default();
            text("originatorId") == originator && origins.iter().any(|origin| origin == text("originId"))
        };
        if found.leads.iter().all(asked) {
            Ok(found.leads)
        } else {
            Err(CallError::malformed(Some(reply.status), "a lead of another origin than the one asked for"))
        }
    }

    /// When the lead with the greatest id was created; `None` where there is none, or its time can't be read.
    ///
    /// # Errors
    /// Every [`CallError`].
    pub async fn newest_created(&self) -> Result<Option<Timestamp>, CallError> {
        let params = json!({
            "entityTypeId": LEADS,
            "select": ["id", "createdTime"],
            "order": { "id": "DESC" },
            "start": -1,
        });
        let permit = self.inner.gate.list().await;
        let (reply, _) = self.read_with(permit, LIST, &params).await?;
        let leads =
            envelope::leads(reply.result).map_err(|why| CallError::malformed(Some(reply.status), &why))?;
        Ok(leads.iter().filter_map(|lead| lead.get("createdTime").and_then(read_time)).max())
    }

    /// A call that changes something, with a permit of its own.
    async fn change(&self, method: &'static str, params: &Value) -> Result<(Value, u16), CallError> {
        let permit = self.inner.gate.read(method).await;
        let flight = permit.start(&[method.to_owned()]);
        let exchange = self.exchange_once(method, params).await;
        let reply = self.conclude(method, exchange, flight, Vec::new())?;
        if let Some(seconds) = reply.cost.seconds {
            self.inner.gate.learn(method, seconds);
        }
        Ok((reply.result, reply.status))
    }
}
