//! Jobs that are lost with their machines: Buildkite is asked to run them again, once each, within
//! the budget of their build, and people learn which job takes whose place.

use std::time::Duration;

use jitney::api::Explained;
use planner::JobId;
use sandbox::Fault;
use sandbox::engine::{Job, NewApiToken, NewStep, State};
use sandbox::machines::Faults;
use uuid::Uuid;

use crate::shell_support::{Program, World};

const API_TOKEN: &str = "bkua_planted_secret";
const RETRY: &str = "/v2/organizations/{organization}/jobs/{job}/retry";
const RECORD: &str = "/v2/organizations/{organization}/jobs/{job}";
/// Buildkite gives an agent up that it has not heard of for this long.
const GIVEN_UP: Duration = Duration::from_secs(300);

/// So many machines die under their jobs.
async fn world(scopes: &[&str], per_build: u32, dying: u32) -> World {
    let mut world = World::with(|options| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let token = NewApiToken { scopes, ..NewApiToken::with_all_scopes(API_TOKEN) };
        options.settings.api_tokens = vec![token];
    })
    .await;
    world.buildkite = format!(
        "  api_endpoint: {}\n  api_token: {API_TOKEN}\n  organization: demo\n  \
         retry_lost: {{ jobs: true, per_build: {per_build} }}",
        world.sandbox.api_endpoint()
    );
    world.set_faults(&Faults { die_after_acquire: dying, ..Faults::default() }).await;
    world
}

const BOTH: [&str; 2] = ["read_builds", "write_builds"];

/// Waits until the losses are noticed, and lets Buildkite notice them, too.
async fn lose(world: &World, program: &Program, jobs: &[Uuid]) {
    program
        .until("the losses are noticed", |snapshot| {
            let noticed = |id: &Uuid| {
                let job = snapshot.jobs.iter().find(|job| job.id == JobId(*id));
                job.is_some_and(|job| {
                    job.moments.iter().any(|moment| moment.what.contains("lost under the job"))
                })
            };
            jobs.iter().all(noticed).then_some(())
        })
        .await;
    world.sandbox.advance(GIVEN_UP);
}

async fn successor(world: &World, job: Uuid) -> Uuid {
    world.until("it is retried", |engine| engine.job(job)?.retried_in).await
}

/// The job that takes its place has run, and the developer knows.
async fn runs_again(world: &World, job: Uuid) -> Uuid {
    let by = successor(world, job).await;
    assert!(world.ended(&[by]).await[0].outcome.is_success());
    told(world, job, &by.to_string()).await;
    by
}

async fn told(world: &World, job: Uuid, words: &str) {
    let says = |job: &Job| job.notifications.iter().any(|told| told.detail.contains(words));
    world.until("it is told", |engine| says(engine.job(job)?).then_some(())).await;
}

