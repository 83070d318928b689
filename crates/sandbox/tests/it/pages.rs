//! The pages, as a browser gets them, of builds that play agents have run.

use std::ops::ControlFlow;

use jiff::Timestamp;
use reqwest::StatusCode;
use sandbox::Sandbox;
use sandbox::engine::{EventKind, NewBuild};
use sandbox::pipeline;
use sandbox::player::{Orders, Outcome, Wire, play};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Caller, TOKEN, ended, start_with};

#[expect(clippy::disallowed_methods, reason = "the agent takes its clock as an argument")]
fn now() -> Timestamp {
    Timestamp::now()
}

const NASTY: &str = "<img src=x onerror=alert(1)>";

/// A build of this pipeline, and its jobs.
fn build(sandbox: &Sandbox, yaml: &str) -> (Uuid, Vec<Uuid>) {
    let steps = pipeline::from_yaml(yaml).unwrap();
    sandbox.engine(|engine, now| {
        let message = format!("message {NASTY}");
        let new = NewBuild { pipeline: "web".to_owned(), message, steps, ..NewBuild::default() };
        let id = engine.create_build(new, now).unwrap();
        (id, engine.build(id).unwrap().jobs().collect())
    })
}

async fn play_one(sandbox: &Sandbox, job: Uuid) -> Outcome {
    let orders = Orders {
        endpoint: sandbox.endpoint(),
        token: TOKEN.into(),
        job,
        name: format!("agent {NASTY}"),
        tags: vec!["queue=default".to_owned()],
    };
    let stop = CancellationToken::new();
    play(&Wire::new().unwrap(), &orders, now, &stop, |_| ControlFlow::Continue(())).await
}

struct Browser {
    http: reqwest::Client,
    base: String,
}

impl Browser {
    fn new(sandbox: &Sandbox) -> Self {
        Self { http: reqwest::Client::new(), base: sandbox.url().to_owned() }
    }

    async fn page(&self, path: &str) -> (StatusCode, String) {
        let reply = self.http.get(format!("{}{path}", self.base)).send().await.unwrap();
        assert!(reply.headers()["content-security-policy"].to_str().unwrap().contains("'none'"));
        (reply.status(), reply.text().await.unwrap())
    }

    async fn shows(&self, path: &str, words: &[&str]) -> String {
        let (status, page) = self.page(path).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(!page.contains("<img"), "markup got through on {path}");
        for words in words {
            assert!(page.contains(words), "{path} lacks {words:?}:\n{page}");
        }
        page
    }

    async fn press(&self, path: &str, from: Option<&str>) -> StatusCode {
        let mut request = self.http.post(format!("{}{path}", self.base));
        if let Some(from) = from {
            request = request.header("Origin", from);
        }
        request.send().await.unwrap().status()
    }
}

#[tokio::test]
async fn nothing_that_a_job_says_is_markup() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let yaml = format!(
        "steps:\n- label: 'label {NASTY}'\n  command: 'echo \"{NASTY}\"'\n  agents: {{tag: '{NASTY}'}}\n- block: 'block {NASTY}'\n  prompt: 'prompt {NASTY}'"
    );
    let (build, jobs) = build(&sandbox, &yaml);
    let job = jobs[0];
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("stack").await;
    let body = json!({"notifications": [{"job_uuid": job, "detail": format!("told {NASTY}")}]});
    caller.post("/v3/stacks/stack/notifications", body).await;
    sandbox.engine(|engine, now| {
        let new = sandbox::engine::NewAnnotation {
            context: format!("context {NASTY}"),
            style: Some("\"><img>".to_owned()),
            body: format!("# {NASTY}\n- {NASTY}\n`{NASTY}` **{NASTY}**\n```\n{NASTY}\n```"),
            ..Default::default()
        };
        engine.annotate(job, new, now).unwrap();
    });
    assert!(matches!(play_one(&sandbox, job).await, Outcome::Finished));
    let text = "&lt;img src=x onerror=alert(1)&gt;";
    let said = |what: &str| format!("{what} {text}");
    browser.shows("/", &[&said("message")]).await;
    let words = ["message", "label", "block", "prompt", "told", "on agent"].map(said);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    browser.shows(&format!("/builds/{build}"), &words).await;
    browser.shows(&format!("/jobs/{job}"), &[&said("told"), &said("on agent")]).await;
    browser.shows("/queues", &["stack"]).await;
}

