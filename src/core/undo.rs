//! From the copy of a deleted lead to the fields of a new one, and what of it did not come back.
//!
//! The invariant: nothing is invented. A field is sent as it was read or not at all, and a comparison names fields,
//! never values. Limits: what a lead's fields do not hold (timeline, tasks, products, contents of files) is not in a
//! copy either.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::lead::{LeadId, read_time};

/// The `originatorId` of a lead that was created from a copy: by it an answer that was lost is looked up.
pub const ORIGINATOR: &str = "b24-janitor";

/// What a deletion's new lead carries in `originId`: the same whenever it is asked, so that even an older backup of the
/// database finds a lead that was created after it.
///
/// ```
/// use b24_janitor::core::undo::marker;
///
/// let lead = "4711".parse().unwrap();
/// assert_eq!(marker(lead, 12, jiff::Timestamp::UNIX_EPOCH), "restore-4711-12-0");
/// ```
pub fn marker(lead: LeadId, job: i64, taken_at: Timestamp) -> String {
    format!("restore-{lead}-{job}-{}", taken_at.as_millisecond())
}

/// The marker that a lead carries, where we created it.
pub fn marker_of(fields: &Map<String, Value>) -> Option<&str> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    text("originId").filter(|_| text("originatorId") == Some(ORIGINATOR))
}

/// What the portal computes or counts itself; it accepts these from nobody.
/// <https://apidocs.bitrix24.com/api-reference/crm/universal/object-fields.html>
const COMPUTED: &[&str] = &[
    "id",
    "entityTypeId",
    "stageSemanticId",
    "dateClosed",
    "hasPhone",
    "hasEmail",
    "hasImol",
    "isReturnCustomer",
    "lastActivityBy",
    "lastActivityTime",
    "webformId",
];

/// What an administrator may set by `crm.item.import`, and nobody by `crm.item.add`.
/// <https://apidocs.bitrix24.com/api-reference/crm/universal/import/index.html>
pub const HISTORY: &[&str] =
    &["createdTime", "updatedTime", "movedTime", "createdBy", "updatedBy", "movedBy"];

/// A lead to create.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Its fields, with the marker and with [`HISTORY`].
    pub fields: Map<String, Value>,
    /// The lead's own `originatorId` and `originId`, where it had one: to be put back once it is there.
    pub origin: Option<Map<String, Value>>,
    /// Fields that hold files: only the references are in the copy.
    pub files: Vec<String>,
}

impl Draft {
    /// From a copy's fields.
    pub fn new(copy: &Map<String, Value>, marker: &str) -> Draft {
        let mut fields = Map::new();
        let mut files = Vec::new();
        for (name, value) in copy {
            if COMPUTED.contains(&name.as_str()) || is_empty(value) {
                continue;
            }
            if is_file(value) {
                files.push(name.clone());
            } else {
                fields.insert(name.clone(), if name == "fm" { without_ids(value) } else { value.clone() });
            }
        }
        let own = ["originatorId", "originId"];
        let origin = own.iter().any(|name| fields.contains_key(*name)).then(|| {
            own.iter()
                .map(|name| ((*name).to_owned(), fields.get(*name).cloned().unwrap_or_else(|| "".into())))
                .collect()
        });
        fields.insert("originatorId".to_owned(), ORIGINATOR.into());
        fields.insert("originId".to_owned(), marker.into());
        Draft { fields, origin, files }
    }

    /// The same without what only an administrator may set.
    pub fn without_history(&self) -> Map<String, Value> {
        let mut fields = self.fields.clone();
        fields.retain(|name, _| !HISTORY.contains(&name.as_str()));
        fields
    }
}

/// The fields in which the new lead differs from the copy, by name, in the order of their names. The id differs always
/// and is not told; nor are the origin fields that carry the marker.
pub fn differing(copy: &Map<String, Value>, new: &Map<String, Value>) -> Vec<String> {
    let origin_is_marker = marker_of(new).is_some();
    let mut names: Vec<String> = copy
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "id" | "entityTypeId"))
        .filter(|(name, _)| !(origin_is_marker && matches!(name.as_str(), "originatorId" | "originId")))
        .filter(|(name, old)| !same(name, old, new.get(*name).unwrap_or(&Value::Null)))
        .map(|(name, _)| name.clone())
        .collect();
    names.sort_unstable();
    names
}

/// What became of a field of a copy in the new lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// It is as it was.
    Same,
    /// It is another.
    Differs,
    /// Nobody can set it, or it is a file, whose contents no copy has.
    CantCome,
}

impl Back {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Back::Same => "same",
            Back::Differs => "differs",
            Back::CantCome => "could not come back",
        }
    }
}

/// Every field of a copy with what became of it, in the order of their names; without what [`differing`] leaves out.
pub fn compared(copy: &Map<String, Value>, new: &Map<String, Value>) -> Vec<(String, Back)> {
    let differs = differing(copy, new);
    let mine = marker_of(new).is_some();
    let mut fields: Vec<(String, Back)> = copy
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "id" | "entityTypeId"))
        .filter(|(name, _)| !(mine && matches!(name.as_str(), "originatorId" | "originId")))
        .map(|(name, old)| {
            let back = match differs.binary_search(name) {
                Err(_) => Back::Same,
                Ok(_) if COMPUTED.contains(&name.as_str()) || is_file(old) => Back::CantCome,
                Ok(_) => Back::Differs,
            };
            (name.clone(), back)
        })
        .collect();
    fields.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    fields
}

