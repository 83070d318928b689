//! What a plan says, for people and for scripts. Which offer comes first was decided before.

use std::collections::BTreeSet;

use planner::{BackendName, Bytes, Explained, Offer, Refusal, Shape, spell_duration};
use serde_json::{Value, json};

use super::vms::{self, Vms};
use super::{Case, Fate};
use crate::cli::Screen;

/// One set of tags, in full.
pub(super) fn tags(case: &Case, currency: &str, vms: &Vms, screen: Screen) -> String {
    let explained = &case.explained;
    let shape = match &explained.shape {
        Ok(shape) => shape,
        Err(refusal @ Refusal::Invalid(_)) => {
            let doubts = doubts(&explained.doubtful);
            return format!("{} {refusal}\n{doubts}", screen.bad("No machine:"));
        }
        Err(refusal @ Refusal::Foreign(_)) => return format!("{}\n", sentence(refusal)),
    };
    let mut text = format!("Queue {}: {}\n", screen.strong(&case.queue), asked(shape));
    if !explained.tags.is_empty() {
        text.push_str(&format!("The agent's tags: {}\n", explained.tags.join(", ")));
    }
    text.push('\n');
    if explained.offers.is_empty() {
        text.push_str(&screen.bad("No machine:"));
        text.push_str(" no backend of the queue makes one.\n");
    } else {
        let stakes = vms.stakes(shape);
        let rows = explained.offers.iter().enumerate().map(|(at, offer)| {
            let expected = vms::expected(&explained.offers, offer, &stakes);
            [
                (at + 1).to_string(),
                offer.backend.to_string(),
                machine(offer),
                place(offer),
                price(offer, currency),
                expected.map_or_else(|| "-".to_owned(), |micros| money(micros, currency)),
            ]
        });
        let head = vms::head(stakes.time);
        let heads = ["", "backend", "machine", "where", "price an hour", &head];
        text.push_str(&screen.table(heads, rows));
    }
    text.push_str(&exclusions(explained, screen));
    text.push_str(&vms.notes(explained));
    text.push_str(&doubts(&explained.doubtful));
    text
}

/// What is shown holds where these policies match.
fn doubts(policies: &[usize]) -> String {
    let numbers: Vec<String> = policies.iter().map(|index| (index + 1).to_string()).collect();
    if numbers.is_empty() {
        return String::new();
    }
    format!(
        "\nDepends on where the build comes from, which Jitney would look up in Buildkite. Shown is \
         what holds if it matches policy {}; say with --pull-request, --fork or --author whether it \
         does.\n",
        numbers.join(" and ")
    )
}

/// Every command step of a pipeline: a line each, then what is wrong.
pub(super) fn steps(cases: &[Case], currency: &str, screen: Screen) -> String {
    let rows = cases.iter().map(|case| {
        let explained = &case.explained;
        let shape = explained.shape.as_ref().map_or_else(|_| "-".to_owned(), Shape::to_string);
        let (made, cost) = match (case.fate(), explained.offers.first()) {
            (Fate::Made, Some(best)) => {
                (format!("{} on {}", machine(best), best.backend), price(best, currency))
            }
            (Fate::Foreign, _) => (screen.faint("left to other agents"), "-".to_owned()),
            (Fate::Made | Fate::Wrong, _) => (screen.bad("no machine"), "-".to_owned()),
        };
        [case.label.clone(), case.jobs.to_string(), case.queue.to_string(), shape, made, cost]
    });
    let heads = ["step", "jobs", "queue", "asks for", "first choice", "price an hour"];
    let mut text = screen.table(heads, rows);
    for case in cases.iter().filter(|case| case.fate() != Fate::Made) {
        let why = match &case.explained.shape {
            Err(refusal) => sentence(refusal),
            Ok(_) => format!("no backend of queue {} makes one.", case.queue),
        };
        text.push_str(&format!("\n{}: {why}\n", screen.strong(&case.label)));
        text.push_str(&exclusions(&case.explained, screen));
    }
    let doubtful: BTreeSet<usize> =
        cases.iter().flat_map(|case| case.explained.doubtful.iter().copied()).collect();
    text.push_str(&doubts(&doubtful.into_iter().collect::<Vec<_>>()));
    let wrong = cases.iter().filter(|case| case.fate() == Fate::Wrong).count();
    let jobs: u64 = cases.iter().map(|case| u64::from(case.jobs)).sum();
    let steps = cases.len();
    text.push_str(&match wrong {
        0 => format!("\n{steps} steps, {jobs} jobs; each that is ours gets its machine.\n"),
        _ => format!(
            "\n{steps} steps, {jobs} jobs; for {} of the steps no machine can be made.\n",
            screen.bad(wrong)
        ),
    });
    text
}

/// `16 vCPU, 64 GiB; the job may run for 1h`.
fn asked(shape: &Shape) -> String {
    format!("{shape}; the job may run for {}", spell_duration(shape.time))
}

