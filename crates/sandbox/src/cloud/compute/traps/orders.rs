//! What an insert is held to beyond its schema, and what can be read of everything else.

use serde_json::{Value, json};

use super::{A, B, Rig, machine};
use crate::cloud::compute::Call;
use crate::cloud::discovery::DISCOVERY;

/// Asks for a machine that was changed so, and says what came of it.
fn told(change: impl FnOnce(&mut Value)) -> String {
    let mut rig = Rig::new();
    let mut body = machine(A, "m-1");
    change(&mut body);
    let path = format!("/compute/v1/projects/sandbox-project/zones/{A}/instances");
    let found = DISCOVERY.find("POST", &path).unwrap();
    let call = Call {
        method: &found.method.id,
        path: &found.path,
        query: &[],
        body: &body,
        account: None,
    };
    match rig.compute.call(call, rig.now) {
        Ok(_) => "taken".to_owned(),
        Err(refusal) => format!("{} {}", refusal.code, refusal.message),
    }
}

/// What comes of a machine with this in place of what stood there.
#[track_caller]
fn check(path: &str, value: Value, expected: &str) {
    let told = told(|body| {
        *body.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone();
    });
    let expected = expected.replace("FIELD", "400 Invalid value for field 'resource");
    assert!(told.starts_with(&expected), "{path} = {value}\n  is: {told}\n  not: {expected}");
}

/// Of the boot disk.
fn parameter(name: &str) -> String {
    format!("/disks/0/initializeParams/{name}")
}

#[test]
fn machine_types_are_of_the_zone_and_exist() {
    let check = |url: &str, expected: &str| check("/machineType", json!(url), expected);
    let here = |name: &str| format!("zones/{A}/machineTypes/{name}");
    check(&here("n2-standard-2"), "taken");
    let full = "https://www.googleapis.com/compute/v1/projects/p";
    check(&format!("{full}/{}", here("n2-standard-2")), "taken");
    let there = format!("zones/{B}/machineTypes/n2-standard-2");
    check(&there, &format!("FIELD.machineType': '{there}'. The machine type must be in the zone"));
    check("n2-standard-2", "FIELD.machineType': 'n2-standard-2'. The URL is malformed");
    check(&here("n2-custom-3-4096"), "FIELD.machineType'");
    let image = "projects/debian-cloud/global/images/family/debian-12";
    let field = "FIELD.disks[0].initializeParams.sourceImage'";
    check(&here("t2a-standard-2"), &format!("{field}: '{image}'. The image's architecture"));
}

#[test]
fn disks_have_to_make_sense() {
    let check_parameter = |name: &str, value: &str, expected: &str| {
        let expected = format!("FIELD.disks[0].{expected}");
        check(&parameter(name), json!(value), &expected);
    };
    check_parameter("diskType", "pd-balanced", "initializeParams.diskType'");
    let there = format!("zones/{B}/diskTypes/pd-balanced");
    check_parameter("diskType", &there, "initializeParams.diskType'");
    check_parameter("diskType", &format!("zones/{A}/diskTypes/local-ssd"), "type'");
    let small = "initializeParams.diskSizeGb': '5'. Requested disk size cannot be smaller";
    check_parameter("diskSizeGb", "5", small);
    let image = "projects/debian-cloud/global/images/family/debian-99";
    let absent = format!(
        "initializeParams.sourceImage': '{image}'. The referenced image resource cannot be found."
    );
    check_parameter("sourceImage", image, &absent);
    check("/disks/0/boot", json!(false), "FIELD.disks'");
}

#[test]
fn labels_times_and_networks_have_to_make_sense() {
    check("/name", json!("m-1"), "taken");
    check("/labels", json!({"Upper": "x"}), "FIELD.labels': 'Upper=x'");
    check("/labels", json!({"key": "No"}), "FIELD.labels'");
    check("/scheduling/maxRunDuration/seconds", json!("29"), "FIELD.scheduling.maxRunDuration'");
    let action = "/scheduling/instanceTerminationAction";
    check(action, Value::Null, "FIELD.scheduling.maxRunDuration'");
    check("/networkInterfaces", json!([]), "FIELD.networkInterfaces'");
    let subnetwork = "/networkInterfaces/0/subnetwork";
    let field = "FIELD.networkInterfaces[0].subnetwork'";
    check(subnetwork, json!("regions/us-central1/subnetworks/ci"), "taken");
    check(subnetwork, json!("regions/us-central1/subnetworks/other"), field);
    let far = "regions/europe-west1/subnetworks/ci";
    let expected = format!("{field}: '{far}'. The subnetwork must be in the region");
    check(subnetwork, json!(far), &expected);
}

