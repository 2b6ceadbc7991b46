//! `simulate`'s pure part against a second simulation that is slow and plain: it judges every lead anew at every run and
//! every deletion. And what must hold of every forecast.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop at what can't be")]

use std::collections::BTreeMap;

use b24_janitor::core::caps::{self, Cap, MatchSet};
use b24_janitor::core::lead::{Lead, LeadId};
use b24_janitor::core::rule::{Mode, Rule, RuleSet};
use b24_janitor::core::simulate::{
    Begin, Forecast, Histories, Known, KnownJob, KnownProtection, Standing, Window, simulate, standing,
};
use b24_janitor::rules::{self, Input};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NOW: &str = "2026-06-01T10:30:00Z";
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn parse(text: &str) -> RuleSet {
    let input = Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
    rules::parse(&[input]).unwrap_or_else(|problems| panic!("{}", problems[0].render(false))).rules
}

fn forecast(rules: &RuleSet, leads: &[Lead], known: &Known, days: u16) -> Vec<Forecast> {
    let window = Window { begin: Begin::At(now()), now: now(), days };
    let (from, until) = window.whole(rules);
    let mut histories = Histories::new(rules, from, until);
    leads.iter().for_each(|lead| histories.add(rules, lead));
    simulate(rules, histories, known, &window)
}

/// A job of the plain simulation.
#[derive(Clone)]
struct Job {
    due: Timestamp,
    number: usize,
    rule: usize,
    lead: usize,
}

/// What each rule deletes and when: every lead is judged at every step.
fn plainly(
    rules: &[&Rule],
    set: &RuleSet,
    leads: &[Lead],
    known: &Known,
    until: Timestamp,
) -> Vec<(usize, Timestamp)> {
    let judge = |rule: usize, lead: usize, at| standing(rules[rule], &set.protections, &leads[lead], at);
    let mut next: Vec<Option<Timestamp>> =
        rules.iter().map(|rule| rule.schedule.next_fire(now() - SignedDuration::from_nanos(1))).collect();
    let mut gone = vec![false; leads.len()];
    let mut jobs: Vec<Job> = Vec::new();
    let mut held: Vec<Option<Timestamp>> = vec![None; rules.len()];
    let mut earlier: Vec<Vec<u64>> = vec![Vec::new(); rules.len()];
    let mut deleted: Vec<(usize, Timestamp)> = Vec::new();
    let mut number = 0;
    for job in &known.jobs {
        let rule = rules.iter().position(|rule| rule.name.as_str() == job.rule).unwrap();
        let lead = leads.iter().position(|lead| lead.id == job.lead).unwrap();
        if judge_ever(rules, set, &leads[lead], until) {
            number += 1;
            jobs.push(Job { due: job.due.max(now()), number, rule, lead });
        }
    }
    let mut at = now();
    while at < until {
        for rule in 0..rules.len() {
            if next[rule] != Some(at) {
                continue;
            }
            next[rule] = rules[rule].schedule.next_fire(at);
            jobs.retain(|job| {
                let kept =
                    matches!(judge(job.rule, job.lead, at), Standing::Protected | Standing::Undecidable);
                !(job.rule == rule && kept)
            });
            if held[rule].is_some_and(|held| at <= held + DAY) {
                continue;
            }
            let own = |lead: usize| {
                known.protections.iter().any(|own| {
                    let of = own.rule.as_ref().is_none_or(|name| name == rules[rule].name.as_str());
                    of && own.lead == leads[lead].id && own.until > at
                })
            };
            let there = || (0..leads.len()).filter(|lead| !gone[*lead]);
            let selected: Vec<usize> =
                there().filter(|lead| judge(rule, *lead, at) == Standing::Selected && !own(*lead)).collect();
            let (waiting, free): (Vec<usize>, Vec<usize>) =
                selected.into_iter().partition(|lead| jobs.iter().any(|job| job.lead == *lead));
            let undecidable = there().filter(|lead| judge(rule, *lead, at) == Standing::Undecidable).count();
            let set = MatchSet {
                would_enqueue: free.len() as u64,
                already_waiting: waiting.len() as u64,
                undecidable: undecidable as u64,
                readable: Some(there().count() as u64),
            };
            match caps::check(&rules[rule].limits, &set, &earlier[rule]) {
                Cap::Hold(_) => held[rule] = Some(at),
                Cap::Proceed => {
                    earlier[rule].insert(0, free.len() as u64);
                    for lead in free {
                        number += 1;
                        jobs.push(Job { due: rules[rule].grace_period.after(at), number, rule, lead });
                    }
                }
            }
        }
        jobs.sort_by_key(|job| (job.due, job.number));
        for job in jobs.clone().into_iter().filter(|job| job.due <= at) {
            let today =
                deleted.iter().filter(|(rule, when)| *rule == job.rule && *when + DAY > at).count() as u64;
            if today >= rules[job.rule].limits.deletes_per_day {
                continue;
            }
            if judge(job.rule, job.lead, at) == Standing::Selected {
                deleted.push((job.rule, at));
                gone[job.lead] = true;
            }
            jobs.retain(|other| other.number != job.number);
        }
        let runs = next.iter().flatten().copied();
        let dues = jobs.iter().map(|job| job.due);
        let frees = deleted.iter().map(|(_, when)| *when + DAY);
        at = runs.chain(dues).chain(frees).filter(|other| *other > at).min().unwrap_or(until);
    }
    deleted
}

