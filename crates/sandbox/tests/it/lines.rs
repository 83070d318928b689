//! Concurrency groups: who is next, and what holds a place.

use sandbox::engine::{BlockedStep, BuildState, EventKind};

use crate::support::{build_yaml, run, start, states};

#[tokio::test]
async fn two_jobs_of_a_group_are_gates_around_others() {
    let sandbox = start().await;
    let yaml = r#"
steps:
- {command: enter, key: enter, concurrency: 1, concurrency_group: gate}
- wait
- {command: one}
- {command: two}
- wait
- {command: leave, key: leave, concurrency: 1, concurrency_group: gate}
"#;
    let (first, a) = build_yaml(&sandbox, &[], yaml);
    let (second, b) = build_yaml(&sandbox, &[], yaml);
    let closed = ["limited", "waiting", "waiting", "waiting"];
    let told = sandbox.engine(|engine, _| engine.job(b[0]).unwrap().events.clone());
    assert_eq!(told[0].kind, EventKind::Limited);
    assert_eq!(told[0].detail.as_deref(), Some("gate"), "it says which group holds it");
    assert_eq!(states(&sandbox, first).1, ["scheduled", "waiting", "waiting", "waiting"]);
    for job in &a[..3] {
        assert_eq!(states(&sandbox, second).1, closed);
        run(&sandbox, *job, 0);
    }
    assert_eq!(states(&sandbox, first).1[3], "scheduled");
    assert_eq!(states(&sandbox, second).1, closed, "the first build has not left");
    run(&sandbox, a[3], 0);
    assert_eq!(states(&sandbox, second).1[0], "scheduled");
    for job in b {
        run(&sandbox, job, 0);
    }
    assert_eq!(states(&sandbox, second).0, BuildState::Passed);
}

#[tokio::test]
async fn a_build_that_cannot_go_on_gives_its_places_up() {
    let sandbox = start().await;
    let gate = "{command: x, concurrency: 1, concurrency_group: gate}";
    let (first, a) = build_yaml(&sandbox, &[], &format!("steps: [{gate}, wait, {gate}]"));
    let (second, _) = build_yaml(&sandbox, &[], &format!("steps: [{gate}]"));
    run(&sandbox, a[0], 1);
    assert_eq!(states(&sandbox, first).1, ["finished", "waiting_failed"]);
    assert_eq!(states(&sandbox, second).1, ["scheduled"]);

    let (third, c) = build_yaml(&sandbox, &[], &format!("steps: [{gate}]"));
    sandbox.engine(|engine, now| engine.cancel_build(second, now)).unwrap();
    assert_eq!(states(&sandbox, third).1, ["scheduled"]);
    run(&sandbox, c[0], 0);
}

#[tokio::test]
async fn eager_jobs_go_by_priority_and_pass_who_waits() {
    let sandbox = start().await;
    let job = |priority: i32| {
        format!(
            "{{command: x, priority: {priority}, concurrency: 1, concurrency_group: lab, concurrency_method: eager}}"
        )
    };
    // The first to be created waits for another step: nobody waits for it.
    let first = format!("steps: [{{command: slow}}, wait, {}]", job(9));
    let (id, slow) = build_yaml(&sandbox, &[], &first);
    let steps = format!("steps: [{}, {}, {}]", job(0), job(1), job(5));
    let (others, jobs) = build_yaml(&sandbox, &[], &steps);
    assert_eq!(states(&sandbox, others).1, ["scheduled", "limited", "limited"]);
    run(&sandbox, jobs[0], 0);
    assert_eq!(states(&sandbox, others).1, ["finished", "limited", "scheduled"]);
    run(&sandbox, slow[0], 0);
    assert_eq!(states(&sandbox, id).1, ["finished", "limited"]);
    run(&sandbox, jobs[2], 0);
    assert_eq!(states(&sandbox, others).1, ["finished", "limited", "finished"]);
    assert_eq!(states(&sandbox, id).1, ["finished", "scheduled"]);
}

