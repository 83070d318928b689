//! `matrix`: combinations, adjustments, and where values may stand.

use super::{check, check_step};

#[test]
fn a_list_is_one_dimension() {
    check_step(
        "{command: 'go {{matrix}} {{ matrix }}', label: 'on {{matrix}}', key: k, env: {OS: '{{matrix}}'}, matrix: [linux, 1.50, true]}",
        r#"run "go linux linux" key=k label="on linux" env(OS="linux") matrix(=linux) | run "go 1.50 1.50" key=k label="on 1.50" env(OS="1.50") matrix(=1.50) | run "go true true" key=k label="on true" env(OS="true") matrix(=true)"#,
    );
    check_step("{command: x, matrix: {setup: [a]}}", r#"run "x" matrix(=a)"#);
    check_step("{command: 'x {{matrix}}', matrix: ~}", r#"run "x {{matrix}}""#);
}

#[test]
fn dimensions_are_multiplied() {
    check_step(
        "{command: '{{matrix.os}}/{{matrix.cpu-1}}', agents: {queue: 'q-{{matrix.os}}'}, matrix: {setup: {os: [a, b], cpu-1: [x, y]}}}",
        r#"run "a/x" agents=[queue=q-a] matrix(cpu-1=x,os=a) | run "a/y" agents=[queue=q-a] matrix(cpu-1=y,os=a) | run "b/x" agents=[queue=q-b] matrix(cpu-1=x,os=b) | run "b/y" agents=[queue=q-b] matrix(cpu-1=y,os=b)"#,
    );
    check_step(
        "{command: x, agents: ['os={{matrix.os}}'], plugins: [{'p#{{matrix.os}}': {v: ['{{matrix.os}}']}}], matrix: {setup: {os: [a]}}}",
        r#"run "x" agents=[os=a] matrix(os=a) plugins=[{"p#a":{"v":["a"]}}]"#,
    );
    check(
        "env: {A: '{{matrix}}'}\nsteps: [{commands: ['{{matrix}}', '{{other}} {{'], matrix: [v]}]",
        r#"run "v\n{{other}} {{" env(A="{{matrix}}") matrix(=v)"#,
    );
}

#[test]
fn adjustments_change_and_add() {
    let with = |adjustments: &str| {
        format!("{{command: x, matrix: {{setup: {{os: [a, b]}}, adjustments: [{adjustments}]}}}}")
    };
    check_step(
        &with("{with: {os: b}, soft_fail: true}, {with: {os: c}, skip: not yet}"),
        r#"run "x" matrix(os=a) | run "x" matrix(os=b) soft | run "x" skip="not yet" matrix(os=c)"#,
    );
    check_step(
        &with("{with: {os: a}, skip: true}, {with: {os: a}, soft_fail: [{exit_status: 3}]}"),
        r#"run "x" skip="" matrix(os=a) soft[3] | run "x" matrix(os=b)"#,
    );
    check_step(
        "{command: x, matrix: {setup: [a], adjustments: [{with: b}, {with: [c]}]}}",
        r#"run "x" matrix(=a) | run "x" matrix(=b) | run "x" matrix(=c)"#,
    );
    check_step(
        "{command: x, matrix: {setup: {os: []}, adjustments: [{with: {os: a}}]}}",
        r#"run "x" matrix(os=a)"#,
    );
    check_step(
        &with("{with: {so: a}}"),
        "error: line 1, column 74: step 1: its `matrix` has no dimension `so`; did you mean `os`?",
    );
    check_step(
        &with("{with: {}}"),
        "error: line 1, column 73: step 1: `with` must have each dimension, and lacks `os`",
    );
    check_step(
        &with("{with: a}"),
        "error: line 1, column 73: step 1: `with` must be a map of each dimension's value, and is a text",
    );
    check_step(
        &with("{skip: true}"),
        "error: line 1, column 66: step 1: an item of `adjustments` names no combination by `with`",
    );
    check_step(
        &with("{with: {os: a}, env: {A: b}}"),
        "error: line 1, column 82: step 1: an item of `adjustments` has the unknown key `env`; it may have with, skip, soft_fail",
    );
}

#[test]
fn an_outline_has_the_jobs_that_are_alike_as_one() {
    let yaml = "steps:\n- group: G\n  steps:\n  - label: L\n    command: 'x {{matrix.os}}'\n    agents: {queue: 'q-{{matrix.cpu}}'}\n    matrix: {setup: {os: [a, b], cpu: [x, y]}, adjustments: [{with: {os: a, cpu: x}, skip: true}]}";
    let rows: Vec<String> = crate::pipeline::command_steps(yaml)
        .unwrap()
        .into_iter()
        .map(|step| format!("{} {:?} x{}", step.label, step.agents, step.parallelism))
        .collect();
    assert_eq!(rows, [r#"L ["queue=q-y"] x2"#, r#"L ["queue=q-x"] x1"#]);
    let wrong = crate::pipeline::command_steps("steps: [{command: '{{matrix.b}}', matrix: [a]}]");
    assert!(wrong.unwrap_err().words.contains("no dimension `b`"));
}

#[test]
fn limits_are_buildkites() {
    let list = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let matrix = |matrix: &str| format!("{{command: x, matrix: {matrix}}}");
    let refused = |words: &str| format!("error: line 1, column 30: step 1: {words}");
    check_step(
        &matrix(&format!("[{}]", list(21))),
        &refused("`matrix` has 21 elements, and may have 20"),
    );
    let dimensions: Vec<String> = (0..7).map(|n| format!("d{n}: [a]")).collect();
    check_step(
        &matrix(&format!("{{setup: {{{}}}}}", dimensions.join(", "))),
        "error: line 1, column 38: step 1: its `matrix` has 7 dimensions, and may have 6",
    );
    let adjustments = ["{with: a}"; 13].join(", ");
    check_step(
        &matrix(&format!("{{setup: [a], adjustments: [{adjustments}]}}")),
        &refused("its `matrix` has 13 adjustments, and may have 12"),
    );
    check_step(
        &matrix(&format!("{{setup: {{a: [{}], b: [1, 2, 3]}}}}", list(17))),
        &refused("its `matrix` has 51 jobs, and may have 50"),
    );
    let twenty = list(20);
    let most = format!(
        "{{setup: {{a: [{twenty}], b: [{twenty}], c: [{twenty}], d: [{twenty}], e: [{twenty}], f: [{twenty}]}}}}"
    );
    check_step(&matrix(&most), &refused("its `matrix` has 64000000 jobs, and may have 50"));
    let skipped = format!(
        "{{setup: {{a: [{}], b: [1, 2, 3]}}, adjustments: [{{with: {{a: 0, b: 1}}, skip: true}}]}}",
        list(17)
    );
    let steps = crate::pipeline::from_yaml(&format!("steps: [{}]", matrix(&skipped))).unwrap();
    assert_eq!(steps.len(), 51, "what is skipped makes no job");
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    check_step(
        "{command: x, parallelism: 2, matrix: [a]}",
        "error: line 1, column 35: step 1: it has `parallelism` and `matrix`, which cannot be together; another dimension would make more jobs",
    );
    check_step(
        "{command: 'x {{matrix.so}}', matrix: {setup: {os: [a]}}}",
        "error: line 1, column 19: step 1: its `matrix` has no dimension `so`; did you mean `os`?",
    );
    check_step(
        "{command: 'x {{matrix}}', matrix: {setup: {os: [a]}}}",
        "error: line 1, column 19: step 1: its `matrix` is no plain list; it has the dimension `os`",
    );
    check_step(
        "{command: 'x {{matrix.os}}', matrix: [a]}",
        "error: line 1, column 19: step 1: its `matrix` has no dimension `os`; it has a plain list of values",
    );
    for (key, at) in [("key: 'k-{{matrix}}'", 22), ("concurrency_group: 'g{{matrix}}'", 22)] {
        let name = key.split(':').next().unwrap();
        let called = if name == "key" { " (\"k-{{matrix}}\")" } else { "" };
        check_step(
            &format!("{{command: x, {key}, matrix: [a]}}"),
            &format!(
                "error: line 1, column {at}: step 1{called}: `{name}` cannot have values of the matrix; command, label, env, agents and plugins can"
            ),
        );
    }
    check_step(
        "{command: x, matrix: a}",
        "error: line 1, column 30: step 1: `matrix` must be a list, or a map with `setup`, and is a text",
    );
    check_step(
        "{command: x, matrix: []}",
        "error: line 1, column 30: step 1: its `matrix` has no values, so it makes no job",
    );
    check_step(
        "{command: x, matrix: {adjustments: []}}",
        "error: line 1, column 30: step 1: its `matrix` has no `setup`",
    );
    check_step(
        "{command: x, matrix: {setup: {os: a}}}",
        "error: line 1, column 43: step 1: `setup.os` must be a list, and is a text",
    );
    check_step(
        "{command: x, matrix: {setup: {'o s': [a]}}}",
        "error: line 1, column 39: step 1: a dimension's name has letters, digits, _ and -, and is `o s`",
    );
    check_step(
        "{command: x, matrix: [[a]]}",
        "error: line 1, column 31: step 1: `matrix` must be a text, and is a list",
    );
    check_step(
        "{command: x, matrix: {setup: [a], ajustments: []}}",
        "error: line 1, column 43: step 1: its `matrix` has the unknown key `ajustments`; did you mean `adjustments`?",
    );
}
