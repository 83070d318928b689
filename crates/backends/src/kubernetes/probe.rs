//! What `doctor` wants to know before the first job: the cluster's version, what we may do there,
//! whether such a Job would be taken, and what is left of quotas. It returns what it found; the
//! words for people are made elsewhere.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::{Ask, JSON, Kind, decode, written};
use super::settings::TemplateFrom;
use super::{Kubernetes, job};
use crate::contract::{Error, Hardware, Labels, Order, Resources};

/// The oldest 1.x that is known to do what we ask of it.
pub const OLDEST_MINOR: u32 = 30;

/// One thing that we have to be allowed to do in the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    /// Only with what this part of the configuration asks for; empty: always.
    pub with: &'static str,
}

/// Everything that this backend does. A Role needs no more.
pub const RIGHTS: [Right; 8] = [
    right("batch", "jobs", &["create", "get", "list", "watch", "delete"], ""),
    right("", "pods", &["list", "watch", "delete"], ""),
    right("", "events", &["list", "watch"], ""),
    right("", "secrets", &["create", "list", "patch"], ""),
    right("", "podtemplates", &["get"], "template_from"),
    right("batch", "jobs", &["patch"], "keep_failed"),
    right("", "pods", &["patch"], "keep_failed"),
    right("", "resourcequotas", &["list"], "doctor"),
];

pub(crate) const fn right(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    with: &'static str,
) -> Right {
    Right { group, resource, verbs, with }
}

impl Right {
    /// One verb of it, for people: `create jobs.batch`.
    pub(crate) fn words(&self, verb: &str) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{verb} {}{dot}{}", self.resource, self.group)
    }
}

/// A version for people, and its minor number. GKE says `30+`.
pub(crate) fn version_of(major: &str, minor: &str) -> (String, u32) {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    (format!("{major}.{minor}"), digits.parse().unwrap_or_default())
}

/// The state of a cluster for this backend.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `1.36`, and its minor number.
    pub version: Result<(String, u32), Error>,
    /// What we may not do and have to: `create jobs.batch`. Or why nobody knows.
    pub missing: Result<Vec<String>, Error>,
    /// Whether the API server would take a Job of ours, and what it says of the template.
    pub trial: Result<(), Error>,
    /// What lies under our Jobs and is hardly meant.
    pub doubt: Option<String>,
    /// `team: requests.cpu 9 of 10`; none where we may not look.
    pub quotas: Vec<String>,
}

pub(super) async fn probe(backend: &Kubernetes) -> Probe {
    let (version, missing, trial, quotas) =
        tokio::join!(version(backend), missing(backend), trial(backend), quotas(backend));
    let template = backend.origin.template(&backend.api).await;
    let doubt = template.ok().and_then(|template| template.doubt());
    Probe { version, missing, trial, doubt: doubt.map(|doubt| doubt.to_string()), quotas }
}

#[derive(Deserialize)]
struct Version {
    major: String,
    minor: String,
}

async fn version(backend: &Kubernetes) -> Result<(String, u32), Error> {
    let path = "/version".to_owned();
    let ask = Ask { verb: "get", method: Method::GET, path, body: None, accept: JSON };
    let body = backend.api.send(ask).await.map_err(|refused| refused.error)?;
    let Version { major, minor } = decode(&body)?;
    Ok(version_of(&major, &minor))
}

/// Asks for each right whether we have it; anybody may ask that of himself.
async fn missing(backend: &Kubernetes) -> Result<Vec<String>, Error> {
    let keeps = !backend.options.keep_failed.is_zero();
    let templates = matches!(backend.options.settings.template, TemplateFrom::PodTemplate(_));
    let needed = RIGHTS.iter().filter(|right| match right.with {
        "keep_failed" => keeps,
        "template_from" => templates,
        "doctor" => false,
        _ => true,
    });
    let each = needed.flat_map(|right| right.verbs.iter().map(move |verb| (right, *verb)));
    let answers = join_all(each.map(|(right, verb)| may(backend, right, verb))).await;
    let mut missing = Vec::new();
    for answer in answers {
        missing.extend(answer?);
    }
    Ok(missing)
}

/// The right in words, if we do not have it.
async fn may(backend: &Kubernetes, right: &Right, verb: &str) -> Result<Option<String>, Error> {
    let attributes = json!({
        "namespace": backend.options.settings.namespace,
        "group": right.group,
        "resource": right.resource,
        "verb": verb,
    });
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": attributes },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
    let body = Some((written(&review), JSON));
    let ask = Ask { verb: "create", method: Method::POST, path, body, accept: JSON };
    let body = backend.api.send(ask).await.map_err(|refused| refused.error)?;
    let answer: Value = decode(&body)?;
    let allowed = answer.pointer("/status/allowed").and_then(Value::as_bool) == Some(true);
    Ok((!allowed).then(|| right.words(verb)))
}

