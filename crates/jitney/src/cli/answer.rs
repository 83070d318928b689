//! How a command ends: what it prints, and the exit code. The codes are a promise to scripts and
//! to the service manager; `docs/commands.md` lists them.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

use super::Screen;
use crate::config::ConfigError;

/// Why the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    /// Something went wrong that the words name.
    Failed,
    /// The configuration or the usage is at fault: the same again will fail the same. systemd's
    /// `RestartPreventExitStatus=2` relies on it.
    Refused,
    /// Jitney or Buildkite could not be reached.
    Unreachable,
    /// The command worked, and what it found is not good.
    NotGood,
}

/// In `--help`, in the words of `docs/commands.md`.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  it failed
  2  the configuration or the usage was refused; the same again will fail the same
  3  Jitney or Buildkite could not be reached
  4  it worked, and the answer is not good: doctor found something wrong, plan found a
     step that nothing can serve, explain does not know the job, replay decides a
     round otherwise than it was";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Refused => 2,
            Exit::Unreachable => 3,
            Exit::NotGood => 4,
        })
    }
}

/// What goes to standard output.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) exit: Exit,
}

impl Answer {
    pub(crate) fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), exit: Exit::Ok }
    }

    pub(crate) fn json(value: &impl serde::Serialize, exit: Exit) -> Self {
        let text = serde_json::to_string_pretty(value).expect("our own types have a JSON form");
        Self { text: text + "\n", exit }
    }

    pub(super) fn print(&self) -> ExitCode {
        match show(&self.text) {
            Ok(()) => self.exit.into(),
            Err(error) => {
                eprintln!("jitney: failed to write the answer: {error}");
                Exit::Failed.into()
            }
        }
    }
}

/// Writes to standard output. A reader that has read enough (`| head`) is no failure.
pub(crate) fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    words: Words,
}

#[derive(Debug)]
enum Words {
    Sentence(String),
    Report(Box<dyn Diagnostic>),
}

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, words: Words::Sentence(sentence.into()) }
    }

    /// With its places and its remedy.
    pub(super) fn report(exit: Exit, error: impl Diagnostic + 'static) -> Self {
        Self { exit, words: Words::Report(Box::new(error)) }
    }

    pub(super) fn print(&self, screen: Screen) -> ExitCode {
        match &self.words {
            Words::Sentence(sentence) => eprintln!("{} {sentence}", screen.bad("jitney:")),
            Words::Report(error) => eprint!("{}", report(error.as_ref(), screen)),
        }
        self.exit.into()
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::report(Exit::Refused, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Words::Sentence(sentence) => f.write_str(sentence),
            Words::Report(error) => error.fmt(f),
        }
    }
}

/// The configuration's errors with their places underlined.
fn report(error: &dyn Diagnostic, screen: Screen) -> String {
    let theme =
        if screen.colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let drawn = GraphicalReportHandler::new_themed(theme)
        .with_width(screen.width)
        .without_cause_chain()
        .render_report(&mut text, error);
    match drawn {
        Ok(()) => text,
        Err(fmt::Error) => format!("{error}\n"),
    }
}
