//! The guest alone, for the tests of the backends.

use std::process::ExitCode;

fn main() -> ExitCode {
    guest::command(std::env::args_os().skip(1))
}
