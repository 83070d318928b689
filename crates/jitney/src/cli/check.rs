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
        "backends": config.backends.keys().collect::<Vec<_>>(),
    })
}

fn as_text(path: &Path, config: &Config, screen: Screen) -> String {
    let mut text = format!(
        "{} {} is valid: {}, {}\n",
        screen.good("ok"),
        path.display(),
        counted(config.queues.len(), "queue", config.queues.keys()),
        counted(config.backends.len(), "backend", config.backends.keys()),
    );
    let unbuilt = config.unbuilt();
    if !unbuilt.is_empty() {
        text.push_str("\nThis build does not have these yet; `jitney run` refuses them:\n");
        for Unbuilt { path, what } in unbuilt {
            text.push_str(&format!("  {} {path}: {what}\n", screen.warn("-")));
        }
    }
    text
}

/// `2 queues (default, jit)`.
fn counted(count: usize, what: &str, names: impl Iterator<Item = impl ToString>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    format!("{count} {what}{} ({})", if count == 1 { "" } else { "s" }, names.join(", "))
}
