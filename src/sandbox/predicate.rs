//! SQL's WHERE and ORDER BY over the leads, as both list methods use them.
//!
//! Leaves are false on NULL, and negations are spelt out by the filters that build them, so that the NULL rows that a
//! portal returns are returned here and no others. Text compares without regard to case, common accents and trailing
//! spaces, as the portal's MySQL collation (`utf8_unicode_ci`) does.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::fields::FieldId;
use super::lead::{Lead, Value};

/// A condition over a lead.
#[derive(Debug, Clone)]
pub(super) enum Predicate {
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Const(bool),
    IsNull(FieldId),
    NotNull(FieldId),
    /// False on NULL.
    Compare(FieldId, Op, Operand),
    /// False on NULL.
    In(FieldId, Vec<Operand>),
    /// False on NULL.
    NotIn(FieldId, Vec<Operand>),
    /// LIKE over folded text, `negated` meaning NOT LIKE; false on NULL.
    Like {
        field: FieldId,
        pattern: Pattern,
        negated: bool,
    },
    /// A phone number (`true`) or e-mail address equals the text.
    Contact(bool, String),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Op {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Op::Eq => order.is_eq(),
            Op::Ne => order.is_ne(),
            Op::Lt => order.is_lt(),
            Op::Le => order.is_le(),
            Op::Gt => order.is_gt(),
            Op::Ge => order.is_ge(),
        }
    }
}

/// What a field is compared with; text folded.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Int(i64),
    Num(f64),
    Text(String),
    Flag(bool),
    Time(i64),
}

/// A LIKE pattern; text folded.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Contains(String),
    /// As the client wrote it, with its own `%` and `_`.
    Raw(Vec<char>),
}

impl Predicate {
    pub(super) fn holds(&self, lead: &Lead) -> bool {
        match self {
            Predicate::All(list) => list.iter().all(|p| p.holds(lead)),
            Predicate::Any(list) => list.iter().any(|p| p.holds(lead)),
            Predicate::Const(value) => *value,
            Predicate::IsNull(field) => is_null(lead.value(*field)),
            Predicate::NotNull(field) => !is_null(lead.value(*field)),
            Predicate::Compare(field, op, operand) => compare(lead.value(*field), *op, operand),
            Predicate::In(field, list) => {
                let value = lead.value(*field);
                list.iter().any(|operand| compare(value, Op::Eq, operand))
            }
            Predicate::NotIn(field, list) => {
                let value = lead.value(*field);
                !is_null(value) && list.iter().all(|operand| compare(value, Op::Ne, operand))
            }
            Predicate::Like { field, pattern, negated } => match lead.value(*field) {
                Value::Null => false,
                Value::Texts(list) => list.iter().any(|text| like(text, pattern)) != *negated,
                value
                @ (Value::Int(_) | Value::Num(_) | Value::Text(_) | Value::Flag(_) | Value::Time(_)) => {
                    like(&as_text(value), pattern) != *negated
                }
            },
            Predicate::Contact(phone, text) => {
                lead.contacts.iter().any(|contact| contact.phone == *phone && fold(&contact.value) == *text)
            }
        }
    }

    /// The ids that can possibly match, where the condition names them: keeps a keyset page and a read by ids from
    /// looking at a million leads.
    fn ids(&self) -> Ids {
        let as_id = |operand: &Operand| match operand {
            Operand::Int(id) => u32::try_from((*id).max(0)).ok(),
            Operand::Num(_) | Operand::Text(_) | Operand::Flag(_) | Operand::Time(_) => None,
        };
        match self {
            Predicate::All(list) => {
                let mut ids = Ids { from: 0, listed: None };
                for part in list.iter().map(Predicate::ids) {
                    ids.from = ids.from.max(part.from);
                    ids.listed = ids.listed.or(part.listed);
                }
                ids
            }
            Predicate::Compare(0, Op::Gt | Op::Ge, operand) => {
                Ids { from: as_id(operand).unwrap_or(u32::MAX), listed: None }
            }
            Predicate::Compare(0, Op::Eq, operand) => {
                Ids { from: 0, listed: Some(as_id(operand).into_iter().collect()) }
            }
            Predicate::In(0, list) => {
                let mut listed: Vec<u32> = list.iter().filter_map(as_id).collect();
                listed.sort_unstable();
                listed.dedup();
                Ids { from: 0, listed: Some(listed) }
            }
            Predicate::Any(list) => match list.as_slice() {
                [only] => only.ids(),
                _ => Ids { from: 0, listed: None },
            },
            Predicate::Const(_)
            | Predicate::IsNull(_)
            | Predicate::NotNull(_)
            | Predicate::Compare(..)
            | Predicate::In(..)
            | Predicate::NotIn(..)
            | Predicate::Like { .. }
            | Predicate::Contact(..) => Ids { from: 0, listed: None },
        }
    }
}

