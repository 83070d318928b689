//! A pod's volumes as folders on this computer, and where a container mounts them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection,
};

use super::environment::expand;
use super::lookup::{Absent, Content, Found, Lookup};
use super::process::Bind;

/// The permissions of files where none are asked for.
const MODE: i32 = 0o644;

/// The volumes by name. Where one cannot be set up, its name stands with the reason.
pub(super) async fn prepare(
    lookup: &Lookup<'_>,
    volumes: &[Volume],
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, (String, Absent)> {
    let mut prepared = BTreeMap::new();
    for volume in volumes {
        let path = prepare_one(lookup, volume, &folder.join(&volume.name)).await;
        let path = path.map_err(|absent| (volume.name.clone(), absent))?;
        prepared.insert(volume.name.clone(), path);
    }
    Ok(prepared)
}

async fn prepare_one(lookup: &Lookup<'_>, volume: &Volume, own: &Path) -> Found<PathBuf> {
    if let Some(host) = &volume.host_path {
        return Ok(PathBuf::from(&host.path));
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return lookup.claim(&claim.claim_name).await;
    }
    if volume.ephemeral.is_some() {
        // A controller has made the claim, under this name.
        let pod = lookup.pod.metadata.name.as_deref().unwrap_or_default();
        return lookup.claim(&format!("{pod}-{}", volume.name)).await;
    }
    fs::create_dir_all(own).map_err(|error| disk(&error))?;
    if volume.empty_dir.is_some() {
        fs::set_permissions(own, Permissions::from_mode(0o777)).map_err(|error| disk(&error))?;
        return Ok(own.to_owned());
    }
    let (files, mode) = if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let content = lookup.secret(name, secret.optional == Some(true)).await?;
        (chosen(content, secret.items.as_deref()), secret.default_mode)
    } else if let Some(map) = &volume.config_map {
        let content = lookup.config_map(&map.name, map.optional == Some(true)).await?;
        (chosen(content, map.items.as_deref()), map.default_mode)
    } else if let Some(downward) = &volume.downward_api {
        (fields(lookup, downward.items.as_deref())?, downward.default_mode)
    } else if let Some(projected) = &volume.projected {
        let mut files = Content::new();
        for source in projected.sources.iter().flatten() {
            files.extend(projection(lookup, source).await?);
        }
        (files, projected.default_mode)
    } else {
        return Err(Absent::Missing(format!("this node has no volumes such as {}", volume.name)));
    };
    write(own, &files, mode.unwrap_or(MODE)).map_err(|error| disk(&error))?;
    Ok(own.to_owned())
}

async fn projection(lookup: &Lookup<'_>, source: &VolumeProjection) -> Found<Content> {
    let mut files = Content::new();
    if let Some(secret) = &source.secret {
        let content = lookup.secret(&secret.name, secret.optional == Some(true)).await?;
        files.extend(chosen(content, secret.items.as_deref()));
    }
    if let Some(map) = &source.config_map {
        let content = lookup.config_map(&map.name, map.optional == Some(true)).await?;
        files.extend(chosen(content, map.items.as_deref()));
    }
    if let Some(downward) = &source.downward_api {
        files.extend(fields(lookup, downward.items.as_deref())?);
    }
    if let Some(token) = &source.service_account_token {
        files.insert(token.path.clone(), lookup.token(token).await?);
    }
    Ok(files)
}

/// The keys that are asked for, each at its path; all where none is named.
fn chosen(content: Content, items: Option<&[KeyToPath]>) -> Content {
    let Some(items) = items else { return content };
    let chosen = items
        .iter()
        .filter_map(|item| content.get(&item.key).map(|value| (item.path.clone(), value.clone())));
    chosen.collect()
}

fn fields(lookup: &Lookup<'_>, items: Option<&[DownwardAPIVolumeFile]>) -> Found<Content> {
    let mut files = Content::new();
    for item in items.unwrap_or_default() {
        let value = if let Some(field) = &item.field_ref {
            lookup.field(field)?
        } else if let Some(resource) = &item.resource_field_ref {
            lookup.resource(resource, None)?
        } else {
            continue;
        };
        files.insert(item.path.clone(), value.into_bytes());
    }
    Ok(files)
}

fn write(folder: &Path, files: &Content, mode: i32) -> io::Result<()> {
    for (path, content) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        let mode = u32::try_from(mode).map_err(io::Error::other)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn disk(error: &io::Error) -> Absent {
    Absent::Unknown(error.to_string())
}

/// Where a container finds its volumes.
pub(super) fn binds(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    variables: &BTreeMap<String, String>,
) -> Vec<Bind> {
    let mounts = container.volume_mounts.iter().flatten();
    let binds = mounts.filter_map(|mount| {
        let volume = volumes.get(&mount.name)?;
        let expression = mount.sub_path_expr.as_deref().map(|it| expand(it, variables));
        let below = expression.or_else(|| mount.sub_path.clone());
        let from = below.map_or_else(|| volume.clone(), |below| volume.join(below));
        if !from.exists() {
            // As a kubelet makes a subPath that is not there yet. The mount tells of a failure.
            let made = fs::create_dir_all(&from);
            drop(made);
        }
        let read_only = mount.read_only == Some(true);
        Some(Bind { from, to: mount.mount_path.clone(), read_only })
    });
    binds.collect()
}
