//! `sandbox`: a Buildkite of our own on this machine, which may play a day's arrivals, and
//! `sandbox machines`, the service that the http backend can ask for machines. Both run until they
//! are told to stop. `sandbox generate-queue` makes up such a day; `--cloud` has a cloud beside it.

mod cloud;
mod day;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::sandbox::engine::{Engine, NewApiToken, NewBuild, Refusal};
use ::sandbox::rehearsal::{Arrival, Recipe, Replay};
use ::sandbox::{Options, StartError, machines, pipeline};
use tokio::net::TcpListener;

use super::answer::show;
use super::arguments::{Sandbox, SandboxPart};
use super::{Answer, Context, Exit, Failure, Interrupt, runtime};
use crate::clock::process_now;

pub(super) fn sandbox(asked: Sandbox, context: &Context<'_>) -> Result<Answer, Failure> {
    match asked.part {
        Some(SandboxPart::Machines { listen, token }) => {
            runtime()?.block_on(serve_machines(listen, token))
        }
        Some(SandboxPart::GenerateQueue { jobs, hours, seed, queue }) => {
            let length = Duration::from_secs(u64::from(hours) * 3_600);
            Ok(Answer::ok(day::generate(&Recipe { jobs, length, seed, queue })))
        }
        None => runtime()?.block_on(serve(&asked, context)),
    }
}

/// A pipeline file that is to be built.
struct Wanted {
    name: String,
    file: PathBuf,
    text: String,
}

async fn serve(asked: &Sandbox, context: &Context<'_>) -> Result<Answer, Failure> {
    let wanted: Vec<Wanted> =
        asked.run.iter().map(|file| read_pipeline(file)).collect::<Result<_, _>>()?;
    let day = asked.replay_queue.as_deref().map(day::read).transpose()?;
    let queues = queues(&asked.queue, &wanted, day.as_deref().unwrap_or_default())?;
    let mut interrupt = Interrupt::listen()?;
    let mut options = Options::with_token(&asked.token);
    options.listen = asked.listen;
    options.settings.clusters[0].queues = queues.clone();
    options.settings.api_tokens =
        asked.api_token.iter().map(|token| NewApiToken::with_all_scopes(token)).collect();
    let sandbox = ::sandbox::Sandbox::start(options).await.map_err(|error| match error {
        StartError::Settings => Failure::new(Exit::Refused, "the token must not be empty"),
        StartError::ApiToken(_) => Failure::new(Exit::Refused, error.to_string()),
        StartError::Listen { .. } | StartError::Webhook(_) => {
            Failure::new(Exit::Failed, error.to_string())
        }
    })?;
    let screen = context.screen;
    let url = sandbox.url();
    let mut text = format!(
        "{} {url}\n  endpoint  {}\n  token     {}\n  queues    {}\n",
        screen.strong("The sandbox serves at"),
        sandbox.endpoint(),
        asked.token,
        queues.join(", ")
    );
    if asked.api_token.is_some() {
        text.push_str(&format!("  REST API  {}\n", sandbox.api_endpoint()));
    }
    let beside = cloud::start(asked.cloud).await?;
    text.extend(beside.iter().map(cloud::Beside::announcement));
    for wanted in wanted {
        let shown = wanted.file.display().to_string();
        let number = sandbox
            .engine(|engine, now| build(engine, wanted, now))
            .map_err(|words| Failure::new(Exit::Refused, format!("{shown}: {words}")))?;
        text.push_str(&format!("  build     #{number} of {shown} is queued\n"));
    }
    if let Some(day) = &day {
        text.push_str(&day::announcement(day, asked.speed));
    }
    text.push_str("It keeps nothing. Ctrl-C ends it.\n");
    tell(&text)?;
    let answer = match day {
        Some(day) => {
            let replay = Replay::new(day, asked.speed);
            day::play(&sandbox, replay, &mut interrupt, screen).await?
        }
        None => {
            interrupt.came().await;
            Answer::ok("")
        }
    };
    sandbox.stop().await;
    if let Some(beside) = beside {
        beside.stop().await?;
    }
    Ok(answer)
}

fn build(engine: &mut Engine, wanted: Wanted, now: jiff::Timestamp) -> Result<u64, String> {
    let steps = pipeline::from_yaml(&wanted.text).map_err(|error| error.to_string())?;
    let new = NewBuild {
        pipeline: wanted.name,
        branch: "main".to_owned(),
        commit: "HEAD".to_owned(),
        message: format!("jitney sandbox --run {}", wanted.file.display()),
        steps,
        ..NewBuild::default()
    };
    let id = engine.create_build(new, now).map_err(|refusal: Refusal| refusal.to_string())?;
    Ok(engine.build(id).expect("it was created under the same lock").number)
}

fn read_pipeline(file: &Path) -> Result<Wanted, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(Exit::Refused, format!("failed to read {}: {error}", file.display()))
    })?;
    let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
    Ok(Wanted { name, file: file.to_owned(), text })
}

/// `default` first: jobs that name no queue go there.
fn queues(asked: &[String], wanted: &[Wanted], day: &[Arrival]) -> Result<Vec<String>, Failure> {
    let mut named: BTreeSet<String> = asked.iter().cloned().collect();
    named.extend(day.iter().map(|arrival| arrival.queue.clone()));
    for Wanted { file, text, .. } in wanted {
        let steps = pipeline::command_steps(text)
            .map_err(|error| Failure::new(Exit::Refused, format!("{}: {error}", file.display())))?;
        let tags = steps.into_iter().flat_map(|step| step.agents);
        named.extend(tags.filter_map(|tag| tag.strip_prefix("queue=").map(str::to_owned)));
    }
    named.remove("default");
    Ok(std::iter::once("default".to_owned()).chain(named).collect())
}

async fn serve_machines(listen: SocketAddr, token: Option<String>) -> Result<Answer, Failure> {
    let mut interrupt = Interrupt::listen()?;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let words = "is another program using the port? Name another one with --listen";
        Failure::new(Exit::Failed, format!("failed to listen on {listen}: {error}; {words}"))
    })?;
    let options = machines::Options {
        listener,
        token: token.map(Into::into),
        faults: machines::Faults::default(),
        now: process_now,
    };
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, error.to_string());
    let machines = machines::serve(options).map_err(|error| failed(&error))?;
    tell(&format!(
        "Machines are served at http://{address}\n  backends: {{ theirs: {{ http: {{ url: \"http://{address}\" }} }} }}\nThey are played, and live as long as this process. Ctrl-C ends it.\n",
        address = machines.address()
    ))?;
    interrupt.came().await;
    machines.stop().await.map_err(|error| failed(&error))?;
    Ok(Answer::ok(""))
}

fn tell(text: &str) -> Result<(), Failure> {
    show(text)
        .map_err(|error| Failure::new(Exit::Failed, format!("failed to write the answer: {error}")))
}
