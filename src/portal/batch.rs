//! Deleting many leads in one request: <https://apidocs.bitrix24.com/settings/how-to-call-rest-api/batch.html>.
//!
//! The invariants: every command is literal, since a reference that can't be resolved would become lead 1; every id
//! asked gets exactly one reply; a reply with keys that were not asked for is another request's and says nothing about
//! ours.

mod request;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub use request::BatchRequest;
pub(super) use request::query;

use super::envelope::{self, Cost, Reply};
use super::gate::batched;
use super::leads::{LIST, asked_for};
use super::{CallError, Permit, Portal, classify_delete};
use crate::core::freshness::Moment;
use crate::core::lead::{Lead, LeadId};
use crate::core::outcome::{DeleteReply, Fault, Presence};
use crate::core::rule::DeleteMethod;

pub(super) const BATCH: &str = "batch";

/// The most commands a batch; the portal refuses further ones.
pub(super) const MAX_COMMANDS: usize = 50;

/// What `crm.item.get` said about one lead in a batch, or why nothing could be said of it.
pub type Asked = (LeadId, Result<Presence, Fault>);

/// What a batch of deletions was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchReply {
    /// One for every lead to delete, in the order asked.
    pub replies: Vec<(LeadId, DeleteReply)>,
    /// One for every lead asked about, in the order asked.
    pub presence: Vec<Asked>,
    /// For every list asked for, its leads, or why they were not read.
    pub lists: Vec<Result<Vec<Lead>, Fault>>,
    /// From sending to the complete reply, in seconds.
    pub seconds: f64,
    /// Seconds of each deletion by the portal's clock, where it measured them one by one.
    pub delete_seconds: Vec<f64>,
    /// When the request was sent.
    pub sent_at: Moment,
    /// When the reply was complete.
    pub finished_at: Moment,
}

impl Portal {
    /// Deletes leads in one request, which may ask about others and list the next ones as well. The portal executes the
    /// commands in order and goes on after a failure.
    ///
    /// # Errors
    /// A [`CallError`] where the request failed as a whole; [`CallError::as_reply`] says what that makes of each lead.
    pub async fn delete_batch(
        &self,
        permit: Permit,
        request: &BatchRequest,
    ) -> Result<BatchReply, CallError> {
        request.check()?;
        let method = self.limits().delete_method;
        let mut used = vec![batched(method.as_str()), BATCH.to_owned()];
        if !request.lists().is_empty() {
            used.push(batched(LIST));
        }
        let flight = permit.start(&used);
        let params = json!({ "halt": 0, "cmd": request.commands(method) });
        let sent_at = self.inner.clock.moment();
        let mut exchange = self.exchange_once(BATCH, &params).await;
        let finished_at = self.inner.clock.moment();
        let seconds = exchange.seconds;
        let mut parts = None;
        exchange.reply = exchange.reply.and_then(|mut reply| {
            parts = Some(Parts::of(&mut reply, request)?);
            Ok(reply)
        });
        let nested = parts.as_ref().map(|parts| parts.operating(method, request)).unwrap_or_default();
        if let Some(parts) = &parts {
            self.learn_from(parts, method, request);
        }
        let reply = self.conclude(BATCH, exchange, flight, nested)?;
        let Some(mut parts) = parts else {
            return Err(CallError::malformed(Some(reply.status), "a batch without its parts"));
        };

        self.inner.gate.took(seconds);
        let delete_seconds = parts.measured(request.delete());
        let replies =
            request.delete().iter().map(|id| (*id, self.reply_of(&mut parts, method, *id))).collect();
        let presence = request.ask().iter().map(|id| (*id, self.presence_of(&mut parts, *id))).collect();
        let lists = request
            .lists()
            .iter()
            .enumerate()
            .map(|(index, ids)| self.leads_of(&mut parts, index, ids))
            .collect();
        Ok(BatchReply { replies, presence, lists, seconds, delete_seconds, sent_at, finished_at })
    }

    /// Whether these leads, 1 to 50, exist, each by `crm.item.get`, in one request. Its `NOT_FOUND` is raised before any
    /// permission check and can't leak from one command into the next, so it is certain in a batch too.
    ///
    /// # Errors
    /// A [`CallError`] where the request failed as a whole; what could not be said of one lead is its [`Fault`].
    pub async fn presence(&self, ids: &[LeadId]) -> Result<Vec<Asked>, CallError> {
        self.presence_timed(ids).await.map(|(found, _)| found)
    }

