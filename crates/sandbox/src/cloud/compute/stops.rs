//! How machines end: deleted, preempted, switched off by their guest, run as long as they may.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::due::{Due, after};
use super::instance::{Fate, Power, Status};
use super::operation::Asked;
use super::settings::strike;
use super::{Compute, Effect, Instance};
use crate::cloud::refusal::{Failure, Refusal};

/// A machine that is `STOPPING`.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    why: Why,
    /// It has been so for long enough.
    rested: bool,
    /// Its processes are gone.
    off: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// The operation that deletes it.
    Deleted(String),
    /// The operation that stops it.
    Asked(String),
    Preempted,
    RunOver,
    Guest,
}

/// A change of one machine that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) zone: &'a str,
    pub(super) name: &'a str,
    pub(super) request_id: Option<Uuid>,
    pub(super) account: Option<&'a str>,
    /// Without letting the guest shut down.
    pub(super) hard: bool,
}

impl Compute {
    pub(super) fn known_instance(&self, zone: &str, name: &str) -> Result<&Instance, Refusal> {
        self.check_zone(zone)?;
        let found = self.instance(zone, name);
        found.ok_or_else(|| Refusal::not_found(&self.instance_path(zone, name)))
    }

    fn being_deleted(instance: &Instance) -> bool {
        let stopping = instance.stop.as_ref().is_some_and(|it| matches!(it.why, Why::Deleted(_)));
        stopping || instance.delete_after_insert.is_some()
    }

    pub(super) fn begin_change(
        &mut self,
        kind: &str,
        id: u64,
        change: Change<'_>,
        now: Timestamp,
    ) -> String {
        let Change { zone, name, request_id, account, .. } = change;
        let target = format!("instances/{name}");
        self.begin(Asked { kind, zone, target, target_id: id, request_id, account }, now)
    }

    pub(super) fn delete(&mut self, change: Change<'_>, now: Timestamp) -> Result<Value, Refusal> {
        if let Some(replayed) = self.replayed(change.zone, change.request_id, now) {
            return Ok(replayed);
        }
        let instance = self.known_instance(change.zone, change.name)?;
        if Self::being_deleted(instance) {
            return Err(Refusal::not_ready(&self.instance_path(change.zone, change.name)));
        }
        let (id, status, fate) = (instance.id, instance.status, instance.fate);
        let operation = self.begin_change("delete", id, change, now);
        self.note("delete", change.zone, change.name, "", now);
        let fails_until = after(self.knobs_since, self.knobs.deletes_fail_ms);
        if now < fails_until {
            let words = "Internal error. Please try again or contact Google Support.";
            if let Some(operation) = self.operations.get_mut(&operation) {
                operation.failure = Some(Failure::plain("INTERNAL_ERROR", words));
            }
            self.push_due(after(now, self.timing.delete_ms), Due::Done(operation.clone()));
        } else if status == Status::Provisioning && fate != Fate::Doomed {
            if let Some(instance) = self.by_id_mut(id) {
                instance.delete_after_insert = Some(operation.clone());
            }
        } else {
            self.stop_to_delete(id, &operation, change.hard, now);
        }
        Ok(self.show_operation(&self.operations[&operation]))
    }

    pub(super) fn stop(&mut self, change: Change<'_>, now: Timestamp) -> Result<Value, Refusal> {
        if let Some(replayed) = self.replayed(change.zone, change.request_id, now) {
            return Ok(replayed);
        }
        let instance = self.known_instance(change.zone, change.name)?;
        if instance.status != Status::Running || instance.stop.is_some() {
            return Err(Refusal::not_ready(&self.instance_path(change.zone, change.name)));
        }
        let id = instance.id;
        let operation = self.begin_change("stop", id, change, now);
        self.begin_stop(id, Why::Asked(operation.clone()), change.hard, now);
        Ok(self.show_operation(&self.operations[&operation]))
    }

    pub(super) fn stop_to_delete(&mut self, id: u64, operation: &str, hard: bool, now: Timestamp) {
        self.begin_stop(id, Why::Deleted(operation.to_owned()), hard, now);
    }

    fn begin_stop(&mut self, id: u64, why: Why, hard: bool, now: Timestamp) {
        let (stop_ms, patience) = (self.timing.stop_ms, self.timing.clone());
        let Some(instance) = self.by_id_mut(id) else { return };
        if let Some(stop) = &mut instance.stop {
            // It is on its way already, and is deleted at its end.
            stop.why = why;
            return;
        }
        let off = instance.power != Power::On;
        // One that is off already, or never was, has nothing to wait for.
        let rested = instance.status != Status::Running;
        instance.stop = Some(Stop { why, rested, off });
        instance.status = Status::Stopping;
        instance.terminates_at = None;
        let hard = hard || instance.skip_shutdown;
        let spot = instance.spot;
        if !off {
            let patience_ms = if spot { patience.spot_shutdown_ms } else { patience.shutdown_ms };
            let soft = Effect::SoftOff { id, patience_ms };
            self.effects.push(if hard { Effect::Kill(id) } else { soft });
        }
        if rested {
            self.finish_stop(id, now);
        } else {
            self.push_due(after(now, stop_ms), Due::MayStop(id));
        }
    }

    pub(super) fn may_stop(&mut self, id: u64, at: Timestamp) {
        if let Some(stop) = self.by_id_mut(id).and_then(|instance| instance.stop.as_mut()) {
            stop.rested = true;
        }
        self.finish_stop(id, at);
    }

