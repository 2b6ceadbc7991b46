//! What looks unintended in rules that are valid: only what is certain, since a warning that is wrong once is not read
//! again.
//!
//! Invariant: certainty comes from the matcher itself. A lead that has only one field leaves every other condition
//! undecidable, and three-valued logic is monotone: a *no* or a *yes* of such a lead holds for every lead with that
//! value. So nothing here knows again what an operator means.

mod clocks;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::diagnostic::{Diagnostic, Severity};
use crate::core::age::Age;
use crate::core::compare::{Order, Test, Text};
use crate::core::condition::Condition;
use crate::core::field::{FieldKind, FieldName};
use crate::core::lead::{Lead, LeadId};
use crate::core::rule::{Rule, RuleSet};
use crate::core::truth::Truth;

/// What looks unintended in the rules at the moment `now`, in the order of the rules.
pub fn lint(rules: &RuleSet, now: Timestamp) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (index, rule) in rules.rules.iter().enumerate() {
        clocks::clocks(rule, now, &mut found);
        let asked = Asked::of(&rule.selection, now);
        if let Some(diagnostic) = never(rule, &asked, now) {
            found.push(diagnostic);
            continue;
        }
        covered(rule, &asked, rules, now, &mut found);
        let earlier = rules.rules.iter().take(index);
        if let Some(first) = earlier.into_iter().find(|first| same_leads(first, rule)) {
            let message = format!("rule {} selects exactly the leads of rule {}", rule.name, first.name);
            let place = &first.place;
            found.push(warning(
                rule,
                "same-leads",
                message,
                format!(
                    "a lead belongs to the first rule that queues it ({}:{}): remove one of them, or change its `match`",
                    place.file, place.line
                ),
            ));
        }
    }
    found
}

fn warning(rule: &Rule, code: &'static str, message: String, help: impl Into<String>) -> Diagnostic {
    let mut diagnostic = Diagnostic::about_rule(Severity::Warning, code, &rule.place, message);
    diagnostic.help(help);
    diagnostic
}

/// What a condition asks of every lead that it selects, by its parts that must all hold.
struct Asked<'r> {
    parts: Vec<&'r Condition>,
    /// Fields of which only these values can be selected.
    candidates: Vec<(&'r FieldName, Vec<Value>)>,
}

impl<'r> Asked<'r> {
    fn of(selection: &'r Condition, now: Timestamp) -> Asked<'r> {
        let mut parts = Vec::new();
        flatten(selection, &mut parts);
        let mut candidates: Vec<(&FieldName, Vec<Value>)> = Vec::new();
        for part in &parts {
            if let Condition::Field { field, test } = part
                && candidates.iter().all(|(known, _)| *known != field)
                && let Some(values) = possible(field, test)
            {
                candidates.push((field, values));
            }
        }
        for (field, values) in &mut candidates {
            values.retain(|value| parts.iter().all(|part| allows(part, field, value, now)));
        }
        Asked { parts, candidates }
    }
}

fn flatten<'r>(condition: &'r Condition, parts: &mut Vec<&'r Condition>) {
    match condition {
        Condition::All(inner) => inner.iter().for_each(|part| flatten(part, parts)),
        Condition::Any(inner) if inner.len() == 1 => inner.iter().for_each(|part| flatten(part, parts)),
        Condition::Any(_) | Condition::Not(_) | Condition::Field { .. } | Condition::OlderThan { .. } => {
            parts.push(condition);
        }
    }
}

/// The values that pass a test on a field that holds one value, where they can be listed.
fn possible(field: &FieldName, test: &Test) -> Option<Vec<Value>> {
    let one_value = match field.kind() {
        FieldKind::Id
        | FieldKind::Stage
        | FieldKind::Text
        | FieldKind::Number
        | FieldKind::Time
        | FieldKind::Flag => true,
        FieldKind::Reference => !matches!(field.as_str(), "contactIds" | "observers"),
        // Whether it holds several is known to the portal only.
        FieldKind::Custom => false,
    };
    match test {
        Test::Empty(true) => Some(vec![Value::Null, json!(""), json!([]), json!({})]),
        Test::TextIn { values, negated: false } if one_value => {
            Some(values.iter().map(|text| json!(text.as_str())).collect())
        }
        Test::NumberIn { values, negated: false } if one_value => {
            Some(values.iter().map(|number| json!(number)).collect())
        }
        Test::Flag(wanted) if one_value => Some(vec![json!(wanted)]),
        Test::Empty(false)
        | Test::TextIn { .. }
        | Test::NumberIn { .. }
        | Test::Flag(_)
        | Test::Contains(_)
        | Test::StartsWith(_)
        | Test::NumberOrder { .. }
        | Test::TimeOrder { .. } => None,
    }
}

