//! What the pace promises: never more than the portal allows, never less while work waits.

#![cfg(test)]

mod saved;

use std::collections::BTreeMap;

use b24_janitor::core::operating::Operating;
use b24_janitor::core::pace::{Bucket, SavedBucket};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn at(seconds: f64) -> Timestamp {
    let start: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    start.checked_add(SignedDuration::from_secs_f64(seconds)).unwrap()
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// The places that are used: some stay free for requests that overtake each other on the way.
fn used_burst(rate: f64, burst: u32) -> f64 {
    let burst = f64::from(burst);
    (burst - (rate * 0.5).min(burst * 0.25)).max(1.0)
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Reserve,
    Refused,
    Limits(f64, u32),
}

fn events() -> impl Strategy<Value = Vec<(u32, Event)>> {
    let event = prop_oneof![
        20 => Just(Event::Reserve),
        1 => Just(Event::Refused),
    ];
    // Mostly in bursts, sometimes after a silence.
    let pause = prop_oneof![6 => 0_u32..50, 2 => 50_u32..2_000, 1 => 2_000_u32..100_000];
    prop::collection::vec((pause, event), 1..250)
}

proptest! {
    #[test]
    fn no_window_ever_holds_more_than_burst_and_rate_allow(
        rate in 0.2_f64..60.0, burst in 1_u32..300, events in events(),
    ) {
        let mut bucket = Bucket::new(rate, burst);
        let (mut now, mut places) = (0.0, Vec::new());
        for (pause, event) in events {
            now += f64::from(pause) / 1000.0;
            match event {
                Event::Reserve => places.push(bucket.reserve(at(now))),
                Event::Refused => bucket.refused(at(now)),
                Event::Limits(rate, burst) => bucket.set_limits(rate, burst, at(now)),
            }
        }
        for (first, from) in places.iter().enumerate() {
            for (more, to) in places[first..].iter().enumerate() {
                let places = (more + 1) as f64;
                let allowed = f64::from(burst) + rate * seconds_between(*from, *to);
                prop_assert!(places <= allowed + 1e-6, "{places} places where {allowed} are allowed");
            }
        }
    }

    #[test]
    fn requests_that_arrive_half_a_second_apart_from_plan_still_fit(
        rate in 0.2_f64..5.0, burst in 10_u32..300, events in events(),
    ) {
        let mut bucket = Bucket::new(rate, burst);
        let mut now = 0.0;
        let places: Vec<Timestamp> = events.into_iter().map(|(pause, _)| {
            now += f64::from(pause) / 1000.0;
            bucket.reserve(at(now))
        }).collect();
        for (first, from) in places.iter().enumerate() {
            for (more, to) in places[first..].iter().enumerate() {
                // The first is late by half a second, the last is not late at all.
                let apart = seconds_between(*from, *to) - 0.5;
                prop_assert!((more + 1) as f64 <= f64::from(burst) + rate * apart.max(0.0) + 1e-6);
            }
        }
    }

    #[test]
    fn places_never_go_back_in_time_nor_before_now(
        rate in 0.2_f64..60.0, burst in 1_u32..60, events in events(),
        change in (0.2_f64..60.0, 1_u32..60), back in 0.0_f64..30.0,
    ) {
        let mut bucket = Bucket::new(rate, burst);
        let (mut now, mut last) = (100.0, at(0.0));
        for (index, (pause, event)) in events.into_iter().enumerate() {
            now += f64::from(pause) / 1000.0;
            let event = if index == 20 { Event::Limits(change.0, change.1) } else { event };
            // Some callers look at their clock earlier than they ask.
            let asked = if index % 7 == 3 { now - back } else { now };
            match event {
                Event::Reserve => {
                    let foretold = bucket.earliest(at(asked));
                    let place = bucket.reserve(at(asked));
                    prop_assert_eq!(place, foretold);
                    prop_assert!(place >= last && place >= at(asked));
                    last = place;
                }
                Event::Refused => bucket.refused(at(asked)),
                Event::Limits(rate, burst) => bucket.set_limits(rate, burst, at(asked)),
            }
        }
    }

    #[test]
    fn capacity_that_is_free_is_given_at_once(
        rate in 0.2_f64..60.0, burst in 1_u32..120, events in events(),
    ) {
        let mut bucket = Bucket::new(rate, burst);
        let (mut now, mut places): (f64, Vec<Timestamp>) = (0.0, Vec::new());
        for (pause, _) in events {
            now += f64::from(pause) / 1000.0;
            let free = places.iter().enumerate().all(|(index, earlier)| {
                let with_this = (places.len() - index + 1) as f64;
                with_this <= used_burst(rate, burst) + rate * seconds_between(*earlier, at(now)) - 1e-6
            });
            let place = bucket.reserve(at(now));
            if free {
                prop_assert_eq!(place, at(now));
            }
            places.push(place);
        }
    }
}

#[test]
fn a_steady_stream_gets_the_whole_rate() {
    let mut bucket = Bucket::new(2.0, 50);
    let last = (0..1_249).map(|_| bucket.reserve(at(0.0))).last().unwrap();
    // 49 at once and 1,200 more at two a second.
    assert!((seconds_between(at(0.0), last) - 600.0).abs() < 0.001, "{last}");
}

#[test]
fn a_refusal_pauses_then_halves_the_rate_and_a_minute_later_it_is_whole() {
    let mut bucket = Bucket::new(2.0, 50);
    bucket.reserve(at(0.0));
    bucket.refused(at(1.0));
    let first = bucket.reserve(at(1.0));
    assert!(seconds_between(at(1.0), first) >= 1.0 - 1e-6, "the first pause is a second: {first}");
    let tenth = (0..9).map(|_| bucket.reserve(at(1.0))).last().unwrap();
    let took = seconds_between(first, tenth);
    assert!((7.5..=9.1).contains(&took), "nine places at about one a second took {took} s");
    assert!(bucket.share(at(30.0)) < 1.0);
    assert!((bucket.share(at(62.0)) - 1.0).abs() < 1e-9);
}

#[test]
fn the_refusals_of_one_pause_count_once_and_repeated_pauses_grow() {
    let mut once = Bucket::new(2.0, 50);
    once.refused(at(0.0));
    let mut four_in_flight = once.clone();
    for late in [0.1, 0.4, 0.9] {
        four_in_flight.refused(at(late));
    }
    assert_eq!(once.earliest(at(0.9)), four_in_flight.earliest(at(0.9)));

    let mut bucket = Bucket::new(2.0, 50);
    let (mut now, mut waits) = (0.0, Vec::new());
    for _ in 0..8 {
        bucket.refused(at(now));
        let next = bucket.earliest(at(now));
        waits.push(seconds_between(at(now), next));
        now = seconds_between(at(0.0), next);
    }
    assert!(waits.windows(2).take(4).all(|pair| pair[1] >= pair[0] * 1.5), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 31.0), "{waits:?}");
}

