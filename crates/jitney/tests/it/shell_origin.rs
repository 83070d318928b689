//! Policies that ask where a build comes from: one look at the jobs that it matters for, and what
//! happens while nobody tells.

use jitney::api::Explained;
use planner::Reason;
use sandbox::engine::{Job, NewBuild, PullRequest, State};
use sandbox::{Fault, pipeline};
use uuid::Uuid;

use crate::shell_support::World;

const LOOK: &str = "/v3/stacks/{key}/jobs/{id}";

/// The queue gives 8 vCPU, and a fork's job may have 4.
async fn world() -> World {
    let mut world = World::new().await;
    world.queues = "{ default: { backends: [there], defaults: { cpu: 8 } } }".into();
    world.more = "policies: [{ match: { pipeline: web, fork: true }, largest: { cpu: 4 } }]".into();
    world
}

fn build(world: &World, yaml: &str, repository: Option<&str>) -> Vec<Uuid> {
    world.sandbox.engine(|engine, now| {
        let pull_request =
            repository.map(|from| PullRequest { id: 7, repository: from.to_owned() });
        let steps = pipeline::from_yaml(yaml).expect("it is a pipeline");
        let pipeline = "web".to_owned();
        let new = NewBuild { pipeline, steps, pull_request, ..NewBuild::default() };
        let build = engine.create_build(new, now).expect("it has steps");
        engine.build(build).expect("it was created").jobs().collect()
    })
}

/// How often each of these jobs was looked at.
fn looks(world: &World, jobs: &[Uuid]) -> Vec<usize> {
    let requests = world.sandbox.requests();
    let of = |job: &Uuid| {
        let path = format!("/jobs/{job}");
        let looks = requests.iter().filter(|request| request.route == LOOK);
        looks.filter(|request| request.path.ends_with(&path)).count()
    };
    jobs.iter().map(of).collect()
}

fn look_fails(status: u16, times: Option<u32>) -> Fault {
    let message = Some("no environment for you".to_owned());
    Fault { route: LOOK.to_owned(), status: Some(status), message, times, ..Fault::default() }
}

/// What the developer is told of a policy that counts though nobody knows. It may come after the
/// job's end.
async fn told(world: &World, job: Uuid) -> String {
    let about = |job: &Job| {
        let words = job.notifications.iter().map(|told| &told.detail);
        words.into_iter().find(|words| words.contains("not known")).cloned()
    };
    world.until("it is told", |engine| about(engine.job(job)?)).await
}

const FORK: Option<&str> = Some("git://git.example/kim/web.git");

#[tokio::test(flavor = "multi_thread")]
async fn one_look_decides_and_only_where_a_policy_asks() {
    let world = world().await;
    let steps = "steps: [{ command: a, agents: { cpu: 6 } }, { command: b, agents: { cpu: 2 } }]";
    let fork = build(&world, steps, FORK);
    let own = build(&world, steps, None);
    let program = world.start().await;
    let ended = world.ended(&[fork.clone(), own.clone()].concat()).await;
    let detail = ended[0].detail.clone().unwrap_or_default();
    assert!(detail.contains("the policy on pipeline web, forks allows at most 4 vCPU"), "{detail}");
    assert!(ended[1..].iter().all(|job| job.outcome.is_success()), "{ended:#?}");
    assert_eq!(looks(&world, &fork), [1, 0], "two vCPU are within every policy");
    assert_eq!(looks(&world, &own), [1, 0]);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_buildkite_does_not_tell_counts_as_stricter_and_is_told() {
    let world = world().await;
    world.sandbox.add_fault(look_fails(403, None));
    let program = world.start().await;
    let jobs = build(&world, "steps: [{ command: a }, { command: b, agents: { cpu: 6 } }]", None);
    let ended = world.ended(&jobs).await;
    assert!(ended[0].outcome.is_success(), "{:#?}", ended[0]);
    let words = told(&world, jobs[0]).await;
    assert!(words.contains("no environment for you"), "{words}");
    let detail = ended[1].detail.clone().unwrap_or_default();
    assert!(detail.contains("origin is unknown: read the job: no environment"), "{detail}");
    program.at_rest().await;
    let Some(Explained::Closed(closed)) = program.explain(jobs[0]).await else {
        panic!("it is in the history")
    };
    let story = format!("{:?}", closed.moments);
    assert!(story.contains("4 vCPU") && story.contains("count as if they did"), "{story}");
    assert_eq!(looks(&world, &jobs), [1, 1], "a refusal is not asked for again");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_fails_is_repeated_and_others_do_not_wait_for_it() {
    let world = world().await;
    world.sandbox.add_fault(look_fails(500, None));
    let program = world.start().await;
    let asked = build(&world, "steps: [{ command: a, agents: { cpu: 6 } }]", None);
    let waiting = program
        .until("the failure is told", |snapshot| {
            let words =
                |reason: &Reason| matches!(reason, Reason::LookingUp { words: Some(_), .. });
            snapshot.waiting.iter().find(|waiting| words(&waiting.reason)).cloned()
        })
        .await;
    assert!(waiting.text.contains("Policy 1 asks where its build comes from"), "{waiting:?}");
    let others = build(&world, "steps: [{ command: a, agents: { cpu: 2 } }]", None);
    assert_eq!(world.ended(&others).await[0].state, State::Finished);
    world.sandbox.clear_faults();
    let ended = world.ended(&asked).await;
    assert!(ended[0].outcome.is_success(), "{ended:#?}");
    assert!(looks(&world, &asked)[0] > 1);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_that_fail_too_often_do_not_hold_a_job_for_ever() {
    let world = world().await;
    world.sandbox.add_fault(look_fails(500, None));
    let program = world.start().await;
    let jobs = build(&world, "steps: [{ command: a }]", None);
    let ended = world.ended(&jobs).await;
    assert!(ended[0].outcome.is_success(), "{ended:#?}");
    told(&world, jobs[0]).await;
    assert_eq!(looks(&world, &jobs), [5]);
    program.stop().await;
}
