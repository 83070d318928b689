//! How much of everything a project may have in a region, and how much of it there is in a zone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::instance::Fate;
use super::order::{Order, WantedKind};
use super::settings::{Capacity, region_of};
use super::{Compute, Instance, MachineType};
use crate::cloud::refusal::Failure;

const GLOBAL: &str = "global";
const LOCAL_SSD_GB: f64 = 375.0;

/// What a new machine adds: metric, amount, and the family for the metric that has one for each.
type Demand = Vec<(String, f64)>;

/// The metric that families without one of their own share; it is counted for each of them.
const PER_FAMILY: &str = "CPUS_PER_VM_FAMILY";

/// The metric's name, with its family where it has one.
fn cpu_metric(machine_type: &MachineType) -> String {
    let metric = machine_type.cpu_metric();
    if metric == PER_FAMILY {
        format!("{PER_FAMILY}:{}", machine_type.series.to_uppercase())
    } else {
        metric.to_owned()
    }
}

fn disk_metric(disk_type: &str) -> &'static str {
    match disk_type {
        "pd-standard" => "DISKS_TOTAL_GB",
        other if other.starts_with("hyperdisk") => "HDB_TOTAL_GB",
        _ => "SSD_TOTAL_GB",
    }
}

/// Numbers of disks and machines are small.
fn amount(number: impl TryInto<u32>) -> f64 {
    number.try_into().map_or(f64::from(u32::MAX), f64::from)
}

impl Compute {
    fn limit(&self, region: &str, metric: &str) -> Option<f64> {
        let place = if metric.ends_with("_ALL_REGIONS") { GLOBAL } else { region };
        self.quotas.get(place)?.get(metric).copied()
    }

    /// Spot counts for a quota of its own where the project has one there.
    fn metric_of_cpus(&self, region: &str, machine_type: &MachineType, spot: bool) -> String {
        let preemptible = self.limit(region, "PREEMPTIBLE_CPUS").is_some_and(|limit| limit > 0.0);
        if spot && preemptible { "PREEMPTIBLE_CPUS".to_owned() } else { cpu_metric(machine_type) }
    }

