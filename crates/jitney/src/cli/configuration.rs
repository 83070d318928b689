//! Which configuration file a command means, and its content.

use std::path::{Path, PathBuf};

use super::{Context, Exit, Failure};
use crate::assembly::Place;
use crate::clock::Clock;
use crate::config::Config;
use crate::host::Host;

const PLACES: [&str; 2] = ["jitney.yaml", "/etc/jitney/jitney.yaml"];

/// The file that is named, else the first of the usual places that has one.
pub(crate) fn path(named: Option<&Path>, context: &Context<'_>) -> Result<PathBuf, Failure> {
    if let Some(path) = named.or(context.config) {
        return Ok(path.to_owned());
    }
    PLACES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
        Failure::new(
            Exit::Refused,
            format!(
                "there is no configuration: neither {} nor {} exists. Name one with --config FILE, or write a first one with `jitney init`",
                PLACES[0], PLACES[1]
            ),
        )
    })
}

pub(crate) fn load(path: &Path, context: &Context<'_>) -> Result<Config, Failure> {
    let lookup = |name: &str| context.environment.get(name).cloned();
    Ok(Config::load(path, &lookup)?)
}

/// The configuration that the command's `--config` means.
pub(crate) fn config(context: &Context<'_>) -> Result<(PathBuf, Config), Failure> {
    let path = path(None, context)?;
    let config = load(&path, context)?;
    Ok((path, config))
}

pub(crate) fn host() -> Result<Host, Failure> {
    Host::measure().map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Where we are; guests are this very program.
pub(crate) fn place(context: &Context<'_>) -> Result<Place, Failure> {
    Ok(Place {
        environment: context.environment.clone(),
        host: host()?,
        guest_exe: own_program()?,
        guest_args: vec!["guest".into()],
        clock: Clock::of_process(),
    })
}

/// This very program.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    let words = "failed to find this program's own file; start it by its full path";
    std::env::current_exe().map_err(|error| Failure::new(Exit::Failed, format!("{words}: {error}")))
}