fn calls(world: &World, method: &str, route: &str) -> usize {
    let requests = world.sandbox.requests();
    requests.iter().filter(|call| call.method == method && call.route == route).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_job_runs_again_and_both_jobs_know_of_each_other() {
    let world = world(&BOTH, 5, 1).await;
    // Limits of the API hold back, and do no harm.
    let busy = Fault { route: RECORD.to_owned(), times: Some(1), ..Fault::default() };
    world.sandbox.add_fault(Fault { status: Some(429), retry_after: Some(1.0), ..busy });
    let program = world.start().await;
    let jobs = world.jobs(1);
    lose(&world, &program, &jobs).await;
    let by = runs_again(&world, jobs[0]).await;
    program.at_rest().await;
    let history = program.history().await;
    assert_eq!(history[&jobs[0]].replaced_by, Some(JobId(by)));
    assert_eq!(history[&by].replaces, Some(JobId(jobs[0])));
    let Some(Explained::Closed(closed)) = program.explain(jobs[0]).await else {
        panic!("it is in the history")
    };
    let story: Vec<&str> = closed.moments.iter().map(|moment| &*moment.what).collect();
    assert!(story.contains(&"asking Buildkite to retry it"), "{story:#?}");
    assert!(story.contains(&&*format!("job {by} takes its place")), "{story:#?}");
    assert_eq!(calls(&world, "PUT", RETRY), 1);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_whose_answer_was_lost_is_looked_up_and_not_repeated() {
    let world = world(&BOTH, 5, 1).await;
    let lost = Fault { route: RETRY.to_owned(), lose_reply: true, ..Fault::default() };
    world.sandbox.add_fault(Fault { times: Some(1), ..lost });
    let program = world.start().await;
    let jobs = world.jobs(1);
    lose(&world, &program, &jobs).await;
    runs_again(&world, jobs[0]).await;
    assert_eq!(calls(&world, "PUT", RETRY), 1);
    assert!(calls(&world, "GET", RECORD) >= 2);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_of_a_build_holds_and_outlives_a_kill() {
    let world = world(&BOTH, 1, 3).await;
    let program = world.start().await;
    let jobs = world.jobs(2);
    lose(&world, &program, &jobs).await;
    let retried =
        |engine: &sandbox::engine::Engine| jobs.iter().find_map(|job| engine.job(*job)?.retried_in);
    let by = world.until("one is retried", retried).await;
    let spent = "all of its 1 retries";
    let both_told = |engine: &sandbox::engine::Engine| {
        let told = |job: &&Uuid| {
            let of = engine.job(**job);
            of.is_some_and(|of| of.notifications.iter().any(|told| told.detail.contains(spent)))
        };
        (jobs.iter().filter(told).count() == 1).then_some(())
    };
    world.until("the other one is not", both_told).await;
    lose(&world, &program, &[by]).await;
    program.crash().await;
    let program = world.start().await;
    told(&world, by, spent).await;
    program.at_rest().await;
    assert_eq!(calls(&world, "PUT", RETRY), 1);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_an_alarm_and_is_not_tried_again() {
    let world = world(&["read_builds"], 5, 2).await;
    let program = world.start().await;
    let first = world.jobs(1);
    lose(&world, &program, &first).await;
    let alarm = program.until("the alarm", |seen| seen.alarms.first().cloned()).await;
    assert_eq!(alarm.kind, "api_denied");
    assert!(alarm.text.contains("write_builds"), "{alarm:?}");
    told(&world, first[0], "is not retried").await;
    let before = (calls(&world, "GET", RECORD), calls(&world, "PUT", RETRY));
    let second = world.jobs(1);
    lose(&world, &program, &second).await;
    told(&world, second[0], "is not retried").await;
    assert_eq!((calls(&world, "GET", RECORD), calls(&world, "PUT", RETRY)), before);
    let third = world.jobs(1);
    assert_eq!(world.ended(&third).await[0].state, State::Finished, "other work goes on");
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_by_a_rule_of_the_pipeline_is_linked_and_none_is_asked_for() {
    let world = world(&BOTH, 5, 1).await;
    let program = world.start().await;
    let jobs = world
        .build("steps: [{ command: x, retry: { automatic: [{ exit_status: -1, limit: 1 }] } }]");
    lose(&world, &program, &jobs).await;
    let by = successor(&world, jobs[0]).await;
    told(&world, jobs[0], &by.to_string()).await;
    program.at_rest().await;
    assert_eq!(program.history().await[&jobs[0]].replaced_by, Some(JobId(by)));
    assert_eq!(calls(&world, "PUT", RETRY), 0);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_end_by_themselves_are_not_asked_about() {
    let world = world(&BOTH, 5, 0).await;
    let program = world.start().await;
    let failing = NewStep::command("exit 3");
    let jobs = [world.jobs(2), world.build_steps(vec![failing])].concat();
    world.ended(&jobs).await;
    program.at_rest().await;
    assert_eq!(calls(&world, "GET", RECORD), 0);
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_takes_is_said_at_the_start() {
    let mut world = World::new().await;
    world.buildkite = "  retry_lost: { jobs: true }".into();
    let error = world.try_start().await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("needs buildkite.api_token"), "{error}");
    world.buildkite = format!("  api_token: {API_TOKEN}");
    let error = world.try_start().await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("needs buildkite.organization"), "{error}");
}
