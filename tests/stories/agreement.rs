//! The portal's filter only saves work: for any rule and any leads, what the run selects is what the matcher selects
//! among all leads; and whatever the portal returns, nothing that the matcher refuses is enqueued.

use std::collections::BTreeSet;

use b24_janitor::core::decide::{Verdict, decide, fields_needed, whole_seconds};
use b24_janitor::core::lead::{Lead, LeadId};
use b24_janitor::core::rule::RuleSet;
use b24_janitor::engine::plan::plan;
use b24_janitor::sandbox::{Fault, FaultKind};
use b24_janitor::store::runs::RunState;
use serde_json::Map;

use crate::world::*;

/// Portals, each of its own leads, and the rules that are tried on each.
const PORTALS: u64 = 12;
const RULES: usize = 30;
const LEADS: usize = 150;
/// Where the filter is dropped, the next page's lower bound is too, and that would be noticed by itself.
const ONE_PAGE: usize = 45;

/// A random rule, from a seed.
struct Dice(u64);

impl Dice {
    /// A number below `sides` (SplitMix64).
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % sides as u64).unwrap()
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.roll(of.len())]
    }

    /// One of the values, with `eq` or `ne`, or several with `in` or `not_in`.
    fn among(&mut self, of: &[&str]) -> String {
        match self.roll(4) {
            0 => self.pick(of).to_owned(),
            1 => format!("{{ ne: {} }}", self.pick(of)),
            way => {
                let list: BTreeSet<&str> = (0..1 + self.roll(3)).map(|_| self.pick(of)).collect();
                let list: Vec<&str> = list.into_iter().collect();
                format!("{{ {}: [{}] }}", if way == 2 { "in" } else { "not_in" }, list.join(", "))
            }
        }
    }

    fn ordered(&mut self, of: &[&str]) -> String {
        format!("{{ {}: {} }}", self.pick(&["gt", "gte", "lt", "lte"]), self.pick(of))
    }

    fn leaf(&mut self) -> String {
        const DAYS: [&str; 4] = ["2023-02-01", "2025-06-01T10:00:00", "2026-05-01", "2027-01-01"];
        if self.roll(12) == 0 {
            let fields =
                ["sourceId", "title", "dateClosed", "ufCrm_1700000004", "ufCrm_1700000005", "utmSource"];
            return format!("{}: {{ empty: {} }}", self.pick(&fields), self.pick(&["true", "false"]));
        }
        match self.roll(15) {
            0 | 1 => format!(
                "stageId: {}",
                self.among(&["JUNK", "NEW", "junk", "\"7\"", "CONVERTED", "IN_PROCESS"])
            ),
            2 => format!("stageSemanticId: {}", self.among(&["P", "F", "S"])),
            3 => format!("sourceId: {}", self.among(&["CALLBACK", "WEB", "callback", "EMAIL", "NOBODY"])),
            4 => {
                let texts = ["lead", "LEAD", "\"1\"", "\"%\"", "\"_\"", "a", "é"];
                format!("title: {{ {}: {} }}", self.pick(&["contains", "starts_with"]), self.pick(&texts))
            }
            5 => {
                let field =
                    self.pick(&["createdTime", "updatedTime", "movedTime", "lastActivityTime", "dateClosed"]);
                format!("{field}: {}", self.ordered(&DAYS))
            }
            6 => format!("opportunity: {}", self.ordered(&["0", "5000", "12500.5"])),
            7 => format!("opportunity: {}", self.among(&["0", "5000", "50"])),
            8 => format!(
                "{}: {}",
                self.pick(&["assignedById", "createdBy", "updatedBy"]),
                self.among(&["1", "2", "5", "99"])
            ),
            9 => format!(
                "{}: {}",
                self.pick(&["hasPhone", "hasEmail", "opened"]),
                self.pick(&["Y", "N", "{ ne: Y }"])
            ),
            10 => format!("id: {}", self.ordered(&["20", "75", "149"])),
            11 => format!("ufCrm_1700000001: {}", self.ordered(&["5", "50.5"])),
            12 => format!("ufCrm_1700000002: {}", self.among(&["44", "45", "46"])),
            13 => format!("ufCrm_1700000003: {}", self.pick(&["true", "false", "1", "0", "{ ne: true }"])),
            _ => format!("utmSource: {}", self.among(&["google", "yandex", "Google"])),
        }
    }

    fn part(&mut self, depth: usize) -> String {
        match self.roll(if depth > 2 { 5 } else { 8 }) {
            0..=4 => self.leaf(),
            5 => format!("not: {{ {} }}", self.part(depth + 1)),
            6 => format!("any: [ {{ {} }}, {{ {} }} ]", self.part(depth + 1), self.part(depth + 1)),
            _ => format!("any: [ {{ {} }}, {{ not: {{ {} }} }} ]", self.leaf(), self.leaf()),
        }
    }

    /// Conditions on different keys.
    fn rule(&mut self, name: usize) -> String {
        let mut keys = BTreeSet::new();
        let mut parts = Vec::new();
        for _ in 0..1 + self.roll(3) {
            let part = self.part(0);
            let key = part.split(':').next().unwrap().to_owned();
            if keys.insert(key) {
                parts.push(part);
            }
        }
        let older = match self.roll(4) {
            0 => ", older_than: 200d",
            1 => ", older_than: { field: lastActivityTime, age: 60d }",
            _ => "",
        };
        let converted = if self.roll(3) == 0 { ", include_converted: true" } else { "" };
        format!(
            "  - {{ name: r{name}, schedule: \"0 3 1 1 *\", match: {{ {} }}{older}{converted} }}\n",
            parts.join(", ")
        )
    }
}

