//! Deleting many leads in one request: <https://apidocs.bitrix24.com/settings/how-to-call-rest-api/batch.html>.
//!
//! The invariants: every command is literal, since a reference that can't be resolved would become lead 1; every id
//! asked gets exactly one reply; keys are `d` and the id, which PHP can't turn into a list; a reply with keys that were
//! not asked for is another request's and says nothing about ours.

use std::collections::BTreeSet;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::envelope::{self, Cost, Reply};
use super::gate::batched;
use super::leads::{GET, LIST, asked_for};
use super::{CallError, LEADS, Permit, Portal, classify_delete};
use crate::core::lead::{Lead, LeadId};
use crate::core::outcome::{DeleteReply, Fault, Presence};
use crate::core::rule::DeleteMethod;

pub(super) const BATCH: &str = "batch";

/// The most commands a batch; the portal refuses further ones.
pub(super) const MAX_COMMANDS: usize = 50;

/// The key of the command that reads.
const READ: &str = "r";

/// What need not be encoded in a query (RFC 3986, unreserved).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a batch of deletions was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchReply {
    /// One for every id, in the order asked.
    pub replies: Vec<(LeadId, DeleteReply)>,
    /// The leads that were to be read, or why they were not; `None` if none were.
    pub read: Option<Result<Vec<Lead>, Fault>>,
    /// From sending to the complete reply, in seconds.
    pub seconds: f64,
    /// Seconds of each deletion by the portal's clock, where it said.
    pub delete_seconds: Vec<f64>,
    /// When the request was sent.
    pub sent_at: Timestamp,
    /// When the reply was complete.
    pub finished_at: Timestamp,
}

impl Portal {
    /// Deletes these leads, 1 to 50, in one request, and reads those of `then_read` with its last command, if any;
    /// then both together may be 50 commands. The portal executes them in order and goes on after a failure.
    ///
    /// # Errors
    /// A [`CallError`] where the request failed as a whole; [`CallError::as_reply`] says what that makes of each lead.
    pub async fn delete_batch(
        &self,
        permit: Permit,
        ids: &[LeadId],
        then_read: &[LeadId],
    ) -> Result<BatchReply, CallError> {
        let distinct: BTreeSet<LeadId> = ids.iter().copied().collect();
        let reading: BTreeSet<LeadId> = then_read.iter().copied().collect();
        let commands = ids.len() + usize::from(!reading.is_empty());
        if ids.is_empty()
            || commands > MAX_COMMANDS
            || distinct.len() != ids.len()
            || reading.len() > super::PAGE
        {
            return Err(CallError::refused_here("a batch takes 1 to 50 commands for distinct leads"));
        }
        let limits = self.limits();
        let method = limits.delete_method;
        let params = json!({ "halt": 0, "cmd": commands_of(method, ids, &reading) });

        let mut used = vec![batched(method.as_str()), BATCH.to_owned()];
        if !reading.is_empty() {
            used.push(batched(LIST));
        }
        let flight = permit.start(&used);
        let sent_at = self.inner.clock.now();
        let mut exchange = self.exchange_once(BATCH, &params).await;
        let finished_at = self.inner.clock.now();
        let seconds = exchange.seconds;
        let mut parts = None;
        exchange.reply = exchange.reply.and_then(|mut reply| {
            let mut read = Parts::read(&mut reply)?;
            read.only_keys_of(&distinct, !reading.is_empty(), reply.status)?;
            read.portal_now = reply.cost.finish();
            parts = Some(read);
            Ok(reply)
        });
        let nested = parts.as_ref().map(|parts| parts.operating(method, ids)).unwrap_or_default();
        if let Some(parts) = &parts {
            self.learn_from(parts, method, ids);
        }
        let reply = self.conclude(BATCH, exchange, flight, nested)?;
        let Some(mut parts) = parts else {
            return Err(CallError::malformed(Some(reply.status), "a batch without its parts"));
        };

        self.inner.gate.took(seconds);
        let delete_seconds = parts.delete_seconds(ids);
        let replies = ids.iter().map(|id| (*id, self.reply_of(&mut parts, method, *id))).collect();
        let read = (!reading.is_empty()).then(|| self.leads_of(&mut parts, &reading));
        Ok(BatchReply { replies, read, seconds, delete_seconds, sent_at, finished_at })
    }