#[tokio::test]
async fn a_build_is_found_by_each_of_its_addresses() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    browser.shows("/", &["No build yet"]).await;
    let (id, _) = build(&sandbox, "steps: [{command: x}]");
    let organization = sandbox.engine(|engine, _| engine.settings().organization.clone());
    for path in
        [format!("/builds/{id}"), "/builds/1".into(), format!("/{organization}/web/builds/1")]
    {
        browser.shows(&path, &["web #1", "scheduled", "waited"]).await;
    }
    for path in ["/builds/2", "/builds/x", "/jobs/x", "/nobody/web/builds/1"] {
        let (status, page) = browser.page(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(page.contains("There is no "), "{page}");
    }
}

#[tokio::test]
async fn what_a_stack_says_stands_out() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let (build, jobs) = build(&sandbox, "steps: [{command: x, agents: {memroy: 4G}}]");
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("s").await;
    let reserve = json!({"job_uuids": jobs, "reservation_expiry_seconds": 60});
    caller.put("/v3/stacks/s/scheduled-jobs/batch-reserve", reserve).await;
    let detail = "unknown tag memroy=4G:\ndid you mean memory?";
    let finish = json!({"exit_status": -1, "detail": detail});
    caller.post(&format!("/v3/stacks/s/jobs/{}/finish", jobs[0]), finish).await;
    let words = ["The stack says", detail, "failed", "exit -1, stack_error", "memroy=4G"];
    browser.shows(&format!("/builds/{build}"), &words).await;
    let page = browser.shows(&format!("/jobs/{}", jobs[0]), &words).await;
    assert!(page.contains("failed by the stack"), "{page}");
    assert!(!page.contains("<main data-live"), "a page that will not change is not fetched again");
}

#[tokio::test]
async fn jobs_that_a_stack_names_are_links() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let (_, jobs) = build(&sandbox, "steps: [{command: x}, {command: y}]");
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("s").await;
    let detail = format!("lost: job {} takes its place, not {}.", jobs[1], uuid::Uuid::nil());
    let body = json!({"notifications": [{"job_uuid": jobs[0], "detail": detail}]});
    caller.post("/v3/stacks/s/notifications", body).await;
    let link = format!("job <a href=\"/jobs/{0}\">{0}</a> takes its place, not 0000", jobs[1]);
    browser.shows(&format!("/jobs/{}", jobs[0]), &[&link]).await;
}

#[tokio::test]
async fn logs_are_drawn_with_colours_and_sections() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let yaml = "steps: [{command: x, env: {PLAY_EXIT: 3, PLAY_LOG: \"--- Build\\n\\e[31mred\\e[0m\\n+++ Test\\nover\\n\"}}]";
    let (_, jobs) = build(&sandbox, yaml);
    play_one(&sandbox, jobs[0]).await;
    let words = ["<span class=\"c1\">red</span>", "<summary>Build</summary>", "exit 3", "started"];
    browser.shows(&format!("/jobs/{}", jobs[0]), &words).await;
}

#[tokio::test]
async fn soft_failures_are_counted_in_the_list_of_builds() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let yaml = "steps: [{command: x, soft_fail: true, env: {PLAY_EXIT: 3}}, {command: y}]";
    let (_, jobs) = build(&sandbox, yaml);
    for job in jobs {
        play_one(&sandbox, job).await;
    }
    browser.shows("/", &["1 soft failed", "1 passed"]).await;
}

#[tokio::test]
async fn of_a_huge_build_what_matters_is_drawn() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let yaml = "steps: [{label: many, command: x, parallelism: 3000}, {label: bad, command: y}]";
    let (id, jobs) = build(&sandbox, yaml);
    let (first, last) = (jobs[0], jobs[3000]);
    sandbox.engine(|engine, now| engine.cancel_job(last, now)).unwrap();
    let words = ["2501 more steps are not drawn", &last.to_string()];
    let page = browser.shows(&format!("/builds/{id}"), &words).await;
    assert_eq!(page.matches("href=\"/jobs/").count(), 500);
    assert!(page.contains(&first.to_string()));
}

