//! A rule's condition as a server filter for `crm.item.list`, and the proof that the server honoured it.
//!
//! The filter only saves work. It is never narrower than the condition as far as we know the portal, and often wider:
//! what can't be sent safely is left out, and every returned lead is judged again by [`super::decide`]. A lead that
//! surely contradicts a condition that was sent means that the portal ignored the filter; nothing it said can then be
//! trusted.
//!
//! Prefixes and value types: <https://apidocs.bitrix24.com/api-reference/crm/universal/crm-item-list.html>.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::compare::{Order, Test};
use super::condition::{Condition, Judged};
use super::decide::whole_seconds;
use super::field::{FieldKind, FieldName};
use super::lead::{Lead, read_time};
use super::rule::Rule;
use super::truth::Truth;

/// What to send, and what its answer is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerFilter {
    /// The `filter` parameter, without the paging condition.
    pub json: Map<String, Value>,
    /// The conditions sent whose contradiction proves that the filter was not honoured.
    witnesses: Vec<Condition>,
    /// Every condition that was sent.
    sent: Vec<Condition>,
    now: Timestamp,
}

/// Fields whose filter the portal is known to accept. Others are judged here only.
const SENDABLE: &[&str] = &[
    "id",
    "stageId",
    "stageSemanticId",
    "createdTime",
    "updatedTime",
    "movedTime",
    "lastActivityTime",
    "dateClosed",
    "assignedById",
    "createdBy",
    "updatedBy",
    "movedBy",
    "sourceId",
    "opportunity",
    "currencyId",
    "opened",
    "hasPhone",
    "hasEmail",
    "isReturnCustomer",
    "companyId",
    "contactId",
    "title",
    "originatorId",
    "originId",
    "utmSource",
    "utmMedium",
    "utmCampaign",
];

/// The filter of a rule at the moment `now`.
///
/// ```
/// use b24_janitor::{core::{filter::server_filter, lead::Lead}, rules::{self, Input}};
/// use serde_json::json;
///
/// let text = r#"
/// version: 1
/// timezone: Europe/Berlin
/// rules:
///   - { name: old-junk, schedule: "@daily", match: { stageId: JUNK }, older_than: 90d }
/// "#;
/// let file = Input { file: "rules.yaml".into(), bytes: text.into() };
/// let rules = rules::parse(&[file]).unwrap().rules;
/// let rule = rules.rule("old-junk").unwrap();
///
/// let filter = server_filter(rule, "2026-11-25T12:00:00Z".parse().unwrap());
/// assert_eq!(filter.json["=stageId"], "JUNK");
/// // A portal that returns another stage has not honoured the filter: nothing that it said is acted on.
/// let other = Lead::from_item(json!({ "id": 7, "stageId": "NEW" })).unwrap();
/// assert!(filter.contradicted_by(&other).is_some());
/// ```
pub fn server_filter(rule: &Rule, now: Timestamp) -> ServerFilter {
    let now = whole_seconds(now);
    let mut filter = ServerFilter { json: Map::new(), witnesses: Vec::new(), sent: Vec::new(), now };
    add(&mut filter, &rule.selection);
    filter
}

fn add(filter: &mut ServerFilter, condition: &Condition) {
    let sent = match condition {
        Condition::All(parts) => {
            parts.iter().for_each(|part| add(filter, part));
            return;
        }
        Condition::Any(_) | Condition::Not(_) => return,
        Condition::Field { field, test } => sendable(field).and_then(|kind| clause(field, kind, test)),
        Condition::OlderThan { field, age } => sendable(field)
            .filter(|kind| *kind == FieldKind::Time)
            .map(|_| (format!("<={field}"), date(age.before(filter.now)))),
    };
    let Some((key, value)) = sent else { return };
    // A second condition on the same key can't be sent beside the first: a JSON object has one value a key.
    if filter.json.contains_key(&key) {
        return;
    }
    filter.json.insert(key, value);
    filter.sent.push(condition.clone());
    if condition.fields().iter().all(|field| field.kind().compares_exactly()) {
        filter.witnesses.push(condition.clone());
    }
}

fn sendable(field: &FieldName) -> Option<FieldKind> {
    SENDABLE.contains(&field.as_str()).then(|| field.kind())
}

