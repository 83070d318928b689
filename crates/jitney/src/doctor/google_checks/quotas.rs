//! Whether the quotas of the regions, as Google counts them, leave what the configuration's limits
//! allow. A quota that is smaller than a limit breaks nothing: jobs wait, and are told so.

use std::collections::{BTreeMap, BTreeSet};

use backends::Error;
use backends::gce::Quota;
use planner::{BOOT_DISK, BackendName, LOCAL_SSD_GIB, SpotPolicy};

use super::{Finding, reading};
use crate::config::Config;
use crate::config::backends::clouds::Gce;
use crate::config::queues::{Limits, Queue};

/// In the place of a region: the whole project.
const GLOBAL: &str = "global";
/// Of all vCPU of all regions.
const ALL_CPUS: &str = "CPUS_ALL_REGIONS";
const SPOT_CPUS: &str = "PREEMPTIBLE_CPUS";

/// What Google said, of all places.
type Places = BTreeMap<String, Result<Vec<Quota>, Error>>;

pub(super) fn all(
    config: &Config,
    name: &BackendName,
    wanted: &Gce,
    places: &Places,
) -> Vec<Finding> {
    let check = format!("{name}: quotas");
    let mut findings = Vec::new();
    let mut known: BTreeMap<&str, &[Quota]> = BTreeMap::new();
    for (place, quotas) in places {
        match quotas {
            Ok(quotas) => {
                known.insert(place, quotas);
            }
            Err(error) => {
                let found = format!("nobody says what the quotas of {place} are: {error}");
                findings.push(Finding::warning(check.clone(), found, reading(name, wanted)));
            }
        }
    }
    let quotas = Known { project: &wanted.project, check: &check, places: known };
    let short = quotas.against(config, name, wanted);
    if short.is_empty() {
        findings.extend(quotas.shown(wanted, config));
    }
    findings.extend(short);
    findings
}

/// The queues that make machines there.
pub(super) fn served<'a>(
    config: &'a Config,
    name: &'a BackendName,
) -> impl Iterator<Item = &'a Queue> {
    config.queues.values().filter(|queue| queue.backends.iter().any(|of| of == name.as_str()))
}

/// The most machines that the limits allow there; none where nothing limits them.
pub(super) fn most_machines(config: &Config, name: &BackendName) -> Option<u32> {
    tightest(config, name, |limits| limits.machines)
}

/// The least of what limits all, the backend, and its queues together.
fn tightest(
    config: &Config,
    name: &BackendName,
    of: impl Fn(&Limits) -> Option<u32>,
) -> Option<u32> {
    let backend = config.backends.get(name).and_then(|backend| of(&backend.limits));
    let queues: Option<Vec<u32>> = served(config, name).map(|queue| of(&queue.limits)).collect();
    let queues = queues.map(|all| all.iter().fold(0_u32, |sum, one| sum.saturating_add(*one)));
    [of(&config.limits), backend, queues].into_iter().flatten().min()
}

struct Known<'a> {
    project: &'a str,
    check: &'a str,
    /// By region, and `global`.
    places: BTreeMap<&'a str, &'a [Quota]>,
}

