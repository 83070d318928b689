//! The guest's command line, for the programs that are the guest.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::{pod, vm};

const USAGE: &str = "usage: guest DIR | install TO | fetch-agent TO | pod | is-connected | vm";

/// Runs what the arguments say, which come without the program's own name.
#[must_use]
pub fn command(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (Some(first), second, None) = (args.next(), args.next().map(PathBuf::from), args.next())
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if first == vm::RUN && second.is_none() {
        return vm::run();
    }
    let verb = first.to_str().and_then(|verb| pod::verb(verb, second.as_deref()));
    match (verb, second) {
        (Some(done), _) => done,
        (None, None) => crate::run(&PathBuf::from(first)),
        (None, Some(_)) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
