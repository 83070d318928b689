//! `jitney init`: writes a first configuration, by asking or by flags.
//!
//! It never writes a token, only the name of the variable or file that holds it; it never replaces
//! a file unless it is told to; and what it writes is checked as any other configuration is.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use crate::config::Config;

/// Wrong answers to one question before we give up.
const TRIES: u32 = 3;

/// What `jitney init` takes; what is not given is asked for on a terminal, else the default.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InitArgs {
    /// The key of the queue to serve, as Buildkite shows it
    #[arg(long, value_name = "KEY")]
    pub queue: Option<String>,
    /// The environment variable that will hold the cluster's agent token
    #[arg(long, value_name = "NAME")]
    pub token_env: Option<String>,
    /// The agent: a path, or a name on PATH
    #[arg(long, value_name = "PATH")]
    pub agent: Option<String>,
    /// Where to write the configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_OUTPUT)]
    pub output: PathBuf,
    /// Replace a file that is there already
    #[arg(long)]
    pub force: bool,
}

pub const DEFAULT_OUTPUT: &str = "jitney.yaml";

/// Why there is no new configuration.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum InitError {
    #[error("{} is there already", .0.display())]
    #[diagnostic(help("--force replaces it, --output writes elsewhere"))]
    Exists(PathBuf),
    #[error("failed to write {}: {source}", path.display())]
    #[diagnostic(help("check that the directory is there and may be written to"))]
    Write { path: PathBuf, source: io::Error },
    #[error("failed to ask: {0}")]
    #[diagnostic(help("give the answers as flags: see jitney init --help"))]
    Ask(io::Error),
    #[error("{answer:?} is not {wanted}")]
    #[diagnostic(help("{remedy}"))]
    Answer { answer: String, wanted: &'static str, remedy: &'static str },
}

/// Where questions are asked, when somebody is there to answer.
pub trait Terminal {
    /// Shows a text and reads one line; an error where the input has ended.
    fn ask(&mut self, prompt: &str) -> io::Result<String>;
}

/// A terminal of a reader and a writer.
#[derive(Debug)]
pub struct Lines<R, W> {
    pub input: R,
    pub output: W,
}

impl<R: BufRead, W: Write> Terminal for Lines<R, W> {
    fn ask(&mut self, prompt: &str) -> io::Result<String> {
        /// Nobody types more.
        const LONGEST_ANSWER: u64 = 4096;
        self.output.write_all(prompt.as_bytes())?;
        self.output.flush()?;
        let mut line = String::new();
        let mut bounded = io::Read::take(&mut self.input, LONGEST_ANSWER);
        if bounded.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim().to_owned())
    }
}

/// Asks where somebody can answer, writes the file, and says what comes next.
pub fn init(args: &InitArgs, terminal: Option<&mut dyn Terminal>) -> Result<String, InitError> {
    // Before the questions: nobody likes to answer for nothing.
    if !args.force && args.output.exists() {
        return Err(InitError::Exists(args.output.clone()));
    }
    let answers = Answers::gather(args, terminal)?;
    write(&args.output, &answers.render(), args.force)?;
    let (file, variable) = (args.output.display(), &answers.token_env);
    Ok(format!(
        "wrote {file}\n\
         next:\n  \
         export {variable}=...   # the cluster's agent token\n  \
         jitney doctor --config {file}\n  \
         jitney run --config {file}\n"
    ))
}

#[derive(Debug)]
struct Answers {
    token_env: String,
    queue: String,
    agent: String,
}

/// One question: its words, its default, and what an answer has to be.
struct Question {
    words: &'static str,
    default: &'static str,
    accepts: fn(&str) -> bool,
    wanted: &'static str,
    remedy: &'static str,
}

const TOKEN: Question = Question {
    words: "The environment variable that will hold the cluster's agent token\n(the token itself does not belong into the file)",
    default: "BUILDKITE_AGENT_TOKEN",
    accepts: is_variable,
    wanted: "the name of an environment variable",
    remedy: "write a name of letters, digits and _, as BUILDKITE_AGENT_TOKEN",
};

const QUEUE: Question = Question {
    words: "The key of the queue to serve",
    default: "default",
    accepts: is_queue_key,
    wanted: "the key of a queue",
    remedy: "write the queue's key as Buildkite shows it: letters, digits, dashes and underscores",
};

