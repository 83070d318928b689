//! The containers and volumes of a machine's pod: two that bring guest and agent, one in which the
//! guest runs the agent, and what they share.

use std::collections::BTreeMap;

use guest::pod;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    EphemeralVolumeSource, ExecAction, PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate,
    Probe, ProjectedVolumeSource, ResourceRequirements, SecretKeySelector, SecretProjection,
    Volume, VolumeMount, VolumeProjection, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::nodes::GPU_RESOURCE;
use super::settings::{Disk, Settings};
use super::stamp::seconds;
use super::template::JOB_CONTAINER;
use crate::contract::Order;

const PROGRAMS_VOLUME: &str = "jitney-programs";
const DISK_VOLUME: &str = "jitney-disk";
const CONFIG_VOLUME: &str = "jitney-config";
/// Where a volume of a storage class has no size asked for.
const USUAL_DISK: u64 = 20 << 30;
/// For copying a program: enough for a namespace's least, and little enough not to count beside
/// any job.
const SMALL_CPU_MILLIS: u32 = 100;
/// So that the copying takes a moment where there is nothing else to do.
const ONE_CPU_MILLIS: u32 = 1000;
const SMALL_MEMORY: u64 = 64 << 20;
/// For the exec of the probe, on a node that is busy.
const PROBE_TIMEOUT_S: i32 = 5;

pub(super) fn init_containers(settings: &Settings) -> Vec<Container> {
    let requests = quantities([("cpu", cpu(SMALL_CPU_MILLIS)), ("memory", bytes(SMALL_MEMORY))]);
    let limits = quantities([("cpu", cpu(ONE_CPU_MILLIS)), ("memory", bytes(SMALL_MEMORY))]);
    let bring = |name: &str, image: &str, command: &[&str]| Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        command: Some(command.iter().map(|&word| word.to_owned()).collect()),
        resources: Some(ResourceRequirements {
            requests: Some(requests.clone()),
            limits: Some(limits.clone()),
            claims: None,
        }),
        volume_mounts: Some(vec![mount(PROGRAMS_VOLUME, pod::PROGRAMS, false)]),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    vec![
        bring("jitney-guest", &settings.guest_image, &[pod::IN_IMAGE, pod::INSTALL, pod::PROGRAMS]),
        // The guest runs in the agent's image to take the agent out of it: no shell is needed.
        bring(
            "jitney-agent",
            &settings.agent_image,
            &[pod::GUEST, pod::FETCH_AGENT, pod::PROGRAMS],
        ),
    ]
}

