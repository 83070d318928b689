//! The guest alone, for machines that have no use for the rest of Jitney.

use std::process::ExitCode;

fn main() -> ExitCode {
    guest::command(std::env::args_os().skip(1))
}
