//! What block and input steps ask.

use super::check_step;

#[test]
fn blocks_and_inputs_have_forms() {
    check_step("input", "input");
    check_step("{input: Who?, key: i}", r#"input key=i label="Who?""#);
    check_step("{input: ~, label: L, prompt: P}", r#"input prompt="P" label="L""#);
    check_step("{type: input, name: N}", r#"input label="N""#);
    check_step("{block: B, blocked_state: running}", r#"block Running label="B""#);
    check_step("{block: B, blocked_state: failed}", r#"block Failed label="B""#);
    check_step("{block: B, blocked_state: passed, fields: ~}", r#"block label="B""#);
}

/// A block step with these fields.
#[track_caller]
fn check_fields(fields: &str, expected: &str) {
    check_step(&format!("{{block: B, fields: [{fields}]}}"), expected);
}

#[test]
fn fields() {
    check_fields("{key: k}", r#"block k!("k" text) label="B""#);
    check_fields(
        "{text: Name, key: name, hint: Yours, required: false, default: Dolphin}",
        r#"block name("Name" hint="Yours" text ="Dolphin") label="B""#,
    );
    check_fields(
        "{text: Hex, key: a/b-c_1, format: '[0-9a-f]+'}",
        r#"block a/b-c_1!("Hex" text ~[0-9a-f]+) label="B""#,
    );
    let options = "options: [{label: Beta, value: beta}, {label: Stable, value: 1.50}]";
    check_fields(
        &format!("{{select: Stream, key: s, default: beta, {options}}}"),
        r#"block s!("Stream" one beta:Beta,1.50:Stable =beta) label="B""#,
    );
    check_fields(
        &format!("{{select: S, key: s, multiple: true, default: [beta, '1.50'], {options}}}"),
        r#"block s!("S" many beta:Beta,1.50:Stable =beta =1.50) label="B""#,
    );
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    check_step(
        "{block: B, blocked_state: stuck}",
        "error: line 1, column 35: step 1 (\"B\"): `blocked_state` must be passed, failed or running, and is `stuck`",
    );
    check_step(
        "{input: I, fields: {a: b}}",
        "error: line 1, column 28: step 1 (\"I\"): `fields` must be a list, and is a map",
    );
    check_fields(
        "{text: T}",
        "error: line 1, column 29: step 1 (\"B\"): an item of `fields` has no `key` to store its answer under",
    );
    check_fields(
        "{text: T, key: 'a b'}",
        "error: line 1, column 44: step 1 (\"B\"): a field's `key` has letters, digits, /, - and _, and is `a b`",
    );
    check_fields(
        "{text: T, key: k}, {text: U, key: k}",
        "error: line 1, column 48: step 1 (\"B\"): two of its `fields` have the key `k`",
    );
    check_fields(
        "{text: T, key: k, format: '(a'}",
        "error: line 1, column 55: step 1 (\"B\"): `format` is no regular expression: unclosed group",
    );
    check_fields(
        "{text: T, key: k, multiple: true}",
        "error: line 1, column 47: step 1 (\"B\"): a text field has the unknown key `multiple`; it may have text, key, hint, required, default, format",
    );
    check_fields(
        "{select: S, key: k}",
        "error: line 1, column 29: step 1 (\"B\"): a select field needs `options`",
    );
    check_fields(
        "{select: S, key: k, options: [{label: L}]}",
        "error: line 1, column 59: step 1 (\"B\"): an item of `options` has no `value`",
    );
    let options = "options: [{label: A, value: a}, {label: B, value: b}]";
    check_fields(
        &format!("{{select: S, key: k, {options}, default: c}}"),
        "error: line 1, column 113: step 1 (\"B\"): `default` is `c`, which is no option's value",
    );
    check_fields(
        &format!("{{select: S, key: k, {options}, default: [a, b]}}"),
        "error: line 1, column 113: step 1 (\"B\"): `default` names several options; `multiple: true` would allow that",
    );
}
