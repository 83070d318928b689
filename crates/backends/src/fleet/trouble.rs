//! Why a dispatch's pods do not come, in words: from its pods and from what the cluster said of its
//! Job. Pure: the same objects make the same words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

/// So many reasons are told, the most frequent first.
const REASONS_MOST: usize = 3;
const LONGEST: usize = 300;

/// What keeps these pods, or their being made; nothing where nothing is said.
#[must_use]
pub fn trouble(pods: &[Pod], not_created: &[Event], suspended: bool) -> Option<String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for reason in pods.iter().filter_map(of_pod) {
        *reasons.entry(reason).or_default() += 1;
    }
    let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
    reasons.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
    let mut words = Vec::new();
    if suspended {
        words.push(
            "the Job is suspended: whoever queues Jobs in this namespace has not admitted it"
                .to_owned(),
        );
    }
    // The newest refusal is the one that still holds.
    let newest = not_created.iter().max_by_key(|event| when(event));
    if let Some(message) = newest.and_then(|event| event.message.as_deref()) {
        words.push(format!("pods are refused: {}", crop(message)));
    }
    words.extend(reasons.into_iter().take(REASONS_MOST).map(|(reason, pods)| match pods {
        1 => format!("1 pod: {reason}"),
        pods => format!("{pods} pods: {reason}"),
    }));
    (!words.is_empty()).then(|| words.join("; "))
}

fn when(event: &Event) -> Option<jiff::Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

fn of_pod(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    match status.phase.as_deref() {
        Some("Succeeded") => return None,
        Some("Failed") => return Some(failed(pod)),
        _ => {}
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        return Some(format!("being deleted on node {}", node.unwrap_or("none")));
    }
    let conditions = status.conditions.iter().flatten();
    let mut unscheduled = conditions
        .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled.next() {
        let why = condition.message.as_deref().or(condition.reason.as_deref());
        return Some(crop(why.unwrap_or("not scheduled")));
    }
    let inits = status.init_container_statuses.iter().flatten();
    let all = inits.chain(status.container_statuses.iter().flatten());
    all.filter_map(waiting).next()
}

fn waiting(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    // On its way, and nothing to tell.
    if matches!(reason, "ContainerCreating" | "PodInitializing") {
        return None;
    }
    let message = waiting.message.as_deref().map(|message| format!(": {}", crop(message)));
    Some(format!("{reason}{}", message.unwrap_or_default()))
}

fn failed(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.as_deref());
    if let Some(reason) = reason {
        let message = status.and_then(|status| status.message.as_deref());
        let message = message.map(|message| format!(": {}", crop(message)));
        return format!("{reason}{}", message.unwrap_or_default());
    }
    let lost = status.and_then(|status| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|of| of.type_ == "DisruptionTarget" && of.status == "True")
    });
    if let Some(lost) = lost {
        return crop(lost.message.as_deref().or(lost.reason.as_deref()).unwrap_or("disrupted"));
    }
    let inits =
        status.into_iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let mains = status.into_iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended = inits.chain(mains).find_map(|container| {
        let ended = container.state.as_ref()?.terminated.as_ref()?;
        (ended.exit_code != 0).then(|| {
            let why = ended.reason.as_deref().filter(|reason| *reason != "Error");
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            let said = ended.message.as_deref().map(|said| format!(": {}", crop(said.trim())));
            let (name, code) = (&container.name, ended.exit_code);
            format!("container {name} exited with {code}{why}{}", said.unwrap_or_default())
        })
    });
    ended.unwrap_or_else(|| "failed".to_owned())
}

fn crop(text: &str) -> String {
    text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
