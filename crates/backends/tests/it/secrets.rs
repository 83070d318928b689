//! What a job can see and what stays behind: the token in no argument, no file and no report, and
//! nothing of the environment that Jitney runs in.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use backends::conformance::{self, MARK, until};
use backends::{Backend, Phase};

use crate::place::{Place, write_agent};

const TOKEN: &str = "bkjat_conformance";
/// Writes down what it got, and says its token aloud, as an agent in debug mode might.
const TELLS: &str = r#"cat /proc/$$/environ > "$PLAY/environ"; cat "$BUILDKITE_AGENT_CONFIG" > "$PLAY/config"
cat "$BUILDKITE_AGENT_CONFIG" > "$PLAY/config-again"; cat /proc/*/cmdline > "$PLAY/arguments" 2> /dev/null
ls "$(dirname "$BUILDKITE_BUILD_PATH")" > "$PLAY/files"; touch "$TMPDIR/job-env-1"
echo "token is $BUILDKITE_AGENT_TOKEN"; cat "$PLAY/config"; exit 1"#;

async fn told(place: &Place) -> String {
    let backend = place.process();
    let order = conformance::order(place, MARK);
    backend.create(&order).await.expect("create");
    let machine = until(&backend, &order.name, "ended", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Ended)
    });
    let end = machine.await.and_then(|machine| machine.ended).expect("an end");
    assert_eq!(end.cause, "the agent exited with 1");
    assert!(!place.played("arguments").contains(TOKEN), "it is in an argument");
    assert!(!place.played("files").contains("token"), "{}", place.played("files"));
    nowhere(&place.options.directory);
    end.log_tail
}

/// No file below holds the token.
fn nowhere(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            nowhere(&path);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
            assert!(!text.contains(TOKEN), "{} holds the token", path.display());
        }
    }
}

#[tokio::test]
async fn new_agents_get_the_token_by_environment_and_it_is_nowhere_else() {
    let place = Place::new(TELLS);
    let log = told(&place).await;
    assert!(log.contains("token is [redacted]"), "{log}");
    assert!(place.played("environ").contains(&format!("BUILDKITE_AGENT_TOKEN={TOKEN}\0")));
    assert_eq!(place.played("config"), "", "the host's own configuration is not used");
}

#[tokio::test]
async fn old_agents_get_the_token_through_a_pipe_with_the_operators_configuration() {
    let mut place = Place::new(TELLS);
    write_agent(&place.options.agent, "buildkite-agent version 3.52.0, build 1", TELLS);
    let config = place.path().join("buildkite-agent.cfg");
    fs::write(&config, "token=\"bkct_of_the_cluster\"\nhooks-path=\"/hooks\"").expect("written");
    place.options.agent_config = Some(config);
    let users =
        if rustix::process::getuid().is_root() { vec![None, Some("nobody")] } else { vec![None] };
    for user in users {
        place.options.user = user.map(str::to_owned);
        for stale in ["config", "config-again"] {
            let _ = fs::remove_file(place.play(stale));
        }
        let log = told(&place).await;
        assert!(log.contains("token=\"[redacted]\""), "{log}");
        assert!(!place.played("environ").contains(TOKEN), "it is in the environment");
        let expected =
            format!("token=\"bkct_of_the_cluster\"\nhooks-path=\"/hooks\"\ntoken=\"{TOKEN}\"\n");
        assert_eq!(place.played("config"), expected, "the last of two wins");
        assert_eq!(place.played("config-again"), "", "it can be read once");
    }
}

#[tokio::test]
async fn nothing_of_our_environment_reaches_a_job() {
    let place = Place::new(TELLS);
    told(&place).await;
    let environ = place.played("environ");
    let names: BTreeSet<&str> =
        environ.split('\0').filter_map(|one| Some(one.split_once('=')?.0)).collect();
    let ours = ["PATH", "HOME", "PLAY", "TMPDIR", "JITNEY_MACHINE"];
    let agents = [
        "BUILDKITE_AGENT_TOKEN",
        "BUILDKITE_AGENT_CONFIG",
        "BUILDKITE_AGENT_ENDPOINT",
        "BUILDKITE_AGENT_ACQUIRE_JOB",
        "BUILDKITE_AGENT_NAME",
        "BUILDKITE_AGENT_TAGS",
        "BUILDKITE_AGENT_SPAWN",
        "BUILDKITE_AGENT_NO_COLOR",
        "BUILDKITE_BUILD_PATH",
        "BUILDKITE_PLUGINS_PATH",
    ];
    // The test itself runs with many more (cargo's), so that one that leaked would show.
    assert!(std::env::vars_os().any(|(name, _)| !names.contains(&*name.to_string_lossy())));
    assert_eq!(names, ours.into_iter().chain(agents).collect::<BTreeSet<_>>());
}
