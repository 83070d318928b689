//! The sandbox's replies have the shapes of the files that the client is tested with.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Caller, TOKEN, job, start, start_with};

pub(crate) fn golden(name: &str) -> Value {
    let path = format!("{}/../buildkite/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// Objects whose keys are data, so only one value is compared.
const MAPS: [&str; 3] = ["env", "metadata", "states"];

/// What older servers leave out.
const OPTIONAL: &str = "runnable_at";

/// The places where two values differ in shape; null fits everything.
fn differences(golden: &Value, ours: &Value, at: &str) -> Vec<String> {
    match (golden, ours) {
        (Value::Null, _) | (_, Value::Null) => Vec::new(),
        (Value::Object(golden), Value::Object(ours)) => {
            if MAPS.iter().any(|map| at.ends_with(&format!(".{map}"))) {
                let pair = golden.values().next().zip(ours.values().next());
                return pair.map_or_else(Vec::new, |(a, b)| differences(a, b, &format!("{at}.*")));
            }
            let mut found = Vec::new();
            for key in golden.keys().chain(ours.keys()) {
                match (golden.get(key), ours.get(key)) {
                    (Some(a), Some(b)) => found.extend(differences(a, b, &format!("{at}.{key}"))),
                    (None, _) if key == OPTIONAL => {}
                    (None, _) => found.push(format!("{at}.{key} is ours alone")),
                    (_, None) => found.push(format!("{at}.{key} is missing")),
                }
            }
            found.dedup();
            found
        }
        (Value::Array(golden), Value::Array(ours)) => match (golden.first(), ours.first()) {
            (Some(a), Some(b)) => differences(a, b, &format!("{at}[0]")),
            (None, _) | (_, None) => Vec::new(),
        },
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => Vec::new(),
        (golden, ours) => vec![format!("{at} is {ours}, not like {golden}")],
    }
}

pub(crate) fn check(name: &str, ours: &Value) {
    let found = differences(&golden(name), ours, "$");
    assert!(found.is_empty(), "{name}: {found:#?}");
}

#[test]
fn the_comparison_finds_what_differs() {
    let found = |a: Value, b: Value| differences(&a, &b, "$").len();
    assert_eq!(found(json!({"a": [{"b": 1}]}), json!({"a": [{"b": 2}, {}]})), 0);
    assert_eq!(found(json!({"a": 1}), json!({"b": 1})), 2);
    assert_eq!(found(json!({"a": 1}), json!({"a": "1"})), 1);
    assert_eq!(found(json!({"env": {"a": "1"}}), json!({"env": {"b": "1"}})), 0);
}

#[tokio::test]
async fn replies_have_the_shapes_of_the_golden_files() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    sandbox.engine(|engine, now| engine.add_queue(0, "linux-small", now));
    let register = golden("register.request");
    let first = stacks.post("/v3/stacks/register", register.clone()).await;
    assert_eq!(first.status, 201);
    check("register.201", &first.body);
    let key = register["key"].as_str().unwrap().to_owned();
    let path = |rest: &str| format!("/v3/stacks/{key}/{rest}");

    let new = json!({"count": 2, "agents": {"queue": "linux-small"}});
    let made = stacks.post("/_sandbox/jobs", new).await.body;
    let (one, two) = (made["jobs"][0].clone(), made["jobs"][1].clone());
    let page = stacks.get(&path("scheduled-jobs?queue_key=linux-small&limit=1")).await;
    check("list.200", &page.body);
    check("list.more-pages-paused.200", &page.body);
    let again = stacks.post("/v3/stacks/register", register).await;
    assert_eq!(again.status, 200);
    check("register.200", &again.body);

    let reserve = json!({"job_uuids": [one, Uuid::nil()], "reservation_expiry_seconds": 60});
    let reserved = stacks.put(&path("scheduled-jobs/batch-reserve"), reserve).await.body;
    check("reserve.200", &reserved);
    check("reserve.taken.200", &reserved);
    let id = one.as_str().unwrap();
    check("job.200", &stacks.get(&path(&format!("jobs/{id}"))).await.body);
    let ask = json!({"job_uuids": [one, two, Uuid::nil()]});
    let states = stacks.post(&path("jobs/get-states"), ask).await.body;
    check("states.200", &states);
    assert_eq!(states["states"].as_object().unwrap().len(), 2, "the unknown one is left out");

    let tokens = stacks.post(&path("job-acquisition-tokens"), json!({"job_uuids": [one]})).await;
    assert_eq!(tokens.status, 201);
    check("tokens.201", &tokens.body);
    let tokens = stacks.post(&path("job-acquisition-tokens"), json!({"job_uuids": [two]})).await;
    check("tokens.refused.201", &tokens.body);
    let note = json!({"notifications": [
        {"job_uuid": one, "detail": "Booting"}, {"job_uuid": two, "detail": ""}]});
    let told = stacks.post(&path("notifications"), note).await.body;
    check("notify.partial.200", &told);
    check("notify.200", &told);
    check("metrics.200", &stacks.get("/v3/metrics/queue?name=linux-small").await.body);
    check("token.200", &stacks.get("/v3/token").await.body);
}

#[tokio::test]
async fn requests_of_the_golden_files_are_taken() {
    let sandbox = start().await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    let job = job(&sandbox, "true");
    let taken = |answer: crate::support::Answer| assert!(answer.status.is_success());
    taken(stacks.put("/v3/stacks/a/scheduled-jobs/batch-reserve", golden("reserve.request")).await);
    taken(stacks.post("/v3/stacks/a/jobs/get-states", golden("states.request")).await);
    taken(stacks.post("/v3/stacks/a/notifications", golden("notify.request")).await);
    taken(stacks.post("/v3/stacks/a/job-acquisition-tokens", golden("tokens.request")).await);
    let path = format!("/v3/stacks/a/jobs/{job}/finish");
    taken(stacks.post(&path, golden("finish.success.request")).await);
}

#[tokio::test]
async fn errors_have_the_shapes_of_the_golden_files() {
    let sandbox = start_with(|options| {
        options.settings.unclustered_token = Some("bkar_old".to_owned());
        options.settings.stack_quota = 1;
    })
    .await;
    let stacks = Caller::new(&sandbox, TOKEN);
    stacks.stack("a").await;
    check("token.unclustered.200", &stacks.with("bkar_old").get("/v3/token").await.body);
    let checked = |name: &str, answer: crate::support::Answer| {
        check(name, &answer.body);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(name.contains(answer.status.as_str()), "{name}: {}", answer.status);
    };
    let list = "/v3/stacks/a/scheduled-jobs?queue_key=default";
    checked("error.400", stacks.get(&format!("{list}&limit=0")).await);
    checked("error.401", stacks.with("bkct_other").get("/v3/token").await);
    let other = json!({"key": "b", "type": "custom", "queue_key": "default", "metadata": {}});
    checked("error.403", stacks.post("/v3/stacks/register", other).await);
    checked("error.404", stacks.get("/v3/stacks/b/scheduled-jobs?queue_key=default").await);
    checked("error.422", stacks.post("/v3/stacks/register", json!({"key": ""})).await);
    let calls = futures_util::future::join_all((0..12).map(|_| stacks.get(list))).await;
    let refused = calls.into_iter().find(|answer| answer.status == 429).unwrap();
    checked("error.429", refused);
    sandbox.begin_outage(sandbox::OutageKind::Refuse, std::time::Duration::from_secs(5));
    checked("error.503", stacks.get("/v3/token").await);
}
