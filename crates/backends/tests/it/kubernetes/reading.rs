//! Objects as the API server shows them in, a machine in words out. Each case is what a real
//! cluster says, as short as it can be said.

mod ends;

use std::slice::from_ref;

use backends::kubernetes::read::{Seen, machine};
use backends::kubernetes::seen::{Event, Job, Pod};
use backends::{Machine, MachineEnd};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;

const META: &str = "{ name: m-1, uid: 0199a3c0-0000-7000-8000-000000000001, resourceVersion: '7', creationTimestamp: '2026-11-27T08:00:00Z',
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
        "involvedObject": { "name": "m-1" },
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
    let Some(end) = machine.ended.as_deref() else {
        return format!("{:?}: {}", machine.phase, machine.note.as_deref().unwrap_or("-"));
    };
    let MachineEnd { oom_killed, deadline_reached, refused, taken, .. } = end;
    let marks = [
        refused.map(|class| format!("{class:?}")),
        oom_killed.then(|| "oom".to_owned()),
        deadline_reached.then(|| "deadline".to_owned()),
        taken.then(|| "taken".to_owned()),
    ];
    let marks: Vec<String> = marks.into_iter().flatten().collect();
    let marks = if marks.is_empty() { String::new() } else { format!(" [{}]", marks.join(", ")) };
    format!("{:?}: {}{marks}", machine.phase, end.cause)
}

fn check_pod(status: &str, expected: &str) {
    let (job, pod) = (a_job(""), a_pod("", status));
    let machine = read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() });
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
    let machine = read(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() });
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
    let seen = Seen {
        job: Some(&job),
        pods: from_ref(&pod),
        not_created: Some(&event),
        ..Seen::default()
    };
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
    let machine = machine(Seen { job: Some(&job), pods: from_ref(&pod), ..Seen::default() }, soon);
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
    let seen = Seen {
        job: Some(&job),
        pods: from_ref(&pod),
        not_mounted: Some(&event),
        ..Seen::default()
    };
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