pub(super) fn main_container(
    order: &Order,
    settings: &Settings,
    secret: &str,
    image: Option<String>,
    orders: &str,
    gpus: Option<u32>,
) -> Container {
    let mut mounts =
        vec![mount(PROGRAMS_VOLUME, pod::PROGRAMS, true), mount(DISK_VOLUME, pod::DISK, false)];
    if settings.agent_config.is_some() {
        mounts.push(mount(CONFIG_VOLUME, pod::CONFIG, true));
    }
    Container {
        name: JOB_CONTAINER.to_owned(),
        image,
        command: Some(vec![pod::GUEST.to_owned(), pod::RUN.to_owned()]),
        env: Some(vec![
            EnvVar {
                name: pod::ORDERS_VAR.to_owned(),
                // `$(NAME)` would be replaced, and `$$` stands for a dollar.
                value: Some(orders.replace('$', "$$")),
                value_from: None,
            },
            EnvVar {
                name: pod::TOKEN_VAR.to_owned(),
                value: None,
                value_from: Some(EnvVarSource {
                    secret_key_ref: Some(SecretKeySelector {
                        name: secret.to_owned(),
                        key: order.name.clone(),
                        optional: None,
                    }),
                    ..EnvVarSource::default()
                }),
            },
        ]),
        resources: Some(resources(order, settings, gpus)),
        volume_mounts: Some(mounts),
        startup_probe: Some(connected(order)),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// Whether the agent has registered: asked every second until it has, and never again. It must not
/// fail before the deadline does.
fn connected(order: &Order) -> Probe {
    let command = [pod::GUEST, pod::IS_CONNECTED].map(str::to_owned).to_vec();
    Probe {
        exec: Some(ExecAction { command: Some(command) }),
        period_seconds: Some(1),
        timeout_seconds: Some(PROBE_TIMEOUT_S),
        failure_threshold: Some(i32::try_from(seconds(order.deadline)).unwrap_or(i32::MAX)),
        ..Probe::default()
    }
}

fn resources(order: &Order, settings: &Settings, gpus: Option<u32>) -> ResourceRequirements {
    let asked = &order.resources;
    let mut requests =
        quantities([("cpu", cpu(asked.cpu_millis)), ("memory", bytes(asked.memory_bytes))]);
    let mut limits = quantities([("memory", bytes(asked.memory_bytes))]);
    if settings.limits_cpu {
        limits.insert("cpu".to_owned(), cpu(asked.cpu_millis));
    }
    if let Some(count) = gpus {
        // What is limited is requested, and of these no more can be used than is.
        limits.insert(GPU_RESOURCE.to_owned(), Quantity(count.to_string()));
    }
    if let (Some(disk), Disk::EmptyDir) = (asked.disk_bytes, &settings.disk) {
        requests.insert("ephemeral-storage".to_owned(), bytes(disk));
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

pub(super) fn volumes(order: &Order, settings: &Settings) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: PROGRAMS_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
        disk(order.resources.disk_bytes, &settings.disk),
    ];
    if let Some(name) = &settings.agent_config {
        // Of either kind, and both of one name are one directory.
        let projected = ProjectedVolumeSource {
            default_mode: Some(0o555),
            sources: Some(vec![
                VolumeProjection {
                    config_map: Some(ConfigMapProjection {
                        name: name.clone(),
                        optional: Some(true),
                        items: None,
                    }),
                    ..VolumeProjection::default()
                },
                VolumeProjection {
                    secret: Some(SecretProjection {
                        name: name.clone(),
                        optional: Some(true),
                        items: None,
                    }),
                    ..VolumeProjection::default()
                },
            ]),
        };
        volumes.push(Volume {
            name: CONFIG_VOLUME.to_owned(),
            projected: Some(projected),
            ..Volume::default()
        });
    }
    volumes
}

fn disk(asked: Option<u64>, kind: &Disk) -> Volume {
    let name = DISK_VOLUME.to_owned();
    match kind {
        Disk::EmptyDir => {
            let size_limit = asked.map(bytes);
            let empty_dir = EmptyDirVolumeSource { medium: None, size_limit };
            Volume { name, empty_dir: Some(empty_dir), ..Volume::default() }
        }
        Disk::Ephemeral { storage_class } => {
            let size = quantities([("storage", bytes(asked.unwrap_or(USUAL_DISK)))]);
            let spec = PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                storage_class_name: storage_class.clone(),
                resources: Some(VolumeResourceRequirements { requests: Some(size), limits: None }),
                ..PersistentVolumeClaimSpec::default()
            };
            let claim = PersistentVolumeClaimTemplate { metadata: None, spec };
            let ephemeral = EphemeralVolumeSource { volume_claim_template: Some(claim) };
            Volume { name, ephemeral: Some(ephemeral), ..Volume::default() }
        }
    }
}

fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn quantities<const N: usize>(pairs: [(&str, Quantity); N]) -> BTreeMap<String, Quantity> {
    pairs.into_iter().map(|(name, quantity)| (name.to_owned(), quantity)).collect()
}

/// `16` or `500m`.
fn cpu(millis: u32) -> Quantity {
    Quantity(if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        format!("{millis}m")
    })
}

/// `64Gi`, in the largest unit that is exact.
pub(super) fn bytes(bytes: u64) -> Quantity {
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let exact = units.iter().find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    Quantity(
        exact
            .map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift)),
    )
}