    fn metric_of_ssds(&self, region: &str, spot: bool) -> &'static str {
        let preemptible =
            self.limit(region, "PREEMPTIBLE_LOCAL_SSD_GB").is_some_and(|limit| limit > 0.0);
        if spot && preemptible { "PREEMPTIBLE_LOCAL_SSD_GB" } else { "LOCAL_SSD_TOTAL_GB" }
    }

    fn demand(&self, zone: &str, order: &Order) -> Demand {
        let region = region_of(zone);
        let cpus = amount(order.machine_type.cpus);
        let mut demand = vec![
            (self.metric_of_cpus(region, &order.machine_type, order.spot), cpus),
            ("CPUS_ALL_REGIONS".to_owned(), cpus),
            ("INSTANCES".to_owned(), 1.0),
        ];
        if order.local_ssds > 0 {
            let metric = self.metric_of_ssds(region, order.spot).to_owned();
            demand.push((metric, amount(order.local_ssds) * LOCAL_SSD_GB));
        }
        if order.external_ip {
            demand.push(("IN_USE_ADDRESSES".to_owned(), 1.0));
        }
        for wanted in &order.disks {
            let WantedKind::New { name, disk_type, size_gb, .. } = &wanted.kind else { continue };
            if !self.disks.contains_key(&(zone.to_owned(), name.clone())) {
                demand.push((disk_metric(disk_type).to_owned(), amount(*size_gb)));
            }
        }
        demand
    }

    /// What is used in a region, and in all of them under `global`.
    pub(super) fn usage(&self, region: &str) -> BTreeMap<String, f64> {
        let mut usage: BTreeMap<String, f64> = BTreeMap::new();
        let mut add = |metric: String, by: f64| *usage.entry(metric).or_default() += by;
        let all = self.instances.values().filter(|it| it.fate != Fate::Doomed);
        for instance in all {
            if instance.uses_cpus() {
                add("CPUS_ALL_REGIONS".to_owned(), amount(instance.machine_type.cpus));
            }
            if region_of(&instance.zone) == region {
                self.add_instance(region, instance, &mut add);
            }
        }
        for disk in self.disks.values().filter(|disk| region_of(&disk.zone) == region) {
            add(disk_metric(&disk.disk_type).to_owned(), amount(disk.size_gb));
        }
        usage
    }

    fn add_instance(&self, region: &str, instance: &Instance, add: &mut impl FnMut(String, f64)) {
        add("INSTANCES".to_owned(), 1.0);
        if !instance.uses_cpus() {
            return;
        }
        let metric = self.metric_of_cpus(region, &instance.machine_type, instance.spot);
        add(metric, amount(instance.machine_type.cpus));
        let ssds = self.metric_of_ssds(region, instance.spot).to_owned();
        add(ssds, amount(instance.local_ssds) * LOCAL_SSD_GB);
        if instance.external_ip {
            add("IN_USE_ADDRESSES".to_owned(), 1.0);
        }
    }

    /// The first quota that the machine would break.
    pub(super) fn exceeded_quota(&self, zone: &str, order: &Order) -> Option<Failure> {
        if self.quotas.is_empty() {
            return None;
        }
        let region = region_of(zone);
        let usage = self.usage(region);
        let mut wanted: BTreeMap<String, f64> = BTreeMap::new();
        for (metric, by) in self.demand(zone, order) {
            *wanted.entry(metric).or_default() += by;
        }
        wanted.into_iter().find_map(|(metric, by)| {
            let limit = self.limit(region, &metric)?;
            if usage.get(&metric).copied().unwrap_or_default() + by <= limit {
                return None;
            }
            let (name, family) = match metric.split_once(':') {
                Some((name, family)) => (name, Some(family)),
                None => (metric.as_str(), None),
            };
            Some(Failure::quota(name, limit, region, family))
        })
    }

    /// `quotas` of a region or of the project; those that Google does not show there are left out.
    pub(super) fn show_quotas(&self, place: &str) -> Vec<Value> {
        let usage = self.usage(place);
        let limits = self.quotas.get(place).into_iter().flatten();
        let shown = limits.filter(|(metric, _)| !metric.contains(PER_FAMILY));
        let one = |(metric, limit): (&String, &f64)| {
            let used = usage.get(metric).copied().unwrap_or_default();
            json!({"metric": metric, "limit": limit, "usage": used})
        };
        shown.map(one).collect()
    }

    pub(super) fn has_room(&self, zone: &str, order: &Order) -> bool {
        self.fits(zone, &order.machine_type, order.spot)
    }

    fn fits(&self, zone: &str, machine_type: &MachineType, spot: bool) -> bool {
        if self.knobs.zones_down.contains(zone) {
            return false;
        }
        self.capacity.iter().filter(|rule| rule.covers(zone, &machine_type.name, spot)).all(
            |rule| {
                let there = self.instances.values().filter(|it| {
                    it.uses_cpus() && rule.covers(&it.zone, &it.machine_type.name, it.spot)
                });
                u32::try_from(there.count()).is_ok_and(|there| there < rule.machines)
            },
        )
    }

    pub(super) fn stockout(&self, zone: &str, order: &Order) -> Failure {
        let region = region_of(zone);
        let others = self.settings.zones.iter().filter(|other| {
            *other != zone
                && region_of(other) == region
                && self.fits(other, &order.machine_type, order.spot)
        });
        let others: Vec<String> = others.cloned().collect();
        Failure::stockout(&self.settings.project, zone, &order.machine_type.name, &others)
    }
}

impl Capacity {
    fn covers(&self, zone: &str, machine_type: &str, spot: bool) -> bool {
        let by_type = self.machine_type.as_ref().is_none_or(|wanted| {
            wanted
                .strip_suffix('*')
                .map_or(wanted == machine_type, |it| machine_type.starts_with(it))
        });
        self.zone.as_ref().is_none_or(|wanted| wanted == zone)
            && by_type
            && self.spot.is_none_or(|wanted| wanted == spot)
    }
}
