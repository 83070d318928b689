//! What holds for any need: offers satisfy it and keep their family's rules, who asks for more never
//! pays less, and what is said to come nearest is there.

use std::sync::LazyLock;

use planner::{Offer, Policy};
use proptest::prelude::*;

use super::{plan, policy, vms};

static POLICY: LazyLock<Policy> =
    LazyLock::new(|| policy(vms("europe-west4-a europe-west4-b us-central1-c", "")));

#[derive(Clone, Debug)]
struct Asked {
    /// Quarters of a vCPU.
    cpu: u32,
    /// Quarters of a GiB.
    memory: u32,
    ssds: u32,
    rest: String,
}

impl Asked {
    fn tags(&self) -> String {
        let Self { cpu, memory, ssds, rest } = self;
        format!("cpu={}m memory={}M local-ssd={ssds} {rest}", cpu * 250, memory * 256)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let cpu = prop_oneof![1_u32..64, 1_u32..2000];
    let memory = prop_oneof![1_u32..256, 1_u32..16_000];
    let ssds = prop_oneof![3 => Just(0_u32), 1 => 1_u32..40];
    let rest = prop_oneof![
        Just("spot=never"),
        Just("spot=require"),
        Just("spot=allow"),
        Just("spot=prefer arch=arm64"),
        Just("spot=never family=n2"),
        Just("spot=never family=n2d,c3"),
        Just("spot=never family=c4d,any disk-type=hyperdisk-balanced"),
        Just("spot=require family=e2,n1"),
    ];
    (cpu, memory, ssds, rest).prop_map(|(cpu, memory, ssds, rest)| Asked {
        cpu,
        memory,
        ssds,
        rest: rest.to_owned(),
    })
}

/// The rules of custom types, once more and in another way: after the public pages, not the tables.
fn keeps_the_rules(offer: &Offer) -> Result<(), String> {
    let vm = offer.vm.as_ref().ok_or("it is no virtual machine")?;
    let name = &*offer.machine_type;
    let cpu = offer.cpu.millis() / 1000;
    let mib = offer.memory.get() >> 20;
    let attached = vm.attached_ssds;
    let Some(custom) = name.strip_prefix(&*format!("{}-custom-", vm.family)) else {
        let bundled = name.ends_with("-lssd");
        return if bundled && attached > 0 {
            Err("disks twice".into())
        } else {
            ssds(&vm.family, cpu, attached)
        };
    };
    let extended = custom.ends_with("-ext");
    let expected = format!("{cpu}-{mib}{}", if extended { "-ext" } else { "" });
    let even = cpu.is_multiple_of(2);
    let counts = match &*vm.family {
        "e2" => even && cpu <= 32,
        "n1" => (even || cpu == 1) && cpu <= 64,
        "n2" => (even && cpu <= 32) || (cpu.is_multiple_of(4) && cpu <= 128),
        "n2d" => [2, 4, 8].contains(&cpu) || (cpu.is_multiple_of(16) && cpu <= 96),
        "n4" => even && cpu <= 80,
        "n4d" => even && cpu <= 96,
        "n4a" => (even || cpu == 1) && cpu <= 64,
        other => return Err(format!("{other} has no custom types")),
    };
    let per_cpu = mib / u64::from(cpu);
    let (least, most) = match &*vm.family {
        "n1" => (1024, 6656),
        "e2" | "n2" | "n2d" => (512, 8192),
        _ => (2048, 8192),
    };
    let memory =
        per_cpu >= least && mib.is_multiple_of(256) && (mib <= most * u64::from(cpu) || extended);
    let memory = memory && !(extended && *vm.family == *"e2") && mib <= 864 << 10;
    if custom == expected && cpu > 0 && counts && memory {
        ssds(&vm.family, cpu, attached)
    } else {
        Err(format!("{name} is no type of {}", vm.family))
    }
}

fn ssds(family: &str, cpu: u32, attached: u32) -> Result<(), String> {
    let least = match (family, cpu) {
        (_, _) if attached == 0 => return Ok(()),
        ("n1", _) => 1,
        ("n2", 0..=10) | ("n2d", 0..=16) | ("c2", 0..=8) | ("c2d", 0..=16) => 1,
        ("n2", 11..=20) | ("n2d", 17..=48) | ("c2", 9..=16) | ("c2d", 17..=32) => 2,
        ("n2", 21..=40) | ("n2d", 49..=80) | ("c2", 17..=30) | ("c2d", 33..=56) => 4,
        ("n2", 41..=80) | ("n2d", _) | ("c2" | "c2d", _) => 8,
        ("n2", _) => 16,
        (other, _) => return Err(format!("none can be attached to {other}")),
    };
    let most = if family.starts_with("c2") { 8 } else { 24 };
    let whole = family == "n1" || attached.is_power_of_two() || attached == 24;
    if (least..=most).contains(&attached) && whole {
        Ok(())
    } else {
        Err(format!("{attached} disks with {cpu} vCPU of {family}"))
    }
}

/// What has to be bought at the least, cheapest first.
fn cheapest(asked: &Asked) -> Option<u64> {
    let offers = plan(&asked.tags(), &POLICY).offers;
    offers.iter().map(|offer| offer.price_micros_per_hour).min()
}

/// The number behind a word of a sentence: `Ask for cpu: 128, or …`.
fn said(sentence: &str, word: &str) -> Option<String> {
    let (_, rest) = sentence.split_once("Ask for ")?;
    let (_, rest) = rest.split_once(&format!("{word}: "))?;
    let end = rest.find([',', '.']).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

proptest! {
    #[test]
    fn offers_satisfy_the_need_and_keep_the_rules(asked in asked()) {
        let plan = plan(&asked.tags(), &POLICY);
        let shape = plan.shape.as_ref().unwrap();
        prop_assert!(plan.offers.len() <= 24);
        prop_assert_eq!(plan.offers.is_empty(), !plan.exclusions.is_empty());
        for offer in &plan.offers {
            let vm = offer.vm.as_ref().unwrap();
            prop_assert!(offer.cpu >= shape.cpu && offer.memory >= shape.memory, "{:?}", offer);
            prop_assert!(vm.attached_ssds >= shape.local_ssds || offer.machine_type.ends_with("-lssd"));
            prop_assert_eq!(vm.arch, shape.arch.unwrap_or(planner::Arch::Amd64));
            prop_assert!(offer.place.starts_with(&*vm.region) && offer.price_micros_per_hour > 0);
            if !shape.families.is_empty() && !shape.or_any_family {
                prop_assert!(shape.families.contains(&vm.family));
            }
            prop_assert_eq!(keeps_the_rules(offer), Ok(()), "{:?}", offer);
        }
    }

    #[test]
    fn who_asks_for_more_never_pays_less(less in asked(), cpu in 0_u32..64, memory in 0_u32..256, ssds in 0_u32..3) {
        let more = Asked { cpu: less.cpu + cpu, memory: less.memory + memory, ssds: less.ssds + ssds, ..less.clone() };
        if let Some(price) = cheapest(&more) {
            let before = cheapest(&less);
            prop_assert!(before.is_some_and(|before| before <= price), "{:?} {:?} {:?}", less, before, price);
        }
    }

    #[test]
    fn what_comes_nearest_is_there(asked in asked()) {
        let plan = plan(&asked.tags(), &POLICY);
        let Some((_, why)) = plan.exclusions.first() else { return Ok(()) };
        let is_there = |tags: String| {
            let offers = super::plan(&tags, &POLICY).offers;
            if offers.is_empty() { Err(format!("{why}: {tags}")) } else { Ok(()) }
        };
        if let Some(cpu) = said(why, "cpu") {
            prop_assert_eq!(is_there(format!("cpu={cpu} memory={}M local-ssd={} {}", asked.memory * 256, asked.ssds, asked.rest)), Ok(()));
        }
        if let Some(memory) = said(why, "memory") {
            prop_assert_eq!(is_there(format!("cpu={}m memory={memory} local-ssd={} {}", asked.cpu * 250, asked.ssds, asked.rest)), Ok(()));
        }
        if let Some(ssds) = said(why, "local-ssd") {
            prop_assert_eq!(is_there(format!("cpu={}m memory={}M local-ssd={ssds} {}", asked.cpu * 250, asked.memory * 256, asked.rest)), Ok(()));
        }
    }
}
