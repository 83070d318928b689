//! The cloud of a day: what each zone has of each family and how waves of stockouts take that away,
//! the quotas of each region and how they change, and which machines it takes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use planner::{Failure, FailureClass, Offer, Policy, Shortage, Timestamp};

use super::super::backends::{Fate, Machine, Place, Stage};
use super::super::dice::Dice;
use super::super::faults::Kind;
use super::super::world::{BASE, Happening, Sim};
use super::Size;

/// vCPU that a zone has of a family, on demand and on spot.
const POOL: [u32; 2] = [450, 550];
/// The quotas of a region, in vCPU.
const PREEMPTIBLE: &str = "PREEMPTIBLE_CPUS";
const PREEMPTIBLE_CPU: u32 = 3200;
const FAMILY_CPU: u32 = 1500;
/// A machine of the largest shape has a place even in a small cloud.
const LEAST: u32 = 64;
/// How many waves a day has, how many families each takes, and how long it lasts in a zone.
const WAVES: u64 = 9;
const FAMILIES: usize = 3;
const WAVE_PERMILLE: [u64; 2] = [15, 70];
/// The next zone of the region is reached so much later.
const NEXT_ZONE_PERMILLE: [u64; 2] = [0, 12];
const QUOTA_CHANGES: u64 = 8;
/// Of a thousand machines so many are taken back; only spot machines are.
const PREEMPTED: u64 = 50;
const HINTED: u64 = 500;

/// A zone is short of some families for a while: of those on spot, or of all.
#[derive(Clone, Debug)]
struct Stockout {
    from: Timestamp,
    to: Timestamp,
    zone: Arc<str>,
    families: BTreeSet<Arc<str>>,
    spot_only: bool,
    /// Hundredths of what it has at other times.
    leaves: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct QuotaKey {
    region: Arc<str>,
    metric: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Cloud {
    size: Size,
    zones: Vec<Arc<str>>,
    stockouts: Vec<Stockout>,
    /// From when on which number of vCPU; what is not here has the usual.
    quotas: BTreeMap<QuotaKey, Vec<(Timestamp, u32)>>,
    made: u64,
    made_on_spot: u64,
}

impl Cloud {
    pub(super) fn of(size: Size, policy: &Policy, dice: &mut Dice) -> Self {
        let vms = policy.backends.values().find_map(|backend| backend.vms.as_ref());
        let vms = vms.expect("the day has a backend of virtual machines");
        let (zones, families) = (vms.zones.clone(), vms.families.clone());
        let mut cloud = Self {
            size,
            zones,
            stockouts: Vec::new(),
            quotas: BTreeMap::new(),
            made: 0,
            made_on_spot: 0,
        };
        cloud.draw_waves(&families, dice);
        cloud.draw_quotas(vms, dice);
        cloud
    }

    fn moment(&self, permille: u64) -> Timestamp {
        Timestamp::from_millis(BASE + self.size.millis() * permille / 1000)
    }

    /// They come while others need machines too: more by day than by night.
    fn draw_waves(&mut self, families: &[Arc<str>], dice: &mut Dice) {
        for wave in 0..WAVES {
            let mut from = 60 + wave * 880 / WAVES + dice.between(0, 40);
            let region = region(&self.zones[dice.index(self.zones.len())]).to_owned();
            let families: BTreeSet<_> =
                (0..FAMILIES).map(|_| Arc::clone(&families[dice.index(families.len())])).collect();
            let spot_only = dice.chance(500);
            for zone in self.zones.clone() {
                if *region != *self::region(&zone) {
                    continue;
                }
                let [least, most] = WAVE_PERMILLE;
                let to = from + dice.between(least, most);
                let leaves = dice.small(0, 20);
                let (from_at, to_at) = (self.moment(from), self.moment(to));
                let families = families.clone();
                let stockout =
                    Stockout { from: from_at, to: to_at, zone, families, spot_only, leaves };
                self.stockouts.push(stockout);
                let [least, most] = NEXT_ZONE_PERMILLE;
                from += dice.between(least, most);
            }
        }
    }

    /// The operator asks for more, and now and then Google gives less.
    fn draw_quotas(&mut self, vms: &planner::Vms, dice: &mut Dice) {
        let mut metrics: Vec<Arc<str>> = vec![PREEMPTIBLE.into(); 3];
        let families = &vms.tables.families.families;
        metrics.extend(vms.families.iter().map(|name| Arc::clone(&families[name].quota)));
        for change in 0..QUOTA_CHANGES {
            let metric = Arc::clone(&metrics[dice.index(metrics.len())]);
            let region = region(&self.zones[dice.index(self.zones.len())]).into();
            let usual = self.usual(&metric);
            let low = (usual * dice.small(35, 70) / 100).max(LEAST);
            let high = usual * dice.small(100, 150) / 100;
            let from = 80 + change * 850 / QUOTA_CHANGES + dice.between(0, 60);
            let to = from + dice.between(30, 120);
            let steps = [(self.moment(from), low), (self.moment(to), high)];
            self.quotas.entry(QuotaKey { region, metric }).or_default().extend(steps);
        }
        self.quotas.values_mut().for_each(|steps| steps.sort());
    }

    fn usual(&self, metric: &str) -> u32 {
        let full = if metric == PREEMPTIBLE { PREEMPTIBLE_CPU } else { FAMILY_CPU };
        self.size.share(full).max(LEAST)
    }

    fn limit(&self, key: &QuotaKey, now: Timestamp) -> u32 {
        let steps = self.quotas.get(key).map_or(&[][..], Vec::as_slice);
        let last = steps.iter().rev().find(|(from, _)| *from <= now);
        last.map_or_else(|| self.usual(&key.metric), |(_, limit)| *limit)
    }

    /// vCPU of this family that the zone has in all.
    fn pool(&self, zone: &str, family: &str, spot: bool, now: Timestamp) -> u32 {
        let full = self.size.share(POOL[usize::from(spot)]).max(LEAST);
        let short = self.stockouts.iter().filter(|it| {
            *it.zone == *zone
                && it.families.contains(family)
                && (spot || !it.spot_only)
                && it.from <= now
                && now < it.to
        });
        let leaves = short.map(|it| it.leaves).min().unwrap_or(100);
        full * leaves / 100
    }
}

/// `europe-west4` of `europe-west4-a`.
fn region(zone: &str) -> &str {
    zone.rsplit_once('-').map_or(zone, |(region, _)| region)
}

fn quota_of(offer: &Offer) -> Option<QuotaKey> {
    let vm = offer.vm.as_ref()?;
    let metric = if offer.spot { PREEMPTIBLE.into() } else { Arc::clone(&vm.quota) };
    Some(QuotaKey { region: Arc::clone(&vm.region), metric })
}

fn family(offer: &Offer) -> Option<&Arc<str>> {
    offer.vm.as_ref().map(|vm| &vm.family)
}

/// Whole vCPU.
fn cpus<'a>(machines: impl Iterator<Item = &'a Machine>) -> u32 {
    machines.map(|machine| machine.seen.cpu.millis()).sum::<u32>().div_ceil(1000)
}

impl Sim<'_> {
    /// Machines that are there in truth, and not only in a list.
    fn there(&self) -> impl Iterator<Item = &Machine> {
        let refused = |machine: &&Machine| matches!(machine.fate, Fate::Refused(_));
        self.places.values().flat_map(Place::live).filter(move |machine| !refused(machine))
    }

