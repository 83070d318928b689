//! One backend's machines: listed when it says that something changed, now and then while machines
//! live, and seldom otherwise. One listing at a time; a failed one is told and tried again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use backends::{Backend, Listing, Machine};
use planner::{
    BackendName, Bytes, Cpu, EndSeen, Failure, FailureClass, JobId, MachineName, MachineSeen, Phase,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Pauses;
use crate::clock::{Clock, from_jiff};
use crate::input::{Input, Machines, Sender, failure, failure_class, shortage};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Changes that come closer together than this are seen in one listing.
const NOT_CLOSER: Duration = Duration::from_millis(50);
/// How often to list where nothing is alive and nothing is said.
const IDLE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);

type Seen = BTreeMap<(JobId, u32), Arc<MachineSeen>>;

pub(crate) struct MachineSource {
    pub name: BackendName,
    pub mark: Arc<str>,
    pub backend: Arc<dyn Backend>,
    pub clock: Clock,
    pub loop_inbox: Sender,
    /// Whether machines of ours may be alive there.
    pub live: watch::Receiver<bool>,
    /// We have changed something ourselves.
    pub poke: Arc<Notify>,
}

impl MachineSource {
    pub(crate) async fn run(mut self) {
        let backend = Arc::clone(&self.backend);
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut last = BTreeMap::new();
        loop {
            let (started, started_at) = (Instant::now(), self.clock.now());
            // What changes while the listing is under way may not be in it.
            let mut changed = backend.changed();
            let mut missed = false;
            let listed = {
                let mut list = std::pin::pin!(timeout(TIMEOUT, backend.list()));
                loop {
                    tokio::select! {
                        listed = &mut list => break listed,
                        () = &mut changed, if !missed => missed = true,
                    }
                }
            };
            let listed = match listed {
                Ok(Ok(listing)) => {
                    let machines = self.read(listing, &last);
                    last.clone_from(&machines.seen);
                    Ok(machines)
                }
                Ok(Err(error)) => Err(failure(&error)),
                Err(_) => Err(no_answer()),
            };
            let failed = listed.as_ref().err().cloned();
            let input = Input::Machines { backend: self.name.clone(), started_at, listed };
            if self.loop_inbox.send(input).is_err() {
                return;
            }
            if let Some(failure) = failed {
                let pause = pauses.next(failure.retry_after);
                self.tell(&failure, pause, pauses.is_old_news());
                sleep(pause).await;
                continue;
            }
            pauses.reset();
            sleep_until(started + NOT_CLOSER).await;
            if !missed {
                self.wait(&*backend, started, changed).await;
            }
        }
    }

    fn tell(&self, failure: &Failure, pause: Duration, is_old_news: bool) {
        let (backend, error, retry_in_seconds) = (&self.name, &failure.words, pause.as_secs_f64());
        if is_old_news {
            tracing::debug!(%backend, %error, retry_in_seconds, "failed again to list machines");
        } else {
            tracing::warn!(%backend, %error, retry_in_seconds, "failed to list the machines");
        }
    }

    /// Until there is a reason to list again.
    async fn wait(
        &mut self,
        backend: &dyn Backend,
        listed: Instant,
        mut changed: backends::Future<'_, ()>,
    ) {
        loop {
            let every = if *self.live.borrow_and_update() { backend.list_every() } else { IDLE };
            tokio::select! {
                () = &mut changed => return,
                () = self.poke.notified() => return,
                () = sleep_until(listed + every.max(NOT_CLOSER)) => return,
                // More or fewer are alive: the pace may be another.
                alive = self.live.changed() => if alive.is_err() { return },
            }
        }
    }

    /// What has not changed since the last listing is the very same as in that one.
    fn read(&self, listing: Listing, last: &Seen) -> Machines {
        let (mut seen, mut texts) = (BTreeMap::new(), Texts::default());
        for machine in listing.machines {
            if machine.labels.mark != self.mark {
                tracing::warn!(
                    backend = %self.name,
                    machine = machine.name,
                    mark = &*machine.labels.mark,
                    "the listing holds a machine that is not ours; left alone"
                );
                continue;
            }
            let machine = machine_seen(machine, &mut texts);
            let key = (machine.job, machine.attempt);
            let known = last.get(&key).filter(|known| ***known == machine);
            seen.insert(key, known.map_or_else(|| Arc::new(machine), Arc::clone));
        }
        Machines { seen, complete: listing.complete }
    }
}

/// Texts that many machines bear, each kept once.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn of(&mut self, text: Arc<str>) -> Arc<str> {
        if let Some(known) = self.0.get(&text) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(&text));
        text
    }
}

fn machine_seen(machine: Machine, texts: &mut Texts) -> MachineSeen {
    let labels = machine.labels;
    MachineSeen {
        job: JobId(labels.job),
        attempt: labels.attempt,
        name: MachineName::new(&machine.name),
        instance: texts.of(labels.instance),
        queue: texts.of(labels.queue).into(),
        dispatch: texts.of(labels.dispatch_id),
        cpu: Cpu::from_millis(labels.cpu_millis),
        memory: Bytes::new(labels.memory_bytes),
        phase: phase(machine.phase),
        created_at: from_jiff(machine.created_at),
        connected_at: machine.connected_at.map(from_jiff),
        deadline_at: from_jiff(machine.deadline_at),
        ended: machine.ended.map(|end| Arc::new(ended(*end, texts))),
        note: machine.note.map(Into::into),
        silent: machine.silent.map(Into::into),
        leaving: machine.leaving.map(Into::into),
    }
}

const fn phase(phase: backends::Phase) -> Phase {
    match phase {
        backends::Phase::Requested => Phase::Requested,
        backends::Phase::Provisioning => Phase::Provisioning,
        backends::Phase::Booting => Phase::Booting,
        backends::Phase::Connected => Phase::Connected,
        backends::Phase::Ended => Phase::Ended,
    }
}

fn ended(end: backends::MachineEnd, texts: &mut Texts) -> EndSeen {
    let used = end.cpu_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    EndSeen {
        at: from_jiff(end.at),
        cause: texts.of(end.cause.into()),
        log_tail: end.log_tail.into(),
        cpu_millis_used: used.and_then(|used| u64::try_from(used.as_millis()).ok()),
        peak_memory: end.peak_memory_bytes.map(Bytes::new),
        oom_killed: end.oom_killed,
        ran: end.ran.map(Into::into),
        deadline_reached: end.deadline_reached,
        taken: end.taken,
        refused: end.refused.map(failure_class),
        shortage: shortage(&end.fields),
    }
}

fn no_answer() -> Failure {
    Failure {
        class: FailureClass::Ambiguous,
        words: format!("no answer within {} s", TIMEOUT.as_secs()).into(),
        retry_after: None,
        shortage: None,
    }
}
