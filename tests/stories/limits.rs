//! How much of what the portal allows a drain uses.

use b24_janitor::sandbox::{BatchCharge, SandboxOptions};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_drain_bound_by_the_operating_budget_uses_the_whole_of_every_window_and_is_never_refused() {
    for batch_charge in [BatchCharge::Method, BatchCharge::MethodBatched, BatchCharge::Batch] {
        // 48 s in 60 s, in baskets of 6 s: 240 leads at 0.2 s fit into a window.
        let options = SandboxOptions {
            leads: 3300,
            method_seconds: 48.0,
            window_seconds: 60,
            delete_seconds: 0.2,
            batch_charge,
            ..SandboxOptions::default()
        };
        let rules = nightly().replace("timezone", "portal: { method_seconds: 48 }\ntimezone");
        let world = World::with(options, &rules).await;
        let expected = world.sandbox.ids_where(junk);
        assert!(expected.len() > 960, "four windows and something: {}", expected.len());
        let began = world.now();
        world.run("junk").await;
        world.settled(HOUR).await;
        world.assert_only_deleted(&expected);
        world.assert_within_limits();
        let jobs = world.jobs().await;
        let last = jobs.iter().filter_map(|job| job.finished_at).max().unwrap();
        // No client can begin the fifth window before 234 s have passed.
        let took = last.duration_since(began).as_secs_f64();
        assert!(took <= 234.0 / 0.95, "{batch_charge:?}: {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_request_reads_for_every_lane_and_later_ones_each_for_the_next() {
    let rules = nightly().replace("timezone", "portal: { concurrency: 4 }\ntimezone");
    let world = World::with(SandboxOptions { leads: 3300, ..SandboxOptions::default() }, &rules).await;
    let expected = world.sandbox.ids_where(junk);
    world.pause(true).await;
    world.run("junk").await;
    let lists = || world.sandbox.stats().requests_by_method.get("crm.item.list").copied().unwrap_or(0);
    let before = lists();
    world.pause(false).await;
    world.settled(HOUR).await;
    world.assert_only_deleted(&expected);
    assert_eq!(lists() - before, 1, "lists that no request that deletes brought along");
}

#[tokio::test(start_paused = true)]
async fn what_was_read_ahead_before_the_portal_was_known_to_be_slow_is_cut_down_to_what_it_bears() {
    let options =
        SandboxOptions { leads: 400, delete_seconds: 3.3, sleep_scale: 1.0, ..SandboxOptions::default() };
    let world = World::with(options, &nightly()).await;
    let expected = world.sandbox.ids_where(junk);
    assert!(expected.len() > 60, "{}", expected.len());
    world.run("junk").await;
    world.settled(4 * HOUR).await;
    world.assert_only_deleted(&expected);
    let stats = world.sandbox.stats();
    assert_eq!(stats.cut, 0, "a request was cut by the portal");
    // The first batch has ten leads, before anything is known.
    assert!(stats.longest_request_seconds < 34.0, "{}", stats.longest_request_seconds);
    world.assert_within_limits();
}