/// Whether any rule ever has to do with a lead; only such leads are known to a simulation.
fn judge_ever(rules: &[&Rule], set: &RuleSet, lead: &Lead, until: Timestamp) -> bool {
    let mut at = now();
    while at < until {
        if rules.iter().any(|rule| standing(rule, &set.protections, lead, at) != Standing::Away) {
            return true;
        }
        at += SignedDuration::from_mins(30);
    }
    false
}

fn by_day(deleted: &[(usize, Timestamp)], rule: usize, of: &Rule) -> BTreeMap<String, u64> {
    let mut days = BTreeMap::new();
    for (_, at) in deleted.iter().filter(|(by, _)| *by == rule) {
        let date = of.schedule.zone().to_datetime(*at).date();
        *days.entry(date.to_string()).or_default() += 1;
    }
    days
}

fn told_by_day(forecast: &Forecast) -> BTreeMap<String, u64> {
    let days = forecast.days.iter().filter(|day| day.would_delete > 0);
    days.map(|day| (day.date.to_string(), day.would_delete)).collect()
}

/// A date around now in whole half hours, or what is none.
fn moment() -> impl Strategy<Value = Value> {
    prop_oneof![
        12 => (-48 * 25i64..48 * 12).prop_map(|halves| {
            Value::from((now() + SignedDuration::from_mins(30 * halves)).to_string())
        }),
        1 => Just(Value::Null),
        1 => Just(Value::from("soon")),
    ]
}

fn lead(id: i64) -> impl Strategy<Value = Lead> {
    let stage = prop_oneof![3 => Just("JUNK"), 1 => Just("NEW")];
    let semantic = prop_oneof![9 => Just("F"), 1 => Just("S")];
    let money = prop_oneof![3 => Just(json!("0.00")), 1 => Just(json!("5.00")), 1 => Just(Value::Null)];
    (stage, semantic, moment(), moment(), money).prop_map(move |(stage, semantic, created, moved, money)| {
        let mut fields = Map::new();
        fields.insert("stageId".into(), stage.into());
        fields.insert("stageSemanticId".into(), semantic.into());
        fields.insert("createdTime".into(), created);
        fields.insert("movedTime".into(), moved);
        fields.insert("opportunity".into(), money);
        Lead::new(LeadId::try_from(id).unwrap(), fields)
    })
}

fn leads() -> impl Strategy<Value = Vec<Lead>> {
    (1usize..90).prop_flat_map(|count| (1..=count as i64).map(lead).collect::<Vec<_>>())
}

