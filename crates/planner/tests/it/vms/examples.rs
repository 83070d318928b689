//! By example, with prices that were worked out by hand from the tables.

use super::{first, plan, policy, show, vms};

#[track_caller]
fn check(zones: &str, families: &str, cases: &[(&str, &str)]) {
    let policy = policy(vms(zones, families));
    for (tags, expected) in cases {
        let count = expected.lines().count();
        assert_eq!(first(tags, &policy, count), *expected, "{tags}");
    }
}

/// `(vCPU * price + GiB * price) * 1.05 for a custom type + GiB of disk * 0.11 / 730`.
#[test]
fn a_custom_type_has_exactly_what_was_asked_for() {
    check(
        "europe-west4-a",
        "n2",
        &[
            // 6 * 0.034802 + 12 * 0.004664 = 0.26478; * 1.05 = 0.278019; + 50 * 0.11 / 730 = 0.007534…
            ("cpu=6 memory=12G disk=50G spot=never", "n2-custom-6-12288 a 0.285554"),
            // An odd number becomes the next even one, and memory the next 256 MiB.
            ("cpu=5 memory=12200M disk=50G spot=never", "n2-custom-6-12288 a 0.285554"),
            // Above 32 in steps of 4.
            ("cpu=33 memory=72G spot=never", "n2-custom-36-73728 a 1.671128"),
        ],
    );
}

#[test]
fn a_predefined_type_of_the_same_size_costs_no_premium() {
    check(
        "europe-west4-a",
        "n2",
        &[
            // 8 * 0.034802 + 32 * 0.004664 = 0.427664; + 20 * 0.11 / 730 = 0.003013…
            ("cpu=8 memory=32G spot=never", "n2-standard-8 a 0.430678"),
            // A little less costs more as a custom type, so it gets the predefined one.
            ("cpu=8 memory=31G spot=never", "n2-standard-8 a 0.430678"),
            ("cpu=8 memory=24G spot=never", "n2-custom-8-24576 a 0.412884"),
        ],
    );
}

#[test]
fn where_a_family_has_no_custom_types_the_smallest_that_fits_is_taken() {
    check(
        "europe-west4-a",
        "c3",
        &[
            // 22 * 0.0363825 + 88 * 0.0041349 = 1.164286…, with the disk 1.167300
            ("cpu=9 memory=64G spot=never", "c3-standard-22 a 1.167300"),
            ("cpu=9 memory=20G spot=never", "c3-highcpu-22 a 0.985365"),
        ],
    );
    // 3.75 GiB for each vCPU of a c4-standard: 16 GiB are more than c4-standard-4 has.
    check(
        "us-central1-a",
        "c4",
        &[
            ("cpu=4 memory=15G spot=never", "c4-standard-4 a 0.199862"),
            ("cpu=4 memory=16G spot=never", "c4-highmem-4 a 0.262870"),
        ],
    );
}

#[test]
fn local_ssds_are_as_many_as_the_type_takes() {
    check(
        "europe-west4-a",
        "n2 c3 e2",
        &[
            // With 24 vCPU at least four of them.
            (
                "cpu=24 memory=24G local-ssd=1 spot=never family=n2",
                "n2-custom-24-24576 +4 ssd a 1.178379",
            ),
            // 500 GB are two of 375 GiB; of three the next number is four.
            ("cpu=4 memory=4G local-ssd=500G spot=never", "n2-highcpu-4 +2 ssd a 0.251289"),
            ("cpu=4 memory=4G local-ssd=3 spot=never", "n2-highcpu-4 +4 ssd a 0.341700"),
            // Those of c3 come with the type: eight with 44 vCPU.
            ("cpu=4 local-ssd=5 spot=never family=c3", "c3-standard-44-lssd a 2.693230"),
            (
                "local-ssd=25 family=n2",
                "vms makes no such machine. n2 goes up to 24 local SSDs. Ask for local-ssd: 24, or for family: c3.",
            ),
            (
                "local-ssd=1 family=e2",
                "vms makes no such machine. e2 has no local SSDs. Ask for no local SSD, or for family: c3 or n2.",
            ),
        ],
    );
}

#[test]
fn memory_beyond_the_usual_is_extended_memory() {
    // (2 * 0.031611 + 16 * 0.004237) * 1.05 + 4 * 0.004237 * 2.254 + 20 * 0.10 / 730.
    // Four vCPU with 20 GiB of the usual kind are 0.222… and dearer.
    check(
        "us-central1-a",
        "n2",
        &[("cpu=2 memory=20G spot=never", "n2-custom-2-20480-ext a 0.178506")],
    );
    check(
        "us-central1-a",
        "e2",
        &[
            // e2 has none: 4 vCPU, of which 8 GiB each are usual.
            ("cpu=2 memory=20G spot=never", "e2-custom-4-20480 a 0.155755"),
            ("memory=129G", "vms makes no such machine. Ask for memory: 128G."),
        ],
    );
}

