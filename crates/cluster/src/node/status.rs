//! What a kubelet says of a pod: phase, conditions and containers' states, derived from what
//! became of its containers. Pure; the words are Kubernetes' own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Where all nodes and pods are reached.
pub(in crate::node) const ADDRESS: &str = "127.0.0.1";

/// A container, as far as it has come.
#[derive(Clone, Debug)]
pub(in crate::node) struct Progress {
    pub(in crate::node) state: State,
    pub(in crate::node) last: Option<End>,
    pub(in crate::node) restarts: i32,
    pub(in crate::node) ready: bool,
    /// It runs, and its startup probe has succeeded if it has one.
    pub(in crate::node) up: bool,
    name: String,
    image: String,
}

#[derive(Clone, Debug)]
pub(in crate::node) enum State {
    Waiting { reason: &'static str, message: Option<String> },
    Running { since: Time },
    Ended(End),
}

/// How a container's process ended.
#[derive(Clone, Debug)]
pub(in crate::node) struct End {
    pub(in crate::node) code: i32,
    pub(in crate::node) reason: &'static str,
    pub(in crate::node) message: Option<String>,
    pub(in crate::node) started: Option<Time>,
    pub(in crate::node) finished: Time,
}

/// Why a pod ended that would not have ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) enum Verdict {
    Deadline,
    Evicted(String),
    ShutDown(String),
}

/// All that the status is derived from.
#[derive(Clone, Debug)]
pub(in crate::node) struct PodState {
    pub(in crate::node) init: Vec<Progress>,
    pub(in crate::node) main: Vec<Progress>,
    /// Whether its volumes are there, so that containers can be started.
    pub(in crate::node) sandbox: bool,
    pub(in crate::node) verdict: Option<Verdict>,
    /// Whether nothing of it runs any more, nor will.
    pub(in crate::node) over: bool,
    started: Time,
    conditions: BTreeMap<&'static str, PodCondition>,
}

impl Progress {
    fn new(container: &Container, reason: &'static str) -> Self {
        Self {
            state: State::Waiting { reason, message: None },
            last: None,
            restarts: 0,
            ready: false,
            up: false,
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
        }
    }

    fn end(&self) -> Option<&End> {
        match &self.state {
            State::Ended(end) => Some(end),
            State::Waiting { .. } | State::Running { .. } => None,
        }
    }

    fn succeeded(&self) -> bool {
        self.end().is_some_and(|end| end.code == 0)
    }

    /// As a kubelet does with what it cannot find any more when a pod is over.
    fn give_up(&mut self, now: &Time) {
        if self.end().is_none() {
            self.state = State::Ended(End {
                code: 137,
                reason: "ContainerStatusUnknown",
                message: Some(
                    "The container could not be located when the pod was terminated".into(),
                ),
                started: None,
                finished: now.clone(),
            });
        }
        self.ready = false;
        self.up = false;
    }

    fn status(&self, uid: &str) -> ContainerStatus {
        let id = format!("local://{uid}/{}/{}", self.name, self.restarts);
        let state = match &self.state {
            State::Waiting { reason, message } => ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some((*reason).to_owned()),
                    message: message.clone(),
                }),
                ..ContainerState::default()
            },
            State::Running { since } => ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(since.clone()) }),
                ..ContainerState::default()
            },
            State::Ended(end) => end.state(&id),
        };
        let was_there = state.waiting.is_none();
        let running = state.running.is_some();
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: if was_there { format!("local://{}", self.image) } else { String::new() },
            container_id: was_there.then_some(id.clone()),
            ready: self.ready,
            started: Some(running && self.up),
            restart_count: self.restarts,
            state: Some(state),
            last_state: Some(self.last.as_ref().map(|end| end.state(&id)).unwrap_or_default()),
            ..ContainerStatus::default()
        }
    }
}

impl End {
    fn state(&self, id: &str) -> ContainerState {
        let terminated = ContainerStateTerminated {
            container_id: self.started.as_ref().map(|_| id.to_owned()),
            exit_code: self.code,
            reason: Some(self.reason.to_owned()),
            message: self.message.clone(),
            started_at: self.started.clone(),
            finished_at: Some(self.finished.clone()),
            ..ContainerStateTerminated::default()
        };
        ContainerState { terminated: Some(terminated), ..ContainerState::default() }
    }
}

impl Verdict {
    fn reason(&self) -> &'static str {
        match self {
            Self::Deadline => "DeadlineExceeded",
            Self::Evicted(_) => "Evicted",
            Self::ShutDown(_) => "Terminated",
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Deadline => "Pod was active on the node longer than the specified deadline",
            Self::Evicted(message) | Self::ShutDown(message) => message,
        }
    }

    fn is_disruption(&self) -> bool {
        match self {
            Self::Deadline => false,
            Self::Evicted(_) | Self::ShutDown(_) => true,
        }
    }
}

