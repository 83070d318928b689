//! The cloud over HTTP: what comes in and goes out, who may call, what befalls calls; and the
//! traps that need a connection. Machines are in `machines`, Google's own client in `google`.

mod google;
mod machines;

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, StatusCode};
use sandbox::Fault;
use sandbox::cloud::compute::{Grants, Knobs, Settings, Timing};
use sandbox::cloud::{Cloud, Machines, Options};
use serde_json::{Value, json};

const A: &str = "us-central1-a";
const B: &str = "us-central1-b";
/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);
const ACCOUNT: &str = "ci-agent@sandbox-project.iam.gserviceaccount.com";

/// A cloud and a caller of it.
struct Rig {
    cloud: Cloud,
    http: reqwest::Client,
    token: Option<String>,
}

impl Rig {
    async fn start(machines: Machines) -> Self {
        Self::with(Options { machines, ..Options::default() }).await
    }

    async fn idle() -> Self {
        Self::start(Machines::Idle).await
    }

    async fn with(options: Options) -> Self {
        buildkite::install_crypto_provider();
        let cloud = Cloud::start(options).await.expect("a free port of loopback");
        let fast = Timing {
            insert_ms: 20,
            failure_ms: 20,
            boot_ms: 5,
            stop_ms: 10,
            delete_ms: 10,
            ..Timing::default()
        };
        cloud.compute(|compute, _| compute.timing = fast);
        Self { cloud, http: reqwest::Client::new(), token: None }
    }

    /// A call of the API; status and body.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let url = format!("{}/compute/v1/projects/sandbox-project/{path}", self.cloud.url());
        self.send(method, &url, body).await.expect("an answer")
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<Value>,
    ) -> reqwest::Result<(StatusCode, Value)> {
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None).await
    }

    async fn insert(&self, zone: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, &format!("zones/{zone}/instances"), Some(body)).await
    }

    async fn delete(&self, zone: &str, name: &str) -> StatusCode {
        self.call(Method::DELETE, &format!("zones/{zone}/instances/{name}"), None).await.0
    }

    /// A control; status and body.
    async fn control(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let url = format!("{}/_cloud/{path}", self.cloud.url());
        self.send(method, &url, body).await.expect("an answer")
    }

    /// Waits until there are exactly these machines: `name STATUS`.
    async fn until(&self, wanted: &[&str]) {
        let wait = self.cloud.until(|compute| {
            let all = compute.instances().map(|it| format!("{} {}", it.name, it.status.shown()));
            let all: Vec<String> = all.collect();
            (all == wanted).then_some(())
        });
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let (_, all) = self.control(Method::GET, "instances", None).await;
            panic!("not {wanted:?}: {all:#}");
        }
    }
}

/// A machine of this name with this startup script, as a dispatcher would ask for it.
fn machine(zone: &str, name: &str, script: &str) -> Value {
    let region = &zone[..zone.len() - 2];
    json!({
        "name": name, "machineType": format!("zones/{zone}/machineTypes/n2-custom-2-4096"),
        "labels": {"job": name},
        "scheduling": {"maxRunDuration": {"seconds": "7500"}, "instanceTerminationAction": "DELETE"},
        "disks": [{"boot": true, "autoDelete": true, "initializeParams": {
            "sourceImage": "projects/debian-cloud/global/images/family/debian-12",
            "diskType": format!("zones/{zone}/diskTypes/pd-balanced")}}],
        "networkInterfaces": [{"subnetwork": format!("projects/sandbox-project/regions/{region}/subnetworks/ci")}],
        "serviceAccounts": [{"email": ACCOUNT, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}],
        "metadata": {"items": [
            {"key": "startup-script", "value": script},
            {"key": "enable-guest-attributes", "value": "TRUE"},
            {"key": "job", "value": "0198f2c4"},
        ]},
    })
}

fn spot(mut body: Value, notice: &str) -> Value {
    body["scheduling"] = json!({
        "provisioningModel": "SPOT", "instanceTerminationAction": "DELETE",
        "preemptionNoticeDuration": {"seconds": notice},
    });
    body
}

