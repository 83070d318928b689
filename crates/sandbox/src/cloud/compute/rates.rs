//! How many calls a minute are let through: for each region and kind of call, all counted by the
//! same minutes of the clock, so that whoever waits for the edge wakes with everybody else.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Compute;
use super::settings::{Rates, region_of};
use crate::cloud::refusal::Refusal;

/// The kinds of calls that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Writes,
    Reads,
    OperationReads,
    HeavyReads,
    SerialPortReads,
}

impl Group {
    /// That of a method; calls of other services are not counted.
    pub(crate) fn of(method: &str) -> Option<Self> {
        let name = method.strip_prefix("compute.")?;
        Some(match name {
            "instances.getSerialPortOutput" => Self::SerialPortReads,
            "zoneOperations.get" | "zoneOperations.list" => Self::OperationReads,
            "zoneOperations.wait" => Self::HeavyReads,
            "instances.insert"
            | "instances.delete"
            | "instances.setLabels"
            | "instances.setMetadata"
            | "instances.stop"
            | "instances.getGuestAttributes"
            | "disks.delete"
            | "disks.setLabels" => Self::Writes,
            _ if name.ends_with(".aggregatedList") => Self::HeavyReads,
            _ => Self::Reads,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Writes => "writes_per_region",
            Self::Reads => "reads_per_region",
            Self::OperationReads => "operation_reads_per_region",
            Self::HeavyReads => "heavy_weight_reads_per_region",
            Self::SerialPortReads => "serial_port_reads_per_region",
        }
    }

    fn limit(self, rates: &Rates) -> u32 {
        match self {
            Self::Writes => rates.writes,
            Self::Reads => rates.reads,
            Self::OperationReads => rates.operation_reads,
            Self::HeavyReads => rates.heavy_reads,
            Self::SerialPortReads => rates.serial_port_reads,
        }
    }
}

/// The minute that runs, and what has come in it.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    minute: i64,
    counts: BTreeMap<(String, Group), u32>,
}

impl Compute {
    /// Counts a call, or refuses it until the minute ends.
    pub(crate) fn count(
        &mut self,
        group: Group,
        path: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let minute = now.as_second().div_euclid(60);
        if minute != self.minutes.minute {
            self.minutes = Minutes { minute, counts: BTreeMap::new() };
        }
        let region = match (path.get("zone"), path.get("region")) {
            (Some(zone), _) => region_of(zone),
            (None, Some(region)) => region,
            (None, None) => "global",
        };
        let limit = group.limit(&self.rates);
        let count = self.minutes.counts.entry((region.to_owned(), group)).or_default();
        if *count >= limit {
            let number = self.settings.project_number;
            return Err(Refusal::rate(group.name(), limit, region, number));
        }
        *count += 1;
        Ok(())
    }
}