impl PodState {
    pub(in crate::node) fn new(pod: &Pod, now: &Time) -> Self {
        let spec = pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let main = spec.map(|spec| &spec.containers[..]).unwrap_or_default();
        let first = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        Self {
            init: init.iter().map(|it| Progress::new(it, "PodInitializing")).collect(),
            main: main.iter().map(|it| Progress::new(it, first)).collect(),
            sandbox: false,
            verdict: None,
            over: false,
            started: now.clone(),
            conditions: BTreeMap::new(),
        }
    }

    pub(in crate::node) fn named(&self, container: &str) -> Option<&Progress> {
        self.init.iter().chain(&self.main).find(|it| it.name == container)
    }

    pub(in crate::node) fn named_mut(&mut self, container: &str) -> Option<&mut Progress> {
        self.init.iter_mut().chain(&mut self.main).find(|it| it.name == container)
    }

    /// Nothing runs any more. What was cut short has no outcome of its own.
    pub(in crate::node) fn finish(&mut self, cut_short: bool, now: &Time) {
        self.over = true;
        if cut_short {
            self.init.iter_mut().chain(&mut self.main).for_each(|it| it.give_up(now));
        }
    }

    fn phase(&self) -> &'static str {
        if self.over {
            let all = self.init.iter().chain(&self.main);
            let good = self.verdict.is_none() && all.clone().all(Progress::succeeded);
            return if good { "Succeeded" } else { "Failed" };
        }
        let begun = self.main.iter().any(|it| !matches!(it.state, State::Waiting { .. }));
        let again = self.main.iter().any(|it| it.restarts > 0);
        if begun || again { "Running" } else { "Pending" }
    }

    /// The status to write. Takes note of when its conditions changed.
    pub(in crate::node) fn status(&mut self, uid: &str, now: &Time) -> PodStatus {
        let phase = self.phase();
        self.set_conditions(phase, now);
        let verdict = self.verdict.as_ref().filter(|_| self.over);
        let statuses = |them: &[Progress]| them.iter().map(|it| it.status(uid)).collect();
        PodStatus {
            phase: Some(phase.to_owned()),
            reason: verdict.map(|verdict| verdict.reason().to_owned()),
            message: verdict.map(|verdict| verdict.message().to_owned()),
            conditions: Some(self.conditions.values().cloned().collect()),
            start_time: Some(self.started.clone()),
            host_ip: Some(ADDRESS.to_owned()),
            host_ips: Some(vec![HostIP { ip: ADDRESS.to_owned() }]),
            pod_ip: self.sandbox.then(|| ADDRESS.to_owned()),
            pod_ips: self.sandbox.then(|| vec![PodIP { ip: ADDRESS.to_owned() }]),
            init_container_statuses: (!self.init.is_empty()).then(|| statuses(&self.init)),
            container_statuses: Some(statuses(&self.main)),
            ..PodStatus::default()
        }
    }

    fn set_conditions(&mut self, phase: &str, now: &Time) {
        let ended = match phase {
            "Succeeded" => Some("PodCompleted"),
            "Failed" => Some("PodFailed"),
            _ => None,
        };
        self.set("PodReadyToStartContainers", self.sandbox && !self.over, None, None, now);
        let lacking: Vec<_> = self.init.iter().filter(|it| !it.succeeded()).collect();
        let initialized = lacking.is_empty();
        let message = format!("containers with incomplete status: [{}]", names(&lacking));
        let why = (!initialized).then_some("ContainersNotInitialized");
        let why = why.or(ended.filter(|_| phase == "Succeeded"));
        self.set("Initialized", initialized, why, (!initialized).then_some(message), now);
        let unready: Vec<_> = self.main.iter().filter(|it| !it.ready).collect();
        let ready = unready.is_empty() && ended.is_none();
        let message = format!("containers with unready status: [{}]", names(&unready));
        let message = (!ready && ended.is_none()).then_some(message);
        let why = ended.or((!ready).then_some("ContainersNotReady"));
        self.set("ContainersReady", ready, why, message.clone(), now);
        self.set("Ready", ready, why, message, now);
        let disruption = self.verdict.clone().filter(|verdict| verdict.is_disruption());
        if let Some(verdict) = disruption {
            let message = Some(verdict.message().to_owned());
            self.set("DisruptionTarget", true, Some("TerminationByKubelet"), message, now);
        }
    }

    fn set(
        &mut self,
        type_: &'static str,
        holds: bool,
        reason: Option<&str>,
        message: Option<String>,
        now: &Time,
    ) {
        let status = if holds { "True" } else { "False" };
        let condition = self.conditions.entry(type_).or_default();
        if condition.status != status {
            condition.last_transition_time = Some(now.clone());
        }
        type_.clone_into(&mut condition.type_);
        status.clone_into(&mut condition.status);
        condition.reason = reason.map(str::to_owned);
        condition.message = message;
    }
}

fn names(them: &[&Progress]) -> String {
    them.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(" ")
}
