//! Backends: the places that make machines. Those that this build does not have are read and
//! checked like the others, so that one file can be checked everywhere.

pub mod clouds;
pub mod kubernetes;

use std::path::{Path, PathBuf};

use planner::{BackendKind, Bytes, Cpu};
use secrecy::SecretString;

use self::clouds::{CloudRun, Gce};
use self::kubernetes::Kubernetes;
use super::problem::Complaint;
use super::queues::Limits;
use super::reading::Section;
use super::values::{count, cpu, one_of, path, size, text, url};

#[derive(Clone, Debug)]
pub struct Backend {
    pub kind: Kind,
    pub limits: Limits,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Process(Process),
    Http(Http),
    Kubernetes(Box<Kubernetes>),
    Gce(Box<Gce>),
    CloudRun(Box<CloudRun>),
}

/// Machines are processes on this host.
#[derive(Clone, Debug)]
pub struct Process {
    /// A path, or a name on `PATH`.
    pub agent: PathBuf,
    pub agent_config: Option<PathBuf>,
    /// None: `builds` in the state directory.
    pub directory: Option<PathBuf>,
    pub user: Option<String>,
    pub capacity: Capacity,
    pub isolate: guest::report::Isolate,
}

/// Machines are made by somebody else's service.
#[derive(Clone, Debug)]
pub struct Http {
    pub url: String,
    pub token: Option<SecretString>,
    pub capacity: Capacity,
}

/// What there is in all. None: what the host has, or no bound where there is no host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    pub machines: Option<u32>,
    pub cpu: Option<Cpu>,
    pub memory: Option<Bytes>,
}

/// What every backend that knows of other parts of the file has to know of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    pub(super) public_url: bool,
}

const KINDS: &str = "write one of: process, kubernetes, gce, cloud-run, http";

impl Kind {
    #[must_use]
    pub fn of(&self) -> BackendKind {
        match self {
            Self::Process(_) => BackendKind::Process,
            Self::Http(_) => BackendKind::Http,
            Self::Kubernetes(_) => BackendKind::Kubernetes,
            Self::Gce(_) => BackendKind::Gce,
            Self::CloudRun(_) => BackendKind::CloudRun,
        }
    }
}

impl Backend {
    /// Nothing where it names no kind: that is a problem already.
    pub(super) fn read(section: &Section<'_>, around: Surroundings) -> Option<Self> {
        let kinds = [
            section.maybe("process", Process::read).map(Kind::Process),
            section.maybe("kubernetes", |s| Kind::Kubernetes(Box::new(Kubernetes::read(s)))),
            section.maybe("gce", |s| Kind::Gce(Box::new(Gce::read(s, around)))),
            section.maybe("cloud-run", |s| Kind::CloudRun(Box::new(CloudRun::read(s)))),
            section.maybe("http", Http::read).map(Kind::Http),
        ];
        let limits = section.within("limits", Limits::read);
        let mut kinds = kinds.into_iter().flatten();
        let Some(kind) = kinds.next() else {
            section.complain_here(Complaint::new("does not say what kind of backend it is", KINDS));
            return None;
        };
        if kinds.next().is_some() {
            section.complain_here(Complaint::new(
                "is of more than one kind",
                "give each kind a backend of its own",
            ));
        }
        Some(Self { kind, limits })
    }
}

impl Backend {
    /// Files that we read are meant from the configuration's directory.
    pub(super) fn anchor(&mut self, directory: &Path) {
        let below = |path: &mut PathBuf| *path = directory.join(&path);
        match &mut self.kind {
            Kind::Process(process) => {
                // A bare name is looked up on PATH.
                if process.agent.components().count() > 1 {
                    below(&mut process.agent);
                }
                process.agent_config.as_mut().map(below);
            }
            Kind::Kubernetes(kubernetes) => {
                kubernetes.kubeconfig.as_mut().map(below);
            }
            Kind::Gce(gce) => {
                gce.agent_config.as_mut().map(below);
            }
            Kind::Http(_) | Kind::CloudRun(_) => {}
        }
    }
}

impl Process {
    /// Where machines have their directories: a relative path is meant from the state directory.
    #[must_use]
    pub fn directory_in(&self, state: &Path) -> PathBuf {
        state.join(self.directory.as_deref().unwrap_or(Path::new("builds")))
    }

    fn read(section: &Section<'_>) -> Self {
        let isolate = [
            ("auto", guest::report::Isolate::Auto),
            ("require", guest::report::Isolate::Require),
            ("never", guest::report::Isolate::Never),
        ];
        Self {
            agent: section.or("agent", "buildkite-agent", path),
            agent_config: section.get("agent_config", path),
            directory: section.get("directory", path),
            user: section.get("user", text),
            capacity: section.within("capacity", |capacity| Capacity {
                machines: capacity.get("machines", count),
                cpu: capacity.get("cpu", cpu),
                memory: capacity.get("memory", size),
            }),
            isolate: section.or("isolate", "auto", one_of(isolate)),
        }
    }
}

impl Http {
    fn read(section: &Section<'_>) -> Self {
        Self {
            url: section.needed(
                "url",
                "name your service: url: http://127.0.0.1:9090",
                String::new(),
                url,
            ),
            token: section.secret("token"),
            capacity: section.within("capacity", |capacity| Capacity {
                machines: capacity.get("machines", count),
                cpu: capacity.get("cpu", cpu),
                memory: capacity.get("memory", size),
            }),
        }
    }
}
