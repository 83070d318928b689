//! What a machine that is not up yet waits for, in words for whoever wrote the pipeline.

use super::Seen;
use super::refusal;
use crate::kubernetes::seen::{Container, Pod, Waiting};

/// The longest that is told of anything the cluster said.
const LONGEST: usize = 400;

pub(super) fn note(seen: &Seen<'_>) -> Option<String> {
    let words = match (seen.pods.last(), seen.job) {
        (Some(pod), _) => of_pod(pod, seen.not_mounted.map(|event| event.message.as_str())),
        (None, Some(job)) if job.spec.suspend => Some(match &job.metadata.kueue_queue {
            Some(queue) => format!("waits to be let in by Kueue's queue `{queue}`"),
            None => "its Job is suspended, and waits for whoever suspended it".to_owned(),
        }),
        (None, _) => seen.not_created.map(|said| refusal::of_pod(&said.message).words),
    };
    words.map(crop)
}

/// Short enough for a notification.
pub(super) fn crop(words: String) -> String {
    match words.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &words[..at]),
        None => words,
    }
}

fn of_pod(pod: &Pod, not_mounted: Option<&str>) -> Option<String> {
    if let Some(scheduled) = pod.condition("PodScheduled").filter(|one| &*one.status == "False") {
        let said = scheduled.message.as_deref().unwrap_or_default();
        return Some(match scheduled.reason.as_deref() {
            Some("SchedulingGated") => "is held back by a scheduling gate".to_owned(),
            _ => unschedulable(said),
        });
    }
    let containers = pod.before.iter().chain(pod.main.as_ref());
    let waiting = containers.filter_map(|one| Some((one, one.state.waiting.as_deref()?)));
    let mut told = waiting.filter_map(|(one, waiting)| of_container(one, waiting));
    told.next().or_else(|| not_mounted.map(mount_words))
}

fn of_container(container: &Container, waiting: &Waiting) -> Option<String> {
    let (reason, message) = (&*waiting.reason, &*waiting.message);
    if let Some(refusal) = refusal::of_image(reason, message, &container.image) {
        return Some(refusal.words);
    }
    match reason {
        // What is usual on the way up.
        "ContainerCreating" | "PodInitializing" | "" => None,
        "CreateContainerConfigError" => Some(config_words(message)),
        "CrashLoopBackOff" => {
            Some(format!("its container `{}` fails again and again", container.name))
        }
        _ => Some(format!("its container `{}` cannot start: {reason}: {message}", container.name)),
    }
}

/// `secret "x" not found`, `couldn't find key k in Secret ns/x`.
fn config_words(message: &str) -> String {
    for (kind, called) in [("secret ", "Secret"), ("configmap ", "ConfigMap")] {
        if let Some(name) =
            message.strip_prefix(kind).and_then(|rest| rest.strip_suffix(" not found"))
        {
            return format!("waits for the {called} {name}, which is not there");
        }
    }
    format!("waits for what its configuration names: {message}")
}

/// `MountVolume.SetUp failed for volume "x" : configmap "y" not found`.
fn mount_words(message: &str) -> String {
    let said = message.rsplit_once(" : ").map_or(message, |(_, said)| said);
    for (kind, called) in [("secret ", "Secret"), ("configmap ", "ConfigMap")] {
        if let Some(name) = said.strip_prefix(kind).and_then(|rest| rest.strip_suffix(" not found"))
        {
            return format!("waits for the {called} {name}, which is not there");
        }
    }
    format!("a volume cannot be mounted: {said}")
}

/// From `0/3 nodes are available: 2 Insufficient cpu, 1 node(s) didn't match Pod's node
/// affinity/selector. preemption: …`.
fn unschedulable(said: &str) -> String {
    let Some((nodes, rest)) = said.split_once(" nodes are available: ") else {
        return match said {
            "" => "waits for the scheduler".to_owned(),
            _ => format!("no node can take it: {said}"),
        };
    };
    let count = nodes.rsplit_once('/').map_or(nodes, |(_, count)| count);
    // A taint has dots in its name; a sentence ends with a dot and a space.
    let reasons = rest.split(". ").next().unwrap_or(rest).trim_end_matches('.');
    let each: Vec<String> = parts(reasons).iter().map(|part| part_words(part)).collect();
    let nodes = if count == "1" { "node" } else { "nodes" };
    format!("no node has room for it: of {count} {nodes}, {}", each.join(", "))
}

/// Cut at commas that are followed by a number: a taint may hold one too.
fn parts(reasons: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for piece in reasons.split(", ") {
        match parts.last_mut() {
            Some(last) if !piece.starts_with(|c: char| c.is_ascii_digit()) => {
                last.push_str(", ");
                last.push_str(piece);
            }
            Some(_) | None => parts.push(piece.to_owned()),
        }
    }
    parts
}

fn part_words(part: &str) -> String {
    let Some((count, why)) = part.split_once(' ') else { return part.to_owned() };
    let one = count == "1";
    let (have, are) = if one { ("has", "is") } else { ("have", "are") };
    let why = why.strip_prefix("node(s) ").unwrap_or(why);
    if let Some(resource) = why.strip_prefix("Insufficient ") {
        return format!("{count} {have} too little {resource} left");
    }
    if let Some(taint) = why
        .strip_prefix("had untolerated taint ")
        .or_else(|| why.strip_prefix("had untolerated taint(s) "))
    {
        let taint = taint.trim_matches(['{', '}', ' ']);
        let (key, value) = taint.split_once(": ").unwrap_or((taint, ""));
        let value = value.trim();
        let equals = if value.is_empty() { "" } else { "=" };
        return format!("{count} {have} the taint {}{equals}{value}", key.trim_end_matches(':'));
    }
    if why.starts_with("had untolerated taint") {
        return format!("{count} {have} a taint that keeps it off");
    }
    if why.contains("node affinity/selector") || why.contains("node selector") {
        return format!("{count} {are} not of the kind that was asked for");
    }
    if why.starts_with("were unschedulable") {
        return format!("{count} {are} cordoned");
    }
    if why == "Too many pods" {
        return format!("{count} {have} as many pods as can be");
    }
    format!("{count}: {why}")
}
