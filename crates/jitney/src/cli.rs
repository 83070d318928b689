//! The command line: what each command does with its arguments, and what it exits with. What is
//! decided is decided elsewhere; here it is asked for and shown.

mod answer;
mod arguments;
pub(crate) mod ask;
mod check;
pub(crate) mod configuration;
mod drain;
mod explain;
mod first;
mod interrupt;
mod plan;
mod prices;
mod replay;
mod route;
mod sandbox;
mod screen;
mod serve;
mod status;
pub(crate) mod times;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tokio::runtime::{Builder, Runtime};

use crate::clock::process_now;
pub(crate) use answer::{Answer, Exit, Failure, show};
use arguments::{Arguments, Command};
pub(crate) use interrupt::Interrupt;
pub(crate) use screen::Screen;

/// The environment of the process, read once by `main`.
pub type Environment = BTreeMap<String, String>;

/// What every command knows of where it was called.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) environment: &'a Environment,
    /// As `--config` says.
    pub(crate) config: Option<&'a Path>,
    /// Standard output.
    pub(crate) screen: Screen,
}

/// Does what the arguments say, prints the answer, and says how it went.
#[must_use]
pub fn run(args: Vec<OsString>, environment: &Environment) -> ExitCode {
    if called_as_agent(args.first()) {
        return minimal_agent(args.into_iter().skip(1), environment);
    }
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(refusal) => return refuse(&refusal),
    };
    let config = arguments.config.as_deref();
    let context = Context { environment, config, screen: Screen::stdout(environment) };
    let answer = match arguments.command {
        // Before any thread is started: a guest is one process with one thread.
        Command::Guest { dir } => return guest::run(&dir),
        Command::MinimalAgent { args } => return minimal_agent(args.into_iter(), environment),
        Command::Run(asked) => serve::serve(asked, &context),
        Command::Demo(asked) => crate::demo::demo(asked.listen, asked.keep, &context),
        Command::Init(asked) => first::init(&asked),
        Command::Doctor(asked) => crate::doctor::doctor(asked.json, &context),
        Command::Status(asked) => status::status(&asked, &context),
        Command::Explain(asked) => explain::explain(&asked, &context),
        Command::Drain(asked) => drain::drain(&asked, &context),
        Command::CheckConfig(asked) => check::check(&asked, &context),
        Command::Plan(asked) => plan::plan(&asked, &context),
        Command::Prices(asked) => prices::prices(&asked, &context),
        Command::Route(asked) => route::route(&asked, &context),
        Command::Replay(asked) => replay::replay(&asked, &context),
        Command::Sandbox(asked) => sandbox::sandbox(asked, &context),
        Command::Completions { shell } => Ok(completions(shell)),
    };
    match answer {
        Ok(answer) => answer.print(),
        Err(failure) => failure.print(Screen::stderr(environment)),
    }
}

/// Wrong usage; help and version come this way too, and are no errors.
fn refuse(refusal: &clap::Error) -> ExitCode {
    let exit = if refusal.use_stderr() { Exit::Refused } else { Exit::Ok };
    // Where standard output is closed nobody wants the help any more.
    let _ = refusal.print();
    exit.into()
}

/// A link named like the agent is enough to be one.
fn called_as_agent(program: Option<&OsString>) -> bool {
    program.and_then(|program| Path::new(program).file_name())
        == Some(OsStr::new("buildkite-agent"))
}

fn minimal_agent(args: impl Iterator<Item = OsString>, environment: &Environment) -> ExitCode {
    let args = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    match runtime() {
        Ok(runtime) => runtime.block_on(::sandbox::player::minimal::run(
            args,
            environment.clone(),
            process_now,
        )),
        Err(failure) => failure.print(Screen::stderr(environment)),
    }
}

pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let failed = |error| Failure::new(Exit::Failed, format!("failed to start threads: {error}"));
    Builder::new_multi_thread().enable_all().build().map_err(failed)
}

fn completions(shell: clap_complete::Shell) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "jitney", &mut script);
    Answer::ok(String::from_utf8_lossy(&script).into_owned())
}