#[tokio::test]
async fn buttons_do_what_they_say() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let (id, jobs) = build(&sandbox, "steps: [{block: Go}, {command: a}, {command: b}]");
    let step = sandbox.engine(|engine, _| engine.build(id).unwrap().steps[0].id);
    let unblock = format!("/builds/{id}/unblock/{step}");
    browser.shows(&format!("/builds/{id}"), &[&unblock, "Cancel build", "blocked"]).await;
    assert_eq!(browser.press(&unblock, Some("https://evil.example")).await, 403);
    assert_eq!(browser.press(&unblock, Some(sandbox.url())).await, 200);
    assert_eq!(browser.press(&unblock, None).await, 422);

    let cancel = format!("/jobs/{}/cancel", jobs[0]);
    browser.shows(&format!("/jobs/{}", jobs[0]), &[&cancel]).await;
    assert_eq!(browser.press(&cancel, None).await, 200);
    assert_eq!(ended(&sandbox, jobs[0]).await.state.name(), "canceled");

    assert_eq!(browser.press(&format!("/jobs/{}/retry", jobs[0]), None).await, 200);
    let again = sandbox.engine(|engine, _| engine.job(jobs[0]).unwrap().retried_in.unwrap());
    let link = format!("retried: <a href=\"/jobs/{again}\">{again}</a>");
    browser.shows(&format!("/jobs/{}", jobs[0]), &[&link, "retried as"]).await;
    browser.shows(&format!("/jobs/{again}"), &[&format!("/jobs/{}", jobs[0]), "a retry of"]).await;

    assert_eq!(browser.press(&format!("/builds/{id}/cancel"), None).await, 200);
    assert_eq!(ended(&sandbox, jobs[1]).await.state.name(), "canceled");
    assert_eq!(browser.press(&format!("/builds/{id}/cancel"), None).await, 422);

    assert_eq!(browser.press("/queues/default/pause", None).await, 200);
    browser.shows("/queues", &["paused", "/queues/default/resume"]).await;
    assert_eq!(browser.press("/queues/default/resume", None).await, 200);
    browser.shows("/queues", &["/queues/default/pause"]).await;
}

#[tokio::test]
async fn groups_values_and_what_is_left_out_are_shown() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let yaml = format!(
        "steps:\n- group: 'group {NASTY}'\n  key: g\n  steps:\n  - command: 'make {{{{matrix.os}}}}'\n    matrix: {{setup: {{os: [linux, '{NASTY}']}}}}\n  - wait\n- command: never\n  if: build.message == '{NASTY}'\n- command: later\n  skip: 'reason {NASTY}'"
    );
    let (build, jobs) = build(&sandbox, &yaml);
    let text = "&lt;img src=x onerror=alert(1)&gt;";
    let words = [
        format!("group {text}"),
        "3 steps".to_owned(),
        "os=linux".to_owned(),
        format!("os={text}"),
        format!("not true of this build: build.message == '{text}'"),
        format!("skipped: reason {text}"),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let page = browser.shows(&format!("/builds/{build}"), &words).await;
    assert_eq!(page.matches("<li class=\"inside\"").count(), 2, "{page}");
    assert!(page.contains("<li class=\"divider inside\""), "{page}");
    browser.shows("/", &["2 left out", "2 under way"]).await;
    browser.shows(&format!("/jobs/{}", jobs[0]), &["os=linux", &format!("group {text}")]).await;
    browser.shows(&format!("/jobs/{}", jobs[2]), &["broken", "not true of this build"]).await;
}

