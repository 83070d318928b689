//! The guest alone, for machines that have no use for the rest of Jitney: `guest DIR`, and the
//! verbs that a pod's containers call.

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: guest DIR | install TO | fetch-agent TO | pod | is-connected";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(first), second, None) = (args.next(), args.next().map(PathBuf::from), args.next())
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let verb = first.to_str().and_then(|verb| guest::pod::verb(verb, second.as_deref()));
    match (verb, second) {
        (Some(done), _) => done,
        (None, None) => guest::run(&PathBuf::from(first)),
        (None, Some(_)) => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
