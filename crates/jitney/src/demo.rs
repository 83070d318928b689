//! `demo`: a real pipeline on this machine, with no account of any kind. It starts the sandbox and
//! a Jitney in this process, lets real agents run a build, shows what happens, and then looks
//! whether all went as it should and whether anything is left.

mod agent;
mod folder;
mod progress;
mod script;
mod stage;
mod table;
mod verdict;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::cli::{Answer, Context, Exit, Failure, Interrupt, Screen, runtime, show};
use crate::journal::Closed;
use agent::Choice;
use folder::Folder;
use progress::Progress;
use script::Script;
use stage::Stage;

/// Between two looks at the build.
const LOOK: Duration = Duration::from_millis(50);
/// A build that takes longer hangs.
const BUILD_MOST: Duration = Duration::from_secs(120);
/// How long machines may take to go, and Jitney to be done with every job, after the build.
const AFTERWARDS_MOST: Duration = Duration::from_secs(40);

pub(crate) fn demo(
    listen: SocketAddr,
    keep: bool,
    context: &Context<'_>,
) -> Result<Answer, Failure> {
    let folder = Folder::make(context)?;
    runtime()?.block_on(play(&folder, listen, keep, context))
}

async fn play(
    folder: &Folder,
    listen: SocketAddr,
    keep: bool,
    context: &Context<'_>,
) -> Result<Answer, Failure> {
    let screen = context.screen;
    let mut interrupt = Interrupt::listen()?;
    let mut stage = Stage::set(folder.path(), listen, context).await?;
    let script = Script::read(matches!(stage.agent, Choice::Real(_)))?;
    let build = script.start(&stage)?;
    say(&head(&stage, &script, screen))?;

    let ended = tokio::select! {
        ended = watch(&stage, build, screen) => ended?,
        () = interrupt.came() => Ended::Interrupted,
    };
    let mut deviations = match ended {
        Ended::Build => Vec::new(),
        Ended::Late => vec![format!("the build did not end within {} s", BUILD_MOST.as_secs())],
        Ended::NoJitney => vec!["Jitney has ended by itself".to_owned()],
        Ended::Interrupted => vec!["it was interrupted".to_owned()],
    };
    if ended != Ended::Build {
        let canceled = stage.sandbox.engine(|engine, now| engine.cancel_build(build, now));
        deviations.extend(canceled.err().map(|refusal| refusal.to_string()));
    }
    let closed = afterwards(&stage, folder).await?;
    deviations.extend(stage.stop_run().await.err());
    let outcome = script::look(&stage, build);
    if ended == Ended::Build {
        deviations.extend(verdict::deviations(&script, &outcome, &closed));
    }
    deviations.extend(folder.leftovers());
    deviations.extend(folder.remove().err());

    let mut text = table::table(&outcome, &closed, screen);
    text.push_str(&verdict::summary(&outcome, &closed, &deviations, screen));
    if !keep || ended == Ended::Interrupted {
        return Ok(answer(stage, text, &deviations).await);
    }
    say(&format!("{text}The pages stay at {} until Ctrl-C.\n", script::page(&stage)))?;
    interrupt.came().await;
    Ok(answer(stage, String::new(), &deviations).await)
}

async fn answer(stage: Stage, text: String, deviations: &[String]) -> Answer {
    stage.sandbox.stop().await;
    let exit = if deviations.is_empty() { Exit::Ok } else { Exit::Failed };
    Answer { text, exit }
}

fn say(text: &str) -> Result<(), Failure> {
    show(text).map_err(|error| Failure::new(Exit::Failed, format!("failed to write: {error}")))
}

fn head(stage: &Stage, script: &Script, screen: Screen) -> String {
    let agent = match (&stage.agent, stage.version) {
        (Choice::Real(path), Some(version)) => {
            format!("buildkite-agent {version} ({})", path.display())
        }
        (Choice::Real(path), None) => path.display().to_string(),
        (Choice::Minimal(_), _) => format!(
            "a minimal one of ours, for there is no buildkite-agent on PATH. {} steps that use the agent's own commands are left out: {}",
            script.left_out.len(),
            script.left_out.join(", ")
        ),
    };
    format!(
        "{}\n  agent     {agent}\n  pages     {}\n\n",
        screen.strong(
            "A pipeline runs on this machine; each job gets a machine (a process) of its own."
        ),
        script::page(stage),
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Build,
    Late,
    NoJitney,
    Interrupted,
}

/// Shows each change, cancels the job that is there to be cancelled, and ends with the build.
async fn watch(stage: &Stage, build: Uuid, screen: Screen) -> Result<Ended, Failure> {
    let until = Instant::now() + BUILD_MOST;
    let mut progress = Progress::new(screen);
    let mut canceled = false;
    loop {
        let outcome = script::look(stage, build);
        say(&progress.changes(&outcome))?;
        if outcome.build.is_terminal() {
            return Ok(Ended::Build);
        }
        if let Some(job) = outcome.to_cancel()
            && !canceled
        {
            canceled = true;
            stage
                .sandbox
                .engine(|engine, now| engine.cancel_job(job, now))
                .map_err(|refusal| Failure::new(Exit::Failed, refusal.to_string()))?;
        }
        if stage.has_ended() {
            return Ok(Ended::NoJitney);
        }
        if Instant::now() >= until {
            return Ok(Ended::Late);
        }
        sleep(LOOK).await;
    }
}

/// Waits until Jitney is done with every job and every machine is gone; what is not then is a
/// deviation that others find.
async fn afterwards(stage: &Stage, folder: &Folder) -> Result<Vec<Closed>, Failure> {
    let until = Instant::now() + AFTERWARDS_MOST;
    while Instant::now() < until && !stage.has_ended() {
        let status = stage.peer.status().await?;
        if status.jobs.is_empty() && folder.leftovers().is_empty() {
            break;
        }
        sleep(LOOK).await;
    }
    if stage.has_ended() { Ok(Vec::new()) } else { stage.peer.history().await }
}
