//! `jitney route` in real builds: a step of each uploads a pipeline through it by the real agent, and
//! its jobs run in the queue that the share says, or the build's environment.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;

use sandbox::engine::{Checkout, Engine, Job, NewBuild};
use sandbox::{Repository, pipeline};
use uuid::Uuid;

use crate::shell_process::agents;
use crate::shell_support::World;

/// Two queues, both served by processes with this agent, and the file that builds upload.
async fn world(agent: &Path) -> World {
    let repository = Repository::create().expect("git is here");
    let url = repository.url();
    let mut world = World::with(|options| {
        options.settings.checkout = Checkout::Repository(url);
        options.settings.clusters[0].queues = vec!["default".to_owned(), "stateless".to_owned()];
    })
    .await;
    world.repository = Some(repository);
    world.queues = "{ default: { backends: [there] }, stateless: { backends: [there] } }".into();
    let folder = world.folder.path();
    world.backends = format!(
        "there: {{ process: {{ agent: {}, directory: {} }} }}",
        agent.display(),
        folder.join("builds").display()
    );
    let text = "# What the team has.\nsteps:\n  - label: uploaded\n    command: echo done\n";
    std::fs::write(folder.join("pipeline.yml"), text).unwrap();
    world
}

/// A build whose two steps each upload the file, with this share in the other queue.
fn build(world: &World, share: u32, environment: &[(&str, &str)]) -> Uuid {
    let command = format!(
        "{} route --to stateless={share}% < {} | buildkite-agent pipeline upload",
        env!("CARGO_BIN_EXE_jitney"),
        world.folder.path().join("pipeline.yml").display()
    );
    let yaml = format!("steps: [{{ command: '{command}' }}, {{ command: '{command}' }}]");
    let steps = pipeline::from_yaml(&yaml).unwrap();
    let env = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let env = env.collect();
    world.sandbox.engine(|engine, now| {
        let new = NewBuild { pipeline: "web".to_owned(), steps, env, ..NewBuild::default() };
        engine.create_build(new, now).unwrap()
    })
}

/// What became of a build: what its uploads said, and the queues of what they uploaded.
fn outcome(engine: &Engine, build: Uuid) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
    let of = engine.build(build).unwrap();
    if !of.state.is_terminal() {
        return None;
    }
    let jobs: Vec<&Job> = of.jobs().filter_map(|id| engine.job(id)).collect();
    assert_eq!(jobs.len(), 4, "{jobs:#?}");
    assert!(jobs.iter().all(|job| job.outcome.exit_status == Some(0)), "{jobs:#?}");
    let (mut said, mut queues) = (BTreeSet::new(), BTreeSet::new());
    for job in jobs {
        if job.label == "uploaded" {
            queues.insert(engine.queues()[job.queue].key.clone());
        } else {
            let log = job.log.text();
            let line = log.lines().find(|line| line.contains("jitney route: ")).expect("it says");
            said.insert(line.split("jitney route: ").last().unwrap().trim().to_owned());
        }
    }
    Some((said, queues))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_real_builds_moves_and_a_variable_overrules_it() {
    let Some(agent) = agents().into_iter().next() else { return };
    let world = world(&agent).await;
    let program = world.start().await;
    let halves: Vec<Uuid> = (0..3).map(|_| build(&world, 50, &[])).collect();
    let moved = build(&world, 0, &[("JITNEY_ROUTE", "stateless")]);
    let kept = build(&world, 100, &[("JITNEY_ROUTE", "off")]);
    for half in halves {
        let (said, queues) = world.until("the build ends", |engine| outcome(engine, half)).await;
        // Both uploads say the same, and both went where they say.
        let said: Vec<String> = said.into_iter().collect();
        let [said] = said.as_slice() else { panic!("one decision for a build: {said:?}") };
        let at = said.split("the build is at ").last().unwrap().split(' ').next().unwrap();
        let at: f64 = at.parse().unwrap_or_else(|error| panic!("{error}: {said}"));
        let expected = if at < 50.0 { "stateless" } else { "default" };
        assert_eq!(queues.into_iter().collect::<Vec<_>>(), [expected], "{said}");
    }
    for (build, queue, words) in [
        (moved, "stateless", "1 step moves from default to stateless; JITNEY_ROUTE says so"),
        (kept, "default", "1 step stays in default; JITNEY_ROUTE says so"),
    ] {
        let (said, queues) = world.until("the build ends", |engine| outcome(engine, build)).await;
        assert_eq!(queues.into_iter().collect::<Vec<_>>(), [queue], "{said:?}");
        assert_eq!(said.into_iter().collect::<Vec<_>>(), [words]);
    }
    program.at_rest().await;
    program.stop().await;
}
