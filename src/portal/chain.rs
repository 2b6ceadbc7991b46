//! Listing many pages in one request: a batch whose pages begin after the last lead of the page before, by reference
//! (<https://apidocs.bitrix24.com/settings/how-to-call-rest-api/batch.html>).
//!
//! Only `crm.item.list` may be chained: a reference that does not resolve reaches it as an array, which it refuses,
//! where others would drop the condition or, worse, delete lead 1. The invariants: ids ascend strictly over all pages
//! and stand above `after`; the list is at its end only after a page that was not full; what the batch can't say for
//! certain is asked again as one page alone, and a portal that can't chain is then listed by single pages for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::batch::{BATCH, MAX_COMMANDS, Parts, query};
use super::errors::from_command;
use super::gate::batched;
use super::leads::{LIST, page};
use super::{CallError, Class, LEADS, PAGE, Page, Portal, Sent};
use crate::core::batch_size::BatchSize;
use crate::core::lead::{Lead, LeadId};

/// Pages of the first chain: at half a second a page, our first estimate, it ends in 2.5 s.
const FIRST_PAGES: usize = 5;

/// How long a portal that could not chain is listed by single pages: updates are rare, and a passing trouble must not
/// make listing fifty times as long for days.
const SINGLE_PAGES_FOR: Duration = Duration::from_secs(600);

/// After this many chains in a row whose replies could not be read, where a page alone could, the portal is taken to be
/// one that can't chain: one garbled reply is the weather.
const GARBLED: u32 = 2;

/// The most parameters a page: PHP's `parse_str` silently drops those beyond `max_input_vars`, 1,000 by default, and a
/// condition that is cut short selects other leads.
const MAX_PAIRS: usize = 500;

/// The longest request, in bytes: web servers commonly refuse bodies over a megabyte.
const MAX_BYTES: usize = 256 * 1024;

/// What the portal substitutes in a command, whatever its case.
const REFERENCE: &str = "$result";

/// The code with which a list refuses an array where it wants one value.
const REFUSED_REFERENCE: &str = "INVALID_ARG_VALUE";

/// What was learnt about chains with this portal.
#[derive(Debug)]
pub(super) struct Chains(Mutex<Learnt>);

#[derive(Debug)]
struct Learnt {
    size: BatchSize,
    /// Chains in a row whose replies could not be read, where a page alone could.
    garbled: u32,
    single_until: Option<Instant>,
}

impl Default for Chains {
    fn default() -> Chains {
        Chains(Mutex::new(Learnt {
            size: BatchSize::starting_at(FIRST_PAGES),
            garbled: 0,
            single_until: None,
        }))
    }
}

impl Chains {
    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        // Every change is one assignment, so a poisoned state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many pages to ask for; `None` where the portal can't chain at present.
    fn pages(&self) -> Option<usize> {
        let learnt = self.learnt();
        let single = learnt.single_until.is_some_and(|until| Instant::now() < until);
        (!single).then(|| learnt.size.next())
    }

    fn answered(&self, pages: usize, seconds: f64) {
        self.learnt().size.answered(pages, seconds);
    }

    /// A chain was read to its end.
    fn works(&self) {
        self.learnt().garbled = 0;
    }

    fn timed_out(&self, pages: usize) {
        self.learnt().size.timed_out(pages);
    }

    /// The reply to a whole chain could not be read where a page alone could.
    fn was_garbled(&self) {
        let mut learnt = self.learnt();
        learnt.garbled += 1;
        if learnt.garbled >= GARBLED {
            drop(learnt);
            self.give_up_for_a_while();
        }
    }

    fn give_up_for_a_while(&self) {
        let mut learnt = self.learnt();
        learnt.garbled = 0;
        learnt.single_until = Instant::now().checked_add(SINGLE_PAGES_FOR);
    }
}

/// What a batch of pages was answered.
struct Chain {
    /// Those of the pages up to the first that failed.
    leads: Vec<Lead>,
    end: End,
}

enum End {
    /// A page was not full.
    Last,
    /// All pages asked for are full.
    More,
    /// The portal refused the page after `leads`.
    Refused(CallError),
    /// The page after `leads` is not in the reply.
    Lost,
    /// The page after `leads` is no page after them.
    Unclear,
}