/// The portal's side: baskets (of a minute, if the documentation is right) over a window, a sum, and the moment when the oldest drops.
struct Server {
    window: f64,
    basket: f64,
    baskets: BTreeMap<u64, f64>,
}

impl Server {
    fn expire(&mut self, now: f64) {
        let (window, basket) = (self.window, self.basket);
        self.baskets.retain(|index, _| *index as f64 * basket + window > now);
    }

    fn sum(&mut self, now: f64) -> f64 {
        self.expire(now);
        self.baskets.values().sum()
    }

    fn charge(&mut self, seconds: f64, now: f64) -> (f64, Timestamp) {
        self.expire(now);
        *self.baskets.entry((now / self.basket).floor() as u64).or_default() += seconds;
        let oldest = self.baskets.keys().next().copied().unwrap_or(0);
        (self.baskets.values().sum(), at(oldest as f64 * self.basket + self.window))
    }
}

const METHOD: &str = "crm.lead.delete";

/// Runs calls, `lanes` at a time, against the portal's side, probing after the announced moments if `probing`; gives the seconds done and the greatest
/// sum seen, and fails when a call starts that would pass the budget or when nothing can ever start again.
fn drive(
    budget: f64,
    (window, basket): (f64, f64),
    lanes: usize,
    calls: &[(f64, f64)],
    probing: bool,
    (start, until): (f64, f64),
) -> (f64, f64) {
    let mut server = Server { window, basket, baskets: BTreeMap::new() };
    let mut operating = Operating::new(budget);
    let mut flights: Vec<(f64, f64, f64)> = Vec::new();
    let (mut now, mut done, mut greatest, mut turn) = (start, 0.0, 0.0_f64, 0);
    for _ in 0..2_000_000 {
        if now >= until {
            break;
        }
        let (estimate, share) = calls[turn % calls.len()];
        let mut wake = f64::INFINITY;
        if flights.len() < lanes {
            let probes = |operating: &mut Operating| probing && operating.probe(METHOD, estimate, at(now));
            match operating.reserve(METHOD, estimate, at(now)) {
                Ok(()) => {
                    let running: f64 = flights.iter().map(|flight| flight.2).sum();
                    let cost = estimate * share;
                    let sum = server.sum(now);
                    let alone = sum <= 0.0 && flights.is_empty();
                    assert!(
                        alone || sum + running + cost <= budget + 1e-6,
                        "started a call of {cost} at {sum} + {running} of {budget}"
                    );
                    flights.push((now + cost, estimate, cost));
                    turn += 1;
                    continue;
                }
                Err(_) if probes(&mut operating) => {
                    assert!(flights.is_empty(), "a probe is made alone");
                    assert!(server.sum(now) < budget, "the portal would have refused the probe");
                    flights.push((now + estimate * share, estimate, estimate * share));
                    turn += 1;
                    continue;
                }
                Err(again) => {
                    assert!(again > at(now), "told to ask again at once: a busy loop");
                    wake = seconds_between(at(0.0), again);
                }
            }
        }
        let ending =
            flights.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).map(|(index, _)| index);
        match ending {
            Some(index) if flights[index].0 <= wake => {
                let (ended, estimate, cost) = flights.remove(index);
                now = ended;
                let (sum, reset_at) = server.charge(cost, now);
                greatest = greatest.max(sum);
                done += cost;
                operating.observe(METHOD, sum, Some(reset_at), at(now));
                operating.finish(METHOD, estimate, false, at(now));
            }
            Some(_) | None => now = wake,
        }
    }
    assert!(now >= until, "nothing moves any more at {now}");
    (done, greatest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_call_starts_that_would_pass_the_budget_and_work_never_stops(
        budget in 20.0_f64..500.0,
        window in prop::sample::select(vec![120.0, 300.0, 600.0]),
        basket in prop::sample::select(vec![1.0, 10.0, 60.0]),
        lanes in 1_usize..8,
        calls in prop::collection::vec((0.5_f64..60.0, 0.05_f64..1.0), 1..12),
        probing in any::<bool>(),
        start in 0.0_f64..120.0,
    ) {
        drive(budget, (window, basket), lanes, &calls, probing, (start, start + 4.0 * window));
    }
}