    /// The shell says that the machine's processes are gone.
    pub fn machine_off(&mut self, id: u64, now: Timestamp) {
        let Some(instance) = self.by_id_mut(id) else { return };
        instance.power = Power::Off;
        if let Some(stop) = &mut instance.stop {
            stop.off = true;
            self.finish_stop(id, now);
        }
    }

    fn finish_stop(&mut self, id: u64, at: Timestamp) {
        let Some(instance) = self.by_id_mut(id) else { return };
        let Some(stop) = instance.stop.clone().filter(|stop| stop.rested && stop.off) else {
            return;
        };
        let (zone, name) = (instance.zone.clone(), instance.name.clone());
        if let Why::Deleted(operation) = stop.why {
            // It stays in `stop`, so that a second delete finds it going.
            self.push_due(after(at, self.timing.delete_ms), Due::Deleted(id, operation));
            return;
        }
        instance.stop = None;
        let delete = instance.delete_at_end;
        match stop.why {
            Why::Preempted | Why::RunOver if delete => self.remove(id, at),
            Why::Preempted | Why::RunOver | Why::Guest => self.terminated(id, at),
            Why::Asked(operation) => {
                self.terminated(id, at);
                self.end_operation(&operation, None, at);
            }
            Why::Deleted(_) => {}
        }
        let what = if self.instance_by_id(id).is_some() { "terminated" } else { "deleted" };
        self.note(what, &zone, &name, "", at);
    }

    /// It rests, and its disks with it; nothing will end it any more.
    fn terminated(&mut self, id: u64, at: Timestamp) {
        if let Some(instance) = self.by_id_mut(id) {
            instance.status = Status::Terminated;
            instance.stopped_at = Some(at);
            instance.power = Power::Off;
        }
    }

    pub(super) fn deleted(&mut self, id: u64, operation: &str, at: Timestamp) {
        if let Some(instance) = self.instance_by_id(id) {
            let (zone, name) = (instance.zone.clone(), instance.name.clone());
            self.remove(id, at);
            self.note("deleted", &zone, &name, "", at);
        }
        self.end_operation(operation, None, at);
    }

    /// The machine is no more, nor are the disks that go with it.
    fn remove(&mut self, id: u64, at: Timestamp) {
        let Some(key) = self.ids.remove(&id) else { return };
        let Some(instance) = self.instances.remove(&key) else { return };
        let (zone, _) = key;
        let leaks = strike(&mut self.knobs.leak_disks);
        for attached in &instance.disks {
            let Some(name) = &attached.disk else { continue };
            let key = (zone.clone(), name.clone());
            if attached.auto_delete && !leaks {
                self.disks.remove(&key);
            } else if let Some(disk) = self.disks.get_mut(&key) {
                disk.user = None;
                let what = if leaks { "disk leaked" } else { "disk kept" };
                self.note(what, &zone, name, "", at);
            }
        }
    }

    /// Google wants the room: at once, or after the notice that the machine was to get.
    pub fn preempt(&mut self, zone: &str, name: &str, now: Timestamp) -> Result<(), String> {
        let Some(instance) = self.instance(zone, name) else {
            return Err(format!("there is no machine {name} in {zone}"));
        };
        if !instance.spot || instance.status != Status::Running || instance.preempted {
            return Err(format!("{name} is no spot machine that runs"));
        }
        let (id, notice_s) = (instance.id, instance.notice_s);
        if let Some(instance) = self.by_id_mut(id) {
            instance.preempted = true;
        }
        self.note("preempted", zone, name, "", now);
        if notice_s > 0 {
            self.push_due(after(now, notice_s * 1_000), Due::NoticeOver(id));
        } else {
            self.notice_over(id, now);
        }
        Ok(())
    }

    pub(super) fn notice_over(&mut self, id: u64, at: Timestamp) {
        let Some(instance) = self.instance_by_id(id).filter(|it| it.status == Status::Running)
        else {
            return;
        };
        let (zone, name) = (instance.zone.clone(), instance.name.clone());
        self.note_system("compute.instances.preempted", &zone, &name, id, at);
        self.begin_stop(id, Why::Preempted, false, at);
    }

    pub(super) fn run_over(&mut self, id: u64, at: Timestamp) {
        let Some(instance) = self.instance_by_id(id) else { return };
        // It stopped before, and nothing is left of its deadline; or it is another run's.
        if instance.status != Status::Running || instance.terminates_at != Some(at) {
            return;
        }
        let kind = if instance.delete_at_end { "delete" } else { "stop" };
        let (zone, name) = (instance.zone.clone(), instance.name.clone());
        self.note_system(kind, &zone, &name, id, at);
        self.begin_stop(id, Why::RunOver, false, at);
    }

    /// The guest switches its machine off.
    pub fn power_off(&mut self, id: u64, now: Timestamp) {
        let Some(instance) = self.instance_by_id(id).filter(|it| it.status == Status::Running)
        else {
            return;
        };
        let (zone, name) = (instance.zone.clone(), instance.name.clone());
        self.note_system("compute.instances.guestTerminate", &zone, &name, id, now);
        self.begin_stop(id, Why::Guest, false, now);
    }

    /// The machine is gone, disks and all, without a word anywhere.
    pub fn vanish(&mut self, zone: &str, name: &str, now: Timestamp) -> bool {
        let Some(instance) = self.instance(zone, name) else { return false };
        let (id, on) = (instance.id, instance.power == Power::On);
        if on {
            self.effects.push(Effect::Kill(id));
        }
        self.remove(id, now);
        true
    }
}
