//! From an order to the Job that is sent. Three layers: what is usual, what the operator puts over
//! it, and over both what our promises need. No call is made here.

use std::collections::BTreeMap;

use guest::pod::{self, PodOrders};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::nodes::{Selection, gpus, short_when_away};
use super::pod::{init_containers, main_container, volumes};
use super::settings::Settings;
use super::stamp;
use super::template::{JOB_CONTAINER, Template, lay_over};
use crate::contract::{Class, Error, Order};

/// From SIGTERM until everything of the job is killed, and what the kubelet gives beyond it.
const GRACE_S: u64 = 15;
const POD_GRACE_S: i64 = 20;
/// A spot node is gone after 15 s in all.
const SPOT_GRACE_S: u64 = 11;
const SPOT_POD_GRACE_S: i64 = 14;
/// Of that the job's own.
const SPOT_CANCEL_GRACE_S: &str = "7";

/// The Job for this order, whose token will be in this Secret under the machine's name.
pub fn job(
    order: &Order,
    settings: &Settings,
    template: &Template,
    secret: &str,
) -> Result<Value, Error> {
    let image = settings.image_for(order.image.as_deref());
    if image.is_none() && template.image().is_none() {
        let words = "the job names no image and the backend has none for such jobs; add `image` to \
                     the step's agents, or to the backend's configuration";
        return Err(Error::new(Class::Rejected, words));
    }
    let gpus = order.hardware.gpu.as_deref().map(gpus).transpose()?;
    let mut job = json(&usual(order));
    lay_over(&mut job, template.value());
    lay_over(&mut job, json(&ours(order, settings, secret, image, gpus)));
    if let Some(containers) = containers_of(&mut job) {
        tidy(containers);
    }
    Ok(job)
}

/// What a template may say otherwise.
fn usual(order: &Order) -> Job {
    let annotations = BTreeMap::from(
        [
            ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
            ("karpenter.sh/do-not-disrupt", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let grace = if order.spot { SPOT_POD_GRACE_S } else { POD_GRACE_S };
    let pod = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(grace),
        tolerations: Some(short_when_away()),
        ..PodSpec::default()
    };
    of_pod(ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() }, pod)
}

/// What nobody may say otherwise.
fn ours(
    order: &Order,
    settings: &Settings,
    secret: &str,
    image: Option<String>,
    gpus: Option<u32>,
) -> Job {
    let selection = Selection::of(order, &settings.nodes);
    let affinity = selection.affinity();
    let orders = serde_json::to_string(&pod_orders(order)).expect("strings and numbers are JSON");
    let pod = PodSpec {
        restart_policy: Some("Never".to_owned()),
        init_containers: Some(init_containers(settings)),
        containers: vec![main_container(order, settings, secret, image, &orders, gpus)],
        volumes: Some(volumes(order, settings)),
        service_account_name: account(order, settings),
        node_selector: Some(selection.selector).filter(|selector| !selector.is_empty()),
        tolerations: Some(selection.tolerations).filter(|tolerations| !tolerations.is_empty()),
        affinity,
        ..PodSpec::default()
    };
    let (labels, annotations) = (stamp::labels(order), stamp::annotations(order, secret));
    let stamped = ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    let mut job = of_pod(stamped.clone(), pod);
    job.metadata = ObjectMeta {
        name: Some(order.name.clone()),
        namespace: Some(settings.namespace.clone()),
        ..stamped
    };
    if let Some(spec) = &mut job.spec {
        spec.parallelism = Some(1);
        spec.completions = Some(1);
        spec.backoff_limit = Some(0);
        spec.active_deadline_seconds = Some(stamp::seconds(order.deadline));
        spec.ttl_seconds_after_finished =
            Some(i32::try_from(settings.ttl.as_secs()).unwrap_or(i32::MAX));
    }
    job
}

/// A pod without rights of its own is the namespace's `default`, whatever a template names.
fn account(order: &Order, settings: &Settings) -> Option<String> {
    if order.no_rights { Some("default".to_owned()) } else { settings.service_account.clone() }
}

fn of_pod(metadata: ObjectMeta, spec: PodSpec) -> Job {
    let template = PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) };
    Job { spec: Some(JobSpec { template, ..JobSpec::default() }), ..Job::default() }
}

/// What the guest in the pod is told.
fn pod_orders(order: &Order) -> PodOrders {
    let spot = order.spot || order.hardware.prefers_spot;
    let env =
        spot.then(|| ("BUILDKITE_CANCEL_GRACE_PERIOD".to_owned(), SPOT_CANCEL_GRACE_S.to_owned()));
    PodOrders {
        job: order.labels.job,
        agent_name: order.agent_name.clone(),
        endpoint: order.endpoint.clone(),
        tags: order.agent_tags.clone(),
        lifetime_s: order.deadline.as_secs().max(1),
        grace_s: if spot { SPOT_GRACE_S } else { GRACE_S },
        env: env.into_iter().collect(),
    }
}

fn containers_of(job: &mut Value) -> Option<&mut Vec<Value>> {
    job.pointer_mut("/spec/template/spec/containers")?.as_array_mut()
}

/// Ours first, as it is what counts, and without a template's arguments: they would be the guest's.
fn tidy(containers: &mut [Value]) {
    let is_ours = |one: &Value| one.get("name") == Some(&JOB_CONTAINER.into());
    containers.sort_by_key(|one| !is_ours(one));
    if let Some(Value::Object(ours)) = containers.first_mut().filter(|one| is_ours(one)) {
        ours.remove("args");
    }
}

fn json(job: &Job) -> Value {
    serde_json::to_value(job).expect("an object of Kubernetes' own types is JSON")
}

const _: () = assert!(pod::LONGEST_MESSAGE * 6 <= 12 << 10);
