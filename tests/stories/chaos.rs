//! Everything together, in an order drawn from a seed: colleagues, lost events, faults, crashes, pauses, reloads. The
//! promises hold in every order.

use std::collections::BTreeMap;
use std::time::Duration;

use b24_janitor::core::outcome::Outcome;
use b24_janitor::sandbox::{Fault, FaultKind, SandboxOptions};

use crate::world::*;

/// When a lead's last change was, by our own book, and whether it was junk from then on.
type Book = BTreeMap<u32, Vec<(jiff::Timestamp, bool)>>;

/// How old what is believed may be: the age of a read, and twice as much for a portal that is always slow.
const BELIEVED: i64 = 4;

fn text(concurrency: u8, mode: &str) -> String {
    format!(
        "version: 1\ntimezone: Etc/UTC\nportal: {{ concurrency: {concurrency} }}\ndefaults: {{ mode: {mode}, limits: {{ \
         max_matches: 100000, max_percent: 100, deletes_per_day: 100000 }} }}\nrules:\n  - {{ name: junk, schedule: \
         \"*/20 * * * *\", events: [ONCRMLEADADD, ONCRMLEADUPDATE], match: {{ stageId: JUNK }}, grace_period: 1h }}\n"
    )
}

struct Chaos {
    world: World,
    rng: fastrand::Rng,
    book: Book,
    concurrency: u8,
}

impl Chaos {
    fn note(&mut self, lead: u32, junk: bool) {
        let now = self.world.now();
        self.book.entry(lead).or_default().push((now, junk));
    }

    fn change_some(&mut self) {
        for _ in 0..self.rng.u32(1..12) {
            let all =
                self.world.sandbox.ids_where(|lead| &*lead.stage == "JUNK" || &*lead.stage == "IN_PROCESS");
            let Some(lead) = self.rng.choice(&all).copied() else { continue };
            let junk_now = self.world.sandbox.lead(lead).is_some_and(|lead| junk(&lead));
            let stage = if junk_now { "IN_PROCESS" } else { "JUNK" };
            self.world.sandbox.colleague_update(lead, |lead| lead.stage = stage.into());
            self.note(lead, !junk_now);
        }
    }

    fn fault(&mut self) {
        let kinds = [
            FaultKind::Drop,
            FaultKind::Refuse,
            FaultKind::Truncated,
            FaultKind::Fatal,
            FaultKind::Empty,
            FaultKind::Html { status: 503 },
            FaultKind::MissingKeys { count: 3 },
            FaultKind::ErrorInOk { code: "INTERNAL_SERVER_ERROR".to_owned(), text: "no".to_owned() },
            FaultKind::Redirect { to: "https://elsewhere.example".to_owned() },
        ];
        let kind = self.rng.choice(&kinds).cloned().unwrap();
        let times = self.rng.u64(1..4);
        let mut fault = Fault::new(kind).nth(0, times);
        if self.rng.bool() {
            fault = fault.on("batch");
        }
        self.world.sandbox.set_fault(fault);
    }

    async fn step(&mut self) {
        match self.rng.u32(0..20) {
            0..=7 => self.change_some(),
            8..=10 => self.fault(),
            11 => self.world.deafen(),
            12 | 13 => self.world.hear(),
            14 => self.world.restart().await,
            15 => {
                let executed = self.rng.bool();
                let wanted: fn(&Seen) -> bool = if self.rng.bool() { Seen::deletes } else { Seen::reads };
                self.world.kill_at(wanted, 0, executed);
                self.world.advance(20 * MINUTE).await;
                if self.world.taps_are_used() {
                    self.world.start_again().await;
                } else {
                    self.world.forget_taps();
                }
            }
            16 => {
                let paused = self.rng.bool();
                self.world.pause(paused).await;
            }
            17 => {
                self.concurrency = self.rng.u8(1..=8);
                let text = text(self.concurrency, "delete");
                self.world.reload(&text).await;
            }
            18 => {
                let lead = self.world.fresh("JUNK");
                let lead = self.world.arrives(lead);
                self.note(lead, true);
            }
            _ => {
                let _ = self.world.try_run("junk").await;
            }
        }
        let millis = self.rng.u64(1..20 * 60 * 1000);
        let short = self.rng.bool();
        self.world.advance(Duration::from_millis(if short { millis / 100 } else { millis })).await;
    }
}

async fn live_through(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let concurrency = rng.u8(1..=8);
    let options = SandboxOptions {
        leads: 250,
        seed,
        sleep_scale: if rng.bool() { 1.0 } else { 0.0 },
        delete_seconds: 0.02 + rng.f64() * 0.2,
        ..SandboxOptions::default()
    };
    let world = World::with(options, &text(concurrency, "delete")).await;
    let start = world.now();
    let book =
        world.sandbox.leads().into_iter().map(|lead| (lead.id, vec![(start, junk(&lead))])).collect::<Book>();
    let mut chaos = Chaos { world, rng, book, concurrency };
    for _ in 0..40 {
        chaos.step().await;
    }
    let Chaos { mut world, book, concurrency, .. } = chaos;
    world.sandbox.clear_faults();
    world.pause(false).await;
    world.restart().await;
    // In the end nothing is lost: whatever is junk goes, whatever is not stays.
    world.advance(20 * MINUTE).await;
    let _ = world.try_run("junk").await;
    world.settled(6 * HOUR).await;
    let left = world.sandbox.ids_where(junk);
    assert!(left.is_empty(), "seed {seed}: still there: {left:?}");

    let stats = world.sandbox.stats();
    for gone in &stats.deletions {
        let changes = &book[&gone.id];
        let last = changes.iter().rev().find(|(at, _)| *at <= gone.at).unwrap();
        let age = gone.at.duration_since(last.0).as_secs();
        assert!(
            last.1 || age <= BELIEVED,
            "seed {seed} ({concurrency}): lead {} was revived {age} s ago",
            gone.id
        );
    }
    let expected: Vec<u32> = stats.deletions.iter().map(|gone| gone.id).collect();
    world.assert_only_deleted(&expected);
    let deleted = world.jobs().await.iter().filter(|job| job.outcome == Some(Outcome::Deleted)).count();
    assert_eq!(deleted, expected.len(), "seed {seed}: every deletion is in the book, once");
    let counts = world.counts().await;
    assert_eq!((counts.already_gone, counts.failed), (0, 0), "seed {seed}: nobody else deletes");
    world.assert_adds_up().await;
}

#[tokio::test(start_paused = true)]
async fn in_whatever_order_things_happen_only_dead_leads_go_and_all_of_them() {
    let seeds = match std::env::var("STORY_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).unwrap(),
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        live_through(seed).await;
    }
}

/// As many as fit into the time of the whole binary.
const SEEDS: u64 = 5;
