//! What the watches have shown of our objects. It is fed by them and by the answers to our own
//! creates, so that what we made is there at once; what is not there is gone, or was never made.

mod known;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use self::known::{Known, Machines};
pub(super) use self::known::{Orphan, Readers};
use super::read::{self, Seen};
use super::seen::{Event, Job, Pod};
use crate::contract::{Error, Listing};

/// Of objects that are not there, events are kept until the next listing.
const MOST_EVENTS: usize = 20_000;

/// A watch's own view of how it stands.
#[derive(Clone, Debug, Default)]
pub(super) enum Health {
    /// It has not listed yet.
    #[default]
    Beginning,
    Fine,
    Failing(Error),
}

/// The kinds without which there is no listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    Jobs,
    Pods,
}

#[derive(Debug)]
pub(super) struct Cache {
    inner: Mutex<Inner>,
    /// Counts changes.
    changes: watch::Sender<u64>,
    /// Counts what is gone and has left something behind that nobody owns.
    orphans: watch::Sender<u64>,
    mark: String,
}

#[derive(Debug, Default)]
struct Inner {
    machines: Machines,
    /// By the uid of what they are about.
    not_created: BTreeMap<Uuid, Event>,
    not_mounted: BTreeMap<Uuid, Event>,
    jobs_health: Health,
    pods_health: Health,
    /// The version up to which the watch of Jobs has told everything.
    jobs_version: u64,
}

