//! The REST API's golden JSON, both ways.

use buildkite::rest::wire::*;
use buildkite::wire::ErrorBody;

use crate::golden::{check, id, time};

fn lost() -> Job {
    let api = "https://api.buildkite.com/v2/organizations/demo";
    let build = format!("{api}/pipelines/web/builds/4711");
    let job = format!("{build}/jobs/{}", id(0x1111, 1));
    let cluster = format!("{api}/clusters/{}", id(0x8888, 1));
    Job {
        id: id(0x1111, 1),
        graphql_id: Some("Sm9iLS0tMDE5OWMwZGU=".to_owned()),
        kind: "script".to_owned(),
        name: Some("Unit tests".to_owned()),
        step_key: Some("unit".to_owned()),
        step: Some(Step { id: Some(id(0x6666, 1)), signature: None }),
        priority: Some(Priority { number: 5 }),
        agent_query_rules: vec!["queue=linux-small".to_owned()],
        state: "failed".to_owned(),
        web_url: Some(format!("https://buildkite.com/demo/web/builds/4711#{}", id(0x1111, 1))),
        log_url: Some(format!("{job}/log")),
        raw_log_url: Some(format!("{job}/log.txt")),
        artifacts_url: Some(format!("{job}/artifacts")),
        build_url: Some(build),
        command: Some("make test".to_owned()),
        exit_status: Some(-1),
        agent: Some(Agent {
            id: id(0x5555, 1),
            name: "jit-81-1".to_owned(),
            hostname: Some("jit-81".to_owned()),
            connection_state: "lost".to_owned(),
            version: Some("3.137.0".to_owned()),
            meta_data: vec!["queue=linux-small".to_owned()],
            created_at: Some(time("2026-10-02T08:15:20Z")),
        }),
        created_at: Some(time("2026-10-02T08:15:00.120Z")),
        scheduled_at: Some(time("2026-10-02T08:15:00.120Z")),
        runnable_at: Some(time("2026-10-02T08:15:00.480Z")),
        started_at: Some(time("2026-10-02T08:15:21Z")),
        finished_at: Some(time("2026-10-02T08:19:02Z")),
        retried: true,
        retried_in_job_id: Some(id(0x1111, 2)),
        retries_count: Some(0),
        retry_type: Some("manual".to_owned()),
        cluster_id: Some(id(0x8888, 1)),
        cluster_queue_url: Some(format!("{cluster}/queues/{}", id(0x4444, 1))),
        cluster_url: Some(cluster),
        cluster_queue_id: Some(id(0x4444, 1)),
        ..Job::default()
    }
}

#[test]
fn jobs_and_their_retries() {
    check("rest.job.retried.200.json", &lost());
    let there = lost();
    let swap = |text: Option<String>| {
        text.map(|text| text.replace(&id(0x1111, 1).to_string(), &id(0x1111, 2).to_string()))
    };
    let begun = Some(time("2026-10-02T08:19:05Z"));
    let again = Job {
        id: id(0x1111, 2),
        state: "scheduled".to_owned(),
        web_url: swap(there.web_url.clone()),
        log_url: swap(there.log_url.clone()),
        raw_log_url: swap(there.raw_log_url.clone()),
        artifacts_url: swap(there.artifacts_url.clone()),
        exit_status: None,
        agent: None,
        created_at: begun,
        scheduled_at: begun,
        runnable_at: begun,
        started_at: None,
        finished_at: None,
        retried: false,
        retried_in_job_id: None,
        retries_count: Some(1),
        retry_source: Some(RetrySource { job_id: id(0x1111, 1), retry_type: "manual".to_owned() }),
        retry_type: None,
        ..there
    };
    check("rest.retry.200.json", &again);
}

#[test]
fn a_step_that_runs_nothing_says_little_and_is_read() {
    let text = format!(r#"{{"id":"{}","type":"waiter","state":"finished"}}"#, id(0x1111, 1));
    let wait: Job = serde_json::from_str(&text).unwrap();
    assert_eq!((wait.kind.as_str(), wait.state.as_str()), ("waiter", "finished"));
    assert_eq!(wait.retried_in_job_id, None);
}

#[test]
fn annotations() {
    let new = NewAnnotation {
        body: "The machine was **lost**.".to_owned(),
        style: Some("warning".to_owned()),
        context: Some("jitney".to_owned()),
        append: None,
        priority: Some(3),
    };
    check("rest.annotate.request.json", &new);
    let made = Annotation {
        id: id(0x9999, 1),
        context: "jitney".to_owned(),
        style: Some("warning".to_owned()),
        scope: "job".to_owned(),
        job_id: Some(id(0x1111, 1)),
        priority: Some(3),
        body_html: "<p>The machine was <strong>lost</strong>.</p>\n".to_owned(),
        created_at: time("2026-10-02T08:19:06Z"),
        updated_at: time("2026-10-02T08:19:06Z"),
    };
    check("rest.annotate.job.201.json", &made);
    let made = Annotation { scope: "build".to_owned(), job_id: None, ..made };
    check("rest.annotate.build.201.json", &made);
}

#[test]
fn tokens() {
    let token = AccessToken {
        uuid: id(0x7777, 3),
        scopes: vec!["read_builds".to_owned(), "write_builds".to_owned()],
        description: "jitney".to_owned(),
        created_at: Some("2026-10-01 06:07:42 UTC".to_owned()),
        expires_at: None,
        user: Some(User { name: "Kim".to_owned(), email: "kim@example.com".to_owned() }),
    };
    check("rest.access-token.200.json", &token);
    assert!(token.may(scope::WRITE_BUILDS));
    assert!(!token.may("write"), "a scope is its whole name");
}

#[test]
fn refusals() {
    let plain = |message: &str| ErrorBody { message: message.to_owned(), ..ErrorBody::default() };
    let only = "Only failed, timed out or canceled jobs can be retried";
    check("rest.retry.400.json", &plain(only));
    check("rest.retry.422.json", &plain("Jobs from canceled builds cannot be retried"));
    check("rest.job.404.json", &plain("No job found"));
    let wait = "Please wait 42 seconds before making more requests.";
    let limited = ErrorBody {
        message: format!("You have exceeded your API rate limit. {wait}"),
        scope: Some("rest_user".to_owned()),
        limit: Some(50),
        current: Some(55),
        reset: Some(42),
    };
    check("rest.429.json", &limited);
}
