//! Google's own Python client against the cloud, from its own copy of the discovery documents: what
//! it sends and takes is the judge.

use std::path::Path;
use std::process::Stdio;

use sandbox::cloud::compute::Settings;
use sandbox::cloud::{Machines, Options, Processes};
use serde_json::Value;
use tempfile::TempDir;

use super::{A, PATIENCE, Rig, machine};
use crate::parts::Part;

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cloud/google_client.py");

/// What the driver prints, a line for each thing that it did.
async fn drive(python: &Path, part: &str, arguments: &[&str]) -> Vec<Value> {
    let running = tokio::process::Command::new(python)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .arg(DRIVER)
        .arg(part)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, running).await.expect("it ends").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn googles_own_client_goes_all_the_way() {
    let Some(python) = Part::GoogleClient.find() else { return };
    let settings = Settings { need_token: true, ..Settings::default() };
    let rig = Rig::with(Options { settings, ..Options::default() }).await;
    let key = rig.cloud.credentials("service_account").unwrap().to_string();
    let body = machine(A, "m-1", "").to_string();
    let lines = drive(&python, "compute", &[rig.cloud.url(), &key, &body]).await;
    let seen: Vec<&str> = lines.iter().map(|line| line["did"].as_str().unwrap()).collect();
    assert_eq!(
        seen,
        [
            "insert",
            "wait",
            "get",
            "list",
            "aggregated",
            "repeat",
            "refuse",
            "permissions",
            "delete",
            "gone"
        ],
        "{lines:#?}"
    );
    let requests = rig.cloud.requests();
    assert!(requests.iter().all(|request| request.token == "access"), "{requests:#?}");
    assert_eq!(rig.cloud.compute(|compute, _| compute.instances().count()), 0);
    assert_eq!(rig.cloud.compute(|compute, _| compute.disks().count()), 0);
}

#[tokio::test]
async fn googles_own_client_finds_itself_on_a_machine() {
    let Some(python) = Part::GoogleClient.find() else { return };
    let folder = TempDir::new().unwrap();
    let processes = Processes { folder: folder.path().to_owned(), ..Processes::default() };
    let rig = Rig::start(Machines::Processes(processes)).await;
    let script = format!(
        "'{}' '{DRIVER}' machine https://jitney.example '{}'",
        python.display(),
        rig.cloud.jwks_url()
    );
    rig.insert(A, machine(A, "m-1", &script)).await;
    let wait = rig.cloud.until(|compute| {
        let said = compute.instance(A, "m-1")?.serial_output();
        said.contains("startup script ended").then_some(said)
    });
    let said = tokio::time::timeout(PATIENCE, wait).await.expect("it ends");
    let line = said.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{said}"));
    let told: Value = serde_json::from_str(line).unwrap();
    assert_eq!(told["email"], super::ACCOUNT);
    assert_eq!(told["project"], "sandbox-project");
    assert_eq!(told["claims"]["google"]["compute_engine"]["instance_name"], "m-1");
}
