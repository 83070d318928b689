//! The `process` backend with real agents, the newest and the oldest. Where one is absent this
//! says so, and fails where `CI=true`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backends::conformance::{self, MARK, Subject, until};
use backends::{Backend, Future, MachineEnd, Order, Phase};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::api::Api;
use crate::place::{Place, STAYS, alive_below, not_tested};

#[expect(clippy::disallowed_methods, reason = "where the real agents are is told from outside")]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Both agents, as far as they are here.
fn agents() -> Vec<PathBuf> {
    let found = [("JITNEY_AGENT_3_137", "3.137"), ("JITNEY_AGENT_3_52", "3.52")].map(
        |(variable, version)| {
            let found = var(variable).map(PathBuf::from).or_else(|| cached(version));
            if found.is_none() {
                assert!(var("CI").as_deref() != Some("true"), "no buildkite-agent {version}");
                not_tested(&format!(
                    "buildkite-agent {version} is not here; run `tools/real-parts agents` or set \
                     {variable}"
                ));
            }
            found
        },
    );
    found.into_iter().flatten().collect()
}

fn cached(version: &str) -> Option<PathBuf> {
    let base = var("JITNEY_CACHE").map(PathBuf::from).or_else(|| {
        let base = var("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache")));
        base.map(|base| base.join("jitney"))
    })?;
    let entries = fs::read_dir(base.join("buildkite-agent")).ok()?;
    let of_version = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(version))
        .map(|entry| entry.path().join("buildkite-agent"));
    of_version.filter(|path| path.is_file()).max()
}

/// A place with a real agent and a job for it. A hook stands for the checkout, as old agents
/// cannot leave it out.
async fn place(agent: PathBuf, command: &str) -> (Place, Api, Order) {
    let mut place = Place::new(STAYS);
    let hooks = place.path().join("hooks");
    fs::create_dir(&hooks).expect("a directory");
    let hook = hooks.join("checkout");
    fs::write(&hook, "#!/bin/sh\necho the hook has run\n").expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a program");
    let config = place.path().join("buildkite-agent.cfg");
    let text = format!("name=\"of the file\"\nspawn=3\nhooks-path=\"{}\"\n", hooks.display());
    fs::write(&config, text).expect("a configuration");
    place.options.agent = agent;
    place.options.agent_config = Some(config);
    place.options.grace = Duration::from_secs(15);
    let api = Api::serve(command).await;
    let mut order = conformance::order(&place, MARK);
    order.endpoint.clone_from(&api.endpoint);
    // One of its own: root sees the processes of all tests.
    order.token = SecretString::from(format!("bkjat_real_{}", order.labels.job.as_simple()));
    (place, api, order)
}

/// A place whose machines run a job that ends when it is told to.
struct Real(Place, Api);

/// Jobs do not know what their machine is called, but where they are.
const STAYS_TOO: &str = r#"fifo="$PLAY/$(basename "$(dirname "$BUILDKITE_BUILD_PATH")")"
mkfifo "$fifo" && read -r code < "$fifo" && exit "$code""#;

impl Subject for Real {
    fn backend(&self, mark: &str) -> Arc<dyn Backend> {
        self.0.backend(mark)
    }

    fn end<'a>(&'a self, name: &'a str) -> Future<'a, ()> {
        self.0.end(name)
    }

    fn leaves_within(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Each starts four programs, and other tests want the processors too.
    fn at_once(&self) -> usize {
        8
    }

    fn adjust(&self, order: &mut Order) {
        order.endpoint.clone_from(&self.1.endpoint);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    for agent in agents() {
        let (place, api, _) = place(agent, STAYS_TOO).await;
        let real = Real(place, api);
        conformance::run(&real).await;
        assert_eq!(alive_below(real.0.path()).len(), 0);
    }
}

async fn ended(place: &Place, order: &Order) -> MachineEnd {
    let machine = until(&place.process(), &order.name, "ended", |machine| {
        machine.is_some_and(|machine| machine.phase == Phase::Ended)
    })
    .await
    .expect("a machine");
    assert!(machine.connected_at.is_some(), "that it registered was seen: {machine:?}");
    *machine.ended.expect("an end")
}

#[tokio::test]
async fn a_job_runs_sees_no_token_and_the_agent_does_not_linger() {
    for agent in agents() {
        // Agents run commands with `bash -e`, and some process is always gone when it is read.
        let command = "cat /proc/*/environ > $HOME/environs 2>/dev/null || true; env > $HOME/env";
        let (place, api, order) = place(agent.clone(), command).await;
        place.process().create(&order).await.expect("create");
        let end = ended(&place, &order).await;
        let since = Instant::now();
        let finish = api.finish().unwrap_or_else(|| panic!("{end:?} {:?}", api.calls()));
        assert_eq!(finish["exit_status"], "0", "{agent:?}: {finish} {end:?}");
        assert_eq!(end.cause, "the agent exited with 0", "{agent:?} {end:?}");
        assert!(api.calls().contains(&"POST disconnect".to_owned()), "{:?}", api.calls());
        let read = |name| {
            let bytes = fs::read(place.path().join(name)).expect("the job wrote it");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (environs, env) = (read("environs"), read("env"));
        assert!(
            !environs.contains(order.token.expose_secret()),
            "{agent:?} shows its token to the job"
        );
        assert!(environs.contains("bkaj_play"), "the job's own token is there, so it was looked");
        assert!(!env.contains("CARGO_PKG_NAME"), "our environment leaks: {env}");
        assert!(
            env.contains(&format!("BUILDKITE_BUILD_PATH={}", place.machine(&order.name).display()))
        );
        place.process().delete(&order.name).await.expect("delete");
        assert!(!place.machine(&order.name).exists());
        assert!(since.elapsed() < Duration::from_secs(5));
        assert_eq!(alive_below(&place.machine(&order.name)).len(), 0);
    }
}

#[tokio::test]
async fn a_delete_ends_a_running_job_and_what_it_forked_away() {
    for agent in agents() {
        let command = "setsid -f sleep 300 < /dev/null > /dev/null 2>&1; sleep 300";
        let (place, api, order) = place(agent.clone(), command).await;
        let backend = place.process();
        backend.create(&order).await.expect("create");
        api.started().await;
        backend.delete(&order.name).await.expect("delete");
        assert!(!place.machine(&order.name).exists());
        assert_eq!(alive_below(&place.machine(&order.name)).len(), 0);
        if let Some(finish) = api.finish() {
            assert_eq!(finish["signal_reason"], "agent_stop", "{agent:?}: {finish}");
        }
    }
}