/// What a token says of itself.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Whether one of the published keys has signed the token.
async fn is_signed(rig: &Rig, token: &str) -> bool {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let header = URL_SAFE_NO_PAD.decode(signed.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    let (_, keys) = rig.send(Method::GET, &rig.cloud.jwks_url(), None).await.unwrap();
    let key =
        keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let key = RsaPublicKeyComponents { n: part("n"), e: part("e") };
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).is_ok()
}

#[tokio::test]
async fn a_machine_lives_over_http() {
    let rig = Rig::idle().await;
    let (status, operation) = rig.insert(A, machine(A, "m-1", "")).await;
    assert_eq!((status, &operation["operationType"]), (StatusCode::OK, &json!("insert")));
    let wait = format!("zones/{A}/operations/{}/wait", operation["name"].as_str().unwrap());
    let (_, done) = rig.call(Method::POST, &wait, None).await;
    assert_eq!((&done["status"], done.get("error")), (&json!("DONE"), None));
    let path = format!(
        "zones/{A}/instances?fields=items(name,status,labels/job),nextPageToken&filter=labels.job%3Dm-1"
    );
    let (_, listed) = rig.get(&path).await;
    assert_eq!(
        listed,
        json!({"items": [{"name": "m-1", "status": "RUNNING", "labels": {"job": "m-1"}}]})
    );
    assert_eq!(rig.delete(A, "m-1").await, StatusCode::OK);
    rig.until(&[]).await;
    assert_eq!(rig.cloud.compute(|compute, _| compute.disks().count()), 0);
}

#[tokio::test]
async fn what_does_not_fit_the_document_is_refused() {
    let rig = Rig::idle().await;
    let mut unknown = machine(A, "m-1", "");
    unknown["machinType"] = json!("x");
    let (status, body) = rig.insert(A, unknown).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error"]["status"], "INVALID_ARGUMENT");
    assert_eq!(
        body["error"]["message"],
        "Invalid JSON payload received. Unknown name \"machinType\" at 'resource': Cannot find field."
    );
    let mut number = machine(A, "m-1", "");
    number["disks"][0]["initializeParams"]["diskSizeGb"] = json!(50);
    let (_, body) = rig.insert(A, number).await;
    assert!(
        body["error"]["message"].as_str().unwrap().starts_with(
            "Invalid value at 'disks[0].initializeParams.diskSizeGb': a int64 is a JSON string"
        ),
        "{body}"
    );
    let check = async |path: &str, code: u16, expected: &str| {
        let (status, body) = rig.get(path).await;
        let words = body["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(status.as_u16(), code, "{path}: {body}");
        assert!(words.contains(expected), "{path}\n  is: {words}\n  not: {expected}");
    };
    check(
        &format!("zones/{A}/instances?returnPartialSuccess=true"),
        400,
        "Cannot bind query parameter",
    )
    .await;
    check(&format!("zones/{A}/instances?fields=items/nam"), 400, "Invalid field selection nam")
        .await;
    check(&format!("zones/{A}/instances?filter=name"), 400, "Invalid list filter expression").await;
    check(&format!("zones/{A}/snapshots"), 404, "the sandbox plays no such method").await;
    check("zones/mars/instances", 400, "Unknown zone").await;
    let other = format!("{}/compute/v1/projects/other/zones", rig.cloud.url());
    assert_eq!(rig.send(Method::GET, &other, None).await.unwrap().0, StatusCode::NOT_FOUND);
    assert_eq!(rig.cloud.compute(|compute, _| compute.instances().count()), 0);
}

#[tokio::test]
async fn a_reply_may_be_lost_after_its_effect() {
    let rig = Rig::idle().await;
    let route = "compute.instances.insert".to_owned();
    rig.cloud.add_fault(Fault { route, times: Some(1), lose_reply: true, ..Fault::default() });
    let url =
        format!("{}/compute/v1/projects/sandbox-project/zones/{A}/instances", rig.cloud.url());
    assert!(rig.send(Method::POST, &url, Some(machine(A, "m-1", ""))).await.is_err());
    rig.until(&["m-1 RUNNING"]).await;
    // Whoever tries elsewhere now has two.
    assert_eq!(rig.insert(B, machine(B, "m-1", "")).await.0, StatusCode::OK);
    rig.until(&["m-1 RUNNING", "m-1 RUNNING"]).await;
    assert_eq!(rig.insert(A, machine(A, "m-1", "")).await.0, StatusCode::CONFLICT);
    let requests = rig.cloud.requests();
    let statuses: Vec<Option<u16>> = requests.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [None, Some(200), Some(409)]);
    assert_eq!(requests[0].scope, Some("writes_per_region"));
}

