//! Rates, quotas, capacity, constraints, permissions; and lists that do not tell everything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{A, B, Rig, machine, spot};
use crate::cloud::compute::rates::Group;
use crate::cloud::compute::{Capacity, Constraint, Grants, Knobs, Rates};

fn quotas(of: Value) -> BTreeMap<String, BTreeMap<String, f64>> {
    serde_json::from_value(of).unwrap()
}

#[test]
fn whoever_waits_for_the_minute_wakes_with_everybody_else() {
    let mut rig = Rig::new();
    rig.compute.rates = Rates { writes: 2, ..Rates::default() };
    let at = |zone: &str| BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
    let count = |rig: &mut Rig, group: Group, zone: &str| {
        let counted = rig.compute.count(group, &at(zone), rig.now);
        counted.map_err(|refusal| format!("{} {} {}", refusal.code, refusal.reason, refusal.domain))
    };
    // Two regions, and two clients in one of them that began at different times.
    assert_eq!(count(&mut rig, Group::Writes, A), Ok(()));
    rig.pass(20_000);
    assert_eq!(count(&mut rig, Group::Writes, B), Ok(()));
    let refused = Err("403 rateLimitExceeded usageLimits".to_owned());
    assert_eq!(count(&mut rig, Group::Writes, A), refused);
    assert_eq!(count(&mut rig, Group::Writes, "europe-west1-b"), Ok(()), "another region");
    assert_eq!(count(&mut rig, Group::Reads, A), Ok(()), "another kind of calls");
    rig.pass(29_999);
    assert_eq!(count(&mut rig, Group::Writes, A), refused, "to the end of the minute");
    rig.pass(1);
    assert_eq!(count(&mut rig, Group::Writes, A), Ok(()));
    assert_eq!(count(&mut rig, Group::Writes, B), Ok(()));
    assert_eq!(count(&mut rig, Group::Writes, B), refused, "a new minute and the same limit");
}

#[test]
fn kinds_of_calls_are_counted_apart() {
    let check = |method: &str, expected: Option<Group>| assert_eq!(Group::of(method), expected);
    check("compute.instances.insert", Some(Group::Writes));
    check("compute.instances.list", Some(Group::Reads));
    check("compute.instances.aggregatedList", Some(Group::HeavyReads));
    check("compute.zoneOperations.list", Some(Group::OperationReads));
    check("compute.zoneOperations.wait", Some(Group::HeavyReads));
    check("compute.instances.getSerialPortOutput", Some(Group::SerialPortReads));
    check("iam.projects.serviceAccounts.testIamPermissions", None);
}

