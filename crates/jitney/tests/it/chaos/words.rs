//! A cause that is known reaches the developer in Buildkite within 2 s, as a notification while
//! the job waits and as the reason when it cannot run.

use backends::Class;
use jiff::{SignedDuration, Timestamp};
use sandbox::engine::{EventKind, Job, NewStep, StepKind};
use sandbox::machines::{Faults, Refusal};

use super::world::{World, each_ran_once};

const PROMISED: SignedDuration = SignedDuration::from_secs(2);

fn check(what: &str, known: Timestamp, told: Timestamp) {
    let took = told.duration_since(known);
    assert!(took <= PROMISED, "{what}: told {took:#} after it was known");
}

async fn told(world: &World, jobs: &[uuid::Uuid], words: &str) -> Timestamp {
    world
        .until(words, |engine| {
            let told = &engine.job(jobs[0])?.notifications;
            told.iter().find(|told| told.detail.contains(words)).map(|_| ())
        })
        .await;
    // When it arrived: its own time is when it was decided.
    world.sandbox.now()
}

async fn a_refused_create() {
    let world = World::new().await;
    let refusal = Refusal {
        class: Class::Capacity,
        times: 1,
        message: Some("no room for anybody".to_owned()),
        retry_after_s: None,
        place: None,
    };
    world.set_faults(&Faults { refuse: Some(refusal), ..Faults::default() }).await;
    let program = world.start().await;
    let jobs = world.jobs(1, 0.0);
    let at = told(&world, &jobs, "no room for anybody").await;
    let refused = world.log().await.into_iter().find(|noted| noted.outcome == "refused").unwrap();
    check("a refused create", refused.at, at);
    each_ran_once(&world.ended(&jobs).await);
    program.at_rest().await;
    program.stop().await;
}

async fn a_limit() {
    let mut world = World::new().await;
    world.queue = "    limits: { machines: 0 }".to_owned();
    let program = world.start().await;
    program.ready().await;
    let before = world.sandbox.now();
    let jobs = world.jobs(1, 0.0);
    check("a limit", before, told(&world, &jobs, "limit").await);
    program.stop().await;
}

async fn a_tag_that_does_not_parse() {
    let world = World::new().await;
    let program = world.start().await;
    program.ready().await;
    let before = world.sandbox.now();
    let mut step = NewStep::command("never");
    if let StepKind::Command(command) = &mut step.kind {
        command.agents.push(("memory".to_owned(), "64GB!".to_owned()));
    }
    let ended: Vec<Job> = world.ended(&world.build_steps(vec![step])).await;
    let detail = ended[0].detail.clone().unwrap_or_default();
    assert!(detail.contains("memory=64GB!"), "{detail}");
    assert!(ended[0].events.iter().any(|event| event.kind == EventKind::StackErrored));
    check("a tag that does not parse", before, ended[0].finished_at.unwrap());
    program.at_rest().await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_that_is_known_is_told_within_2_s() {
    tokio::join!(a_refused_create(), a_limit(), a_tag_that_does_not_parse());
}