fn rule(name: &'static str) -> impl Strategy<Value = String> {
    let selection = prop::sample::select(vec![
        "match: { stageId: JUNK }, older_than: 5d",
        "match: { stageId: JUNK }",
        "match: { any: [ { stageId: NEW }, { opportunity: 0 } ] }, older_than: { field: movedTime, age: 60h }",
        "match: { stageId: JUNK, createdTime: { gt: 2026-05-25T00:00:00Z } }",
        "match: { stageId: { ne: NEW }, not: { movedTime: { lt: 2026-05-30T00:00:00Z } } }",
        "match: { stageId: JUNK }, older_than: { field: movedTime, age: 1d }, include_converted: true",
    ]);
    let schedule = prop::sample::select(vec!["0 3 * * *", "30 */6 * * *", "0 12 * * 1", "@hourly"]);
    let zone = prop::sample::select(vec!["Etc/UTC", "Pacific/Auckland", "America/New_York"]);
    let grace = prop::sample::select(vec!["0h", "5h", "24h", "3d"]);
    let mode = prop::sample::select(vec!["delete", "delete", "plan"]);
    let limits = (
        prop::sample::select(vec![3u64, 20, 1000]),
        prop::sample::select(vec![40u8, 100]),
        prop::sample::select(vec![2u64, 7, 1000]),
    );
    (selection, schedule, zone, grace, mode, limits).prop_map(
        move |(selection, schedule, zone, grace, mode, (matches, percent, day))| {
            format!(
                "  - {{ name: {name}, schedule: \"{schedule}\", timezone: {zone}, {selection}, grace_period: {grace}, mode: \
                 {mode}, limits: {{ max_matches: {matches}, max_percent: {percent}, deletes_per_day: {day} }} }}\n"
            )
        },
    )
}

fn rules() -> impl Strategy<Value = RuleSet> {
    let protect = prop::sample::select(vec![
        "",
        "protect: [ { name: money, match: { opportunity: { gt: 0 } } } ]\n",
        "protect: [ { name: fresh, match: { movedTime: { gt: 2026-06-03T00:00:00Z } } } ]\n",
    ]);
    (protect, rule("one"), rule("two"), rule("three")).prop_map(|(protect, one, two, three)| {
        parse(&format!("version: 1\ntimezone: Etc/UTC\n{protect}rules:\n{one}{two}{three}"))
    })
}

