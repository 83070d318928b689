//! A day's arrivals come when the day says, go as it says, and are summed up.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use sandbox::Sandbox;
use sandbox::engine::{Engine, State};
use sandbox::player::{Orders, Wire, play};
use sandbox::rehearsal::{Replay, read};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::rest::finish;
use crate::support::{Caller, TOKEN, start, until};

#[expect(clippy::disallowed_methods, reason = "agents take their clock as an argument")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Plays an agent for every job of the default queue that comes.
async fn dispatch(sandbox: &Sandbox) {
    let wire = Wire::new().unwrap();
    let mut agents = JoinSet::new();
    let mut taken = Vec::new();
    loop {
        let is_new = |engine: &Engine, id: Uuid| {
            let job = engine.job(id).expect("it was just listed");
            job.state == State::Scheduled && engine.queues()[job.queue].key == "default"
        };
        let next = sandbox.until(|engine| {
            let mut jobs = engine.builds().iter().flat_map(|build| build.jobs());
            jobs.find(|id| !taken.contains(id) && is_new(engine, *id))
        });
        let job = next.await;
        taken.push(job);
        let orders = Orders {
            endpoint: sandbox.endpoint(),
            token: TOKEN.into(),
            job,
            name: format!("agent-{job}"),
            tags: Vec::new(),
        };
        let wire = wire.clone();
        agents.spawn(async move {
            let stop = CancellationToken::new();
            play(&wire, &orders, now, &stop, |_| ControlFlow::Continue(())).await
        });
    }
}

const DAY: &str = r#"
# A minute in which everything happens that can.
{"at": 0, "runs_for": 5}
{"at": 0, "runs_for": 40, "pipeline": "web", "branch": "x", "priority": 3, "agents": {"cpu": 4}}
{"at": 10, "runs_for": 5, "exit_status": 7}
{"at": 15, "queue": "nobody", "cancel_after": 10}
{"at": 20, "runs_for": 9000, "cancel_after": 30}
{"at": 30, "runs_for": 5, "cancel_after": 5000}
{"at": 40, "queue": "nobody", "pipeline": "odd"}
"#;

#[tokio::test]
async fn a_day_goes_as_it_says_and_is_summed_up() {
    let sandbox = start().await;
    Caller::new(&sandbox, TOKEN).stack("a").await;
    let mut replay = Replay::new(read(DAY).unwrap(), 50.0);
    let odd = |engine: &Engine| {
        let build = engine.builds().iter().find(|build| build.pipeline == "odd");
        build.and_then(|build| build.jobs().next())
    };
    let spoil = async {
        let job = until(&sandbox, "the odd job comes", odd).await;
        sandbox.engine(|engine, now| engine.cancel_job(job, now)).unwrap();
        std::future::pending().await
    };
    let began = std::time::Instant::now();
    tokio::select! {
        played = replay.run(&sandbox) => played.unwrap(),
        () = dispatch(&sandbox) => unreachable!("it goes on for ever"),
        () = spoil => unreachable!("it waits for ever"),
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_000), "the last cancel is due after 50 s: {took:?}");
    assert!(took < Duration::from_secs(60), "a cancel of what has ended is not waited for");
    let summary = sandbox.engine(|engine, _| replay.summary(engine));
    let ends = (summary.passed, summary.failed, summary.cancelled, summary.otherwise);
    assert_eq!(ends, (3, 1, 2, 1), "{summary:?}");
    assert_eq!((summary.arrivals, summary.came, summary.open), (7, 7, 0));
    assert!(!summary.is_as_planned());
    assert_eq!((summary.odd[0].state, summary.odd[0].exit_status), (State::Canceled, None));
    assert_eq!((summary.waits.started, summary.queues["default"].jobs), (5, 5));
    assert_eq!((summary.queues["nobody"].waits.started, summary.queues["nobody"].jobs), (0, 2));
    assert!(summary.waits.p50 <= summary.waits.p95 && summary.waits.p95 <= summary.waits.max);
    assert!((2..=5).contains(&summary.most_running), "{summary:?}");
    sandbox.engine(|engine, _| {
        let web = engine.builds().iter().find(|build| build.pipeline == "web").unwrap();
        let job = engine.job(web.jobs().next().unwrap()).unwrap();
        assert_eq!(web.branch, "x");
        assert_eq!(job.rules, ["queue=default", "cpu=4"]);
        assert_eq!((job.command.priority, &job.command.env), (3, &played("0.800", "0")));
        let took = job.finished_at.unwrap().duration_since(job.started_at.unwrap());
        assert!(took.as_millis() >= 800, "40 s, 50 times faster: {took:?}");
    });
}

fn played(seconds: &str, exit: &str) -> BTreeMap<String, String> {
    [("PLAY_SECONDS", seconds), ("PLAY_EXIT", exit)].map(|(k, v)| (k.into(), v.into())).into()
}

#[tokio::test]
async fn a_job_that_is_retried_has_ended_when_its_retry_has() {
    let sandbox = start().await;
    Caller::new(&sandbox, TOKEN).stack("a").await;
    let mut replay = Replay::new(read(r#"{"at": 0}"#).unwrap(), 1.0);
    let mend = async {
        let first = until(&sandbox, "the job comes", |engine| {
            engine.builds().first().and_then(|build| build.jobs().next())
        })
        .await;
        let again = sandbox.engine(|engine, now| {
            engine.cancel_job(first, now)?;
            engine.retry_job(first, now)
        });
        finish(&sandbox, again.unwrap(), 0).await;
        std::future::pending().await
    };
    tokio::select! {
        played = replay.run(&sandbox) => played.unwrap(),
        () = mend => unreachable!("it waits for ever"),
    }
    let summary = sandbox.engine(|engine, _| replay.summary(engine));
    assert_eq!((summary.passed, summary.retried, summary.otherwise), (1, 1, 0));
    assert!(summary.is_as_planned());
}

#[tokio::test]
async fn the_day_begins_with_the_first_stack_and_can_be_summed_up_at_any_time() {
    let sandbox = start().await;
    let day = r#"{"at": 0}
{"at": 0.2, "queue": "later"}
{"at": 86400}"#;
    let mut replay = Replay::new(read(day).unwrap(), 1.0);
    let first = async {
        let came = |engine: &Engine| engine.builds().len();
        assert_eq!(sandbox.engine(|engine, _| came(engine)), 0, "nobody would see it");
        Caller::new(&sandbox, TOKEN).stack("a").await;
        until(&sandbox, "two jobs come", |engine| (came(engine) == 2).then_some(())).await;
    };
    tokio::select! {
        biased;
        played = replay.run(&sandbox) => panic!("the day is not over: {played:?}"),
        () = first => {}
    }
    let summary = sandbox.engine(|engine, _| replay.summary(engine));
    assert_eq!((summary.arrivals, summary.came, summary.open), (3, 2, 2));
    assert!(!summary.is_as_planned());
    // What the controls have made the sandbox forget is missed, and breaks nothing.
    Caller::new(&sandbox, TOKEN).post("/_sandbox/reset", json!({})).await;
    let summary = sandbox.engine(|engine, _| replay.summary(engine));
    assert_eq!((summary.open, summary.otherwise), (0, 2));
}
