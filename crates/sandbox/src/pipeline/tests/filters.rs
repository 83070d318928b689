//! `if`, `branches` and `skip`.

use super::{check, check_step};

#[test]
fn conditions_are_kept_for_the_build() {
    check_step(
        r#"{command: x, if: build.branch == "main"}"#,
        r#"run "x" if(build.branch == "main")"#,
    );
    check_step("{wait: ~, if: 'true'}, {command: x, if: ~}", r#"wait if(true) | run "x""#);
    check_step("{block: B, if: false}", r#"block label="B" if(false)"#);
    check(
        "steps:\n- command: x\n  if: |\n    // not in a hurry\n    build.message !~ /skip/ &&\n      build.branch =~ /^v[0-9]$$/",
        "run \"x\" if(// not in a hurry\nbuild.message !~ /skip/ &&\n  build.branch =~ /^v[0-9]$/)",
    );
}

#[test]
fn branches_and_reasons() {
    check_step("{command: x, branches: 'main v*'}", r#"run "x" branches(main v*)"#);
    check_step("{wait: ~, branches: [main, '!v*']}", "wait branches(main !v*)");
    check_step("{command: x, branches: ''}", r#"run "x""#);
    check_step("{command: x, skip: true}", r#"run "x" skip="""#);
    check_step("{command: x, skip: not now}", r#"run "x" skip="not now""#);
    check_step("{command: x, skip: false}, {command: y, skip: ''}", r#"run "x" | run "y""#);
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    check_step(
        "{command: x, label: L, if: build.brunch == 'x'}",
        "error: line 1, column 36: step 1 (\"L\"): its `if`, column 1: `build.brunch` is not a variable; did you mean `build.branch`?",
    );
    check(
        "steps:\n- command: x\n  if: |\n    true &&\n      ||",
        "error: line 4, column 5: step 1: its `if`, line 2, column 3: a value is missing before `||`",
    );
    check_step(
        "{command: x, if: [a]}",
        "error: line 1, column 26: step 1: `if` must be a text, and is a list",
    );
    check_step(
        "{command: x, if: 'true', branches: main}",
        "error: line 1, column 44: step 1: it has `if` and `branches`, and may have one of them; ask for the branch in the condition, as in build.branch == \"main\"",
    );
    check_step(
        "{command: x, branches: {a: b}}",
        "error: line 1, column 32: step 1: `branches` must be a text or a list of texts, and is a map",
    );
    let reason = "r".repeat(71);
    check_step(
        &format!("{{command: x, skip: {reason}}}"),
        "error: line 1, column 28: step 1: `skip` gives a reason of 71 characters, and may give 70",
    );
    check_step(
        "{command: x, skip: 1}",
        "error: line 1, column 28: step 1: `skip` must be true or false, and is a number",
    );
    check_step(
        "{wait: ~, skip: true}",
        "error: line 1, column 19: step 1: it has the unknown key `skip`; it may have wait, waiter, continue_on_failure, type, key, id, identifier, depends_on, allow_dependency_failure, if, branches",
    );
}
