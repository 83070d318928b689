//! How a machine ended, or that it never will come up. The guest's own report says most; what
//! happened to the pod from outside says more, and comes first.

use guest::pod::{Memory, Message};
use guest::report::{Cause, Ended};
use jiff::{SignedDuration, Timestamp};

use super::Seen;
use super::memory;
use super::refusal::{self, Refusal};
use super::waiting::crop;
use crate::contract::{Class, MachineEnd};
use crate::kubernetes::pod::bytes;
use crate::kubernetes::seen::{Condition, Container, Job, Pod, Terminated};
use crate::kubernetes::template::JOB_CONTAINER;

/// How long an image may fail to be pulled before it is believed.
const PULLING: SignedDuration = SignedDuration::from_secs(120);
/// How long after the end of its grace a pod may still be there before its node is given up.
const NODE_SILENT: SignedDuration = SignedDuration::from_secs(5);

/// How a kubelet says that a container was killed for want of memory.
const OOM: &str = "OOMKilled";
const SUSPENDED_AGAIN: &str = "it was suspended again after it had started";

pub(super) fn of(seen: &Seen<'_>, now: Timestamp) -> Option<MachineEnd> {
    let job_finish = seen.job.and_then(Job::finish);
    let pod = seen.pods.last();
    let mut end = match pod {
        Some(pod) => of_pod(pod, now).or_else(|| over(pod, job_finish)),
        None => None,
    };
    if end.is_none() && pod.is_none_or(Pod::is_over) {
        end = without_pod(seen, now);
    }
    let mut end = end?;
    if job_finish.is_some_and(is_deadline) {
        end.deadline_reached = true;
        end.cause = "the machine's deadline was reached".to_owned();
    } else if job_finish.is_none() && pod.is_some() && seen.job.is_some_and(|job| job.spec.suspend)
    {
        // Its pod was deleted for that, and knows only that it was told to stop.
        end.cause = SUSPENDED_AGAIN.to_owned();
    }
    Some(end)
}

fn is_deadline(finish: &Condition) -> bool {
    finish.reason.as_deref() == Some("DeadlineExceeded")
}

/// The Job is over and says so before its pod does.
fn over(pod: &Pod, finish: Option<&Condition>) -> Option<MachineEnd> {
    // What still runs has not ended: the Job controller is about to end it.
    let runs = pod.main.as_ref().is_some_and(|main| main.state.running.is_some());
    let finish = finish.filter(|_| !runs)?;
    let at = finish.last_transition_time.unwrap_or(pod.metadata.created_at);
    Some(ended(at, job_words(finish)))
}

/// There is no pod, or it has left nothing to say.
fn without_pod(seen: &Seen<'_>, now: Timestamp) -> Option<MachineEnd> {
    let job = seen.job?;
    if let Some(finish) = job.finish() {
        return Some(ended(finish.last_transition_time.unwrap_or(now), job_words(finish)));
    }
    if job.spec.suspend {
        let again = seen.had_pod;
        let suspended = job.status.conditions.iter().find(|one| &*one.kind == "Suspended");
        let at = suspended.and_then(|one| one.last_transition_time).unwrap_or(now);
        return again.then(|| ended(at, SUSPENDED_AGAIN.to_owned()));
    }
    if let Some(at) = job.metadata.deleted_at {
        return Some(ended(at, "somebody deleted its Job".to_owned()));
    }
    let said = seen.not_created?;
    let Refusal { class, words } = refusal::of_pod(&said.message);
    Some(refused(said.metadata.created_at, class?, words))
}

fn job_words(finish: &Condition) -> String {
    match (&*finish.kind, finish.message.as_deref()) {
        ("Complete" | "SuccessCriteriaMet", _) => "its pod has completed".to_owned(),
        (_, Some(message)) if finish.reason.as_deref() != Some("BackoffLimitExceeded") => {
            crop(format!("its Job failed: {message}"))
        }
        _ => "its pod failed, and nothing more is known".to_owned(),
    }
}

fn of_pod(pod: &Pod, now: Timestamp) -> Option<MachineEnd> {
    let main = pod.main.as_ref();
    let terminated = main.and_then(|main| main.state.terminated.as_deref());
    if let (Some(main), Some(terminated)) = (main, terminated) {
        return Some(of_container(pod, main, terminated, now));
    }
    if pod.is_over() {
        return Some(of_failed_pod(pod, now));
    }
    if let Some(silent) = silent_node(pod, now) {
        return Some(silent);
    }
    never_up(pod, now)
}

