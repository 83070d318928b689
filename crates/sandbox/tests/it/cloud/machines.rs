//! Machines that are processes: their startup scripts, metadata servers and ends.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sandbox::cloud::{Machines, Processes};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{A, ACCOUNT, PATIENCE, Rig, claims, is_signed, machine, spot};

/// A way for scripts to ask their metadata server.
const ASK: &str = r#"
ask() {
  exec 3<>"/dev/tcp/${GCE_METADATA_HOST%:*}/${GCE_METADATA_HOST#*:}"
  printf '%s /computeMetadata/v1/%s HTTP/1.0\r\nMetadata-Flavor: Google\r\nContent-Length: %d\r\n\r\n%s' "$1" "$2" "${#3}" "$3" >&3
  sed '1,/^\r$/d' <&3
}
"#;

/// Machines as processes, and where they are.
struct Fleet {
    rig: Rig,
    folder: TempDir,
}

impl Fleet {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let processes = Processes { folder: folder.path().to_owned(), ..Processes::default() };
        Self { rig: Rig::start(Machines::Processes(processes)).await, folder }
    }

    async fn insert(&self, name: &str, script: &str) {
        let (status, body) = self.rig.insert(A, machine(A, name, &format!("{ASK}{script}"))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }

    /// Waits until the machine's serial port has said something, and answers all it has said.
    async fn hears(&self, name: &str, words: &str) -> String {
        let wait = self.rig.cloud.until(|compute| {
            let said = compute.instance(A, name)?.serial_output();
            said.contains(words).then_some(said)
        });
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(said) => said,
            Err(_) => {
                let said = self
                    .rig
                    .cloud
                    .compute(|compute, _| compute.instance(A, name).map(|it| it.serial_output()));
                panic!("{name} never said {words}: {said:?}");
            }
        }
    }

    /// Where the machine's metadata server is.
    async fn address(&self, name: &str) -> String {
        let said = self.hears(name, "metadata at ").await;
        let (_, rest) = said.split_once("metadata at ").unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }

    fn folders(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// The number after a word in what was said.
fn number(said: &str, word: &str) -> i64 {
    let (_, rest) = said.split_once(word).unwrap_or_else(|| panic!("no {word} in {said}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

fn is_alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test]
async fn the_startup_script_runs_and_its_output_is_the_serial_port() {
    let fleet = Fleet::start().await;
    fleet.insert("m-1", "echo hello from $HOSTNAME; echo and trouble >&2; echo at $PWD").await;
    let said = fleet.hears("m-1", "the startup script ended: exit status: 0").await;
    assert!(said.contains("hello from m-1\n") && said.contains("and trouble\n"), "{said}");
    assert!(said.contains(&format!("at {}", fleet.folders()[0].display())), "{said}");
    let path = format!("zones/{A}/instances/m-1/serialPort?port=1");
    let (_, first) = fleet.rig.get(&path).await;
    assert!(first["contents"].as_str().unwrap().contains("hello from m-1"));
    let next = first["next"].as_str().unwrap();
    let (_, rest) = fleet.rig.get(&format!("{path}&start={next}")).await;
    assert_eq!((&rest["contents"], &rest["start"]), (&json!(""), &json!(next)));
    fleet.rig.until(&["m-1 RUNNING"]).await;
    fleet.rig.delete(A, "m-1").await;
    fleet.rig.until(&[]).await;
    assert_eq!(fleet.folders(), Vec::<PathBuf>::new(), "nothing is left of it");
}

#[tokio::test]
async fn a_script_may_say_what_reads_it() {
    let fleet = Fleet::start().await;
    let body = machine(A, "m-1", "#!/bin/sh\necho \"read by $0\"\n");
    fleet.rig.insert(A, body).await;
    fleet.hears("m-1", "startup-script\n").await;
}

#[tokio::test]
async fn everything_of_a_machine_ends_with_it_also_what_left_its_session() {
    let fleet = Fleet::start().await;
    let script = "trap '' TERM\n(setsid bash -c 'trap \"\" TERM; echo far $BASHPID ok; sleep 600' &)\n(sleep 600 & echo near $! ok)\necho own $$ ok\nsleep 600";
    fleet.insert("m-1", script).await;
    fleet.hears("m-1", "far ").await;
    fleet.hears("m-1", "near ").await;
    let said = fleet.hears("m-1", "own ").await;
    let pids = ["far ", "near ", "own "].map(|word| number(&said, word));
    assert_eq!(pids.map(is_alive), [true; 3]);
    // It does not heed its power button, and gets no time for it.
    let path = format!("zones/{A}/instances/m-1?noGracefulShutdown=true");
    fleet.rig.call(Method::DELETE, &path, None).await;
    fleet.rig.until(&[]).await;
    assert_eq!(pids.map(is_alive), [false; 3]);
}

#[tokio::test]
async fn clouds_beside_each_other_leave_each_others_machines_alone() {
    let [fleet, other] = [Fleet::start().await, Fleet::start().await];
    let mut pids = Vec::new();
    for fleet in [&fleet, &other] {
        fleet.insert("m-1", "echo pid $$ ok; sleep 600").await;
        pids.push(number(&fleet.hears("m-1", "pid ").await, "pid "));
    }
    fleet.rig.delete(A, "m-1").await;
    fleet.rig.until(&[]).await;
    assert_eq!([pids[0], pids[1]].map(is_alive), [false, true]);
}

#[tokio::test]
async fn a_guest_that_shuts_down_is_waited_for() {
    let fleet = Fleet::start().await;
    fleet
        .insert("m-1", "trap 'echo going; exit 0' TERM\necho ready\nwhile :; do sleep 0.1; done")
        .await;
    fleet.hears("m-1", "ready").await;
    // It stays to be looked at for an hour after its guest has gone.
    fleet.rig.cloud.compute(|compute, _| compute.timing.delete_ms = 3_600_000);
    fleet.rig.delete(A, "m-1").await;
    fleet.hears("m-1", "going").await;
}

#[tokio::test]
async fn a_guest_that_does_not_shut_down_is_not_waited_for_for_ever() {
    let fleet = Fleet::start().await;
    fleet.rig.cloud.compute(|compute, _| compute.timing.shutdown_ms = 50);
    fleet.insert("m-1", "trap '' TERM\necho deaf $$ ok\nwhile :; do sleep 600; done").await;
    let said = fleet.hears("m-1", "deaf ").await;
    fleet.rig.delete(A, "m-1").await;
    fleet.rig.until(&[]).await;
    assert!(!is_alive(number(&said, "deaf ")));
}

#[tokio::test]
async fn a_guest_switches_its_machine_off_and_its_disk_stays() {
    let fleet = Fleet::start().await;
    fleet.insert("m-1", "poweroff; sleep 600").await;
    fleet.rig.until(&["m-1 TERMINATED"]).await;
    let (_, shown) = fleet.rig.get(&format!("zones/{A}/instances/m-1")).await;
    assert!(shown["lastStopTimestamp"].is_string(), "{shown}");
    assert_eq!(shown["resourceStatus"]["scheduling"].get("terminationTimestamp"), None);
    assert_eq!(fleet.rig.cloud.compute(|compute, _| compute.disks().count()), 1);
    let (_, told) = fleet
        .rig
        .get(&format!(
            "zones/{A}/operations?filter=operationType%3Dcompute.instances.guestTerminate"
        ))
        .await;
    assert_eq!(told["items"].as_array().unwrap().len(), 1);
    fleet.rig.delete(A, "m-1").await;
    fleet.rig.until(&[]).await;
}

#[tokio::test]
async fn a_preemption_can_be_seen_before_it_comes() {
    let fleet = Fleet::start().await;
    let script = "trap 'echo power button; exit 0' TERM\necho ready\nwhile :; do sleep 0.1; done";
    fleet.rig.insert(A, spot(machine(A, "m-1", script), "120")).await;
    fleet.hears("m-1", "ready").await;
    let address = fleet.address("m-1").await;
    let url = format!("http://{address}/computeMetadata/v1/instance/preempted");
    let ask = async |query: String| {
        let request = fleet.rig.http.get(format!("{url}?{query}"));
        let response = request.header("Metadata-Flavor", "Google").send().await.unwrap();
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        (etag, response.text().await.unwrap())
    };
    let (first, value) = ask(String::new()).await;
    assert_eq!(value, "FALSE");
    let path = format!("instances/{A}/m-1/preempt");
    let waiting = ask(format!("wait_for_change=true&last_etag={first}"));
    let preempting = fleet.rig.control(Method::PUT, &path, None);
    let ((_, value), (status, _)) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(waiting, preempting) }).await.unwrap();
    assert_eq!((value.as_str(), status), ("TRUE", StatusCode::NO_CONTENT));
    fleet.rig.until(&["m-1 RUNNING"]).await;
    fleet.rig.cloud.compute(|compute, _| compute.timing.stop_ms = 3_600_000);
    fleet.rig.cloud.advance(Duration::from_secs(121));
    fleet.hears("m-1", "power button").await;
    fleet.rig.cloud.advance(Duration::from_secs(3_600));
    fleet.rig.until(&[]).await;
}

#[tokio::test]
async fn the_metadata_server_tells_what_the_machine_is() {
    let fleet = Fleet::start().await;
    fleet.insert("m-1", "echo ready").await;
    fleet.hears("m-1", "startup script ended").await;
    let address = fleet.address("m-1").await;
    let ask = async |method: Method, path: &str, flavor: bool, body: &str| {
        let url = format!("http://{address}{path}");
        let mut request = fleet.rig.http.request(method, url).body(body.to_owned());
        if flavor {
            request = request.header("Metadata-Flavor", "Google");
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["metadata-flavor"], "Google");
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let get =
        async |path: &str| ask(Method::GET, &format!("/computeMetadata/v1/{path}"), true, "").await;
    let (_, shown) = fleet.rig.get(&format!("zones/{A}/instances/m-1")).await;
    let check = async |path: &str, expected: (u16, &str)| {
        let (status, text) = get(path).await;
        assert_eq!((status, text.as_str()), expected, "{path}");
    };
    check("instance/name", (200, "m-1")).await;
    check("instance/id", (200, shown["id"].as_str().unwrap())).await;
    check("instance/zone", (200, "projects/424242424242/zones/us-central1-a")).await;
    check("instance/attributes/job", (200, "0198f2c4")).await;
    check("instance/attributes/", (200, "enable-guest-attributes\njob\nstartup-script\n")).await;
    check("instance/attributes/none", (404, "Not found\n")).await;
    check("instance/preempted", (200, "FALSE")).await;
    check("project/project-id", (200, "sandbox-project")).await;
    check("instance/service-accounts/", (200, &format!("{ACCOUNT}/\ndefault/\n"))).await;
    check("instance/service-accounts/default/email", (200, ACCOUNT)).await;
    check(
        "instance/service-accounts/default/identity",
        (400, "non-empty audience parameter required\n"),
    )
    .await;
    let (_, all) = get("instance/?recursive=true").await;
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all["machineType"], "projects/424242424242/machineTypes/n2-custom-2-4096");
    assert_eq!(all["attributes"]["enable-guest-attributes"], "TRUE", "people's names stay");

    let (status, _) = ask(Method::GET, "/computeMetadata/v1/instance/id", false, "").await;
    assert_eq!(status, 403, "without the header");
    assert_eq!(ask(Method::GET, "/", false, "").await, (200, "computeMetadata/\n".to_owned()));

    let (_, token) = get("instance/service-accounts/default/token").await;
    let token: Value = serde_json::from_str(&token).unwrap();
    assert_eq!(token["token_type"], "Bearer");
    let (_, identity) =
        get("instance/service-accounts/default/identity?audience=here&format=full").await;
    assert!(is_signed(&fleet.rig, &identity).await);
    assert_eq!(claims(&identity)["google"]["compute_engine"]["instance_id"], shown["id"]);
    let (_, standard) = get("instance/service-accounts/default/identity?audience=here").await;
    assert_eq!(claims(&standard).get("google"), None);

    let path = "/computeMetadata/v1/instance/guest-attributes/jitney/phase";
    assert_eq!(ask(Method::PUT, path, true, "connected").await.0, 200);
    check("instance/guest-attributes/jitney/phase", (200, "connected")).await;
    let (_, read) = fleet
        .rig
        .get(&format!("zones/{A}/instances/m-1/getGuestAttributes?queryPath=jitney/"))
        .await;
    assert_eq!(
        read["queryValue"]["items"],
        json!([{"namespace": "jitney", "key": "phase", "value": "connected"}])
    );
    assert_eq!(ask(Method::DELETE, path, true, "").await.0, 200);
    check("instance/guest-attributes/jitney/phase", (404, "Not found\n")).await;
}

#[tokio::test]
async fn a_change_of_metadata_is_waited_for_by_its_etag() {
    let fleet = Fleet::start().await;
    fleet.insert("m-1", "sleep 600").await;
    let url =
        format!("http://{}/computeMetadata/v1/instance/attributes/job", fleet.address("m-1").await);
    let ask = async |query: String| {
        let request = fleet.rig.http.get(format!("{url}?{query}"));
        let response = request.header("Metadata-Flavor", "Google").send().await.unwrap();
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        (etag, response.text().await.unwrap())
    };
    let (first, value) = ask(String::new()).await;
    assert_eq!(value, "0198f2c4");
    let (same, _) = ask(format!("wait_for_change=true&last_etag={first}&timeout_sec=0")).await;
    assert_eq!(same, first, "the time is up");
    let change = async {
        let (_, shown) = fleet.rig.get(&format!("zones/{A}/instances/m-1")).await;
        let mut metadata = shown["metadata"].clone();
        metadata.as_object_mut().unwrap().remove("kind");
        metadata["items"][2]["value"] = json!("another");
        let path = format!("zones/{A}/instances/m-1/setMetadata");
        fleet.rig.call(Method::POST, &path, Some(metadata)).await.0
    };
    let waiting = ask(format!("wait_for_change=true&last_etag={first}"));
    let ((second, value), changed) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(waiting, change) }).await.unwrap();
    assert_eq!((changed, value.as_str()), (StatusCode::OK, "another"));
    assert_ne!(second, first);
    let (at_once, _) = ask(format!("wait_for_change=true&last_etag={first}")).await;
    assert_eq!(at_once, second, "it has changed already");
}

