//! The configuration by example, `docs/jitney.yaml`: it parses, and means what its comments say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jitney::config::backends::Kind;
use jitney::config::server::TokenSource;
use jitney::config::{Config, Unbuilt};
use jitney::host::Host;
use planner::{Arch, BackendName, Bytes, Cpu, QueueKey};
use secrecy::ExposeSecret;

use crate::config::{PLANTED, complete, environment};

const HOST: Host =
    Host { cpu_millis: 2000, memory_bytes: 8 << 30, arch: Some(Arch::Arm64), root: false };

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn example() -> Config {
    Config::load(&docs().join("jitney.yaml"), &|_| None).expect("the example is accepted")
}

fn parse(case: &str) -> Config {
    Config::parse("jitney.yaml", &complete(case), &environment).expect("the case is right")
}

#[test]
fn the_example_is_accepted_as_it_stands() {
    let config = example();
    assert_eq!(config.queues.len(), 3);
    assert_eq!(config.backends.len(), 5);
    let jit = &config.queues[&QueueKey::new("jit")];
    assert_eq!(jit.backends, ["pods", "vms", "quick"]);
    assert_eq!(jit.start_timeout, Duration::from_secs(300));
    assert_eq!(jit.largest.local_ssd, Some(8));
    assert_eq!(jit.defaults.memory, Some(Bytes::gib(4)));
    assert_eq!(config.limits.cost_micros_per_hour, Some(400_000_000));
    assert_eq!(config.classes["large"]["cpu"], "16");
}

#[test]
fn run_would_refuse_by_name() {
    let list: Vec<String> = example()
        .unbuilt()
        .into_iter()
        .map(|Unbuilt { path, what }| format!("{path}: {what}"))
        .collect();
    let expected = [
        "tls: TLS of our own; put a proxy in front",
        "limits.cost_per_hour: limits on cost",
        "limits.leak_bond: limits on cost",
        "backends.quick.cloud-run: the cloud-run backend",
        "mirrors.monorepo: git mirrors",
    ];
    assert_eq!(list, expected);
}

#[test]
fn defaults_ask_for_nothing_that_is_unbuilt() {
    assert_eq!(parse("").unbuilt(), []);
    let written_down = "prices: { currency: USD, discount: 0% }\nmeter: { annotate: on-waste, sample: 1000ms }\nreplicas: { lease: none }";
    assert_eq!(parse(written_down).unbuilt(), []);
}

#[track_caller]
fn check_unbuilt(case: &str, expected: &str) {
    let paths: Vec<String> =
        parse(case).unbuilt().into_iter().map(|unbuilt| unbuilt.path).collect();
    assert_eq!(paths.join(" "), expected, "of {case}");
}

#[test]
fn each_part_that_is_unbuilt_is_named() {
    check_unbuilt("store: { redis: \"redis://a\" }", "store.redis");
    check_unbuilt("replicas: { lease: redis }", "replicas.lease");
    check_unbuilt("traces: { otlp: \"http://127.0.0.1:4317\" }", "traces.otlp");
    check_unbuilt("meter: { annotate: always, sample: 2s }", "meter.sample meter.annotate");
    check_unbuilt(
        "notify: { position: false, estimate: false }",
        "notify.position notify.estimate",
    );
    check_unbuilt(
        "queues: { q: { backends: [here], limits: { cost_per_hour: 1 } } }",
        "queues.q.limits.cost_per_hour",
    );
    check_unbuilt(
        "backends: { here: { process: {}, limits: { leak_bond: 1 } } }",
        "backends.here.limits.leak_bond",
    );
}

#[test]
fn the_policy_is_what_the_file_says() {
    let policy = example().policy(&HOST);
    assert_eq!(&*policy.name, "jitney");
    let queue = &policy.queues[&QueueKey::new("jit")];
    assert_eq!(queue.limits.machines, Some(800));
    assert_eq!(queue.tags["os"], "linux");
    assert!(queue.images.iter().any(|image| image.matches("ci-rust-1.95")));
    assert_eq!(policy.queues[&QueueKey::new("other-team")].share, 2);
    assert_eq!(policy.rules.len(), 2);
    assert_eq!(policy.rules[1].fork, Some(true));
    assert_eq!(policy.rules[0].backends, Some(vec![BackendName::new("vms")]));
    let here = &policy.backends[&BackendName::new("here")];
    assert_eq!(here.capacity.cpu, Some(Cpu::from_millis(8000)));
    assert_eq!(here.arch, Some(Arch::Arm64));
    let theirs = &policy.backends[&BackendName::new("theirs")];
    assert_eq!((theirs.capacity.machines, theirs.capacity.cpu), (Some(100), None));
}