fn of_container(
    pod: &Pod,
    main: &Container,
    terminated: &Terminated,
    now: Timestamp,
) -> MachineEnd {
    let at = terminated.finished_at.unwrap_or(now);
    let mut end = match message(main) {
        Some(message) => of_message(message, pod, terminated, at),
        None => unsaid(pod, terminated, at),
    };
    if let Some(words) = disruption(pod) {
        end.cause = words;
        end.taken = true;
    }
    end
}

/// The guest's last words, if it has left any.
pub(super) fn message(main: &Container) -> Option<Message> {
    Message::read(&main.state.terminated.as_ref()?.message)
}

fn of_message(message: Message, pod: &Pod, terminated: &Terminated, at: Timestamp) -> MachineEnd {
    let Message { report, image, memory } = message;
    let Some(said) = report.ended else { return cut_off(pod, terminated, at, &memory) };
    let mut cause = said.cause.to_string();
    if image.is_unfit() {
        cause = image.line().unwrap_or(cause);
    } else if report.connected_at.is_none()
        && let Some(line) = image.line()
    {
        cause = format!("{cause}; {line}");
    }
    let Ended { at, cause: of, log_tail, usage } = said;
    MachineEnd {
        at,
        cause: crop(cause),
        log_tail,
        cpu_seconds: usage.cpu_seconds,
        peak_memory_bytes: usage.peak_memory_bytes,
        oom_killed: usage.oom_killed,
        // What ran when it was killed is what had most: since then there is less of it.
        ran: memory.fullest().and_then(memory::ran),
        deadline_reached: of == Cause::Deadline,
        taken: false,
        refused: image.is_unfit().then_some(Class::Rejected),
        fields: std::collections::BTreeMap::new(),
    }
}

/// The guest was killed with all the rest, and had said how things stood until then.
fn cut_off(pod: &Pod, terminated: &Terminated, at: Timestamp, seen: &Memory) -> MachineEnd {
    let mut end = if is_oom(terminated) {
        let mut end = out_of_memory(pod, JOB_CONTAINER, at);
        let last = seen.looks.last();
        if let Some(words) = last.and_then(|look| memory::last_look(look, at)) {
            end.cause = crop(format!("{}{words}", end.cause));
        }
        end.ran = last.and_then(memory::ran);
        end
    } else {
        let code = terminated.exit_code;
        ended(
            at,
            format!("its guest was killed, and its container `{JOB_CONTAINER}` ended with {code}"),
        )
    };
    end.peak_memory_bytes = Some(seen.peak_bytes).filter(|peak| *peak > 0);
    end
}

/// The guest could not say anything.
fn unsaid(pod: &Pod, terminated: &Terminated, at: Timestamp) -> MachineEnd {
    let Terminated { exit_code, reason, message, .. } = terminated;
    let mut end = match &**reason {
        OOM => out_of_memory(pod, JOB_CONTAINER, at),
        "StartError" | "ContainerCannotRun" | "CreateContainerError" => ended(
            at,
            crop(format!("its container `{JOB_CONTAINER}` could not be started: {message}")),
        ),
        _ => ended(
            at,
            format!(
                "its container `{JOB_CONTAINER}` ended with {exit_code} and said nothing of its agent"
            ),
        ),
    };
    end.log_tail.clone_from(message);
    end
}

fn is_oom(terminated: &Terminated) -> bool {
    &*terminated.reason == OOM
}

/// Only the job's container has a limit that the job asked for.
fn out_of_memory(pod: &Pod, container: &str, at: Timestamp) -> MachineEnd {
    let limit = pod.metadata.labels.as_ref().map(|labels| bytes(labels.memory_bytes).0);
    let limit = limit.ok().filter(|_| container == JOB_CONTAINER);
    let limit = limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    let cause = format!(
        "its container `{container}` was killed for want of memory: all that ran in it had more than its limit{limit}"
    );
    MachineEnd { oom_killed: true, ..ended(at, cause) }
}

/// What was done to the pod from outside, if anything.
fn disruption(pod: &Pod) -> Option<String> {
    if pod.reason.as_deref() == Some("Evicted") {
        let why = pod.message.as_deref().unwrap_or("no reason was given");
        return Some(crop(format!("its pod was evicted: {}", why.trim())));
    }
    let disrupted = pod.holds("DisruptionTarget")?;
    let said = disrupted.message.as_deref().unwrap_or_default();
    Some(crop(match disrupted.reason.as_deref().unwrap_or_default() {
        "PreemptionByScheduler" => "its pod made room for one of a higher priority".to_owned(),
        "DeletionByTaintManager" => lost_node(pod),
        "EvictionByEvictionAPI" => "its pod was evicted, as when a node is drained".to_owned(),
        "DeletionByPodGC" => "its node was removed".to_owned(),
        "TerminationByKubelet" => format!("its node ended the pod: {said}"),
        other => format!("its pod was disrupted: {other}: {said}"),
    }))
}

