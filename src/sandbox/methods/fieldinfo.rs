//! `crm.lead.fields` and `crm.item.fields`: the description of the fields, from the one table.
//!
//! Bitrix24 docs: `leads/crm-lead-fields.md`, `universal/crm-item-fields.md`.

use crate::sandbox::fields::{ENUM_OPTIONS, FIELDS, Field, Kind};
use crate::sandbox::php::Arr;

fn type_name(field: &Field) -> &'static str {
    match field.kind {
        Kind::Int | Kind::IntZero if field.item.ends_with("ById") || field.item.ends_with("By") => "user",
        Kind::Int | Kind::IntZero => match field.item {
            "companyId" => "crm_company",
            "contactId" => "crm_contact",
            _ => "integer",
        },
        Kind::Double => "double",
        Kind::Text => match field.item {
            "currencyId" => "crm_currency",
            _ => "string",
        },
        Kind::Char => "char",
        Kind::Status(_) => "crm_status",
        Kind::Time => match field.item {
            "birthdate" => "date",
            _ => "datetime",
        },
        Kind::CustomFlag => "boolean",
        Kind::CustomEnum => "enumeration",
        Kind::Texts => "string",
    }
}

fn describe(field: &Field, title: &str) -> Arr {
    let mut info = Arr::new();
    info.field("type", type_name(field));
    info.field("isRequired", false);
    info.field("isReadOnly", field.read_only);
    info.field("isImmutable", false);
    info.field("isMultiple", field.kind == Kind::Texts);
    info.field("isDynamic", field.custom());
    if let Kind::Status(dictionary) = field.kind {
        info.field("statusType", dictionary);
    }
    if field.kind == Kind::CustomEnum {
        let mut items = Arr::new();
        for (id, name) in ENUM_OPTIONS {
            let mut item = Arr::new();
            item.field("ID", id.to_string());
            item.field("VALUE", *name);
            items.push(item);
        }
        info.field("items", items);
    }
    info.field("title", title);
    info
}

/// The result of `crm.lead.fields`.
pub(super) fn classic() -> Arr {
    let mut result = Arr::new();
    for field in FIELDS.iter().filter(|field| !field.item_only) {
        let mut info = describe(field, field.classic);
        if field.custom() {
            for key in ["listLabel", "formLabel", "filterLabel"] {
                info.field(key, format!("Custom {}", field.item));
            }
        }
        result.field(field.classic, info);
    }
    for name in ["PHONE", "EMAIL"] {
        let mut info = Arr::new();
        info.field("type", "crm_multifield");
        info.field("isRequired", false);
        info.field("isReadOnly", false);
        info.field("isImmutable", false);
        info.field("isMultiple", true);
        info.field("isDynamic", false);
        info.field("title", name);
        result.field(name, info);
    }
    result
}

/// `result.fields` of `crm.item.fields`.
pub(super) fn item(original_names: bool) -> Arr {
    let mut result = Arr::new();
    for field in FIELDS {
        let title = if field.custom() { format!("Custom {}", field.item) } else { field.item.to_owned() };
        let mut info = describe(field, &title);
        info.field("upperName", field.upper());
        let name = if original_names && field.custom() { field.classic } else { field.item };
        result.field(name, info);
    }
    result
}
