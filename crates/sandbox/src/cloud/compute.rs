//! The mind of the Compute Engine: its machines, disks and operations as plain values. It reads no
//! clock, speaks no HTTP and starts no process; every call brings the time with it, and what has to
//! be done about machines is left as effects for the shell.

mod calls;
mod disks;
mod due;
mod insert;
mod instance;
mod lists;
mod log;
mod machine_type;
mod operation;
mod order;
mod quota;
mod rates;
mod reads;
mod serial;
mod settings;
mod stops;
#[cfg(test)]
mod traps;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

pub use calls::Call;
pub use disks::{Disk, NewDisk};
pub use instance::{Instance, Status};
pub use log::{Counters, Entry};
pub use machine_type::MachineType;
pub use operation::{Operation, Progress};
pub(super) use rates::Group;
pub use settings::{
    BorrowedIdentity, Capacity, Constraint, FailedInserts, Grants, Image, Knobs, Rates, Settings,
    Timing,
};

use super::refusal::Refusal;
use crate::dice::Dice;
use due::Due;
use rates::Minutes;

/// What resources are called in full.
const BASE: &str = "https://www.googleapis.com/compute/v1/";

/// What the shell has to do about a machine, by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Run its startup script.
    Boot(u64),
    /// Press its power button, and pull the plug after so many milliseconds.
    SoftOff { id: u64, patience_ms: u64 },
    /// Pull the plug.
    Kill(u64),
}

/// Zone and name.
type Key = (String, String);

/// The whole state of the cloud. See the modules for what it does.
pub struct Compute {
    settings: Settings,
    pub timing: Timing,
    /// All of those that apply have to have room.
    pub capacity: Vec<Capacity>,
    /// By region, and `global`; what is not named is not limited.
    quotas: BTreeMap<String, BTreeMap<String, f64>>,
    pub rates: Rates,
    pub constraints: BTreeSet<Constraint>,
    pub grants: Grants,
    knobs: Knobs,
    knobs_since: Timestamp,
    types: Vec<MachineType>,
    instances: BTreeMap<Key, Instance>,
    ids: HashMap<u64, Key>,
    disks: BTreeMap<Key, Disk>,
    operations: BTreeMap<String, Operation>,
    request_ids: HashMap<(String, Uuid), (Timestamp, String)>,
    minutes: Minutes,
    due: BinaryHeap<Reverse<(Timestamp, u64, Due)>>,
    effects: Vec<Effect>,
    log: log::Log,
    dice: Dice,
    sequence: u64,
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute")
            .field("settings", &self.settings)
            .field("instances", &self.instances.len())
            .field("disks", &self.disks.len())
            .finish_non_exhaustive()
    }
}

impl Compute {
    #[must_use]
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        Self {
            dice: Dice(settings.seed),
            settings,
            timing: Timing::default(),
            capacity: Vec::new(),
            quotas: BTreeMap::new(),
            rates: Rates::default(),
            constraints: BTreeSet::new(),
            grants: Grants::default(),
            knobs: Knobs::default(),
            knobs_since: now,
            types: MachineType::all(),
            instances: BTreeMap::new(),
            ids: HashMap::new(),
            disks: BTreeMap::new(),
            operations: BTreeMap::new(),
            request_ids: HashMap::new(),
            minutes: Minutes::default(),
            due: BinaryHeap::new(),
            effects: Vec::new(),
            log: log::Log::default(),
            sequence: 0,
        }
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    #[must_use]
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// Replaces what goes wrong; times among it count from now.
    pub fn set_knobs(&mut self, knobs: Knobs, now: Timestamp) {
        self.knobs = knobs;
        self.knobs_since = now;
    }

    /// Replaces the quotas: by region (and `global`) and metric.
    pub fn set_quotas(&mut self, quotas: BTreeMap<String, BTreeMap<String, f64>>) {
        self.quotas = quotas;
    }

    #[must_use]
    pub fn quotas(&self) -> &BTreeMap<String, BTreeMap<String, f64>> {
        &self.quotas
    }

    pub fn add_image(&mut self, image: Image) {
        self.settings.images.push(image);
    }

    /// All machines, by zone and name.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    #[must_use]
    pub fn instance(&self, zone: &str, name: &str) -> Option<&Instance> {
        self.instances.get(&(zone.to_owned(), name.to_owned()))
    }

    #[must_use]
    pub fn instance_by_id(&self, id: u64) -> Option<&Instance> {
        self.instances.get(self.ids.get(&id)?)
    }

    fn by_id_mut(&mut self, id: u64) -> Option<&mut Instance> {
        self.instances.get_mut(self.ids.get(&id)?)
    }

    /// All disks but local ones, by zone and name.
    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.disks.values()
    }

    /// All operations that can be looked up, by name.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values()
    }

    #[must_use]
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }

    /// What the shell has to do, in order; the list is empty afterwards.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    #[must_use]
    pub fn log(&self) -> &[Entry] {
        self.log.entries()
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.log.counters(self.instances.values(), self.disks.len())
    }

    pub fn clear_log(&mut self) {
        self.log.clear();
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// A number as Google gives them out: of 19 digits, and another one each time.
    fn next_id(&mut self) -> u64 {
        1_000_000_000_000_000_000 + self.dice.next() % 8_000_000_000_000_000_000
    }

    /// `projects/p/zones/z`
    fn zone_path(&self, zone: &str) -> String {
        format!("projects/{}/zones/{zone}", self.settings.project)
    }

    fn instance_path(&self, zone: &str, name: &str) -> String {
        format!("{}/instances/{name}", self.zone_path(zone))
    }

    fn check_zone(&self, zone: &str) -> Result<(), Refusal> {
        if self.settings.zones.iter().any(|known| known == zone) {
            return Ok(());
        }
        Err(Refusal::invalid("zone", zone, "Unknown zone."))
    }
}
