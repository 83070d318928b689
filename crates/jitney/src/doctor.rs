//! `doctor`: looks at everything that a run needs, all at once, and says of each what was found
//! and what to do about it. It changes nothing that stays, and decides nothing.

mod buildkite_checks;
mod cluster_checks;
mod fleet_checks;
mod google_checks;
mod host_checks;
mod show;

use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use crate::assembly::{self, Place};
use crate::cli::{Answer, Context, Exit, Failure, configuration, runtime};
use crate::config::{Config, Unbuilt};

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How good what was found is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It will not work.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: String,
    level: Level,
    found: String,
    /// What to do; nothing where all is well.
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), level: Level::Ok, found: found.into(), remedy: None }
    }

    fn warning(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (found, remedy) = (found.into(), Some(remedy.into()));
        Self { check: check.into(), level: Level::Warning, found, remedy }
    }

    fn wrong(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (found, remedy) = (found.into(), Some(remedy.into()));
        Self { check: check.into(), level: Level::Wrong, found, remedy }
    }
}

/// What all checks look at.
#[derive(Clone, Copy, Debug)]
struct Patient<'a> {
    config: &'a Config,
    place: &'a Place,
}

pub(crate) fn doctor(json: bool, context: &Context<'_>) -> Result<Answer, Failure> {
    let (path, config) = configuration::config(context)?;
    let place = configuration::place(context)?;
    let findings = runtime()?.block_on(examine(Patient { config: &config, place: &place }));
    let wrong = findings.iter().any(|finding| finding.level == Level::Wrong);
    let exit = if wrong { Exit::NotGood } else { Exit::Ok };
    if json {
        return Ok(Answer::json(&show::json(&path, &findings), exit));
    }
    Ok(Answer { text: show::text(&path, &findings, context.screen), exit })
}

/// All checks at once, in the order in which they are shown.
async fn examine(patient: Patient<'_>) -> Vec<Finding> {
    let backends = patient.config.backends.iter().map(|(name, backend)| {
        guarded(format!("backend {name}"), host_checks::backend(patient, name, backend))
    });
    let fleets = assembly::fleets(patient.config);
    let (buildkite, backends, fleets, listening) = tokio::join!(
        guarded("Buildkite", buildkite_checks::all(patient)),
        join_all(backends),
        fleet_checks::all(&fleets),
        guarded("listen", async { vec![host_checks::listening(patient).await] }),
    );
    let mut findings = unbuilt(patient.config);
    findings.extend(buildkite);
    findings.extend(backends.into_iter().flatten());
    findings.extend(fleets);
    findings.push(host_checks::journal(patient));
    findings.extend(listening);
    findings
}

/// A check that hangs is a finding too.
async fn guarded(
    name: impl Into<String>,
    check: impl Future<Output = Vec<Finding>>,
) -> Vec<Finding> {
    timeout(PATIENCE, check).await.unwrap_or_else(|_| {
        let found = format!("no answer within {} s", PATIENCE.as_secs());
        let remedy = "look whether what it names is there and not overloaded, and ask again";
        vec![Finding::wrong(name, found, remedy)]
    })
}

fn unbuilt(config: &Config) -> Vec<Finding> {
    let unbuilt = config.unbuilt();
    if unbuilt.is_empty() {
        return vec![Finding::ok(
            "configuration",
            "is valid, and this build has all that it asks for",
        )];
    }
    let finding = |Unbuilt { path, what }| {
        let found = format!("this build does not have {path} ({what}); `jitney run` refuses it");
        Finding::wrong("configuration", found, format!("take {path} out"))
    };
    unbuilt.into_iter().map(finding).collect()
}
