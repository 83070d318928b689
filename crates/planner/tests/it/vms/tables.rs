//! The tables that ship, what may be wrong in some, and a file of the operator's over them.

use planner::{Families, OwnTables, Prices, Size, SsdCounts, Steps, Tables, parse_size};
use proptest::prelude::*;

use super::tables;

#[test]
fn those_that_ship_are_sound() {
    let tables = tables();
    assert_eq!(tables.problems(), Vec::<String>::new());
    assert!(tables.families.families.len() >= 16, "{}", tables.families.families.len());
    // A type with local SSDs never costs less than the same without: nobody gets it unasked.
    for (name, family) in &tables.families.families {
        for types in family.types.iter().filter(|types| types.name.ends_with("-lssd")) {
            let plain = types.name.trim_end_matches("-lssd");
            let plain = family.types.iter().find(|types| &*types.name == plain);
            let plain = plain.unwrap_or_else(|| panic!("{name} has no {plain:?}"));
            for size in &types.sizes {
                let same = plain.sizes.iter().any(|other| {
                    other.cpu == size.cpu && other.memory == size.memory && other.bundled == 0
                });
                assert!(same && size.bundled > 0, "{}: {size:?}", types.name);
            }
        }
    }
}

#[test]
fn they_are_written_as_they_are_read() {
    let tables = tables();
    let text = serde_json::to_string(&tables).unwrap();
    assert_eq!(serde_json::from_str::<Tables>(&text).unwrap(), tables);
}

#[test]
fn a_file_of_ones_own_goes_before_what_ships() {
    let own = |text: &str| -> OwnTables { serde_saphyr::from_str(text).unwrap() };
    let ours = tables().with(own("
as_of: 2026-11-20
preempted_per_day: 2.5%
regions:
  us-central1: { disks: { pd-balanced: 0.05 }, families: { n2: { cpu: 0.01, memory: 0, spot_cpu: 0.005, spot_memory: 0 } } }
  mars-east1: { disks: { pd-balanced: 0.2 } }
families:
  n9: { arch: amd64, nic: gvnic, quota: N9_CPUS, disks: [pd-balanced], types: [{ name: \"n9-*\", sizes: [\"2:8\"] }] }
"));
    assert_eq!((&*ours.prices.as_of, &*ours.families.as_of), ("2026-11-20", "2026-11-20"));
    assert_eq!(ours.families.preempted_per_day, 25);
    let here = &ours.prices.regions["us-central1"];
    assert_eq!(here.disks["pd-balanced"].to_string(), "0.05");
    assert_eq!(here.disks["pd-ssd"].to_string(), "0.17", "the rest stays");
    assert_eq!(here.families["n2"].cpu.to_string(), "0.01");
    assert_eq!(here.families["e2"].cpu.to_string(), "0.021812");
    assert_eq!(
        (ours.problems(), ours.unpriced()),
        (vec![], vec!["n9 with a pd-balanced disk".into()])
    );

    let euros = tables().with(own("
as_of: 2026-11-20
currency: EUR
regions: { us-central1: { families: { n2: { cpu: 0.01, memory: 0, spot_cpu: 0.005, spot_memory: 0 } } } }
"));
    assert_eq!(&*euros.prices.currency, "EUR");
    assert_eq!(euros.prices.regions.len(), 1, "no price of another currency stays");
    assert!(euros.unpriced().contains(&"n2 with a pd-ssd disk".to_owned()));
}

#[test]
fn what_does_not_fit_is_said() {
    let families = |text: &str| serde_saphyr::from_str::<Families>(text).map_err(|e| e.to_string());
    let of = |custom: &str| {
        families(&format!(
            "{{ as_of: x, preempted_per_day: 1%, families: {{ n: {{ arch: amd64, nic: virtio, quota: Q, \
             disks: [pd], {custom} }} }} }}"
        ))
    };
    for (wrong, why) in [
        (
            "types: [{ name: a, sizes: [\"2\"] }]",
            "\"2\" is not a size: write 4:15 (vCPU:GiB) or 4:15:1",
        ),
        ("types: [{ name: a, sizes: [\"0:4\"] }]", "\"0:4\" is not a size"),
        ("types: [{ name: a, sizes: [\"2:x\"] }]", "is not a size"),
        ("local_ssd: [\"1-4: 2, 1\"]", "is not a rule of local SSDs: write 12-20: 2, 4, 8"),
        (
            "custom: { cpu: 4-2, least_per_cpu: 1G, most_per_cpu: 8G, most: 64G }",
            "\"4-2\" is not a range of vCPU: write 2-32/2",
        ),
        (
            "custom: { cpu: 2-33/2, least_per_cpu: 1G, most_per_cpu: 8G, most: 64G }",
            "is not a range of vCPU",
        ),
        (
            "custom: { cpu: \"4, 2\", least_per_cpu: 1G, most_per_cpu: 8G, most: 64G }",
            "is not an ascending list of vCPU",
        ),
        (
            "custom: { cpu: 2, least_per_cpu: 1, most_per_cpu: 8G, most: 64G }",
            "\"1\" has no unit: write 1G (or K, M, T)",
        ),
        ("colour: red", "unknown field"),
    ] {
        let error = of(wrong).unwrap_err();
        assert!(error.contains(why), "{wrong}: {error}");
    }
    let problems = Tables {
        families: of("types: [{ name: a, sizes: [\"2:4\", \"4:4\"] }]").unwrap(),
        ..tables()
    }
    .problems();
    assert!(problems.contains(&"family n has the type a twice".to_owned()), "{problems:?}");
    assert!(
        problems.contains(&"us-central1 has a price for n2, which is no family here".to_owned()),
        "{problems:?}"
    );
    let problems = Tables { families: of("types: []").unwrap(), ..tables() }.problems();
    assert!(problems.contains(
        &"family n makes no machine: it has neither custom types nor predefined ones".to_owned()
    ));

    let prices = |price: &str| {
        serde_saphyr::from_str::<Prices>(&format!(
            "{{ currency: USD, as_of: x, custom_premium: 5%, extended_memory: 100%, \
             regions: {{ r: {{ disks: {{ pd: {price} }} }} }} }}"
        ))
    };
    assert!(prices("0.1").is_ok());
    for wrong in ["-1", "1e3", "1.0123456789", "much", "99999999999"] {
        let error = prices(wrong).unwrap_err().to_string();
        assert!(error.contains("is not an amount: write 0.021812"), "{wrong}: {error}");
    }
}

proptest! {
    #[test]
    fn rules_of_any_text_are_read_or_refused(text in "[0-9]{0,4}[-/:,. a-z0-9]{0,24}") {
        if let Ok(steps) = Steps::try_from(text.clone()) {
            prop_assert_eq!(Steps::try_from(steps.to_string()), Ok(steps));
        }
        if let Ok(size) = Size::try_from(text.clone()) {
            prop_assert_eq!(Size::try_from(String::from(size)), Ok(size));
        }
        if let Ok(rule) = SsdCounts::try_from(text) {
            prop_assert_eq!(SsdCounts::try_from(String::from(rule.clone())), Ok(rule));
        }
    }

    #[test]
    fn every_size_in_mebibytes_is_written_as_it_is_read(mib in 1_u64..64_000_000, cpu in 1_u32..400_000) {
        let size = Size {
            cpu: planner::Cpu::from_millis(cpu),
            memory: parse_size(&format!("{mib}M")).unwrap(),
            bundled: cpu % 3,
        };
        prop_assert_eq!(Size::try_from(String::from(size)), Ok(size));
    }
}
