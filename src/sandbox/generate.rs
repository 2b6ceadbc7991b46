//! Sample leads from a seed: the mix of stages, sources, ages, texts and custom fields of a sales team's portal.
//!
//! The same seed, count and time give the same leads. Ids rise with the time of creation, as in a real portal.

use std::sync::Arc;

use jiff::tz::Offset;

use super::fields::{self, ENUM_OPTIONS, STATUSES};
use super::lead::{Contact, Lead};
use super::php::Val;

/// Leads are created over this many days before now: long enough for rules that look a year back.
const SPAN_DAYS: i64 = 400;

const DAY: i64 = 86_400;

/// Out of 100 leads, how many stand in which stage.
const STAGES: &[(u32, &str)] =
    &[(14, "NEW"), (17, "IN_PROCESS"), (8, "7"), (11, "PROCESSED"), (20, "CONVERTED"), (30, "JUNK")];

const FIRST: &[&str] = &[
    "Anna",
    "Boris",
    "Chloé",
    "Дмитрий",
    "Elif",
    "Farid",
    "Grace",
    "Ирина",
    "João",
    "Мария",
    "Nils",
    "Олег",
];
const LAST: &[&str] =
    &["Smith", "Иванов", "Müller", "Петрова", "García", "O'Brien", "Nowak", "Ёлкин", "Yılmaz", "Lee"];
const TITLES: &[&str] = &[
    "Request from the website",
    "Звонок с рекламы",
    "Callback",
    "test",
    "Заявка с сайта №",
    "<script>alert('lead')</script>",
    "🚀 Wants a demo 🙂",
    "=HYPERLINK(\"http://example.com\")",
    "Price list, 25 % off & more",
    "Junk: \"quotes\" and \\ backslash",
];

/// `count` leads with ids from 1, created before `now` (unix seconds).
pub(super) fn leads(count: usize, seed: u64, now: i64) -> impl Iterator<Item = Lead> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let stages: Vec<(u32, Arc<str>)> =
        STAGES.iter().map(|(share, stage)| (*share, (*stage).into())).collect();
    let sources: Vec<Arc<str>> = STATUSES
        .iter()
        .filter(|status| status.dictionary == "SOURCE")
        .map(|status| status.code.into())
        .chain([Arc::from("")])
        .collect();
    let step = (SPAN_DAYS * DAY) as f64 / count.max(1) as f64;
    let mut contact_id = 0;
    (0..count).map(move |index| {
        let created = now - SPAN_DAYS * DAY + ((index as f64 + rng.f64()) * step) as i64;
        let id = u32::try_from(index + 1).unwrap_or(u32::MAX);
        one(id, created, now, &stages, &sources, &mut rng, &mut contact_id)
    })
}

fn one(
    id: u32,
    created: i64,
    now: i64,
    stages: &[(u32, Arc<str>)],
    sources: &[Arc<str>],
    rng: &mut fastrand::Rng,
    contact_id: &mut u32,
) -> Lead {
    let title = format!("{} {id}", pick(rng, TITLES).copied().unwrap_or_default());
    let mut lead = Lead::new(&title, jiff::Timestamp::UNIX_EPOCH);
    lead.id = id;
    lead.created = created;
    lead.assigned_by = rng.u32(1..=5);
    lead.created_by = rng.u32(1..=5);
    lead.updated_by = lead.assigned_by;
    let mut draw = rng.u32(0..100);
    for (share, stage) in stages {
        if draw < *share {
            lead.stage = Arc::clone(stage);
            break;
        }
        draw -= share;
    }
    if let Some(source) = pick(rng, sources) {
        lead.source = Arc::clone(source);
    }
    let later = |rng: &mut fastrand::Rng, from: i64, days: i64| {
        from + (rng.f64() * (now - from).clamp(0, days * DAY) as f64) as i64
    };
    lead.moved = if &*lead.stage == "NEW" { created } else { later(rng, created, 30) };
    lead.closed = (fields::semantics(&lead.stage) != "P").then_some(lead.moved);
    lead.last_activity = later(rng, lead.moved, 60);
    lead.updated = lead.last_activity.max(later(rng, lead.moved, 20));
    if rng.u32(0..100) < 30 {
        lead.opportunity = f64::from(rng.u32(1..=500)) * 50.0;
    }
    add_contacts(&mut lead, rng, contact_id);
    add_fields(&mut lead, rng, later);
    lead
}