impl Cache {
    pub(super) fn new(mark: &str) -> Self {
        let (changes, orphans) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { inner: Mutex::default(), changes, orphans, mark: mark.to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds this lock")
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// What tells of changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What tells that there may be a Secret that nobody owns.
    pub(super) fn orphans(&self) -> watch::Receiver<u64> {
        self.orphans.subscribe()
    }

    /// Who may still read a Secret, as soon as all machines are known.
    pub(super) async fn readers(&self) -> Readers {
        let mut changes = self.changes();
        loop {
            if let Some(readers) = self.lock().readers() {
                return readers;
            }
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// All Jobs as of this version. Those that we made since are newer, and stay.
    pub(super) fn all_jobs(&self, jobs: Vec<Job>, version: u64) {
        self.change(|inner| {
            inner.machines.drop_jobs_up_to(version);
            for job in jobs {
                if !inner.machines.has_job(&job.metadata.name) {
                    inner.machines.put_job(job);
                }
            }
            inner.jobs_version = version;
            inner.jobs_health = Health::Fine;
            inner.tidy();
        });
    }

    pub(super) fn all_pods(&self, pods: Vec<Pod>) {
        self.change(|inner| {
            inner.machines.drop_pods();
            pods.into_iter().for_each(|pod| inner.machines.put_pod(pod));
            inner.pods_health = Health::Fine;
            inner.tidy();
        });
    }

    pub(super) fn job(&self, job: Job) {
        self.change(|inner| {
            inner.jobs_version = inner.jobs_version.max(job.metadata.version);
            inner.machines.put_job(job);
        });
    }

    /// A Job that we have just made. The watch may have been faster, also in showing that it is
    /// gone again.
    pub(super) fn made(&self, job: Job) {
        let version = job.metadata.version;
        self.change(|inner| {
            let old = inner.jobs_version >= version && version > 0;
            if !old && !inner.machines.has_job(&job.metadata.name) {
                inner.machines.put_job(job);
            }
        });
    }

    pub(super) fn job_gone(&self, job: &Job) {
        let mut orphans = false;
        self.change(|inner| {
            inner.jobs_version = inner.jobs_version.max(job.metadata.version);
            let last = inner.machines.take_job(&job.metadata.name);
            orphans = last.is_some_and(|last| last.metadata.leaves_orphans);
            inner.not_created.remove(&job.metadata.uid);
        });
        self.tell_of(orphans);
    }

    fn tell_of(&self, orphans: bool) {
        if orphans {
            self.orphans.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    pub(super) fn jobs_told_up_to(&self, version: u64) {
        let mut inner = self.lock();
        inner.jobs_version = inner.jobs_version.max(version);
    }

    pub(super) fn pod(&self, pod: Pod) {
        self.change(|inner| inner.machines.put_pod(pod));
    }

    pub(super) fn pod_gone(&self, pod: &Pod) {
        self.change(|inner| {
            inner.machines.take_pod(pod);
            inner.not_mounted.remove(&pod.metadata.uid);
        });
        self.tell_of(!pod.metadata.is_owned);
    }

    /// An event about one of our objects, or about anybody's: only names are known of these. It may
    /// come before the object that it is about.
    pub(super) fn event(&self, event: Event) {
        let of = &event.involved_object;
        let ours = of.name.strip_prefix(&self.mark).is_some_and(|rest| rest.starts_with('-'));
        if !ours {
            return;
        }
        self.change(|inner| {
            let about = match event.involved_object.kind.as_str() {
                "Job" => &mut inner.not_created,
                _ => &mut inner.not_mounted,
            };
            if about.len() < MOST_EVENTS {
                about.insert(event.involved_object.uid, event);
            }
        });
    }

    pub(super) fn fine(&self, kind: Needed) {
        let before = std::mem::replace(self.lock().health(kind), Health::Fine);
        if !matches!(before, Health::Fine) {
            // Whoever waits for it looks again.
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    pub(super) fn failing(&self, kind: Needed, error: Error) {
        self.change(|inner| *inner.health(kind) = Health::Failing(error));
    }

    /// The Job of this name and its pods, as last seen.
    pub(super) fn machine(&self, name: &str) -> (Option<Job>, Vec<Pod>) {
        let inner = self.lock();
        let known = inner.machines.get(name);
        let job = known.and_then(|known| known.job.as_deref().cloned());
        (job, known.map(|known| known.pods.clone()).unwrap_or_default())
    }

    /// `None` while there has not been a listing of everything.
    pub(super) fn listing(&self, now: Timestamp) -> Option<Result<Listing, Error>> {
        let inner = self.lock();
        for health in [&inner.jobs_health, &inner.pods_health] {
            match health {
                Health::Beginning => return None,
                Health::Fine => {}
                Health::Failing(error) => return Some(Err(error.clone())),
            }
        }
        Some(Ok(inner.listing(now)))
    }
}

impl Inner {
    fn health(&mut self, kind: Needed) -> &mut Health {
        match kind {
            Needed::Jobs => &mut self.jobs_health,
            Needed::Pods => &mut self.pods_health,
        }
    }

    /// `None` while not all machines are known.
    fn readers(&self) -> Option<Readers> {
        let known = [&self.jobs_health, &self.pods_health];
        let all = known.iter().all(|health| matches!(health, Health::Fine));
        all.then(|| Readers {
            secrets: self.machines.secrets(),
            orphans: self.machines.orphans().collect(),
        })
    }

    /// Drops what is known of objects that are not there any more.
    fn tidy(&mut self) {
        self.machines.drop_gone();
        let uids = self.machines.uids();
        self.not_created.retain(|uid, _| uids.contains(uid));
        self.not_mounted.retain(|uid, _| uids.contains(uid));
    }

    fn listing(&self, now: Timestamp) -> Listing {
        let machines = Vec::with_capacity(self.machines.len());
        let mut listing = Listing { machines, complete: true };
        for (name, known) in self.machines.iter() {
            match read::machine(self.seen(known), now) {
                Ok(machine) => listing.machines.push(machine),
                Err(error) => {
                    tracing::warn!(%error, machine = %name, "cannot read what a machine bears");
                    listing.complete = false;
                }
            }
        }
        listing
    }

    fn seen<'a>(&'a self, known: &'a Known) -> Seen<'a> {
        let (job, pods) = (known.job.as_deref(), known.pods.as_slice());
        Seen {
            job,
            pods,
            not_created: job.and_then(|job| self.not_created.get(&job.metadata.uid)),
            not_mounted: pods.last().and_then(|pod| self.not_mounted.get(&pod.metadata.uid)),
            had_pod: known.had_pod,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Another for each name.
    fn uid_of(name: &str) -> Uuid {
        Uuid::from_slice(format!("{name:16.16}").as_bytes()).expect("16 bytes")
    }

    fn object(name: &str, version: u64) -> serde_json::Value {
        json!({ "metadata": {
            "name": name, "uid": uid_of(name), "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-11-27T08:00:00Z",
            "labels": {
                "jitney.dev/mark": "m", "jitney.dev/job": "0199a3c0-5c39-7d13-8f0e-0d6a8e2f7a11",
                "jitney.dev/attempt": "1", "jitney.dev/dispatch": "d",
                "batch.kubernetes.io/job-name": name,
            },
            "annotations": {
                "jitney.dev/instance": "i", "jitney.dev/queue": "q",
                "jitney.dev/cpu-millis": "1", "jitney.dev/memory-bytes": "1",
            },
        } })
    }

    fn job(name: &str, version: u64) -> Job {
        serde_json::from_value(object(name, version)).expect("a Job")
    }

    fn pod(name: &str) -> Pod {
        serde_json::from_value(object(name, 1)).expect("a pod")
    }

    fn names(cache: &Cache) -> Vec<String> {
        let listing = cache.listing(Timestamp::UNIX_EPOCH).expect("it has listed");
        let listing = listing.expect("nothing fails");
        assert!(listing.complete);
        listing.machines.into_iter().map(|machine| machine.name).collect()
    }

    fn listed(jobs: &[(&str, u64)], version: u64) -> Cache {
        let cache = Cache::new("m");
        cache.all_jobs(jobs.iter().map(|(name, version)| job(name, *version)).collect(), version);
        cache.all_pods(Vec::new());
        cache
    }

    #[test]
    fn there_is_no_listing_before_both_kinds_are_listed() {
        let cache = Cache::new("m");
        assert!(cache.listing(Timestamp::UNIX_EPOCH).is_none());
        cache.all_jobs(vec![job("m-1", 1)], 1);
        assert!(cache.listing(Timestamp::UNIX_EPOCH).is_none());
        cache.all_pods(Vec::new());
        assert_eq!(names(&cache), ["m-1"]);
    }

    #[test]
    fn what_we_made_is_there_at_once_and_a_slow_answer_brings_nothing_back() {
        let cache = listed(&[("m-1", 3)], 5);
        cache.made(job("m-2", 7));
        assert_eq!(names(&cache), ["m-1", "m-2"]);
        // The watch has shown it and its end before the answer was read.
        cache.job(job("m-3", 8));
        cache.job_gone(&job("m-3", 9));
        cache.made(job("m-3", 8));
        assert_eq!(names(&cache), ["m-1", "m-2"]);
        // A listing from before it was made does not take it away, one from after does.
        cache.all_jobs(vec![job("m-1", 3)], 6);
        assert_eq!(names(&cache), ["m-1", "m-2"]);
        cache.all_jobs(vec![job("m-1", 3)], 10);
        assert_eq!(names(&cache), ["m-1"]);
    }

    #[test]
    fn a_machine_is_there_as_long_as_any_pod_of_it_is() {
        let cache = listed(&[("m-1", 3)], 5);
        cache.pod(pod("m-1"));
        cache.job_gone(&job("m-1", 6));
        assert_eq!(names(&cache), ["m-1"]);
        cache.pod_gone(&pod("m-1"));
        assert_eq!(names(&cache), Vec::<String>::new());
        assert_eq!(cache.lock().machines.iter().count(), 0, "nothing is kept of what is gone");
    }

    #[test]
    fn events_may_come_first_and_are_let_go_of_with_their_objects() {
        let cache = listed(&[], 5);
        let about = |name: &str| {
            let event = json!({
                "metadata": { "name": "e" },
                "involvedObject": { "kind": "Job", "name": name, "uid": uid_of(name) },
                "message": "Error creating: pods \"x\" is forbidden: exceeded quota: q",
            });
            cache.event(serde_json::from_value(event).expect("an event"));
        };
        about("m-1");
        about("somebody-elses");
        about("m2-1");
        assert_eq!(cache.lock().not_created.len(), 1);
        cache.made(job("m-1", 7));
        let listing = cache.listing(Timestamp::UNIX_EPOCH).expect("listed").expect("fine");
        assert!(listing.machines[0].ended.as_ref().is_some_and(|end| end.refused.is_some()));
        cache.job_gone(&job("m-1", 8));
        assert!(cache.lock().not_created.is_empty());
    }

    #[test]
    fn while_a_watch_fails_nobody_knows() {
        let cache = listed(&[("m-1", 3)], 5);
        cache.failing(Needed::Pods, Error::new(crate::Class::Ambiguous, "away"));
        let listing = cache.listing(Timestamp::UNIX_EPOCH).expect("it has listed");
        assert_eq!(listing.expect_err("it fails").words, "away");
        cache.fine(Needed::Pods);
        assert_eq!(names(&cache), ["m-1"]);
    }
}
