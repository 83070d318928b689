//! The guest alone, as the image that machines' pods take it from has it.

use std::process::ExitCode;

fn main() -> ExitCode {
    guest::command(std::env::args_os().skip(1))
}
