//! Reading the configuration again: what changed, what needs a restart, and no value in any of it.

use jitney::config::{Changes, Config};

use crate::config::{PLANTED, complete, environment};

fn changes(old: &str, new: &str) -> Changes {
    let parse = |case: &str| {
        Config::parse("jitney.yaml", &complete(case), &environment).expect("the case is right")
    };
    parse(old).changes_to(parse(new))
}

/// The changed paths, those that need a restart with a `!`.
#[track_caller]
fn check(old: &str, new: &str, expected: &str) {
    let changes = changes(old, new);
    assert!(!format!("{:?}", changes.changed).contains(PLANTED));
    let mark = |restart: bool| if restart { "!" } else { "" };
    let paths: Vec<String> = changes
        .changed
        .iter()
        .map(|change| format!("{}{}", change.path, mark(change.restart)))
        .collect();
    assert_eq!(paths.join(" "), expected, "from {old} to {new}");
}

#[test]
fn what_changed_and_what_needs_a_restart() {
    check("", "", "");
    check("", "name: jitney\nlog: { level: info }", "");
    check("store: { keep: 24h }", "store: { keep: 1d }", "");
    check("", "limits: { machines: 4 }", "limits.machines");
    check("", "listen: 127.0.0.1:1", "listen!");
    check("", "store: { journal: j.db }", "store.journal!");
    check(
        "",
        "buildkite: { token: bkct_planted, endpoint: \"http://127.0.0.1:1\" }",
        "buildkite.endpoint!",
    );
    check("", "buildkite: { token: another }", "buildkite.token!");
    check("", "classes: { large: { cpu: 4 } }", "classes.large");
    check(
        "policies: [{ match: {}, spot: never }]",
        "policies: [{ match: {}, spot: allow }]",
        "policies[0].spot",
    );
    check("", "queues: { default: { backends: [here], attempts: 4 } }", "queues.default.attempts");
    check(
        "",
        "backends: { here: { process: { capacity: { cpu: 4 } } } }",
        "backends.here.process.capacity.cpu",
    );
    check("", "backends: { here: { process: { user: ci } } }", "backends.here.process.user!");
    check(
        "",
        "backends: { here: { process: {}, limits: { cpu: 4 } } }",
        "backends.here.limits.cpu",
    );
}

#[test]
fn another_queue_needs_a_restart() {
    let changes =
        changes("", "queues: { default: { backends: [here] }, two: { backends: [here] } }");
    assert_eq!(changes.need_restart().collect::<Vec<_>>(), ["queues.two"]);
}

#[test]
fn a_file_with_an_error_changes_nothing_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jitney.yaml");
    std::fs::write(&file, complete("limits: { machines: 4 }")).unwrap();
    let running = Config::load(&file, &environment).unwrap();

    std::fs::write(&file, complete("limits: { machines: 5 }")).unwrap();
    let changes = running.reload(&file, &environment).unwrap();
    assert_eq!(changes.config.limits.machines, Some(5));

    std::fs::write(&file, complete("limits: { machines: five }")).unwrap();
    let error = running.reload(&file, &environment).unwrap_err();
    assert_eq!(error.problems()[0].key, "limits.machines");
    assert_eq!(running.limits.machines, Some(4));
}
