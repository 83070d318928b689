//! What Google is asked for: from an order to the body of `instances.insert`. Pure; the operator's
//! template lies under what is ours.

use std::collections::BTreeMap;

use guest::vm;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::settings::{Delivery, SelfDelete, Settings, region_of};
use super::stamp::{self, Stamp};
use crate::contract::{Class, Error, Order, Vm};

/// What runs first on a machine.
const STARTUP_SCRIPT: &str = include_str!("startup-script.sh");
/// The operator's own one, which ours runs before everything else.
const THEIR_SCRIPT: &str = "jitney-setup-script";
const ALL_SCOPES: &str = "https://www.googleapis.com/auth/cloud-platform";
/// With a token of this scope one may ask whose it is, and nothing else.
const IDENTITY_SCOPE: &str = "https://www.googleapis.com/auth/userinfo.email";

/// The whole body. What an order lacks is refused in words for whoever wrote the configuration.
pub(super) fn instance(settings: &Settings, order: &Order) -> Result<Value, Error> {
    let rejected = |words: &str| Error::new(Class::Rejected, words);
    let vm = order.vm.as_ref().ok_or_else(|| rejected("the order names no virtual machine"))?;
    let image = settings.image_for(order.image.as_deref()).ok_or_else(|| {
        rejected("neither the job nor the configuration (gce.image) names an image")
    })?;
    let template = settings.template.as_object().cloned().unwrap_or_default();
    let mut body = template.clone();
    let zone = &order.place;
    let mut labels = texts(template.get("labels"));
    labels.extend(stamp::labels(order));
    let ours = json!({
        "name": order.name,
        "description": Stamp::of(order).text(),
        "machineType": format!("zones/{zone}/machineTypes/{}", order.machine_type),
        "labels": labels,
        "scheduling": scheduling(template.get("scheduling"), order),
        "disks": disks(template.get("disks"), order, vm, &image, &labels),
        "networkInterfaces": interfaces(template.get("networkInterfaces"), settings, order, vm),
        "metadata": metadata(template.get("metadata"), settings, order),
        "shieldedInstanceConfig": merged(
            &json!({ "enableSecureBoot": true, "enableVtpm": true, "enableIntegrityMonitoring": true }),
            template.get("shieldedInstanceConfig"),
        ),
    });
    body.extend(ours.as_object().cloned().unwrap_or_default());
    let accounts = accounts(body.remove("serviceAccounts").as_ref(), settings, order);
    body.extend(accounts.map(|accounts| ("serviceAccounts".to_owned(), accounts)));
    Ok(Value::Object(body))
}

/// Who the machine is. One without rights of its own is nobody, unless it has to prove who it is to
/// get its token: then it can do that, and nothing in the account's name.
fn accounts(template: Option<&Value>, settings: &Settings, order: &Order) -> Option<Value> {
    let of = |email: &str, scopes: Value| Some(json!([{ "email": email, "scopes": scopes }]));
    let email = settings.service_account.as_deref();
    match (email, order.no_rights, &settings.delivery) {
        (Some(email), true, Delivery::Pull { .. }) => of(email, json!([IDENTITY_SCOPE])),
        (_, true, _) => None,
        (Some(email), false, _) => {
            let scopes = template.and_then(|all| all.pointer("/0/scopes"));
            of(email, scopes.cloned().unwrap_or_else(|| json!([ALL_SCOPES])))
        }
        (None, false, _) => template.cloned(),
    }
}

/// Ours lies over what the template has; lists are taken whole.
fn merged(under: &Value, over: Option<&Value>) -> Value {
    let (Some(under), Some(over)) = (under.as_object(), over.and_then(Value::as_object)) else {
        return over.unwrap_or(under).clone();
    };
    let mut all = under.clone();
    for (key, value) in over {
        let known = all.get(key).cloned().unwrap_or(Value::Null);
        all.insert(key.clone(), merged(&known, Some(value)));
    }
    Value::Object(all)
}

fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn scheduling(template: Option<&Value>, order: &Order) -> Value {
    let mut ours = json!({
        "provisioningModel": if order.spot { "SPOT" } else { "STANDARD" },
        "instanceTerminationAction": "DELETE",
        "maxRunDuration": { "seconds": stamp::run_seconds(order).to_string() },
        "automaticRestart": false,
    });
    if order.spot {
        ours["onHostMaintenance"] = json!("TERMINATE");
    }
    let mut all = merged(template.unwrap_or(&json!({})), Some(&ours));
    let all_of = all.as_object_mut().map(|all| {
        // On spot the shutdown is the only notice of a preemption, and only there is there one.
        all.remove(if order.spot { "skipGuestOsShutdown" } else { "preemptionNoticeDuration" });
    });
    debug_assert!(all_of.is_some(), "merged with an object it is one");
    all
}

/// The boot disk with what the template says of it, local SSDs, and the template's other disks.
fn disks(
    template: Option<&Value>,
    order: &Order,
    vm: &Vm,
    image: &str,
    labels: &BTreeMap<String, String>,
) -> Value {
    let zone = &order.place;
    let kind = |name: &str| format!("zones/{zone}/diskTypes/{name}");
    let boots = |disk: &&Value| disk.get("boot").and_then(Value::as_bool) == Some(true);
    let theirs = items(template).iter().find(boots).cloned().unwrap_or_else(|| json!({}));
    let boot = json!({
        "boot": true,
        "autoDelete": true,
        "initializeParams": {
            "sourceImage": image, "diskType": kind(&vm.disk_type),
            "diskSizeGb": vm.disk_gib.to_string(), "labels": labels,
        },
    });
    let mut disks = vec![merged(&theirs, Some(&boot))];
    let local = json!({
        "type": "SCRATCH", "autoDelete": true, "interface": "NVME",
        "initializeParams": { "diskType": kind("local-ssd") },
    });
    disks.extend((0..vm.attached_ssds).map(|_| local.clone()));
    disks.extend(items(template).iter().filter(|disk| !boots(disk)).map(|disk| {
        let mut ours = json!({ "autoDelete": true });
        if disk.get("initializeParams").is_some() {
            ours["initializeParams"] = json!({ "labels": labels });
        }
        merged(disk, Some(&ours))
    }));
    Value::Array(disks)
}

/// No address of the Internet's, unless the operator wants one.
fn interfaces(template: Option<&Value>, settings: &Settings, order: &Order, vm: &Vm) -> Value {
    let theirs = items(template);
    let mut ours = Map::new();
    if let Some(subnetwork) = settings.subnetworks.get(region_of(&order.place)) {
        ours.insert("subnetwork".to_owned(), json!(subnetwork));
    } else if theirs.is_empty() {
        ours.insert("network".to_owned(), json!("global/networks/default"));
    }
    if vm.gvnic {
        ours.insert("nicType".to_owned(), json!("GVNIC"));
    }
    if settings.external_ip {
        ours.insert(
            "accessConfigs".to_owned(),
            json!([{ "type": "ONE_TO_ONE_NAT", "name": "External NAT" }]),
        );
    }
    let empty = json!({});
    let first = merged(theirs.first().unwrap_or(&empty), Some(&Value::Object(ours)));
    let mut all = vec![first];
    all.extend(theirs.iter().skip(1).cloned());
    Value::Array(all)
}

