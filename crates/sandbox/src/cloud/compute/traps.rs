//! What a cloud does to those who trust it, one test for each of its traps that needs neither a
//! connection nor a process. Every answer is held to its schema on the way.

mod limits;
mod orders;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Call, Capacity, Compute, Effect, Knobs, NewDisk, Settings};
use crate::cloud::discovery::{DISCOVERY, check};

const A: &str = "us-central1-a";
const B: &str = "us-central1-b";

/// A cloud without a network around it, and its time.
struct Rig {
    compute: Compute,
    now: Timestamp,
}

impl Rig {
    fn new() -> Self {
        let now: Timestamp = "2026-11-27T10:00:10Z".parse().unwrap();
        Self { compute: Compute::new(Settings::default(), now), now }
    }

    fn with(knobs: Knobs) -> Self {
        let mut rig = Self::new();
        rig.compute.set_knobs(knobs, rig.now);
        rig
    }

    /// A call by `METHOD path?query`, or the code and the reason that it was refused with.
    fn call(&mut self, line: &str, body: Value) -> Result<Value, String> {
        let (http, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = format!("/compute/v1/projects/sandbox-project/{path}");
        let found = DISCOVERY.find(http, &path).unwrap_or_else(|| panic!("no method at {line}"));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query: Vec<(String, String)> = pairs
            .map(|(key, value)| (key.to_owned(), value.replace("%20", " ").replace("%3D", "=")))
            .collect();
        assert_eq!(check::parameters(&found, &query), [], "{line}");
        assert_eq!(check::request(&found, &body), [], "{line} {body}");
        let (method, path) = (found.method.id.as_str(), &found.path);
        let call = Call { method, path, query: &query, body: &body, account: None };
        let answer = self.compute.call(call, self.now);
        // Nobody runs machines here: they are on when they are to be, and off at once.
        self.obey();
        let answer = answer.map_err(|refusal| format!("{} {}", refusal.code, refusal.reason))?;
        assert_eq!(check::answer(&found, &answer), [], "{line}: {answer:#}");
        Ok(answer)
    }

    fn get(&mut self, path: &str) -> Result<Value, String> {
        self.call(&format!("GET {path}"), Value::Null)
    }

    fn obey(&mut self) {
        for effect in self.compute.take_effects() {
            match effect {
                Effect::Boot(id) => {
                    self.compute.booted(id, self.now);
                }
                Effect::SoftOff { id, .. } | Effect::Kill(id) => {
                    self.compute.machine_off(id, self.now)
                }
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(due) = self.compute.next_due().filter(|due| *due <= end) {
            self.now = due;
            self.compute.advance(due);
            self.obey();
        }
        self.now = end;
    }

    /// Asks for a machine and answers the operation's name.
    fn insert(&mut self, zone: &str, body: Value) -> String {
        self.insert_with(zone, "", body).unwrap()
    }

    fn insert_with(&mut self, zone: &str, query: &str, body: Value) -> Result<String, String> {
        let answer = self.call(&format!("POST zones/{zone}/instances?{query}"), body)?;
        Ok(answer["name"].as_str().unwrap().to_owned())
    }

    fn delete(&mut self, zone: &str, name: &str) -> Result<Value, String> {
        self.call(&format!("DELETE zones/{zone}/instances/{name}"), Value::Null)
    }

    /// `DONE`, `RUNNING` or `DONE ZONE_RESOURCE_POOL_EXHAUSTED…`
    fn operation(&mut self, zone: &str, name: &str) -> String {
        let shown = self.get(&format!("zones/{zone}/operations/{name}")).unwrap();
        let status = shown["status"].as_str().unwrap();
        match shown["error"]["errors"][0]["code"].as_str() {
            Some(code) => format!("{status} {code}"),
            None => status.to_owned(),
        }
    }

    fn status(&mut self, zone: &str, name: &str) -> String {
        match self.get(&format!("zones/{zone}/instances/{name}")) {
            Ok(shown) => shown["status"].as_str().unwrap().to_owned(),
            Err(refusal) => refusal,
        }
    }

    fn names(answer: &Value) -> Vec<&str> {
        let items = answer["items"].as_array();
        items.into_iter().flatten().map(|it| it["name"].as_str().unwrap()).collect()
    }

    /// Names of the disks, and how many machines each has seen.
    fn disks(&self) -> Vec<(&str, u32)> {
        self.compute.disks().map(|disk| (disk.name.as_str(), disk.used_by)).collect()
    }
}

/// A machine of this name, as a dispatcher would ask for it.
fn machine(zone: &str, name: &str) -> Value {
    let region = &zone[..zone.len() - 2];
    json!({
        "name": name, "machineType": format!("zones/{zone}/machineTypes/n2-custom-2-4096"),
        "labels": {"job": name},
        "scheduling": {"maxRunDuration": {"seconds": "7500"}, "instanceTerminationAction": "DELETE"},
        "disks": [{"boot": true, "autoDelete": true, "initializeParams": {
            "sourceImage": "projects/debian-cloud/global/images/family/debian-12",
            "diskType": format!("zones/{zone}/diskTypes/pd-balanced"), "diskSizeGb": "50"}}],
        "networkInterfaces": [{"subnetwork": format!("projects/sandbox-project/regions/{region}/subnetworks/ci")}],
    })
}

fn spot(zone: &str, name: &str, action: &str, notice: &str) -> Value {
    let mut body = machine(zone, name);
    body["scheduling"] = json!({
        "provisioningModel": "SPOT", "instanceTerminationAction": action,
        "preemptionNoticeDuration": {"seconds": notice},
    });
    body
}

fn sold_out(zone: &str) -> Capacity {
    Capacity { zone: Some(zone.to_owned()), machines: 0, ..Capacity::default() }
}

#[test]
fn a_machine_is_made_runs_and_is_deleted_with_its_disk() {
    let mut rig = Rig::new();
    let insert = rig.insert(A, machine(A, "m-1"));
    assert_eq!(
        (rig.operation(A, &insert), rig.status(A, "m-1")),
        ("PENDING".into(), "PROVISIONING".into())
    );
    rig.pass(100);
    assert_eq!(rig.operation(A, &insert), "RUNNING");
    rig.pass(300);
    assert_eq!(
        (rig.operation(A, &insert), rig.status(A, "m-1")),
        ("DONE".into(), "RUNNING".into())
    );
    let shown = rig.get(&format!("zones/{A}/instances/m-1")).unwrap();
    assert_eq!(
        shown["resourceStatus"]["scheduling"]["terminationTimestamp"],
        "2026-11-27T12:05:10.4Z"
    );
    assert_eq!(rig.disks(), [("m-1", 1)]);
    let delete = rig.delete(A, "m-1").unwrap()["name"].as_str().unwrap().to_owned();
    assert_eq!(rig.status(A, "m-1"), "STOPPING");
    rig.pass(1_000);
    assert_eq!(
        (rig.operation(A, &delete), rig.status(A, "m-1")),
        ("DONE".into(), "404 notFound".into())
    );
    assert_eq!(rig.disks(), []);
}

#[test]
fn an_insert_is_answered_with_200_and_fails_later() {
    let mut rig = Rig::new();
    rig.compute.capacity = vec![sold_out(A)];
    let insert = rig.insert(A, machine(A, "m-1"));
    assert_eq!(rig.operation(A, &insert), "PENDING");
    rig.pass(300);
    assert_eq!(rig.operation(A, &insert), "DONE ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS");
    let shown = rig.get(&format!("zones/{A}/operations/{insert}")).unwrap();
    let details = &shown["error"]["errors"][0]["errorDetails"];
    assert_eq!(details[2]["errorInfo"]["reason"], "resource_availability");
    let elsewhere = &details[2]["errorInfo"]["metadatas"]["zonesAvailable"];
    assert_eq!(elsewhere, "us-central1-b,us-central1-c,us-central1-f");
    assert_eq!(shown["httpErrorStatusCode"], 503);
}

#[test]
fn the_name_stays_taken_after_a_stockout() {
    let mut rig = Rig::new();
    rig.compute.capacity = vec![sold_out(A)];
    rig.insert(A, machine(A, "m-1"));
    rig.pass(300);
    assert_eq!(rig.status(A, "m-1"), "PROVISIONING", "it is still visible");
    rig.compute.capacity.clear();
    assert_eq!(rig.insert_with(A, "", machine(A, "m-1")).unwrap_err(), "409 alreadyExists");
    rig.pass(1_000);
    assert_eq!(rig.status(A, "m-1"), "404 notFound");
    rig.insert(A, machine(A, "m-1"));

    // Or until somebody removes what is left.
    rig.compute.capacity = vec![sold_out(A)];
    rig.compute.timing.leftover_ms = 3_600_000;
    rig.insert(A, machine(A, "m-2"));
    rig.pass(60_000);
    assert_eq!(rig.insert_with(A, "", machine(A, "m-2")).unwrap_err(), "409 alreadyExists");
    rig.delete(A, "m-2").unwrap();
    rig.pass(1_000);
    assert_eq!(rig.status(A, "m-2"), "404 notFound");
}

#[test]
fn operations_are_not_found_when_told_and_when_they_are_old() {
    let mut rig = Rig::with(Knobs { forget_operations: 1, ..Knobs::default() });
    let insert = rig.insert(A, machine(A, "m-1"));
    let path = format!("zones/{A}/operations/{insert}");
    assert_eq!(rig.get(&path).unwrap_err(), "404 notFound");
    assert!(rig.get(&path).is_ok());
    assert_eq!(rig.get(&format!("zones/{B}/operations/{insert}")).unwrap_err(), "404 notFound");
    rig.compute.timing.operations_kept_ms = 1_000;
    rig.pass(1_500);
    assert_eq!(rig.get(&path).unwrap_err(), "404 notFound");
    assert_eq!(rig.status(A, "m-1"), "RUNNING", "what it did stays done");
}

#[test]
fn the_same_name_in_another_zone_is_another_machine() {
    let mut rig = Rig::new();
    rig.insert(A, machine(A, "m-1"));
    rig.insert(B, machine(B, "m-1"));
    rig.pass(1_000);
    assert_eq!(rig.compute.instances().count(), 2);
}

#[test]
fn deleting_what_is_gone_is_not_found() {
    let mut rig = Rig::new();
    assert_eq!(rig.delete(A, "m-1").unwrap_err(), "404 notFound");
}

#[test]
fn a_delete_that_is_under_way_is_not_repeated() {
    let mut rig = Rig::new();
    rig.insert(A, machine(A, "m-1"));
    rig.pass(1_000);
    rig.delete(A, "m-1").unwrap();
    assert_eq!(rig.delete(A, "m-1").unwrap_err(), "400 resourceNotReady");
    rig.pass(1_000);
    assert_eq!(rig.delete(A, "m-1").unwrap_err(), "404 notFound");
}

#[test]
fn deletes_can_fail_for_hours() {
    let mut rig = Rig::with(Knobs { deletes_fail_ms: 2 * 3_600_000, ..Knobs::default() });
    rig.insert(A, machine(A, "m-1"));
    for _ in 0..2 {
        rig.pass(3_000_000);
        let delete = rig.delete(A, "m-1").unwrap()["name"].as_str().unwrap().to_owned();
        rig.pass(1_000);
        assert_eq!(rig.operation(A, &delete), "DONE INTERNAL_ERROR");
        assert_eq!(rig.status(A, "m-1"), "RUNNING");
    }
    rig.pass(1_300_000);
    rig.delete(A, "m-1").unwrap();
    rig.pass(1_000);
    assert_eq!(rig.status(A, "m-1"), "404 notFound");
}

#[test]
fn a_delete_that_races_its_create_comes_after_it() {
    let mut rig = Rig::new();
    let insert = rig.insert(A, machine(A, "m-1"));
    rig.pass(100);
    let delete = rig.delete(A, "m-1").unwrap()["name"].as_str().unwrap().to_owned();
    assert_eq!(rig.status(A, "m-1"), "PROVISIONING");
    rig.pass(300);
    assert_eq!(
        (rig.operation(A, &insert), rig.operation(A, &delete)),
        ("DONE".into(), "RUNNING".into())
    );
    rig.pass(1_000);
    assert_eq!(
        (rig.operation(A, &delete), rig.status(A, "m-1")),
        ("DONE".into(), "404 notFound".into())
    );
    let boots = rig.compute.log().iter().filter(|entry| entry.what == "boots").count();
    assert_eq!((boots, rig.disks()), (0, vec![]));
}

#[test]
fn a_preemption_without_notice_stops_at_once_and_its_disk_still_bills() {
    let mut rig = Rig::new();
    rig.insert(A, spot(A, "m-1", "STOP", "0"));
    rig.pass(1_000);
    rig.compute.preempt(A, "m-1", rig.now).unwrap();
    assert_eq!(rig.status(A, "m-1"), "STOPPING");
    rig.obey();
    rig.pass(200);
    assert_eq!(rig.status(A, "m-1"), "TERMINATED");
    let usage = rig.compute.usage("us-central1");
    assert_eq!(usage.get("SSD_TOTAL_GB"), Some(&50.0), "{usage:?}");
    assert_eq!(usage.get("N2_CPUS"), None, "{usage:?}");
    let told = rig.get(&format!(
        "zones/{A}/operations?filter=operationType%20%3D%20compute.instances.preempted"
    ));
    assert_eq!(
        told.unwrap()["items"][0]["targetLink"].as_str().unwrap().rsplit('/').next(),
        Some("m-1")
    );
    rig.delete(A, "m-1").unwrap();
    rig.pass(1_000);
    assert_eq!(rig.disks(), []);
}

#[test]
fn a_preemption_with_notice_leaves_two_minutes_and_may_delete() {
    let mut rig = Rig::new();
    rig.insert(A, spot(A, "m-1", "DELETE", "120"));
    rig.pass(1_000);
    rig.compute.preempt(A, "m-1", rig.now).unwrap();
    assert!(rig.compute.instance(A, "m-1").unwrap().preempted, "its guest can know");
    rig.pass(119_000);
    assert_eq!(rig.status(A, "m-1"), "RUNNING");
    rig.pass(2_000);
    assert_eq!(rig.status(A, "m-1"), "404 notFound");
    assert_eq!(rig.disks(), []);
    assert!(rig.compute.preempt(A, "m-1", rig.now).is_err());
}

#[test]
fn only_spot_is_preempted() {
    let mut rig = Rig::new();
    rig.insert(A, machine(A, "m-1"));
    rig.pass(1_000);
    assert!(rig.compute.preempt(A, "m-1", rig.now).is_err());
}

#[test]
fn a_disk_that_was_left_is_used_again() {
    let mut rig = Rig::with(Knobs { leak_disks: 1, ..Knobs::default() });
    rig.insert(A, machine(A, "m-1"));
    rig.pass(1_000);
    rig.delete(A, "m-1").unwrap();
    rig.pass(1_000);
    assert_eq!(rig.disks(), [("m-1", 1)], "it was left behind");
    rig.insert(A, machine(A, "m-1"));
    rig.pass(1_000);
    assert_eq!(rig.disks(), [("m-1", 2)], "the new machine has the old one's disk");
    let reused = rig.compute.log().iter().any(|entry| entry.what == "disk reused");
    assert!(reused);

    // One that a machine has is not taken from it.
    let mut thief = machine(A, "m-2");
    thief["disks"][0]["initializeParams"]["diskName"] = json!("m-1");
    let insert = rig.insert(A, thief);
    rig.pass(1_000);
    assert_eq!(rig.operation(A, &insert), "DONE RESOURCE_IN_USE_BY_ANOTHER_RESOURCE");
}

#[test]
fn a_disk_is_listed_and_deleted_by_itself() {
    let mut rig = Rig::new();
    let left = NewDisk {
        name: "left".to_owned(),
        disk_type: "pd-ssd".to_owned(),
        size_gb: 10,
        ..NewDisk::default()
    };
    rig.compute.leave_disk(A, left, rig.now);
    let found = rig.get("aggregated/disks").unwrap();
    assert_eq!(found["items"][format!("zones/{A}")]["disks"][0]["name"], "left");
    rig.call(&format!("DELETE zones/{A}/disks/left"), Value::Null).unwrap();
    rig.pass(1_000);
    assert_eq!(rig.disks(), []);
    rig.insert(A, machine(A, "m-1"));
    let refused = rig.call(&format!("DELETE zones/{A}/disks/m-1"), Value::Null);
    assert_eq!(refused.unwrap_err(), "400 resourceInUseByAnotherResource");
}

#[test]
fn a_request_id_brings_back_its_first_operation_whatever_is_asked() {
    let mut rig = Rig::new();
    rig.compute.capacity = vec![sold_out(A)];
    let id = "requestId=0198f2c4-7d1e-4c3a-9b1e-5a2f6c1d0e11";
    let first = rig.insert_with(A, id, machine(A, "m-1")).unwrap();
    rig.pass(2_000);
    rig.compute.capacity.clear();
    let mut other = machine(A, "m-1");
    other["machineType"] = json!(format!("zones/{A}/machineTypes/e2-standard-2"));
    let again = rig.insert_with(A, id, other.clone()).unwrap();
    assert_eq!(again, first, "another offer, and the old failure");
    assert_eq!(rig.operation(A, &again), "DONE ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS");
    rig.pass(1_000);
    assert_eq!(rig.status(A, "m-1"), "404 notFound", "nothing was made");
    assert_ne!(rig.insert_with(B, id, machine(B, "m-1")).unwrap(), first, "a zone has its own");
    rig.pass(3_600_000);
    assert_ne!(rig.insert_with(A, id, other).unwrap(), first, "it is forgotten after an hour");
    let nil =
        rig.insert_with(A, "requestId=00000000-0000-0000-0000-000000000000", machine(A, "m-2"));
    assert_eq!(nil.unwrap_err(), "400 invalid");
}

#[test]
fn a_repeated_request_makes_one_machine() {
    let mut rig = Rig::new();
    let id = "requestId=0198f2c4-7d1e-4c3a-9b1e-5a2f6c1d0e12";
    let first = rig.insert_with(A, id, machine(A, "m-1")).unwrap();
    assert_eq!(rig.insert_with(A, id, machine(A, "m-1")).unwrap(), first);
    let shown = rig.get(&format!("zones/{A}/operations/{first}")).unwrap();
    assert_eq!(shown["clientOperationId"], "0198f2c4-7d1e-4c3a-9b1e-5a2f6c1d0e12");
    assert_eq!(rig.compute.instances().count(), 1);
}

#[test]
fn a_machine_may_never_boot() {
    let mut rig = Rig::with(Knobs { never_boot: 1, ..Knobs::default() });
    rig.insert(A, machine(A, "m-1"));
    rig.insert(A, machine(A, "m-2"));
    rig.pass(60_000);
    assert_eq!((rig.status(A, "m-1"), rig.status(A, "m-2")), ("RUNNING".into(), "RUNNING".into()));
    let log = rig.compute.log().iter().filter(|entry| entry.what == "boots");
    assert_eq!(log.map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["m-2"]);
}

#[test]
fn a_machine_that_has_run_its_time_deletes_itself_unless_it_stopped_before() {
    let mut rig = Rig::new();
    rig.insert(A, machine(A, "m-1"));
    rig.insert(A, machine(A, "m-2"));
    rig.pass(10_000);
    let id = rig.compute.instance(A, "m-2").unwrap().id;
    rig.compute.power_off(id, rig.now);
    rig.obey();
    rig.pass(1_000);
    assert_eq!(rig.status(A, "m-2"), "TERMINATED");
    let shown = rig.get(&format!("zones/{A}/instances/m-2")).unwrap();
    assert_eq!(shown["resourceStatus"]["scheduling"].get("terminationTimestamp"), None);
    rig.pass(7_500_000);
    assert_eq!(rig.status(A, "m-1"), "404 notFound");
    assert_eq!(rig.status(A, "m-2"), "TERMINATED", "nothing ends it any more");
    assert_eq!(rig.disks(), [("m-2", 1)]);
}

#[test]
fn an_operation_may_never_end_and_a_machine_may_vanish() {
    let mut rig = Rig::with(Knobs { stuck_operations: 1, ..Knobs::default() });
    let insert = rig.insert(A, machine(A, "m-1"));
    rig.pass(3_600_000);
    assert_eq!(
        (rig.operation(A, &insert), rig.status(A, "m-1")),
        ("RUNNING".into(), "RUNNING".into())
    );
    assert!(rig.compute.vanish(A, "m-1", rig.now));
    assert_eq!((rig.status(A, "m-1"), rig.disks()), ("404 notFound".into(), vec![]));
}

#[test]
fn inserts_fail_with_the_code_that_was_told() {
    let failed = json!({"fail_inserts": {"code": "IP_SPACE_EXHAUSTED", "message": "full", "times": 1, "zone": A}});
    let mut rig = Rig::with(serde_json::from_value(failed).unwrap());
    let elsewhere = rig.insert(B, machine(B, "m-1"));
    let here = rig.insert(A, machine(A, "m-1"));
    rig.pass(500);
    assert_eq!(rig.operation(A, &here), "DONE IP_SPACE_EXHAUSTED");
    assert_eq!(rig.operation(B, &elsewhere), "DONE");
}
