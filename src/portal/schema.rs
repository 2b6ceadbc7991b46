//! What the portal knows: the fields of a lead, its stages, the webhook's permissions; and whether it answers at all.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::envelope;
use super::{CallError, LEADS, Portal};
use crate::core::lead::read_flag;

const FIELDS: &str = "crm.item.fields";
const STATUSES: &str = "crm.status.list";
const SCOPE: &str = "scope";
const USERS: &str = "user.get";

/// The most users that are asked about: 50 an answer, and rules name a few.
const MAX_USERS: usize = 1000;
const USERS_A_PAGE: usize = 50;

/// The most pages of stages that are read: 50 a page, and a thousand stages are more than any portal shows.
const MAX_STAGE_PAGES: usize = 20;

/// What the portal says about a field
/// (<https://apidocs.bitrix24.com/api-reference/crm/universal/crm-item-fields.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldInfo {
    /// Its type, as `string`, `crm_status` or `datetime`.
    pub kind: String,
    /// Whether it holds several values.
    pub is_multiple: bool,
    /// Whether it can't be written.
    pub is_read_only: bool,
    /// Its name for people, in the portal's language.
    pub title: String,
    /// What a field of the type `enumeration` offers: the number that a lead holds, and its name for people.
    pub options: Vec<(i64, String)>,
}

fn options(field: &Value) -> Vec<(i64, String)> {
    let items = field.get("items").and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(|item| {
            let id = match item.get("ID")? {
                Value::String(text) => text.parse().ok()?,
                other => other.as_i64()?,
            };
            Some((id, item.get("VALUE").and_then(Value::as_str).unwrap_or_default().to_owned()))
        })
        .collect()
}

/// A stage of leads, or a source (<https://apidocs.bitrix24.com/api-reference/crm/status/crm-status-list.html>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The code that `stageId`, or `sourceId`, holds.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// `S` (converted) or `F` (failed); nothing while in progress.
    pub semantics: Option<String>,
}

impl Portal {
    /// Whether the portal answers and the webhook may use the CRM: a read of the lead's fields.
    ///
    /// # Errors
    /// Every [`CallError`].
    pub async fn probe(&self) -> Result<(), CallError> {
        self.lead_fields().await.map(|_| ())
    }

    /// The fields of a lead by name.
    ///
    /// # Errors
    /// Every [`CallError`].
    pub async fn lead_fields(&self) -> Result<BTreeMap<String, FieldInfo>, CallError> {
        let mut reply = self.read(FIELDS, &json!({ "entityTypeId": LEADS })).await?;
        let fields = reply.result.get_mut("fields").map(Value::take);
        let Some(Value::Object(fields)) = fields else {
            return Err(CallError::malformed(Some(reply.status), "`result.fields` is no object"));
        };
        let text = |field: &Value, key| field.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |field: &Value, key| field.get(key).and_then(read_flag).unwrap_or(false);
        Ok(fields
            .iter()
            .map(|(name, field)| {
                let info = FieldInfo {
                    kind: text(field, "type"),
                    is_multiple: flag(field, "isMultiple"),
                    is_read_only: flag(field, "isReadOnly"),
                    title: text(field, "title"),
                    options: options(field),
                };
                (name.clone(), info)
            })
            .collect())
    }

    /// The stages of leads, in the portal's order.
    ///
    /// # Errors
    /// Every [`CallError`].
    pub async fn stages(&self) -> Result<Vec<Stage>, CallError> {
        self.statuses("STATUS").await
    }

    /// The sources of leads, in the portal's order; they have no semantics.
    ///
    /// # Errors
    /// Every [`CallError`].
    pub async fn sources(&self) -> Result<Vec<Stage>, CallError> {
        self.statuses("SOURCE").await
    }

    async fn statuses(&self, dictionary: &str) -> Result<Vec<Stage>, CallError> {
        let mut stages = Vec::new();
        let mut start = 0;
        for _ in 0..MAX_STAGE_PAGES {
            let params = json!({
                "filter": { "ENTITY_ID": dictionary },
                "order": { "SORT": "ASC" },
                "start": start,
            });
            let reply = self.read(STATUSES, &params).await?;
            let Some(rows) = envelope::list(reply.result) else {
                return Err(CallError::malformed(Some(reply.status), "`result` is no list of stages"));
            };
            for row in rows {
                let text = |key| row.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
                let Some(id) = text("STATUS_ID") else {
                    return Err(CallError::malformed(Some(reply.status), "a stage without STATUS_ID"));
                };
                stages.push(Stage {
                    id: id.to_owned(),
                    name: text("NAME").unwrap_or(id).to_owned(),
                    semantics: text("SEMANTICS").map(str::to_owned),
                });
            }
            match reply.next {
                Some(next) if next > start => start = next,
                Some(_) | None => return Ok(stages),
            }
        }
        Ok(stages)
    }

    /// The names of these users by their ids, dismissed ones included; an id that is missing is no user's that the
    /// webhook may see. It needs the scope `user`, `user_basic` or `user_brief`
    /// (<https://apidocs.bitrix24.com/api-reference/user/user-get.html>).
    ///
    /// # Errors
    /// Every [`CallError`].
    pub async fn users(&self, ids: &[i64]) -> Result<BTreeMap<i64, String>, CallError> {
        let mut users = BTreeMap::new();
        let ids = ids.get(..MAX_USERS).unwrap_or(ids);
        for page in ids.chunks(USERS_A_PAGE) {
            let reply = self.read(USERS, &json!({ "FILTER": { "ID": page } })).await?;
            let Some(rows) = envelope::list(reply.result) else {
                return Err(CallError::malformed(Some(reply.status), "`result` is no list of users"));
            };
            for row in rows {
                let text = |key| row.get(key).and_then(Value::as_str).unwrap_or_default().trim();
                let number = row.get("ID").and_then(Value::as_i64);
                let Some(id) = number.or_else(|| text("ID").parse().ok()) else { continue };
                let name = format!("{} {}", text("NAME"), text("LAST_NAME"));
                users.insert(id, name.trim().to_owned());
            }
        }
        Ok(users)
    }

    /// The permissions of the webhook, as `crm`.
    ///
    /// # Errors
    /// Every [`CallError`].
    pub async fn scopes(&self) -> Result<Vec<String>, CallError> {
        let reply = self.read(SCOPE, &json!({})).await?;
        envelope::list(reply.result)
            .and_then(|list| list.iter().map(|scope| scope.as_str().map(str::to_owned)).collect())
            .ok_or_else(|| CallError::malformed(Some(reply.status), "`result` is no list of scopes"))
    }
}
