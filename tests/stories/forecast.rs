//! What `simulate` says, against what the service then does.

use std::collections::BTreeMap;

use b24_janitor::core::simulate::{Begin, Forecast, Window};
use b24_janitor::engine::simulate::simulate;
use b24_janitor::sandbox::SandboxOptions;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::world::*;

const DAYS: u16 = 12;

/// Ages that pass in these days, a grace period, a cap a day, a protection that ages as well, and one rule that only plans.
const RULES: &str = r#"version: 1
timezone: Europe/Berlin
defaults: { mode: delete, limits: { max_matches: 100000, max_percent: 100, deletes_per_day: 100000 } }
protect:
  - { name: young-enough, match: { not: { createdTime: { lt: 2025-06-03T00:00:00Z } }, stageId: NEW } }
rules:
  - { name: old, schedule: "15 3 * * *", match: { stageId: JUNK }, older_than: 330d, grace_period: 30h }
  - { name: capped, schedule: "30 5 * * *", match: { stageId: PROCESSED }, older_than: 200d, limits: { deletes_per_day: 25 } }
  - { name: moved, schedule: "0 */8 * * *", match: { stageId: [NEW, JUNK] }, older_than: { field: movedTime, age: 310d } }
  - { name: held, schedule: "40 4 * * *", match: { stageId: IN_PROCESS }, older_than: 100d, limits: { max_matches: 30 } }
  - { name: planned, schedule: "0 6 * * *", match: { stageId: "7" }, older_than: 300d, mode: plan }
"#;

async fn forecast(world: &World, days: u16) -> BTreeMap<String, Forecast> {
    let ctx = world.engine().context();
    let window = Window { begin: Begin::At(world.now()), now: world.now(), days };
    let report = simulate(ctx, &ctx.rules(), window, |_| ()).await.unwrap();
    report.rules.into_iter().map(|forecast| (forecast.rule.clone(), forecast)).collect()
}

fn told(forecast: &Forecast) -> BTreeMap<Date, u64> {
    forecast.days.iter().filter(|day| day.would_delete > 0).map(|day| (day.date, day.would_delete)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_service_deletes_on_each_day_exactly_what_was_foretold() {
    let options = SandboxOptions { leads: 900, delete_seconds: 0.0, ..SandboxOptions::default() };
    let mut world = World::with(options, RULES).await;
    // Part of it is under way when the forecast is made.
    world.until("2026-06-02T12:00:00Z").await;
    let foretold = forecast(&world, DAYS).await;
    let before = world.sandbox.stats().deletions.len();
    assert!(before > 0, "nothing was under way");
    world.restart().await;
    world.until("2026-06-13T21:59:00Z").await;

    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let mut done: BTreeMap<String, BTreeMap<Date, u64>> = BTreeMap::new();
    for gone in world.sandbox.stats().deletions.iter().skip(before) {
        let rule = world.job(gone.id).await.rule;
        *done.entry(rule).or_default().entry(zone.to_datetime(gone.at).date()).or_default() += 1;
    }
    for rule in ["old", "capped", "moved", "held"] {
        assert_eq!(told(&foretold[rule]), done.remove(rule).unwrap_or_default(), "{rule}");
        assert_eq!(told(&foretold[rule]).is_empty(), rule == "held", "{rule} proves nothing");
    }
    assert!(done.is_empty(), "{done:?}");
    assert!(
        foretold["held"].days.iter().all(|day| day.held.as_deref().is_some_and(|why| why.contains("30"))
            || day.date.to_string() == "2026-06-02")
    );
    assert!(world.runs().await.iter().any(|run| run.rule == "held" && run.held_at.is_some()));
    // The numbers of a rule that plans are those of its runs.
    let planned: Vec<u64> =
        world.runs().await.iter().filter(|run| run.rule == "planned").map(|run| run.would_enqueue).collect();
    let last = *planned.last().unwrap();
    assert_eq!(foretold["planned"].total, last, "as if it deleted: all that it sees at the end");
    world.assert_within_limits();
}

#[tokio::test(start_paused = true)]
async fn a_forecast_changes_nothing_and_reads_each_lead_once() {
    let world = World::new(700, RULES).await;
    let (runs, jobs) = (world.runs().await.len(), world.jobs().await.len());
    let before = world.sandbox.stats().requests;
    let foretold = forecast(&world, 100).await;
    assert!(foretold["old"].total > 0);
    let asked = world.sandbox.stats().requests - before;
    assert!(asked <= 2, "700 leads are one chained listing, or two: {asked}");
    assert_eq!((world.runs().await.len(), world.jobs().await.len()), (runs, jobs));
    assert!(world.sandbox.stats().deletions.is_empty());
}
