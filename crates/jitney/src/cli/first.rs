//! `init`: asks on a terminal, takes flags elsewhere.

use std::io::{self, IsTerminal};

use super::{Answer, Exit, Failure};
use crate::init::{InitArgs, InitError, Lines, Terminal, init as write_first};

pub(super) fn init(asked: &InitArgs) -> Result<Answer, Failure> {
    let mut lines = Lines { input: io::stdin().lock(), output: io::stderr() };
    // Questions that nobody sees are not asked.
    let somebody = io::stdin().is_terminal() && io::stderr().is_terminal();
    let terminal: Option<&mut dyn Terminal> = if somebody { Some(&mut lines) } else { None };
    write_first(asked, terminal).map(Answer::ok).map_err(|error| {
        let exit = match error {
            InitError::Exists(_) | InitError::Ask(_) | InitError::Answer { .. } => Exit::Refused,
            InitError::Write { .. } => Exit::Failed,
        };
        Failure::report(exit, error)
    })
}
