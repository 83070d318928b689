//! The container images, built with the real buildah from static programs: what is in them, whom
//! they run as, and that Jitney works where there is nothing but itself.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use guest::pod::{IN_IMAGE, INSTALL};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parts::part;
use crate::rules::repository;
use crate::shell_support::TOKEN;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const USER: u32 = 65_532;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A storage of images of our own, which goes with its folder.
struct Storage {
    buildah: PathBuf,
    folder: TempDir,
}

impl Storage {
    fn new(buildah: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n",
            at.display()
        );
        fs::write(at.join("storage.conf"), storage).unwrap();
        fs::create_dir_all(at.join(".config/containers")).unwrap();
        let policy = json!({ "default": [{ "type": "insecureAcceptAnything" }] });
        fs::write(at.join(".config/containers/policy.json"), policy.to_string()).unwrap();
        Self { buildah, folder }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let at = self.folder.path();
        command.env("HOME", at).env("CONTAINERS_STORAGE_CONF", at.join("storage.conf"));
        command.env("BUILDAH_ISOLATION", "chroot");
        command
    }

    fn buildah(&self, words: &[&str]) -> String {
        succeeded(&self.command(&self.buildah).args(words).output().unwrap()).trim().to_owned()
    }

    /// User, entry point, arguments and folder of an image.
    fn start(&self, image: &str) -> Value {
        let told = self.buildah(&["inspect", "--type", "image", image]);
        let told: Value = serde_json::from_str(&told).unwrap();
        let config = &told["OCIv1"]["config"];
        json!([config["User"], config["Entrypoint"], config["Cmd"], config["WorkingDir"]])
    }

    /// A container's file system.
    fn mount(&self, image: &str) -> PathBuf {
        let container = self.buildah(&["from", "--pull-never", image]);
        self.buildah(&["mount", &container]).into()
    }
}

fn build(programs: &Path) -> Command {
    let mut command = Command::new(repository().join("deploy/docker/build"));
    command.arg("test").env("PROGRAMS", programs);
    command
}

/// All files below a folder, by their paths in it.
fn files(root: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// Runs a program in this root, as the images' user, with nothing of ours but the network.
fn run_in(root: &Path, words: &[&str]) -> Output {
    let proc = root.join("proc");
    if !proc.exists() {
        fs::create_dir(&proc).unwrap();
    }
    let script = "mount -t proc proc \"$1/proc\" && root=$1 && shift && \
                  exec env -i STATE_DIRECTORY=/var/lib/jitney \
                  \"$(command -v chroot)\" --userspec=65532:65532 \"$root\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(root).args(words);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_images_hold_their_programs_and_what_they_need() {
    let Some(buildah) = part("JITNEY_BUILDAH", "buildah", "tools/real-parts buildah") else {
        return;
    };
    let make = "PROFILE=dev deploy/docker/build --programs";
    let Some(programs) = part("JITNEY_STATIC", "a folder with static programs", make) else {
        return;
    };
    let storage = Storage::new(buildah);
    let mut build = build(&programs);
    let set = storage.command(&storage.buildah);
    build.envs(set.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let made = succeeded(&build.env("BUILDER", &storage.buildah).output().unwrap());
    assert_eq!(made, format!("test/guest:{VERSION}\ntest/jitney:{VERSION}\n"));
    let [guest, jitney] = ["guest", "jitney"].map(|name| format!("test/{name}:{VERSION}"));

    assert_eq!(storage.start(&guest), json!(["65532:65532", [IN_IMAGE], null, null]));
    let root = storage.mount(&guest);
    assert_eq!(files(&root), [IN_IMAGE.trim_start_matches('/')]);
    // As a pod's init container calls it.
    let volume = root.join("volume");
    fs::create_dir(&volume).unwrap();
    chown(&volume, Some(USER), Some(USER)).unwrap();
    succeeded(&run_in(&root, &[IN_IMAGE, INSTALL, "/volume"]));
    assert_eq!(fs::read(volume.join("guest")).unwrap(), fs::read(programs.join("guest")).unwrap());

    let arguments = json!(["run", "--config", "/etc/jitney/jitney.yaml"]);
    let start = json!(["65532:65532", ["/jitney"], arguments, "/var/lib/jitney"]);
    assert_eq!(storage.start(&jitney), start);
    let root = storage.mount(&jitney);
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    assert_eq!(files(&root), ["etc/nsswitch.conf", certificates, "jitney", "jitney-guest"]);
    let version = succeeded(&run_in(&root, &["/jitney", "--version"]));
    assert_eq!(version.trim(), format!("jitney {VERSION}"), "older programs: run `{make}` again");
    finds_buildkite_by_its_name(&root).await;
}

/// A static program brings its own reading of /etc/hosts, nsswitch.conf and the DNS.
async fn finds_buildkite_by_its_name(root: &Path) {
    let sandbox = Sandbox::start(Options::with_token(TOKEN)).await.unwrap();
    let endpoint = sandbox.endpoint().replace("127.0.0.1", "buildkite.test");
    assert!(endpoint.contains("buildkite.test"), "{endpoint}");
    fs::write(root.join("etc/hosts"), "127.0.0.1 buildkite.test\n").unwrap();
    chown(root.join("var/lib/jitney"), Some(USER), Some(USER)).unwrap();
    let config = format!(
        "listen: 127.0.0.1:0\n\
         buildkite: {{ endpoint: \"{endpoint}\", token: {TOKEN} }}\n\
         queues: {{ default: {{ backends: [none] }} }}\n\
         backends: {{ none: {{ http: {{ url: \"http://buildkite.test:9\" }} }} }}\n"
    );
    fs::write(root.join("jitney.yaml"), config).unwrap();
    let root = root.to_owned();
    let words = ["/jitney", "doctor", "--config", "/jitney.yaml"];
    let told = tokio::task::spawn_blocking(move || run_in(&root, &words)).await.unwrap();
    let told = text(&told.stdout);
    for good in ["Buildkite", "token", "queue default", "journal"] {
        let line = told.lines().find(|line| line.starts_with(&format!("ok       {good} ")));
        assert!(line.is_some(), "{good}:\n{told}");
    }
}

#[test]
fn a_program_that_is_not_static_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["jitney", "guest"] {
        symlink(env!("CARGO_BIN_EXE_jitney"), folder.path().join(name)).unwrap();
    }
    let refused = build(folder.path()).env("BUILDER", "false").output().unwrap();
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("is not static"), "{said}");
}