fn metadata(template: Option<&Value>, settings: &Settings, order: &Order) -> Value {
    let theirs = items(template.and_then(|metadata| metadata.get("items")));
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for item in theirs {
        let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
        if let (Some(key), Some(value)) = (text("key"), text("value")) {
            let key = if key == "startup-script" { THEIR_SCRIPT.to_owned() } else { key };
            all.insert(key, value);
        }
    }
    let defaults = [("block-project-ssh-keys", "TRUE"), ("serial-port-logging-enable", "TRUE")];
    for (key, value) in defaults {
        all.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    let orders = serde_json::to_string(&orders(settings, order)).expect("orders are always JSON");
    all.insert("startup-script".to_owned(), STARTUP_SCRIPT.to_owned());
    all.insert(vm::ORDERS.to_owned(), orders);
    if let Some(text) = &settings.agent_config {
        all.insert(vm::AGENT_CONFIG.to_owned(), text.clone());
    }
    let self_delete = settings.self_delete.as_ref().filter(|_| !order.no_rights);
    if let Some(SelfDelete { endpoint, keeps_failed }) = self_delete {
        let (endpoint, project) = (endpoint.trim_end_matches('/'), &settings.project);
        let Order { place, name, .. } = order;
        let path = format!("compute/v1/projects/{project}/zones/{place}/instances/{name}");
        all.insert(vm::DELETE_AT.to_owned(), format!("{endpoint}/{path}"));
        if *keeps_failed {
            all.insert(vm::KEEP_FAILED.to_owned(), "TRUE".to_owned());
        }
    }
    match &settings.delivery {
        Delivery::Metadata => {
            all.insert(vm::TOKEN.to_owned(), order.token.expose_secret().to_owned());
        }
        Delivery::Pull { url } => {
            all.insert(vm::ADDRESS.to_owned(), url.clone());
        }
    }
    let items: Vec<Value> =
        all.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    json!({ "items": items })
}

/// What the machine's guest is told.
fn orders(settings: &Settings, order: &Order) -> vm::VmOrders {
    vm::VmOrders {
        job: order.labels.job,
        agent_name: order.agent_name.clone(),
        endpoint: order.endpoint.clone(),
        tags: order.agent_tags.clone(),
        lifetime_s: stamp::seconds(order.deadline),
        connect_within_s: stamp::seconds(settings.connect_within),
        grace_s: crate::process::GRACE.as_secs(),
        url: match &settings.delivery {
            Delivery::Pull { url } => Some(url.clone()),
            Delivery::Metadata => None,
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use secrecy::SecretString;
    use uuid::Uuid;

    use super::*;
    use crate::contract::{Hardware, Labels, Resources};

    pub(in crate::gce) fn order() -> Order {
        let (cpu_millis, memory_bytes) = (6_000, 12 << 30);
        let job = Uuid::from_u128(0x0198_f2c4_7d1e_7c3a_9b1e_5a2f_6c1d_0e11);
        let name = format!("jitney-{}-1", job.as_simple());
        Order {
            name: name.clone(),
            request_id: Uuid::from_u128(1),
            labels: Labels {
                mark: "jitney".into(),
                instance: "host-1".into(),
                job,
                attempt: 1,
                queue: "jit".into(),
                dispatch_id: "0199a3c05c397d138f0e0d6a8e2f7a11".into(),
                cpu_millis,
                memory_bytes,
            },
            resources: Resources {
                cpu_millis,
                memory_bytes,
                disk_bytes: Some(50 << 30),
                local_ssds: 0,
            },
            place: "us-central1-a".to_owned(),
            machine_type: "n2-custom-6-12288".to_owned(),
            spot: false,
            vm: Some(Vm {
                disk_type: "pd-balanced".to_owned(),
                disk_gib: 50,
                attached_ssds: 0,
                gvnic: false,
            }),
            hardware: Hardware::default(),
            deadline: Duration::from_secs(7_500),
            endpoint: "https://agent.buildkite.com/v3".to_owned(),
            token: SecretString::from("bkjat_planted"),
            agent_name: name,
            agent_tags: vec!["queue=jit".to_owned()],
            image: None,
            no_rights: false,
        }
    }

    pub(in crate::gce) fn settings() -> Settings {
        Settings {
            mark: "jitney".to_owned(),
            project: "p".to_owned(),
            zones: vec!["us-central1-a".to_owned()],
            image: Some("projects/p/global/images/family/ci".to_owned()),
            images: BTreeMap::new(),
            service_account: Some("ci@p.iam.gserviceaccount.com".to_owned()),
            delivery: Delivery::Pull { url: "https://jitney.example/guests/vms".to_owned() },
            self_delete: None,
            agent_config: None,
            subnetworks: [(
                "us-central1".to_owned(),
                "projects/net/regions/us-central1/subnetworks/ci".to_owned(),
            )]
            .into(),
            external_ip: false,
            template: json!({}),
            connect_within: Duration::from_secs(300),
        }
    }

    fn body(settings: &Settings, order: &Order) -> Value {
        let mut body = instance(settings, order).expect("a body");
        // Long, and read in its own file.
        for item in body["metadata"]["items"].as_array_mut().expect("items") {
            if item["key"] == "startup-script" {
                item["value"] = json!("(the script)");
            }
        }
        body
    }

    fn metadata_of(body: &Value) -> BTreeMap<&str, &str> {
        let items = body["metadata"]["items"].as_array().expect("items").iter();
        items.filter_map(|item| Some((item["key"].as_str()?, item["value"].as_str()?))).collect()
    }

    #[test]
    fn an_order_becomes_exactly_this() {
        let golden: Value =
            serde_json::from_str(include_str!("golden/instance.json")).expect("JSON");
        assert_eq!(body(&settings(), &order()), golden, "{:#}", body(&settings(), &order()));
    }

    #[test]
    fn a_machine_is_told_where_it_deletes_itself_and_when_not() {
        let mut settings = settings();
        let endpoint = "https://compute.googleapis.com/".to_owned();
        settings.self_delete = Some(SelfDelete { endpoint, keeps_failed: false });
        let order = order();
        let (name, asked) = (&order.name, body(&settings, &order));
        let at = format!(
            "https://compute.googleapis.com/compute/v1/projects/p/zones/us-central1-a/instances/{name}"
        );
        let told = metadata_of(&asked);
        assert_eq!((told[vm::DELETE_AT], told.get(vm::KEEP_FAILED)), (at.as_str(), None));
        settings.self_delete =
            Some(SelfDelete { endpoint: "http://127.0.0.1:1".to_owned(), keeps_failed: true });
        assert_eq!(metadata_of(&body(&settings, &order))[vm::KEEP_FAILED], "TRUE");
    }

    #[test]
    fn spot_machines_local_disks_and_templates() {
        let (mut settings, mut order) = (settings(), order());
        order.spot = true;
        order.vm = Some(Vm {
            disk_type: "hyperdisk-balanced".to_owned(),
            disk_gib: 10,
            attached_ssds: 2,
            gvnic: true,
        });
        settings.external_ip = true;
        settings.template = json!({
            "name": "theirs", "labels": {"team": "ci", "jitney-mark": "x"},
            "tags": {"items": ["ci"]},
            "scheduling": {
                "maxRunDuration": {"seconds": "1"}, "skipGuestOsShutdown": true,
                "preemptionNoticeDuration": {"seconds": "120"}, "onHostMaintenance": "MIGRATE",
            },
            "disks": [
                {"boot": true, "autoDelete": false, "diskEncryptionKey": {"kmsKeyName": "k"},
                 "initializeParams": {"diskSizeGb": "999", "provisionedIops": "5000"}},
                {"autoDelete": false, "initializeParams": {"diskSizeGb": "7"}},
            ],
            "networkInterfaces": [{"stackType": "IPV4_IPV6", "subnetwork": "x"}],
            "metadata": {"items": [
                {"key": "startup-script", "value": "echo theirs"},
                {"key": "jitney-orders", "value": "{}"}, {"key": "mine", "value": "1"},
            ]},
            "serviceAccounts": [{"email": "x", "scopes": ["s"]}],
            "shieldedInstanceConfig": {"enableSecureBoot": false},
        });
        let body = body(&settings, &order);
        assert_eq!(body["name"], order.name);
        assert_eq!(
            (&body["labels"]["team"], &body["labels"]["jitney-mark"]),
            (&json!("ci"), &json!("jitney"))
        );
        assert_eq!(body["tags"]["items"], json!(["ci"]));
        assert_eq!(
            body["scheduling"],
            json!({
                "provisioningModel": "SPOT", "instanceTerminationAction": "DELETE",
                "maxRunDuration": {"seconds": "7500"}, "automaticRestart": false,
                "onHostMaintenance": "TERMINATE", "preemptionNoticeDuration": {"seconds": "120"},
            })
        );
        let disks = body["disks"].as_array().expect("disks");
        assert_eq!(disks.len(), 4);
        assert_eq!(disks[0]["diskEncryptionKey"]["kmsKeyName"], "k");
        assert_eq!(disks[0]["initializeParams"]["provisionedIops"], "5000");
        assert_eq!(disks[0]["initializeParams"]["diskSizeGb"], "10");
        assert_eq!([&disks[1]["type"], &disks[2]["type"]], ["SCRATCH", "SCRATCH"]);
        assert!(disks.iter().all(|disk| disk["autoDelete"] == true), "nothing is left behind");
        assert_eq!(disks[3]["initializeParams"]["labels"]["jitney-mark"], "jitney");
        let nic = &body["networkInterfaces"][0];
        assert_eq!((&nic["stackType"], &nic["nicType"]), (&json!("IPV4_IPV6"), &json!("GVNIC")));
        assert_eq!(nic["subnetwork"], "projects/net/regions/us-central1/subnetworks/ci");
        assert_eq!(nic["accessConfigs"][0]["type"], "ONE_TO_ONE_NAT");
        assert_eq!(
            body["serviceAccounts"][0],
            json!({"email": "ci@p.iam.gserviceaccount.com", "scopes": ["s"]})
        );
        assert_eq!(
            body["shieldedInstanceConfig"]["enableSecureBoot"], false,
            "it may be turned off"
        );
        let metadata = metadata_of(&body);
        assert_eq!(metadata["jitney-setup-script"], "echo theirs");
        assert_eq!(metadata["startup-script"], "(the script)");
        assert_eq!(metadata["mine"], "1");
        assert!(metadata["jitney-orders"].contains("connect_within_s"));
        assert!(!body.to_string().contains("bkjat_"), "a token that is pulled is not in it");
    }

    #[test]
    fn a_machine_without_rights_proves_who_it_is_at_the_most() {
        let (mut settings, mut order) = (settings(), order());
        order.no_rights = true;
        settings.template = json!({"serviceAccounts": [{"email": "x", "scopes": [ALL_SCOPES]}]});
        let endpoint = "https://compute.googleapis.com".to_owned();
        settings.self_delete = Some(SelfDelete { endpoint, keeps_failed: false });
        let pulls = body(&settings, &order);
        let may = json!([{"email": "ci@p.iam.gserviceaccount.com", "scopes": [IDENTITY_SCOPE]}]);
        assert_eq!(pulls["serviceAccounts"], may);
        assert_eq!(metadata_of(&pulls).get(vm::DELETE_AT), None, "it could not");
        settings.delivery = Delivery::Metadata;
        assert_eq!(body(&settings, &order).get("serviceAccounts"), None);
        settings.service_account = None;
        assert_eq!(body(&settings, &order).get("serviceAccounts"), None, "nor the template's");
        order.no_rights = false;
        assert_eq!(body(&settings, &order)["serviceAccounts"][0]["email"], "x");
    }

    #[test]
    fn the_token_is_in_the_metadata_only_where_that_is_wanted() {
        let mut settings = settings();
        settings.delivery = Delivery::Metadata;
        let text = body(&settings, &order()).to_string();
        assert_eq!(text.matches("bkjat_planted").count(), 1);
        settings.image = None;
        assert_eq!(instance(&settings, &order()).expect_err("no image").class, Class::Rejected);
    }
}
