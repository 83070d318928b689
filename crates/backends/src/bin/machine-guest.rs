//! The guest alone, for the tests of the `process` backend: `machine-guest DIR`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = std::env::args_os().nth(1).unwrap_or_default();
    guest::run(&PathBuf::from(dir))
}
