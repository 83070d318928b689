//! What a project is like before the first job: what we may do with each thing that machines are
//! made of, asked where it is, and what there is of zones, families and quotas. It changes nothing,
//! here and at Google, and decides nothing: the words for people are made elsewhere.

mod rights;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use rights::{Right, Subject};

use super::access::EVERYTHING;
use super::call::{Api, Ask};
use super::list::pages;
use super::settings::region_of;
use super::{Inner, stamp};
use crate::contract::Error;

/// The quotas that are of the whole project have this in the place of a region.
const GLOBAL: &str = "global";

/// The state of a project for this backend.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Whether there is a token to call with. Without one there is nothing below.
    pub credentials: Result<(), Error>,
    pub rights: Vec<Right>,
    /// All zones that the project sees, and whether they are up.
    pub zones: Result<BTreeMap<String, bool>, Error>,
    /// By configured zone, how many machines of ours are there.
    pub machines: BTreeMap<String, Result<usize, Error>>,
    /// By configured zone, the families of which it has types.
    pub families: BTreeMap<String, Result<BTreeSet<String>, Error>>,
    /// By region of a configured zone, and for the whole project under `global`.
    pub quotas: BTreeMap<String, Result<Vec<Quota>, Error>>,
}

/// One metric, as Google counts it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Quota {
    /// `N2_CPUS`
    pub metric: String,
    pub limit: f64,
    #[serde(default)]
    pub usage: f64,
}

#[derive(Deserialize)]
struct Quotas {
    #[serde(default = "Vec::new")]
    quotas: Vec<Quota>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Zone {
    name: String,
    #[serde(default)]
    status: String,
}

pub(super) async fn probe(inner: &Inner) -> Probe {
    match Api::new(&inner.options, EVERYTHING) {
        Ok(api) => match api.has_token().await {
            Ok(()) => look(inner, &api).await,
            Err(error) => Probe::without(error),
        },
        Err(error) => Probe::without(error),
    }
}

impl Probe {
    fn without(error: Error) -> Self {
        Self {
            credentials: Err(error),
            rights: Vec::new(),
            zones: Ok(BTreeMap::new()),
            machines: BTreeMap::new(),
            families: BTreeMap::new(),
            quotas: BTreeMap::new(),
        }
    }
}

async fn look(inner: &Inner, api: &Api) -> Probe {
    let settings = &inner.options.settings;
    let regions: BTreeSet<&str> = settings.zones.iter().map(|zone| region_of(zone)).collect();
    let in_zones = async {
        let each = settings.zones.iter().map(async |zone| {
            let (machines, families) =
                tokio::join!(machines(api, zone, &settings.mark), families(api, zone));
            (zone.clone(), machines, families)
        });
        join_all(each).await
    };
    let in_regions = async {
        let each = regions.iter().map(async |region| {
            ((*region).to_owned(), quotas(api, format!("regions/{region}")).await)
        });
        let (mut found, everywhere) = tokio::join!(join_all(each), quotas(api, String::new()));
        found.push((GLOBAL.to_owned(), everywhere));
        found.into_iter().collect()
    };
    let (rights, zones, in_zones, quotas) =
        tokio::join!(rights::all(inner, api), zones(api), in_zones, in_regions);
    let mut probe = Probe {
        credentials: Ok(()),
        rights,
        zones,
        machines: BTreeMap::new(),
        families: BTreeMap::new(),
        quotas,
    };
    for (zone, machines, families) in in_zones {
        probe.machines.insert(zone.clone(), machines);
        probe.families.insert(zone, families);
    }
    probe
}

async fn zones(api: &Api) -> Result<BTreeMap<String, bool>, Error> {
    let fields = "items(name,status),nextPageToken,warning(code,message)";
    let found: Vec<Zone> = pages(api, "list zones", "", "zones", "", fields).await?;
    Ok(found.into_iter().map(|zone| (zone.name, zone.status == "UP")).collect())
}

async fn machines(api: &Api, zone: &str, mark: &str) -> Result<usize, Error> {
    let filter = format!("labels.{}={mark}", stamp::MARK);
    let names = names(api, "list", zone, &format!("zones/{zone}/instances"), &filter).await?;
    Ok(names.len())
}

/// `n2` of `n2-standard-4`.
async fn families(api: &Api, zone: &str) -> Result<BTreeSet<String>, Error> {
    let path = format!("zones/{zone}/machineTypes");
    let names = names(api, "list machine types", zone, &path, "").await?;
    let family = |name: &String| name.split('-').next().unwrap_or_default().to_owned();
    Ok(names.iter().map(family).collect())
}

async fn names(
    api: &Api,
    verb: &'static str,
    zone: &str,
    path: &str,
    filter: &str,
) -> Result<Vec<String>, Error> {
    let fields = "items(name),nextPageToken,warning(code,message)";
    let found: Vec<Named> = pages(api, verb, zone, path, filter, fields).await?;
    Ok(found.into_iter().map(|item| item.name).collect())
}

/// Of a region, or where the path is empty of the project.
async fn quotas(api: &Api, path: String) -> Result<Vec<Quota>, Error> {
    let verb = if path.is_empty() { "get the project" } else { "get the region" };
    let ask = Ask::get(verb, path).with("fields", "quotas(metric,limit,usage)");
    read::<Quotas>(api, ask).await.map(|found| found.quotas)
}

async fn read<T: DeserializeOwned>(api: &Api, ask: Ask<'_>) -> Result<T, Error> {
    api.read(ask).await.map_err(|refusal| refusal.error)
}
