//! Objects as the API server shows them in, a machine in words out. Each case is what a real
//! cluster says, as short as it can be said.

use backends::kubernetes::read::{Seen, machine};
use backends::kubernetes::seen::{Event, Job, Pod};
use backends::{Machine, MachineEnd};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;

const META: &str = "{ name: m-1, uid: u, resourceVersion: '7', creationTimestamp: '2026-11-27T08:00:00Z',
    labels: { jitney.dev/mark: m, jitney.dev/job: 0199a3c0-5c39-7d13-8f0e-0d6a8e2f7a11, jitney.dev/attempt: '1',
              jitney.dev/dispatch: d, batch.kubernetes.io/job-name: m-1 LABELS },
    annotations: { jitney.dev/instance: i, jitney.dev/queue: q, jitney.dev/cpu-millis: '1000',
                   jitney.dev/memory-bytes: '4294967296', jitney.dev/deadline-seconds: '3600' } DELETED }";
/// Three minutes after everything was made.
const NOW: &str = "2026-11-27T08:03:00Z";

fn parse<T: DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn meta(more_labels: &str, deleted: &str) -> String {
    let deleted = if deleted.is_empty() {
        String::new()
    } else {
        format!(", deletionTimestamp: '{deleted}'")
    };
    META.replace("LABELS", more_labels).replace("DELETED", &deleted)
}

fn a_job(rest: &str) -> Job {
    let spec = "spec: { activeDeadlineSeconds: 3600 }";
    let rest = if rest.contains("spec:") { rest.to_owned() } else { format!("{spec}\n{rest}") };
    parse(&format!("metadata: {}\n{rest}", meta(", kueue.x-k8s.io/queue-name: ci", "")))
}

fn a_pod(deleted: &str, status: &str) -> Pod {
    let status = format!("status: {{ startTime: '2026-11-27T08:00:01Z', {status} }}");
    parse(&format!("metadata: {}\nspec: {{ nodeName: n1 }}\n{status}", meta("", deleted)))
}

fn an_event(message: &str) -> Event {
    let event = json!({
        "metadata": { "name": "e", "creationTimestamp": "2026-11-27T08:00:02Z" },
        "involvedObject": { "name": "m-1", "uid": "u" },
        "message": message,
    });
    serde_json::from_value(event).expect("an event")
}

fn read(seen: Seen<'_>) -> Machine {
    machine(seen, now()).expect("a machine")
}

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

/// `Provisioning: the note` or `Ended: the cause [class, oom, deadline]`.
fn told(machine: &Machine) -> String {
    let Some(end) = &machine.ended else {
        return format!("{:?}: {}", machine.phase, machine.note.as_deref().unwrap_or("-"));
    };
    let MachineEnd { oom_killed, deadline_reached, refused, .. } = end;
    let marks = [
        refused.map(|class| format!("{class:?}")),
        oom_killed.then(|| "oom".to_owned()),
        deadline_reached.then(|| "deadline".to_owned()),
    ];
    let marks: Vec<String> = marks.into_iter().flatten().collect();
    let marks = if marks.is_empty() { String::new() } else { format!(" [{}]", marks.join(", ")) };
    format!("{:?}: {}{marks}", machine.phase, end.cause)
}

fn check_pod(status: &str, expected: &str) {
    let (job, pod) = (a_job(""), a_pod("", status));
    let machine = read(Seen { job: Some(&job), pods: &[&pod], ..Seen::default() });
    assert_eq!(told(&machine), expected, "{status}");
}

/// The one container that waits.
fn check_waiting(reason: &str, message: &str, expected: &str) {
    let waiting = json!({ "reason": reason, "message": message });
    let status = format!(
        "phase: Pending, containerStatuses: [{{ name: job, image: 'ci:1', state: {{ waiting: {waiting} }} }}]"
    );
    check_pod(&status, expected);
}

/// What the Job controller was told when it made the pod.
fn check_refused(message: &str, expected: &str) {
    let (job, event) = (a_job(""), an_event(&format!("Error creating: {message}")));
    let machine = read(Seen { job: Some(&job), not_created: Some(&event), ..Seen::default() });
    assert_eq!(told(&machine), expected, "{message}");
}