struct Ids {
    from: u32,
    listed: Option<Vec<u32>>,
}

/// One page of a query.
pub(super) struct Page<'a> {
    pub(super) rows: Vec<&'a Lead>,
    /// How many match altogether; counted only when asked.
    pub(super) total: Option<usize>,
}

/// What a list method asks for.
pub(super) struct Query<'a> {
    pub(super) filter: &'a Predicate,
    /// (field, descending)
    pub(super) order: &'a [(FieldId, bool)],
    pub(super) offset: usize,
    pub(super) count: bool,
}

/// Runs a query; `visible` hides what the caller may not read.
pub(super) fn select<'a>(
    leads: &'a BTreeMap<u32, Lead>,
    query: &Query<'_>,
    limit: usize,
    visible: impl Fn(&Lead) -> bool,
) -> Page<'a> {
    let ids = query.filter.ids();
    let candidates: Box<dyn DoubleEndedIterator<Item = &'a Lead>> = match ids.listed {
        Some(listed) => Box::new(listed.into_iter().filter_map(|id| leads.get(&id))),
        None => Box::new(leads.range(ids.from..).map(|(_, lead)| lead)),
    };
    let matches = |lead: &&Lead| visible(lead) && query.filter.holds(lead);
    let by_id = |candidates: Box<dyn DoubleEndedIterator<Item = &'a Lead> + 'a>, descending: bool| {
        let mut sequence: Box<dyn Iterator<Item = &'a Lead>> =
            if descending { Box::new(candidates.rev()) } else { Box::new(candidates) };
        let mut rows = Vec::new();
        let mut total = 0;
        for lead in sequence.by_ref().filter(matches) {
            if total >= query.offset && rows.len() < limit {
                rows.push(lead);
            }
            total += 1;
            if !query.count && rows.len() == limit {
                break;
            }
        }
        Page { rows, total: query.count.then_some(total) }
    };
    match query.order.first() {
        None => by_id(candidates, false),
        Some((0, descending)) => by_id(candidates, *descending),
        Some(_) => {
            let mut rows: Vec<&Lead> = candidates.filter(matches).collect();
            rows.sort_by(|a, b| {
                query
                    .order
                    .iter()
                    .map(|(field, descending)| {
                        let order = sort_order(a.value(*field), b.value(*field));
                        if *descending { order.reverse() } else { order }
                    })
                    .find(|order| order.is_ne())
                    .unwrap_or_else(|| a.id.cmp(&b.id))
            });
            let total = query.count.then_some(rows.len());
            let rows = rows.into_iter().skip(query.offset).take(limit).collect();
            Page { rows, total }
        }
    }
}

fn is_null(value: Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Texts(list) => list.is_empty(),
        Value::Int(_) | Value::Num(_) | Value::Text(_) | Value::Flag(_) | Value::Time(_) => false,
    }
}

