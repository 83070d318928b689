//! The real helm, without a cluster, and what it renders as values.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::parts;
use crate::rules::repository;

/// The sets of values beside the chart.
pub(super) const SETS: [&str; 4] = ["both", "fleets", "jobs", "none"];
/// What helm takes the cluster to be that it does not ask.
const KUBERNETES: &str = "1.30.0";

pub(super) struct Helm {
    program: PathBuf,
    folder: TempDir,
    files: AtomicUsize,
}

pub(super) fn chart() -> String {
    repository().join("deploy/helm/jitney").display().to_string()
}

impl Helm {
    /// `None` where there is none, which has been said then.
    pub(super) fn find() -> Option<Self> {
        let program = parts::part("JITNEY_HELM", "helm", "tools/real-parts helm")?;
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self { program, folder, files: AtomicUsize::default() })
    }

    /// What it says, or how it complains. Nothing of the user's own is read or written.
    pub(super) fn run(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HOME"] {
            command.env(variable, self.folder.path());
        }
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(variable);
        }
        let output = command.args(words).output().expect("helm can be run");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("helm writes text");
        if output.status.success() {
            return Ok(text(output.stdout));
        }
        Err(format!("{}{}", text(output.stdout), text(output.stderr)))
    }

    /// The file of a set of values.
    pub(super) fn set(&self, name: &str) -> String {
        format!("{}/tests/{name}.yaml", chart())
    }

    /// A file with these values.
    pub(super) fn values(&self, yaml: &str) -> String {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("values-{number}.yaml"));
        std::fs::write(&path, yaml).expect("the file is written");
        path.display().to_string()
    }

    /// The objects of a release `jitney` in the namespace `jitney`, or why there are none.
    pub(super) fn render(&self, files: &[&str]) -> Result<Vec<Value>, String> {
        let text = self.render_text(files)?;
        let documents = text.split("\n---\n").map(|one| one.trim_start_matches("---\n"));
        let objects = documents.filter(|one| one.lines().any(|line| line.starts_with("kind:")));
        Ok(objects.map(|one| serde_saphyr::from_str(one).expect("it is YAML")).collect())
    }

    pub(super) fn render_text(&self, files: &[&str]) -> Result<String, String> {
        let chart = chart();
        let mut words = vec!["template", "jitney", &*chart, "--namespace", "jitney"];
        words.extend(["--kube-version", KUBERNETES]);
        words.extend(files.iter().flat_map(|file| ["--values", *file]));
        self.run(&words)
    }
}

/// The one object of this kind.
#[track_caller]
pub(super) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        (one, _) => panic!("one {kind} is meant: {one:?}"),
    }
}

/// What stands at these places, as one text.
pub(super) fn fields(object: &Value, paths: &[&str]) -> String {
    let each = paths.iter().map(|path| match object.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    });
    each.collect::<Vec<_>>().join(" ")
}
