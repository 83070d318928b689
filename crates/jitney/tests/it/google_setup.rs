//! The scripts that set up a Google Cloud project and bake an image, with stand-ins for `gcloud` and
//! `apt-get`: what is asked for where nothing is there, and that it is asked for nothing twice.
//! Whether Google takes it nobody knows here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use jitney::config::process_environment;

use crate::rules::repository;

const SCRIPT: &str = "deploy/google-cloud/setup";
const ROLE: &str = "deploy/google-cloud/role.yaml";

/// Writes down what it is called with; `exists` says what becomes of a `describe`.
fn stand_in(folder: &Path, exists: bool) {
    let described = if exists { "exit 0" } else { "exit 1" };
    let text = format!(
        "#!/bin/sh\necho \"$*\" >> '{}'\ncase \" $* \" in *' describe '*) {described};; esac\n",
        folder.join("calls").display()
    );
    let path = folder.join("gcloud");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(folder: &Path, environment: &[(&str, &str)]) -> Output {
    let path = process_environment("PATH").unwrap_or_default();
    Command::new(repository().join(SCRIPT))
        .env_clear()
        .env("PATH", format!("{}:{path}", folder.display()))
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// What was asked for, without questions about what is there.
fn changes(folder: &Path) -> Vec<String> {
    let calls = fs::read_to_string(folder.join("calls")).unwrap_or_default();
    let changes = calls.lines().filter(|line| !line.contains(" describe "));
    changes.map(|line| line.replace("--project=acme-ci --quiet ", "")).collect()
}

#[test]
fn an_empty_project_gets_a_role_accounts_and_a_network_and_a_full_one_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    let here = [("PROJECT", "acme-ci"), ("REGION", "europe-west4"), ("WORKLOAD", "ci/jitney")];
    stand_in(folder.path(), false);
    let ran = run(folder.path(), &here);
    assert!(ran.status.success(), "{ran:?}");
    let asked = changes(folder.path());
    for part in [
        "services enable compute.googleapis.com",
        "iam roles create jitney --file=",
        "iam service-accounts create ci-jobs ",
        "projects add-iam-policy-binding acme-ci --condition=None --member=serviceAccount:jitney@acme-ci.iam.gserviceaccount.com --role=projects/acme-ci/roles/jitney",
        "--member=serviceAccount:acme-ci.svc.id.goog[ci/jitney] --role=roles/iam.workloadIdentityUser",
        "compute networks subnets create jitney-ci-europe-west4 --region=europe-west4 --network=jitney-ci",
        "compute routers nats create jitney-ci-europe-west4 ",
    ] {
        assert!(asked.iter().any(|line| line.contains(part)), "{part}: {asked:#?}");
    }

    fs::remove_file(folder.path().join("calls")).unwrap();
    stand_in(folder.path(), true);
    assert!(run(folder.path(), &here).status.success());
    let again = changes(folder.path());
    assert!(!again.iter().any(|line| line.contains(" create ")), "{again:#?}");
}

#[test]
fn what_it_prints_is_a_configuration_and_a_dry_run_asks_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    stand_in(folder.path(), false);
    let here = [("PROJECT", "acme-ci"), ("REGION", "europe-west4"), ("DRY_RUN", "1")];
    let ran = run(folder.path(), &here);
    assert_eq!(changes(folder.path()), Vec::<String>::new());
    let printed = String::from_utf8(ran.stdout).unwrap();
    let text =
        format!("buildkite: {{ token: t }}\nqueues: {{ jit: {{ backends: [vms] }} }}\n{printed}");
    let file = folder.path().join("jitney.yaml");
    fs::write(
        &file,
        text.replace("service_account", "token_delivery: metadata\n      service_account"),
    )
    .unwrap();
    let checked = Command::new(env!("CARGO_BIN_EXE_jitney"))
        .args(["check-config", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(run(folder.path(), &[]).status.code(), Some(2), "without a project it says how");
}

#[test]
fn machines_may_delete_themselves_only_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    stand_in(folder.path(), false);
    let here = [("PROJECT", "acme-ci"), ("REGION", "europe-west4")];
    let ran = run(folder.path(), &here);
    assert!(!String::from_utf8_lossy(&ran.stdout).contains("self_delete"), "{ran:?}");
    let asked = changes(folder.path());
    let theirs = "--member=serviceAccount:ci-jobs@acme-ci.iam.gserviceaccount.com";
    assert!(!asked.iter().any(|line| line.contains(theirs)), "it has no role: {asked:#?}");
    let ran = run(folder.path(), &[&here[..], &[("SELF_DELETE", "jitney")]].concat());
    assert!(String::from_utf8_lossy(&ran.stdout).ends_with("      self_delete: true\n"), "{ran:?}");
    let asked = changes(folder.path());
    let given: Vec<&String> = asked.iter().filter(|line| line.contains(theirs)).collect();
    let [given] = given.as_slice() else { panic!("one role: {asked:#?}") };
    for part in [
        "--role=projects/acme-ci/roles/jitney_self_delete",
        "resource.type == 'compute.googleapis.com/Instance' && resource.name.extract('/instances/{name}').startsWith('jitney-')",
    ] {
        assert!(given.contains(part), "{part}: {given}");
    }
    let role = "iam roles create jitney_self_delete --title=Jitney self-delete --stage=GA --permissions=compute.instances.delete";
    assert!(asked.iter().any(|line| line.contains(role)), "{asked:#?}");
}

#[test]
fn the_role_names_each_permission_once() {
    let text = fs::read_to_string(repository().join(ROLE)).unwrap();
    let named: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    let mut once = named.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), named.len());
    assert!(named.iter().all(|name| name.starts_with("compute.")), "{named:?}");
}

