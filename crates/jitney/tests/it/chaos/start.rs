//! Starts that cannot work end with a code that a service manager understands; a Buildkite that
//! does not answer is waited for. What the words are is tested with the shell.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::OutageKind;
use tokio::net::TcpListener;

use super::program::{PATIENCE, run};
use super::world::{TOKEN, World, each_ran_once};

/// Refused: the same again would fail the same, so that nobody restarts it.
const REFUSED: i32 = 2;
const FAILED: i32 = 1;

async fn check(world: &World, code: i32, words: &[&str]) {
    let mut process = run(&world.config(), world.folder.path());
    let status = process.ended(PATIENCE).await;
    // The stream closes a moment after the process has ended.
    for words in words {
        process.err.says(words).await;
    }
    assert_eq!(status.code(), Some(code), "{}", process.err.text());
}

async fn a_token_that_is_refused_at_the_start_ends_it() {
    let world = World::with(|options| {
        options.settings.clusters[0].token = "bkct_another".to_owned();
    })
    .await;
    check(&world, REFUSED, &["Buildkite does not know our token", "buildkite.token"]).await;
}

async fn a_token_without_a_cluster_ends_it() {
    let world = World::with(|options| {
        options.settings.clusters[0].token = "bkct_another".to_owned();
        options.settings.unclustered_token = Some(TOKEN.to_owned());
    })
    .await;
    check(&world, REFUSED, &["belongs to no cluster", "use an agent token of a cluster"]).await;
}

async fn an_organisation_without_job_tokens_ends_it() {
    let world = World::with(|options| options.settings.job_tokens = false).await;
    check(&world, REFUSED, &["job_tokens: optional"]).await;
}

async fn a_port_that_is_taken_ends_it() {
    let mut world = World::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.listen = taken.local_addr().unwrap().to_string();
    check(&world, FAILED, &[&world.listen, "another with listen"]).await;
}

async fn a_journal_that_is_in_use_ends_the_second() {
    let world = World::new().await;
    let program = world.start().await;
    let holder = format!("in use by process {}", program.process.pid());
    check(&world, FAILED, &[&holder, "another store.journal"]).await;
    program.stop().await;
}

async fn an_endpoint_out_of_reach_is_tried_until_it_answers() {
    let world = World::new().await;
    world.sandbox.begin_outage(OutageKind::Drop, Duration::from_secs(3600));
    let jobs = world.jobs(3, 0.0);
    let program = world.start().await;
    program.process.err.says("failed to check the token; trying again").await;
    let (status, readiness) = program.readiness().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!readiness.ready && readiness.missing[0].contains("default"), "{readiness:?}");
    assert_eq!(program.get("/healthz").await.0, StatusCode::OK, "it lives");
    world.sandbox.clear_faults();
    each_ran_once(&world.ended(&jobs).await);
    assert_eq!(program.readiness().await.0, StatusCode::OK);
    program.at_rest().await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_work_ends_with_its_code_and_one_that_can_waits() {
    tokio::join!(
        a_token_that_is_refused_at_the_start_ends_it(),
        a_token_without_a_cluster_ends_it(),
        an_organisation_without_job_tokens_ends_it(),
        a_port_that_is_taken_ends_it(),
        a_journal_that_is_in_use_ends_the_second(),
        an_endpoint_out_of_reach_is_tried_until_it_answers(),
    );
}