fn lost_node(pod: &Pod) -> String {
    match &pod.node {
        Some(node) => format!("its node `{node}` does not answer any more"),
        None => "its node does not answer any more".to_owned(),
    }
}

/// The pod is over and its container has said nothing: it never ran, or its node tells no more.
fn of_failed_pod(pod: &Pod, now: Timestamp) -> MachineEnd {
    let failed = pod.before.iter().find_map(|one| Some((one, one.state.terminated.as_deref()?)));
    let at = failed.and_then(|(_, end)| end.finished_at).unwrap_or(now);
    if let Some(words) = disruption(pod) {
        return taken(at, words);
    }
    if let Some((container, terminated)) = failed {
        let said: &str =
            if terminated.message.is_empty() { &terminated.reason } else { &terminated.message };
        let (name, code) = (&container.name, terminated.exit_code);
        let words = format!("its init container `{name}` failed with {code}: {}", said.trim());
        let mut end =
            if is_oom(terminated) { out_of_memory(pod, name, at) } else { ended(at, crop(words)) };
        end.log_tail.clone_from(&terminated.message);
        return end;
    }
    let said = pod.message.as_deref().unwrap_or_default();
    match pod.reason.as_deref() {
        // The node had less room than the scheduler thought, or has been filled since.
        Some(reason)
            if reason.starts_with("OutOf")
                || matches!(reason, "NodeAffinity" | "UnexpectedAdmissionError") =>
        {
            refused(
                at,
                Class::Capacity,
                crop(format!("its node would not take the pod: {reason}: {said}")),
            )
        }
        Some(reason) => ended(at, crop(format!("its pod failed: {reason}: {said}"))),
        None => ended(at, "its pod failed, and nothing more is known".to_owned()),
    }
}

/// Since when the cluster has not heard of the pod's node. It takes `Ready` away from all that runs
/// there, and gives no reason for it, as a kubelet always does.
fn unheard_of(pod: &Pod) -> Option<Timestamp> {
    pod.main.as_ref()?.state.running.as_ref()?;
    let ready = pod.condition("Ready").filter(|ready| &*ready.status == "False")?;
    ready.reason.as_deref().unwrap_or_default().is_empty().then_some(ready.last_transition_time)?
}

/// Why nobody knows whether a machine that was up still runs.
pub(super) fn silent(pod: &Pod) -> Option<String> {
    unheard_of(pod).map(|_| lost_node(pod))
}

/// Why it is being taken away, while it still runs.
pub(super) fn leaving(pod: &Pod) -> Option<String> {
    disruption(pod).filter(|_| !pod.is_over())
}

/// A pod that is to be deleted, and whose kubelet does not say that it is.
fn silent_node(pod: &Pod, now: Timestamp) -> Option<MachineEnd> {
    let deleted_at = pod.metadata.deleted_at?;
    if let Some(since) = unheard_of(pod) {
        // Nobody is there to take its grace, or to tell of its end.
        let told = pod.holds("DisruptionTarget").and_then(|told| told.last_transition_time);
        return Some(taken(told.unwrap_or(since), lost_node(pod)));
    }
    let gone_at = deleted_at.checked_add(NODE_SILENT).ok()?;
    (pod.node.is_some() && now >= gone_at).then(|| taken(gone_at, lost_node(pod)))
}

/// A container that waits for what will not come.
fn never_up(pod: &Pod, now: Timestamp) -> Option<MachineEnd> {
    let containers = pod.before.iter().chain(pod.main.as_ref());
    for container in containers {
        let Some(waiting) = &container.state.waiting else { continue };
        let found = refusal::of_image(&waiting.reason, &waiting.message, &container.image);
        let Some(Refusal { class, words }) = found else { continue };
        let since = pod.started_at.unwrap_or(pod.metadata.created_at);
        if let Some(class) = class {
            return Some(refused(since, class, words));
        }
        if now.duration_since(since) >= PULLING {
            return Some(ended(since.checked_add(PULLING).unwrap_or(now), crop(words)));
        }
    }
    None
}

fn ended(at: Timestamp, cause: String) -> MachineEnd {
    MachineEnd {
        at,
        cause,
        log_tail: String::new(),
        cpu_seconds: None,
        peak_memory_bytes: None,
        oom_killed: false,
        ran: None,
        deadline_reached: false,
        taken: false,
        refused: None,
        fields: std::collections::BTreeMap::new(),
    }
}

fn taken(at: Timestamp, cause: String) -> MachineEnd {
    MachineEnd { taken: true, ..ended(at, cause) }
}

fn refused(at: Timestamp, class: Class, words: String) -> MachineEnd {
    MachineEnd { refused: Some(class), ..ended(at, crop(words)) }
}