fn add_contacts(lead: &mut Lead, rng: &mut fastrand::Rng, contact_id: &mut u32) {
    let mut next = || {
        *contact_id += 1;
        *contact_id
    };
    let mut contacts = Vec::with_capacity(2);
    if rng.u32(0..100) < 70 {
        let value = format!("+49 30 {:07}", rng.u32(0..10_000_000)).into();
        contacts.push(Contact { id: next(), phone: true, value });
    }
    if rng.u32(0..100) < 55 {
        contacts.push(Contact {
            id: next(),
            phone: false,
            value: format!("lead{}@example.com", lead.id).into(),
        });
    }
    contacts.shrink_to_fit();
    lead.contacts = contacts;
}

fn add_fields(lead: &mut Lead, rng: &mut fastrand::Rng, later: impl Fn(&mut fastrand::Rng, i64, i64) -> i64) {
    let mut set = |name: &str, value: Val| {
        if let Some((id, _)) = fields::by_item(name) {
            lead.assign(id, &value, 0, Offset::UTC);
        }
    };
    set("name", pick(rng, FIRST).copied().map_or(Val::Null, Val::from));
    if rng.bool() {
        set("lastName", pick(rng, LAST).copied().map_or(Val::Null, Val::from));
    }
    if rng.u32(0..100) < 15 {
        set("utmSource", Val::from(if rng.bool() { "google" } else { "yandex" }));
    }
    if rng.u32(0..100) < 20 {
        set("ufCrm_1700000000", Val::from(if rng.bool() { "consent given" } else { "нет согласия" }));
    }
    if rng.u32(0..100) < 20 {
        set("ufCrm_1700000001", Val::Float(f64::from(rng.u32(0..2000)) / 8.0));
    }
    if rng.u32(0..100) < 25 {
        set("ufCrm_1700000002", pick(rng, ENUM_OPTIONS).map_or(Val::Null, |(id, _)| Val::Int(*id)));
    }
    if rng.u32(0..100) < 20 {
        set("ufCrm_1700000003", Val::Bool(true));
    }
    if rng.u32(0..100) < 10 {
        set("ufCrm_1700000005", serde_json::from_str(r#"["red","blue"]"#).unwrap_or(Val::Null));
    }
    if rng.u32(0..100) < 20 {
        let at = later(rng, lead.created, 90);
        if let Some((id, _)) = fields::by_item("ufCrm_1700000004") {
            lead.assign(id, &Val::Str(format!("@{at}")), 0, Offset::UTC);
        }
    }
}

fn pick<'a, T>(rng: &mut fastrand::Rng, list: &'a [T]) -> Option<&'a T> {
    list.get(rng.usize(..list.len().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_consistent_leads() {
        let now = 1_800_000_000;
        let first: Vec<Lead> = leads(500, 7, now).collect();
        assert_eq!(first, leads(500, 7, now).collect::<Vec<_>>());
        assert_ne!(first, leads(500, 8, now).collect::<Vec<_>>());
        assert!(first.windows(2).all(|pair| pair[0].created <= pair[1].created));
        for lead in &first {
            assert!(lead.created <= lead.moved && lead.moved <= lead.last_activity);
            assert!(lead.last_activity <= lead.updated && lead.updated <= now);
            assert_eq!(lead.closed.is_some(), ["CONVERTED", "JUNK"].contains(&&*lead.stage));
        }
        assert!(["NEW", "7", "JUNK", "CONVERTED"].iter().all(|s| first.iter().any(|l| &*l.stage == *s)));
    }
}
