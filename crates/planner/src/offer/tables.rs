//! Families and prices together: what ships with Jitney, what a file of the operator's changes of
//! it, and whether the two fit each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::families::{Families, Family};
use super::prices::{Prices, RegionPrices};

/// The families that ship with Jitney, as YAML.
pub const FAMILIES: &str = include_str!("../../data/machine-families.yaml");
/// The prices that ship with Jitney, as YAML.
pub const PRICES: &str = include_str!("../../data/prices.yaml");

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    pub families: Families,
    pub prices: Prices,
}

/// What a file of the operator's says: as much of both as it likes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnTables {
    pub as_of: Arc<str>,
    #[serde(default)]
    pub currency: Option<Arc<str>>,
    #[serde(default)]
    pub custom_premium: Option<Share>,
    #[serde(default)]
    pub extended_memory: Option<Share>,
    #[serde(default)]
    pub preempted_per_day: Option<Share>,
    #[serde(default)]
    pub families: BTreeMap<Arc<str>, Family>,
    #[serde(default)]
    pub regions: BTreeMap<Arc<str>, RegionPrices>,
}

/// Thousandths, as `5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(#[serde(with = "super::decimal::permille")] pub u32);

impl Tables {
    /// With what the operator's file says in place of what is here, family by family and price by
    /// price. Of another currency's prices none stays.
    #[must_use]
    pub fn with(mut self, own: OwnTables) -> Self {
        let OwnTables { as_of, currency, custom_premium, extended_memory, .. } = own;
        let prices = &mut self.prices;
        if let Some(currency) = currency
            && currency != prices.currency
        {
            prices.currency = currency;
            prices.regions.clear();
        }
        if !own.regions.is_empty() {
            prices.as_of = Arc::clone(&as_of);
        }
        for (name, region) in own.regions {
            let known = prices.regions.entry(name).or_default();
            known.disks.extend(region.disks);
            known.local_ssd = region.local_ssd.or(known.local_ssd);
            known.families.extend(region.families);
        }
        let set = |here: &mut u32, own: Option<Share>| *here = own.map_or(*here, |share| share.0);
        set(&mut prices.custom_premium, custom_premium);
        set(&mut prices.extended_memory, extended_memory);
        set(&mut self.families.preempted_per_day, own.preempted_per_day);
        if !own.families.is_empty() {
            self.families.as_of = as_of;
        }
        self.families.families.extend(own.families);
        self
    }

    /// What is wrong in them, beyond what a reader of the texts sees; a sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, family) in &self.families.families {
            let mut say = |what: String| problems.push(format!("family {name} {what}"));
            if family.disks.is_empty() {
                say("takes no boot disk".into());
            }
            if family.frames().next().is_none() {
                say("makes no machine: it has neither custom types nor predefined ones".into());
            }
            let mut seen: Vec<String> = family
                .types
                .iter()
                .flat_map(|types| {
                    types.sizes.iter().map(|size| types.name.replace('*', &size.cpu.to_string()))
                })
                .collect();
            seen.sort();
            for twice in seen.windows(2).filter(|pair| pair[0] == pair[1]) {
                say(format!("has the type {} twice", twice[0]));
            }
        }
        for (region, prices) in &self.prices.regions {
            let unknown = prices.families.keys();
            for family in unknown.filter(|name| !self.families.families.contains_key(*name)) {
                problems
                    .push(format!("{region} has a price for {family}, which is no family here"));
            }
        }
        problems
    }

    /// Families with a boot disk for which no region has a price: nobody is offered these.
    #[must_use]
    pub fn unpriced(&self) -> Vec<String> {
        let families = self.families.families.iter();
        let pairs =
            families.flat_map(|(name, family)| family.disks.iter().map(move |disk| (name, disk)));
        pairs
            .filter(|(name, disk)| self.prices.tariff("", name, disk).is_none())
            .map(|(name, disk)| format!("{name} with a {disk} disk"))
            .collect()
    }
}
