//! What a plan says of virtual machines: what a job is expected to cost on each, and how far the
//! prices can be trusted.

use std::collections::BTreeSet;
use std::time::Duration;

use planner::{Explained, Offer, Shape, Stakes, Tables, spell_duration};

use crate::config::Config;

/// What has to be known of the configuration to say it.
#[derive(Debug)]
pub(super) struct Vms {
    tables: std::sync::Arc<Tables>,
}

impl Vms {
    pub(super) fn of(config: &Config) -> Self {
        Self { tables: config.tables() }
    }

    /// What is at stake for such a job.
    pub(super) fn stakes(&self, shape: &Shape) -> Stakes {
        let preempted_per_day = self.tables.families.preempted_per_day;
        Stakes { time: shape.time, preempted_per_day }
    }

    /// Below the offers.
    pub(super) fn notes(&self, explained: &Explained) -> String {
        let offers: Vec<&Offer> =
            explained.offers.iter().filter(|offer| offer.vm.is_some()).collect();
        if offers.is_empty() {
            return String::new();
        }
        let prices = &self.tables.prices;
        let mut notes = format!("\nPrices are of {}, with the boot disk", prices.as_of);
        if offers.iter().any(|offer| offer.spot) {
            let day = self.tables.families.preempted_per_day;
            notes.push_str(&format!(
                ". Those of spot machines change from day to day; what a preemption costs is reckoned \
                 with {}.{} % of them a day",
                day / 10,
                day % 10
            ));
        }
        notes.push_str(".\n");
        let unpriced: BTreeSet<&str> = offers
            .iter()
            .filter_map(|offer| offer.vm.as_ref())
            .filter(|vm| !vm.priced)
            .map(|vm| &*vm.region)
            .collect();
        if !unpriced.is_empty() {
            let regions: Vec<&str> = unpriced.into_iter().collect();
            notes.push_str(&format!(
                "* The list lacks this price for {}; shown is the dearest of other regions. `prices.file` \
                 can say it.\n",
                regions.join(", ")
            ));
        }
        notes
    }
}

/// In millionths of the currency; nothing for a machine that has no price.
pub(super) fn expected(offers: &[Offer], offer: &Offer, stakes: &Stakes) -> Option<u64> {
    offer.vm.as_ref()?;
    let price = offer.price_micros_per_hour;
    let plain = offers.iter().filter(|offer| !offer.spot && offer.vm.is_some());
    let after = plain.map(|offer| offer.price_micros_per_hour).min();
    Some(match offer.spot {
        true => stakes.spot(price, after.unwrap_or(price)),
        false => stakes.on_demand(price),
    })
}

/// `a job of 1h`.
pub(super) fn head(time: Duration) -> String {
    format!("a job of {}", spell_duration(time))
}