impl Portal {
    /// The leads after `after` that the filter selects, by ascending id, up to `pages` pages (1 to 50) of 50 in one
    /// request; fewer where the portal is slow or can't chain. A page that fails after others ends the reply early,
    /// with `last` false. Always selects `id`.
    ///
    /// # Errors
    /// As [`Portal::list`]: where not even the first page was read.
    pub async fn list_chain(
        &self,
        filter: &Map<String, Value>,
        after: Option<LeadId>,
        select: &[String],
        pages: usize,
    ) -> Result<Page, CallError> {
        let chains = &self.inner.chains;
        let commands = chains.pages().and_then(|fit| commands(filter, after, select, pages.min(fit)));
        let Some(commands) = commands else { return self.list(filter, after, select).await };
        let pages = commands.len();
        let mut garbled = false;
        let (leads, end) = match self.send_chain(commands, after).await {
            Ok(Chain { leads, end }) => {
                if matches!(end, End::Last | End::More) {
                    chains.works();
                }
                (leads, end)
            }
            Err(error) if one_page_may_do_better(&error) => {
                garbled = error.class == Class::Malformed;
                (Vec::new(), End::Unclear)
            }
            Err(error) => {
                if error.class == Class::Retry && error.sent == Sent::Maybe {
                    chains.timed_out(pages);
                }
                return Err(error);
            }
        };
        match end {
            End::Last => Ok(Page { leads, last: true }),
            End::More => Ok(Page { leads, last: false }),
            End::Refused(error) if leads.is_empty() && !one_page_may_do_better(&error) => Err(error),
            End::Refused(_) | End::Lost | End::Unclear if leads.is_empty() => {
                // If the page alone fails as well, chaining is not to blame.
                let page = self.list(filter, after, select).await?;
                if garbled {
                    chains.was_garbled()
                } else {
                    chains.give_up_for_a_while()
                }
                Ok(page)
            }
            End::Refused(error) => {
                // The page before was full, so the reference could be resolved: this portal does not resolve any.
                if error.fault.code == REFUSED_REFERENCE {
                    chains.give_up_for_a_while();
                }
                Ok(Page { leads, last: false })
            }
            End::Lost => Ok(Page { leads, last: false }),
            End::Unclear => {
                chains.give_up_for_a_while();
                Ok(Page { leads, last: false })
            }
        }
    }

    async fn send_chain(
        &self,
        commands: Map<String, Value>,
        after: Option<LeadId>,
    ) -> Result<Chain, CallError> {
        let pages = commands.len();
        // After a page that failed every later one would be refused: nothing is lost by halting.
        let params = json!({ "halt": 1, "cmd": commands });
        let permit = self.inner.gate.chain(pages).await;
        let flight = permit.start(&[batched(LIST), BATCH.to_owned()]);
        let mut exchange = self.exchange(BATCH, &params).await;
        let seconds = exchange.seconds;
        let mut parts = None;
        exchange.reply = exchange.reply.and_then(|mut reply| {
            let mut read = Parts::read(&mut reply)?;
            let asked = |key: &String| {
                let index = key.strip_prefix('p').and_then(|index| index.parse::<usize>().ok());
                index.is_some_and(|index| index < pages && *key == self::key(index))
            };
            if !read.results.keys().chain(read.errors.keys()).all(asked) {
                let why = "a batch's reply with keys that were not asked for";
                return Err(CallError::malformed(Some(reply.status), why));
            }
            read.portal_now = reply.cost.finish();
            parts = Some(read);
            Ok(reply)
        });
        let operating = parts.as_ref().and_then(|parts| self.learn_from_chain(parts, pages, seconds));
        let nested = operating.map(|sum| (LIST, sum)).into_iter().collect();
        let reply = self.conclude(BATCH, exchange, flight, nested)?;
        let Some(mut parts) = parts else {
            return Err(CallError::malformed(Some(reply.status), "a batch without its parts"));
        };
        Ok(self.chain_of(&mut parts, pages, after, reply.status))
    }

    /// The sum of operating seconds that the portal reported last.
    fn learn_from_chain(&self, parts: &Parts, pages: usize, seconds: f64) -> Option<f64> {
        let gate = &self.inner.gate;
        let costs: Vec<_> = (0..pages).filter_map(|index| parts.cost(&key(index))).collect();
        let last = costs.iter().rev().find(|cost| cost.operating.is_some());
        if let Some(cost) = last {
            gate.observe(&batched(LIST), cost, parts.portal_now);
        }
        for error in parts.errors.values() {
            match error.get("error").and_then(Value::as_str) {
                Some("OPERATION_TIME_LIMIT") => gate.blocked(&batched(LIST)),
                Some("QUERY_LIMIT_EXCEEDED") => gate.refused(),
                Some(_) | None => {}
            }
        }
        let said: Vec<f64> = costs.iter().filter_map(|cost| cost.seconds).collect();
        if !said.is_empty() {
            let count = f64::from(u32::try_from(said.len()).unwrap_or(u32::MAX));
            gate.learn(LIST, said.iter().sum::<f64>() / count);
        }
        self.inner.chains.answered(parts.results.len(), seconds);
        last.and_then(|cost| cost.operating)
    }

