//! What of the pace outlives its process: after a restart it allows no more than one life would have had.

use super::*;

/// What a bucket keeps over a restart, as a file holds it.
fn through_a_file(saved: &SavedBucket) -> SavedBucket {
    serde_json::from_str(&serde_json::to_string(saved).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn no_window_over_two_lives_holds_more_than_burst_and_rate_allow(
        rate in 0.2_f64..60.0, burst in prop_oneof![1_u32..30, 1_u32..300], first in events(), second in events(),
        saved_after in 0_usize..250, down in prop_oneof![Just(0.0), 0.0_f64..1.0, 0.0_f64..40.0], orderly in any::<bool>(),
    ) {
        let mut bucket = Bucket::new(rate, burst);
        let (mut now, mut places) = (0.0, Vec::new());
        let mut saved = (bucket.saved(at(now)), at(now));
        for (index, (pause, event)) in first.into_iter().enumerate() {
            now += f64::from(pause) / 1000.0;
            match event {
                // As the gate does: a place is taken when it is free, and not before.
                Event::Reserve => if bucket.earliest(at(now)) == at(now) { places.push(bucket.reserve(at(now))) },
                Event::Refused => bucket.refused(at(now)),
                Event::Limits(..) => {}
            }
            if orderly || index == saved_after {
                saved = (bucket.saved(at(now)), at(now));
            }
        }
        now += down;
        let mut bucket = Bucket::new(rate, burst);
        bucket.restore(&through_a_file(&saved.0), saved.1, at(now), !orderly);
        for (pause, event) in second {
            now += f64::from(pause) / 1000.0;
            match event {
                Event::Reserve => if bucket.earliest(at(now)) == at(now) { places.push(bucket.reserve(at(now))) },
                Event::Refused => bucket.refused(at(now)),
                Event::Limits(..) => {}
            }
        }
        for (first, from) in places.iter().enumerate() {
            for (more, to) in places[first..].iter().enumerate() {
                let places = (more + 1) as f64;
                let allowed = used_burst(rate, burst) + rate * seconds_between(*from, *to);
                prop_assert!(places <= allowed + 1e-6, "{places} places where {allowed} are allowed");
            }
        }
    }

    #[test]
    fn after_an_orderly_stop_a_bucket_goes_on_as_if_nothing_had_happened(
        rate in 0.2_f64..60.0, burst in 1_u32..300, events in events(), down in 0.0_f64..100.0,
    ) {
        let mut bucket = Bucket::new(rate, burst);
        let mut now = 0.0;
        for (pause, event) in events {
            now += f64::from(pause) / 1000.0;
            match event {
                Event::Reserve => drop(bucket.reserve(at(now))),
                Event::Refused => bucket.refused(at(now)),
                Event::Limits(..) => {}
            }
        }
        let mut restored = Bucket::new(rate, burst);
        restored.restore(&through_a_file(&bucket.saved(at(now))), at(now), at(now + down), false);
        for _ in 0..20 {
            let (goes_on, restarted) = (bucket.reserve(at(now + down)), restored.reserve(at(now + down)));
            prop_assert!(seconds_between(goes_on, restarted).abs() < 1e-3, "{goes_on} and {restarted}");
        }
        prop_assert!((bucket.share(at(now + down)) - restored.share(at(now + down))).abs() < 1e-6);
    }

    #[test]
    fn nothing_in_a_file_makes_a_bucket_give_more_than_it_has_or_wait_for_ever(
        numbers in prop::collection::vec(prop_oneof![Just(0.0), Just(-1e300), Just(1e300), -1e4_f64..1e4], 5),
        refusals in any::<u32>(), more_was_sent in any::<bool>(),
    ) {
        let saved: SavedBucket = serde_json::from_value(serde_json::json!({
            "level": numbers[0], "ahead": numbers[1], "share": numbers[2], "refusals": refusals,
            "refused_ago": numbers[3], "paused_for": numbers[4],
        })).unwrap();
        let mut bucket = Bucket::new(2.0, 50);
        bucket.restore(&saved, at(0.0), at(10.0), more_was_sent);
        let places: Vec<Timestamp> = (0..200).map(|_| bucket.reserve(at(10.0))).collect();
        prop_assert!(seconds_between(at(10.0), places[0]) < 650.0);
        for (index, place) in places.iter().enumerate() {
            prop_assert!((index + 1) as f64 <= 50.0 + 2.0 * seconds_between(places[0], *place) + 1e-6);
        }
        bucket.refused(at(5_000.0));
    }

    #[test]
    fn a_restored_budget_never_has_more_left_than_the_one_that_was_saved(
        calls in prop::collection::vec((0.0_f64..50.0, 0.0_f64..30.0), 1..200), in_flight in 0.0_f64..40.0,
        later in 0.0_f64..900.0,
    ) {
        let mut operating = Operating::new(1e6);
        let (mut now, mut sum) = (0.0, 0.0);
        for (pause, cost) in calls {
            now += pause;
            sum += cost;
            operating.observe(METHOD, sum, Some(at(now + 600.0)), at(now));
        }
        operating.reserve(METHOD, in_flight, at(now)).unwrap();
        let saved = serde_json::to_string(&operating.saved(at(now))).unwrap();
        let mut restored = Operating::new(1e6);
        restored.restore(&serde_json::from_str(&saved).unwrap(), at(now));
        operating.finish(METHOD, in_flight, true, at(now));
        let (before, after) = (operating.used(METHOD, at(now + later)), restored.used(METHOD, at(now + later)));
        prop_assert!(after >= before - 1e-6, "{after} of {before}");
        if later == 0.0 {
            prop_assert!(after <= before + 1e-6);
        }
    }
}

#[test]
fn a_restored_method_stays_blocked_and_is_tried_by_one_call_until_the_portal_reports() {
    let mut operating = Operating::new(480.0);
    operating.observe(METHOD, 100.0, Some(at(500.0)), at(0.0));
    operating.blocked(METHOD, at(0.0));
    let mut restored = Operating::new(480.0);
    restored.restore(&operating.saved(at(10.0)), at(10.0));
    let again = restored.reserve(METHOD, 1.0, at(11.0)).unwrap_err();
    assert!((seconds_between(at(500.0), again)).abs() < 0.001, "{again}");
    assert_eq!(restored.reserve(METHOD, 1.0, at(501.0)), Ok(()));
    assert!(restored.reserve(METHOD, 1.0, at(501.0)).is_err(), "one at a time");
    restored.observe(METHOD, 50.0, Some(at(900.0)), at(502.0));
    assert_eq!(restored.reserve(METHOD, 1.0, at(502.0)), Ok(()));
}