    /// [`Portal::presence`] with the moment at which the request left: the leads were read then or later.
    ///
    /// # Errors
    /// The same.
    pub async fn presence_timed(&self, ids: &[LeadId]) -> Result<(Vec<Asked>, Moment), CallError> {
        if let [one] = ids {
            let (presence, sent_at) = self.get_timed(*one).await?;
            return Ok((vec![(*one, Ok(presence))], sent_at));
        }
        let request = BatchRequest::deleting(&[]).asking(ids);
        request.check()?;
        let permit = self.permit(super::Work::Read).await;
        let flight = permit.start(&[]);
        let params = json!({ "halt": 0, "cmd": request.commands(self.limits().delete_method) });
        let sent_at = self.inner.clock.moment();
        let mut exchange = self.exchange(BATCH, &params).await;
        let mut parts = None;
        exchange.reply = exchange.reply.and_then(|mut reply| {
            parts = Some(Parts::of(&mut reply, &request)?);
            Ok(reply)
        });
        let reply = self.conclude(BATCH, exchange, flight, Vec::new())?;
        let Some(mut parts) = parts else {
            return Err(CallError::malformed(Some(reply.status), "a batch without its parts"));
        };
        let found = ids.iter().map(|id| (*id, self.presence_of(&mut parts, *id))).collect();
        Ok((found, sent_at))
    }

    fn presence_of(&self, parts: &mut Parts, id: LeadId) -> Result<Presence, Fault> {
        let key = request::question(id);
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

    fn learn_from(&self, parts: &Parts, method: DeleteMethod, request: &BatchRequest) {
        let gate = &self.inner.gate;
        let ids = request.delete();
        let lists = || (0..request.lists().len()).map(request::list);
        let deletions = ids.iter().map(|id| (request::deletion(*id), method.as_str()));
        for (key, method) in deletions.chain(lists().map(|key| (key, LIST))) {
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
        for seconds in lists().filter_map(|key| parts.cost(&key)?.seconds) {
            gate.learn(LIST, seconds);
        }
    }

    fn reply_of(&self, parts: &mut Parts, method: DeleteMethod, id: LeadId) -> DeleteReply {
        let key = request::deletion(id);
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

    fn leads_of(&self, parts: &mut Parts, index: usize, ids: &BTreeSet<LeadId>) -> Result<Vec<Lead>, Fault> {
        let key = request::list(index);
        if let Some(error) = parts.errors.get(&key) {
            return Err(self.fault_of(error));
        }
        let Some(result) = parts.results.remove(&key) else {
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

    /// The parts of the reply to this request; a key that it does not have is another's.
    fn of(reply: &mut Reply, request: &BatchRequest) -> Result<Parts, CallError> {
        let mut parts = Parts::read(reply)?;
        if !parts.results.keys().chain(parts.errors.keys()).all(|key| request.has(key)) {
            let why = "a batch's reply with keys that were not asked for";
            return Err(CallError::malformed(Some(reply.status), why));
        }
        parts.portal_now = reply.cost.finish();
        Ok(parts)
    }

    pub(super) fn cost(&self, key: &str) -> Option<Cost> {
        self.times.get(key).map(|time| Cost::read(Some(time)))
    }

    /// Seconds of each deletion: what the portal says it took, or else by how much the method's sum grew. The sums
    /// are put in order first, since the portal need not execute in the order of `ids`.
    fn delete_seconds(&self, ids: &[LeadId]) -> Vec<f64> {
        let measured = self.measured(ids);
        if !measured.is_empty() {
            return measured;
        }
        let costs = ids.iter().filter_map(|id| self.cost(&request::deletion(*id)));
        let mut sums: Vec<f64> = costs.filter_map(|cost| cost.operating).collect();
        sums.sort_by(f64::total_cmp);
        sums.iter().zip(sums.iter().skip(1)).map(|(before, sum)| sum - before).collect()
    }

    /// Seconds of each deletion that the portal measured. The growth of the method's sum is no such measure: other requests
    /// at the same time add to it.
    fn measured(&self, ids: &[LeadId]) -> Vec<f64> {
        let costs = ids.iter().filter_map(|id| self.cost(&request::deletion(*id)));
        costs.filter_map(|cost| cost.seconds).collect()
    }

    /// The last sums reported for the methods inside.
    fn operating(&self, method: DeleteMethod, request: &BatchRequest) -> Vec<(&'static str, f64)> {
        let sum = |key: String| self.cost(&key).and_then(|cost| cost.operating);
        let deletion = request.delete().iter().filter_map(|id| sum(request::deletion(*id)));
        let list = (0..request.lists().len()).filter_map(|index| sum(request::list(index)));
        let deletion = deletion.max_by(f64::total_cmp).map(|sum| (method.as_str(), sum));
        let list = list.max_by(f64::total_cmp).map(|sum| (LIST, sum));
        deletion.into_iter().chain(list).collect()
    }
}
