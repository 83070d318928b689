//! Groups of steps.

use std::sync::Arc;

use super::{check, check_step};
use crate::pipeline::from_yaml;

#[test]
fn steps_know_their_group() {
    check(
        "steps:\n- group: G\n  key: g\n  depends_on: a\n  steps:\n  - command: x\n  - wait\n  - command: y\n    key: y\n- command: a\n  key: a\n- command: z\n  depends_on: [g, y]",
        r#"run "x" in("G" key=g after=[a]) | wait in("G" key=g after=[a]) | run "y" key=y in("G" key=g after=[a]) | run "a" key=a | run "z" after=[g,y]"#,
    );
    check_step("{group: ~, label: L, steps: [wait]}", r#"wait in("L")"#);
    check_step("{group: G, name: N, steps: [wait]}", r#"wait in("G")"#);
    check_step("{group: ~, steps: [block, input]}", r#"block in("") | input in("")"#);
    check_step(
        "{group: G, if: build.tag != null, allow_dependency_failure: true, steps: [wait]}",
        r#"wait in("G" if(build.tag != null) whatever)"#,
    );
    check_step("{group: G, skip: later, steps: [wait]}", r#"wait in("G" skip="later")"#);
}

#[test]
fn two_groups_with_one_name_are_two() {
    let steps = from_yaml(
        "steps: [{group: G, steps: [wait, {command: x, parallelism: 2}]}, {group: G, steps: [wait]}]",
    );
    let groups: Vec<_> = steps.unwrap().into_iter().map(|step| step.group.unwrap()).collect();
    assert!(Arc::ptr_eq(&groups[0], &groups[2]) && groups[2] == groups[3]);
    assert!(!Arc::ptr_eq(&groups[2], &groups[3]));
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    check_step(
        "{group: G, steps: []}",
        "error: line 1, column 9: step 1 (\"G\"): it is a group, which needs at least one step",
    );
    check_step(
        "{group: G}",
        "error: line 1, column 9: step 1 (\"G\"): it is a group, which needs at least one step",
    );
    check_step(
        "{group: G, steps: [wait, {group: H, steps: [wait]}]}",
        "error: line 1, column 34: step 1.2 (\"H\"): it is a group in a group; groups hold no others",
    );
    check_step(
        "{group: G, steps: [{label: L, comand: x}]}",
        "error: line 1, column 39: step 1.1 (\"L\"): it has the unknown key `comand`; did you mean `command`?",
    );
    check_step(
        "{group: G, steps: [{command: x, key: k}]}, {group: H, key: k, steps: [wait]}",
        "error: line 1, column 52: step 2 (\"H\"): an earlier step has the key `k` already",
    );
    check_step(
        "{group: G, depends_on: kk, steps: [{command: x, key: k}]}",
        "error: line 1, column 9: step 1 (\"G\"): no step of this pipeline has the key `kk` that it depends on; did you mean `k`?",
    );
    check_step(
        "{group: G, notify: [], steps: [wait]}",
        "error: line 1, column 20: step 1 (\"G\"): it uses `notify`, which the sandbox does not support yet; leave it out to run here",
    );
    check_step(
        "{group: G, agents: {}, steps: [wait]}",
        "error: line 1, column 20: step 1 (\"G\"): it has the unknown key `agents`; it may have group, label, name, steps, key, id, identifier, depends_on, allow_dependency_failure, if, skip",
    );
    check_step(
        "{group: G, steps: {a: b}}",
        "error: line 1, column 27: step 1 (\"G\"): `steps` must be a list, and is a map",
    );
    check_step(
        "{group: G, steps: [{trigger: p}]}",
        "error: line 1, column 29: step 1.1: it uses `trigger`, which the sandbox does not support yet; leave it out to run here",
    );
}
