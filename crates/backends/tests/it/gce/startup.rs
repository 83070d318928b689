//! The startup script by itself, with a metadata server, a place of releases and stand-ins for what
//! a machine has: what it fetches, what it believes of it, and how it hands over.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{self, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use tokio::net::TcpListener;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gce/startup-script.sh");
const VERSION: &str = "3.137.0";

/// What is answered, by path, and what was asked for.
#[derive(Clone, Debug, Default)]
struct Told {
    answers: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A machine that has not started yet.
struct Machine {
    root: tempfile::TempDir,
    address: String,
    told: Told,
    env: Vec<(&'static str, String)>,
}

impl Machine {
    /// One with curl and tar and the like, and with git, but with no agent and no guest.
    async fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let told = Told::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let router = Router::new().fallback(answer).with_state(told.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let machine = Self { root, address, told, env: Vec::new() };
        fs::create_dir(machine.bin()).expect("a directory");
        machine.program("poweroff", "echo off >> \"$STATE_DIRECTORY/off\"");
        machine.program("git", "");
        machine
    }

    fn bin(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    fn program(&self, name: &str, text: &str) {
        write_program(&self.bin().join(name), text);
    }

    /// A guest that says whether an agent is there.
    fn guest(&self) {
        self.program("jitney-guest", "echo \"guest $1: $(buildkite-agent --version)\"");
    }

    fn answers(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.told.answers.lock().expect("answers").insert(path.to_owned(), body.into());
    }

    fn attribute(&self, name: &str, value: &str) {
        self.answers(&format!("/computeMetadata/v1/instance/attributes/{name}"), value);
    }

    /// Puts a release there; the sum of its archive.
    fn release(&self) -> String {
        let folder = self.root.path().join("release");
        fs::create_dir(&folder).expect("a directory");
        write_program(&folder.join("buildkite-agent"), "echo released");
        let (archive, file) = (folder.join("a.tar.gz"), archive_name());
        let mut tar = Command::new("tar");
        tar.args(["--create", "--gzip", "--file"]).arg(&archive).arg("--directory").arg(&folder);
        assert!(tar.arg("buildkite-agent").status().expect("tar").success());
        self.answers(&format!("/release/{file}"), fs::read(&archive).expect("an archive"));
        self.attribute("jitney-agent-release", &format!("http://{}/release", self.address));
        let sum = Command::new("sha256sum").arg(&archive).output().expect("sha256sum").stdout;
        let sum = String::from_utf8(sum).expect("text");
        sum.split_whitespace().next().expect("a sum").to_owned()
    }

    fn sums(&self, lines: &str) {
        self.answers(&format!("/release/buildkite-agent-{VERSION}.SHA256SUMS"), lines);
    }

    /// What it says, and whether it is off.
    async fn start(&self) -> (String, bool) {
        let mut command = Command::new("bash");
        command
            .arg(SCRIPT)
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.bin().display()))
            .env("STATE_DIRECTORY", self.state())
            .env("GCE_METADATA_HOST", &self.address)
            .env("SYSTEMD_BOOTED", "/nowhere")
            .env("OS_RELEASE", "/nowhere")
            .envs(self.env.iter().map(|(name, value)| (*name, value)));
        let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("it runs");
        let Output { stdout, stderr, .. } = ran.expect("bash");
        let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (said.concat(), self.state().join("off").exists())
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// What was asked for beside the metadata.
    fn fetched(&self) -> Vec<String> {
        let asked = self.told.asked.lock().expect("asked");
        asked.iter().filter(|path| !path.starts_with("/computeMetadata")).cloned().collect()
    }
}

fn archive_name() -> String {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    format!("buildkite-agent-linux-{arch}-{VERSION}.tar.gz")
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/bash\n{text}\n")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
}

async fn answer(
    State(told): State<Told>,
    extract::OriginalUri(uri): extract::OriginalUri,
) -> impl IntoResponse {
    let path = Uri::path(&uri).to_owned();
    let answer = told.answers.lock().expect("answers").get(&path).cloned();
    told.asked.lock().expect("asked").push(path);
    answer.map_or((StatusCode::NOT_FOUND, Vec::new()), |body| (StatusCode::OK, body))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_release_is_taken_if_its_sum_is_the_one_that_is_published() {
    let machine = Machine::new().await;
    machine.guest();
    let sum = machine.release();
    let others = "0123 buildkite-agent-windows-amd64-3.137.0.zip";
    machine.sums(&format!("{others}\n{sum}  {}\n", archive_name()));
    let (said, off) = machine.start().await;
    assert!(said.contains("guest vm: released") && off, "{said}");
    assert!(!said.contains("unchecked"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_another_sum_ends_the_machine_with_the_reason() {
    let machine = Machine::new().await;
    machine.guest();
    let sum = machine.release();
    let wrong = "0".repeat(64);
    machine.sums(&format!("{wrong}  {}\n", archive_name()));
    let (said, off) = machine.start().await;
    let reason = format!(
        "{} is not the agent that it should be: its SHA-256 is {sum} and not {wrong}",
        archive_name()
    );
    assert!(said.contains(&reason) && off, "{said}");
    assert!(!said.contains("guest vm"), "no agent is started: {said}");

    // A list that does not name it is no proof either.
    machine.sums("0123  something-else.tar.gz\n");
    let (said, off) = machine.start().await;
    assert!(said.contains("SHA256SUMS has no sum for buildkite-agent-linux-") && off, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_from_elsewhere_is_held_to_the_sum_in_the_template_if_there_is_one() {
    let machine = Machine::new().await;
    machine.guest();
    let sum = machine.release();
    machine.attribute(
        "jitney-agent-url",
        &format!("http://{}/release/{}", machine.address, archive_name()),
    );
    machine.attribute("jitney-agent-sha256", "1234");
    let (said, off) = machine.start().await;
    assert!(said.contains(&format!("its SHA-256 is {sum} and not 1234")) && off, "{said}");
    machine.attribute("jitney-agent-sha256", &sum);
    let (said, _) = machine.start().await;
    assert!(said.contains("guest vm: released") && !said.contains("unchecked"), "{said}");

    let machine = Machine::new().await;
    machine.guest();
    machine.release();
    machine.attribute(
        "jitney-agent-url",
        &format!("http://{}/release/{}", machine.address, archive_name()),
    );
    let (said, _) = machine.start().await;
    assert!(said.contains("is taken unchecked") && said.contains("guest vm: released"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baked_image_fetches_nothing() {
    let machine = Machine::new().await;
    machine.guest();
    machine.program("buildkite-agent", "echo baked");
    let (said, off) = machine.start().await;
    assert!(said.contains("guest vm: baked") && off, "{said}");
    assert_eq!(machine.fetched(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn container_optimized_os_is_refused_in_words_unless_all_is_in_its_image() {
    let mut machine = Machine::new().await;
    let release = machine.root.path().join("os-release");
    fs::write(&release, "NAME=\"Container-Optimized OS\"\nID=cos\nVERSION=125\n").expect("written");
    machine.env.push(("OS_RELEASE", release.display().to_string()));
    machine.release();
    let (said, off) = machine.start().await;
    assert!(said.contains("Container-Optimized OS has no git") && off, "{said}");
    assert_eq!(machine.fetched(), Vec::<String>::new());
    machine.guest();
    machine.program("buildkite-agent", "echo baked");
    let (said, _) = machine.start().await;
    assert!(said.contains("guest vm: baked"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_systemd_runs_the_guest_gets_a_unit_that_is_waited_for() {
    let mut machine = Machine::new().await;
    machine.env.push(("SYSTEMD_BOOTED", machine.bin().display().to_string()));
    machine.guest();
    machine.program("buildkite-agent", "echo baked");
    // It starts what it is given as a unit, with the environment that it is told and no other.
    machine.program(
        "systemd-run",
        "echo \"unit: $*\" >> \"$STATE_DIRECTORY/unit\"\nfor one; do case $one in\n--setenv=*) \
         given=\"${one#--setenv=}\" ;;\n--*) ;;\n*) break ;;\nesac; shift; done\nexec env -i \"$given\" \"$@\"",
    );
    let (said, off) = machine.start().await;
    let unit = fs::read_to_string(machine.state().join("unit")).expect("a unit");
    let guest = machine.bin().join("jitney-guest");
    for part in [
        "--unit=jitney-guest --collect",
        "--property=After=network-online.target",
        // The guest alone is told to stop, and stops the rest itself.
        "--property=KillMode=mixed",
        "--property=StandardOutput=journal+console",
        &format!("{} vm\n", guest.display()),
    ] {
        assert!(unit.contains(part), "{part}: {unit}");
    }
    assert!(said.contains("guest vm: baked"), "it finds the agent: {said}");
    assert!(!off, "the unit switches the machine off, and nobody else: {said}");

    machine.program("systemd-run", "echo 'Failed to start transient service unit' >&2; exit 1");
    let (said, off) = machine.start().await;
    assert!(said.contains("jitney: the guest cannot be started") && off, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_script_that_fails_and_a_guest_that_is_killed_end_the_machine() {
    let machine = Machine::new().await;
    machine.attribute("jitney-setup-script", "#!/bin/bash\nexit 7\n");
    let (said, off) = machine.start().await;
    assert!(said.contains("jitney: the setup script failed with 7") && off, "{said}");

    let machine = Machine::new().await;
    machine.program("jitney-guest", "kill -KILL $$");
    machine.program("buildkite-agent", "");
    let (said, off) = machine.start().await;
    assert!(said.contains("jitney: the guest was killed") && off, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_begin_deletes_itself_where_it_is_told_to() {
    let machine = Machine::new().await;
    machine.attribute("jitney-setup-script", "#!/bin/bash\nexit 7\n");
    machine.attribute("jitney-delete-at", &format!("http://{}/me", machine.address));
    let token = "/computeMetadata/v1/instance/service-accounts/default/token";
    machine.answers(token, "{\"access_token\":\"ya29.x\",\"expires_in\":3599}");
    machine.answers("/me", "{}");
    let (said, off) = machine.start().await;
    assert!(off && !said.contains("does not get itself deleted"), "{said}");
    assert_eq!(machine.fetched(), ["/me"]);
    // Somebody wants to look at it.
    machine.attribute("jitney-keep-failed", "TRUE");
    machine.start().await;
    assert_eq!(machine.fetched(), ["/me"]);
}