#[test]
fn what_is_added_has_to_make_sense_too() {
    let check = |key: &str, value: Value, expected: &str| {
        let told = told(|body| body[key] = value.clone());
        assert!(told.starts_with(expected), "{key} = {value}\n  is: {told}\n  not: {expected}");
    };
    let account = |email: &str| json!([{"email": email, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}]);
    check("serviceAccounts", account("ci-agent@sandbox-project.iam.gserviceaccount.com"), "taken");
    check(
        "serviceAccounts",
        account("other@x"),
        "400 Invalid value for field 'resource.serviceAccounts[0].email': 'other@x'. The referenced service account does not exist.",
    );
    let items = |items: &[(&str, usize)]| {
        let items = items.iter().map(|(key, size)| json!({"key": key, "value": "x".repeat(*size)}));
        json!({"items": items.collect::<Vec<_>>()})
    };
    check("metadata", items(&[("startup-script", 262_144)]), "taken");
    check(
        "metadata",
        items(&[("startup-script", 262_145)]),
        "400 Invalid value for field 'resource.metadata'",
    );
    check(
        "metadata",
        items(&[("a", 1), ("a", 1)]),
        "400 Invalid value for field 'resource.metadata'",
    );
    check("metadata", items(&[("a", 262_000), ("b", 262_000), ("c", 262)]), "taken");
    check(
        "metadata",
        items(&[("a", 262_000), ("b", 262_000), ("c", 300)]),
        "400 Invalid value for field 'resource.metadata'",
    );
    let notice = |seconds: &str, model: &str| json!({"provisioningModel": model, "preemptionNoticeDuration": {"seconds": seconds}});
    check("scheduling", notice("120", "SPOT"), "taken");
    check(
        "scheduling",
        notice("60", "SPOT"),
        "400 Invalid value for field 'resource.scheduling.preemptionNoticeDuration'",
    );
    check(
        "scheduling",
        notice("120", "STANDARD"),
        "400 Invalid value for field 'resource.scheduling.preemptionNoticeDuration'",
    );
}

#[test]
fn local_disks_come_in_the_numbers_that_the_type_takes() {
    let check = |machine_type: &str, count: usize, expected: &str| {
        let told = told(|body| {
            body["machineType"] = json!(format!("zones/{A}/machineTypes/{machine_type}"));
            let ssd = json!({"type": "SCRATCH", "autoDelete": true, "interface": "NVME", "initializeParams": {"diskType": format!("zones/{A}/diskTypes/local-ssd")}});
            body["disks"].as_array_mut().unwrap().extend(vec![ssd; count]);
        });
        assert!(
            told.starts_with(expected),
            "{machine_type} {count}\n  is: {told}\n  not: {expected}"
        );
    };
    check("n2-standard-4", 2, "taken");
    check(
        "n2-standard-16",
        1,
        "400 Invalid value for field 'resource.disks': '1'. [1] is not one of the numbers",
    );
    check(
        "e2-standard-4",
        1,
        "400 Invalid value for field 'resource.disks': '1'. e2-standard-4 does not take local SSDs",
    );
}

#[test]
fn everything_else_can_be_read() {
    let mut rig = Rig::new();
    assert_eq!(Rig::names(&rig.get("zones").unwrap()).len(), 7);
    assert_eq!(Rig::names(&rig.get("regions").unwrap()), ["europe-west1", "us-central1"]);
    assert_eq!(rig.get(&format!("zones/{A}")).unwrap()["status"], "UP");
    assert_eq!(rig.get("zones/mars-north1-a").unwrap_err(), "400 invalid");
    let custom = rig.get(&format!("zones/{A}/machineTypes/n2-custom-6-12288")).unwrap();
    assert_eq!((&custom["guestCpus"], &custom["memoryMb"]), (&json!(6), &json!(12_288)));
    let bundled = rig.get(&format!("zones/{A}/machineTypes/c3-standard-8-lssd")).unwrap();
    assert_eq!(bundled["bundledLocalSsds"]["partitionCount"], 2);
    assert_eq!(
        rig.get(&format!("zones/{A}/machineTypes/n2-custom-3-1")).unwrap_err(),
        "404 notFound"
    );
    assert!(
        Rig::names(&rig.get(&format!("zones/{A}/machineTypes?maxResults=500")).unwrap()).len()
            > 200
    );
    assert_eq!(rig.get("global/images/family/bk-agent").unwrap()["name"], "bk-agent-1");
    assert_eq!(rig.get("global/images/none").unwrap_err(), "404 notFound");
    assert_eq!(rig.get("regions/us-central1/subnetworks/ci").unwrap()["purpose"], "PRIVATE");
}

#[test]
fn labels_and_metadata_are_changed_by_whoever_has_seen_them() {
    let mut rig = Rig::new();
    rig.insert(A, machine(A, "m-1"));
    let shown = rig.get(&format!("zones/{A}/instances/m-1")).unwrap();
    let labels = format!("POST zones/{A}/instances/m-1/setLabels");
    let stale = rig.call(&labels, json!({"labels": {"a": "b"}, "labelFingerprint": "AAAA"}));
    assert_eq!(stale.unwrap_err(), "412 conditionNotMet");
    rig.call(&labels, json!({"labels": {"a": "b"}, "labelFingerprint": shown["labelFingerprint"]}))
        .unwrap();
    let metadata = format!("POST zones/{A}/instances/m-1/setMetadata");
    let items = json!([{"key": "k", "value": "v"}]);
    rig.call(&metadata, json!({"items": items, "fingerprint": shown["metadata"]["fingerprint"]}))
        .unwrap();
    let shown = rig.get(&format!("zones/{A}/instances/m-1")).unwrap();
    assert_eq!((&shown["labels"], &shown["metadata"]["items"]), (&json!({"a": "b"}), &items));
}

#[test]
fn every_method_is_played() {
    let mut rig = Rig::new();
    for id in DISCOVERY.method_ids() {
        let path = [("project", "sandbox-project"), ("zone", A), ("region", "us-central1")];
        let path = path.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let call = Call { method: id, path: &path, query: &[], body: &Value::Null, account: None };
        if let Err(refusal) = rig.compute.call(call, rig.now) {
            assert_ne!(refusal.code, 500, "{id}: {}", refusal.message);
        }
    }
}