fn random_rules(dice: &mut Dice) -> String {
    let list: String = (0..RULES).map(|name| dice.rule(name)).collect();
    let limits = "limits: { max_matches: 100000, max_percent: 100, deletes_per_day: 100000 }";
    format!(
        "version: 1\ntimezone: Europe/Berlin\ndefaults: {{ mode: delete, {limits} }}\nprotect:\n  \
         - {{ name: kept, match: {{ {} }} }}\nrules:\n{list}",
        dice.leaf()
    )
}

/// Every lead of the portal, read without any filter.
async fn all_leads(world: &World, rules: &RuleSet) -> Vec<Lead> {
    let mut fields: Vec<String> =
        rules.rules.iter().flat_map(|rule| fields_needed(rule, &rules.protections)).collect();
    fields.sort();
    fields.dedup();
    let page = world.engine().context().portal.list_chain(&Map::new(), None, &fields, 50).await.unwrap();
    assert!(page.last && page.leads.len() == world.sandbox.ids_where(|_| true).len());
    page.leads
}

/// What the matcher alone says: leads to delete, and how many are protected.
fn alone(rules: &RuleSet, name: &str, leads: &[Lead], now: jiff::Timestamp) -> (Vec<LeadId>, u64) {
    let rule = rules.rule(name).unwrap();
    let verdicts = leads.iter().map(|lead| (lead.id, decide(rule, &rules.protections, lead, now)));
    let mut chosen = (Vec::new(), 0);
    for (lead, verdict) in verdicts {
        match verdict {
            Verdict::Delete => chosen.0.push(lead),
            Verdict::Protected(_) => chosen.1 += 1,
            Verdict::NoMatch | Verdict::Undecidable => {}
        }
    }
    chosen
}

#[tokio::test(start_paused = true)]
async fn the_portals_filter_and_the_matcher_select_what_the_matcher_selects_alone() {
    let (mut cases, mut judged, mut selected, mut some) = (0, 0, 0, 0);
    for seed in 0..PORTALS {
        let mut dice = Dice(seed);
        let text = random_rules(&mut dice);
        let options = b24_janitor::sandbox::SandboxOptions { leads: LEADS, seed, ..Default::default() };
        let world = World::with(options, &text).await;
        let ctx = world.engine().context();
        let rules = ctx.rules();
        let leads = all_leads(&world, &rules).await;
        for rule in &rules.rules {
            let now = whole_seconds(world.clock.now());
            let (expected, protected) = alone(&rules, rule.name.as_str(), &leads, now);
            let report = plan(ctx, &rules, rule, true, |_| {}).await.unwrap();
            let found: Vec<LeadId> = report.leads.unwrap().iter().map(|lead| lead.id).collect();
            assert_eq!(
                (found, report.protected),
                (expected.clone(), protected),
                "{}\n{text}",
                rule.selection
            );
            cases += 1;
            judged += leads.len();
            selected += expected.len();
            some += usize::from(!expected.is_empty());
        }
        world.assert_only_deleted(&[]);
    }
    println!("{cases} rules, {judged} judgements; {some} rules selected something, {selected} leads in all");
    assert!(cases >= 300 && some * 3 > cases, "{cases} {some}");
}

#[tokio::test(start_paused = true)]
async fn whatever_a_lying_portal_returns_nothing_that_the_matcher_refuses_is_enqueued() {
    let (mut failed, mut enqueued, mut jobs_made) = (0, 0, 0);
    for seed in 100..100 + PORTALS {
        let mut dice = Dice(seed);
        let text = random_rules(&mut dice);
        let options = b24_janitor::sandbox::SandboxOptions { leads: ONE_PAGE, seed, ..Default::default() };
        let world = World::with(options, &text).await;
        world.pause(true).await;
        let rules = world.engine().context().rules();
        let leads = all_leads(&world, &rules).await;
        world.sandbox.set_fault(Fault::new(FaultKind::FilterIgnored).on("crm.item.list"));
        for rule in &rules.rules {
            let name = rule.name.as_str();
            let (chosen, _) = alone(&rules, name, &leads, whole_seconds(world.clock.now()));
            let run = world.run(name).await;
            let mine: Vec<LeadId> =
                world.jobs().await.iter().filter(|job| job.rule == name).map(|job| job.lead_id).collect();
            assert!(mine.iter().all(|lead| chosen.contains(lead)), "{}\n{text}", rule.selection);
            match run.state {
                RunState::Failed => {
                    let error = run.error.unwrap();
                    assert!(error.starts_with("filter_not_honoured"), "{error}");
                    assert!(mine.is_empty() && run.enqueued == 0, "{}", rule.selection);
                    failed += 1;
                }
                // Nothing that was sent is contradicted by any lead: the matcher alone decides.
                RunState::Enqueued => {
                    assert_eq!(run.enqueued + run.already_waiting, chosen.len() as u64, "{}", rule.selection);
                    enqueued += 1;
                    jobs_made += mine.len();
                }
                RunState::Held | RunState::Running | RunState::Planned => panic!("{run:?}"),
            }
        }
        world.assert_only_deleted(&[]);
    }
    println!(
        "{failed} runs failed as filter_not_honoured, {enqueued} enqueued {jobs_made} jobs, all of the matcher's"
    );
    assert!(failed >= 100 && enqueued >= 30, "{failed} {enqueued}");
}
