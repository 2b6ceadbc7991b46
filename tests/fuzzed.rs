//! The checks of `fuzz/` without a fuzzer: its seeds, changed at random, and bytes that nobody chose.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../fuzz/checks/cron.rs"]
mod cron;
#[path = "../fuzz/checks/event_body.rs"]
mod event_body;
#[path = "../fuzz/checks/portal_reply.rs"]
mod portal_reply;
#[path = "../fuzz/checks/rules_file.rs"]
mod rules_file;
#[path = "../fuzz/checks/settings_url.rs"]
mod settings_url;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Runs a check on a target's seeds, on mixtures of them, and on random bytes.
fn fuzz(target: &str, cases: u32, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(seeds.len() > 1, "{target} has no seeds");
    seeds.iter().for_each(|seed| check(seed));
    let any_seed = prop::sample::select(seeds);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 0..12);
    let mixed = (any_seed.clone(), any_seed, any::<prop::sample::Index>(), edits).prop_map(
        |(one, other, cut, edits)| {
            let mut bytes = one;
            if cut.index(3) == 0 {
                bytes.truncate(cut.index(bytes.len() + 1));
                bytes.extend_from_slice(&other[cut.index(other.len() + 1)..]);
            }
            for (place, byte, kind) in edits {
                let place = place.index(bytes.len() + 1);
                match kind {
                    0 => bytes.insert(place, byte),
                    1 if place < bytes.len() => bytes[place] = byte,
                    2 if place < bytes.len() => drop(bytes.remove(place)),
                    _ => bytes.extend_from_within(place..),
                }
            }
            // Doubling pieces must not make a case take minutes.
            bytes.truncate(16 * 1024);
            bytes
        },
    );
    let input = prop_oneof![4 => mixed, 1 => prop::collection::vec(any::<u8>(), 0..300)];
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&input, |bytes| {
            check(&bytes);
            Ok(())
        })
        .unwrap();
}

#[test]
fn bodies_of_events() {
    fuzz("event_body", 1000, event_body::check);
}

#[test]
fn rules_files() {
    fuzz("rules_file", 200, rules_file::check);
}

#[test]
fn replies_of_the_portal() {
    fuzz("portal_reply", 1000, portal_reply::check);
}

#[test]
fn schedules() {
    fuzz("cron", 500, cron::check);
}

#[test]
fn addresses_in_the_settings() {
    fuzz("settings_url", 1000, settings_url::check);
}
