//! The configuration's errors, one line each: where, what, and what would be right.

use jitney::config::{Config, Problem};

/// A secret that must never be seen.
pub(crate) const PLANTED: &str = "bkct_planted";

/// What every configuration needs, unless the case says it otherwise.
const NEEDED: [(&str, &str); 3] = [
    ("buildkite:", "buildkite: { token: bkct_planted }"),
    ("queues:", "queues: { default: { backends: [here] } }"),
    ("backends:", "backends: { here: { process: {} } }"),
];

pub(crate) fn environment(name: &str) -> Option<String> {
    match name {
        "FIVE" => Some("5".to_owned()),
        "WORD" => Some("bkct_planted".to_owned()),
        "TWICE" => Some("${FIVE}".to_owned()),
        _ => None,
    }
}

/// The case, then whatever it lacks of what is needed.
pub(crate) fn complete(case: &str) -> String {
    let mut text = format!("{case}\n");
    for (key, line) in NEEDED {
        if !case.lines().any(|line| line.starts_with(key)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// A case beside what is needed.
#[track_caller]
fn check(case: &str, expected: &str) {
    check_text(&complete(case), expected);
}

/// `LINE:COLUMN KEY: MESSAGE -> REMEDY`, one line for each problem.
#[track_caller]
fn check_text(text: &str, expected: &str) {
    let got = match Config::parse("jitney.yaml", text, &environment) {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let line = |problem: &Problem| {
                format!("{}:{} {problem} -> {}", problem.line, problem.column, problem.remedy)
            };
            let lines: Vec<String> = error.problems().iter().map(line).collect();
            let json = error.to_json().to_string();
            let report = format!("{:?}", miette::Report::new(error));
            for shown in [json, report] {
                assert!(!shown.contains(PLANTED), "a secret is shown:\n{shown}");
            }
            lines.join("\n")
        }
    };
    assert_eq!(got, expected, "of:\n{text}");
}

#[test]
fn what_is_right() {
    check("", "ok");
    check("name: ci\nlisten: localhost:0", "ok");
    check("listen: 0.0.0.0:80\naccess: { token: bkct_planted }", "ok");
    check("listen: \"[::]:80\"\naccess: { proxy_header: X-Who }", "ok");
    check("buildkite: { token_file: t, token: null }", "ok");
    check("limits: { machines: \"${FIVE}\", cpu: \"${FIVE}\" }", "ok");
    check("store: null\naccess:\nlog: {}", "ok");
    check("backends: { here: { process: } }", "ok");
    check(
        "x: &half { cpu: 0.5 }\nlimits: *half",
        "1:1 x: is not a key that is known here -> known here: name, listen, tls, public_url, access, backends, queues, buildkite, store, replicas, classes, policies, limits, fleets, mirrors, prices, meter, notify, log, traces",
    );
    check("limits: &half { cpu: 0.5 }\nclasses: { half: *half }", "ok");
}

#[test]
fn unknown_keys_name_the_nearest() {
    check("nmae: ci", "1:1 nmae: is not a key that is known here -> did you mean name?");
    check(
        "limits: { machnies: 4 }",
        "1:11 limits.machnies: is not a key that is known here -> did you mean machines?",
    );
    check(
        "limits: { Machines: 4 }",
        "1:11 limits.Machines: is not a key that is known here -> did you mean machines?",
    );
    check(
        "buildkite: { tokn: bkct_planted }",
        "1:1 buildkite.token: is needed and missing -> set buildkite.token to ${BUILDKITE_AGENT_TOKEN}, or token_file to a file with the cluster's agent token\n1:14 buildkite.tokn: is not a key that is known here -> did you mean token?",
    );
    check(
        "log: { colour: red }",
        "1:8 log.colour: is not a key that is known here -> known here: format, level",
    );
    check(
        "queues:\n  default:\n    backends: [here]\n    start-timeout: 5m",
        "4:5 queues.default.start-timeout: is not a key that is known here -> did you mean start_timeout?",
    );
}

#[test]
fn values_of_the_wrong_type_or_unit() {
    check(
        "store: { keep: 30 }",
        "1:16 store.keep: \"30\" has no unit -> write 30s, 30m or 30h (also ms, d)",
    );
    check(
        "store: { keep: 4 weeks }",
        "1:16 store.keep: \"weeks\" is not a unit of time -> write 4s, 4m or 4h (also ms, d)",
    );
    check(
        "limits: { memory: 64GG }",
        "1:19 limits.memory: \"GG\" is not a unit of size -> write 64G (or K, M, T)",
    );
    check(
        "limits: { cpu: many }",
        "1:16 limits.cpu: \"many\" is not a number of vCPUs -> write cpu: 2 or cpu: 0.5",
    );
    check(
        "limits: { machines: -1 }",
        "1:21 limits.machines: \"-1\" is not a whole number from 0 to 1000000 -> write a whole number from 0 to 1000000",
    );
    check(
        "limits: { cost_per_hour: 4 EUR }",
        "1:26 limits.cost_per_hour: \"4 EUR\" is not an amount -> write a number, as 400 or 12.50",
    );
    check(
        "limits: [4]",
        "1:9 limits: a section is expected here, not a list -> write \"key: value\" below it",
    );
    check(
        "name: { a: b }",
        "1:7 name: a single value is expected here, not a section -> write one value after the colon",
    );
    check(
        "queues: { default: { backends: here } }",
        "1:32 queues.default.backends: a list is expected here, not a single value -> write [one, two]",
    );
    check(
        "queues: { default: [here] }",
        "1:20 queues.default: a section is expected here, not a list -> write \"key: value\" below it",
    );
    check(
        "access: bkct_planted",
        "1:9 access: a section is expected here, not a single value -> write \"key: value\" below it",
    );
    check(
        "policies: { match: {} }",
        "1:11 policies: a list is expected here, not a section -> begin each item with \"- \"",
    );
    check(
        "notify: { position: yes }",
        "1:21 notify.position: \"yes\" is neither true nor false -> write true or false",
    );
}

#[test]
fn words_and_addresses() {
    check(
        "prices: { discount: 150% }",
        "1:21 prices.discount: \"150%\" is not a share -> write 0% to 100%, as 50%",
    );
    check(
        "prices: { currency: euro }",
        "1:21 prices.currency: \"euro\" is not a currency -> write its three letters, as USD",
    );
    check(
        "log: { level: warning }",
        "1:15 log.level: \"warning\" is not a word that is known here -> did you mean warn? One of: error, warn, info, debug, trace",
    );
    check(
        "listen: here:80",
        "1:9 listen: \"here:80\" is not an address with a port -> write 127.0.0.1:8780, or 0.0.0.0:8780 to be reached from elsewhere",
    );
    check(
        "public_url: ci.example",
        "1:13 public_url: \"ci.example\" is not an address: relative URL without a base -> write https://HOST, with a port and a path if there are any",
    );
    check(
        "public_url: ftp://ci.example",
        "1:13 public_url: \"ftp://ci.example\" is not an address: it does not begin with http:// or https:// -> write https://HOST, with a port and a path if there are any",
    );
    check(
        "public_url: https://ann:bkct_planted@ci.example",
        "1:13 public_url: the address carries a user or a password -> take them out of the address; tokens have keys of their own",
    );
}

#[test]
fn names_as_rfc_1035() {
    let remedy = "write at most 23 small letters, digits and dashes, beginning with a letter";
    for name in ["Jitney", "9jit", "jit-", "jit_ney", "j.t"] {
        check(
            &format!("name: {name}"),
            &format!("1:7 name: \"{name}\" is not a name as RFC 1035 has them -> {remedy}"),
        );
    }
    check("name: a23456789-123456789-123", "ok");
    check(
        "name: a23456789-123456789-1234",
        &format!("1:7 name: \"a23456789-123456789-1234\" is longer than 23 characters -> {remedy}"),
    );
}

#[test]
fn what_is_needed() {
    let token = "set buildkite.token to ${BUILDKITE_AGENT_TOKEN}, or token_file to a file with the cluster's agent token";
    check("buildkite: {}", &format!("1:1 buildkite.token: is needed and missing -> {token}"));
    check(
        "buildkite:\n  token: ${UNSET_ONE:-}",
        &format!("1:1 buildkite.token: is needed and missing -> {token}"),
    );
    check(
        "queues: {}",
        "0:0 queues: is needed and missing -> one queue is needed: queues: { default: { backends: [here] } }, or a fleet",
    );
    check(
        "backends: {}",
        "0:0 backends: is needed and missing -> one backend is needed: backends: { here: { process: {} } }",
    );
    check(
        "queues: { default: }",
        "1:11 queues.default.backends: is needed and missing -> name the backends that may make its machines: backends: [here]",
    );
    check(
        "queues: { default: { backends: [] } }",
        "1:11 queues.default.backends: is needed and missing -> name the backends that may make its machines: backends: [here]",
    );
    check(
        "backends: { here: {} }",
        "1:13 backends.here: does not say what kind of backend it is -> write one of: process, kubernetes, gce, cloud-run, http",
    );
    check(
        "backends: { here: { process: {}, http: { url: \"http://a\" } } }",
        "1:13 backends.here: is of more than one kind -> give each kind a backend of its own",
    );
    check(
        "backends: { here: { http: {} } }",
        "1:21 backends.here.http.url: is needed and missing -> name your service: url: http://127.0.0.1:9090",
    );
    check("tls: { key: k }", "1:1 tls.certificate: is needed and missing -> name a PEM file");
    check(
        "policies: [{ spot: never }]",
        "1:12 policies[0].match: is needed and missing -> say which jobs are meant, or match: {} for all of them",
    );
}

#[test]
fn references_to_the_environment() {
    check(
        "limits:\n  machines: ${FOUR}",
        "2:13 limits.machines: the environment variable FOUR is not set -> set FOUR, or write ${FOUR:-default}",
    );
    check("limits:\n  machines: ${FOUR:-4}", "ok");
    check(
        "limits:\n  machines: ${FOUR",
        "2:13 limits.machines: the value still holds \"${\" -> write ${NAME} or ${NAME:-default}, with a name of letters, digits and _",
    );
    check(
        "limits:\n  machines: ${TWICE}",
        "2:13 limits.machines: after ${TWICE} was replaced, the value still holds \"${\" -> give TWICE a value without \"${\": it is not replaced a second time",
    );
    check(
        "buildkite:\n  token: ${UNSET}",
        "2:10 buildkite.token: the environment variable UNSET is not set -> set UNSET, or write ${UNSET:-default}",
    );
    // The wrong variable may hold a secret: its value is not repeated.
    check(
        "limits:\n  machines: ${WORD}",
        "2:13 limits.machines: the value from the environment does not fit here -> write a whole number from 0 to 1000000",
    );
    check(
        "limits: { machines: ${FIVE} }",
        "1:22 while parsing a flow mapping, did not find expected ',' or '}' -> between { } and [ ], put references into quotes: \"${NAME}\"",
    );
}

#[test]
fn references_within_the_file() {
    check(
        "queues: { default: { backends: [hree] } }",
        "1:33 queues.default.backends[0]: there is no backend \"hree\" -> did you mean here?",
    );
    check(
        "queues: { default: { backends: [here, clouds] } }",
        "1:39 queues.default.backends[1]: there is no backend \"clouds\" -> there is: here",
    );
    check(
        "policies: [{ match: {}, service_account: '' }]",
        "1:42 policies[0].service_account: is empty, and nobody can tell which is meant -> write none, which takes the machine's rights away, or leave the key out",
    );
    check(
        "policies: [{ match: {}, service_account: ci@acme.example }]",
        "1:42 policies[0].service_account: a policy cannot give a machine another account -> write none, which takes its rights away, and name accounts in backends",
    );
    check(
        "policies: [{ match: {}, backends: [pods] }]",
        "1:36 policies[0].backends[0]: there is no backend \"pods\" -> there is: here",
    );
    check(
        "fleets: { F_1: { queue: q, backend: k, template_from: { job: j }, agents: { max: 5 }, active_deadline: 7h } }\nbackends: { here: { process: {} }, k: { kubernetes: {} } }",
        "1:11 fleets.F_1: \"F_1\" is not a name as RFC 1035 has them -> write at most 23 small letters, digits and dashes, beginning with a letter",
    );
    check(
        "fleets: { f: { queue: q, backend: k, template_from: { job: j }, agents: { max: 5 }, active_deadline: 7h, tags: [\"a=b,c=d\"] } }\nbackends: { here: { process: {} }, k: { kubernetes: {} } }",
        "1:113 fleets.f.tags[0]: a=b,c=d has a comma, which stands between tags -> write each tag as an item of its own",
    );
    check(
        "fleets: { f: { queue: q, backend: k, template_from: { job: j }, agents: { max: 5 }, active_deadline: 7h, cooldown: { at_most: 0s } } }\nbackends: { here: { process: {} }, k: { kubernetes: {} } }",
        "1:127 fleets.f.cooldown.at_most: \"0s\" is no time at all -> write 30s",
    );
    check(
        "fleets: { f: { queue: q, backend: here, template_from: { job: j }, agents: { max: 5 }, active_deadline: 7h } }",
        "1:35 fleets.f.backend: here is not of the kind kubernetes -> name a backend of the kind kubernetes",
    );
    check(
        "mirrors: { m: { repository: r, places: { there: {} } } }",
        "1:42 mirrors.m.places.there: there is no backend \"there\" -> did you mean here?",
    );
}

#[test]
fn rules_between_keys() {
    check(
        "buildkite:\n  token: bkct_planted\n  token_file: t",
        "3:15 buildkite.token_file: stands beside token, and only one of the two can be meant -> take out token or token_file",
    );
    check(
        "listen: 0.0.0.0:80",
        "1:9 listen: 0.0.0.0:80 can be reached from elsewhere, and nobody would have to prove who they are -> set access.token or access.proxy_header, or listen on 127.0.0.1",
    );
    check("queues: { default: { backends: [here], start_timeout: 59m } }", "ok");
    check(
        "queues: { default: { backends: [here], start_timeout: 1h } }",
        "1:55 queues.default.start_timeout: \"1h\" with a margin of 60s is more than the 3600s that Buildkite's reservations and job tokens live -> write 59m or less",
    );
    check(
        "buildkite: { token: bkct_planted, poll: { idle: 50ms } }",
        "1:49 buildkite.poll.idle: \"50ms\" is more often than Buildkite's 10 lists a second for a stack -> write 100ms or more",
    );
    check(
        "queues: { \"a b\": { backends: [here] } }",
        "1:11 queues.a b: is not the key of a queue -> write the queue's key as Buildkite shows it: letters, digits, dashes and underscores",
    );
    check(
        "queues: { q: { backends: [here], attempts: 0 } }",
        "1:44 queues.q.attempts: \"0\" is not a whole number from 1 to 100 -> write a whole number from 1 to 100",
    );
    check(
        "queues: { q: { backends: [here], share: 0 } }",
        "1:41 queues.q.share: \"0\" is not a whole number from 1 to 1000000 -> write a whole number from 1 to 1000000",
    );
}

#[test]
fn classes_and_defaults_are_shapes() {
    check("classes: { large: { cpu: 16, memory: 64GiB, spot: never, family: n2 } }", "ok");
    check(
        "classes: { large: { memory: 64 } }",
        "1:29 classes.large.memory: \"64\" has no unit -> write memory: 64G (or K, M, T)",
    );
    check(
        "classes: { large: { memroy: 64G } }",
        "1:21 classes.large.memroy: is not a key that is known here -> did you mean memory?",
    );
    check(
        "queues: { q: { backends: [here], defaults: { arch: x86 } } }",
        "1:52 queues.q.defaults.arch: \"x86\" is not an architecture -> write arch: amd64 or arm64",
    );
    check(
        "queues: { q: { backends: [here], largest: { time: 6 } } }",
        "1:51 queues.q.largest.time: \"6\" has no unit -> write 6s, 6m or 6h (also ms, d)",
    );
    check(
        "queues: { q: { backends: [here], largest: { image: a } } }",
        "1:45 queues.q.largest.image: is not a key that is known here -> known here: cpu, memory, disk, local-ssd, time",
    );
}

#[test]
fn keys_that_stand_twice() {
    check("name: a\nname: b", "2:1 name: is given twice, first in line 1 -> keep one of the two");
    check(
        "limits:\n  cpu: 1\n  cpu: 1",
        "3:3 limits.cpu: is given twice, first in line 2 -> keep one of the two",
    );
    check(
        "backends:\n  here: { process: {} }\n  here: { process: {} }",
        "3:3 backends.here: is given twice, first in line 2 -> keep one of the two",
    );
    check(
        "access:\n  token: bkct_planted\n  token: bkct_planted",
        "3:3 access.token: is given twice, first in line 2 -> keep one of the two",
    );
}

#[test]
fn several_errors_at_once() {
    check(
        "nmae: ci\nlimits: { machines: x }\nlog:\n  level: loud",
        "1:1 nmae: is not a key that is known here -> did you mean name?\n\
         2:21 limits.machines: \"x\" is not a whole number from 0 to 1000000 -> write a whole number from 0 to 1000000\n\
         4:10 log.level: \"loud\" is not a word that is known here -> write one of: error, warn, info, debug, trace",
    );
}

#[test]
fn what_is_not_yaml() {
    check_text(
        "- name",
        "1:1 a section is expected here, not a list -> write \"key: value\" below it",
    );
    check(
        "limits: { cpu: 1",
        "2:10 while parsing a flow mapping, did not find expected ',' or '}' -> look for a bracket, a quote or an indentation that is wrong, here or above",
    );
    check(
        "access:\n\ttoken: bkct_planted",
        "2:2 tabs disallowed within this context (block indentation) -> indent with spaces, not with tabs",
    );
    check(
        "access:\n  token: \"bkct_planted",
        "2:10 unclosed quote -> look for a bracket, a quote or an indentation that is wrong, here or above",
    );
    check_text(
        "just a text",
        "1:1 a section is expected here, not a single value -> write \"key: value\" below it",
    );
}
