//! What we may do, asked by `testIamPermissions` of each thing itself: the project, subnetworks
//! and images, which may be of other projects, and the machines' account. Whoever may do nothing
//! may ask that.

use futures_util::future::join_all;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Inner;
use super::super::call::{Api, Ask, Root};
use super::super::refusal::{Kind, Refusal};
use super::super::settings::Settings;
use super::read;
use crate::contract::Error;

/// What all machines take in their own project, whatever the configuration says.
const IN_PROJECT: [&str; 12] = [
    "compute.instances.create",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.disks.create",
    "compute.disks.setLabels",
    "compute.instances.get",
    "compute.instances.list",
    "compute.instances.getSerialPortOutput",
    "compute.zoneOperations.list",
    "compute.disks.list",
    "compute.instances.delete",
    "compute.disks.delete",
];
const FROM_FAMILY: &str = "compute.images.getFromFamily";

/// What a permission is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Project(String),
    /// In this project, which may be another than the machines'.
    Subnetwork {
        project: String,
        region: String,
        name: String,
    },
    /// The name, or `family/NAME`.
    Image {
        project: String,
        name: String,
    },
    Account(String),
    /// What is configured is no such path.
    Unreadable(String),
}

/// What we may not do with it and have to, or why nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    pub subject: Subject,
    pub missing: Result<Vec<String>, Error>,
    /// The size of an image, and how many addresses a subnetwork has, where we may look.
    pub size: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Granted {
    permissions: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Image {
    name: String,
    disk_size_gb: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Subnetwork {
    ip_cidr_range: String,
}

pub(super) async fn all(inner: &Inner, api: &Api) -> Vec<Right> {
    let settings = &inner.options.settings;
    join_all(subjects(settings).into_iter().map(async |subject| {
        let (missing, size) = match &subject {
            Subject::Project(project) => {
                let path = format!("v3/projects/{project}:testIamPermissions");
                (missing(api, Root::ResourceManager, path, &in_project(settings)).await, None)
            }
            Subject::Account(email) => {
                let path = format!("v1/projects/-/serviceAccounts/{email}:testIamPermissions");
                (missing(api, Root::Iam, path, &["iam.serviceAccounts.actAs"]).await, None)
            }
            Subject::Image { project, name } => image(api, project, name).await,
            Subject::Subnetwork { project, region, name } => {
                let path = format!("projects/{project}/regions/{region}/subnetworks/{name}");
                subnetwork(api, &path, settings.external_ip).await
            }
            Subject::Unreadable(_) => (Ok(Vec::new()), None),
        };
        Right { subject, missing, size }
    }))
    .await
}

/// All that machines are made of, each once.
fn subjects(settings: &Settings) -> Vec<Subject> {
    let own = settings.project.as_str();
    let mut all = vec![Subject::Project(own.to_owned())];
    all.extend(settings.service_account.iter().cloned().map(Subject::Account));
    all.extend(settings.subnetworks.values().map(|path| subnetwork_at(own, path)));
    let mapped = settings.images.values().filter(|image| !image.contains("$0"));
    let default = settings.image.as_deref().and_then(|name| settings.image_for(Some(name)));
    for path in default.iter().chain(mapped) {
        let subject = image_at(own, path);
        if !all.contains(&subject) {
            all.push(subject);
        }
    }
    all
}

/// `projects/p/…`, of a URL, a path, or what stands for something in our own project.
fn parts(text: &str) -> Vec<&str> {
    let path = text.split_once("/compute/v1/").map_or(text, |(_, path)| path);
    path.trim_matches('/').split('/').collect()
}

fn image_at(own: &str, text: &str) -> Subject {
    let image = |project: &str, name: String| Subject::Image { project: project.to_owned(), name };
    match parts(text).as_slice() {
        ["projects", project, "global", "images", "family", name] => {
            image(project, format!("family/{name}"))
        }
        ["global", "images", "family", name] => image(own, format!("family/{name}")),
        ["projects", project, "global", "images", name] => image(project, (*name).to_owned()),
        ["global", "images", name] | [name] => image(own, (*name).to_owned()),
        _ => Subject::Unreadable(text.to_owned()),
    }
}

fn subnetwork_at(own: &str, text: &str) -> Subject {
    let (project, region, name) = match parts(text).as_slice() {
        ["projects", project, "regions", region, "subnetworks", name] => (*project, *region, *name),
        ["regions", region, "subnetworks", name] => (own, *region, *name),
        _ => return Subject::Unreadable(text.to_owned()),
    };
    let [project, region, name] = [project, region, name].map(str::to_owned);
    Subject::Subnetwork { project, region, name }
}

fn in_project(settings: &Settings) -> Vec<&'static str> {
    let mut needed = IN_PROJECT.to_vec();
    if settings.service_account.is_some() {
        needed.push("compute.instances.setServiceAccount");
    }
    if settings.template.get("tags").is_some() {
        needed.push("compute.instances.setTags");
    }
    needed
}

async fn image(api: &Api, project: &str, name: &str) -> (Result<Vec<String>, Error>, Option<u64>) {
    let images = format!("projects/{project}/global/images");
    let fields = "name,diskSizeGb";
    let ask = Ask::get("get the image", format!("{images}/{name}")).with("fields", fields);
    let ask = Ask { root: Root::Compute, ..ask };
    let found: Image = match (api.read(ask).await, name.strip_prefix("family/")) {
        (Ok(found), _) => found,
        // Which image the family means is not for us to know, and so not for our machines.
        (Err(Refusal { kind: Kind::Forbidden, .. }), Some(_)) => {
            return (Ok(vec![FROM_FAMILY.to_owned()]), None);
        }
        // An image may be used without a look at it.
        (Err(Refusal { kind: Kind::Forbidden, .. }), None) => {
            Image { name: name.to_owned(), ..Image::default() }
        }
        (Err(refusal), _) => return (Err(refusal.error), None),
    };
    let path = format!("{images}/{}/testIamPermissions", found.name);
    let missing = missing(api, Root::Compute, path, &["compute.images.useReadOnly"]).await;
    (missing, found.disk_size_gb.parse().ok())
}

async fn subnetwork(
    api: &Api,
    path: &str,
    external_ip: bool,
) -> (Result<Vec<String>, Error>, Option<u64>) {
    let mut needed = vec!["compute.subnetworks.use"];
    if external_ip {
        needed.push("compute.subnetworks.useExternalIp");
    }
    let ask = Ask::get("get the subnetwork", path.to_owned()).with("fields", "ipCidrRange");
    let ask = Ask { root: Root::Compute, ..ask };
    let asked = missing(api, Root::Compute, format!("{path}/testIamPermissions"), &needed);
    // A subnetwork may be used without a look at it.
    let (found, missing) = tokio::join!(read::<Subnetwork>(api, ask), asked);
    (missing, found.ok().and_then(|found| addresses(&found.ip_cidr_range)))
}

/// How many machines a range has addresses for; Google keeps four of them.
fn addresses(range: &str) -> Option<u64> {
    let (_, length) = range.split_once('/')?;
    let bits = 32_u32.checked_sub(length.parse().ok()?)?;
    Some(1_u64.checked_shl(bits)?.saturating_sub(4))
}

/// Those of the permissions that we do not have.
async fn missing(
    api: &Api,
    root: Root,
    path: String,
    needed: &[&str],
) -> Result<Vec<String>, Error> {
    let body: Value = json!({ "permissions": needed });
    let ask = Ask {
        method: Method::POST,
        root,
        body: Some(&body),
        ..Ask::get("test the permissions", path)
    };
    let granted: Granted = read(api, ask).await?;
    let lacks = |permission: &&&str| !granted.permissions.iter().any(|had| had == **permission);
    Ok(needed.iter().filter(lacks).map(|permission| (*permission).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_subnetworks_are_found_by_whatever_names_them() {
        let image = |project: &str, name: &str| Subject::Image {
            project: project.to_owned(),
            name: name.to_owned(),
        };
        let url = "https://www.googleapis.com/compute/v1/projects/q/global/images/i";
        for (text, expected) in [
            (url, image("q", "i")),
            ("projects/q/global/images/family/f", image("q", "family/f")),
            ("global/images/family/f", image("p", "family/f")),
            ("global/images/i", image("p", "i")),
            ("projects/q/i", Subject::Unreadable("projects/q/i".to_owned())),
        ] {
            assert_eq!(image_at("p", text), expected, "{text}");
        }
        let of = |project: &str| Subject::Subnetwork {
            project: project.to_owned(),
            region: "r".to_owned(),
            name: "s".to_owned(),
        };
        assert_eq!(subnetwork_at("p", "projects/q/regions/r/subnetworks/s"), of("q"));
        assert_eq!(subnetwork_at("p", "regions/r/subnetworks/s"), of("p"));
        assert_eq!(subnetwork_at("p", "s"), Subject::Unreadable("s".to_owned()));
    }

    #[test]
    fn a_range_has_four_addresses_less() {
        let of = |range| addresses(range);
        assert_eq!([of("10.0.0.0/20"), of("10.0.0.0/30"), of("x")], [Some(4_092), Some(0), None]);
    }
}