    /// Whether these leads, 1 to 50, exist, each by `crm.item.get`, in one request. Its `NOT_FOUND` is raised before any
    /// permission check and can't leak from one command into the next, so it is certain in a batch too.
    ///
    /// # Errors
    /// A [`CallError`] where the request failed as a whole; what could not be said of one lead is its [`Fault`].
    pub async fn presence(
        &self,
        ids: &[LeadId],
    ) -> Result<Vec<(LeadId, Result<Presence, Fault>)>, CallError> {
        let distinct: BTreeSet<LeadId> = ids.iter().copied().collect();
        if let [one] = ids {
            return Ok(vec![(*one, Ok(self.get(*one).await?))]);
        }
        if ids.is_empty() || ids.len() > MAX_COMMANDS || distinct.len() != ids.len() {
            return Err(CallError::refused_here("a batch takes 1 to 50 commands for distinct leads"));
        }
        let command = |id: &LeadId| (key(*id), json!(format!("{GET}?entityTypeId={LEADS}&id={id}")));
        let commands: Map<String, Value> = ids.iter().map(command).collect();
        let permit = self.permit(super::Work::Read).await;
        let flight = permit.start(&[]);
        let mut exchange = self.exchange(BATCH, &json!({ "halt": 0, "cmd": commands })).await;
        let mut parts = None;
        exchange.reply = exchange.reply.and_then(|mut reply| {
            let read = Parts::read(&mut reply)?;
            read.only_keys_of(&distinct, false, reply.status)?;
            parts = Some(read);
            Ok(reply)
        });
        let reply = self.conclude(BATCH, exchange, flight, Vec::new())?;
        let Some(mut parts) = parts else {
            return Err(CallError::malformed(Some(reply.status), "a batch without its parts"));
        };
        Ok(ids.iter().map(|id| (*id, self.presence_of(&mut parts, *id))).collect())
    }

    fn presence_of(&self, parts: &mut Parts, id: LeadId) -> Result<Presence, Fault> {
        let key = key(id);
        if let Some(error) = parts.errors.get(&key) {
            let fault = self.fault_of(error);
            return match fault.code.as_str() {
                "NOT_FOUND" => Ok(Presence::Gone),
                "ACCESS_DENIED" => Ok(Presence::Unreadable(fault)),
                _ => Err(fault),
            };
        }
        let Some(mut result) = parts.results.remove(&key) else {
            return Err(Fault::new("<not executed>", "the batch's reply does not mention it"));
        };
        let item = result.get_mut("item").map(Value::take).unwrap_or_default();
        match Lead::from_item(item) {
            Ok(lead) if lead.id == id => Ok(Presence::Present(lead)),
            Ok(_) => Err(Fault::new("<malformed>", "another lead than the one asked for")),
            Err(why) => Err(Fault::new("<malformed>", why.to_string())),
        }
    }

    fn learn_from(&self, parts: &Parts, method: DeleteMethod, ids: &[LeadId]) {
        let gate = &self.inner.gate;
        for (key, method) in ids.iter().map(|id| (key(*id), method.as_str())).chain([(READ.to_owned(), LIST)])
        {
            if let Some(cost) = parts.cost(&key) {
                gate.observe(&batched(method), &cost, parts.portal_now);
            }
            if let Some(error) = parts.errors.get(&key) {
                if error.get("error").and_then(Value::as_str) == Some("OPERATION_TIME_LIMIT") {
                    gate.blocked(&batched(method));
                }
                if error.get("error").and_then(Value::as_str) == Some("QUERY_LIMIT_EXCEEDED") {
                    gate.refused();
                }
            }
        }
        let seconds = parts.delete_seconds(ids);
        if !seconds.is_empty() {
            let count = f64::from(u32::try_from(seconds.len()).unwrap_or(u32::MAX));
            gate.learn(method.as_str(), seconds.iter().sum::<f64>() / count);
        }
        if let Some(seconds) = parts.cost(READ).and_then(|cost| cost.seconds) {
            gate.learn(LIST, seconds);
        }
    }

    fn reply_of(&self, parts: &mut Parts, method: DeleteMethod, id: LeadId) -> DeleteReply {
        let key = key(id);
        match (parts.results.get(&key), parts.errors.get(&key)) {
            (Some(result), None) => self.deleted(method, result),
            (None, Some(error)) => classify_delete(method, None, self.fault_of(error)),
            (None, None) => DeleteReply::NotExecuted(Fault::new(
                "<not executed>",
                "the batch's reply does not mention it",
            )),
            (Some(_), Some(_)) => DeleteReply::Unknown(Fault::new(
                "<malformed>",
                "the batch's reply has a result and an error for it",
            )),
        }
    }

    fn leads_of(&self, parts: &mut Parts, ids: &BTreeSet<LeadId>) -> Result<Vec<Lead>, Fault> {
        if let Some(error) = parts.errors.get(READ) {
            return Err(self.fault_of(error));
        }
        let Some(result) = parts.results.remove(READ) else {
            return Err(Fault::new("<not executed>", "the batch's reply does not mention the list"));
        };
        asked_for(result, ids).map_err(|why| Fault::new("<malformed>", why))
    }

