//! `crm.item.*` for leads (`entityTypeId` 1): strict parameters, codes instead of texts.
//!
//! Bitrix24 docs: `universal/crm-item-*.md`. Parameter names are case-sensitive; existence is checked before
//! permission, so that `NOT_FOUND` is authoritative.

use crate::sandbox::fields::{self, FieldId};
use crate::sandbox::item_filter;
use crate::sandbox::lead::{Contact, Lead};
use crate::sandbox::methods::{Answer, Call, PAGE, RestError, fieldinfo, next, start};
use crate::sandbox::php::{Arr, Val};
use crate::sandbox::predicate::{self, Predicate, Query};
use crate::sandbox::state::State;

/// The entity type of leads.
const LEAD: i64 = 1;

/// Entity types of smart processes start here.
const FIRST_SMART_PROCESS: i64 = 128;

fn int(params: &Arr, name: &str) -> Result<i64, RestError> {
    let Some(value) = params.get(name).filter(|value| **value != Val::Null) else {
        return Err(RestError::bad("100", format!("Could not find value for parameter {{{name}}}")));
    };
    let whole = match value {
        Val::Int(number) => Some(*number),
        Val::Float(number) if number.fract() == 0.0 => Some(*number as i64),
        Val::Str(text) => text.trim().parse::<i64>().ok(),
        Val::Null | Val::Bool(_) | Val::Float(_) | Val::Arr(_) => None,
    };
    whole.ok_or_else(|| mismatch(value, name, "int"))
}

fn array(params: &Arr, name: &str) -> Result<Option<Arr>, RestError> {
    match params.get(name) {
        None | Some(Val::Null) => Ok(None),
        Some(Val::Arr(array)) => Ok(Some(array.clone())),
        Some(value @ (Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Str(_))) => {
            Err(mismatch(value, name, "array"))
        }
    }
}

fn mismatch(value: &Val, name: &str, kind: &str) -> RestError {
    let text = value.to_text();
    let text = format!(
        "Invalid value {{{text}}} to match with parameter {{{name}}}. Should be value of type {kind}."
    );
    RestError::bad("100", text)
}

fn check_type(state: &State, entity_type: i64) -> Result<(), RestError> {
    match entity_type {
        LEAD => Ok(()),
        FIRST_SMART_PROCESS.. => Err(RestError::bad(
            "NOT_FOUND",
            state.localised("Smart Process Automation was not found", "Смарт-процесс не найден"),
        )),
        other => Err(RestError::bad(
            "ENTITY_TYPE_NOT_SUPPORTED",
            format!("Entity type with id {other} is not supported"),
        )),
    }
}

fn not_found(state: &State) -> RestError {
    RestError::bad("NOT_FOUND", state.localised("Item was not found.", "Элемент не найден"))
}

fn access_denied(state: &State) -> RestError {
    RestError::bad("ACCESS_DENIED", state.localised("Access denied", "Доступ запрещен"))
}

fn find(state: &State, id: i64) -> Result<&Lead, RestError> {
    u32::try_from(id).ok().and_then(|id| state.leads.get(&id)).ok_or_else(|| not_found(state))
}

pub(super) fn delete(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let entity_type = int(call.params, "entityTypeId")?;
    let id = int(call.params, "id")?;
    check_type(state, entity_type)?;
    let lead = find(state, id)?;
    if !state.deletable(lead) {
        return Err(access_denied(state));
    }
    let id = lead.id;
    if let Some(text) = state.vetoes.get(&id) {
        *call.stale = Some(text.clone());
        return Err(RestError::bad("ERROR_CORE", text.as_str()));
    }
    state.remove(id, call.now, call.method);
    Ok(Answer::of(Arr::new()))
}

pub(super) fn get(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let id = int(call.params, "id")?;
    let entity_type = int(call.params, "entityTypeId")?;
    check_type(state, entity_type)?;
    let lead = find(state, id)?;
    if !state.readable(lead) {
        let text = state.localised(
            "You don't have permission to view this item.",
            "У вас недостаточно прав для просмотра этого элемента.",
        );
        return Err(RestError::bad("ACCESS_DENIED", text));
    }
    Ok(wrapped(state, lead, call.params))
}

fn original_names(params: &Arr) -> bool {
    params.get("useOriginalUfNames").and_then(Val::as_str) == Some("Y")
}

fn wrapped(state: &State, lead: &Lead, params: &Arr) -> Answer {
    let mut result = Arr::new();
    result.field("item", lead.item_row(None, state.offset(), original_names(params)));
    Answer::of(result)
}

pub(super) fn list(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let params = call.params;
    let entity_type = int(params, "entityTypeId")?;
    let select = array(params, "select")?;
    let order = array(params, "order")?.unwrap_or_default();
    let filter = array(params, "filter")?.unwrap_or_default();
    check_type(state, entity_type)?;
    let refuse = |text: String| RestError::bad("INVALID_ARG_VALUE", text);
    let filter = item_filter::build(&filter, call.now.as_second(), state.offset()).map_err(refuse)?;
    let filter = if call.filter_ignored { Predicate::Const(true) } else { filter };
    let order = order_by(&order).map_err(refuse)?;
    let select = selected(select.as_ref());
    let start = start(params);
    let offset = start.unwrap_or(0);
    let query = Query { filter: &filter, order: &order, offset, count: start.is_some() };
    let page = predicate::select(&state.leads, &query, PAGE, |lead| state.readable(lead));
    let mut rows = Arr::new();
    for lead in page.rows {
        rows.push(lead.item_row(select.as_deref(), state.offset(), original_names(params)));
    }
    let mut result = Arr::new();
    result.field("items", rows);
    Ok(Answer {
        result: Val::Arr(result),
        next: page.total.and_then(|total| next(offset, total)),
        total: page.total,
    })
}