const BAKE: &str = "deploy/google-cloud/packer/bake";

/// A release of the agent in a folder, with this in place of its sum, if not with its own.
fn release(folder: &Path, sum: Option<&str>) {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let file = format!("buildkite-agent-linux-{arch}-3.137.0.tar.gz");
    program(&folder.join("buildkite-agent"), "echo buildkite-agent version 3.137.0");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--file", &file, "./buildkite-agent"]).current_dir(folder);
    assert!(tar.status().unwrap().success());
    let own = Command::new("sha256sum").arg(&file).current_dir(folder).output().unwrap().stdout;
    let own = String::from_utf8(own).unwrap();
    let own = own.split_whitespace().next().unwrap();
    let line = format!("{}  {file}\n", sum.unwrap_or(own));
    fs::write(folder.join("buildkite-agent-3.137.0.SHA256SUMS"), line).unwrap();
}

fn program(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn bake(folder: &Path, sum: Option<&str>) -> (Output, bool) {
    for inner in ["release", "bin", "to"] {
        fs::create_dir_all(folder.join(inner)).unwrap();
    }
    release(&folder.join("release"), sum);
    program(&folder.join("bin/apt-get"), "");
    program(&folder.join("guest"), "");
    let path = process_environment("PATH").unwrap_or_default();
    let ran = Command::new(repository().join(BAKE))
        .env_clear()
        .env("PATH", format!("{}:{path}", folder.join("bin").display()))
        .env("AGENT_VERSION", "3.137.0")
        .env("GUEST", folder.join("guest"))
        .env("TO", folder.join("to"))
        .env("RELEASE", format!("file://{}", folder.join("release").display()))
        .output()
        .unwrap();
    let both = ["buildkite-agent", "jitney-guest"].map(|name| folder.join("to").join(name));
    (ran, both.iter().all(|file| file.exists()))
}

#[test]
fn an_image_is_baked_with_agent_and_guest_if_the_agents_sum_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let (ran, there) = bake(folder.path(), None);
    assert!(ran.status.success() && there, "{ran:?}");
    let folder = tempfile::tempdir().unwrap();
    let (ran, there) = bake(folder.path(), Some(&"0".repeat(64)));
    assert!(!ran.status.success() && !there, "{ran:?}");
}