fn known(rules: &RuleSet, leads: &[Lead], jobs: &[(usize, u8, i64)], own: &[(usize, i64)]) -> Known {
    let mut known = Known::default();
    for (lead, rule, hours) in jobs {
        let lead = leads[lead % leads.len()].id;
        let deleting: Vec<&Rule> = rules.rules.iter().filter(|rule| rule.mode == Mode::Delete).collect();
        if deleting.is_empty() || known.jobs.iter().any(|job| job.lead == lead) {
            continue;
        }
        let rule = deleting[usize::from(*rule) % deleting.len()].name.to_string();
        known.jobs.push(KnownJob { lead, rule, due: now() + SignedDuration::from_hours(*hours) });
    }
    known.jobs.sort_by_key(|job| job.due);
    known.protections = own
        .iter()
        .map(|(lead, hours)| KnownProtection {
            lead: leads[lead % leads.len()].id,
            rule: Some("one".to_owned()).filter(|_| hours % 2 == 0),
            until: now() + SignedDuration::from_hours(*hours),
        })
        .collect();
    known
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_forecast_is_what_judging_every_lead_at_every_step_gives(
        rules in rules(), leads in leads(), days in 1u16..20,
        jobs in prop::collection::vec((0usize..90, 0u8..3, -5i64..60), 0..6),
        own in prop::collection::vec((0usize..90, 1i64..200), 0..6),
    ) {
        let known = known(&rules, &leads, &jobs, &own);
        let told = forecast(&rules, &leads, &known, days);
        prop_assert_eq!(told.len(), rules.rules.len());
        let window = Window { begin: Begin::At(now()), now: now(), days };
        let (_, until) = window.whole(&rules);
        for (place, forecast) in told.iter().enumerate() {
            let with: Vec<&Rule> = rules
                .rules
                .iter()
                .enumerate()
                .filter(|(other, rule)| *other == place || rule.mode == Mode::Delete)
                .map(|(_, rule)| rule)
                .collect();
            let deleted = plainly(&with, &rules, &leads, &known, until);
            let place = with.iter().position(|rule| rule.name.as_str() == forecast.rule).unwrap();
            let mut expected = by_day(&deleted, place, with[place]);
            let last = forecast.days.last().unwrap().date.to_string();
            expected.retain(|date, _| *date <= last);
            prop_assert_eq!(told_by_day(forecast), expected, "{}", &forecast.rule);
        }
    }

    #[test]
    fn a_forecast_keeps_the_caps_and_deletes_a_lead_once(rules in rules(), leads in leads(), days in 1u16..40) {
        let told = forecast(&rules, &leads, &Known::default(), days);
        for (rule, forecast) in rules.rules.iter().zip(&told) {
            prop_assert_eq!(forecast.days.len(), usize::from(days));
            prop_assert_eq!(forecast.total, forecast.days.iter().map(|day| day.would_delete).sum::<u64>());
            // A day of 24 hours is a window of the daily cap.
            prop_assert!(forecast.days.iter().all(|day| day.would_delete <= rule.limits.deletes_per_day));
            prop_assert!(forecast.days.windows(2).all(|pair| pair[0].date < pair[1].date));
        }
        let deleting = told.iter().filter(|forecast| forecast.mode == Mode::Delete);
        prop_assert!(deleting.map(|forecast| forecast.total).sum::<u64>() <= leads.len() as u64);
    }
}

#[test]
fn a_held_run_deletes_nothing_and_its_rule_skips_the_next_day() {
    let rules = parse(
        "version: 1\ntimezone: Etc/UTC\nrules:\n  - { name: junk, schedule: \"0 3 * * *\", match: { stageId: JUNK }, \
         mode: delete, limits: { max_matches: 2 } }\n",
    );
    let leads: Vec<Lead> = (1..=3)
        .map(|id| {
            let fields =
                json!({ "stageId": "JUNK", "stageSemanticId": "F", "createdTime": "2026-01-01T00:00:00Z" });
            Lead::new(LeadId::try_from(id).unwrap(), fields.as_object().unwrap().clone())
        })
        .collect();
    let told = forecast(&rules, &leads, &Known::default(), 4);
    let held: Vec<Option<&str>> = told[0].days.iter().map(|day| day.held.as_deref()).collect();
    let why = Some("3 leads are over max_matches 2");
    assert_eq!(held, [None, why, why, why], "today's time has passed");
    assert_eq!(told[0].total, 0);
}

#[test]
fn days_are_dates_of_the_rules_zone_and_a_date_begins_at_its_midnight_there() {
    let rules = parse(
        "version: 1\ntimezone: Pacific/Auckland\nrules:\n  - { name: junk, schedule: \"0 0 * * *\", match: { stageId: \
         JUNK }, mode: delete }\n",
    );
    let fields = json!({ "stageId": "JUNK", "stageSemanticId": "F", "createdTime": "2026-01-01T00:00:00Z" });
    let lead = Lead::new(LeadId::try_from(1).unwrap(), fields.as_object().unwrap().clone());
    let window = Window { begin: Begin::On("2026-06-05".parse().unwrap()), now: now(), days: 2 };
    let (from, until) = window.whole(&rules);
    assert_eq!(
        (from.to_string(), until.to_string()),
        ("2026-06-04T12:00:00Z".into(), "2026-06-06T12:00:00Z".into())
    );
    let mut histories = Histories::new(&rules, from, until);
    histories.add(&rules, &lead);
    let told = simulate(&rules, histories, &Known::default(), &window);
    assert_eq!(told_by_day(&told[0]), BTreeMap::from([("2026-06-05".to_owned(), 1)]));
}