    fn chain_of(&self, parts: &mut Parts, pages: usize, after: Option<LeadId>, status: u16) -> Chain {
        let mut leads: Vec<Lead> = Vec::new();
        for index in 0..pages {
            let key = key(index);
            let end = match (parts.results.remove(&key), parts.errors.get(&key)) {
                (Some(result), None) => match page(result, leads.last().map(|lead| lead.id).or(after)) {
                    Ok(page) => {
                        leads.extend(page.leads);
                        // What follows answers an unresolved reference: it says nothing.
                        page.last.then_some(End::Last)
                    }
                    Err(_) => Some(End::Unclear),
                },
                (None, Some(error)) => Some(End::Refused(from_command(self.fault_of(error), status))),
                (None, None) => Some(End::Lost),
                (Some(_), Some(_)) => Some(End::Unclear),
            };
            if let Some(end) = end {
                return Chain { leads, end };
            }
        }
        Chain { leads, end: End::More }
    }
}

/// Whether the request, or its first page, failed in a way that a page asked for alone need not fail in, or would say
/// clearer.
fn one_page_may_do_better(error: &CallError) -> bool {
    match error.class {
        Class::Final | Class::Confirm | Class::Malformed => true,
        Class::StopPortal => error.fault.code.eq_ignore_ascii_case("ERROR_METHOD_NOT_FOUND"),
        Class::Retry
        | Class::PauseMethod
        | Class::PausePortal
        | Class::RefreshToken
        | Class::StopPortalForPerson => false,
    }
}

/// Keys sort in the order of execution, and PHP can't take them for the indices of a list.
fn key(index: usize) -> String {
    format!("p{index:02}")
}

/// The commands of the pages, 1 to 50; `None` where a command can't say what the filter says, or would say more.
fn commands(
    filter: &Map<String, Value>,
    after: Option<LeadId>,
    select: &[String],
    pages: usize,
) -> Option<Map<String, Value>> {
    // A rule may itself ask for ids above a number; the greater of the two covers both.
    let asked = filter.get(">id").map_or(Some(0), Value::as_i64)?;
    let first = asked.max(after.map_or(0, i64::from));

    let mut fields: Vec<&str> = select.iter().map(String::as_str).collect();
    if !fields.contains(&"id") {
        fields.insert(0, "id");
    }
    let mut pairs = vec![("entityTypeId".to_owned(), LEADS.to_string())];
    for (index, field) in fields.into_iter().enumerate() {
        pairs.push((format!("select[{index}]"), plain(field)?));
    }
    for (name, value) in filter.iter().filter(|(name, _)| *name != ">id") {
        if name.is_empty() || name.contains(['[', ']', '$']) {
            return None;
        }
        match value {
            Value::Array(list) if !list.is_empty() => {
                for (index, value) in list.iter().enumerate() {
                    pairs.push((format!("filter[{name}][{index}]"), scalar(value)?));
                }
            }
            // An empty list vanishes in a query, and its condition with it.
            Value::Array(_) => return None,
            Value::String(_) | Value::Number(_) | Value::Null | Value::Bool(_) | Value::Object(_) => {
                pairs.push((format!("filter[{name}]"), scalar(value)?));
            }
        }
    }
    pairs.push(("order[id]".to_owned(), "ASC".to_owned()));
    pairs.push(("start".to_owned(), "-1".to_owned()));
    if pairs.len() >= MAX_PAIRS {
        return None;
    }
    let command = |after: &str| {
        let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs: Vec<(&str, &str)> = pairs.chain([("filter[>id]", after)]).collect();
        query(LIST, &pairs)
    };
    let one = command(&first.to_string());
    if one.len() > MAX_BYTES {
        return None;
    }
    let pages = pages.clamp(1, MAX_COMMANDS).min(MAX_BYTES / (one.len() + 64)).max(1);
    let mut commands = Map::new();
    commands.insert(key(0), Value::from(one));
    for index in 1..pages {
        let last_id = format!("{REFERENCE}[{}][items][{}][id]", key(index - 1), PAGE - 1);
        commands.insert(key(index), Value::from(command(&last_id)));
    }
    Some(commands)
}

/// A value as a query says it; null and booleans have no way to be said.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => plain(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The text, unless the portal would read a reference in it.
fn plain(text: &str) -> Option<String> {
    (!text.to_ascii_lowercase().contains(REFERENCE)).then(|| text.to_owned())
}