#[tokio::test]
async fn a_clock_may_be_wrong_while_googles_is_right() {
    let fleet = Fleet::start().await;
    let knobs = json!({"clock_skew_s": -600});
    fleet.rig.control(Method::PUT, "knobs", Some(knobs)).await;
    fleet.insert("m-1", "echo clock $(date +%s) ok; echo told $(ask GET 'instance/service-accounts/default/identity?audience=x') ok").await;
    let said = fleet.hears("m-1", "startup script ended").await;
    let real = fleet.rig.cloud.now().as_second();
    let off = real - number(&said, "clock ");
    assert!((600..660).contains(&off), "{off} s behind: {said}");
    let (_, token) = said.split_once("told ").unwrap();
    let issued = claims(token.split_whitespace().next().unwrap())["iat"].as_i64().unwrap();
    assert!((0..60).contains(&(real - issued)), "{said}");
}

#[tokio::test]
async fn a_machine_that_vanishes_takes_its_processes_along_and_so_does_a_cloud_that_stops() {
    let fleet = Fleet::start().await;
    for name in ["m-1", "m-2"] {
        fleet.insert(name, "echo pid $$ ok; sleep 600").await;
    }
    let [first, second] = [fleet.hears("m-1", "pid ").await, fleet.hears("m-2", "pid ").await]
        .map(|said| number(&said, "pid "));
    let gone = fleet.rig.control(Method::PUT, &format!("instances/{A}/m-1/vanish"), None).await;
    assert_eq!(gone.0, StatusCode::NO_CONTENT);
    fleet.rig.until(&["m-2 RUNNING"]).await;
    assert!(is_alive(second));
    let Fleet { rig, .. } = fleet;
    rig.cloud.stop().await;
    assert_eq!([first, second].map(is_alive), [false; 2]);
}