const AGENT: Question = Question {
    words: "The Buildkite agent: a path, or a name on PATH",
    default: "buildkite-agent",
    accepts: |answer| !answer.contains("${") && !answer.chars().any(char::is_control),
    wanted: "a path",
    remedy: "write a path, as /usr/local/bin/buildkite-agent",
};

fn is_variable(text: &str) -> bool {
    // What looks like a token was meant as one, and would be printed and written down.
    !looks_like_a_token(text)
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Buildkite's tokens begin with a kind of their own: `bkct_`, `bkua_`.
fn looks_like_a_token(text: &str) -> bool {
    text.starts_with("bk") && text.chars().nth(4) == Some('_')
}

fn is_queue_key(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl Answers {
    fn gather(args: &InitArgs, mut terminal: Option<&mut dyn Terminal>) -> Result<Self, InitError> {
        let mut answer = |question: &Question, flag: &Option<String>| match (flag, &mut terminal) {
            (Some(answer), _) => question.check(answer),
            (None, Some(terminal)) => question.ask(&mut **terminal),
            (None, None) => Ok(question.default.to_owned()),
        };
        Ok(Self {
            token_env: answer(&TOKEN, &args.token_env)?,
            queue: answer(&QUEUE, &args.queue)?,
            agent: answer(&AGENT, &args.agent)?,
        })
    }

    /// The file, commented.
    fn render(&self) -> String {
        let Self { token_env, queue, agent } = self;
        // A JSON text is a YAML text, whatever is in it.
        let (queue, agent) = (serde_json::json!(queue), serde_json::json!(agent));
        let text = format!(
            "# The configuration of Jitney. docs/configuration.md explains every key;\n\
             # `jitney check-config FILE` checks a file and changes nothing.\n\
             \n\
             buildkite:\n  \
               # The cluster's agent token, from the environment. Or token_file: a path.\n  \
               token: ${{{token_env}}}\n  \
               # With a secret, Buildkite's webhook wakes a queue at once.\n  \
               # webhook_secret: ${{BUILDKITE_WEBHOOK_SECRET}}\n\
             \n\
             queues:\n  \
               # The key of a queue in Buildkite, and who may make machines for it.\n  \
               {queue}:\n    \
                 backends: [here]\n    \
                 # What a job gets that does not say.\n    \
                 defaults: {{ cpu: 1, memory: 1G, time: 1h }}\n    \
                 # The most that a job may ask for.\n    \
                 # largest: {{ cpu: 8, memory: 32G, time: 6h }}\n\
             \n\
             backends:\n  \
               here:\n    \
                 # Each machine is a process on this host, with a directory of its own.\n    \
                 process:\n      \
                   agent: {agent}\n      \
                   # What there is for jobs in all; without it, what the host has.\n      \
                   # capacity: {{ cpu: 8, memory: 32G }}\n"
        );
        let checked = Config::parse("jitney.yaml", &text, &|_| Some("checked".to_owned()));
        debug_assert!(checked.is_ok(), "what init writes is right: {checked:?}");
        text
    }
}

impl Question {
    fn check(&self, answer: &str) -> Result<String, InitError> {
        if (self.accepts)(answer) {
            return Ok(answer.to_owned());
        }
        Err(InitError::Answer {
            // It may be the token, typed in the wrong place.
            answer: if looks_like_a_token(answer) { "what was given" } else { answer }.to_owned(),
            wanted: self.wanted,
            remedy: self.remedy,
        })
    }

    fn ask(&self, terminal: &mut dyn Terminal) -> Result<String, InitError> {
        let mut prompt = format!("{} [{}]: ", self.words, self.default);
        let mut tries = 1;
        loop {
            let answer = terminal.ask(&prompt).map_err(InitError::Ask)?;
            if answer.is_empty() {
                return Ok(self.default.to_owned());
            }
            match self.check(&answer) {
                Ok(answer) => return Ok(answer),
                Err(error) if tries == TRIES => return Err(error),
                Err(error) => prompt = format!("{error}; {}.\n[{}]: ", self.remedy, self.default),
            }
            tries += 1;
        }
    }
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), InitError> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        // Whoever made the file in the meantime keeps it.
        options.create_new(true);
    }
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| match source.kind() == io::ErrorKind::AlreadyExists {
        true => InitError::Exists(path.to_owned()),
        false => InitError::Write { path: path.to_owned(), source },
    })
}
