//! How a build goes on: waits, blocks, dependencies, groups, retries, cancels.

use std::time::Duration;

use sandbox::engine::{
    BuildState, Command, Concurrency, ConcurrencyMethod, Dependency, ExitMatch, Form, NewStep,
    RetryRule, SoftFail, State, StepKind,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Caller, TOKEN, build, run, start, states, step};

fn keyed(key: &str) -> NewStep {
    NewStep { key: Some(key.to_owned()), ..NewStep::command("true") }
}

fn after(keys: &[&str]) -> NewStep {
    let all = keys.iter().map(|key| Dependency { step: (*key).to_owned(), allow_failure: false });
    NewStep { depends_on: Some(all.collect()), ..NewStep::command("true") }
}

#[tokio::test]
async fn a_wait_lets_on_when_all_above_have_passed() {
    let sandbox = start().await;
    let steps = vec![keyed("a"), keyed("b"), NewStep::wait(), keyed("c"), after(&["b"])];
    let (id, jobs) = build(&sandbox, steps);
    let all = |of: [&'static str; 4]| of.to_vec();
    let waiting = all(["scheduled", "scheduled", "waiting", "waiting"]);
    assert_eq!(states(&sandbox, id), (BuildState::Scheduled, waiting));
    run(&sandbox, jobs[1], 0);
    let explicit = all(["scheduled", "finished", "waiting", "scheduled"]);
    assert_eq!(states(&sandbox, id), (BuildState::Running, explicit), "the wait is passed by");
    run(&sandbox, jobs[0], 0);
    assert_eq!(states(&sandbox, id).1[2], "scheduled");
    run(&sandbox, jobs[2], 0);
    run(&sandbox, jobs[3], 0);
    assert_eq!(states(&sandbox, id).0, BuildState::Passed);
}

#[tokio::test]
async fn a_failure_stops_at_the_wait_unless_it_goes_on() {
    let sandbox = start().await;
    let go_on = NewStep { kind: StepKind::Wait { continue_on_failure: true }, ..NewStep::wait() };
    let steps = vec![keyed("a"), NewStep::wait(), keyed("b"), go_on, keyed("c")];
    let (id, jobs) = build(&sandbox, steps);
    run(&sandbox, jobs[0], 1);
    let (state, of) = states(&sandbox, id);
    assert_eq!(of, ["finished", "waiting_failed", "scheduled"]);
    assert_eq!(state, BuildState::Running);
    run(&sandbox, jobs[2], 0);
    assert_eq!(states(&sandbox, id).0, BuildState::Failed);
}

#[tokio::test]
async fn a_soft_failure_is_none_and_a_dependency_may_allow_one() {
    let sandbox = start().await;
    let soft = step("x", |new| new.soft_fail = SoftFail::These(vec![7]));
    let mut despite = after(&["hard"]);
    despite.allow_dependency_failure = true;
    let mut entry = after(&["hard"]);
    entry.depends_on.as_mut().unwrap()[0].allow_failure = true;
    let (id, jobs) = build(
        &sandbox,
        vec![soft, NewStep::wait(), keyed("hard"), after(&["hard"]), despite, entry],
    );
    run(&sandbox, jobs[0], 7);
    assert!(sandbox.engine(|engine, _| engine.job(jobs[0]).unwrap().soft_failed));
    run(&sandbox, jobs[1], 1);
    let of = ["finished", "finished", "waiting_failed", "scheduled", "scheduled"];
    assert_eq!(states(&sandbox, id).1, of);
}

#[tokio::test]
async fn a_block_waits_for_a_person() {
    let sandbox = start().await;
    let ask = NewStep {
        key: Some("ask".to_owned()),
        kind: StepKind::Block(Form::default()),
        ..NewStep::wait()
    };
    let (id, jobs) = build(&sandbox, vec![keyed("a"), ask, keyed("b")]);
    let caller = Caller::new(&sandbox, TOKEN);
    let path = format!("/_sandbox/builds/{id}/unblock");
    assert_eq!(caller.post(&path, Value::Null).await.status, 422, "it is not yet blocked");
    run(&sandbox, jobs[0], 0);
    assert_eq!(states(&sandbox, id), (BuildState::Blocked, vec!["finished", "waiting"]));
    assert_eq!(caller.post(&path, json!({"step": "other"})).await.status, 422);
    assert_eq!(caller.post(&path, json!({"step": "ask"})).await.status, 200);
    assert_eq!(states(&sandbox, id).1, ["finished", "scheduled"]);
    run(&sandbox, jobs[1], 0);
    assert_eq!(states(&sandbox, id).0, BuildState::Passed);
}

#[tokio::test]
async fn what_depends_on_nothing_that_will_ever_be_is_broken() {
    let sandbox = start().await;
    let mut circle = [after(&["b"]), after(&["a"])];
    circle[0].key = Some("a".to_owned());
    circle[1].key = Some("b".to_owned());
    let [a, b] = circle;
    let (id, jobs) = build(&sandbox, vec![keyed("first"), after(&["nowhere"]), a, b]);
    assert_eq!(states(&sandbox, id).1, ["scheduled", "waiting", "waiting", "waiting"]);
    run(&sandbox, jobs[0], 0);
    let of = vec!["finished", "broken", "broken", "broken"];
    assert_eq!(states(&sandbox, id), (BuildState::Failed, of));
}

#[tokio::test]
async fn an_upload_brings_what_others_wait_for() {
    let sandbox = start().await;
    let (id, jobs) = build(&sandbox, vec![keyed("up"), after(&["late"]), NewStep::wait()]);
    sandbox.engine(|engine, now| {
        let upload = Uuid::from_u128(1);
        for _ in 0..2 {
            engine.upload_steps(jobs[0], upload, vec![keyed("late")], now).unwrap();
        }
        assert_eq!(engine.build(id).unwrap().steps.len(), 4, "sent twice, added once");
    });
    assert_eq!(states(&sandbox, id).1, ["scheduled", "scheduled", "waiting"]);
    let late = sandbox.engine(|engine, _| engine.build(id).unwrap().steps[1].jobs[0]);
    run(&sandbox, late, 0);
    assert_eq!(states(&sandbox, id).1, ["scheduled", "finished", "scheduled"]);
    run(&sandbox, jobs[0], 0);
    run(&sandbox, jobs[1], 0);
    assert_eq!(states(&sandbox, id).0, BuildState::Passed);
    let refused = sandbox.engine(|engine, now| {
        engine.upload_steps(jobs[0], Uuid::from_u128(2), vec![keyed("x")], now)
    });
    assert!(refused.is_err(), "its job has ended");
}

#[tokio::test]
async fn a_group_lets_in_so_many() {
    let sandbox = start().await;
    let one = step("deploy", |new: &mut Command| {
        new.concurrency = Some(Concurrency {
            group: "deploy".to_owned(),
            limit: 1,
            method: ConcurrencyMethod::Ordered,
        });
    });
    let (first, a) = build(&sandbox, vec![one.clone()]);
    let (second, b) = build(&sandbox, vec![one.clone(), one]);
    assert_eq!(states(&sandbox, first).1, ["scheduled"]);
    assert_eq!(states(&sandbox, second).1, ["limited", "limited"]);
    sandbox.engine(|engine, now| engine.cancel_job(b[0], now)).unwrap();
    run(&sandbox, a[0], 0);
    assert_eq!(states(&sandbox, second).1, ["canceled", "scheduled"]);
    run(&sandbox, b[1], 0);
    assert_eq!(states(&sandbox, second).0, BuildState::Failed);
}

#[tokio::test]
async fn a_retry_takes_the_place_of_what_failed() {
    let sandbox = start().await;
    let flaky = step("flaky", |new| {
        let limit = 2;
        let exit_status = ExitMatch::Failed;
        new.retry = vec![RetryRule { exit_status, signal: None, signal_reason: None, limit }];
    });
    let (id, jobs) = build(&sandbox, vec![flaky, NewStep::wait(), keyed("after")]);
    run(&sandbox, jobs[0], 1);
    let again = sandbox.engine(|engine, _| engine.job(jobs[0]).unwrap().retried_in).unwrap();
    let of = sandbox.engine(|engine, _| engine.job(again).cloned()).unwrap();
    assert_eq!((of.state, of.retry_count, of.retry_of), (State::Scheduled, 1, Some(jobs[0])));
    run(&sandbox, again, 0);
    run(&sandbox, jobs[1], 0);
    let of = vec!["finished", "finished", "finished"];
    assert_eq!(states(&sandbox, id), (BuildState::Passed, of));
    let refused = sandbox.engine(|engine, now| engine.retry_job(jobs[0], now));
    assert!(refused.is_err(), "it was retried before");
}

#[tokio::test]
async fn a_person_may_retry_what_has_ended() {
    let sandbox = start().await;
    let (id, jobs) = build(&sandbox, vec![keyed("a")]);
    let caller = Caller::new(&sandbox, TOKEN);
    let path = format!("/_sandbox/jobs/{}/retry", jobs[0]);
    assert_eq!(caller.post(&path, Value::Null).await.status, 422, "it has not run");
    run(&sandbox, jobs[0], 1);
    assert_eq!(states(&sandbox, id).0, BuildState::Failed);
    let again = caller.post(&path, Value::Null).await.body;
    assert_eq!(states(&sandbox, id), (BuildState::Running, vec!["finished", "scheduled"]));
    run(&sandbox, again["id"].as_str().unwrap().parse().unwrap(), 0);
    assert_eq!(states(&sandbox, id).0, BuildState::Passed);
}

#[tokio::test]
async fn a_cancelled_build_ends_what_has_not_begun() {
    let sandbox = start().await;
    let (id, jobs) = build(&sandbox, vec![keyed("a"), keyed("b"), NewStep::wait(), keyed("c")]);
    run(&sandbox, jobs[0], 0);
    let caller = Caller::new(&sandbox, TOKEN);
    let path = format!("/_sandbox/builds/{id}/cancel");
    assert_eq!(caller.post(&path, Value::Null).await.status, 200);
    let of = vec!["finished", "canceled", "canceled"];
    assert_eq!(states(&sandbox, id), (BuildState::Canceled, of));
    assert_eq!(caller.post(&path, Value::Null).await.status, 422);
}

#[tokio::test]
async fn a_job_that_nobody_takes_expires() {
    let sandbox = start().await;
    let (id, _) = build(&sandbox, vec![keyed("a")]);
    sandbox.advance(Duration::from_secs(30 * 24 * 3600 + 1));
    assert_eq!(states(&sandbox, id), (BuildState::Failed, vec!["expired"]));
}

#[tokio::test]
async fn a_build_comes_from_yaml_or_from_json() {
    let sandbox = start().await;
    let caller = Caller::new(&sandbox, TOKEN);
    let yaml = "steps:\n  - command: make\n    parallelism: 2\n  - wait\n  - command: ship\n";
    let made = caller.post("/_sandbox/builds", json!({"pipeline": "web", "yaml": yaml})).await;
    assert_eq!((made.status.as_u16(), made.body["jobs"].as_array().unwrap().len()), (201, 3));
    let steps = json!([{"command": "make", "agents": {"queue": "big"}}]);
    let made = caller.post("/_sandbox/builds", json!({"pipeline": "web", "steps": steps})).await;
    assert_eq!((made.status.as_u16(), &made.body["number"]), (201, &json!(2)));
    let job = made.body["jobs"][0].as_str().unwrap();
    let of = caller.get(&format!("/_sandbox/jobs/{job}")).await.body;
    assert_eq!((&of["queue"], &of["state"]), (&json!("big"), &json!("scheduled")));
    for bad in [
        json!({}),
        json!({"yaml": yaml, "steps": []}),
        json!({"steps": []}),
        json!({"yaml": "steps: 3"}),
        json!({"yaml": yaml, "branche": "x"}),
        json!({"yaml": yaml, "cluster": "nowhere"}),
    ] {
        let refused = caller.post("/_sandbox/builds", bad.clone()).await;
        assert!(refused.status.is_client_error(), "{bad}");
        assert!(!refused.body["message"].as_str().unwrap().is_empty());
    }
}