/// What a condition says of every lead with this value; `None` where the value is none that a lead can have.
fn judge(condition: &Condition, field: &FieldName, value: &Value, now: Timestamp) -> Option<Truth> {
    let is_id = field.kind() == FieldKind::Id;
    // Every lead has an id, but this one's is only a stand-in unless the field is the id.
    if !is_id && condition.fields().iter().any(|read| read.kind() == FieldKind::Id) {
        return Some(Truth::Undecidable);
    }
    if is_id {
        #[expect(clippy::cast_possible_truncation, reason = "rules have whole ids far under 2^53")]
        let id = LeadId::try_from(value.as_f64()? as i64).ok()?;
        return Some(condition.judge(&Lead::new(id, Map::new()), now));
    }
    let id = LeadId::try_from(1).ok()?;
    let fields = Map::from_iter([(field.as_str().to_owned(), value.clone())]);
    Some(condition.judge(&Lead::new(id, fields), now))
}

/// Whether a lead with this value can pass the condition.
fn allows(condition: &Condition, field: &FieldName, value: &Value, now: Timestamp) -> bool {
    let reads_only_it = condition.fields().iter().all(|read| *read == field);
    match judge(condition, field, value, now) {
        None | Some(Truth::No) => false,
        // Nothing that another field holds could decide it.
        Some(Truth::Undecidable) => !reads_only_it,
        Some(Truth::Yes) => true,
    }
}

/// The warning of a rule that selects nothing, or nothing yet.
fn never(rule: &Rule, asked: &Asked<'_>, now: Timestamp) -> Option<Diagnostic> {
    let name = &rule.name;
    let remedy = "all conditions of a rule must hold at once: change or remove one of them; where one of several is enough \
                  write a list, or any: [ {…}, {…} ]";
    if let Some((field, _)) = asked.candidates.iter().find(|(_, values)| values.is_empty()) {
        let conditions = listed(asked, field);
        let message = format!("rule {name} can never match: no `{field}` passes {conditions}");
        return Some(warning(rule, "never-matches", message, remedy));
    }
    for field in asked.parts.iter().flat_map(|part| part.fields()) {
        if is_empty_range(&numbers(asked, field)) || is_empty_range(&times(asked, field)) {
            let conditions = listed(asked, field);
            let message = format!("rule {name} can never match: no `{field}` passes {conditions}");
            return Some(warning(rule, "never-matches", message, remedy));
        }
        if let Some(from) = later(asked, field, now) {
            let date = rule.schedule.zone().to_datetime(from).strftime("%-d %B %Y, %H:%M");
            let conditions = listed(asked, field);
            let message =
                format!("rule {name} matches nothing before {date}: no `{field}` passes {conditions} yet");
            let help = "an age counts back from now, and a date in the future can't be judged: write a smaller age, or an \
                        earlier date";
            return Some(warning(rule, "matches-nothing-yet", message, help));
        }
    }
    None
}

/// The conditions that read a field, in the rules language.
fn listed(asked: &Asked<'_>, field: &FieldName) -> String {
    let reading = asked.parts.iter().filter(|part| part.fields().contains(&field));
    reading.map(|part| format!("`{part}`")).collect::<Vec<_>>().join(" and ")
}

/// A bound and whether it is itself left out.
type Bound<T> = (T, bool);

/// Whether a lower and an upper bound leave nothing between them.
fn is_empty_range<T: PartialOrd + Copy>(orders: &[(Order, T)]) -> bool {
    let bounds = |side: fn(Order, T) -> Option<Bound<T>>| {
        orders.iter().filter_map(move |(order, than)| side(*order, *than)).collect::<Vec<_>>()
    };
    let (lowers, uppers) = (bounds(lower), bounds(upper));
    lowers.iter().any(|(low, left_out)| {
        uppers.iter().any(|(high, also)| low > high || (low == high && (*left_out || *also)))
    })
}

fn lower<T>(order: Order, than: T) -> Option<Bound<T>> {
    match order {
        Order::Gt => Some((than, true)),
        Order::Gte => Some((than, false)),
        Order::Lt | Order::Lte => None,
    }
}

fn upper<T>(order: Order, than: T) -> Option<Bound<T>> {
    match order {
        Order::Lt => Some((than, true)),
        Order::Lte => Some((than, false)),
        Order::Gt | Order::Gte => None,
    }
}

/// The orders that a field's number must be in.
fn numbers(asked: &Asked<'_>, of: &FieldName) -> Vec<(Order, f64)> {
    let mut orders = Vec::new();
    for part in &asked.parts {
        if let Condition::Field { field, test: Test::NumberOrder { order, than } } = part
            && field == of
        {
            orders.push((*order, *than));
        }
    }
    orders
}

