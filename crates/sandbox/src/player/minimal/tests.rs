//! What the settings make of arguments and environment. Jobs are run in the integration tests.

use super::*;

#[track_caller]
fn check(args: &str, env: &str, expected: &str) {
    let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
    let env = env
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let shown = match settings::read(&args, env) {
        Err(words) => format!("error: {words}"),
        Ok(Asked::Version(version)) => version,
        Ok(Asked::Start(s)) => {
            let inherited = s.inherited.keys().cloned().collect::<Vec<_>>().join(",");
            format!(
                "{} {} {} {:?} +{inherited}",
                s.name,
                s.endpoint,
                s.build_path.display(),
                s.tags
            )
        }
    };
    assert_eq!(shown, expected);
}

const ALL: &str = "BUILDKITE_AGENT_TOKEN=t BUILDKITE_AGENT_ENDPOINT=http://x BUILDKITE_AGENT_ACQUIRE_JOB=0199c0de-1111-7000-8000-000000000001 BUILDKITE_BUILD_PATH=/b BUILDKITE_AGENT_NAME=n PATH=/bin";

#[test]
fn settings() {
    check("start", ALL, "n http://x /b [] +PATH");
    check(
        "start --name m --tags=a=1,b=2 --no-color",
        ALL,
        "m http://x /b [\"a=1\", \"b=2\"] +PATH",
    );
    check("start --name", ALL, "error: --name needs a value");
    check("start --acquire-job seven", ALL, "error: `seven` is no job's id");
    check("start", "", "error: neither --token nor BUILDKITE_AGENT_TOKEN is set");
    check(
        "annotate hello",
        ALL,
        "error: it has no `annotate`, only `start`: install the real agent",
    );
    check("", ALL, "error: say `start`");
    check("--version", "", concat!("buildkite-agent version minimal-", env!("CARGO_PKG_VERSION")));
}
