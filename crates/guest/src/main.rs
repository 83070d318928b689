//! The guest alone, for machines that have no use for the rest of Jitney: `guest DIR`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), None) = (args.next(), args.next()) else {
        eprintln!("usage: guest DIR");
        return ExitCode::from(2);
    };
    guest::run(&PathBuf::from(dir))
}