#[test]
fn the_way_up() {
    let job = a_job("");
    let alone = read(Seen { job: Some(&job), ..Seen::default() });
    assert_eq!(told(&alone), "Requested: -");
    assert_eq!(alone.deadline_at.to_string(), "2026-11-27T09:00:00Z");
    check_pod("phase: Pending", "Provisioning: -");
    check_waiting("PodInitializing", "", "Provisioning: -");
    check_waiting("ContainerCreating", "", "Provisioning: -");
    let running = "state: { running: { startedAt: '2026-11-27T08:00:09Z' } }";
    check_pod(
        &format!("phase: Running, containerStatuses: [{{ name: job, started: false, {running} }}]"),
        "Booting: -",
    );
    let up = format!(
        "phase: Running, conditions: [{{ type: Ready, status: 'True', lastTransitionTime: '2026-11-27T08:00:12Z' }}],
         containerStatuses: [{{ name: other, {running} }}, {{ name: job, started: true, {running} }}]"
    );
    check_pod(&up, "Connected: -");
    let pod = a_pod("", &up);
    let machine = read(Seen { job: Some(&job), pods: &[&pod], ..Seen::default() });
    assert_eq!(
        machine.connected_at.map(|at| at.to_string()).as_deref(),
        Some("2026-11-27T08:00:12Z")
    );
}

#[test]
fn what_no_node_has_is_said_in_words() {
    let check = |said: &str, expected: &str| {
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said });
        check_pod(&format!("phase: Pending, conditions: [{condition}]"), expected);
    };
    check(
        "0/3 nodes are available: 2 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. \
         preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.",
        "Provisioning: no node has room for it: of 3 nodes, 2 have too little cpu left, 1 is not of the kind that was asked for",
    );
    check(
        "0/1 nodes are available: 1 Insufficient memory.",
        "Provisioning: no node has room for it: of 1 node, 1 has too little memory left",
    );
    check(
        "0/5 nodes are available: 1 Too many pods, 2 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, \
         1 node(s) had untolerated taint {team: infra}, 1 node(s) were unschedulable. no new claims to deallocate, preemption: x.",
        "Provisioning: no node has room for it: of 5 nodes, 1 has as many pods as can be, 2 have the taint \
         node.kubernetes.io/unreachable, 1 has the taint team=infra, 1 is cordoned",
    );
    check(
        "no nodes available to schedule pods",
        "Provisioning: no node can take it: no nodes available to schedule pods",
    );
    check("", "Provisioning: waits for the scheduler");
}

#[test]
fn what_admission_refuses_the_pod() {
    check_refused(
        r#"pods "m-1-x2kzp" is forbidden: exceeded quota: team, requested: requests.cpu=2, used: requests.cpu=9, limited: requests.cpu=10"#,
        "Ended: the namespace's quota is used up: team allows requests.cpu=10, requests.cpu=9 is used, and the job needs requests.cpu=2 [Quota]",
    );
    check_refused(
        r#"pods "m-1-x" is forbidden: failed quota: team: must specify limits.cpu for: job"#,
        "Ended: a quota of the namespace asks for more than the pod says: team: must specify limits.cpu for: job [Denied]",
    );
    check_refused(
        r#"pods "m-1-x" is forbidden: maximum memory usage per Container is 2Gi, but limit is 4Gi"#,
        "Ended: the namespace's limits do not allow such a pod: maximum memory usage per Container is 2Gi, but limit is 4Gi [Rejected]",
    );
    check_refused(
        r#"pods "m-1-x" is forbidden: ValidatingAdmissionPolicy 'images' with binding 'images' denied request: only images of ours"#,
        "Ended: the cluster does not allow the pod: ValidatingAdmissionPolicy 'images' with binding 'images' denied request: only images of ours [Rejected]",
    );
    check_refused(
        r#"admission webhook "policy.example" denied the request: no"#,
        r#"Ended: the cluster does not allow the pod: admission webhook "policy.example" denied the request: no [Rejected]"#,
    );
    check_refused(
        r#"pods "m-1-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true"#,
        r#"Ended: the namespace's pod security does not allow the pod: violates PodSecurity "restricted:latest": runAsNonRoot != true [Denied]"#,
    );
    check_refused(
        r#"pods "m-1-" is forbidden: error looking up service account ci/ci-jobs: serviceaccount "ci-jobs" not found"#,
        r#"Ended: the pod's service account is not there: error looking up service account ci/ci-jobs: serviceaccount "ci-jobs" not found [Denied]"#,
    );
    check_refused(
        r#"Pod "m-1-x" is invalid: spec.containers[0].image: Required value"#,
        "Ended: the pod is not valid: spec.containers[0].image: Required value [Rejected]",
    );
    check_refused(
        r#"Internal error occurred: failed calling webhook "x": connection refused"#,
        r#"Requested: the cluster cannot decide on the pod: Internal error occurred: failed calling webhook "x": connection refused"#,
    );
    check_refused(
        "etcdserver: request timed out",
        "Requested: its pod could not be made: etcdserver: request timed out",
    );
}

