//! `sandbox --cloud`: Google's cloud beside the sandbox, with a folder for its machines.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use ::sandbox::cloud::compute::Settings;
use ::sandbox::cloud::{Cloud, Machines, Options, Processes};
use uuid::Uuid;

use super::super::{Exit, Failure};

pub(super) struct Beside {
    cloud: Cloud,
    project: String,
    folder: PathBuf,
}

/// Starts it where the sandbox was told to have one.
pub(super) async fn start(listen: Option<SocketAddr>) -> Result<Option<Beside>, Failure> {
    let Some(listen) = listen else { return Ok(None) };
    // Short: agents have sockets below it, whose paths may have 107 bytes.
    let name = Uuid::new_v4().simple().to_string();
    let folder = std::env::temp_dir().join(format!("jc-{}", &name[..8]));
    // Startup scripts may hold secrets.
    std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
        let words = format!("failed to make the folder {}: {error}", folder.display());
        Failure::new(Exit::Failed, words)
    })?;
    // So that startup scripts find the programs that came with this one, and the agent of whoever
    // runs it.
    let own = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let theirs = std::env::var_os("PATH").unwrap_or_default();
    let processes = Processes {
        folder: folder.clone(),
        path: own.into_iter().chain(std::env::split_paths(&theirs)).collect(),
        ..Processes::default()
    };
    let settings = Settings::default();
    let project = settings.project.clone();
    let options = Options { listen, settings, machines: Machines::Processes(processes) };
    let cloud = Cloud::start(options)
        .await
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(Some(Beside { cloud, project, folder }))
}

impl Beside {
    pub(super) fn announcement(&self) -> String {
        let Self { cloud, project, folder } = self;
        format!(
            "  Compute   {url}/compute/v1/, project {project}\n  tokens    {tokens}, credentials at {url}/_cloud/credentials/service_account\n  keys      {keys}\n  machines  processes, in {folder}\n",
            url = cloud.url(),
            tokens = cloud.token_url(),
            keys = cloud.jwks_url(),
            folder = folder.display()
        )
    }

    /// Ends it with all of its machines.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        self.cloud.stop().await;
        std::fs::remove_dir_all(&self.folder).map_err(|error| {
            let words = format!("failed to remove {}: {error}", self.folder.display());
            Failure::new(Exit::Failed, words)
        })
    }
}