fn order_by(order: &Arr) -> Result<Vec<(FieldId, bool)>, String> {
    let mut list = Vec::new();
    for (name, direction) in order.iter() {
        let name = name.to_string();
        let upper = fields::upper_snake(&name);
        let (id, _) = fields::by_item_or_upper(&name)
            .ok_or_else(|| format!("Invalid order: field '{upper}' is not allowed in order"))?;
        let direction = direction.to_text().to_uppercase();
        if direction != "ASC" && direction != "DESC" {
            return Err(format!(
                "Invalid order: allowed sort directions are ASC, DESC. But got '{direction}' for field '{upper}'"
            ));
        }
        list.push((id, direction == "DESC"));
    }
    Ok(list)
}

/// The fields to write; none means all. Unknown names are passed over.
fn selected(select: Option<&Arr>) -> Option<Vec<FieldId>> {
    let names = select.filter(|names| !names.is_empty())?;
    if names.values().any(|name| name.as_str() == Some("*")) {
        return None;
    }
    let known = names.values().filter_map(Val::as_str).filter_map(fields::by_item_or_upper);
    Some(known.map(|(id, _)| id).collect())
}

pub(super) fn add(state: &mut State, call: &mut Call<'_>, import: bool) -> Result<Answer, RestError> {
    let entity_type = int(call.params, "entityTypeId")?;
    let fields = fields_param(call.params)?;
    check_type(state, entity_type)?;
    if import && state.options.import_denied {
        return Err(access_denied(state));
    }
    let mut lead = Lead::new("", call.now);
    lead.created_by = state.options.user_id;
    lead.updated_by = state.options.user_id;
    lead.assigned_by = state.options.user_id;
    assign(&mut lead, &fields, state, call, import)?;
    if import {
        check_history(&lead, &fields, state, call.now.as_second())?;
    }
    let (stage, moved) = (lead.stage.to_string(), lead.moved);
    lead.move_to(&stage, if import { moved } else { call.now.as_second() });
    let id = state.insert(lead, call.now);
    if import {
        let (mut item, mut result) = (Arr::new(), Arr::new());
        item.field("id", id);
        result.field("item", item);
        return Ok(Answer::of(result));
    }
    let lead = find(state, id.into())?;
    Ok(wrapped(state, lead, call.params))
}

/// What only an administrator may set, and only by import (`universal/import/index.md`).
const HISTORY: &[&str] = &["createdTime", "updatedTime", "movedTime", "createdBy", "updatedBy", "movedBy"];

/// The limits of that page: no lead may be created before one that is there already, and no time lies in the future.
fn check_history(lead: &Lead, fields: &Arr, state: &State, now: i64) -> Result<(), RestError> {
    let invalid = |name: &str| {
        let text = format!("Invalid value of field \"{name}\"");
        Err(RestError::bad("CRM_FIELD_ERROR_VALUE_NOT_VALID", text))
    };
    let Some(name) = HISTORY.iter().find(|name| fields.get(name).is_some_and(|value| *value != Val::Null))
    else {
        return Ok(());
    };
    if state.options.restricted {
        return invalid(name);
    }
    let newest = state.leads.values().map(|lead| lead.created).max().unwrap_or(i64::MIN);
    if lead.created < newest || lead.created > now {
        return invalid("createdTime");
    }
    if lead.updated < lead.created || lead.updated > now {
        return invalid("updatedTime");
    }
    if lead.moved < lead.created || lead.moved > lead.updated {
        return invalid("movedTime");
    }
    Ok(())
}

pub(super) fn update(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let entity_type = int(call.params, "entityTypeId")?;
    let id = int(call.params, "id")?;
    let fields = fields_param(call.params)?;
    check_type(state, entity_type)?;
    let before = find(state, id)?.clone();
    if !state.readable(&before) {
        return Err(access_denied(state));
    }
    let mut lead = before.clone();
    assign(&mut lead, &fields, state, call, false)?;
    let user = state.options.user_id;
    state.finish_update(&before, lead, call.now, user);
    Ok(wrapped(state, find(state, id)?, call.params))
}

fn fields_param(params: &Arr) -> Result<Arr, RestError> {
    array(params, "fields")?
        .ok_or_else(|| RestError::bad("100", "Could not find value for parameter {fields}"))
}

fn assign(
    lead: &mut Lead,
    values: &Arr,
    state: &State,
    call: &Call<'_>,
    import: bool,
) -> Result<(), RestError> {
    for (name, value) in values.iter() {
        let name = name.to_string();
        if name == "fm" {
            let entries = value.as_arr().into_iter().flat_map(Arr::values);
            lead.contacts = entries
                .filter_map(|entry| {
                    let phone = match entry.get("typeId")?.as_str()? {
                        "PHONE" => true,
                        "EMAIL" => false,
                        _ => return None,
                    };
                    Some(Contact { id: 0, phone, value: entry.get("value")?.to_text().into() })
                })
                .collect();
            continue;
        }
        let Some((id, field)) = fields::by_item_or_upper(&name) else { continue };
        if field.item == "stageId" && !fields::in_dictionary("STATUS", &value.to_text()) {
            let text = "Invalid value of field \"STAGE_ID\"";
            return Err(RestError::bad("CRM_FIELD_ERROR_VALUE_NOT_VALID", text));
        }
        if !field.read_only || (import && HISTORY.contains(&field.item)) {
            lead.assign(id, value, call.now.as_second(), state.offset());
        }
    }
    Ok(())
}

pub(super) fn fields(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let entity_type = int(call.params, "entityTypeId")?;
    check_type(state, entity_type)?;
    let mut result = Arr::new();
    result.field("fields", fieldinfo::item(original_names(call.params)));
    Ok(Answer::of(result))
}