#[test]
fn the_budget_is_used_up_while_work_waits() {
    // 480 s in 600 s, calls of 15 s, two at a time.
    let (done, greatest) = drive(480.0, (600.0, 60.0), 2, &[(15.0, 1.0)], false, (7.0, 12_000.0));
    assert!(greatest <= 480.0);
    let share = done / (12_000.0 * 480.0 / 600.0);
    assert!(share > 0.9, "used {share} of what is allowed");
}

#[test]
fn a_probe_after_the_announced_moment_lets_short_calls_use_the_whole_budget() {
    for (window, basket, budget, call) in [(60.0, 6.0, 48.0, 0.25), (600.0, 60.0, 480.0, 2.5)] {
        let until = 8.0 * window;
        let (done, greatest) = drive(budget, (window, basket), 2, &[(call, 1.0)], true, (7.0, until));
        assert!(greatest <= budget + call, "a probe costs one call");
        let share = done / (until * budget / window);
        assert!(share > 0.98, "used {share} of what is allowed in {window} s");
    }
}

#[test]
fn a_call_longer_than_the_whole_budget_goes_out_alone_when_the_baskets_are_empty() {
    let mut operating = Operating::new(5.0);
    operating.reserve(METHOD, 30.0, at(0.0)).unwrap();
    assert!(operating.reserve(METHOD, 30.0, at(0.0)).is_err(), "not beside another");
    operating.observe(METHOD, 30.0, Some(at(600.0)), at(30.0));
    operating.finish(METHOD, 30.0, false, at(30.0));
    assert_eq!(operating.reserve(METHOD, 30.0, at(30.0)), Err(at(600.0)));
    assert_eq!(operating.reserve(METHOD, 30.0, at(600.0)), Ok(()));
}