#[test]
fn a_process_backend_has_what_the_host_has() {
    let capacity =
        |case: &str| parse(case).policy(&HOST).backends[&BackendName::new("here")].capacity;
    assert_eq!(capacity("").cpu, Some(Cpu::from_millis(2000)));
    assert_eq!(capacity("").memory, Some(Bytes::gib(8)));
    let told = capacity("backends: { here: { process: { capacity: { cpu: 0.5 } } } }");
    assert_eq!((told.cpu, told.memory), (Some(Cpu::from_millis(500)), Some(Bytes::gib(8))));
}

#[test]
fn paths_are_meant_from_the_files_own_directory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jitney.yaml");
    let text = "buildkite: { token_file: token }\nbackends:\n  here: { process: { agent: bin/buildkite-agent, agent_config: /etc/a.cfg } }\n  there: { process: {} }";
    std::fs::write(&file, complete(text)).unwrap();
    let config = Config::load(&file, &environment).unwrap();
    let token = format!("{:?}", config.buildkite.token);
    assert!(token.contains(&directory.path().join("token").display().to_string()), "{token}");
    let process = |name: &str| {
        let Kind::Process(process) = &config.backends[&BackendName::new(name)].kind else {
            panic!("{name} is of another kind");
        };
        process.clone()
    };
    assert_eq!(process("here").agent, directory.path().join("bin/buildkite-agent"));
    assert_eq!(process("here").agent_config, Some("/etc/a.cfg".into()));
    assert_eq!(process("there").agent, PathBuf::from("buildkite-agent"));
}

#[test]
fn places_where_we_write_are_meant_from_the_state_directory() {
    let state = Path::new("/var/lib/jitney");
    let check = |case: &str, journal: &str, builds: &str| {
        let config = parse(case);
        let Kind::Process(process) = &config.backends[&BackendName::new("here")].kind else {
            panic!("it is a process backend");
        };
        assert_eq!(config.store.journal_path(state), Path::new(journal));
        assert_eq!(process.directory_in(state), Path::new(builds));
    };
    check("", "/var/lib/jitney/jitney.db", "/var/lib/jitney/builds");
    let said = "store: { journal: j.db }\nbackends: { here: { process: { directory: /srv/b } } }";
    check(said, "/var/lib/jitney/j.db", "/srv/b");
}

#[test]
fn a_token_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let source = TokenSource::File(path.clone());
    let check = |expected: &str| {
        let got = match source.read_now() {
            Ok(token) => token.expose_secret().to_owned(),
            Err(error) => {
                assert!(!format!("{error} {error:?}").contains(PLANTED));
                error.to_string().replace(&path.display().to_string(), "FILE")
            }
        };
        assert_eq!(got, expected);
    };
    check("failed to read the token file FILE: No such file or directory (os error 2)");
    for text in ["", " \n", "bkct_planted bkct_planted", "bkct_planted\nmore"] {
        std::fs::write(&path, text).unwrap();
        check("the token file FILE does not hold one token");
    }
    std::fs::write(&path, "bkct_planted\n").unwrap();
    check(PLANTED);
}

#[test]
fn a_file_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, expected: &str| {
        let error = Config::load(&directory.path().join(name), &environment).unwrap_err();
        let problem = &error.problems()[0];
        assert!(problem.message.contains(expected), "{}", problem.message);
        assert!(!problem.remedy.is_empty());
    };
    std::fs::write(directory.path().join("long.yaml"), vec![b'#'; 2 << 20]).unwrap();
    std::fs::write(directory.path().join("bytes.yaml"), [b'a', 0xff]).unwrap();
    check("absent.yaml", "cannot be read: No such file");
    check("long.yaml", "has 2097152 bytes");
    check("bytes.yaml", "cannot be read: stream did not contain valid UTF-8");
}

#[test]
fn secrets_are_not_in_what_is_printed() {
    let text = "buildkite: { token: bkct_planted, api_token: bkct_planted, webhook_secret: bkct_planted }\n\
                access: { token: bkct_planted }\n\
                store: { redis: \"redis://:bkct_planted@a\" }\n\
                backends: { here: { http: { url: \"http://a\", token: bkct_planted } } }";
    let printed = format!("{:?}", parse(text));
    assert!(!printed.contains(PLANTED), "{printed}");
}
