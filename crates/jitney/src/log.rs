//! Where the log goes: JSON with every field at the top for machines, coloured lines for people.
//! What is said, and how loud, is said where it happens.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::reports::{Log, LogFormat};

/// Sends the log to standard error from now on. A second call does nothing.
pub fn init(log: &Log) {
    let level = log.level.as_str();
    // Libraries speak up from warnings on; what they say below that is theirs to debug. The
    // Kubernetes client logs each refusal as an error of its own; we say what comes of it.
    let filter = EnvFilter::new(format!(
        "warn,kube_client=off,jitney={level},backends={level},buildkite={level},planner={level},sandbox={level}"
    ));
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    // Somebody else may have set up a log already: theirs stays.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.with_ansi(terminal).with_target(false).compact().try_init()
    };
}