#[tokio::test]
async fn another_priority_moves_an_eager_job() {
    let sandbox = start().await;
    let job = "{command: x, concurrency: 1, concurrency_group: lab, concurrency_method: eager}";
    let (id, jobs) = build_yaml(&sandbox, &[], &format!("steps: [{job}, {job}, {job}, {job}]"));
    sandbox.engine(|engine, now| engine.reprioritize(jobs[3], 5, now)).unwrap();
    run(&sandbox, jobs[0], 0);
    assert_eq!(states(&sandbox, id).1, ["finished", "limited", "limited", "scheduled"]);
    // One that was moved and is cancelled is in nobody's way.
    sandbox.engine(|engine, now| engine.reprioritize(jobs[1], 9, now)).unwrap();
    sandbox.engine(|engine, now| engine.cancel_job(jobs[1], now)).unwrap();
    run(&sandbox, jobs[3], 0);
    assert_eq!(states(&sandbox, id).1, ["finished", "canceled", "scheduled", "finished"]);
}

#[tokio::test]
async fn a_job_behind_a_person_joins_when_it_is_let_go() {
    let sandbox = start().await;
    let deploy = "{command: x, concurrency: 1, concurrency_group: deploy}";
    let held = format!(
        "steps: [{{block: Go?, key: go}}, {{command: between}}, wait, {deploy}, {{command: y, key: y, depends_on: go}}]"
    );
    let (first, a) = build_yaml(&sandbox, &[], &held);
    let (second, b) = build_yaml(&sandbox, &[], &format!("steps: [{deploy}]"));
    assert_eq!(states(&sandbox, second).1, ["scheduled"], "nobody waits for a person");
    let (third, c) = build_yaml(&sandbox, &[], &format!("steps: [{deploy}]"));
    let answers = sandbox::engine::Answers::default();
    sandbox
        .engine(|engine, now| engine.unblock(first, BlockedStep::Key("go"), &answers, now))
        .unwrap();
    run(&sandbox, b[0], 0);
    assert_eq!(states(&sandbox, third).1, ["limited"], "its place is that of its creation");
    run(&sandbox, a[0], 0);
    assert_eq!(states(&sandbox, first).1, ["finished", "scheduled", "scheduled"]);
    run(&sandbox, a[1], 0);
    assert_eq!(states(&sandbox, third).1, ["scheduled"]);
    run(&sandbox, c[0], 0);
}

#[tokio::test]
async fn a_retry_keeps_its_place() {
    let sandbox = start().await;
    let yaml = "steps: [{command: x, concurrency: 1, concurrency_group: g, retry: {automatic: {limit: 1}}}]";
    let (first, a) = build_yaml(&sandbox, &[], yaml);
    let (second, _) = build_yaml(&sandbox, &[], yaml);
    run(&sandbox, a[0], 1);
    assert_eq!(states(&sandbox, first).1, ["finished", "scheduled"]);
    assert_eq!(states(&sandbox, second).1, ["limited"]);
    let again = sandbox.engine(|engine, _| engine.job(a[0]).unwrap().retried_in.unwrap());
    run(&sandbox, again, 1);
    assert_eq!(states(&sandbox, second).1, ["scheduled"]);
    // By hand it comes before whoever waits, and takes nobody's room.
    let (third, _) = build_yaml(&sandbox, &[], yaml);
    sandbox.engine(|engine, now| engine.retry_job(again, now)).unwrap();
    assert_eq!(states(&sandbox, first).1[2], "limited");
    sandbox.engine(|engine, now| engine.cancel_build(second, now)).unwrap();
    assert_eq!(states(&sandbox, first).1[2], "scheduled");
    assert_eq!(states(&sandbox, third).1, ["limited"]);
}

#[tokio::test]
async fn each_job_has_its_own_limit() {
    let sandbox = start().await;
    let job = |limit: u32| format!("{{command: x, concurrency: {limit}, concurrency_group: g}}");
    let yaml = format!("steps: [{}, {}, {}]", job(2), job(1), job(3));
    let (id, jobs) = build_yaml(&sandbox, &[], &yaml);
    assert_eq!(states(&sandbox, id).1, ["scheduled", "limited", "scheduled"]);
    run(&sandbox, jobs[0], 0);
    assert_eq!(states(&sandbox, id).1, ["finished", "limited", "scheduled"]);
    run(&sandbox, jobs[2], 0);
    assert_eq!(states(&sandbox, id).1, ["finished", "scheduled", "finished"]);
}