    fn has_room(&self, zone: &str, offer: &Offer, cloud: &Cloud) -> bool {
        let Some(family_name) = family(offer) else { return true };
        let alike = |machine: &&Machine| {
            *machine.offer.place == *zone
                && machine.offer.spot == offer.spot
                && family(&machine.offer) == Some(family_name)
        };
        let used = cpus(self.there().filter(alike)) + offer.cpu.millis().div_ceil(1000);
        used <= cloud.pool(zone, family_name, offer.spot, self.now)
    }

    /// Whether the machine's zone does not have it; on any other day that is drawn by lot.
    pub(crate) fn is_short_of(&mut self, offer: &Offer) -> bool {
        let Some(day) = &self.day else { return false };
        let short = !self.has_room(&offer.place, offer, &day.cloud);
        if short {
            self.faults.count(Kind::RefusedLater);
        }
        short
    }

    /// In every second case the cloud says which of its zones do.
    pub(crate) fn shortage_of(&mut self, offer: &Offer) -> Option<Arc<Shortage>> {
        if self.day.is_none() || !self.dice.chance(HINTED) {
            return None;
        }
        let cloud = &self.day.as_ref()?.cloud;
        let here = cloud.zones.iter().filter(|zone| {
            region(zone) == region(&offer.place) && self.has_room(zone, offer, cloud)
        });
        Some(Arc::new(Shortage { metric: None, room_in: here.cloned().collect() }))
    }

    pub(crate) fn over_quota(&mut self, offer: &Offer) -> Option<Failure> {
        let key = quota_of(offer)?;
        let cloud = &self.day.as_ref()?.cloud;
        let alike = |machine: &&Machine| quota_of(&machine.offer).as_ref() == Some(&key);
        let used = cpus(self.there().filter(alike)) + offer.cpu.millis().div_ceil(1000);
        let limit = cloud.limit(&key, self.now);
        if used <= limit {
            return None;
        }
        self.faults.count(Kind::Quota);
        let QuotaKey { region, metric } = key;
        Some(Failure {
            class: FailureClass::Quota,
            words: format!("quota {metric} of {limit} is used up in {region}").into(),
            retry_after: None,
            shortage: Some(Arc::new(Shortage { metric: Some(metric), room_in: Vec::new() })),
        })
    }

    /// A machine was made. Of all machines one of twenty is taken back, at any time of its life:
    /// with a word before it or without one.
    pub(crate) fn may_be_preempted(&mut self, serial: u64) {
        let Some(machine) = self.machine(serial).filter(|machine| machine.fate == Fate::Runs)
        else {
            return;
        };
        let (job, spot) = (machine.seen.job, machine.offer.spot);
        let Some(cloud) = self.day.as_mut().map(|day| &mut day.cloud) else { return };
        cloud.made += 1;
        cloud.made_on_spot += u64::from(spot);
        let (made, made_on_spot) = (cloud.made, cloud.made_on_spot);
        if !spot || !self.dice.chance_of(PREEMPTED * made, 1000 * made_on_spot) {
            return;
        }
        let runs_for = self.buildkite.jobs.get(&job).map_or(Duration::ZERO, |job| job.runs_for);
        let life = runs_for + Duration::from_secs(40);
        let most = u64::try_from(life.as_millis()).expect("a short time");
        let taken = self.dice.millis(1_000, most);
        if let Some(day) = &mut self.day {
            day.taken.insert(serial, self.now.plus(taken));
        }
        let stage = if self.dice.chance(500) { Stage::Warned } else { Stage::Preempted };
        self.after(taken, Happening::Machine(serial, stage));
    }
}