    pub(super) fn fault_of(&self, error: &Value) -> Fault {
        let nothing = Map::new();
        let body = error.as_object().unwrap_or(&nothing);
        envelope::fault(body.get("error").unwrap_or(&Value::Null), body, &self.inner.endpoint)
    }
}

/// The four maps of a batch's result.
pub(super) struct Parts {
    pub(super) results: Map<String, Value>,
    pub(super) errors: Map<String, Value>,
    times: Map<String, Value>,
    pub(super) portal_now: Option<f64>,
}

impl Parts {
    pub(super) fn read(reply: &mut Reply) -> Result<Parts, CallError> {
        let status = Some(reply.status);
        let mut take = |key: &str| reply.result.get_mut(key).map(Value::take);
        let (results, errors, times) = (take("result"), take("result_error"), take("result_time"));
        let (Some(results), Some(errors)) = (results.and_then(envelope::map), errors.and_then(envelope::map))
        else {
            return Err(CallError::malformed(status, "a batch's reply without its maps"));
        };
        let times = times.and_then(envelope::map).unwrap_or_default();
        Ok(Parts { results, errors, times, portal_now: None })
    }

    fn only_keys_of(&self, ids: &BTreeSet<LeadId>, reading: bool, status: u16) -> Result<(), CallError> {
        let expected = |key: &String| {
            let id = key.strip_prefix('d').and_then(|id| id.parse::<LeadId>().ok());
            (reading && key == READ) || id.is_some_and(|id| ids.contains(&id) && *key == self::key(id))
        };
        if self.results.keys().chain(self.errors.keys()).all(expected) {
            Ok(())
        } else {
            Err(CallError::malformed(Some(status), "a batch's reply with keys that were not asked for"))
        }
    }

    pub(super) fn cost(&self, key: &str) -> Option<Cost> {
        self.times.get(key).map(|time| Cost::read(Some(time)))
    }

    /// Seconds of each deletion: what the portal says it took, or else by how much the method's sum grew. The sums
    /// are put in order first, since the portal need not execute in the order of `ids`.
    fn delete_seconds(&self, ids: &[LeadId]) -> Vec<f64> {
        let costs: Vec<Cost> = ids.iter().filter_map(|id| self.cost(&key(*id))).collect();
        let said: Vec<f64> = costs.iter().filter_map(|cost| cost.seconds).collect();
        if !said.is_empty() {
            return said;
        }
        let mut sums: Vec<f64> = costs.iter().filter_map(|cost| cost.operating).collect();
        sums.sort_by(f64::total_cmp);
        sums.iter().zip(sums.iter().skip(1)).map(|(before, sum)| sum - before).collect()
    }

    /// The last sums reported for the methods inside.
    fn operating(&self, method: DeleteMethod, ids: &[LeadId]) -> Vec<(&'static str, f64)> {
        let sums = ids.iter().filter_map(|id| self.cost(&key(*id)).and_then(|cost| cost.operating));
        let last = sums.max_by(f64::total_cmp);
        let read = self.cost(READ).and_then(|cost| cost.operating);
        let deletion = last.map(|sum| (method.as_str(), sum));
        deletion.into_iter().chain(read.map(|sum| (LIST, sum))).collect()
    }
}

fn key(id: LeadId) -> String {
    format!("d{id}")
}

fn commands_of(method: DeleteMethod, ids: &[LeadId], reading: &BTreeSet<LeadId>) -> Map<String, Value> {
    let mut commands = Map::new();
    for id in ids {
        let command = match method {
            DeleteMethod::Lead => query(method.as_str(), &[("id", &id.to_string())]),
            DeleteMethod::Item => {
                query(method.as_str(), &[("entityTypeId", &LEADS.to_string()), ("id", &id.to_string())])
            }
        };
        commands.insert(key(*id), Value::from(command));
    }
    if !reading.is_empty() {
        let leads = LEADS.to_string();
        let ids: Vec<(String, String)> = reading
            .iter()
            .enumerate()
            .map(|(index, id)| (format!("filter[@id][{index}]"), id.to_string()))
            .collect();
        let mut pairs = vec![("entityTypeId", leads.as_str()), ("select[0]", "*"), ("select[1]", "ufCrm_*")];
        pairs.extend(ids.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        pairs.extend([("order[id]", "ASC"), ("start", "-1")]);
        commands.insert(READ.to_owned(), Value::from(query(LIST, &pairs)));
    }
    commands
}

/// `method?name=value&…`, encoded once, as a JSON body wants it.
pub(super) fn query(method: &str, pairs: &[(&str, &str)]) -> String {
    let encoded: Vec<String> = pairs
        .iter()
        .map(|(name, value)| {
            format!("{}={}", utf8_percent_encode(name, PLAIN), utf8_percent_encode(value, PLAIN))
        })
        .collect();
    format!("{method}?{}", encoded.join("&"))
}
