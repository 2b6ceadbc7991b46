//! One lead: a compact record, its fields by table, and its two written forms.
//!
//! A million of these must fit into memory, so the fields that every lead has are plain members, shared texts are
//! shared, and the rest is a short vector of (field, value).

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::Offset;

use super::fields::{self, FIELDS, Field, FieldId, Kind};
use super::php::{Arr, Val};
use super::time;

/// A phone number or e-mail address of a lead.
#[derive(Debug, Clone, PartialEq)]
pub struct Contact {
    /// The id of the row.
    pub id: u32,
    /// `true` for a phone number, `false` for an e-mail address.
    pub phone: bool,
    /// The number or the address.
    pub value: Box<str>,
}

/// A lead of the sandbox. Times are unix seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Lead {
    /// `id`; 0 lets the sandbox choose the next one.
    pub id: u32,
    /// `title`.
    pub title: Box<str>,
    /// `stageId`.
    pub stage: Arc<str>,
    /// `sourceId`; empty is null.
    pub source: Arc<str>,
    /// `createdTime`.
    pub created: i64,
    /// `updatedTime`.
    pub updated: i64,
    /// `movedTime`.
    pub moved: i64,
    /// `lastActivityTime`.
    pub last_activity: i64,
    /// `dateClosed`.
    pub closed: Option<i64>,
    /// `opportunity`.
    pub opportunity: f64,
    /// `assignedById`.
    pub assigned_by: u32,
    /// `createdBy`.
    pub created_by: u32,
    /// `updatedBy`, and `movedBy` and `lastActivityBy` too.
    pub updated_by: u32,
    /// `fm`: phones and e-mail addresses.
    pub contacts: Vec<Contact>,
    extra: Vec<(FieldId, Stored)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Stored {
    Int(i64),
    Num(f64),
    Text(Box<str>),
    Flag(bool),
    Time(i64),
    Texts(Box<[Box<str>]>),
}