#[test]
fn a_pod_that_was_made_after_all_is_not_refused() {
    let (job, pod) = (a_job(""), a_pod("", "phase: Pending"));
    let event = an_event("Error creating: pods \"x\" is forbidden: exceeded quota: q");
    let seen =
        Seen { job: Some(&job), pods: &[&pod], not_created: Some(&event), ..Seen::default() };
    assert_eq!(told(&read(seen)), "Provisioning: -");
}

#[test]
fn images_that_cannot_be_had() {
    check_waiting(
        "InvalidImageName",
        "couldn't parse",
        "Ended: `ci:1` is not the name of an image [Rejected]",
    );
    check_waiting(
        "ErrImagePull",
        r#"failed to pull and unpack image "ci:1": failed to resolve reference "ci:1": not found"#,
        "Ended: there is no image ci:1 [Rejected]",
    );
    // It has persisted for three minutes, and may be healed elsewhere.
    let away = r#"Back-off pulling image "ci:1": dial tcp: lookup registry: no such host"#;
    check_waiting("ImagePullBackOff", away, &format!("Ended: ci:1 cannot be pulled: {away}"));
    let status = format!(
        "phase: Pending, containerStatuses: [{{ name: job, image: 'ci:1', state: {{ waiting: {} }} }}]",
        json!({ "reason": "ImagePullBackOff", "message": away })
    );
    let (job, pod) = (a_job(""), a_pod("", &status));
    let soon: Timestamp = "2026-11-27T08:01:00Z".parse().expect("a time");
    let machine = machine(Seen { job: Some(&job), pods: &[&pod], ..Seen::default() }, soon);
    assert_eq!(
        told(&machine.expect("a machine")),
        format!("Provisioning: ci:1 cannot be pulled: {away}")
    );
}

