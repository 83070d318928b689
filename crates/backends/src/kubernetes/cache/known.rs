//! All that is known of each machine: its Job and its pods. There are thousands, so what two objects
//! of one machine bear is kept once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::contract::Labels;
use crate::kubernetes::seen::{Job, Meta, Pod};
use crate::kubernetes::texts::Texts;

/// Machines by their names, which are those of their Jobs.
#[derive(Debug, Default)]
pub(super) struct Machines {
    known: BTreeMap<Arc<str>, Known>,
    texts: Texts,
}

/// What is large stands apart, for a map has room for more than it holds.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) job: Option<Box<Job>>,
    /// A machine has seldom more than one; the newest last.
    pub(super) pods: Vec<Pod>,
    /// A pod of it was there once.
    pub(super) had_pod: bool,
}

/// Who may read Secrets.
#[derive(Debug)]
pub(in crate::kubernetes) struct Readers {
    /// The Secrets of all machines.
    pub(in crate::kubernetes) secrets: BTreeSet<Arc<str>>,
    pub(in crate::kubernetes) orphans: Vec<Orphan>,
}

/// A pod that has lost its Job, and has not read its token yet.
#[derive(Debug)]
pub(in crate::kubernetes) struct Orphan {
    pub(in crate::kubernetes) name: Arc<str>,
    pub(in crate::kubernetes) uid: Uuid,
    pub(in crate::kubernetes) secret: Arc<str>,
}

impl Known {
    fn is_gone(&self) -> bool {
        self.job.is_none() && self.pods.is_empty()
    }

    fn metadata(&self) -> impl Iterator<Item = &Meta> {
        let job = self.job.iter().map(|job| &job.metadata);
        job.chain(self.pods.iter().map(|pod| &pod.metadata))
    }
}

impl Machines {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Known)> {
        self.known.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Known> {
        self.known.get(name)
    }

    pub(super) fn has_job(&self, name: &str) -> bool {
        self.get(name).is_some_and(|known| known.job.is_some())
    }

    pub(super) fn put_job(&mut self, mut job: Job) {
        self.texts.share(&mut job);
        let known = self.known.entry(Arc::clone(&job.metadata.name)).or_default();
        let like = known.metadata().find_map(|meta| same(meta, &job.metadata));
        if let Some(labels) = like {
            job.metadata.labels = Ok(labels);
        }
        known.job = Some(Box::new(job));
    }

    pub(super) fn put_pod(&mut self, mut pod: Pod) {
        self.texts.share(&mut pod);
        let entry = self.known.entry(Arc::clone(pod.machine()));
        if pod.metadata.job.is_some() {
            pod.metadata.job = Some(Arc::clone(entry.key()));
        }
        let known = entry.or_default();
        known.had_pod = true;
        let like = known.metadata().find_map(|meta| same(meta, &pod.metadata));
        if let Some(labels) = like {
            pod.metadata.labels = Ok(labels);
        }
        if let Some(last) = known.pods.iter_mut().find(|one| one.is_same_as(&pod)) {
            *last = pod;
            return;
        }
        let at = known.pods.partition_point(|one| one.born() < pod.born());
        // Room for four would be four times as much.
        known.pods.reserve_exact(1);
        known.pods.insert(at, pod);
    }

    pub(super) fn take_job(&mut self, name: &str) -> Option<Box<Job>> {
        self.change(name, |known| known.job.take()).flatten()
    }

    pub(super) fn take_pod(&mut self, pod: &Pod) {
        self.change(pod.machine(), |known| known.pods.retain(|one| !one.is_same_as(pod)));
    }

    /// Nothing is kept of a machine that is gone.
    fn change<T>(&mut self, name: &str, change: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let Entry::Occupied(mut entry) = self.known.entry(Arc::from(name)) else { return None };
        let changed = change(entry.get_mut());
        if entry.get().is_gone() {
            entry.remove();
        }
        Some(changed)
    }

    /// Forgets all Jobs that are not newer.
    pub(super) fn drop_jobs_up_to(&mut self, version: u64) {
        for known in self.known.values_mut() {
            known.job.take_if(|job| job.metadata.version <= version);
        }
    }

    pub(super) fn drop_pods(&mut self) {
        self.known.values_mut().for_each(|known| known.pods = Vec::new());
    }

    /// Those that have neither a Job nor a pod after what was put in.
    pub(super) fn drop_gone(&mut self) {
        self.known.retain(|_, known| !known.is_gone());
    }

    pub(super) fn uids(&self) -> BTreeSet<Uuid> {
        self.metadata().map(|meta| meta.uid).collect()
    }

    pub(super) fn secrets(&self) -> BTreeSet<Arc<str>> {
        self.metadata().filter_map(|meta| meta.secret.clone()).collect()
    }

    pub(super) fn orphans(&self) -> impl Iterator<Item = Orphan> {
        let alone = self.known.values().filter(|known| known.job.is_none());
        let unread = alone.flat_map(|known| &known.pods).filter(|pod| !pod.is_past_start());
        unread.filter_map(|pod| {
            let Meta { name, uid, secret, .. } = &pod.metadata;
            Some(Orphan { name: Arc::clone(name), uid: *uid, secret: secret.clone()? })
        })
    }

    fn metadata(&self) -> impl Iterator<Item = &Meta> {
        self.known.values().flat_map(Known::metadata)
    }
}

/// What a known object bears, where another one bears the same.
fn same(known: &Meta, other: &Meta) -> Option<Arc<Labels>> {
    let labels = known.labels.as_ref().ok()?;
    (Ok(labels) == other.labels.as_ref()).then(|| Arc::clone(labels))
}