fn clause(field: &FieldName, kind: FieldKind, test: &Test) -> Option<(String, Value)> {
    let text_like = matches!(kind, FieldKind::Text | FieldKind::Stage);
    let number_like = matches!(kind, FieldKind::Id | FieldKind::Number | FieldKind::Reference);
    match test {
        Test::TextIn { values, negated } if text_like => {
            let values: Vec<Value> = values.iter().map(|text| Value::from(text.as_str())).collect();
            Some(one_of(field, values, *negated))
        }
        // `%` and `_` are wildcards in the portal's LIKE; a text with one of them is judged here only.
        Test::Contains(text) | Test::StartsWith(text)
            if text_like && !text.as_str().contains(['%', '_', '\\']) =>
        {
            Some((format!("%{field}"), Value::from(text.as_str())))
        }
        Test::NumberIn { values, negated } if number_like => {
            Some(one_of(field, values.iter().map(|value| number(*value)).collect(), *negated))
        }
        Test::NumberOrder { order, than } if number_like => {
            Some((format!("{}{field}", sign(*order)), number(*than)))
        }
        Test::TimeOrder { order, than } if kind == FieldKind::Time => {
            Some((format!("{}{field}", sign(*order)), date(*than)))
        }
        Test::Flag(wanted) if kind == FieldKind::Flag => {
            Some((format!("={field}"), Value::from(if *wanted { "Y" } else { "N" })))
        }
        Test::TextIn { .. }
        | Test::Contains(_)
        | Test::StartsWith(_)
        | Test::NumberIn { .. }
        | Test::NumberOrder { .. }
        | Test::TimeOrder { .. }
        | Test::Flag(_)
        | Test::Empty(_) => None,
    }
}

fn one_of(field: &FieldName, mut values: Vec<Value>, negated: bool) -> (String, Value) {
    match (values.len(), negated) {
        (1, false) => (format!("={field}"), values.swap_remove(0)),
        (1, true) => (format!("!={field}"), values.swap_remove(0)),
        (_, false) => (format!("@{field}"), Value::Array(values)),
        (_, true) => (format!("!@{field}"), Value::Array(values)),
    }
}

fn sign(order: Order) -> &'static str {
    match order {
        Order::Gt => ">",
        Order::Gte => ">=",
        Order::Lt => "<",
        Order::Lte => "<=",
    }
}

/// Whole numbers as JSON integers: PHP compares ids as integers.
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "checked: whole and inside i64")]
        let whole = value as i64;
        json!(whole)
    } else {
        json!(value)
    }
}

/// A moment as the portal is to read it: with its offset, to the second
/// (<https://apidocs.bitrix24.com/api-reference/data-types.html>).
fn date(at: Timestamp) -> Value {
    Value::from(at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string())
}

impl ServerFilter {
    /// The first condition that was sent and that this returned lead surely contradicts: the portal did not honour
    /// the filter. Null and missing values are undecidable and prove nothing.
    pub fn contradicted_by(&self, lead: &Lead) -> Option<Judged> {
        self.witnesses
            .iter()
            .find(|witness| witness.judge(lead, self.now).is_no())
            .and_then(|witness| witness.deciding(lead, self.now).into_iter().next())
    }
    /// Whether the portal's list for this filter has the lead, as far as we know the portal: a field that is null passes
    /// `ne` and `not_in` only.
    pub fn would_return(&self, lead: &Lead) -> bool {
        self.sent.iter().all(|condition| match condition.judge(lead, self.now) {
            Truth::Yes => true,
            Truth::No => false,
            Truth::Undecidable => passes_unjudged(condition, lead),
        })
    }
}

/// What the portal says of a value that we can't judge by a condition that was sent.
fn passes_unjudged(condition: &Condition, lead: &Lead) -> bool {
    match condition {
        Condition::Field { test: Test::TextIn { negated, .. } | Test::NumberIn { negated, .. }, .. } => {
            *negated
        }
        // A date in the future: the portal compares it as any other.
        Condition::Field { field, test: Test::TimeOrder { order: Order::Gt | Order::Gte, .. } } => {
            lead.get(field.as_str()).and_then(read_time).is_some()
        }
        Condition::Field { .. }
        | Condition::OlderThan { .. }
        | Condition::All(_)
        | Condition::Any(_)
        | Condition::Not(_) => false,
    }
}
