//! What can be said on the command line. Help texts are here and nowhere else.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::answer::EXIT_CODES;
use crate::init::InitArgs;
use crate::route::share::Destination;

/// One agent, on one machine, for every Buildkite job, just in time.
#[derive(Debug, Parser)]
#[command(name = "jitney", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(disable_help_subcommand = true, propagate_version = false)]
pub(super) struct Arguments {
    /// The configuration [default: ./jitney.yaml, else /etc/jitney/jitney.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run: watch the queues, make a machine for each job, remove it when the job ends
    Run(Run),
    /// Run a real pipeline on this machine, against a Buildkite of our own; no account needed
    Demo(Demo),
    /// Write a first configuration, by asking or by flags
    Init(InitArgs),
    /// Look at everything that a run needs, and say what is wrong and what to do
    Doctor(Doctor),
    /// Show what the Jitney that runs has in hand, and why jobs wait
    Status(Status),
    /// Tell the story of one job, or of a fleet's dispatch: what was decided, when, why, and what it waits for
    Explain(Explain),
    /// Take nothing new; machines that run go on
    Drain(Drain),
    /// Say what is wrong with a configuration, and where
    CheckConfig(CheckConfig),
    /// Show what would be made where for some tags, or for each step of a pipeline
    Plan(Plan),
    /// Show which virtual machines there are and what they cost, and check a list of your own
    Prices(PriceList),
    /// Move a share of builds to another queue, in the text of a pipeline
    Route(Route),
    /// Take the decisions of an event log again, and say whether they are the same
    Replay(Replay),
    /// Serve a Buildkite of our own, for rehearsals: real agents run jobs against it
    Sandbox(Sandbox),
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Run one machine; the process backend starts this
    #[command(hide = true)]
    Guest { dir: PathBuf },
    /// The sandbox's own agent, for plain commands only
    #[command(hide = true, disable_help_flag = true)]
    MinimalAgent {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

#[derive(Args, Debug)]
pub(super) struct Run {
    /// Write down what every round sees and decides, for `jitney replay`; at most 1 GiB
    #[arg(long, value_name = "FILE", env = "JITNEY_EVENT_LOG")]
    pub(super) event_log: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Keep the sandbox's page open after the end, until Ctrl-C
    #[arg(long)]
    pub(super) keep: bool,
    /// Where to serve the sandbox
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(super) listen: SocketAddr,
}

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Status {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The job's id, the beginning of it, or the link to it; or the id of a fleet's dispatch
    #[arg(value_name = "JOB")]
    pub(super) job: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Drain {
    /// Take jobs again
    #[arg(long, conflicts_with = "wait")]
    pub(super) resume: bool,
    /// Return only when nothing is left
    #[arg(long)]
    pub(super) wait: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct CheckConfig {
    /// The file; as --config
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  jitney plan queue=jit cpu=16 memory=64G
  jitney plan --pipeline .buildkite/pipeline.yml")]
pub(super) struct Plan {
    /// Agent tags as a job would have them, such as queue=jit cpu=16 memory=64G
    #[arg(value_name = "TAG", required_unless_present = "pipeline")]
    pub(super) tags: Vec<String>,
    /// Look at each command step of this pipeline file instead
    #[arg(long, value_name = "FILE", conflicts_with = "tags")]
    pub(super) pipeline: Option<PathBuf>,
    /// The pipeline's slug, for policies that match one
    #[arg(long, value_name = "SLUG", default_value = "")]
    pub(super) slug: String,
    /// The branch, for policies that match one
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(super) branch: String,
    /// Whether the build is of a pull request, for policies that ask; alone: it is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) pull_request: Option<bool>,
    /// Whether the build comes from a fork, for policies that ask; alone: it does
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) fork: Option<bool>,
    /// Who wrote the commit or made the build, a name or an address, for policies that ask
    #[arg(long, value_name = "NAME")]
    pub(super) author: Option<String>,
    /// Print the Job, as YAML, that a kubernetes backend would make for these tags
    #[arg(long, conflicts_with_all = ["pipeline", "json"])]
    pub(super) manifest: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Without a configuration the tables that ship with Jitney are shown.

Examples:
  jitney prices
  jitney prices --region europe-west4")]
pub(super) struct PriceList {
    /// Only this region's prices
    #[arg(long, value_name = "REGION")]
    pub(super) region: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Which builds move is told by BUILDKITE_BUILD_ID, so that all jobs of a build agree; a larger share
moves more builds and none back. JITNEY_ROUTE=off keeps a build where it is, JITNEY_ROUTE=QUEUE
moves it.

Examples:
  jitney route --to stateless=50% < .buildkite/pipeline.yml | buildkite-agent pipeline upload
  ./generate | jitney route --from default --to stateless=5% | buildkite-agent pipeline upload")]
pub(super) struct Route {
    /// The other queue, and how many of the builds move to it: stateless=50%
    #[arg(long, value_name = "QUEUE=SHARE")]
    pub(super) to: Destination,
    /// Only steps of this queue move; may be repeated. Needed where the steps are in several queues
    #[arg(long, value_name = "QUEUE")]
    pub(super) from: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
With --config every round is decided under that configuration instead of its own, up to the first
one that comes out otherwise.

Examples:
  jitney replay events.jsonl
  jitney replay events.jsonl --job 0199a3c0
  jitney replay events.jsonl --config other.yaml")]
pub(super) struct Replay {
    /// What `jitney run --event-log` wrote
    #[arg(value_name = "LOG")]
    pub(super) log: PathBuf,
    /// Show what was seen and decided in this round, by its number, or in those of a dispatch id
    #[arg(long, value_name = "ROUND", conflicts_with = "job")]
    pub(super) round: Option<String>,
    /// Show all that was seen and decided about this job: its id, or the beginning of it
    #[arg(long, value_name = "JOB")]
    pub(super) job: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Sandbox {
    /// Where to serve
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8910")]
    pub(super) listen: SocketAddr,
    /// The cluster's agent token
    #[arg(long, value_name = "TOKEN", default_value = "bkct_sandbox")]
    pub(super) token: String,
    /// An API access token, with all scopes; without one the REST API answers nobody
    #[arg(long, value_name = "TOKEN")]
    pub(super) api_token: Option<String>,
    /// Queue a build of this pipeline file at once; may be repeated
    #[arg(long, value_name = "PIPELINE.yml")]
    pub(super) run: Vec<PathBuf>,
    /// A queue beside `default` and those that the pipelines name; may be repeated
    #[arg(long, value_name = "KEY")]
    pub(super) queue: Vec<String>,
    /// Play a day's arrivals from this file, one JSON object a line, and sum up what came of them
    #[arg(long, value_name = "FILE")]
    pub(super) replay_queue: Option<PathBuf>,
    /// Let the day go by so many times faster
    #[arg(long, value_name = "N", default_value = "1", requires = "replay_queue")]
    #[arg(value_parser = speed)]
    pub(super) speed: f64,
    /// Serve Google's cloud beside it, with machines that are local processes (127.0.0.1:8913)
    #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "127.0.0.1:8913")]
    pub(super) cloud: Option<SocketAddr>,
    #[command(subcommand)]
    pub(super) part: Option<SandboxPart>,
}

fn speed(text: &str) -> Result<f64, String> {
    let read = text.parse::<f64>().ok().filter(|speed| (0.01..=10_000.0).contains(speed));
    read.ok_or_else(|| "it must be a number from 0.01 to 10000".to_owned())
}

#[derive(Debug, Subcommand)]
pub(super) enum SandboxPart {
    /// Print a day of arrivals for --replay-queue, made up from a seed
    GenerateQueue {
        /// How many jobs come
        #[arg(long, value_name = "N", default_value = "1000")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        jobs: u32,
        /// How long the day is
        #[arg(long, value_name = "N", default_value = "10")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=168))]
        hours: u32,
        /// The same seed makes the same day
        #[arg(long, value_name = "N", default_value = "1")]
        seed: u64,
        /// The queue of all jobs
        #[arg(long, value_name = "KEY", default_value = "default")]
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        queue: String,
    },
    /// Serve machines for the http backend: instant, and their agents are played
    Machines {
        /// Where to serve
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8911")]
        listen: SocketAddr,
        /// What callers have to send as `Authorization: Bearer`
        #[arg(long, value_name = "TOKEN")]
        token: Option<String>,
    },
}
