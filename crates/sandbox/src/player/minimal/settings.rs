//! What the minimal agent is told: the real agent's variables and the few flags that go with
//! them. A flag wins over its variable.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use uuid::Uuid;

#[derive(Debug)]
pub(super) enum Asked {
    Start(Settings),
    Version(String),
}

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) endpoint: String,
    pub(super) token: SecretString,
    pub(super) job: Uuid,
    pub(super) name: String,
    pub(super) tags: Vec<String>,
    pub(super) build_path: PathBuf,
    /// What the job inherits: our own environment without what only the agent may know.
    pub(super) inherited: BTreeMap<String, String>,
}

/// Flag and variable of each setting.
const SETTINGS: [(&str, &str); 6] = [
    ("--token", "BUILDKITE_AGENT_TOKEN"),
    ("--endpoint", "BUILDKITE_AGENT_ENDPOINT"),
    ("--acquire-job", "BUILDKITE_AGENT_ACQUIRE_JOB"),
    ("--build-path", "BUILDKITE_BUILD_PATH"),
    ("--name", "BUILDKITE_AGENT_NAME"),
    ("--tags", "BUILDKITE_AGENT_TAGS"),
];

pub(super) fn read(args: &[String], mut env: BTreeMap<String, String>) -> Result<Asked, String> {
    match args.first().map(String::as_str) {
        Some("start") => {}
        Some("--version" | "-v" | "version") => {
            let version = env!("CARGO_PKG_VERSION");
            return Ok(Asked::Version(format!("buildkite-agent version minimal-{version}")));
        }
        Some(other) => {
            return Err(format!("it has no `{other}`, only `start`: install the real agent"));
        }
        None => return Err("say `start`".to_owned()),
    }
    flags(args, &mut env)?;
    let mut take = |name: &str| env.remove(name).filter(|value| !value.is_empty());
    let missing = |(flag, variable): (&str, &str)| format!("neither {flag} nor {variable} is set");
    let token = take(SETTINGS[0].1).ok_or_else(|| missing(SETTINGS[0]))?;
    let endpoint = take(SETTINGS[1].1).ok_or_else(|| missing(SETTINGS[1]))?;
    let job = take(SETTINGS[2].1).ok_or_else(|| missing(SETTINGS[2]))?;
    let build_path = take(SETTINGS[3].1).ok_or_else(|| missing(SETTINGS[3]))?;
    let job = job.parse().map_err(|_| format!("`{job}` is no job's id"))?;
    let name = take(SETTINGS[4].1).unwrap_or_else(|| format!("minimal-{job}"));
    let tags = take(SETTINGS[5].1).unwrap_or_default();
    Ok(Asked::Start(Settings {
        endpoint,
        token: token.into(),
        job,
        name,
        tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        build_path: build_path.into(),
        inherited: env,
    }))
}

/// Flags of the real agent that say nothing to this one are passed over.
fn flags(args: &[String], env: &mut BTreeMap<String, String>) -> Result<(), String> {
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let Some((_, variable)) = SETTINGS.iter().find(|(known, _)| *known == flag) else {
            continue;
        };
        let value = match value {
            Some(value) => value,
            None => rest.next().cloned().ok_or_else(|| format!("{flag} needs a value"))?,
        };
        env.insert((*variable).to_owned(), value);
    }
    Ok(())
}
