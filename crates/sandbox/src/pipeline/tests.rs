//! One line per case: a pipeline in, a text out.

mod filters;
mod forms;
mod groups;
mod matrices;
mod shown;

use super::*;
use shown::shown;

/// A whole pipeline.
#[track_caller]
fn check(yaml: &str, expected: &str) {
    assert_eq!(shown(from_yaml(yaml)), expected, "for:\n{yaml}");
}

/// One step, in flow style, so that a case is one line.
#[track_caller]
fn check_step(step: &str, expected: &str) {
    check(&format!("steps: [{step}]"), expected);
}

#[test]
fn commands() {
    check_step("{command: make}", r#"run "make""#);
    check_step("{command: [one, two]}", r#"run "one\ntwo""#);
    check_step("{commands: [one]}", r#"run "one""#);
    check_step("{command: x, type: script}", r#"run "x""#);
    check("- command: x", r#"run "x""#);
    check_step("{command: x, name: N, id: i}", r#"run "x" key=i label="N""#);
    check_step("{command: x, label: ''}", r#"run "x""#);
    check_step("{command: x, artifact_paths: 'a/*; b'}", r#"run "x" artifacts=[a/*,b]"#);
    check_step("{command: x, artifact_paths: [a, b]}", r#"run "x" artifacts=[a,b]"#);
    check_step("{command: x, timeout_in_minutes: '5'}", r#"run "x" timeout=300s"#);
    check_step(
        "{command: x, parallelism: 2, priority: -2}",
        r#"run "x" priority=-2 0of2 | run "x" priority=-2 1of2"#,
    );
}

#[test]
fn concurrency_groups() {
    let with = |keys: &str| format!("{{command: x, {keys}}}");
    check_step(&with("concurrency: 1, concurrency_group: g"), r#"run "x" g<=1"#);
    check_step(
        &with("concurrency: 3, concurrency_group: g, concurrency_method: eager"),
        r#"run "x" g<=3 eager"#,
    );
    check_step(
        &with("concurrency: 3, concurrency_group: g, concurrency_method: ordered"),
        r#"run "x" g<=3"#,
    );
    check_step(
        &with("concurrency: 1"),
        "error: line 1, column 9: step 1: its `concurrency` needs a `concurrency_group`",
    );
    check_step(
        &with("concurrency_group: g"),
        "error: line 1, column 9: step 1: its `concurrency_group` needs a `concurrency`",
    );
    check_step(
        &with("concurrency_method: eager"),
        "error: line 1, column 9: step 1: its `concurrency_method` needs a `concurrency` and a `concurrency_group`",
    );
    check_step(
        &with("concurrency: 1, concurrency_group: g, concurrency_method: fair"),
        "error: line 1, column 80: step 1: `concurrency_method` must be ordered or eager, and is `fair`",
    );
    check_step(
        &with("concurrency: 0, concurrency_group: g"),
        "error: line 1, column 35: step 1: `concurrency` must be a whole number from 1 to 4294967295, and is `0`",
    );
}

#[test]
fn waits_and_blocks() {
    check("steps: [wait, 'wait', \"waiter\"]", "wait | wait | wait");
    check_step("{wait: ~}", "wait");
    check_step("{wait: null, continue_on_failure: true, key: w}", "wait on key=w");
    check("steps:\n  - wait\n  - wait: ~\n    continue_on_failure: true", "wait | wait on");
    check_step("{type: wait}", "wait");
    check_step("block", "block");
    check_step(
        "{block: Release?, prompt: Sure, key: b}",
        r#"block prompt="Sure" key=b label="Release?""#,
    );
}

#[test]
fn texts_stay_as_written() {
    check_step(
        "{command: x, agents: {cpu: 16, memory: 64G}}",
        r#"run "x" agents=[cpu=16,memory=64G]"#,
    );
    check_step(
        "{command: x, agents: {v: 1.50, n: 007, h: 0x10}}",
        r#"run "x" agents=[v=1.50,n=007,h=0x10]"#,
    );
    check_step(
        "{command: x, agents: {a: true, b: yes, c: 'no'}}",
        r#"run "x" agents=[a=true,b=yes,c=no]"#,
    );
    check_step("{command: x, agents: ['queue=jit', cpu=4]}", r#"run "x" agents=[queue=jit,cpu=4]"#);
    check_step(
        "{command: x, env: {A: 1.0, B: ~, C: true, D: on}}",
        r#"run "x" env(A="1.0",B="",C="true",D="on")"#,
    );
    check("env: {A: 1, B: 2}\nsteps: [{command: x, env: {B: 3}}]", r#"run "x" env(A="1",B="3")"#);
}

#[test]
fn agents_of_the_pipeline_are_defaults() {
    let yaml = "agents: {queue: jit}\nsteps:\n- command: a\n- command: b\n  agents: {cpu: 2}\n- command: c\n  agents: []";
    check(yaml, r#"run "a" agents=[queue=jit] | run "b" agents=[cpu=2] | run "c""#);
}

#[test]
fn anchors_and_merges() {
    let yaml = "common: &c {agents: {queue: q, cpu: 08}}\nsteps: [{<<: *c, command: x}, {command: y, agents: {v: &v 1.10}}, {command: z, agents: {v: *v}}]";
    check(
        yaml,
        r#"run "x" agents=[queue=q,cpu=08] | run "y" agents=[v=1.10] | run "z" agents=[v=1.10]"#,
    );
}

#[test]
fn dependencies() {
    let on = |on: &str| format!("{{command: a, key: a}}, {{command: b, depends_on: {on}}}");
    check_step(&on("a"), r#"run "a" key=a | run "b" after=[a]"#);
    check_step(&on("[a]"), r#"run "a" key=a | run "b" after=[a]"#);
    check_step(&on("[{step: a, allow_failure: true}]"), r#"run "a" key=a | run "b" after=[a?]"#);
    check_step(&on("{step: a}"), r#"run "a" key=a | run "b" after=[a]"#);
    check_step(&on("~"), r#"run "a" key=a | run "b" after=[]"#);
    check_step(&on("[]"), r#"run "a" key=a | run "b" after=[]"#);
    check_step(
        &on("c"),
        "error: line 1, column 31: step 2: no step of this pipeline has the key `c` that it depends on",
    );
    check_step(
        &on("[{allow_failure: true}]"),
        "error: line 1, column 57: step 2: an item of `depends_on` names no `step`",
    );
    check_step("{command: x, allow_dependency_failure: true}", r#"run "x" whatever"#);
}

#[test]
fn retries() {
    let retry = |retry: &str| format!("{{command: x, retry: {retry}}}");
    check_step(&retry("{automatic: true}"), r#"run "x" retry(limit 2)"#);
    check_step(&retry("{automatic: false}"), r#"run "x""#);
    check_step(&retry("{automatic: {limit: 3}}"), r#"run "x" retry(limit 3)"#);
    check_step(
        &retry("{automatic: [{exit_status: 1}, {exit_status: '*', limit: 1}]}"),
        r#"run "x" retry(exit [1] limit 2) retry(exit * limit 1)"#,
    );
    check_step(
        &retry("{automatic: [{exit_status: [-1, 2], signal_reason: none}]}"),
        r#"run "x" retry(exit [-1, 2] reason none limit 2)"#,
    );
    check_step(
        &retry("{automatic: [{signal_reason: stack_error, limit: 0}]}"),
        r#"run "x" retry(reason stack_error limit 0)"#,
    );
    check_step(&retry("{manual: false}"), r#"run "x""#);
    check_step(&retry("{manual: {allowed: false, reason: no}}"), r#"run "x""#);
    check_step(&retry("{manual: {permit_on_passed: true}}"), r#"run "x""#);
    check_step(
        &retry("{automatic: {limit: 11}}"),
        "error: line 1, column 49: step 1: `limit` must be a whole number from 0 to 10, and is `11`",
    );
    check_step(
        &retry("{automatic: {exit: 1}}"),
        "error: line 1, column 42: step 1: retry.automatic has the unknown key `exit`; it may have exit_status, signal, signal_reason, limit",
    );
}

#[test]
fn soft_fails() {
    check_step("{command: x, soft_fail: true}", r#"run "x" soft"#);
    check_step(
        "{command: x, soft_fail: [{exit_status: 1}, {exit_status: 7}]}",
        r#"run "x" soft[1, 7]"#,
    );
    check_step("{command: x, soft_fail: [{exit_status: '*'}]}", r#"run "x" soft"#);
    check_step(
        "{command: x, soft_fail: [1]}",
        "error: line 1, column 34: step 1: `soft_fail` must be a map, and is a number",
    );
}

#[test]
fn plugins_are_handed_to_the_agent() {
    let json = r#"[{"docker#v5":{"image":"rust:1.95","n":1}},"cache#v1"]"#;
    let expected = format!(r#"run "x" plugins={json}"#);
    check_step(
        "{command: x, plugins: [{'docker#v5': {image: 'rust:1.95', n: 1}}, 'cache#v1']}",
        &expected,
    );
    check_step("{plugins: []}", "error: line 1, column 9: step 1: its `command` is empty");
}

#[test]
fn escapes_of_the_dollar() {
    check_step(
        "{command: 'echo $A ${B} $$C \\$\\$D $$ \\n'}",
        r#"run "echo $A ${B} $C $$D $ \\n""#,
    );
    let json = serde_json::json!({"steps": [{"command": "echo $$A"}]});
    assert_eq!(shown(from_json(&json)), r#"run "echo $$A""#);
}

#[test]
fn what_agents_upload() {
    let json = serde_json::json!({"env": {"A": "1"}, "steps": [
        "wait", {"wait": null}, {"command": "x", "agents": {"cpu": 16, "v": "1.50"}, "depends_on": "else"},
    ]});
    assert_eq!(
        shown(from_json(&json)),
        r#"wait | wait | run "x" after=[else] agents=[cpu=16,v=1.50] env(A="1")"#
    );
    let json = serde_json::json!({"steps": [{"comand": "x"}]});
    assert_eq!(
        shown(from_json(&json)),
        "error: step 1: it has the unknown key `comand`; did you mean `command`?"
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for key in ["if_changed: x", "notify: []", "image: x", "cancel_on_build_failing: true"] {
        let word = key.split(':').next().unwrap();
        let yaml = format!("steps:\n- command: x\n  label: Tests\n  {key}");
        check(
            &yaml,
            &format!(
                "error: line 4, column 3: step 1 (\"Tests\"): it uses `{word}`, which the sandbox does not support yet; leave it out to run here"
            ),
        );
    }
    let trigger = "error: line 1, column 10: step 1: it uses `trigger`, which the sandbox does not support yet; leave it out to run here";
    check_step("{trigger: x}", trigger);
    check_step(
        "{block: x, allowed_teams: [a]}",
        "error: line 1, column 20: step 1 (\"x\"): it uses `allowed_teams`, which the sandbox does not support yet; leave it out to run here",
    );
    check(
        "notify: []\nsteps: []",
        "error: line 1, column 1: the pipeline uses `notify`, which the sandbox does not support yet; leave it out to run here",
    );
}

#[test]
fn signatures_and_secrets_are_absent() {
    check_step(
        "{command: x, secrets: [TOKEN]}",
        "error: line 1, column 22: step 1: it uses `secrets`, and the sandbox has none; set a variable by `env` to run here",
    );
    check(
        "secrets: {A: TOKEN}\nsteps: []",
        "error: line 1, column 1: the pipeline uses `secrets`, and the sandbox has none; set a variable by `env` to run here",
    );
    let json = serde_json::json!({"steps": [{"command": "x", "signature": {"value": "s"}}]});
    assert_eq!(
        shown(from_json(&json)),
        "error: step 1: it has a `signature`, and the sandbox keeps none; upload without a signing key to run here"
    );
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    check(
        "steps:\n- label: T\n  comand: x",
        "error: line 3, column 3: step 1 (\"T\"): it has the unknown key `comand`; did you mean `command`?",
    );
    check(
        "steps:\n- command: x\n  agent: {cpu: 1}",
        "error: line 3, column 3: step 1: it has the unknown key `agent`; did you mean `agents`?",
    );
    check(
        "step:\n- command: x",
        "error: line 1, column 1: the pipeline has the unknown key `step`; did you mean `steps`?",
    );
    check("common: 1", "error: line 1, column 1: the pipeline has no `steps`");
    check_step(
        "{label: x}",
        "error: line 1, column 9: step 1 (\"x\"): it has no `command`, `wait`, `block`, `input` or `group`, so nothing says what it does",
    );
    check_step("{command: ''}", "error: line 1, column 9: step 1: its `command` is empty");
    check_step(
        "{command: {a: 1}}",
        "error: line 1, column 19: step 1: `command` must be a text or a list of texts, and is a map",
    );
    check_step(
        "wat",
        "error: line 1, column 9: step 1: a step that is only a word must be `wait`, `block` or `input`, and is `wat`",
    );
    check_step(
        "[a]",
        "error: line 1, column 9: step 1: a step must be a map or `wait`, and is a list",
    );
    check_step(
        "{command: x, parallelism: 0}",
        "error: line 1, column 35: step 1: `parallelism` must be a whole number from 1 to 4000, and is `0`",
    );
    check_step(
        "{command: x, timeout_in_minutes: 1.5}",
        "error: line 1, column 42: step 1: `timeout_in_minutes` must be a whole number from 1 to 43200, and is `1.5`",
    );
    check_step(
        "{command: x, agents: [cpu]}",
        "error: line 1, column 31: step 1: an item of `agents` must be `key=value`, and is `cpu`",
    );
    check_step(
        "{command: x, agents: {cpu: [1]}}",
        "error: line 1, column 36: step 1: `agents.cpu` must be a text, and is a list",
    );
    check_step(
        "{command: x, key: k}, {command: y, key: k}",
        "error: line 1, column 31: step 2 (\"k\"): an earlier step has the key `k` already",
    );
    check_step(
        "{command: x, key: 0199c0de-1111-7000-8000-000000000001}",
        "error: line 1, column 27: step 1 (\"0199c0de-1111-7000-8000-000000000001\"): `key` must not look like a UUID, and is `0199c0de-1111-7000-8000-000000000001`",
    );
    check_step(
        "{command: x, soft_fail: maybe}",
        "error: line 1, column 33: step 1: `soft_fail` must be true or false, and is a text",
    );
}

#[test]
fn broken_yaml_has_a_place() {
    let error = from_yaml("steps:\n  - command: [x").unwrap_err();
    assert!(error.line >= 2, "{error}");
    assert!(error.words.starts_with("this is not valid YAML: "), "{error}");
    assert!(!error.words.contains("column"), "the place is there already: {error}");
    assert!(from_yaml("steps: []\nsteps: []").unwrap_err().words.contains("duplicate"));
}

#[test]
fn outlines_of_pipelines_that_the_sandbox_does_not_run() {
    let yaml = "agents: {queue: jit}\nsteps:\n- group: G\n  steps:\n  - command: one\n    if: build.branch == 'main'\n    agents: {cpu: 16, memory: 64G}\n    parallelism: 4\n- trigger: other\n- wait\n- label: Two\n  command: two\n  matrix: [a, b]\n- plugins: [x]";
    let rows: Vec<String> = command_steps(yaml)
        .unwrap()
        .into_iter()
        .map(|step| format!("{} [{}] x{}", step.label, step.agents.join(","), step.parallelism))
        .collect();
    assert_eq!(rows, ["one [cpu=16,memory=64G] x4", "Two [queue=jit] x2", "step 3 [queue=jit] x1"]);
    assert_eq!(command_steps("a: 1").unwrap_err().words, "the pipeline has no `steps`");
}

#[test]
fn no_beginning_of_a_pipeline_panics() {
    let yaml = "env: {A: \"ü\"}\nsteps:\n- &a\n  label: 'x ☃'\n  command: |\n    one $$A\n    two\n  agents: {cpu: 1.50, m: 64G}\n  retry: {automatic: [{exit_status: '*'}]}\n- <<: *a\n  key: k\n- wait: ~\n";
    assert!(from_yaml(yaml).is_ok());
    let ends = (0..yaml.len()).filter(|end| yaml.is_char_boundary(*end));
    let refused = ends.filter(|end| from_yaml(&yaml[..*end]).is_err()).count();
    assert!(refused > 0, "some of them are not whole");
}
