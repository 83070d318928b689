//! A new machine, from the call to its startup script.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::disks::NewDisk;
use super::due::{Due, after};
use super::instance::{Attached, Fate, Instance, Power, Status};
use super::operation::Asked;
use super::order::{Order, WantedKind};
use super::serial::Serial;
use super::settings::strike;
use super::{Compute, Effect, Entry, Key};
use crate::cloud::refusal::{Failure, Refusal};

impl Compute {
    pub(super) fn insert(
        &mut self,
        zone: &str,
        body: &Value,
        request_id: Option<Uuid>,
        account: Option<&str>,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        self.check_zone(zone)?;
        if let Some(replayed) = self.replayed(zone, request_id, now) {
            return Ok(replayed);
        }
        self.check_constraints(zone, body)?;
        let order = self.read_order(zone, body)?;
        let key: Key = (zone.to_owned(), order.name.clone());
        if self.instances.contains_key(&key) {
            return Err(Refusal::exists(&self.instance_path(zone, &order.name)));
        }
        let failure = self.why_not(zone, &order);
        if let Some(failure) = &failure
            && failure.code == "QUOTA_EXCEEDED"
            && self.knobs.quota_by_call
        {
            return Err(Refusal::quota(failure));
        }
        let id = self.next_id();
        let asked = Asked {
            kind: "insert",
            zone,
            target: format!("instances/{}", order.name),
            target_id: id,
            request_id,
            account,
        };
        let operation = self.begin(asked, now);
        self.note("insert", zone, &order.name, &order.machine_type.name, now);
        let doomed = failure.is_some();
        if let Some(operation) = self.operations.get_mut(&operation) {
            operation.failure = failure;
        }
        self.place(key, id, order, doomed, now);
        let wait = if doomed { self.timing.failure_ms } else { self.timing.insert_ms };
        self.push_due(after(now, wait), Due::Inserted(operation.clone()));
        self.log.saw(self.instances.len());
        Ok(self.show_operation(&self.operations[&operation]))
    }

    /// What keeps the machine from being made, if anything does.
    fn why_not(&mut self, zone: &str, order: &Order) -> Option<Failure> {
        if let Some((code, message)) = self.knobs.failed_insert(zone) {
            return Some(match code.as_str() {
                "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS" => self.stockout(zone, order),
                _ => Failure::plain(&code, &message),
            });
        }
        self.disk_in_use(zone, order)
            .or_else(|| self.exceeded_quota(zone, order))
            .or_else(|| (!self.has_room(zone, order)).then(|| self.stockout(zone, order)))
    }

    fn place(&mut self, key: Key, id: u64, order: Order, doomed: bool, now: Timestamp) {
        let disks = if doomed { Vec::new() } else { self.make_disks(&key, &order, now) };
        let fate = if doomed {
            Fate::Doomed
        } else if strike(&mut self.knobs.never_boot) {
            Fate::NeverBoots
        } else {
            Fate::Boots
        };
        let number = self.next_sequence();
        let octet = |by: u64| u8::try_from(number / by % 250 + 2).unwrap_or(2);
        let mut sent = order.sent;
        let internal_ip = format!("10.{}.{}.{}", octet(62_500), octet(250), octet(1));
        if let Some(interface) = sent.get_mut("networkInterfaces").and_then(|it| it.get_mut(0)) {
            interface["networkIP"] = Value::String(internal_ip.clone());
        }
        let instance = Instance {
            id,
            zone: key.0.clone(),
            name: key.1.clone(),
            status: Status::Provisioning,
            machine_type: order.machine_type,
            spot: order.spot,
            created_at: now,
            started_at: None,
            stopped_at: None,
            terminates_at: None,
            preempted: false,
            account: order.account,
            clock_skew_s: self.knobs.clock_skew_s,
            internal_ip,
            guest_attributes: std::collections::BTreeMap::new(),
            metadata: order.metadata,
            labels: order.labels,
            tags: order.tags,
            sent,
            disks,
            local_ssds: order.local_ssds,
            external_ip: order.external_ip,
            run_for_s: order.run_for_s,
            notice_s: order.notice_s,
            delete_at_end: order.delete_at_end,
            skip_shutdown: order.skip_shutdown,
            fate,
            power: Power::NotYet,
            stop: None,
            delete_after_insert: None,
            serial: Serial::default(),
        };
        self.ids.insert(id, key.clone());
        self.instances.insert(key, instance);
    }

