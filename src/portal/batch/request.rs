//! The commands of a batch, each literal and under a key that PHP can't turn into a list.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::super::leads::{GET, LIST, PAGE};
use super::super::{CallError, LEADS};
use super::MAX_COMMANDS;
use crate::core::lead::LeadId;
use crate::core::rule::DeleteMethod;

/// What need not be encoded in a query (RFC 3986, unreserved).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What goes into one request, 50 commands at most, executed in this order: the deletions, the questions, the lists.
#[derive(Debug, Clone, Default)]
pub struct BatchRequest {
    delete: Vec<LeadId>,
    ask: Vec<LeadId>,
    lists: Vec<BTreeSet<LeadId>>,
}

impl BatchRequest {
    /// Deletes these leads.
    pub fn deleting(leads: &[LeadId]) -> BatchRequest {
        BatchRequest { delete: leads.to_vec(), ..BatchRequest::default() }
    }

    /// Asks `crm.item.get` about these: one command each.
    #[must_use]
    pub fn asking(mut self, leads: &[LeadId]) -> BatchRequest {
        self.ask.extend_from_slice(leads);
        self
    }

    /// Lists these after the deletions, with all fields, 50 at most: one command, or none if there is nothing to list.
    #[must_use]
    pub fn listing(mut self, leads: &[LeadId]) -> BatchRequest {
        if !leads.is_empty() {
            self.lists.push(leads.iter().copied().collect());
        }
        self
    }

    /// The leads to delete, in the order asked.
    pub(super) fn delete(&self) -> &[LeadId] {
        &self.delete
    }

    /// The leads to ask about.
    pub(super) fn ask(&self) -> &[LeadId] {
        &self.ask
    }

    /// The leads to list, by command.
    pub(super) fn lists(&self) -> &[BTreeSet<LeadId>] {
        &self.lists
    }

    /// Refuses what is no batch: too many commands, a lead in two of them, a list longer than a page.
    pub(super) fn check(&self) -> Result<(), CallError> {
        let commands = self.delete.len() + self.ask.len() + self.lists.len();
        let distinct: BTreeSet<LeadId> = self.delete.iter().chain(&self.ask).copied().collect();
        let whole = self.delete.len() + self.ask.len();
        if whole == 0
            || commands > MAX_COMMANDS
            || distinct.len() != whole
            || self.lists.iter().any(|list| list.len() > PAGE)
        {
            return Err(CallError::refused_here("a batch takes 1 to 50 commands for distinct leads"));
        }
        Ok(())
    }

    /// Whether a reply may have this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.delete.iter().any(|id| deletion(*id) == key)
            || self.ask.iter().any(|id| question(*id) == key)
            || (0..self.lists.len()).any(|index| list(index) == key)
    }

    /// The commands by key, in order.
    pub(super) fn commands(&self, method: DeleteMethod) -> Map<String, Value> {
        let leads = LEADS.to_string();
        let mut commands = Map::new();
        for id in &self.delete {
            let command = match method {
                DeleteMethod::Lead => query(method.as_str(), &[("id", &id.to_string())]),
                DeleteMethod::Item => {
                    query(method.as_str(), &[("entityTypeId", &leads), ("id", &id.to_string())])
                }
            };
            commands.insert(deletion(*id), Value::from(command));
        }
        for id in &self.ask {
            let command = query(GET, &[("entityTypeId", &leads), ("id", &id.to_string())]);
            commands.insert(question(*id), Value::from(command));
        }
        for (index, ids) in self.lists.iter().enumerate() {
            let ids: Vec<(String, String)> = ids
                .iter()
                .enumerate()
                .map(|(index, id)| (format!("filter[@id][{index}]"), id.to_string()))
                .collect();
            let mut pairs =
                vec![("entityTypeId", leads.as_str()), ("select[0]", "*"), ("select[1]", "ufCrm_*")];
            pairs.extend(ids.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            pairs.extend([("order[id]", "ASC"), ("start", "-1")]);
            commands.insert(list(index), Value::from(query(LIST, &pairs)));
        }
        commands
    }
}

/// The key of a lead's deletion.
pub(super) fn deletion(id: LeadId) -> String {
    format!("d{id}")
}

/// The key of a question about a lead.
pub(super) fn question(id: LeadId) -> String {
    format!("g{id}")
}

/// The key of a list, by its place among the lists.
pub(super) fn list(index: usize) -> String {
    format!("r{index}")
}

/// `method?name=value&…`, encoded once, as a JSON body wants it.
pub(in crate::portal) fn query(method: &str, pairs: &[(&str, &str)]) -> String {
    let encoded: Vec<String> = pairs
        .iter()
        .map(|(name, value)| {
            format!("{}={}", utf8_percent_encode(name, PLAIN), utf8_percent_encode(value, PLAIN))
        })
        .collect();
    format!("{method}?{}", encoded.join("&"))
}