fn compare(value: Value<'_>, op: Op, operand: &Operand) -> bool {
    if let Value::Texts(list) = value {
        let equal = |text: &str| compare(Value::Text(text), Op::Eq, operand);
        return match op {
            Op::Ne => !list.iter().any(|text| equal(text)),
            Op::Eq | Op::Lt | Op::Le | Op::Gt | Op::Ge => {
                list.iter().any(|text| compare(Value::Text(text), op, operand))
            }
        };
    }
    let order = match (value, operand) {
        (Value::Null, _) => None,
        (Value::Int(a), Operand::Int(b)) => Some(a.cmp(b)),
        (Value::Time(a), Operand::Time(b)) => Some(a.cmp(b)),
        (Value::Flag(a), Operand::Flag(b)) => Some(a.cmp(b)),
        (Value::Text(a), Operand::Text(b)) => Some(fold(a).trim_end().cmp(b.trim_end())),
        (value, operand) => number(value).partial_cmp(&operand_number(operand)),
    };
    order.is_some_and(|order| op.holds(order))
}

/// MySQL compares values of different types as numbers.
fn number(value: Value<'_>) -> f64 {
    match value {
        Value::Null | Value::Texts(_) => f64::NAN,
        Value::Int(number) | Value::Time(number) => number as f64,
        Value::Num(number) => number,
        Value::Flag(flag) => f64::from(u8::from(flag)),
        Value::Text(text) => text.trim().parse().unwrap_or(0.0),
    }
}

fn operand_number(operand: &Operand) -> f64 {
    match operand {
        Operand::Int(number) | Operand::Time(number) => *number as f64,
        Operand::Num(number) => *number,
        Operand::Flag(flag) => f64::from(u8::from(*flag)),
        Operand::Text(text) => text.trim().parse().unwrap_or(0.0),
    }
}

fn sort_order(a: Value<'_>, b: Value<'_>) -> Ordering {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => fold(a).cmp(&fold(b)),
        (a, b) => is_null(b)
            .cmp(&is_null(a))
            .then_with(|| number(a).partial_cmp(&number(b)).unwrap_or(Ordering::Equal)),
    }
}

fn as_text(value: Value<'_>) -> String {
    match value {
        Value::Null | Value::Texts(_) => String::new(),
        Value::Int(number) | Value::Time(number) => number.to_string(),
        Value::Num(number) => number.to_string(),
        Value::Text(text) => text.to_owned(),
        Value::Flag(flag) => if flag { "Y" } else { "N" }.to_owned(),
    }
}

/// A text as the collation sees it: lower case, without the accents of European and Cyrillic letters.
pub(super) fn fold(text: &str) -> String {
    let plain = |c: char| match c {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' => 'a',
        'ç' => 'c',
        'è' | 'é' | 'ê' | 'ë' => 'e',
        'ì' | 'í' | 'î' | 'ï' => 'i',
        'ñ' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' => 'o',
        'ù' | 'ú' | 'û' | 'ü' => 'u',
        'ё' => 'е',
        'й' => 'и',
        other => other,
    };
    text.to_lowercase().chars().map(plain).collect()
}

fn like(text: &str, pattern: &Pattern) -> bool {
    let text = fold(text);
    match pattern {
        Pattern::Contains(part) => text.contains(part.as_str()),
        Pattern::Raw(pattern) => like_raw(&text.chars().collect::<Vec<_>>(), pattern),
    }
}

/// `%` is any run, `_` any character. Iterative, with one point of return, so that no pattern is exponential.
fn like_raw(text: &[char], pattern: &[char]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match pattern.get(p) {
            Some('%') => {
                retry = Some((t, p + 1));
                p += 1;
            }
            Some(wanted) if wanted == c || *wanted == '_' => {
                t += 1;
                p += 1;
            }
            Some(_) | None => match retry {
                Some((from, after)) => {
                    retry = Some((from + 1, after));
                    t = from + 1;
                    p = after;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_patterns_match_as_in_sql() {
        let raw = |text: &str, pattern: &str| like(text, &Pattern::Raw(fold(pattern).chars().collect()));
        assert!(raw("Test lead", "test%"));
        assert!(raw("a test lead", "%TEST%lead"));
        assert!(raw("cat", "c_t"));
        assert!(!raw("a test", "test%"));
        assert!(!raw("test", "tes"));
    }
}