#[tokio::test]
async fn a_form_is_filled_in_and_sent() {
    let sandbox = start_with(|_| ()).await;
    let browser = Browser::new(&sandbox);
    let yaml = format!(
        "steps:\n- block: Release\n  prompt: 'prompt {NASTY}'\n  blocked_state: failed\n  fields:\n  - {{text: 'label {NASTY}', key: name, hint: 'hint {NASTY}', default: 'value {NASTY}', format: '[^<]+'}}\n  - {{text: Notes, key: notes, default: \"one\\ntwo\", required: false}}\n  - {{select: One, key: one, options: [{{label: 'option {NASTY}', value: a}}]}}\n  - {{select: Many, key: many, multiple: true, default: [a, b], options: [{{label: A, value: a}}, {{label: B, value: b}}]}}\n  - {{select: Any, key: any, required: false, options: [{{label: A, value: a}}]}}"
    );
    let (build, _) = build(&sandbox, &yaml);
    let step = sandbox.engine(|engine, _| engine.build(build).unwrap().steps[0].id);
    let said = |what: &str| format!("{what} &lt;img src=x onerror=alert(1)&gt;");
    let words = ["prompt", "label", "hint", "value", "option"].map(said);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.extend([
        "type=\"radio\"",
        "type=\"checkbox\"",
        "<textarea",
        "<select",
        "counts as failed",
    ]);
    browser.shows(&format!("/builds/{build}"), &words).await;

    let send = async |form: &str| {
        let path = format!("{}/builds/{build}/unblock/{step}", sandbox.url());
        let request = browser.http.post(path).body(form.to_owned());
        let kind = "application/x-www-form-urlencoded";
        let reply = request.header("Content-Type", kind).send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    };
    let (status, page) = send("name=%3Cimg&notes=&one=a&many=&any=").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        page.contains("the field &quot;name&quot; must match [^&lt;]+, and is &quot;&lt;img"),
        "{page}"
    );
    let (status, page) = send("name=x&one=&one=a&many=&any=").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "nothing is ticked: {page}");
    let (status, page) = send("name=a+b&notes=1%0D%0A2&one=&one=a&many=&many=a&many=b&any=").await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let meta_data = sandbox.engine(|engine, _| engine.build(build).unwrap().meta_data.clone());
    let expected = [("many", "a\nb"), ("name", "a b"), ("notes", "1\n2"), ("one", "a")];
    assert_eq!(
        meta_data.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(),
        expected
    );
    browser.shows(&format!("/builds/{build}"), &["passed", "name=a b"]).await;
    let (status, _) = send("name=again").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "it is answered");
}

#[tokio::test]
async fn a_played_agent_keeps_to_the_contract_of_the_server() {
    let sandbox = start_with(|options| options.settings.job_status_interval_s = 1).await;
    let yaml = "steps: [{command: x}, {command: y, env: {PLAY_SECONDS: 3600}}, {command: z}]";
    let (_, jobs) = build(&sandbox, yaml);
    let caller = Caller::new(&sandbox, TOKEN);
    caller.stack("s").await;
    let token = caller.token_for("s", jobs[0]).await;
    let orders = |job: Uuid, token: &str| Orders {
        endpoint: sandbox.endpoint(),
        token: token.into(),
        job,
        name: "played".to_owned(),
        tags: Vec::new(),
    };
    let (wire, stop) = (Wire::new().unwrap(), CancellationToken::new());
    let go = |_| ControlFlow::Continue(());
    let outcome = play(&wire, &orders(jobs[0], &token), now, &stop, go).await;
    assert!(matches!(outcome, Outcome::Finished), "{outcome}");
    let job = ended(&sandbox, jobs[0]).await;
    assert_eq!((job.outcome.exit_status, job.log.text().as_str()), (Some(0), "(played) x\n"));

    // The same job again, and another one than the token is for.
    let outcome = play(&wire, &orders(jobs[0], TOKEN), now, &stop, go).await;
    assert!(outcome.to_string().starts_with("the agent exited with 27 (acquire: 422"), "{outcome}");
    let token = caller.token_for("s", jobs[2]).await;
    let outcome = play(&wire, &orders(jobs[1], &token), now, &stop, go).await;
    assert!(matches!(&outcome, Outcome::NotAcquired(e) if e.status() == Some(403)), "{outcome}");

    // Cancelled while it runs.
    let orders = orders(jobs[1], TOKEN);
    let playing = play(&wire, &orders, now, &stop, go);
    let cancel = async {
        sandbox.until(|engine| engine.job(jobs[1])?.started_at).await;
        sandbox.engine(|engine, now| engine.cancel_job(jobs[1], now)).unwrap();
    };
    let (outcome, ()) = tokio::join!(playing, cancel);
    assert!(matches!(outcome, Outcome::Finished), "{outcome}");
    let job = ended(&sandbox, jobs[1]).await;
    assert_eq!(job.state.name(), "canceled");
    assert_eq!(job.outcome.signal_reason.as_deref(), Some("cancel"));
    assert!(job.events.iter().any(|event| event.kind == EventKind::Started));
}

#[tokio::test]
async fn a_sandbox_is_known_by_its_greeting() {
    let sandbox = start_with(|_| ()).await;
    let wire = Wire::new().unwrap();
    assert!(wire.is_sandbox(&sandbox.endpoint()).await.unwrap());
    let answer = Caller::new(&sandbox, TOKEN).get("/_sandbox/hello").await;
    assert_eq!(answer.body, json!({"sandbox": true}));
    let _: Value = answer.body;
}
