//! One line per case: a condition in, what it says of one build out.

use super::*;

fn facts() -> Facts {
    let text = |text: &str| Value::Text(text.to_owned());
    let variables = BTreeMap::from([
        ("build.branch", text("features/tests")),
        ("build.message", text("Fix it [Skip Tests]\nreally")),
        ("build.number", Value::Number(7)),
        ("build.source", text("api")),
        ("build.tag", text("v1.0")),
        ("build.pull_request.labels", Value::List(vec!["bug".to_owned(), "v2-only".to_owned()])),
        ("pipeline.default_branch", text("main")),
    ]);
    let env = [("CUSTOM", "value"), ("EMPTY", ""), ("BUILDKITE_TAG", "v1.0")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Facts { variables, env: BTreeMap::from(env) }
}

#[track_caller]
fn holds(condition: &str) {
    let parsed = Condition::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
    assert!(parsed.holds(&facts()), "{condition} does not hold");
}

#[track_caller]
fn fails(condition: &str) {
    let parsed = Condition::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
    assert!(!parsed.holds(&facts()), "{condition} holds");
}

#[track_caller]
fn refused(condition: &str, expected: &str) {
    let error = Condition::parse(condition).expect_err(condition);
    assert_eq!(error.to_string(), expected, "for {condition}");
}

#[test]
fn the_documented_examples() {
    fails(r#"build.branch == "main" || build.branch == "production""#);
    holds(r#"build.branch != "production""#);
    holds(r"build.branch =~ /^features\//");
    fails(r"build.branch =~ /\/release-123$/");
    holds("build.tag != null");
    holds(r"build.tag =~ /^v[0-9]+\.0$/");
    holds(r#"build.env("BUILDKITE_TAG") =~ /^v[0-9]+\.0$/"#);
    fails(r"build.message !~ /\[skip tests\]/i");
    holds(r"build.message !~ /\[skip tests\]/");
    fails(r#"build.source == "schedule""#);
    holds(r#"build.env("CUSTOM") == "value""#);
    fails(r#"build.creator.teams includes "deploy""#);
    holds("!build.pull_request.draft");
    holds(
        "// Not with \"skip\" in the message,\n// and on feature branches only\nbuild.message !~ /skip/ &&\n  build.branch =~ /^feature/",
    );
    holds("build.branch != pipeline.default_branch && build.source != \"schedule\"");
}

#[test]
fn operators_bind_as_in_c() {
    holds("true || false && false");
    fails("(true || false) && false");
    holds("!false && !!true");
    fails("!(true || true)");
    holds("1 == 1 && 1 != 2");
    holds("true == !false");
    holds("((((true))))");
    holds("true // and nothing else");
}

#[test]
fn texts_and_lists() {
    holds(r#"'it\'s' == "it's""#);
    holds(r#""a\tb" =~ /a\tb/"#);
    holds(r#""\$" == '$'"#);
    holds(r#"["main", "features/tests"] includes build.branch"#);
    fails(r#"[] includes "main""#);
    holds(r#"build.pull_request.labels includes "bug""#);
    fails(r#"build.pull_request.labels includes "bu""#);
    holds("build.pull_request.labels includes /^v[0-9]/");
    fails("build.pull_request.labels includes null");
}

#[test]
fn nothing_known_is_null() {
    holds("build.pull_request.id == null");
    fails("build.pull_request.id != null");
    holds("null == null");
    fails("null =~ /x/");
    holds("build.author.name !~ /x/");
    fails("build.author.teams includes \"a\"");
    fails("build.pull_request.draft");
    fails("build.pull_request.draft && true");
    holds("build.env(\"NOWHERE\") == null");
    fails("build.env(\"EMPTY\") == null");
    holds("env(\"NOWHERE\") == \"\"");
}

#[test]
fn anchors_are_of_the_whole_text() {
    fails("build.message =~ /^really/");
    holds("build.message =~ /really$/");
    fails("build.message =~ /it.*really/");
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    refused("", "line 1, column 1: the condition is empty");
    refused("// only this", "line 1, column 13: the condition is empty");
    refused("true &&", "line 1, column 8: a value is missing before the end");
    refused("true &&\n  || true", "line 2, column 3: a value is missing before `||`");
    refused("build.branch = 'x'", "line 1, column 14: `=` means nothing; did you mean `==`?");
    refused("true & true", "line 1, column 6: `&` means nothing; did you mean `&&`?");
    refused("[\"a\"] @> 'a'", "line 1, column 7: `@` means nothing in a condition");
    refused("true true", "line 1, column 6: `true` is not expected here; is an operator missing?");
    refused("(true", "line 1, column 6: `)` is missing before the end");
    refused("['a' 'b']", "line 1, column 6: `,` is missing before the text \"b\"");
    refused("'open", "line 1, column 1: this text has no closing '");
    refused("'a' =~ /open", "line 1, column 8: this regular expression has no closing /");
    refused("99999999999999999999 == 1", "line 1, column 1: 99999999999999999999 is too large");
    refused(
        "1 == 1 == true",
        "line 1, column 8: `==` is not expected here; is an operator missing?",
    );
    let deep = format!("{}true", "!".repeat(51));
    refused(&deep, "line 1, column 51: it is nested more than 50 deep");
    holds(&vec!["true"; 100_000].join(" && "));
}

#[test]
fn variables_are_known_by_name() {
    refused(
        "build.brunch == 'x'",
        "line 1, column 1: `build.brunch` is not a variable; did you mean `build.branch`?",
    );
    refused(
        "build.branch == main",
        "line 1, column 17: `main` is not a variable; texts stand in quotes, and variables begin with build., pipeline. or organization.",
    );
    refused(
        "build..branch == 'x'",
        "line 1, column 1: `build..branch` is not a variable; did you mean `build.branch`?",
    );
    refused(
        "step.key == 'x'",
        "line 1, column 1: `step.key` is for the conditions of notifications, not for those of steps",
    );
    refused(
        "$BRANCH == 'x'",
        "line 1, column 1: a variable is written build.env(\"NAME\"), without `$`",
    );
    refused("build.env == 'x'", "line 1, column 11: write build.env(\"NAME\")");
    refused("build.env(NAME) == 'x'", "line 1, column 11: write build.env(\"NAME\")");
    refused("env('A', 'B') == 'x'", "line 1, column 8: `)` is missing before `,`");
    refused("env('$A') == 'x'", "line 1, column 5: name the variable without `$`: \"A\"");
    refused("env('1A') == 'x'", "line 1, column 5: \"1A\" is not the name of a variable");
    refused(
        "build.env('BUILDKITE_BRANHC') == 'x'",
        "line 1, column 11: conditions cannot see `BUILDKITE_BRANHC`; did you mean `BUILDKITE_BRANCH`?",
    );
    refused(
        "build.env('BUILDKITE_AGENT_ACCESS_TOKEN') == null",
        "line 1, column 11: conditions cannot see `BUILDKITE_AGENT_ACCESS_TOKEN`",
    );
}

#[test]
fn kinds_fit_together() {
    refused(
        "build.branch",
        "line 1, column 1: a condition takes true or false, and this is a text",
    );
    refused("null && true", "line 1, column 1: `&&` takes true or false, and this is null");
    refused("true || 'x'", "line 1, column 9: `||` takes true or false, and this is a text");
    refused("!'x'", "line 1, column 2: `!` takes true or false, and this is a text");
    refused(
        "1 == 'one'",
        "line 1, column 6: `==` compares a number with a text, which are never equal",
    );
    refused("['a'] == ['a']", "line 1, column 1: `==` does not take a list; use `includes`");
    refused(
        "build.branch == /main/",
        "line 1, column 17: `==` does not take a regular expression; use `=~`",
    );
    refused(
        "'main' =~ 'main'",
        "line 1, column 11: `=~` takes a regular expression at its right, such as /^v[0-9]/",
    );
    refused(
        "build.number =~ /7/",
        "line 1, column 1: `=~` takes a text at its left, and this is a number",
    );
    refused(
        "build.source =~ /api/",
        "line 1, column 1: `=~` takes a text at its left, and this is one of a few words",
    );
    refused(
        "build.source == 'apis'",
        "line 1, column 17: it is never \"apis\", only ui, api, webhook, trigger_job, schedule, pipeline_trigger",
    );
    refused(
        "'main' includes 'm'",
        "line 1, column 1: `includes` takes a list at its left, and this is a text",
    );
    refused(
        "build.author.teams includes 1",
        "line 1, column 29: `includes` takes a text at its right, and this is a number",
    );
    refused("[1] includes 'a'", "line 1, column 2: a list takes texts, and this is a number");
    refused("/x/ == 'a'", "line 1, column 1: `==` does not take a regular expression; use `=~`");
}

#[test]
fn regular_expressions_are_compiled_at_once() {
    refused(
        "false && 'a' =~ /(a/",
        "line 1, column 17: the regular expression `/(a/`: unclosed group",
    );
    refused(
        "'a' =~ /a(?=b)/",
        "line 1, column 8: the regular expression `/a(?=b)/`: look-around, including look-ahead and look-behind, is not supported",
    );
    refused("'a' =~ /a/x", "line 1, column 8: `x` is no flag of a regular expression, only `i` is");
}

#[test]
fn no_beginning_of_a_condition_panics() {
    let text = r#"!(build.env("ü☃") == 'a\'b' || ["a", "b"] includes /x\/[/i) && 1 != 2 // x"#;
    for (end, _) in text.char_indices() {
        drop(Condition::parse(&text[..end]));
    }
}