#[test]
fn what_the_pod_names_and_is_not_there() {
    check_waiting(
        "CreateContainerConfigError",
        r#"secret "deploy-key" not found"#,
        r#"Provisioning: waits for the Secret "deploy-key", which is not there"#,
    );
    check_waiting(
        "CreateContainerConfigError",
        r#"configmap "env" not found"#,
        r#"Provisioning: waits for the ConfigMap "env", which is not there"#,
    );
    check_waiting(
        "CreateContainerConfigError",
        "couldn't find key k in Secret ci/x",
        "Provisioning: waits for what its configuration names: couldn't find key k in Secret ci/x",
    );
    let (job, pod) = (a_job(""), a_pod("", "phase: Pending"));
    let event =
        an_event(r#"MountVolume.SetUp failed for volume "hooks" : configmap "hooks" not found"#);
    let seen =
        Seen { job: Some(&job), pods: &[&pod], not_mounted: Some(&event), ..Seen::default() };
    assert_eq!(
        told(&read(seen)),
        r#"Provisioning: waits for the ConfigMap "hooks", which is not there"#
    );
}

#[test]
fn kueue_holds_a_job_and_takes_it_back() {
    let job = a_job("spec: { suspend: true, activeDeadlineSeconds: 3600 }");
    let waits = read(Seen { job: Some(&job), ..Seen::default() });
    assert_eq!(told(&waits), "Requested: waits to be let in by Kueue's queue `ci`");
    let again = read(Seen { job: Some(&job), had_pod: true, ..Seen::default() });
    assert_eq!(told(&again), "Ended: it was suspended again after it had started");
}

/// A main container that has ended so.
fn terminated(reason: &str, code: i32, message: &str) -> String {
    let end = json!({ "exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-11-27T08:02:00Z" });
    format!("containerStatuses: [{{ name: job, state: {{ terminated: {end} }} }}]")
}

fn report(cause: &str, connected: bool, lacks: &str) -> String {
    let connected = if connected { r#""connected_at":"2026-11-27T08:00:30Z","# } else { "" };
    format!(
        r#"{{"report":{{"phase":"ended","started_at":"2026-11-27T08:00:20Z",{connected}"ended":{{
            "at":"2026-11-27T08:01:59Z","cause":{cause},"log_tail":"the last line",
            "usage":{{"cpu_seconds":1.5,"peak_memory_bytes":1024}}}}}},"image":[{lacks}]}}"#
    )
}

