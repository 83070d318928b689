//! The program: installs the TLS provider, reads the environment once, and hands both arguments
//! and environment to the command line.

use std::collections::BTreeMap;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    buildkite::install_crypto_provider();
    jitney::cli::run(std::env::args_os().collect(), &environment())
}

/// Variables that are no UTF-8 have no meaning for us and are left out.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
