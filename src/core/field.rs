//! The fields of a lead that a rule can name, and what kind of value each holds.
//!
//! Names are those of `crm.item.*` (entityTypeId 1), from
//! <https://apidocs.bitrix24.com/api-reference/crm/universal/object-fields.html> (section Lead).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a field holds, and with that which operators make sense and how a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// The lead's own id.
    Id,
    /// A code of the lead's stage (`JUNK`) or of its meaning (`S`).
    Stage,
    /// Free or dictionary text, personal data among it.
    Text,
    /// A number: money, tax.
    Number,
    /// A moment or a date.
    Time,
    /// Yes or no, written `Y`/`N`.
    Flag,
    /// The id of a user, a company, a contact or another record; several in fields whose name ends in `Ids`.
    Reference,
    /// A user field (`ufCrm_…`): the portal knows its type, the rule's value says how it is meant.
    Custom,
}

impl FieldKind {
    /// Whether a reply that contradicts a condition on such a field proves that the portal ignored the filter. Text
    /// does not: the portal's database compares text more loosely than we do.
    pub fn compares_exactly(self) -> bool {
        match self {
            FieldKind::Id
            | FieldKind::Stage
            | FieldKind::Number
            | FieldKind::Time
            | FieldKind::Flag
            | FieldKind::Reference => true,
            FieldKind::Text | FieldKind::Custom => false,
        }
    }

    /// Whether a value of this field may stand in a reason, a log line or a history: ids, stages, dates and numbers
    /// may; texts live in the lead's copy only.
    pub fn may_be_shown(self) -> bool {
        self.compares_exactly()
    }
}

/// A field's name, one that [`FieldName::parse`] knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldName(String);

/// Fields with their classic (`crm.lead.*`) name and kind, in the order of the documentation.
pub const FIELDS: &[(&str, &str, FieldKind)] = &[
    ("id", "ID", FieldKind::Id),
    ("title", "TITLE", FieldKind::Text),
    ("stageId", "STATUS_ID", FieldKind::Stage),
    ("stageSemanticId", "STATUS_SEMANTIC_ID", FieldKind::Stage),
    ("statusDescription", "STATUS_DESCRIPTION", FieldKind::Text),
    ("createdTime", "DATE_CREATE", FieldKind::Time),
    ("updatedTime", "DATE_MODIFY", FieldKind::Time),
    ("movedTime", "MOVED_TIME", FieldKind::Time),
    ("lastActivityTime", "LAST_ACTIVITY_TIME", FieldKind::Time),
    ("dateClosed", "DATE_CLOSED", FieldKind::Time),
    ("assignedById", "ASSIGNED_BY_ID", FieldKind::Reference),
    ("createdBy", "CREATED_BY_ID", FieldKind::Reference),
    ("updatedBy", "MODIFY_BY_ID", FieldKind::Reference),
    ("movedBy", "MOVED_BY_ID", FieldKind::Reference),
    ("lastActivityBy", "LAST_ACTIVITY_BY", FieldKind::Reference),
    ("sourceId", "SOURCE_ID", FieldKind::Text),
    ("sourceDescription", "SOURCE_DESCRIPTION", FieldKind::Text),
    ("opportunity", "OPPORTUNITY", FieldKind::Number),
    ("isManualOpportunity", "IS_MANUAL_OPPORTUNITY", FieldKind::Flag),
    ("taxValue", "TAX_VALUE", FieldKind::Number),
    ("currencyId", "CURRENCY_ID", FieldKind::Text),
    ("opened", "OPENED", FieldKind::Flag),
    ("hasPhone", "HAS_PHONE", FieldKind::Flag),
    ("hasEmail", "HAS_EMAIL", FieldKind::Flag),
    ("hasImol", "HAS_IMOL", FieldKind::Flag),
    ("isReturnCustomer", "IS_RETURN_CUSTOMER", FieldKind::Flag),
    ("companyId", "COMPANY_ID", FieldKind::Reference),
    ("contactId", "CONTACT_ID", FieldKind::Reference),
    ("contactIds", "CONTACT_IDS", FieldKind::Reference),
    ("observers", "OBSERVER_IDS", FieldKind::Reference),
    ("companyTitle", "COMPANY_TITLE", FieldKind::Text),
    ("honorific", "HONORIFIC", FieldKind::Text),
    ("name", "NAME", FieldKind::Text),
    ("secondName", "SECOND_NAME", FieldKind::Text),
    ("lastName", "LAST_NAME", FieldKind::Text),
    ("post", "POST", FieldKind::Text),
    ("birthdate", "BIRTHDATE", FieldKind::Time),
    ("comments", "COMMENTS", FieldKind::Text),
    ("originatorId", "ORIGINATOR_ID", FieldKind::Text),
    ("originId", "ORIGIN_ID", FieldKind::Text),
    ("webformId", "WEBFORM_ID", FieldKind::Reference),
    ("utmSource", "UTM_SOURCE", FieldKind::Text),
    ("utmMedium", "UTM_MEDIUM", FieldKind::Text),
    ("utmCampaign", "UTM_CAMPAIGN", FieldKind::Text),
    ("utmContent", "UTM_CONTENT", FieldKind::Text),
    ("utmTerm", "UTM_TERM", FieldKind::Text),
];