#[test]
fn the_guests_last_words_are_the_end() {
    let exited = report(r#"{"kind":"exited","code":0}"#, true, r#""git""#);
    let status = format!("phase: Succeeded, {}", terminated("Completed", 0, &exited));
    check_pod(&status, "Ended: the agent exited with 0");
    let (job, pod) = (a_job(""), a_pod("", &status));
    let machine = read(Seen { job: Some(&job), pods: &[&pod], ..Seen::default() });
    assert_eq!(
        machine.connected_at.map(|at| at.to_string()).as_deref(),
        Some("2026-11-27T08:00:30Z")
    );
    let end = machine.ended.expect("an end");
    assert_eq!(
        (end.at.to_string().as_str(), end.log_tail.as_str()),
        ("2026-11-27T08:01:59Z", "the last line")
    );
    assert_eq!((end.cpu_seconds, end.peak_memory_bytes), (Some(1.5), Some(1024)));

    let lost = report(r#"{"kind":"exited","code":1}"#, false, r#""certificates""#);
    check_pod(
        &format!("phase: Failed, {}", terminated("Error", 1, &lost)),
        "Ended: the agent exited with 1; the image has no CA certificates",
    );
    let bare = report(r#"{"kind":"not_started","reason":"x"}"#, false, r#""shell","git""#);
    check_pod(
        &format!("phase: Failed, {}", terminated("Error", 126, &bare)),
        "Ended: the image has no shell (bash or sh) and no git [Rejected]",
    );
    // Its sidecar goes on; the machine does not.
    let stopped = report(r#"{"kind":"stopped"}"#, true, "");
    check_pod(
        &format!("phase: Running, {}", terminated("Error", 143, &stopped)),
        "Ended: the agent was stopped on request",
    );
}

#[test]
fn what_was_done_to_the_pod_comes_first() {
    let stopped = terminated("Error", 143, &report(r#"{"kind":"stopped"}"#, true, ""));
    let disrupted = |reason: &str| {
        let condition = json!({ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "said" });
        format!("phase: Failed, conditions: [{condition}], {stopped}")
    };
    check_pod(
        &disrupted("PreemptionByScheduler"),
        "Ended: its pod made room for one of a higher priority",
    );
    check_pod(
        &disrupted("DeletionByTaintManager"),
        "Ended: its node `n1` does not answer any more",
    );
    check_pod(
        &disrupted("EvictionByEvictionAPI"),
        "Ended: its pod was evicted, as when a node is drained",
    );
    check_pod(&disrupted("TerminationByKubelet"), "Ended: its node ended the pod: said");
    check_pod(&disrupted("DeletionByPodGC"), "Ended: its node was removed");
    check_pod(
        "phase: Failed, reason: Evicted, message: 'The node was low on resource: memory. '",
        "Ended: its pod was evicted: The node was low on resource: memory.",
    );
}

#[test]
fn ends_that_nobody_could_report() {
    check_pod(
        &format!("phase: Failed, {}", terminated("OOMKilled", 137, "")),
        "Ended: its container `job` was killed for want of memory: all that ran in it had more than its limit of 4Gi [oom]",
    );
    check_pod(
        &format!("phase: Failed, {}", terminated("StartError", 128, "exec: no such file")),
        "Ended: its container `job` could not be started: exec: no such file",
    );
    check_pod(
        &format!("phase: Failed, {}", terminated("Error", 2, "panic: out of luck")),
        "Ended: its container `job` ended with 2 and said nothing of its agent",
    );
    let init = json!({ "name": "jitney-agent", "state": { "terminated": { "exitCode": 1, "message": "no buildkite-agent\n" } } });
    check_pod(
        &format!("phase: Failed, initContainerStatuses: [{init}]"),
        "Ended: its init container `jitney-agent` failed with 1: no buildkite-agent",
    );
    check_pod(
        "phase: Failed, reason: OutOfcpu, message: 'Pod was rejected'",
        "Ended: its node would not take the pod: OutOfcpu: Pod was rejected [Capacity]",
    );
    check_pod("phase: Failed", "Ended: its pod failed, and nothing more is known");
}

#[test]
fn a_pod_that_should_be_gone_is_on_a_node_that_is() {
    let running = "phase: Running, containerStatuses: [{ name: job, started: true, state: { running: { } } }]";
    let job = a_job("");
    let check = |deleted: &str, expected: &str| {
        let pod = a_pod(deleted, running);
        assert_eq!(
            told(&read(Seen { job: Some(&job), pods: &[&pod], ..Seen::default() })),
            expected
        );
    };
    check("2026-11-27T08:02:30Z", "Ended: its node `n1` does not answer any more");
    check("2026-11-27T08:02:59Z", "Connected: -");
}

#[test]
fn the_deadline_is_told_from_other_ends() {
    let over = "status: { conditions: [{ type: REASON, status: 'True', reason: DeadlineExceeded,
        message: Job was active longer than specified deadline, lastTransitionTime: '2026-11-27T08:02:00Z' }] }";
    let expected = "Ended: the machine's deadline was reached [deadline]";
    for kind in ["Failed", "FailureTarget"] {
        let job = a_job(&over.replace("REASON", kind));
        assert_eq!(told(&read(Seen { job: Some(&job), ..Seen::default() })), expected);
        let stopped = report(r#"{"kind":"stopped"}"#, true, "");
        let pod = a_pod("", &format!("phase: Failed, {}", terminated("Error", 143, &stopped)));
        assert_eq!(
            told(&read(Seen { job: Some(&job), pods: &[&pod], ..Seen::default() })),
            expected
        );
    }
    // Its container still has its grace.
    let job = a_job(&over.replace("REASON", "FailureTarget"));
    let pod = a_pod(
        "",
        "phase: Running, containerStatuses: [{ name: job, started: true, state: { running: {} } }]",
    );
    assert_eq!(
        told(&read(Seen { job: Some(&job), pods: &[&pod], ..Seen::default() })),
        "Connected: -"
    );
}

#[test]
fn pods_without_a_job_are_machines_still() {
    let pod = a_pod("2026-11-27T08:05:00Z", "phase: Running");
    let machine = read(Seen { pods: &[&pod], ..Seen::default() });
    assert_eq!((machine.name.as_str(), told(&machine).as_str()), ("m-1", "Provisioning: -"));
    assert_eq!(machine.deadline_at.to_string(), "2026-11-27T09:00:00Z");
}

#[test]
fn what_it_bears_and_cannot_be_read_is_an_error() {
    let mut job = a_job("");
    job.metadata.labels = Err("its jitney.dev/job cannot be read: `x`".to_owned());
    let error =
        machine(Seen { job: Some(&job), ..Seen::default() }, now()).expect_err("it is broken");
    assert_eq!(error, "its jitney.dev/job cannot be read: `x`");
}
