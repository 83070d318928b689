//! A bare loop of creates: so many Jobs like Jitney's, over so many connections, as fast as the API
//! server takes them. It watches nothing, keeps nothing, and writes no tokens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backends::kubernetes::{Disk, Settings, Template, TemplateFrom, job};
use clap::Args;
use http::Request;
use http::header::CONTENT_TYPE;
use kube::Client;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Done;
use crate::bare::{KEY, order};
use crate::pods::Room;
use crate::process::Process;

/// What the loop is started with, in a process of its own.
#[derive(Args, Debug)]
pub(crate) struct BareJobs {
    #[arg(long)]
    kubeconfig: PathBuf,
    #[arg(long)]
    namespace: String,
    #[arg(long)]
    count: u64,
    #[arg(long, default_value_t = 32)]
    connections: usize,
}

pub(crate) fn start(room: &Room, count: usize) -> Done<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare-jobs", "--count", &count.to_string(), "--namespace", &room.namespace]);
    command.arg("--kubeconfig").arg(&room.kubeconfig);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    Process::start(command)
}

pub(crate) async fn run(asked: BareJobs) -> Done<()> {
    let client = cluster::connect(&asked.kubeconfig).await?;
    let path = format!(
        "/apis/batch/v1/namespaces/{}/jobs?fieldManager={KEY}&fieldValidation=Strict",
        asked.namespace
    );
    // Made before the first is sent: making them is no part of the floor.
    let bodies = Arc::new(Mutex::new(bodies(&asked)?));
    let mut connections = JoinSet::new();
    for _ in 0..asked.connections {
        connections.spawn(send(client.clone(), path.clone(), Arc::clone(&bodies)));
    }
    while let Some(ended) = connections.join_next().await {
        ended??;
    }
    Ok(())
}

/// One after the other, until none is left.
async fn send(
    client: Client,
    path: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
) -> Result<(), String> {
    loop {
        let next = bodies.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(body) = next else { return Ok(()) };
        let request = Request::post(&path).header(CONTENT_TYPE, "application/json").body(body);
        let request = request.map_err(|error| error.to_string())?;
        client.request_text(request).await.map_err(|error| error.to_string())?;
    }
}

fn bodies(asked: &BareJobs) -> Done<Vec<Vec<u8>>> {
    let settings = Settings {
        mark: KEY.to_owned(),
        namespace: asked.namespace.clone(),
        image: Some("any".to_owned()),
        images: BTreeMap::new(),
        agent_image: "buildkite/agent:3".to_owned(),
        guest_image: "jitney/guest:latest".to_owned(),
        agent_config: None,
        service_account: None,
        template: TemplateFrom::Here(Template::default()),
        limits_cpu: false,
        disk: Disk::EmptyDir,
        nodes: BTreeMap::new(),
        ttl: Duration::from_secs(600),
    };
    let template = Template::default();
    let body = |number: u64| -> Done<Vec<u8>> {
        let id = Uuid::new_v5(&Uuid::nil(), &number.to_le_bytes());
        let order = order(id, "unused".into(), "http://127.0.0.1/v3");
        let job = job(&order, &settings, &template, KEY).map_err(|error| error.to_string())?;
        Ok(serde_json::to_vec(&job)?)
    };
    (0..asked.count).map(body).collect()
}