#[test]
fn what_no_family_has_says_what_comes_nearest() {
    check(
        "europe-west4-a europe-west4-b",
        "n2 c3",
        &[
            ("cpu=200", "vms makes no such machine. Ask for cpu: 176."),
            (
                "cpu=200 family=n2",
                "vms makes no such machine. n2 goes up to 128 vCPU. Ask for cpu: 128.",
            ),
            (
                "cpu=150 family=n2",
                "vms makes no such machine. n2 goes up to 128 vCPU. Ask for cpu: 128, or for family: c3.",
            ),
            ("memory=2T", "vms makes no such machine. Ask for memory: 1408G."),
            (
                "cpu=500 memory=4T",
                "vms makes no such machine. The largest machine has 176 vCPU and 1.3 TiB.",
            ),
            (
                "arch=arm64",
                "vms makes no such machine. n2 has amd64 processors. c3 has amd64 processors. Ask for arch: amd64.",
            ),
            (
                "family=c9",
                "vms makes no such machine. c9 is no family; did you mean c2? Ask for family: c3 or n2.",
            ),
            (
                "family=n4",
                "vms makes no such machine. n4 is not among the families of the configuration: n2 and c3. Ask for family: c3 or n2.",
            ),
            (
                "disk-type=pd-extreme",
                "vms makes no such machine. n2 takes pd-balanced, pd-standard and pd-ssd disks only. \
                 c3 takes pd-balanced, pd-ssd and hyperdisk-balanced disks only. Ask for disk-type: hyperdisk-balanced, \
                 or for disk-type: pd-balanced, or for disk-type: pd-ssd, or for disk-type: pd-standard.",
            ),
            ("gpu=l4", "vms has no GPUs. Leave gpu out."),
            (
                "zone=us-east1-b",
                "vms makes no machines in us-east1-b, only in europe-west4-a, europe-west4-b.",
            ),
            (
                "region=us-east1",
                "vms makes no machines in us-east1, only in europe-west4-a, europe-west4-b.",
            ),
        ],
    );
}

#[test]
fn places_and_kinds_are_those_that_were_asked_for() {
    let policy = policy(vms("europe-west4-a europe-west4-c us-central1-b", "n2"));
    let places = |tags: &str| {
        let plan = plan(tags, &policy);
        let mut places: Vec<String> = plan
            .offers
            .iter()
            .map(|offer| format!("{}{}", offer.place, if offer.spot { " spot" } else { "" }))
            .collect();
        places.sort();
        places.join(", ")
    };
    assert_eq!(places("zone=europe-west4-c"), "europe-west4-c, europe-west4-c spot");
    assert_eq!(places("region=us-central1 spot=require"), "us-central1-b spot");
    assert_eq!(places("region=europe-west4 spot=never"), "europe-west4-a, europe-west4-c");
}

#[test]
fn a_job_that_says_nothing_of_processors_gets_no_arm() {
    let policy = policy(vms("us-central1-a", "n4a e2"));
    let machines = |tags: &str| {
        let plan = plan(tags, &policy);
        let first: Vec<String> = plan.offers.iter().take(1).map(show).collect();
        (first.join(""), plan.passed_over.into_iter().map(|(_, why)| why).collect::<Vec<_>>())
    };
    let (first, why) = machines("cpu=2 memory=8G spot=never");
    assert!(first.starts_with("e2-standard-2 "), "{first}");
    assert_eq!(why, ["n4a has arm64 processors."]);
    assert!(machines("cpu=2 memory=8G spot=never arch=arm64").0.starts_with("n4a-standard-2 "));
}

#[test]
fn a_wish_comes_first_and_is_no_condition() {
    let policy = policy(vms("us-central1-a", ""));
    let families = |tags: &str| {
        let plan = plan(tags, &policy);
        let families = plan.offers.iter().filter_map(|offer| offer.vm.as_ref());
        let mut families: Vec<String> = families.map(|vm| vm.family.to_string()).collect();
        families.dedup();
        families.join(" ")
    };
    assert_eq!(families("cpu=4 memory=16G spot=never family=c3"), "c3");
    // The cheaper one first.
    assert_eq!(families("cpu=4 memory=16G spot=never family=c3,e2"), "e2 c3");
    let wish = families("cpu=4 memory=16G spot=never family=c3,any");
    assert!(wish.starts_with("c3 e2 "), "{wish}");
    // E2 has no machine of 64 vCPU: a wish that cannot be heard hinders nothing.
    assert!(families("cpu=64 spot=never family=e2,any").len() > 2);
    assert_eq!(families("cpu=64 spot=never family=e2"), "");
}

#[test]
fn a_region_without_prices_is_reckoned_at_the_dearest_of_others() {
    let policy = policy(vms("asia-east1-a europe-west4-a", "n2"));
    let plan = plan("cpu=8 memory=32G spot=never", &policy);
    let [ours, other] = &plan.offers[..] else { panic!("{:?}", plan.offers) };
    let priced = |offer: &planner::Offer| offer.vm.as_ref().is_some_and(|vm| vm.priced);
    let prices = (ours.price_micros_per_hour, other.price_micros_per_hour);
    assert_eq!(prices, (430_678, 430_678), "europe-west4 is the dearest that is known");
    assert!(plan.offers.iter().any(priced) && !plan.offers.iter().all(priced));
}
