//! Steps as texts that a case can have on one line.

use crate::engine::{
    BlockedState, Command, Concurrency, ConcurrencyMethod, Dependency, Entry, ExitMatch, Filter,
    Form, NewGroup, NewStep, Only, RetryRule, SoftFail, StepKind,
};
use crate::pipeline::Error;

/// The steps as one line each, with only what is not the default.
pub(super) fn shown(result: Result<Vec<NewStep>, Error>) -> String {
    match result {
        Err(error) => format!("error: {error}"),
        Ok(steps) => steps.iter().map(show_step).collect::<Vec<_>>().join(" | "),
    }
}

fn show_step(step: &NewStep) -> String {
    let mut words = Vec::new();
    match &step.kind {
        StepKind::Command(command) => words.push(format!("run {:?}", command.command)),
        StepKind::Wait { continue_on_failure: false } => words.push("wait".to_owned()),
        StepKind::Wait { continue_on_failure: true } => words.push("wait on".to_owned()),
        StepKind::Block(form) => words.push(format!("block{}", show_form(form))),
        StepKind::Input(form) => words.push(format!("input{}", show_form(form))),
    }
    words.extend(step.key.as_ref().map(|key| format!("key={key}")));
    if !step.label.is_empty() {
        words.push(format!("label={:?}", step.label));
    }
    words.extend(step.group.as_ref().map(|group| format!("in({})", show_group(group))));
    words.extend(show_filter(&step.filter));
    words.extend(step.depends_on.as_ref().map(|list| show_dependencies(list)));
    if step.allow_dependency_failure {
        words.push("whatever".to_owned());
    }
    if let StepKind::Command(command) = &step.kind {
        show_command(command, &mut words);
    }
    words.join(" ")
}

fn show_dependencies(list: &[Dependency]) -> String {
    let names =
        list.iter().map(|d| format!("{}{}", d.step, if d.allow_failure { "?" } else { "" }));
    format!("after=[{}]", names.collect::<Vec<_>>().join(","))
}

fn show_group(group: &NewGroup) -> String {
    let mut words = vec![format!("{:?}", group.label)];
    words.extend(group.key.as_ref().map(|key| format!("key={key}")));
    words.extend(show_filter(&group.filter));
    words.extend(group.depends_on.as_ref().map(|list| show_dependencies(list)));
    if group.allow_dependency_failure {
        words.push("whatever".to_owned());
    }
    words.join(" ")
}

fn show_filter(filter: &Filter) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(filter.skip.as_ref().map(|reason| format!("skip={reason:?}")));
    match &filter.only {
        Some(Only::If { condition, .. }) => words.push(format!("if({})", condition.written())),
        Some(Only::Branches(branches)) => words.push(format!("branches({})", branches.written())),
        None => {}
    }
    words
}

fn show_form(form: &Form) -> String {
    let mut words = vec![String::new()];
    words.extend(form.prompt.as_ref().map(|prompt| format!("prompt={prompt:?}")));
    if form.blocked_state != BlockedState::Passed {
        words.push(format!("{:?}", form.blocked_state));
    }
    words.extend(form.fields.iter().map(|field| {
        let mark = if field.required { "!" } else { "" };
        let hint = field.hint.as_ref().map(|hint| format!(" hint={hint:?}")).unwrap_or_default();
        format!("{}{mark}({:?}{hint} {})", field.key, field.label, show_entry(&field.entry))
    }));
    words.join(" ")
}

fn show_entry(entry: &Entry) -> String {
    let mut words = Vec::new();
    match entry {
        Entry::Text { default, format } => {
            words.push("text".to_owned());
            words.extend(default.as_ref().map(|default| format!("={default:?}")));
            words.extend(format.as_ref().map(|format| format!("~{}", format.written())));
        }
        Entry::Select { options, multiple, default } => {
            let all = options.iter().map(|option| format!("{}:{}", option.value, option.label));
            let all: Vec<String> = all.collect();
            words.push(format!("{} {}", if *multiple { "many" } else { "one" }, all.join(",")));
            words.extend(default.iter().map(|default| format!("={default}")));
        }
    }
    words.join(" ")
}

fn show_command(command: &Command, words: &mut Vec<String>) {
    let pairs = |list: Vec<(&String, String)>| {
        list.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
    };
    if !command.agents.is_empty() {
        let agents = command.agents.iter().map(|(k, v)| (k, v.clone())).collect();
        words.push(format!("agents=[{}]", pairs(agents)));
    }
    if !command.env.is_empty() {
        let env = command.env.iter().map(|(k, v)| (k, format!("{v:?}"))).collect();
        words.push(format!("env({})", pairs(env)));
    }
    if command.priority != 0 {
        words.push(format!("priority={}", command.priority));
    }
    words.extend(command.parallel.map(|p| format!("{}of{}", p.index, p.total)));
    if let Some(matrix) = &command.matrix {
        words.push(format!(
            "matrix({})",
            pairs(matrix.iter().map(|(k, v)| (k, v.clone())).collect())
        ));
    }
    if let Some(Concurrency { group, limit, method }) = &command.concurrency {
        let eager = if *method == ConcurrencyMethod::Eager { " eager" } else { "" };
        words.push(format!("{group}<={limit}{eager}"));
    }
    words.extend(command.retry.iter().map(|rule| format!("retry({})", show_rule(rule))));
    words.extend(command.timeout.map(|timeout| format!("timeout={}s", timeout.as_secs())));
    match &command.soft_fail {
        SoftFail::Never => {}
        SoftFail::Always => words.push("soft".to_owned()),
        SoftFail::These(statuses) => words.push(format!("soft{statuses:?}")),
    }
    if !command.artifact_paths.is_empty() {
        words.push(format!("artifacts=[{}]", command.artifact_paths.join(",")));
    }
    words.extend(command.plugins.as_ref().map(|plugins| format!("plugins={plugins}")));
}

fn show_rule(rule: &RetryRule) -> String {
    let mut words = Vec::new();
    match &rule.exit_status {
        ExitMatch::Unsaid => {}
        ExitMatch::Failed => words.push("exit *".to_owned()),
        ExitMatch::These(statuses) => words.push(format!("exit {statuses:?}")),
    }
    words.extend(rule.signal.as_ref().map(|signal| format!("signal {signal}")));
    words.extend(rule.signal_reason.as_ref().map(|reason| format!("reason {reason}")));
    words.push(format!("limit {}", rule.limit));
    words.join(" ")
}
