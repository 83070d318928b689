//! Which offer comes first, and what a preemption is reckoned at.

use std::time::Duration;

use planner::Stakes;

use super::{first, plan, policy, vms};

#[test]
fn what_a_job_is_expected_to_cost_on_a_machine_that_may_be_taken() {
    let hours =
        |hours: u64| Stakes { time: Duration::from_secs(hours * 3600), preempted_per_day: 150 };
    // An hour at 1.00: 15 % a day are 0.625 % an hour.
    assert_eq!(hours(1).on_demand(1_000_000), 1_000_000);
    // 0.4 * (1 - 0.003125) + 0.00625 * 1.00 * 61/60 = 0.39875 + 0.006354…
    assert_eq!(hours(1).spot(400_000, 1_000_000), 405_105);
    // 24 hours: 9.6 * (1 - 0.075) + 0.15 * 24.0166…
    assert_eq!(hours(24).spot(400_000, 1_000_000), 12_482_501);
    // 160 hours are taken for certain, on average in the middle.
    assert_eq!(hours(160).spot(400_000, 1_000_000), 32_000_000 + 160_016_667);
    assert_eq!(hours(0).spot(400_000, 1_000_000), 0, "no time, no cost");
    let never = Stakes { preempted_per_day: 0, ..hours(5) };
    assert_eq!(never.spot(400_000, 1_000_000), never.on_demand(400_000));
    let all = Stakes { time: Duration::MAX, preempted_per_day: u32::MAX };
    assert!(all.spot(u64::MAX, u64::MAX) > 0, "no number is too large");
}

#[test]
fn the_longer_a_job_the_less_a_spot_machine_is_worth_to_it() {
    // Of 7 days every spot machine is taken once: 0.29 of the price and all of it again.
    let policy = policy(vms("us-central1-a", "n2d"));
    let short = first("cpu=8 memory=32G time=1h", &policy, 1);
    assert!(short.contains(" spot "), "{short}");
    let long = first("cpu=8 memory=32G time=7d", &policy, 1);
    assert!(!long.contains(" spot "), "{long}");
}

#[test]
fn a_word_on_spot_goes_before_the_price() {
    let policy = policy(vms("us-central1-a", "n2d e2"));
    let kinds = |tags: &str| {
        let offers = plan(tags, &policy).offers;
        let mut kinds: Vec<bool> = offers.iter().map(|offer| offer.spot).collect();
        kinds.dedup();
        kinds
    };
    assert_eq!(kinds("time=7d spot=prefer"), [true, false]);
    assert_eq!(kinds("time=7d spot=require"), [true]);
    assert_eq!(kinds("time=1h spot=never"), [false]);
    assert!(!kinds("time=7d spot=allow")[0]);
    assert!(kinds("time=1h spot=allow")[0]);
}

#[test]
fn at_equal_price_the_order_of_the_job_decides_then_that_of_the_operator() {
    // A custom type costs the same in n1 and n2.
    let order = |tags: &str, families: &str| {
        let policy = policy(vms("us-central1-b us-central1-a", families));
        let offers = plan(&format!("cpu=6 memory=12G spot=never {tags}"), &policy).offers;
        let of = |offer: &planner::Offer| {
            let family = offer.vm.as_ref().map_or("", |vm| &*vm.family);
            format!("{family} {}", offer.place.trim_start_matches("us-central1-"))
        };
        offers.iter().map(of).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(order("", "n1 n2"), "n1 b, n1 a, n2 b, n2 a");
    assert_eq!(order("", "n2 n1"), "n2 b, n2 a, n1 b, n1 a");
    assert_eq!(order("family=n1,n2", "n2 n1"), "n1 b, n1 a, n2 b, n2 a");
}

#[test]
fn a_job_carries_few_offers_and_some_of_each_kind() {
    let zones = "europe-west4-a europe-west4-b europe-west4-c us-central1-a us-central1-b";
    let offers = plan("cpu=4 memory=16G time=1h", &policy(vms(zones, ""))).offers;
    let spot = offers.iter().filter(|offer| offer.spot).count();
    assert_eq!((offers.len(), spot), (24, 16));
    let offers = plan("cpu=4 memory=16G spot=never", &policy(vms(zones, ""))).offers;
    assert_eq!(offers.len(), 24);
    let offers = plan("cpu=4 memory=16G", &policy(vms("us-central1-a", "n2"))).offers;
    assert_eq!(offers.len(), 2);
}