impl Known<'_> {
    fn limit(&self, place: &str, metric: &str) -> Option<f64> {
        let quotas = self.places.get(place)?;
        quotas.iter().find(|quota| quota.metric == metric).map(|quota| quota.limit)
    }

    fn regions(&self) -> impl Iterator<Item = &str> {
        self.places.keys().copied().filter(|place| *place != GLOBAL)
    }

    /// In all regions together; none where one of them does not say.
    fn sum(&self, metric: &str) -> Option<f64> {
        let all: Option<Vec<f64>> =
            self.regions().map(|region| self.limit(region, metric)).collect();
        all.filter(|all| !all.is_empty()).map(|all| all.iter().sum())
    }

    fn against(&self, config: &Config, name: &BackendName, wanted: &Gce) -> Vec<Finding> {
        let mut findings = Vec::new();
        let machines = most_machines(config, name).map(f64::from);
        findings.extend(self.short(&["INSTANCES"], machines, "machines"));
        if wanted.external_ip {
            findings.extend(self.short(&["IN_USE_ADDRESSES"], machines, "external addresses"));
        }
        findings.extend(self.of_cpus(config, name, wanted));
        // Where no limit is set the machines are as many as their own quota has.
        let machines = machines.or_else(|| self.sum("INSTANCES"));
        let disk = served(config, name).map(|queue| queue.defaults.disk.unwrap_or(BOOT_DISK)).max();
        let gib = disk.unwrap_or(BOOT_DISK).get() >> 30;
        let each = f64::from(u32::try_from(gib).unwrap_or(u32::MAX));
        let metrics: Vec<&str> = disk_metrics(config, wanted).into_iter().collect();
        let what = format!("GB of disks, {gib} for each machine");
        findings.extend(self.short(&metrics, machines.map(|all| all * each), &what));
        let asked = |queue: &Queue| {
            [queue.defaults.local_ssd, queue.largest.local_ssd].into_iter().flatten().max()
        };
        if let Some(most) = served(config, name).filter_map(asked).max() {
            let needed = Some(f64::from(most) * f64::from(LOCAL_SSD_GIB));
            findings.extend(self.short(
                &["LOCAL_SSD_TOTAL_GB"],
                needed,
                "GB of local SSDs for a job",
            ));
        }
        findings
    }

    /// Metrics that together leave less than the limits allow. What a region does not name it does
    /// not limit by that metric, as far as anybody can see.
    fn short(&self, metrics: &[&str], needed: Option<f64>, what: &str) -> Option<Finding> {
        let needed = needed?;
        let all: Option<Vec<f64>> = metrics.iter().map(|metric| self.sum(metric)).collect();
        let has: f64 = all?.iter().sum();
        let first = metrics.first().filter(|_| has < needed)?;
        let regions: Vec<&str> = self.regions().collect();
        let (names, place) = (metrics.join(" and "), regions.join(" and "));
        let found = format!(
            "{names} of {place}: {has}, and the limits allow {needed} {what}; jobs beyond it wait"
        );
        let region = regions.first().copied().unwrap_or_default();
        Some(Finding::warning(self.check, found, self.raise(first, region, needed)))
    }

    /// Each family counts by itself, and all of them together have to do.
    fn of_cpus(&self, config: &Config, name: &BackendName, wanted: &Gce) -> Vec<Finding> {
        let mut findings = Vec::new();
        let limit = tightest(config, name, |limits| limits.cpu.map(|cpu| cpu.millis() / 1_000));
        let limit = limit.map(f64::from);
        let metrics = cpu_metrics(config, wanted);
        for (metric, families) in &metrics {
            for region in self.regions().filter(|region| self.limit(region, metric) == Some(0.0)) {
                let found = format!(
                    "{metric} is 0 in {region}: no {} is made there",
                    families.join(" or ")
                );
                let needed = limit.unwrap_or(LEAST_CPUS);
                let remedy = self.raise(metric, region, needed);
                findings.push(Finding::warning(self.check, found, remedy));
            }
        }
        let names: Vec<&str> = metrics.keys().map(String::as_str).collect();
        findings.extend(self.short(&names, limit, "vCPU"));
        if let (Some(limit), Some(has)) = (limit, self.limit(GLOBAL, ALL_CPUS))
            && has < limit
        {
            let found = format!(
                "{ALL_CPUS} of the whole project: {has}, and the limits allow {limit} vCPU; jobs beyond it wait"
            );
            findings.push(Finding::warning(self.check, found, self.raise(ALL_CPUS, GLOBAL, limit)));
        }
        // While it is 0 spot counts as on demand.
        let spot_only = served(config, name).any(|queue| queue.spot == SpotPolicy::Require);
        let spot = self.sum(SPOT_CPUS).filter(|has| *has > 0.0 && spot_only);
        if spot.is_some() {
            findings.extend(self.short(&[SPOT_CPUS], limit, "vCPU, and a queue takes spot alone"));
        }
        findings
    }

    /// The command that asks for more; Google looks at it.
    fn raise(&self, metric: &str, place: &str, needed: f64) -> String {
        let project = self.project;
        let quota = metric.replace('_', "-");
        let (id, dimension) = if place == GLOBAL {
            (format!("{quota}-per-project"), String::new())
        } else {
            (format!("{quota}-per-project-region"), format!(" --dimensions=region={place}"))
        };
        format!(
            "gcloud beta quotas preferences create --project={project} --service=compute.googleapis.com --quota-id={id} --preferred-value={needed}{dimension}, or lower the limits"
        )
    }

    /// What there is, where nothing is short.
    fn shown(&self, wanted: &Gce, config: &Config) -> Vec<Finding> {
        let mut metrics: BTreeSet<String> = cpu_metrics(config, wanted).into_keys().collect();
        metrics.extend(disk_metrics(config, wanted).into_iter().map(str::to_owned));
        metrics.extend(["INSTANCES".to_owned(), SPOT_CPUS.to_owned(), ALL_CPUS.to_owned()]);
        if wanted.external_ip {
            metrics.insert("IN_USE_ADDRESSES".to_owned());
        }
        let each = self.places.iter().filter_map(|(place, quotas)| {
            let counted = quotas.iter().filter(|quota| metrics.contains(&quota.metric));
            let words: Vec<String> = counted
                .map(|Quota { metric, limit, usage }| format!("{metric} {usage} of {limit}"))
                .collect();
            let found = format!("{place}: {} are used", words.join(", "));
            (!words.is_empty()).then(|| Finding::ok(self.check, found))
        });
        let found: Vec<Finding> = each.collect();
        if found.is_empty() {
            vec![Finding::ok(self.check, "Google names none that machines count in")]
        } else {
            found
        }
    }
}

/// Enough for the first jobs, where no limit says how many.
const LEAST_CPUS: f64 = 100.0;

/// By metric, the families whose vCPU count in it.
fn cpu_metrics(config: &Config, wanted: &Gce) -> BTreeMap<String, Vec<String>> {
    let tables = config.tables();
    let mut metrics: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, family) in &tables.families.families {
        if wanted.families.is_empty() || wanted.families.iter().any(|named| **named == **name) {
            metrics.entry(family.quota.to_string()).or_default().push(name.to_string());
        }
    }
    metrics
}

/// What boot disks count in: of the configured kind, or of what the families have by themselves.
fn disk_metrics(config: &Config, wanted: &Gce) -> BTreeSet<&'static str> {
    let of = |kind: &str| match kind {
        "pd-standard" => "DISKS_TOTAL_GB",
        kind if kind.starts_with("hyperdisk") => "HDB_TOTAL_GB",
        _ => "SSD_TOTAL_GB",
    };
    if let Some(kind) = &wanted.disk_type {
        return [of(kind)].into();
    }
    // Where the first family that is preferred takes another kind, its quota is another one.
    let tables = config.tables();
    let families = wanted.families.iter().filter_map(|name| tables.families.families.get(&**name));
    let first = families.filter_map(|family| family.disks.first());
    let metrics: BTreeSet<&str> = first.map(|kind| of(kind)).collect();
    if metrics.is_empty() { ["SSD_TOTAL_GB"].into() } else { metrics }
}