#[test]
fn waiting_ends_when_the_announced_basket_drops_and_not_after_ten_minutes() {
    let mut operating = Operating::new(480.0);
    operating.observe(METHOD, 470.0, Some(at(42.0)), at(0.0));
    assert_eq!(operating.reserve(METHOD, 25.0, at(1.0)), Err(at(42.0)));
    assert_eq!(operating.reserve(METHOD, 25.0, at(42.0)), Ok(()));
    assert!(
        operating.reserve(METHOD, 25.0, at(42.0)).is_err(),
        "one at a time until the portal has reported"
    );
}

#[test]
fn an_older_reply_that_comes_late_does_not_free_what_a_newer_one_reported() {
    let mut operating = Operating::new(480.0);
    operating.observe(METHOD, 470.0, Some(at(500.0)), at(10.0));
    operating.observe(METHOD, 440.0, Some(at(500.0)), at(11.0));
    assert!((operating.used(METHOD, at(12.0)) - 470.0).abs() < 1e-9);
    operating.observe(METHOD, 300.0, Some(at(560.0)), at(501.0));
    assert!(
        (operating.used(METHOD, at(502.0)) - 300.0).abs() < 1e-9,
        "after the drop a smaller sum is the truth"
    );
}

#[test]
fn what_is_in_flight_counts_until_it_ends_or_is_given_back() {
    let mut operating = Operating::new(100.0);
    operating.observe(METHOD, 50.0, Some(at(600.0)), at(0.0));
    operating.reserve(METHOD, 30.0, at(1.0)).unwrap();
    assert!(operating.reserve(METHOD, 30.0, at(1.0)).is_err());
    operating.release(METHOD, 30.0);
    operating.reserve(METHOD, 30.0, at(1.0)).unwrap();
    operating.finish(METHOD, 30.0, true, at(2.0));
    assert!(operating.reserve(METHOD, 30.0, at(2.0)).is_err(), "a lost reply counts as its estimate");
    operating.observe(METHOD, 51.0, Some(at(600.0)), at(3.0));
    operating.reserve(METHOD, 30.0, at(3.0)).unwrap();
}

#[test]
fn a_blocked_method_waits_for_the_announced_moment_and_ten_seconds_at_least() {
    let mut operating = Operating::new(480.0);
    operating.blocked(METHOD, at(0.0));
    assert_eq!(operating.reserve(METHOD, 1.0, at(9.0)), Err(at(10.0)));
    assert_eq!(operating.reserve("crm.item.delete", 1.0, at(0.0)), Ok(()), "other methods go on");
    operating.observe(METHOD, 200.0, Some(at(300.0)), at(11.0));
    operating.blocked(METHOD, at(12.0));
    assert_eq!(operating.reserve(METHOD, 1.0, at(13.0)), Err(at(300.0)));
}

#[test]
fn nonsense_reports_change_nothing() {
    let mut operating = Operating::new(10.0);
    for nonsense in [f64::NAN, f64::INFINITY, -1.0] {
        operating.observe(METHOD, nonsense, Some(at(1e6)), at(0.0));
    }
    assert_eq!(operating.reserve(METHOD, 9.0, at(1.0)), Ok(()));
}
