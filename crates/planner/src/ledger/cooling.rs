//! What is left alone for a while because it refused machines: a place as a whole, one type of
//! virtual machine in it, or all that counts in a quota of its region. Whoever is kept away does not
//! make the wait longer; only another refusal does.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::doubled;
use crate::offer::region_of;
use crate::{
    Attempt, BackendName, Failure, FailureClass, JobId, Ledger, Offer, Request, Timestamp, Vm,
};

/// How long a place is left alone after a failure that time may heal.
const COOL_FIRST: Duration = Duration::from_secs(5);
const COOL_MOST: Duration = Duration::from_secs(300);
/// The same where one machine tells, without harm to any job, whether there is room again.
const COOL_REFUSED_MOST: Duration = Duration::from_secs(30);

/// What refused a machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Refuser {
    pub(crate) backend: BackendName,
    /// A place; of a metric the region.
    pub(crate) place: Arc<str>,
    /// Older ledgers know whole places only.
    #[serde(default, skip_serializing_if = "Refuses::is_all")]
    pub(crate) what: Refuses,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refuses {
    /// Every machine there.
    #[default]
    All,
    /// Virtual machines of one type.
    Type { machine_type: Arc<str>, spot: bool },
    /// What counts in this quota.
    Metric { metric: Arc<str> },
}

impl Refuses {
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// How long it is left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cooling {
    pub failure: Failure,
    /// When it failed.
    pub since: Timestamp,
    pub until: Timestamp,
    /// How many times in a row: the next wait is longer.
    pub times: u32,
    /// It takes creates, and refuses the machines later: an answer to a create says nothing of it.
    #[serde(default)]
    pub took_creates: bool,
}

impl Refuser {
    /// What a failure tells of, beyond the one machine.
    fn of(attempt: &Attempt, failure: &Failure) -> Self {
        let backend = attempt.backend.clone();
        let Some(offer) = &attempt.offer else {
            return Self { backend, place: "".into(), what: Refuses::All };
        };
        let vm = offer.vm.as_ref();
        match (vm, failure.class) {
            (Some(_), FailureClass::Capacity | FailureClass::Denied) => Self::type_of(offer),
            (Some(vm), FailureClass::Quota) => {
                let said = failure.shortage.as_ref().and_then(|shortage| shortage.metric.as_ref());
                Self::quota_of(offer, vm, said.unwrap_or(&vm.quota))
            }
            (
                _,
                FailureClass::Capacity
                | FailureClass::Quota
                | FailureClass::Rate
                | FailureClass::Ambiguous
                | FailureClass::Rejected
                | FailureClass::Denied
                | FailureClass::EndedEarly
                | FailureClass::StartTimeout
                | FailureClass::Lost,
            ) => Self { backend, place: Arc::clone(&offer.place), what: Refuses::All },
        }
    }

    fn type_of(offer: &Offer) -> Self {
        let (machine_type, spot) = (Arc::clone(&offer.machine_type), offer.spot);
        Self {
            backend: offer.backend.clone(),
            place: Arc::clone(&offer.place),
            what: Refuses::Type { machine_type, spot },
        }
    }

    fn quota_of(offer: &Offer, vm: &Vm, metric: &Arc<str>) -> Self {
        Self {
            backend: offer.backend.clone(),
            place: Arc::clone(&vm.region),
            what: Refuses::Metric { metric: Arc::clone(metric) },
        }
    }

    /// Whether it would refuse this machine too.
    pub(crate) fn refuses(&self, offer: &Offer) -> bool {
        self.backend == offer.backend
            && match &self.what {
                Refuses::All => self.place == offer.place,
                Refuses::Type { machine_type, spot } => {
                    self.place == offer.place
                        && *machine_type == offer.machine_type
                        && *spot == offer.spot
                }
                Refuses::Metric { metric } => {
                    offer.vm.as_ref().is_some_and(|vm| vm.region == self.place)
                        && counts_in(offer, metric)
                }
            }
    }
}

/// Whether such a machine counts in this quota. The vCPU of each family have their own; what is not
/// of vCPU (addresses, disks, instances) is of all machines of the region.
fn counts_in(offer: &Offer, metric: &str) -> bool {
    let Some(vm) = &offer.vm else { return false };
    match metric {
        "PREEMPTIBLE_CPUS" => offer.spot,
        metric
            if metric.starts_with("LOCAL_SSD") || metric.starts_with("PREEMPTIBLE_LOCAL_SSD") =>
        {
            vm.attached_ssds > 0 || offer.machine_type.ends_with("-lssd")
        }
        metric if metric == "CPUS" || metric.ends_with("_CPUS") => metric == &*vm.quota,
        _ => true,
    }
}

