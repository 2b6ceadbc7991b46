//! `crm.lead.*`: deprecated and working, with texts for codes and strings for numbers.
//!
//! Bitrix24 docs: `leads/crm-lead-*.md`. Where the docs and the server's source differ, the source is followed.

use crate::sandbox::classic_filter;
use crate::sandbox::fields::{self, FieldId};
use crate::sandbox::lead::{ClassicSelect, Contact, Lead};
use crate::sandbox::methods::{Answer, Call, PAGE, RestError, next, start};
use crate::sandbox::options::NotFoundStyle;
use crate::sandbox::php::{Arr, Val};
use crate::sandbox::predicate::{self, Query};
use crate::sandbox::state::State;

fn access_denied() -> RestError {
    RestError::bad("", "Access denied.")
}

/// `ID` takes precedence over `id`; the value is cast to int, and a non-empty array is 1.
fn entity_id(params: &Arr) -> Result<u32, RestError> {
    let id = params.get("ID").or_else(|| params.get("id")).map_or(0, Val::to_int);
    u32::try_from(id)
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| RestError::bad("", "ID is not defined or invalid."))
}

/// A parameter in lower or upper case that must be an array if it is there.
fn array_param(params: &Arr, name: &str) -> Result<Arr, RestError> {
    match params.get(&name.to_ascii_uppercase()).or_else(|| params.get(name)) {
        Some(Val::Arr(array)) => Ok(array.clone()),
        None | Some(Val::Null) => Ok(Arr::new()),
        Some(Val::Bool(_) | Val::Int(_) | Val::Float(_) | Val::Str(_)) => {
            Err(RestError::bad("", format!("Parameter '{name}' must be array.")))
        }
    }
}

pub(super) fn delete(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let id = entity_id(call.params)?;
    match state.leads.get(&id) {
        // The permission is checked first, and a missing lead has no attributes to grant it by.
        None if state.options.restricted => return Err(access_denied()),
        Some(lead) if !state.deletable(lead) => return Err(access_denied()),
        None | Some(_) => *call.stale = None,
    }
    if let Some(text) = state.vetoes.get(&id).filter(|_| state.leads.contains_key(&id)) {
        *call.stale = Some(text.clone());
        return Err(RestError::bad("ERROR_CORE", text.as_str()));
    }
    if state.remove(id, call.now, call.method) {
        return Ok(Answer::of(true));
    }
    let text = match state.options.not_found {
        NotFoundStyle::Item => state.localised("Item was not found.", "Элемент не найден"),
        NotFoundStyle::Lead => state.localised("Lead was not found.", "Лид не найден"),
        NotFoundStyle::Documented => return Err(RestError::bad("", "Not found")),
    };
    *call.stale = Some(text.clone());
    Err(RestError::bad("ERROR_CORE", text))
}

fn readable<'a>(state: &'a State, call: &Call<'_>) -> Result<&'a Lead, RestError> {
    let id = entity_id(call.params)?;
    match state.leads.get(&id) {
        Some(lead) if state.readable(lead) => Ok(lead),
        Some(_) => Err(access_denied()),
        None if state.options.restricted => Err(access_denied()),
        None => Err(RestError::bad("", "Not found")),
    }
}

pub(super) fn get(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let lead = readable(state, call)?;
    Ok(Answer::of(lead.classic_row(&ClassicSelect::everything(), state.offset())))
}

pub(super) fn list(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let filter = array_param(call.params, "filter")?;
    let order = array_param(call.params, "order")?;
    let filter = if call.filter_ignored { Arr::new() } else { filter };
    let filter = classic_filter::build(&filter, call.now.as_second(), state.offset());
    let order: Vec<(FieldId, bool)> = order
        .iter()
        .filter_map(|(name, direction)| {
            let (id, _) = fields::by_classic(&name.to_string())?;
            Some((id, direction.to_text().eq_ignore_ascii_case("desc")))
        })
        .collect();
    let select = select(call.params);
    let start = start(call.params);
    let offset = start.unwrap_or(0);
    let query = Query { filter: &filter, order: &order, offset, count: start.is_some() };
    let page = predicate::select(&state.leads, &query, PAGE, |lead| state.readable(lead));
    let mut rows = Arr::new();
    for lead in page.rows {
        rows.push(lead.classic_row(&select, state.offset()));
    }
    Ok(Answer {
        result: Val::Arr(rows),
        next: page.total.and_then(|total| next(offset, total)),
        // Without a count `total` is still there, and 0.
        total: Some(page.total.unwrap_or(0)),
    })
}

fn select(params: &Arr) -> ClassicSelect {
    let mut select = ClassicSelect::default();
    let names = params.get("SELECT").or_else(|| params.get("select")).and_then(Val::as_arr);
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        select.all_standard = true;
        return select;
    };
    for name in names.values().filter_map(Val::as_str) {
        match name {
            "*" => select.all_standard = true,
            "UF_*" => select.all_custom = true,
            "PHONE" => select.phone = true,
            "EMAIL" => select.email = true,
            name => select.ids.extend(fields::by_classic(name).map(|(id, _)| id)),
        }
    }
    select
}

pub(super) fn add(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let fields = array_param(call.params, "fields")?;
    let mut lead = Lead::new("", call.now);
    lead.created_by = state.options.user_id;
    lead.updated_by = state.options.user_id;
    lead.assigned_by = state.options.user_id;
    assign(&mut lead, &fields, state, call)?;
    let stage = lead.stage.to_string();
    lead.move_to(&stage, call.now.as_second());
    let id = state.insert(lead, call.now);
    Ok(Answer::of(id))
}

pub(super) fn update(state: &mut State, call: &mut Call<'_>) -> Result<Answer, RestError> {
    let fields = array_param(call.params, "fields")?;
    let before = readable(state, call)?.clone();
    let mut lead = before.clone();
    assign(&mut lead, &fields, state, call)?;
    let user = state.options.user_id;
    state.finish_update(&before, lead, call.now, user);
    Ok(Answer::of(true))
}

fn assign(lead: &mut Lead, values: &Arr, state: &State, call: &Call<'_>) -> Result<(), RestError> {
    for (name, value) in values.iter() {
        let name = name.to_string();
        if name == "STATUS_ID" && !fields::in_dictionary("STATUS", &value.to_text()) {
            return Err(RestError::bad("ERROR_CORE", "Invalid value of field \"STATUS_ID\"."));
        }
        if let "PHONE" | "EMAIL" = name.as_str() {
            let phone = name == "PHONE";
            lead.contacts.retain(|contact| contact.phone != phone);
            let entries = value.as_arr().into_iter().flat_map(Arr::values);
            lead.contacts.extend(entries.filter_map(|entry| entry.get("VALUE")).map(|value| Contact {
                id: 0,
                phone,
                value: value.to_text().into(),
            }));
            continue;
        }
        // Unknown and read-only fields are dropped without a word.
        if let Some((id, _)) = fields::by_classic(&name).filter(|(_, field)| !field.read_only) {
            lead.assign(id, value, call.now.as_second(), state.offset());
        }
    }
    Ok(())
}