    fn make_disks(&mut self, key: &Key, order: &Order, now: Timestamp) -> Vec<Attached> {
        let (zone, machine) = key;
        let mut attached = Vec::new();
        for wanted in &order.disks {
            let disk = match &wanted.kind {
                WantedKind::Local => None,
                WantedKind::Existing(name) => Some(name.clone()),
                WantedKind::New { name, disk_type, size_gb, labels, image } => {
                    let new = NewDisk {
                        name: name.clone(),
                        disk_type: disk_type.clone(),
                        size_gb: *size_gb,
                        labels: labels.clone(),
                        image: image.clone(),
                    };
                    self.make_or_reuse(zone, new, now);
                    Some(name.clone())
                }
            };
            if let Some(name) = &disk {
                self.attach(zone, name, machine);
            }
            let (auto_delete, boot) = (wanted.auto_delete, wanted.boot);
            attached.push(Attached { disk, auto_delete, boot });
        }
        attached
    }

    /// The end of an insert's operation.
    pub(super) fn inserted(&mut self, operation: &str, at: Timestamp) {
        let Some(found) = self.operations.get(operation) else { return };
        let (id, failure) = (found.target_id, found.failure.clone());
        let Some(instance) = self.by_id_mut(id) else {
            // It was deleted meanwhile.
            self.end_operation(operation, failure, at);
            return;
        };
        let (zone, name) = (instance.zone.clone(), instance.name.clone());
        if let Some(failure) = failure {
            let code = failure.code.clone();
            self.note("failed", &zone, &name, &code, at);
            self.end_operation(operation, Some(failure), at);
            self.push_due(after(at, self.timing.leftover_ms), Due::LeftoverGone(id));
            return;
        }
        instance.status = Status::Running;
        instance.started_at = Some(at);
        let run_for = instance.run_for_s;
        let ends = run_for.map(|seconds| after(at, seconds.saturating_mul(1_000)));
        instance.terminates_at = ends;
        let delete = instance.delete_after_insert.take();
        self.end_operation(operation, None, at);
        self.note("runs", &zone, &name, "", at);
        if let Some(ends) = ends {
            self.push_due(ends, Due::RunOver(id));
        }
        match delete {
            Some(delete) => self.stop_to_delete(id, &delete, false, at),
            None => self.push_due(after(at, self.timing.boot_ms), Due::Boots(id)),
        }
    }

    pub(super) fn leftover_gone(&mut self, id: u64, at: Timestamp) {
        let Some(instance) = self.instance_by_id(id) else { return };
        if instance.stop.is_some() {
            // A delete is under way, and removes it.
            return;
        }
        let key = (instance.zone.clone(), instance.name.clone());
        self.note("leftover gone", &key.0, &key.1, "", at);
        self.instances.remove(&key);
        self.ids.remove(&id);
    }

    pub(super) fn boots(&mut self, id: u64) {
        let Some(instance) = self.by_id_mut(id) else { return };
        if instance.status == Status::Running
            && instance.power == Power::NotYet
            && instance.fate == Fate::Boots
        {
            self.effects.push(Effect::Boot(id));
        }
    }

    /// The shell is about to run its startup script; false where the machine was stopped meanwhile.
    pub fn booted(&mut self, id: u64, now: Timestamp) -> bool {
        let Some(instance) = self.by_id_mut(id) else { return false };
        if instance.status != Status::Running || instance.stop.is_some() {
            return false;
        }
        instance.power = Power::On;
        let (zone, name) = (instance.zone.clone(), instance.name.clone());
        self.note("boots", &zone, &name, "", now);
        true
    }

    pub(super) fn note(
        &mut self,
        what: &'static str,
        zone: &str,
        name: &str,
        detail: &str,
        at: Timestamp,
    ) {
        let (zone, name, detail) = (zone.to_owned(), name.to_owned(), detail.to_owned());
        self.log.push(Entry { at, what, zone, name, detail });
    }
}
