//! Virtual machines of a cloud: which there are for a shape, where, for which price, in which order.

mod examples;
mod laws;
mod rank;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use planner::{
    BackendKind, BackendName, BackendPolicy, Explained, FAMILIES, Limits, Offer, PRICES, Policy,
    Shapes, Tables, Vms,
};

use crate::assess::{edit, explained};

/// The tables that ship with Jitney.
fn tables() -> Tables {
    Tables {
        families: serde_saphyr::from_str(FAMILIES).expect("the families are sound"),
        prices: serde_saphyr::from_str(PRICES).expect("the prices are sound"),
    }
}

fn names(list: &str) -> Vec<Arc<str>> {
    list.split_whitespace().map(Into::into).collect()
}

fn vms(zones: &str, families: &str) -> Vms {
    Vms {
        zones: names(zones),
        families: names(families),
        disk_type: None,
        tables: Arc::new(tables()),
    }
}

/// A queue whose only backend makes these, and in which a job may ask for anything.
fn policy(vms: Vms) -> Policy {
    let mut policy = edit(|queue| {
        queue.backends = vec!["vms".into()];
        queue.largest = Shapes::default();
        queue.defaults.time = Some(Duration::from_secs(3600));
    });
    let backend = BackendPolicy {
        kind: BackendKind::Gce,
        limits: Limits::default(),
        capacity: Limits::default(),
        arch: None,
        listing_lag: Duration::ZERO,
        images: Vec::new(),
        vms: Some(Arc::new(vms)),
    };
    policy.backends = BTreeMap::from([(BackendName::new("vms"), backend)]);
    policy
}

fn plan(tags: &str, policy: &Policy) -> Explained {
    let rules: Vec<String> = tags.split_whitespace().map(str::to_owned).collect();
    explained(&rules, "web", policy)
}

/// `n2d-standard-8 a spot 0.123456`, without the region.
fn show(offer: &Offer) -> String {
    let zone = offer.place.rsplit('-').next().unwrap_or_default();
    let price = offer.price_micros_per_hour;
    let spot = if offer.spot { " spot" } else { "" };
    let machine = &offer.machine_type;
    let ssds = match offer.vm.as_ref().map_or(0, |vm| vm.attached_ssds) {
        0 => String::new(),
        count => format!(" +{count} ssd"),
    };
    format!("{machine}{ssds} {zone}{spot} {}.{:06}", price / 1_000_000, price % 1_000_000)
}

/// The first offers, or why there is none.
fn first(tags: &str, policy: &Policy, count: usize) -> String {
    let plan = plan(tags, policy);
    match &plan.shape {
        Ok(_) if plan.offers.is_empty() => plan.exclusions[0].1.clone(),
        Ok(_) => plan.offers.iter().take(count).map(show).collect::<Vec<_>>().join("\n"),
        Err(refusal) => refusal.to_string(),
    }
}