fn exclusions(explained: &Explained, screen: Screen) -> String {
    let line = |(backend, why): &(_, String), words: &str| {
        format!("  {} {why}\n", screen.faint(format!("{words} {backend}:")))
    };
    let not_on = explained.exclusions.iter().map(|one| line(one, "not on"));
    let passed_over = explained.passed_over.iter().map(|one| line(one, "passed over on"));
    not_on.chain(passed_over).collect()
}

/// Refusals begin with a small letter, as errors do. One that begins with a tag stays as it is:
/// tags are written small.
fn sentence(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    if text.split_whitespace().next().is_some_and(|word| word.contains('=')) {
        return text;
    }
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A backend without types makes exactly what is asked for.
fn machine(offer: &Offer) -> String {
    let spot = if offer.spot { ", spot" } else { "" };
    let size = format!("{} vCPU, {}", offer.cpu, offer.memory);
    let ssds = match offer.vm.as_ref().map_or(0, |vm| vm.attached_ssds) {
        0 => String::new(),
        1 => ", 1 local SSD".to_owned(),
        count => format!(", {count} local SSDs"),
    };
    match &*offer.machine_type {
        "" => format!("{size}{spot}"),
        machine_type => format!("{machine_type} ({size}{ssds}{spot})"),
    }
}

fn place(offer: &Offer) -> String {
    if offer.place.is_empty() { "-".to_owned() } else { offer.place.to_string() }
}

/// Nothing is charged for what has no price.
fn price(offer: &Offer, currency: &str) -> String {
    match offer.price_micros_per_hour {
        0 => "-".to_owned(),
        micros => {
            let borrowed = offer.vm.as_ref().is_some_and(|vm| !vm.priced);
            money(micros, currency) + if borrowed { " *" } else { "" }
        }
    }
}

fn money(micros: u64, currency: &str) -> String {
    format!("{}.{:04} {currency}", micros / 1_000_000, micros % 1_000_000 / 100)
}

pub(super) fn json(cases: &[Case], vms: &Vms) -> Value {
    json!({ "steps": cases.iter().map(|case| case_json(case, vms)).collect::<Vec<_>>() })
}

fn case_json(case: &Case, vms: &Vms) -> Value {
    let explained = &case.explained;
    let refusal = explained.shape.as_ref().err();
    let excluded = |list: &[(BackendName, String)]| -> Vec<Value> {
        list.iter().map(|(backend, why)| json!({"backend": backend, "why": why})).collect()
    };
    let offers = explained.offers.iter().map(|offer| {
        let stakes = explained.shape.as_ref().ok().map(|shape| vms.stakes(shape));
        let expected = stakes.and_then(|stakes| vms::expected(&explained.offers, offer, &stakes));
        offer_json(offer, expected)
    });
    let doubtful = explained.doubtful.iter().map(|index| format!("policies[{index}]"));
    let doubtful: Vec<String> = doubtful.collect();
    json!({
        "label": case.label,
        "jobs": case.jobs,
        "queue": case.queue,
        "asked": case.tags,
        "outcome": match case.fate() {
            Fate::Made => "made",
            Fate::Foreign => "foreign",
            Fate::Wrong => "wrong",
        },
        "shape": explained.shape.as_ref().ok().map(shape_json),
        "refusal": refusal.map(ToString::to_string),
        "offers": offers.collect::<Vec<_>>(),
        "exclusions": excluded(&explained.exclusions),
        "passed_over": excluded(&explained.passed_over),
        "doubtful": doubtful,
        "agent_tags": explained.tags,
    })
}

/// With units in the names, as `status` has them.
fn shape_json(shape: &Shape) -> Value {
    let Shape {
        cpu,
        memory,
        disk,
        disk_type,
        local_ssds,
        arch,
        families,
        or_any_family,
        gpu,
        image,
        spot,
        time,
        zone,
        region,
        no_rights,
    } = shape;
    json!({
        "cpu_millis": cpu.millis(),
        "memory_bytes": memory.get(),
        "disk_bytes": disk.map(Bytes::get),
        "disk_type": disk_type,
        "local_ssds": local_ssds,
        "arch": arch,
        "families": families,
        "or_any_family": or_any_family,
        "gpu": gpu,
        "image": image,
        "spot": spot,
        "time_seconds": time.as_secs(),
        "zone": zone,
        "region": region,
        "no_rights": no_rights,
    })
}

fn offer_json(offer: &Offer, expected: Option<u64>) -> Value {
    let Offer { backend, place, machine_type, spot, cpu, memory, price_micros_per_hour, vm } =
        offer;
    let vm = vm.as_ref().map(|vm| {
        json!({
            "family": vm.family,
            "region": vm.region,
            "arch": vm.arch,
            "disk_type": vm.disk_type,
            "disk_bytes": vm.disk.get(),
            "attached_ssds": vm.attached_ssds,
            "nic": vm.nic,
            "quota": vm.quota,
            "priced": vm.priced,
        })
    });
    json!({
        "backend": backend,
        "place": place,
        "machine_type": machine_type,
        "spot": spot,
        "cpu_millis": cpu.millis(),
        "memory_bytes": memory.get(),
        "price_micros_per_hour": price_micros_per_hour,
        "expected_micros": expected,
        "vm": vm,
    })
}