/// The orders that a field's moment must be in.
fn times(asked: &Asked<'_>, of: &FieldName) -> Vec<(Order, Timestamp)> {
    let mut orders = Vec::new();
    for part in &asked.parts {
        if let Condition::Field { field, test: Test::TimeOrder { order, than } } = part
            && field == of
        {
            orders.push((*order, *than));
        }
    }
    orders
}

/// Before when no lead can pass, since its moment would have to be later than the rule's age, or the present, allows.
fn later(asked: &Asked<'_>, of: &FieldName, now: Timestamp) -> Option<Timestamp> {
    let mut age = Age::ZERO;
    for part in &asked.parts {
        if let Condition::OlderThan { field, age: wanted } = part
            && field == of
        {
            age = age.max(*wanted);
        }
    }
    let newest = age.before(now);
    let bounds = times(asked, of).into_iter().filter_map(|(order, than)| lower(order, than));
    let too_late = bounds.filter(|(least, left_out)| *least > newest || (*least == newest && *left_out));
    too_late.map(|(least, _)| age.after(least)).max()
}

/// Warns where protections leave nothing of what a rule selects.
fn covered(rule: &Rule, asked: &Asked<'_>, rules: &RuleSet, now: Timestamp, found: &mut Vec<Diagnostic>) {
    let name = &rule.name;
    let converted = FieldName::parse("stageSemanticId").ok().map(|field| Condition::Field {
        field,
        test: Test::TextIn { values: vec![Text::new("S")], negated: false },
    });
    if !rule.include_converted && converted.is_some_and(|converted| follows(&converted, asked, now)) {
        let message =
            format!("rule {name} deletes nothing: it selects converted leads only, which are protected");
        found.push(warning(
            rule,
            "all-protected",
            message,
            "to delete them write include_converted: true in the rule",
        ));
        return;
    }
    let covering = rules.protections.iter().find(|protection| {
        protection.condition.as_ref().is_some_and(|condition| follows(condition, asked, now))
    });
    if let Some(protection) = covering {
        let message = format!(
            "rule {name} deletes nothing: protection {} covers every lead that it selects",
            protection.name
        );
        found.push(warning(
            rule,
            "all-protected",
            message,
            "a protection beats every rule: change the protection's `match`, or remove the rule",
        ));
    }
}

/// Whether every lead that passes what is asked surely passes this condition too.
fn follows(wanted: &Condition, asked: &Asked<'_>, now: Timestamp) -> bool {
    let by_value = asked.candidates.iter().any(|(field, values)| {
        !values.is_empty() && values.iter().all(|value| judge(wanted, field, value, now) == Some(Truth::Yes))
    });
    let alone = by_value || asked.parts.iter().any(|part| **part == *wanted || is_stronger(part, wanted));
    alone
        || match wanted {
            Condition::All(parts) => parts.iter().all(|part| follows(part, asked, now)),
            Condition::Any(parts) => parts.iter().any(|part| follows(part, asked, now)),
            Condition::Not(_) | Condition::Field { .. } | Condition::OlderThan { .. } => false,
        }
}

/// Whether a bound on a field implies another one on it.
fn is_stronger(part: &Condition, wanted: &Condition) -> bool {
    if let Condition::OlderThan { field, age } = part
        && let Condition::OlderThan { field: other, age: least } = wanted
    {
        return field == other && age >= least;
    }
    let Condition::Field { field, test } = part else { return false };
    let Condition::Field { field: other, test: wanted } = wanted else { return false };
    if field != other {
        return false;
    }
    if let Test::NumberOrder { order, than } = test
        && let Test::NumberOrder { order: wanted, than: bound } = wanted
    {
        return implies((*order, *than), (*wanted, *bound));
    }
    if let Test::TimeOrder { order, than } = test
        && let Test::TimeOrder { order: wanted, than: bound } = wanted
    {
        return implies((*order, *than), (*wanted, *bound));
    }
    false
}

fn implies<T: PartialOrd + Copy>(part: (Order, T), wanted: (Order, T)) -> bool {
    let same = |(a, a_out): Bound<T>, (b, b_out): Bound<T>| a == b && (a_out || !b_out);
    if let Some(part) = lower(part.0, part.1)
        && let Some(wanted) = lower(wanted.0, wanted.1)
    {
        return part.0 > wanted.0 || same(part, wanted);
    }
    if let Some(part) = upper(part.0, part.1)
        && let Some(wanted) = upper(wanted.0, wanted.1)
    {
        return part.0 < wanted.0 || same(part, wanted);
    }
    false
}

/// Whether two rules may delete exactly the same leads: the same conditions, in whatever order.
fn same_leads(one: &Rule, other: &Rule) -> bool {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    flatten(&one.selection, &mut ours);
    flatten(&other.selection, &mut theirs);
    one.mode == other.mode
        && one.include_converted == other.include_converted
        && ours.iter().all(|part| theirs.contains(part))
        && theirs.iter().all(|part| ours.contains(part))
}