#[tokio::test]
async fn calls_fail_by_route_and_as_often_as_told() {
    let rig = Rig::idle().await;
    let fault =
        json!({"route": "compute.instances.list", "times": 1, "status": 503, "retry_after": 2});
    assert_eq!(rig.control(Method::POST, "faults", Some(fault)).await.0, StatusCode::NO_CONTENT);
    let (status, body) = rig.get(&format!("zones/{A}/instances")).await;
    assert_eq!(
        (status.as_u16(), &body["error"]["errors"][0]["reason"]),
        (503, &json!("backendError"))
    );
    assert_eq!(rig.get(&format!("zones/{A}/instances")).await.0, StatusCode::OK);
    let drop = json!({"route": "compute.*", "drop": true});
    rig.control(Method::POST, "faults", Some(drop)).await;
    let url = format!("{}/compute/v1/projects/sandbox-project/zones", rig.cloud.url());
    assert!(rig.send(Method::GET, &url, None).await.is_err());
    rig.control(Method::DELETE, "faults", None).await;
    assert_eq!(rig.get("zones").await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_minute_is_the_clocks() {
    let rig = Rig::idle().await;
    let second = rig.cloud.now().as_second().rem_euclid(60);
    rig.cloud.advance(Duration::from_secs(u64::try_from(60 - second).unwrap()));
    rig.control(Method::PUT, "rates", Some(json!({"writes": 1}))).await;
    assert_eq!(rig.insert(A, machine(A, "m-1", "")).await.0, StatusCode::OK);
    let (status, body) = rig.insert(A, machine(A, "m-2", "")).await;
    assert_eq!(
        (status.as_u16(), &body["error"]["errors"][0]["reason"]),
        (403, &json!("rateLimitExceeded"))
    );
    assert_eq!(body["error"]["details"][0]["reason"], "RATE_LIMIT_EXCEEDED");
    let moved = rig.control(Method::POST, "clock", Some(json!({"advance_s": 60}))).await;
    assert_eq!(moved.0, StatusCode::OK);
    assert_eq!(rig.insert(A, machine(A, "m-2", "")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn tokens_come_from_a_key_or_a_refresh_token_and_say_who_calls() {
    let settings = Settings { need_token: true, ..Settings::default() };
    let mut rig = Rig::with(Options { settings, ..Options::default() }).await;
    let (status, body) = rig.get("zones").await;
    assert_eq!((status.as_u16(), &body["error"]["status"]), (401, &json!("UNAUTHENTICATED")));

    let person = rig.cloud.credentials("authorized_user").unwrap();
    let text = |key: &str| person[key].as_str().unwrap().to_owned();
    let grant = |refresh_token: String| {
        [
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", text("client_id")),
            ("client_secret", text("client_secret")),
            ("refresh_token", refresh_token),
        ]
    };
    let ask = async |form: &[(&str, String)]| {
        let body: Vec<String> =
            form.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
        let request = rig.http.post(rig.cloud.token_url()).body(body.join("&"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, answer) = ask(&grant(text("refresh_token"))).await;
    assert_eq!((status, &answer["expires_in"]), (200, &json!(3599)), "{answer}");
    let (status, refused) = ask(&grant("stolen".to_owned())).await;
    assert_eq!((status, &refused["error"]), (400, &json!("invalid_grant")));
    let bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned();
    let forged = ask(&[("grant_type", bearer), ("assertion", "a.b.c".to_owned())]).await;
    assert_eq!((forged.0, &forged.1["error_description"]), (400, &json!("Invalid JWT Signature.")));

    rig.token = Some(answer["access_token"].as_str().unwrap().to_owned());
    assert_eq!(rig.get("zones").await.0, StatusCode::OK);
    let grants = Grants {
        everybody: Some(BTreeSet::new()),
        accounts: [(text("account"), BTreeSet::from(["compute.zones.list".to_owned()]))].into(),
        ..Grants::default()
    };
    rig.cloud.compute(|compute, _| compute.grants = grants);
    assert_eq!(rig.get("zones").await.0, StatusCode::OK);
    assert_eq!(rig.get("regions").await.0, StatusCode::FORBIDDEN);
    rig.cloud.advance(Duration::from_secs(3_600));
    assert_eq!(rig.get("zones").await.0, StatusCode::UNAUTHORIZED, "it has expired");
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn permissions_are_tested_where_they_are() {
    let rig = Rig::idle().await;
    let some = ["compute.instances.create", "iam.serviceAccounts.actAs"].map(str::to_owned).into();
    rig.cloud.compute(|compute, _| {
        compute.grants = Grants { everybody: Some(some), ..Grants::default() };
    });
    let check = async |path: &str, asked: &[&str], expected: Value| {
        let url = format!("{}/{path}", rig.cloud.url());
        let body = json!({"permissions": asked});
        let (status, answer) = rig.send(Method::POST, &url, Some(body)).await.unwrap();
        assert_eq!((status, answer), (StatusCode::OK, expected), "{path}");
    };
    let asked = ["compute.instances.create", "compute.instances.delete"];
    let create = json!({"permissions": ["compute.instances.create"]});
    check("v3/projects/sandbox-project:testIamPermissions", &asked, create).await;
    let account = format!("v1/projects/-/serviceAccounts/{ACCOUNT}:testIamPermissions");
    check(
        &account,
        &["iam.serviceAccounts.actAs"],
        json!({"permissions": ["iam.serviceAccounts.actAs"]}),
    )
    .await;
    let image = "compute/v1/projects/debian-cloud/global/images/debian-12-bookworm-v20261110/testIamPermissions";
    check(image, &["compute.images.useReadOnly"], json!({})).await;
}

#[tokio::test]
async fn the_token_of_one_machine_is_not_that_of_another() {
    let rig = Rig::idle().await;
    for name in ["m-1", "m-2"] {
        rig.insert(A, machine(A, name, "")).await;
    }
    rig.until(&["m-1 RUNNING", "m-2 RUNNING"]).await;
    let audience = "https://jitney.example";
    let own = rig.cloud.identity_token(A, "m-1", audience).unwrap();
    assert!(is_signed(&rig, &own).await);
    let said = claims(&own);
    assert_eq!((&said["aud"], &said["email"]), (&json!(audience), &json!(ACCOUNT)));
    let place = &said["google"]["compute_engine"];
    assert_eq!(
        [&place["instance_name"], &place["zone"], &place["project_id"], &place["project_number"]],
        [&json!("m-1"), &json!(A), &json!("sandbox-project"), &json!(424_242_424_242_u64)]
    );
    let (_, shown) = rig.get(&format!("zones/{A}/instances/m-1")).await;
    assert_eq!(place["instance_id"], shown["id"]);

    // The second replays the first one's: the signature is good, and only the claims tell.
    let knobs = json!({"borrowed_identity": {"machine": "m-2", "of": "m-1"}});
    rig.control(Method::PUT, "knobs", Some(knobs)).await;
    let (_, answer) = rig
        .control(Method::GET, &format!("instances/{A}/m-2/identity?audience={audience}"), None)
        .await;
    let replayed = answer["token"].as_str().unwrap();
    assert!(is_signed(&rig, replayed).await);
    assert_eq!(claims(replayed)["google"]["compute_engine"]["instance_id"], shown["id"]);

    rig.control(Method::PUT, "keys/rotate", None).await;
    let rotated = rig.cloud.identity_token(A, "m-1", audience).unwrap();
    assert_ne!(rotated.split('.').next(), own.split('.').next(), "another key");
    assert!(is_signed(&rig, &rotated).await && is_signed(&rig, &own).await);
}

#[tokio::test]
async fn controls_take_what_they_know_and_show_it() {
    let rig = Rig::idle().await;
    for (path, value) in [
        ("knobs", json!({"never_boot": 2, "unreachable_zones": [A]})),
        ("timing", json!({"insert_ms": 5})),
        ("capacity", json!([{"zone": A, "machine_type": "n2-*", "spot": true, "machines": 3}])),
        ("quotas", json!({"us-central1": {"CPUS": 24.0}})),
        ("rates", json!({"writes": 20})),
        ("constraints", json!(["constraints/compute.vmExternalIpAccess"])),
        ("permissions", json!({"everybody": ["compute.zones.list"]})),
    ] {
        let (status, body) = rig.control(Method::PUT, path, Some(value.clone())).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{path}: {body}");
        let (_, shown) = rig.control(Method::GET, path, None).await;
        let told = match value.as_object() {
            Some(map) => map.iter().all(|(key, value)| shown[key] == *value),
            None => shown == value,
        };
        assert!(told, "{path}: {shown}");
        let (status, _) = rig.control(Method::PUT, path, Some(json!({"nonsense": 1}))).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
    let left = json!({"zone": A, "name": "left", "labels": {"job": "x"}});
    assert_eq!(rig.control(Method::POST, "disks", Some(left)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(rig.control(Method::GET, "disks", None).await.1[0]["name"], "left");
    let image = json!({"project": "sandbox-project", "name": "bk-agent-2", "family": "bk-agent"});
    assert_eq!(rig.control(Method::POST, "images", Some(image)).await.0, StatusCode::NO_CONTENT);
    rig.cloud.compute(|compute, _| compute.grants = Grants::default());
    assert_eq!(rig.get("global/images/family/bk-agent").await.1["name"], "bk-agent-2");
    for path in [format!("instances/{A}/none/vanish"), format!("instances/{A}/none/power-off")] {
        assert_eq!(rig.control(Method::PUT, &path, None).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let preempt = rig.control(Method::PUT, &format!("instances/{A}/none/preempt"), None).await;
    assert_eq!(preempt.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(rig.control(Method::GET, "counters", None).await.1["disks"], 1);
    assert_eq!(rig.control(Method::GET, "credentials/none", None).await.0, StatusCode::NOT_FOUND);
}

#[test]
fn every_control_and_fault_of_the_cloud_is_documented() {
    const DOCS: &str = include_str!("../../../../docs/sandbox.md");
    let controls = include_str!("../../src/cloud/control.rs");
    let routes: Vec<&str> =
        controls.split("\"/_cloud/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(routes.len() > 20, "the routes are no longer found where they were: {routes:?}");
    for route in routes {
        let named =
            route.replace("{zone}", "ZONE").replace("{name}", "NAME").replace("{kind}", "KIND");
        let tail = named.rsplit('/').next().unwrap();
        let found =
            DOCS.contains(&format!("/_cloud/{named}`")) || DOCS.contains(&format!("`…/{tail}`"));
        assert!(found, "/_cloud/{named} is not in docs/sandbox.md");
    }
    for all in [
        json!(Knobs::default()),
        json!(Timing::default()),
        json!(sandbox::cloud::compute::Rates::default()),
    ] {
        for field in all.as_object().unwrap().keys() {
            assert!(DOCS.contains(&format!("`{field}`")), "{field} is not in docs/sandbox.md");
        }
    }
}