#[test]
fn quotas_fail_operations_by_metric_and_region() {
    let mut rig = Rig::new();
    rig.compute.set_quotas(quotas(json!({
        "us-central1": {"N2_CPUS": 3, "SSD_TOTAL_GB": 500, "CPUS": 24},
        "global": {"CPUS_ALL_REGIONS": 100},
    })));
    rig.insert(A, machine(A, "m-1"));
    let second = rig.insert(B, machine(B, "m-2"));
    rig.pass(500);
    assert_eq!(rig.operation(B, &second), "DONE QUOTA_EXCEEDED");
    let shown = rig.get(&format!("zones/{B}/operations/{second}")).unwrap();
    let error = &shown["error"]["errors"][0];
    assert_eq!(error["message"], "Quota 'N2_CPUS' exceeded.  Limit: 3.0 in region us-central1.");
    let info = &error["errorDetails"][0]["quotaInfo"];
    assert_eq!(info["limit"], 3.0);
    assert_eq!(info["metricName"], "compute.googleapis.com/n2_cpus");
    let other_family = machine_of(B, "m-3", "e2-standard-2");
    let (third, fourth) = (
        rig.insert(B, other_family),
        rig.insert("europe-west1-b", machine("europe-west1-b", "m-4")),
    );
    rig.pass(500);
    assert_eq!(rig.operation(B, &third), "DONE", "another metric");
    assert_eq!(rig.operation("europe-west1-b", &fourth), "DONE", "another region");
    let region = rig.get("regions/us-central1").unwrap();
    let used = region["quotas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|quota| (quota["metric"].as_str().unwrap(), quota["usage"].as_f64().unwrap()));
    let used: Vec<_> = used.collect();
    assert_eq!(used, [("CPUS", 2.0), ("N2_CPUS", 2.0), ("SSD_TOTAL_GB", 100.0)]);
}

fn machine_of(zone: &str, name: &str, machine_type: &str) -> Value {
    let mut body = machine(zone, name);
    body["machineType"] = json!(format!("zones/{zone}/machineTypes/{machine_type}"));
    body
}

#[test]
fn every_metric_is_counted() {
    let check = |quota: Value, change: &dyn Fn(&mut Value), expected: &str| {
        let mut rig = Rig::new();
        rig.compute.set_quotas(quotas(quota.clone()));
        let mut body = machine(A, "m-1");
        change(&mut body);
        let insert = rig.insert(A, body);
        rig.pass(500);
        let shown = rig.get(&format!("zones/{A}/operations/{insert}")).unwrap();
        let message = shown["error"]["errors"][0]["message"].as_str().unwrap_or("none");
        assert!(message.starts_with(expected), "{quota}\n  is: {message}\n  not: {expected}");
    };
    let us = |metric: &str, limit: f64| json!({"us-central1": {metric: limit}});
    let none = |_: &mut Value| ();
    check(
        us("SSD_TOTAL_GB", 49.0),
        &none,
        "Quota 'SSD_TOTAL_GB' exceeded.  Limit: 49.0 in region us-central1.",
    );
    check(us("SSD_TOTAL_GB", 50.0), &none, "none");
    check(us("INSTANCES", 0.0), &none, "Quota 'INSTANCES' exceeded.");
    check(
        json!({"global": {"CPUS_ALL_REGIONS": 1}}),
        &none,
        "Quota 'CPUS_ALL_REGIONS' exceeded.  Limit: 1.0 globally.",
    );
    let with_ssds = |body: &mut Value| {
        let ssd = json!({"type": "SCRATCH", "autoDelete": true, "initializeParams": {"diskType": format!("zones/{A}/diskTypes/local-ssd")}});
        body["disks"].as_array_mut().unwrap().extend([ssd.clone(), ssd]);
    };
    check(us("LOCAL_SSD_TOTAL_GB", 749.0), &with_ssds, "Quota 'LOCAL_SSD_TOTAL_GB' exceeded.");
    check(us("LOCAL_SSD_TOTAL_GB", 750.0), &with_ssds, "none");
    let external = |body: &mut Value| {
        body["networkInterfaces"][0]["accessConfigs"] = json!([{"type": "ONE_TO_ONE_NAT"}]);
    };
    check(us("IN_USE_ADDRESSES", 0.0), &external, "Quota 'IN_USE_ADDRESSES' exceeded.");
    check(us("IN_USE_ADDRESSES", 0.0), &none, "none");
    let on_spot = |body: &mut Value| *body = spot(A, "m-1", "STOP", "0");
    check(us("N2_CPUS", 0.0), &on_spot, "Quota 'N2_CPUS' exceeded.");
    check(json!({"us-central1": {"N2_CPUS": 0, "PREEMPTIBLE_CPUS": 2}}), &on_spot, "none");
    check(us("PREEMPTIBLE_CPUS", 1.0), &on_spot, "Quota 'PREEMPTIBLE_CPUS' exceeded.");
    let family = |body: &mut Value| {
        body["machineType"] = json!(format!("zones/{A}/machineTypes/n4-standard-2"));
        body["disks"][0]["initializeParams"]["diskType"] =
            json!(format!("zones/{A}/diskTypes/hyperdisk-balanced"));
    };
    check(us("CPUS_PER_VM_FAMILY:N4", 0.0), &family, "Quota 'CPUS_PER_VM_FAMILY' exceeded.");
    check(us("HDB_TOTAL_GB", 0.0), &family, "Quota 'HDB_TOTAL_GB' exceeded.");
}

#[test]
fn a_quota_may_refuse_the_call_itself() {
    let mut rig = Rig::with(Knobs { quota_by_call: true, ..Knobs::default() });
    rig.compute.set_quotas(quotas(json!({"us-central1": {"N2_CPUS": 0}})));
    assert_eq!(rig.insert_with(A, "", machine(A, "m-1")).unwrap_err(), "403 quotaExceeded");
    assert_eq!(rig.status(A, "m-1"), "404 notFound");
}

#[test]
fn capacity_is_by_zone_type_and_spot() {
    let mut rig = Rig::new();
    let rule = |machines| Capacity {
        zone: Some(A.to_owned()),
        machine_type: Some("n2-*".to_owned()),
        spot: Some(true),
        machines,
    };
    rig.compute.capacity = vec![rule(1)];
    let tries = [
        rig.insert(A, spot(A, "m-1", "DELETE", "0")),
        rig.insert(A, spot(A, "m-2", "DELETE", "0")),
        rig.insert(A, machine(A, "m-3")),
        rig.insert(A, machine_of(A, "m-4", "e2-standard-2")),
    ];
    rig.pass(500);
    let ends = tries.map(|operation| rig.operation(A, &operation));
    let stockout = "DONE ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS";
    assert_eq!(ends, ["DONE", stockout, "DONE", "DONE"]);
    rig.pass(1_000);
    rig.delete(A, "m-1").unwrap();
    rig.pass(1_000);
    let again = rig.insert(A, spot(A, "m-2", "DELETE", "0"));
    rig.pass(500);
    assert_eq!(rig.operation(A, &again), "DONE", "there is room again");
}

#[test]
fn the_organisation_does_not_allow_everything() {
    let check = |constraint: Constraint, good: Value, bad: Value| {
        let mut rig = Rig::new();
        rig.compute.constraints = BTreeSet::from([constraint]);
        let zone = |body: &Value| {
            body["machineType"].as_str().unwrap().split('/').nth(1).unwrap().to_owned()
        };
        assert_eq!(rig.insert_with(&zone(&bad), "", bad).unwrap_err(), "412 conditionNotMet");
        assert!(rig.insert_with(&zone(&good), "", good).is_ok(), "{constraint:?}");
    };
    let with = |key: &str, value: Value| {
        let mut body = machine(A, "m-1");
        body[key] = value;
        body
    };
    let mut external = machine(A, "m-1");
    external["networkInterfaces"][0]["accessConfigs"] = json!([{"type": "ONE_TO_ONE_NAT"}]);
    check(Constraint::NoExternalIp, machine(A, "m-1"), external);
    let shielded = with("shieldedInstanceConfig", json!({"enableSecureBoot": true}));
    check(Constraint::ShieldedVm, shielded, machine(A, "m-1"));
    let mut own = machine(A, "m-1");
    own["disks"][0]["initializeParams"]["sourceImage"] = json!("global/images/family/bk-agent");
    check(Constraint::TrustedImages, own, machine(A, "m-1"));
    check(Constraint::Locations, machine(A, "m-1"), machine("europe-west1-b", "m-1"));
}

#[test]
fn permissions_are_asked_for_and_can_be_tested() {
    let mut rig = Rig::new();
    let granted = [
        "compute.instances.create",
        "compute.disks.create",
        "compute.images.useReadOnly",
        "compute.subnetworks.use",
    ];
    let granted: BTreeSet<String> = granted.map(str::to_owned).into();
    rig.compute.grants = Grants { everybody: Some(granted.clone()), ..Grants::default() };
    assert_eq!(
        rig.insert_with(A, "", machine(A, "m-1")).unwrap_err(),
        "403 forbidden",
        "it has labels"
    );
    assert_eq!(rig.get(&format!("zones/{A}/instances")).unwrap_err(), "403 forbidden");
    let mut plain = machine(A, "m-1");
    plain.as_object_mut().unwrap().remove("labels");
    rig.insert(A, plain);
    let asked =
        json!({"permissions": ["compute.subnetworks.use", "compute.subnetworks.useExternalIp"]});
    let tested =
        rig.call("POST regions/us-central1/subnetworks/ci/testIamPermissions", asked.clone());
    assert_eq!(tested.unwrap(), json!({"permissions": ["compute.subnetworks.use"]}));
    let absent = rig.call("POST regions/us-central1/subnetworks/other/testIamPermissions", asked);
    assert_eq!(absent.unwrap_err(), "404 notFound");
}

#[test]
fn an_empty_page_may_have_a_token_and_pages_are_complete() {
    let mut rig = Rig::with(Knobs { empty_pages: 1, ..Knobs::default() });
    for number in 1..=5 {
        rig.insert(A, machine(A, &format!("m-{number}")));
    }
    let mut seen: Vec<String> = Vec::new();
    let mut sizes = Vec::new();
    let mut token = String::new();
    loop {
        let page = rig.get(&format!("zones/{A}/instances?maxResults=2&pageToken={token}")).unwrap();
        sizes.push(Rig::names(&page).len());
        seen.extend(Rig::names(&page).iter().map(|name| (*name).to_owned()));
        let Some(next) = page["nextPageToken"].as_str() else { break };
        next.clone_into(&mut token);
    }
    assert_eq!(sizes, [0, 2, 2, 1]);
    assert_eq!(seen, ["m-1", "m-2", "m-3", "m-4", "m-5"]);
    let bad = rig.get(&format!("zones/{A}/instances?pageToken=nonsense"));
    assert_eq!(bad.unwrap_err(), "400 invalid");
    assert_eq!(rig.get(&format!("zones/{A}/instances?maxResults=501")).unwrap_err(), "400 invalid");
}

#[test]
fn lists_say_what_they_could_not_reach() {
    let mut rig =
        Rig::with(Knobs { unreachable_zones: BTreeSet::from([A.to_owned()]), ..Knobs::default() });
    rig.insert(A, machine(A, "m-1"));
    rig.insert(B, machine(B, "m-2"));
    assert_eq!(rig.get(&format!("zones/{A}/instances")).unwrap_err(), "503 backendError");
    let all = rig.get("aggregated/instances").unwrap();
    assert_eq!(all["unreachables"], json!([format!("zones/{A}")]));
    assert_eq!(all["items"][format!("zones/{A}")]["warning"]["code"], "UNREACHABLE");
    assert_eq!(all["items"][format!("zones/{B}")]["instances"][0]["name"], "m-2");
    assert_eq!(all["items"]["zones/us-central1-c"]["warning"]["code"], "NO_RESULTS_ON_PAGE");

    let mut rig = Rig::with(Knobs { partial_lists: 2, ..Knobs::default() });
    for name in ["m-1", "m-2", "m-3"] {
        rig.insert(A, machine(A, name));
    }
    let partial = rig.get(&format!("zones/{A}/instances")).unwrap();
    assert_eq!(
        (Rig::names(&partial), &partial["warning"]["code"]),
        (vec!["m-1", "m-3"], &json!("PARTIAL_SUCCESS"))
    );
    let partial = rig.get("aggregated/instances").unwrap();
    assert_eq!(partial["unreachables"][1], "zones/us-central1-b");
    assert!(rig.get("aggregated/instances").unwrap().get("unreachables").is_none());
}

#[test]
fn lists_lag_behind_filters_hold_and_the_newest_come_first_if_asked() {
    let mut rig = Rig::with(Knobs { list_lag_ms: 5_000, ..Knobs::default() });
    rig.insert(A, machine(A, "m-1"));
    rig.pass(4_000);
    rig.insert(A, machine(A, "m-2"));
    rig.pass(1_000);
    assert_eq!(Rig::names(&rig.get(&format!("zones/{A}/instances")).unwrap()), ["m-1"]);
    assert_eq!(rig.status(A, "m-2"), "RUNNING", "it can be looked at");
    rig.pass(4_000);
    let listed = |rig: &mut Rig, query: &str| {
        let answer = rig.get(&format!("zones/{A}/instances?{query}"));
        answer.map(|answer| Rig::names(&answer).join(" "))
    };
    assert_eq!(listed(&mut rig, "").unwrap(), "m-1 m-2");
    assert_eq!(listed(&mut rig, "orderBy=creationTimestamp%20desc").unwrap(), "m-2 m-1");
    assert_eq!(listed(&mut rig, "filter=labels.job%3Dm-2").unwrap(), "m-2");
    assert_eq!(listed(&mut rig, "filter=nothing%3Dm-2").unwrap_err(), "400 invalid");
    assert_eq!(listed(&mut rig, "orderBy=status").unwrap_err(), "400 invalid");
}