/// A create that is checked like any other and not carried out.
async fn trial(backend: &Kubernetes) -> Result<(), Error> {
    let settings = &backend.options.settings;
    let template = backend.origin.template(&backend.api).await?;
    let order = order(&settings.mark);
    let object = job::job(&order, settings, &template, "jitney-trial")?;
    let path = format!(
        "{}?dryRun=All&fieldManager=jitney&fieldValidation=Strict",
        backend.api.path(Kind::Jobs, None)
    );
    let body = Some((written(&object), JSON));
    let ask = Ask { verb: "create", method: Method::POST, path, body, accept: JSON };
    let sent = backend.api.send(ask).await;
    sent.map(drop).map_err(|refused| refused.error)
}

/// As small a machine as can be.
fn order(mark: &str) -> Order {
    let name = format!("{mark}-trial");
    let (cpu_millis, memory_bytes) = (100, 64 << 20);
    Order {
        name: name.clone(),
        request_id: Uuid::nil(),
        labels: Labels {
            mark: mark.into(),
            instance: "doctor".into(),
            job: Uuid::nil(),
            attempt: 1,
            queue: "trial".into(),
            dispatch_id: "trial".into(),
            cpu_millis,
            memory_bytes,
        },
        resources: Resources { cpu_millis, memory_bytes, disk_bytes: None, local_ssds: 0 },
        place: String::new(),
        machine_type: String::new(),
        spot: false,
        vm: None,
        hardware: Hardware::default(),
        deadline: Duration::from_secs(60),
        endpoint: "https://agent.buildkite.com/v3".to_owned(),
        token: SecretString::from(String::new()),
        agent_name: name,
        agent_tags: Vec::new(),
        image: None,
        no_rights: false,
    }
}

async fn quotas(backend: &Kubernetes) -> Vec<String> {
    let path = backend.api.path(Kind::ResourceQuotas, None);
    let ask = Ask { verb: "list", method: Method::GET, path, body: None, accept: JSON };
    let answer = backend.api.send(ask).await.map_err(|refused| refused.error);
    let list = match answer.and_then(|body| decode::<Value>(&body)) {
        Ok(list) => list,
        Err(error) => {
            tracing::debug!(%error, "quotas cannot be looked at");
            return Vec::new();
        }
    };
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(quota_words).collect()
}

fn quota_words(quota: &Value) -> Option<String> {
    let name = quota.pointer("/metadata/name")?.as_str()?;
    let hard = quota.pointer("/status/hard")?.as_object()?;
    let used = |what: &str| quota.pointer("/status/used")?.get(what)?.as_str();
    let each: Vec<String> = hard
        .iter()
        .filter_map(|(what, most)| {
            Some(format!("{what} {} of {}", used(what).unwrap_or("0"), most.as_str()?))
        })
        .collect();
    Some(format!("{name}: {}", each.join(", ")))
}

/// Whether a text can be the name of an image: `[host[:port]/]path[:tag][@digest]`.
#[must_use]
pub fn is_image(name: &str) -> bool {
    let (name, digest) = name.split_once('@').map_or((name, None), |(name, of)| (name, Some(of)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (name, None),
    };
    let is_tag = |tag: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !tag.is_empty() && tag.len() <= 128 && tag.chars().all(fits)
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost") {
        parts.remove(0);
    }
    let is_part = |part: &&str| {
        let inner =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
        let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(end) && part.ends_with(end) && part.chars().all(inner)
    };
    parts.iter().all(is_part)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(|digest| digest.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images() {
        let good = ["debian", "debian:12", "a/b", "host.example:5000/a/b_c:1.0-x", "localhost/a"];
        let digest = "europe-docker.pkg.dev/p/q/r@sha256:0123";
        for name in good.into_iter().chain([digest]) {
            assert!(is_image(name), "{name}");
        }
        for name in ["", "Debian", "a b", "a:", "a//b", "-a", "a:b c", "${IMAGE}"] {
            assert!(!is_image(name), "{name}");
        }
    }

    #[test]
    fn quotas_in_words() {
        let quota = json!({
            "metadata": { "name": "team" },
            "status": { "hard": { "pods": "10", "requests.cpu": "8" }, "used": { "pods": "3" } },
        });
        let words = Some("team: pods 3 of 10, requests.cpu 0 of 8".to_owned());
        assert_eq!(quota_words(&quota), words);
    }
}
