//! A machine that is a virtual one: how its guest learns its orders from the metadata server, gets
//! its token, tells of its phases, and switches the machine off. It watches over the guest proper,
//! which runs beside it, and dies with nothing: whatever becomes of either, the machine goes off.
//!
//! What has to go through TLS is said by `curl`, which every image has; of HTTP there is no more
//! here than the metadata server needs.

mod life;
mod metadata;
mod parting;
mod tell;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::place::{Place, make_dir, named, write_json, write_whole};
use crate::report::{Isolate, Orders, Report, TokenBy};
use life::Life;
use metadata::Metadata;
use parting::Parting;

/// The keys of the machine's metadata.
pub const ORDERS: &str = "jitney-orders";
pub const AGENT_CONFIG: &str = "jitney-agent-config";
/// Only where it is delivered this way.
pub const TOKEN: &str = "jitney-token";
/// Where Jitney is asked, for the startup script.
pub const ADDRESS: &str = "jitney-address";

/// Where the machine deletes itself at its end; only where it is to.
pub const DELETE_AT: &str = "jitney-delete-at";
/// It is not to where its agent never connected: somebody wants to look at it.
pub const KEEP_FAILED: &str = "jitney-keep-failed";

/// The verb, as the startup script calls it.
pub const RUN: &str = "vm";
/// Variables of ours, and of the one who runs the startup script, that the agent does not get.
const NOT_FOR_JOBS: [&str; 2] = ["JITNEY_", "STATE_DIRECTORY"];

/// What a virtual machine's guest is told; the rest it finds where it always is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmOrders {
    pub job: Uuid,
    pub agent_name: String,
    pub endpoint: String,
    /// `key=value`.
    pub tags: Vec<String>,
    /// From the guest's start; the cloud enforces a deadline of its own.
    pub lifetime_s: u64,
    /// A machine whose agent has not registered by then goes off.
    pub connect_within_s: u64,
    pub grace_s: u64,
    /// Where the token is asked for and phases are told: `{url}/token`, `{url}/report`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The body of `POST {url}/token`; the answer is a `Given`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asking {
    /// The machine's identity token, in full format, for the audience `url`.
    pub identity: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Given {
    pub token: String,
}

/// The body of `POST {url}/report`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub identity: String,
    pub report: Report,
    /// The cloud wants the machine back.
    #[serde(default)]
    pub preempted: bool,
}

/// Runs the machine's one agent and switches the machine off.
#[must_use]
pub fn run() -> ExitCode {
    let env = crate::pod::variables();
    let metadata = Metadata::of(&env);
    let done = attend(&env, &metadata);
    if let Err(error) = &done {
        eprintln!("jitney guest: {error}");
    }
    parting::delete_self(&metadata, done.as_ref().copied().unwrap_or(Parting::NeverConnected));
    power_off();
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn attend(env: &BTreeMap<String, String>, metadata: &Metadata) -> io::Result<Parting> {
    let orders = metadata.get(&format!("instance/attributes/{ORDERS}"))?;
    let orders: VmOrders = serde_json::from_str(&orders).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{ORDERS} cannot be read: {error}"))
    })?;
    let dir = machines_dir(env).join(&orders.agent_name);
    fs::create_dir_all(dir.parent().unwrap_or(&dir)).map_err(|error| named(error, &dir))?;
    make_dir(&dir, 0o711).map_err(|error| named(error, &dir))?;
    let place = Place::new(&dir);
    let config = agent_config(metadata, &dir)?;
    let whole = whole_orders(&orders, env, config)?;
    let mut life = Life::begin(&orders, metadata.clone())?;
    let Some(token) = life.token()? else {
        eprintln!("jitney guest: no token was to be had in time");
        return Ok(Parting::NeverConnected);
    };
    write_json(&place.orders(), &whole)?;
    write_whole(&place.token(), token.as_bytes())?;
    life.watch_over(&place)
}

/// Where the machine's directory is: where systemd says that state belongs, else where it usually
/// does.
fn machines_dir(env: &BTreeMap<String, String>) -> PathBuf {
    let state = env.get("STATE_DIRECTORY").filter(|dir| !dir.is_empty());
    state.map_or_else(|| PathBuf::from("/var/lib/jitney"), PathBuf::from)
}

fn agent_config(metadata: &Metadata, dir: &Path) -> io::Result<Option<PathBuf>> {
    let Some(text) = metadata.attribute(AGENT_CONFIG)? else { return Ok(None) };
    let path = dir.join("buildkite-agent.cfg");
    write_whole(&path, text.as_bytes()).map_err(|error| named(error, &path))?;
    Ok(Some(path))
}

fn whole_orders(
    orders: &VmOrders,
    env: &BTreeMap<String, String>,
    agent_config: Option<PathBuf>,
) -> io::Result<Orders> {
    let mut env = env.clone();
    env.retain(|name, _| !NOT_FOR_JOBS.iter().any(|start| name.starts_with(start)));
    let path = env.entry("PATH".to_owned()).or_insert_with(|| crate::pod::USUAL_PATH.to_owned());
    let agent = crate::pod::find_program("buildkite-agent", path).ok_or_else(|| {
        let words = format!("there is no buildkite-agent on PATH ({path})");
        io::Error::new(io::ErrorKind::NotFound, words)
    })?;
    Ok(Orders {
        job: orders.job,
        agent,
        agent_name: orders.agent_name.clone(),
        endpoint: orders.endpoint.clone(),
        tags: orders.tags.clone(),
        agent_config,
        env,
        // The machine's clock may be wrong: only the count holds.
        deadline: Timestamp::MAX,
        lifetime_s: Some(orders.lifetime_s),
        grace_s: orders.grace_s,
        // The one way that suits every version of the agent.
        token_by: TokenBy::Config,
        user: None,
        cpu_millis: None,
        memory_bytes: None,
        // The machine is the group; it is made for this one job.
        isolate: Isolate::Auto,
    })
}

/// The machine has done what it was made for. Where one way off is not there, another is.
fn power_off() {
    for program in ["poweroff", "halt", "shutdown"] {
        match Command::new(program).status() {
            Ok(status) if status.success() => return,
            Ok(status) => eprintln!("jitney guest: {program}: {status}"),
            Err(error) => eprintln!("jitney guest: {program}: {error}"),
        }
    }
}