/// A field's value as the database holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Int(i64),
    Num(f64),
    Text(&'a str),
    Flag(bool),
    Time(i64),
    Texts(&'a [Box<str>]),
}

impl Lead {
    /// A new lead in stage `NEW`, created at `now` by user 1.
    pub fn new(title: &str, now: Timestamp) -> Lead {
        let now = now.as_second();
        Lead {
            id: 0,
            title: title.into(),
            stage: "NEW".into(),
            source: "".into(),
            created: now,
            updated: now,
            moved: now,
            last_activity: now,
            closed: None,
            opportunity: 0.0,
            assigned_by: 1,
            created_by: 1,
            updated_by: 1,
            contacts: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Puts the lead into a stage since `at`, with `movedTime` and `dateClosed` as the portal would set them.
    pub fn move_to(&mut self, stage: &str, at: i64) {
        self.stage = stage.into();
        self.moved = at;
        self.closed = (fields::semantics(stage) != "P").then_some(at);
    }

    /// Sets a field by its `crm.item` name, read-only ones too; false when there is no such field or no such value.
    /// A date in text must have an offset.
    pub fn set(&mut self, item_name: &str, value: &serde_json::Value) -> bool {
        match fields::by_item(item_name) {
            Some((id, _)) => self.assign(id, &Val::from(value), 0, Offset::UTC),
            None => false,
        }
    }

    /// The field's value.
    pub(super) fn value(&self, id: FieldId) -> Value<'_> {
        let Some(field) = fields::get(id) else { return Value::Null };
        match field.item {
            "id" => Value::Int(self.id.into()),
            "title" => text(&self.title),
            "stageId" => text(&self.stage),
            "stageSemanticId" => Value::Text(fields::semantics(&self.stage)),
            "sourceId" => text(&self.source),
            "createdTime" => Value::Time(self.created),
            "updatedTime" => Value::Time(self.updated),
            "movedTime" => Value::Time(self.moved),
            "lastActivityTime" => Value::Time(self.last_activity),
            "dateClosed" => self.closed.map_or(Value::Null, Value::Time),
            "opportunity" => Value::Num(self.opportunity),
            "assignedById" => Value::Int(self.assigned_by.into()),
            "createdBy" => Value::Int(self.created_by.into()),
            "updatedBy" | "movedBy" | "lastActivityBy" => Value::Int(self.updated_by.into()),
            "hasPhone" => Value::Flag(self.contacts.iter().any(|contact| contact.phone)),
            "hasEmail" => Value::Flag(self.contacts.iter().any(|contact| !contact.phone)),
            "currencyId" => self.stored(id).unwrap_or(Value::Text("EUR")),
            "opened" => self.stored(id).unwrap_or(Value::Flag(true)),
            "isManualOpportunity" | "hasImol" | "isReturnCustomer" => {
                self.stored(id).unwrap_or(Value::Flag(false))
            }
            _ if field.kind == Kind::IntZero => self.stored(id).unwrap_or(Value::Int(0)),
            _ => self.stored(id).unwrap_or(Value::Null),
        }
    }

    fn stored(&self, id: FieldId) -> Option<Value<'_>> {
        self.extra.iter().find(|(at, _)| *at == id).map(|(_, stored)| match stored {
            Stored::Int(number) => Value::Int(*number),
            Stored::Num(number) => Value::Num(*number),
            Stored::Text(value) => text(value),
            Stored::Flag(flag) => Value::Flag(*flag),
            Stored::Time(at) => Value::Time(*at),
            Stored::Texts(list) => Value::Texts(list),
        })
    }

    /// Sets a field from a parameter, as `add` and `update` do. An unparsable date changes nothing.
    pub(super) fn assign(&mut self, id: FieldId, value: &Val, now: i64, offset: Offset) -> bool {
        let Some(field) = fields::get(id) else { return false };
        let empty = matches!(value, Val::Null) || value.as_str() == Some("") || *value == Val::Bool(false);
        let at = value.as_str().and_then(|text| time::parse(text, now, offset));
        let user = u32::try_from(value.to_int()).unwrap_or_default();
        let set_time = |slot: &mut i64| at.map(|at| *slot = at).is_some();
        match field.item {
            "id" => self.id = user,
            "title" => self.title = value.to_text().into(),
            "stageId" => self.stage = value.to_text().into(),
            "sourceId" => self.source = value.to_text().into(),
            "createdTime" => return set_time(&mut self.created),
            "updatedTime" => return set_time(&mut self.updated),
            "movedTime" => return set_time(&mut self.moved),
            "lastActivityTime" => return set_time(&mut self.last_activity),
            "dateClosed" => {
                self.closed = at;
                return empty || at.is_some();
            }
            "opportunity" => self.opportunity = value.to_float(),
            "assignedById" => self.assigned_by = user,
            "createdBy" => self.created_by = user,
            "updatedBy" | "movedBy" | "lastActivityBy" => self.updated_by = user,
            "stageSemanticId" | "hasPhone" | "hasEmail" => return false,
            _ => {
                let stored = match field.kind {
                    _ if empty => None,
                    Kind::Int | Kind::IntZero | Kind::CustomEnum => Some(Stored::Int(value.to_int())),
                    Kind::Double => Some(Stored::Num(value.to_float())),
                    Kind::Text | Kind::Status(_) => Some(Stored::Text(value.to_text().into())),
                    Kind::Char | Kind::CustomFlag => Some(Stored::Flag(is_yes(value))),
                    Kind::Time => match at {
                        Some(at) => Some(Stored::Time(at)),
                        None => return false,
                    },
                    Kind::Texts => {
                        let list: Box<[Box<str>]> = match value.as_arr() {
                            Some(array) => array.values().map(|value| value.to_text().into()).collect(),
                            None => [value.to_text().into()].into(),
                        };
                        (!list.is_empty()).then_some(Stored::Texts(list))
                    }
                };
                self.extra.retain(|(at, _)| *at != id);
                if let Some(stored) = stored {
                    self.extra.reserve_exact(1);
                    self.extra.push((id, stored));
                }
            }
        }
        true
    }

    /// The row of `crm.item.*`: numbers as numbers, null where empty.
    pub(super) fn item_row(&self, select: Option<&[FieldId]>, offset: Offset, original_names: bool) -> Arr {
        let mut row = Arr::new();
        for (field, id) in FIELDS.iter().zip(0..) {
            // The id comes with every row, selected or not.
            if select.is_some_and(|ids| !ids.contains(&id)) && id != 0 {
                continue;
            }
            let value = match (self.value(id), field.kind) {
                (Value::Null, Kind::Texts) => Val::Arr(Arr::new()),
                (Value::Null, _) => Val::Null,
                (Value::Int(number), _) => Val::Int(number),
                (Value::Num(number), _) => Val::Float(number),
                (Value::Text(text), _) => Val::from(text),
                (Value::Flag(flag), _) => Val::from(if flag { "Y" } else { "N" }),
                (Value::Time(at), _) => Val::Str(time::format(at, offset)),
                (Value::Texts(list), _) => texts(list),
            };
            let name = if original_names && field.custom() { field.classic } else { field.item };
            row.field(name, value);
        }
        if select.is_none() {
            row.field("observers", Arr::new());
            row.field("contactIds", Arr::new());
            row.field("entityTypeId", 1i64);
            let mut list = Arr::new();
            for contact in &self.contacts {
                let mut entry = Arr::new();
                entry.field("id", contact.id);
                entry.field("valueType", "WORK");
                entry.field("value", &*contact.value);
                entry.field("typeId", if contact.phone { "PHONE" } else { "EMAIL" });
                list.push(entry);
            }
            row.field("fm", list);
        }
        row
    }

    /// The row of `crm.lead.*`: all scalars are strings.
    pub(super) fn classic_row(&self, select: &ClassicSelect, offset: Offset) -> Arr {
        let mut row = Arr::new();
        for (field, id) in FIELDS.iter().zip(0..) {
            if !select.has(field, id) {
                continue;
            }
            let value = match (self.value(id), field.kind) {
                (Value::Null, Kind::Texts) => Val::Arr(Arr::new()),
                (Value::Null, Kind::Time) => Val::from(""),
                (Value::Null, _) => Val::Null,
                (Value::Int(0), Kind::IntZero) => Val::Null,
                (Value::Int(number), _) => Val::Str(number.to_string()),
                (Value::Num(number), _) if field.custom() => Val::Str(number.to_string()),
                (Value::Num(number), _) => Val::Str(format!("{number:.2}")),
                (Value::Text(text), _) => Val::from(text),
                (Value::Flag(flag), Kind::CustomFlag) => Val::from(if flag { "1" } else { "0" }),
                (Value::Flag(flag), _) => Val::from(if flag { "Y" } else { "N" }),
                (Value::Time(at), _) => Val::Str(time::format(at, offset)),
                (Value::Texts(list), _) => texts(list),
            };
            row.field(field.classic, value);
        }
        for (name, phone, wanted) in [("PHONE", true, select.phone), ("EMAIL", false, select.email)] {
            let mut list = Arr::new();
            for contact in self.contacts.iter().filter(|contact| contact.phone == phone) {
                let mut entry = Arr::new();
                entry.field("ID", contact.id.to_string());
                entry.field("VALUE_TYPE", "WORK");
                entry.field("VALUE", &*contact.value);
                entry.field("TYPE_ID", name);
                list.push(entry);
            }
            if wanted && !list.is_empty() {
                row.field(name, list);
            }
        }
        row
    }
}

/// What `crm.lead.list` was asked to select (`crm-lead-list.md`): custom and multiple fields are named explicitly.
#[derive(Debug, Default)]
pub(super) struct ClassicSelect {
    pub(super) all_standard: bool,
    pub(super) all_custom: bool,
    pub(super) ids: Vec<FieldId>,
    pub(super) phone: bool,
    pub(super) email: bool,
}

impl ClassicSelect {
    /// Everything, as `crm.lead.get` gives it.
    pub(super) fn everything() -> ClassicSelect {
        ClassicSelect { all_standard: true, all_custom: true, ids: Vec::new(), phone: true, email: true }
    }

    fn has(&self, field: &Field, id: FieldId) -> bool {
        let whole = if field.custom() { self.all_custom } else { self.all_standard };
        !field.item_only && (whole || id == 0 || self.ids.contains(&id))
    }
}

fn text(value: &str) -> Value<'_> {
    if value.is_empty() { Value::Null } else { Value::Text(value) }
}

fn texts(list: &[Box<str>]) -> Val {
    let mut array = Arr::new();
    for value in list {
        array.push(&**value);
    }
    Val::Arr(array)
}

fn is_yes(value: &Val) -> bool {
    match value.as_str() {
        Some(text) => matches!(text, "Y" | "y" | "1" | "true"),
        None => value.truthy(),
    }
}
