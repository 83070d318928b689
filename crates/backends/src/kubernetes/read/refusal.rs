//! Why there can be no pod: what admission said to the Job controller, and what the kubelet said
//! of an image. The words are the cluster's own, without the parts that only its people know.

use crate::contract::Class;

/// Why a machine cannot come up as things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// None: it may heal by itself, and is tried again by the cluster.
    pub(super) class: Option<Class>,
    pub(super) words: String,
}

impl Refusal {
    fn new(class: Option<Class>, words: String) -> Self {
        Self { class, words }
    }
}

/// What the event `FailedCreate` of a Job means.
pub(super) fn of_pod(message: &str) -> Refusal {
    let said = message.strip_prefix("Error creating: ").unwrap_or(message).trim();
    let said = without_the_pods_name(said);
    if let Some((_, quota)) = said.split_once("exceeded quota: ") {
        return Refusal::new(
            Some(Class::Quota),
            format!("the namespace's quota is used up: {}", quota_words(quota)),
        );
    }
    if let Some((_, quota)) = said.split_once("failed quota: ") {
        let words = format!("a quota of the namespace asks for more than the pod says: {quota}");
        return Refusal::new(Some(Class::Denied), words);
    }
    if is_limit_range(said) {
        let words = format!("the namespace's limits do not allow such a pod: {}", forbidden(said));
        return Refusal::new(Some(Class::Rejected), words);
    }
    if said.contains("failed calling webhook") || said.contains("Internal error occurred") {
        return Refusal::new(None, format!("the cluster cannot decide on the pod: {said}"));
    }
    if said.contains("error looking up service account") {
        let words = format!("the pod's service account is not there: {}", forbidden(said));
        return Refusal::new(Some(Class::Denied), words);
    }
    if said.contains("violates PodSecurity") || said.contains("violate PodSecurity") {
        let words =
            format!("the namespace's pod security does not allow the pod: {}", forbidden(said));
        return Refusal::new(Some(Class::Denied), words);
    }
    if said.contains("denied request") || said.contains("denied the request") {
        return Refusal::new(
            Some(Class::Rejected),
            format!("the cluster does not allow the pod: {}", forbidden(said)),
        );
    }
    if said.contains("no PriorityClass with name") || said.contains("RuntimeClass") {
        return Refusal::new(
            Some(Class::Denied),
            format!("the pod's template does not fit the cluster: {}", forbidden(said)),
        );
    }
    if said.contains("is invalid: ") {
        return Refusal::new(
            Some(Class::Rejected),
            format!("the pod is not valid: {}", after(said, "is invalid: ")),
        );
    }
    if said.contains("is forbidden: ") {
        return Refusal::new(
            Some(Class::Denied),
            format!("the cluster forbids the pod: {}", forbidden(said)),
        );
    }
    Refusal::new(None, format!("its pod could not be made: {said}"))
}

fn without_the_pods_name(said: &str) -> &str {
    let Some(rest) = said.strip_prefix("pods \"") else { return said };
    rest.split_once("\" ").map_or(said, |(_, rest)| rest)
}

fn after<'a>(said: &'a str, mark: &str) -> &'a str {
    said.split_once(mark).map_or(said, |(_, rest)| rest)
}

fn forbidden(said: &str) -> &str {
    after(said, "is forbidden: ")
}

/// `maximum memory usage per Container is 2Gi, but limit is 4Gi`, alone or in a list.
fn is_limit_range(said: &str) -> bool {
    let limits = ["maximum ", "minimum "];
    let per = [" usage per Container", " usage per Pod", " usage per PersistentVolumeClaim"];
    (limits.iter().any(|word| said.contains(word)) && per.iter().any(|word| said.contains(word)))
        || said.contains("max limit to request ratio")
}

/// From `team, requested: requests.cpu=2, used: requests.cpu=9, limited: requests.cpu=10`.
fn quota_words(quota: &str) -> String {
    let part = |name: &str| {
        let (_, rest) = quota.split_once(name)?;
        let end = [", used: ", ", limited: "].iter().filter_map(|next| rest.find(next)).min();
        Some(rest[..end.unwrap_or(rest.len())].trim_end_matches('.'))
    };
    let name = quota.split_once(", requested: ").map_or(quota, |(name, _)| name);
    match (part("requested: "), part("used: "), part("limited: ")) {
        (Some(requested), Some(used), Some(limited)) => {
            format!("{name} allows {limited}, {used} is used, and the job needs {requested}")
        }
        _ => quota.to_owned(),
    }
}

/// What the kubelet says of a container that waits for its image; `None` where it does not.
pub(super) fn of_image(reason: &str, message: &str, image: &str) -> Option<Refusal> {
    let image = if image.is_empty() { "the image" } else { image };
    match reason {
        "InvalidImageName" => {
            let words = format!("`{image}` is not the name of an image");
            Some(Refusal::new(Some(Class::Rejected), words))
        }
        "ErrImageNeverPull" => {
            let words = format!("{image} is not on the node, and the pod may not pull it");
            Some(Refusal::new(Some(Class::Denied), words))
        }
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            let absent = ["not found", "manifest unknown", "does not exist", "NotFound"];
            if absent.iter().any(|word| message.contains(word)) && !message.contains("no such host")
            {
                // Registries do not tell a stranger what there is.
                let or = if message.contains("authorization") {
                    ", or the cluster may not pull it"
                } else {
                    ""
                };
                let words = format!("there is no image {image}{or}");
                return Some(Refusal::new(Some(Class::Rejected), words));
            }
            let said = if message.is_empty() { reason } else { message };
            Some(Refusal::new(None, format!("{image} cannot be pulled: {said}")))
        }
        _ => None,
    }
}
