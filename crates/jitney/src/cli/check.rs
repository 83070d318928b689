//! `check-config`: everything that is wrong with a configuration, with its places; and what it
//! names that this build does not have. It reaches nothing and makes nothing.

use std::path::Path;

use serde_json::json;

use super::arguments::CheckConfig;
use super::{Answer, Context, Exit, Failure, Screen, configuration};
use crate::config::{Config, Unbuilt};

pub(super) fn check(asked: &CheckConfig, context: &Context<'_>) -> Result<Answer, Failure> {
    let path = configuration::path(asked.file.as_deref(), context)?;
    let lookup = |name: &str| context.environment.get(name).cloned();
    match Config::load(&path, &lookup) {
        Ok(config) if asked.json => Ok(Answer::json(&as_json(&path, &config), Exit::Ok)),
        Ok(config) => Ok(Answer::ok(as_text(&path, &config, context.screen))),
        Err(error) if asked.json => Ok(Answer::json(&error.to_json(), Exit::Refused)),
        Err(error) => Err(error.into()),
    }
}

fn as_json(path: &Path, config: &Config) -> serde_json::Value {
    json!({
        "file": path.display().to_string(),
        "errors": [],
        "unbuilt": config.unbuilt(),
        "queues": config.queues.keys().collect::<Vec<_>>(),
        "fleets": config.fleets.keys().collect::<Vec<_>>(),
        "backends": config.backends.keys().collect::<Vec<_>>(),
    })
}

fn as_text(path: &Path, config: &Config, screen: Screen) -> String {
    let parts = [
        counted("queue", config.queues.keys()),
        counted("fleet", config.fleets.keys()),
        counted("backend", config.backends.keys()),
    ];
    let parts = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let mut text = format!("{} {} is valid: {parts}\n", screen.good("ok"), path.display());
    let unbuilt = config.unbuilt();
    if !unbuilt.is_empty() {
        text.push_str("\nThis build does not have these yet; `jitney run` refuses them:\n");
        for Unbuilt { path, what } in unbuilt {
            text.push_str(&format!("  {} {path}: {what}\n", screen.warn("-")));
        }
    }
    text
}

/// `2 queues (default, jit)`; nothing where there is none.
fn counted(what: &str, names: impl Iterator<Item = impl ToString>) -> Option<String> {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    match names.len() {
        0 => None,
        1 => Some(format!("1 {what} ({})", names[0])),
        count => Some(format!("{count} {what}s ({})", names.join(", "))),
    }
}