fn same(name: &str, old: &Value, new: &Value) -> bool {
    if old == new || (is_empty(old) && is_empty(new)) {
        return true;
    }
    if name == "fm" {
        return sorted(&without_ids(old)) == sorted(&without_ids(new));
    }
    if let (Some(old), Some(new)) = (old.as_f64(), new.as_f64()) {
        return old == new;
    }
    // The portal may write the same moment with another offset since its clocks changed.
    matches!((read_time(old), read_time(new)), (Some(old), Some(new)) if old == new)
}

fn sorted(list: &Value) -> Vec<String> {
    let mut texts: Vec<String> = list.as_array().into_iter().flatten().map(Value::to_string).collect();
    texts.sort_unstable();
    texts
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A file field as `crm.item.*` writes it: an object, or several, with an id and where to fetch it.
fn is_file(value: &Value) -> bool {
    let one = |value: &Value| value.get("urlMachine").is_some() || value.get("url").is_some();
    match value {
        Value::Array(list) => list.iter().any(one),
        Value::Object(_) => one(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Phones and e-mails without the ids of their rows, which went with the lead.
fn without_ids(list: &Value) -> Value {
    let mut list = list.clone();
    for entry in list.as_array_mut().into_iter().flatten() {
        if let Some(entry) = entry.as_object_mut() {
            entry.remove("id");
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_the_portal_computes_and_what_is_empty_is_not_sent_and_files_are_named() {
        let copy = map(json!({
            "id": 7, "title": "a", "comments": "", "companyId": 0, "hasPhone": "Y", "dateClosed": null,
            "createdTime": "2026-01-01T00:00:00+03:00", "contactIds": [],
            "fm": [{ "id": 4, "typeId": "PHONE", "value": "1", "valueType": "WORK" }],
            "ufCrm_file": { "id": 1, "url": "/a", "urlMachine": "/b" },
            "ufCrm_files": [{ "id": 1, "url": "/a" }],
        }));
        let draft = Draft::new(&copy, "m");
        assert_eq!(
            Value::Object(draft.fields.clone()),
            json!({
                "title": "a", "companyId": 0, "createdTime": "2026-01-01T00:00:00+03:00",
                "fm": [{ "typeId": "PHONE", "value": "1", "valueType": "WORK" }],
                "originatorId": ORIGINATOR, "originId": "m",
            })
        );
        assert_eq!(draft.files, ["ufCrm_file", "ufCrm_files"]);
        assert_eq!(draft.origin, None);
        assert!(!draft.without_history().contains_key("createdTime"));
    }

    #[test]
    fn a_leads_own_origin_is_kept_aside_whole() {
        let draft = Draft::new(&map(json!({ "originId": "shop-1", "originatorId": null })), "m");
        assert_eq!(
            draft.origin.map(Value::Object),
            Some(json!({ "originatorId": "", "originId": "shop-1" }))
        );
    }

    #[test]
    fn the_same_moment_number_and_phones_are_no_difference() {
        let old = map(json!({
            "id": 1, "createdTime": "2026-01-01T00:00:00+03:00", "opportunity": 5, "comments": null,
            "fm": [{ "id": 1, "value": "a" }, { "id": 2, "value": "b" }], "originId": null, "title": "x",
        }));
        let new = map(json!({
            "id": 2, "createdTime": "2025-12-31T21:00:00+00:00", "opportunity": 5.0, "comments": "",
            "fm": [{ "id": 9, "value": "b" }, { "id": 8, "value": "a" }], "originatorId": ORIGINATOR,
            "originId": "m", "title": "y",
        }));
        assert_eq!(differing(&old, &new), ["title"]);
    }

    #[test]
    fn each_field_of_a_copy_is_the_same_another_or_can_not_come_back() {
        let old = map(json!({
            "id": 1, "title": "x", "stageId": "JUNK", "lastActivityTime": "2026-01-01T00:00:00Z", "hasPhone": "Y",
            "ufCrm_file": { "id": 1, "url": "/a", "urlMachine": "/b" },
        }));
        let new = map(json!({
            "id": 2, "title": "y", "stageId": "JUNK", "lastActivityTime": "2026-02-01T00:00:00Z", "hasPhone": "Y",
            "ufCrm_file": null,
        }));
        let told: Vec<(String, &str)> =
            compared(&old, &new).into_iter().map(|(name, back)| (name, back.as_str())).collect();
        let expected = [
            ("hasPhone", "same"),
            ("lastActivityTime", "could not come back"),
            ("stageId", "same"),
            ("title", "differs"),
            ("ufCrm_file", "could not come back"),
        ];
        assert_eq!(told, expected.map(|(name, back)| (name.to_owned(), back)));
    }

    proptest! {
        #[test]
        fn a_lead_created_from_its_draft_differs_in_nothing_that_was_sent(
            texts in proptest::collection::btree_map("(title|name|post|ufCrm_[a-c]|createdTime)", "[ -~]{0,8}", 0..6),
        ) {
            let copy: Map<String, Value> =
                texts.into_iter().map(|(name, text)| (name, Value::from(text))).collect();
            let draft = Draft::new(&copy, "m");
            prop_assert_eq!(differing(&copy, &draft.fields), Vec::<String>::new());
        }
    }
}