impl Ledger {
    /// What keeps such a machine from being made for longest: a refusal that is of it too, or a
    /// denial anywhere on its backend, which is of all of it. Of virtual machines it need not be: a
    /// policy may be about some places or types only.
    pub(crate) fn cooling_at(&self, offer: &Offer) -> Option<&Cooling> {
        let here = self.cooling.iter().filter(|(refuser, cooling)| {
            let denied = offer.vm.is_none() && cooling.failure.class == FailureClass::Denied;
            (denied && refuser.backend == offer.backend) || refuser.refuses(offer)
        });
        here.map(|(_, cooling)| cooling).max_by_key(|cooling| cooling.until)
    }

    /// A machine was made: what would have refused it takes machines again. Of what took a create
    /// before and then refused its machine, an answer to a create says nothing yet.
    pub(super) fn made(&mut self, attempt: &Attempt) {
        self.thaw(attempt, |cooling| !cooling.took_creates);
    }

    /// An agent came up there: the place takes machines.
    pub(super) fn warm(&mut self, job: JobId, number: u32) {
        if self.cooling.is_empty() {
            return;
        }
        let Some(entry) = self.entries.get(&job) else { return };
        let attempt = entry.attempts.iter().find(|known| known.number == number).cloned();
        if let Some(attempt) = attempt {
            let asked_at = attempt.intended_at;
            self.thaw(&attempt, |cooling| asked_at >= cooling.until);
        }
    }

    fn thaw(&mut self, attempt: &Attempt, over: impl Fn(&Cooling) -> bool) {
        let Some(offer) = &attempt.offer else {
            let whole = |refuser: &Refuser| {
                refuser.backend == attempt.backend
                    && refuser.place.is_empty()
                    && refuser.what.is_all()
            };
            return self.cooling.retain(|refuser, cooling| !(whole(refuser) && over(cooling)));
        };
        self.cooling.retain(|refuser, cooling| !(refuser.refuses(offer) && over(cooling)));
    }

    /// Where a second type of virtual machine is denied, all are: nothing is gained by having every
    /// one of them denied for each job.
    fn widened(&self, refuser: Refuser, failure: &Failure) -> Refuser {
        let second = failure.class == FailureClass::Denied
            && self.cooling.iter().any(|(known, cooling)| {
                cooling.failure.class == FailureClass::Denied
                    && (&known.backend, &known.place) == (&refuser.backend, &refuser.place)
                    && known.what != refuser.what
            });
        if second { Refuser { what: Refuses::All, ..refuser } } else { refuser }
    }

    /// Creates that were under way together and fail together are one failure of what refused them.
    /// Where the backend said in which places there is room, the others of the region have none
    /// either.
    pub(super) fn cool(
        &mut self,
        attempt: &Attempt,
        request: Option<&Request>,
        failure: Failure,
        (asked_at, at): (Timestamp, Timestamp),
        took_creates: bool,
    ) {
        let refuser = self.widened(Refuser::of(attempt, &failure), &failure);
        let times = self.cooling.get(&refuser).map_or(1, |known| {
            if asked_at <= known.since { known.times } else { known.times.saturating_add(1) }
        });
        let most = if took_creates { COOL_REFUSED_MOST } else { COOL_MOST };
        let pause = failure.retry_after.unwrap_or(doubled(COOL_FIRST, times - 1, most));
        let until = at.plus(pause);
        self.cooling.retain(|_, cooling| at.since(cooling.until) < COOL_MOST);
        let mut others = others(attempt, request, &failure);
        if let Some(offer) = &attempt.offer
            && let Some(vm) = &offer.vm
            && !refuser.refuses(offer)
        {
            // A quota of which nobody would think that this machine counts in it; it did, so the
            // others of its family do.
            others.push(Refuser::quota_of(offer, vm, &vm.quota));
        }
        let cooling = Cooling { failure, since: at, until, times, took_creates };
        for other in others {
            let known = self.cooling.entry(other).or_insert_with(|| cooling.clone());
            if known.until < until {
                *known = cooling.clone();
            }
        }
        self.cooling.insert(refuser, cooling);
    }
}

/// The same type in the other places of the region, but for those that the backend names.
fn others(attempt: &Attempt, request: Option<&Request>, failure: &Failure) -> Vec<Refuser> {
    let room = failure.shortage.as_ref().map_or(&[][..], |shortage| &shortage.room_in);
    let (Some(refused), Some(request), false) = (&attempt.offer, request, room.is_empty()) else {
        return Vec::new();
    };
    if failure.class != FailureClass::Capacity || refused.vm.is_none() {
        return Vec::new();
    }
    let alike = |offer: &&Offer| {
        offer.backend == refused.backend
            && offer.machine_type == refused.machine_type
            && offer.spot == refused.spot
            && offer.place != refused.place
            && region_of(&offer.place) == region_of(&refused.place)
            && !room.contains(&offer.place)
    };
    request.offers.iter().filter(alike).map(Refuser::type_of).collect()
}
