//! A job to be listed: what it asks for, and what we make of it.

use std::sync::Arc;
use std::time::Duration;

use planner::{
    Arch, Bytes, Cpu, Foreign, JobRow, Nic, Offer, Request, Shape, Spot, Timestamp, Verdict, Vm,
};

use super::scene::{here, id, no_offer};

/// A job to be listed, and what we make of it.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) number: u128,
    pub(super) queue: &'static str,
    scheduled: u64,
    priority: i64,
    cpu: u32,
    places: &'static [&'static str],
    /// Where it can be made otherwise.
    other: Option<&'static str>,
    /// Virtual machines instead: zone, family and whether on spot.
    vms: &'static [(&'static str, &'static str, bool)],
    pub(super) verdict: Option<Verdict>,
}

pub(super) fn job(number: u128) -> Job {
    Job {
        number,
        queue: "jit",
        scheduled: 0,
        priority: 0,
        cpu: 1,
        places: &[""],
        other: None,
        vms: &[],
        verdict: None,
    }
}

impl Job {
    pub(super) fn scheduled(self, scheduled: u64) -> Self {
        Self { scheduled, ..self }
    }

    pub(super) fn priority(self, priority: i64) -> Self {
        Self { priority, ..self }
    }

    pub(super) fn cpu(self, cpu: u32) -> Self {
        Self { cpu, ..self }
    }

    pub(super) fn queue(self, queue: &'static str) -> Self {
        Self { queue, ..self }
    }

    /// Where it can be made, all on one backend.
    pub(super) fn places(self, places: &'static [&'static str]) -> Self {
        Self { places, ..self }
    }

    /// On this backend, too, after the first.
    pub(super) fn or_on(self, backend: &'static str) -> Self {
        Self { other: Some(backend), ..self }
    }

    pub(super) fn vms(self, vms: &'static [(&'static str, &'static str, bool)]) -> Self {
        Self { vms, ..self }
    }

    pub(super) fn invalid(self) -> Self {
        Self { verdict: Some(Verdict::Invalid(no_offer())), ..self }
    }

    pub(super) fn foreign(self, tag: &str, nearest: Option<&str>) -> Self {
        let nearest = nearest.map(str::to_owned);
        let foreign = Foreign::UnknownTag { tag: tag.into(), nearest };
        Self { verdict: Some(Verdict::Foreign(foreign)), ..self }
    }

    /// A policy asks where its build comes from, and that is not known.
    pub(super) fn undecided(self) -> Self {
        Self { verdict: Some(Verdict::Undecided { policies: vec![1] }), ..self }
    }

    pub(super) fn row(&self) -> Arc<JobRow> {
        Arc::new(JobRow {
            id: id(self.number),
            queue: self.queue.into(),
            priority: self.priority,
            rules: Vec::new(),
            scheduled_at: Timestamp::from_millis(self.scheduled),
            runnable_at: None,
            pipeline: "web".into(),
            branch: "main".into(),
            build: 1,
            step: None,
        })
    }

    pub(super) fn request(&self) -> Arc<Request> {
        let (cpu, memory) = (Cpu::from_millis(self.cpu * 1000), Bytes::gib(1));
        let offer = |place: &&str| Offer {
            backend: here(),
            place: (*place).into(),
            machine_type: "".into(),
            spot: false,
            cpu,
            memory,
            // One millionth a second: what a machine costs is how long it lives.
            price_micros_per_hour: 3_600,
            vm: None,
        };
        Arc::new(Request {
            shape: Shape {
                cpu,
                memory,
                disk: None,
                disk_type: None,
                local_ssds: 0,
                arch: None,
                families: Vec::new(),
                or_any_family: false,
                no_rights: false,
                gpu: None,
                image: None,
                spot: Spot::Allow,
                time: Duration::from_secs(3600),
                zone: None,
                region: None,
            },
            offers: match self.vms {
                [] => {
                    let other = |backend: &str| Offer { backend: backend.into(), ..offer(&"") };
                    let first = self.places.iter().map(offer);
                    first.chain(self.other.map(other)).collect()
                }
                vms => vms.iter().map(|vm| virtual_machine(offer(&vm.0), vm)).collect(),
            },
            policies: Vec::new(),
            tags: Vec::new(),
            assumed: None,
        })
    }
}

fn virtual_machine(offer: Offer, (zone, family, spot): &(&str, &str, bool)) -> Offer {
    let vm = Vm {
        family: (*family).into(),
        region: zone.rsplit_once('-').map_or("", |(region, _)| region).into(),
        quota: if *family == "e2" { "CPUS".into() } else { "N2_CPUS".into() },
        disk_type: "pd-balanced".into(),
        disk: Bytes::gib(20),
        attached_ssds: 0,
        arch: Arch::Amd64,
        nic: Nic::Virtio,
        priced: true,
    };
    let machine_type = format!("{family}-standard-2").into();
    Offer { machine_type, spot: *spot, vm: Some(Arc::new(vm)), ..offer }
}