/// Why a name is no field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnknownField {
    /// It is the name of `crm.lead.*`; ours is the second.
    Classic(String, String),
    /// No such field; perhaps one of these was meant.
    Unknown(Vec<String>),
}

impl FieldName {
    /// The field of that name. User fields (`ufCrm_…`) are accepted as they are: only the portal knows them.
    ///
    /// ```
    /// use b24_janitor::core::field::{FieldName, UnknownField};
    ///
    /// assert!(FieldName::parse("stageId").is_ok());
    /// let old = FieldName::parse("STATUS_ID").unwrap_err();
    /// assert_eq!(old, UnknownField::Classic("STATUS_ID".into(), "stageId".into()));
    /// ```
    pub fn parse(name: &str) -> Result<FieldName, UnknownField> {
        if FIELDS.iter().any(|(known, _, _)| *known == name) || is_user_field(name) {
            return Ok(FieldName(name.to_owned()));
        }
        if let Some((ours, _, _)) = FIELDS.iter().find(|(_, classic, _)| classic.eq_ignore_ascii_case(name)) {
            return Err(UnknownField::Classic(name.to_owned(), (*ours).to_owned()));
        }
        if let Some(rest) = name.strip_prefix("UF_CRM_") {
            return Err(UnknownField::Classic(name.to_owned(), format!("ufCrm_{rest}")));
        }
        Err(UnknownField::Unknown(nearest(name)))
    }

    /// The name as the portal writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the field holds.
    pub fn kind(&self) -> FieldKind {
        FIELDS.iter().find(|(known, _, _)| *known == self.0).map_or(FieldKind::Custom, |(_, _, kind)| *kind)
    }
}

fn is_user_field(name: &str) -> bool {
    name.strip_prefix("ufCrm").is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 64 && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

/// Names at least this similar (Jaro-Winkler, 0 to 1) are worth suggesting; below, a suggestion confuses.
const NEAR_ENOUGH: f64 = 0.8;

/// What people call a field before they know its name.
const MEANT: &[(&str, &str)] = &[
    ("status", "stageId"),
    ("stage", "stageId"),
    ("responsible", "assignedById"),
    ("assigned", "assignedById"),
    ("manager", "assignedById"),
    ("created", "createdTime"),
    ("createdAt", "createdTime"),
    ("updated", "updatedTime"),
    ("updatedAt", "updatedTime"),
    ("source", "sourceId"),
    ("amount", "opportunity"),
    ("sum", "opportunity"),
    ("price", "opportunity"),
    ("phone", "hasPhone"),
    ("email", "hasEmail"),
    ("company", "companyId"),
    ("contact", "contactId"),
];

fn nearest(name: &str) -> Vec<String> {
    if let Some((_, field)) = MEANT.iter().find(|(word, _)| word.eq_ignore_ascii_case(name)) {
        return vec![(*field).to_owned()];
    }
    let mut near: Vec<(f64, &str)> = FIELDS
        .iter()
        .map(|(known, _, _)| (strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase()), *known))
        .filter(|(score, _)| *score >= NEAR_ENOUGH)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(3).map(|(_, known)| known.to_owned()).collect()
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldName, D::Error> {
        let name = String::deserialize(deserializer)?;
        FieldName::parse(&name).map_err(|_| serde::de::Error::custom("not the name of a field"))
    }
}

impl Serialize for FieldName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
