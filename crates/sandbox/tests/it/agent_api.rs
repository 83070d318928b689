//! One job behind the agent API, for tests of whoever runs it: it records every call and answers
//! as it is told. It keeps no rules; the real server does that.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// `register`, `acquire`, `chunks`, … in their order, without `state` and `heartbeat`.
    pub(crate) calls: Vec<String>,
    pub(crate) log: String,
    pub(crate) finish: Option<Value>,
    /// What `Authorization` carried, by call.
    pub(crate) tokens: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Inner {
    env: BTreeMap<String, String>,
    /// What `GET jobs/:id` says.
    state: String,
    /// Calls that fail, with which status and how often.
    failing: BTreeMap<&'static str, (u16, u32)>,
    sandbox: bool,
    seen: Seen,
}

/// The server; it is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct AgentApi {
    pub(crate) endpoint: String,
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Inner>>, watch::Sender<()>);

impl Drop for AgentApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl AgentApi {
    pub(crate) async fn with_env(env: &[(&str, &str)]) -> Self {
        let basics = [
            ("BUILDKITE_COMMAND", "true"),
            ("BUILDKITE_ORGANIZATION_SLUG", "org"),
            ("BUILDKITE_PIPELINE_SLUG", "pipe"),
        ];
        let env = basics.iter().chain(env).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let inner = Arc::new(Mutex::new(Inner {
            env: env.collect(),
            state: "running".to_owned(),
            failing: BTreeMap::new(),
            sandbox: true,
            seen: Seen::default(),
        }));
        let changed = watch::Sender::new(());
        let app = Router::new()
            .route("/_sandbox/hello", get(hello))
            .route("/v3/jobs/{id}", any(of_job))
            .route("/v3/jobs/{id}/{call}", any(of_job))
            .route("/v3/{call}", any(of_agent))
            .with_state(Shared(inner.clone(), changed.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v3", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, inner, changed, server }
    }

    pub(crate) fn fail(&self, call: &'static str, status: u16, times: u32) {
        self.inner.lock().unwrap().failing.insert(call, (status, times));
    }

    pub(crate) fn set_state(&self, state: &str) {
        self.inner.lock().unwrap().state = state.to_owned();
    }

    pub(crate) fn be_no_sandbox(&self) {
        self.inner.lock().unwrap().sandbox = false;
    }

    pub(crate) fn calls(&self) -> String {
        self.inner.lock().unwrap().seen.calls.join(" ")
    }

    pub(crate) fn log(&self) -> String {
        self.inner.lock().unwrap().seen.log.clone()
    }

    pub(crate) fn token_of(&self, call: &str) -> String {
        self.inner.lock().unwrap().seen.tokens[call].clone()
    }

    /// `exit_status signal signal_reason` of the job's end, once it is there.
    pub(crate) async fn end(&self) -> String {
        self.until(|seen| seen.finish.is_some()).await;
        let inner = self.inner.lock().unwrap();
        let finish = inner.seen.finish.clone().unwrap();
        let words = ["exit_status", "signal", "signal_reason"];
        words.iter().filter_map(|key| finish[key].as_str()).collect::<Vec<_>>().join(" ")
    }

    pub(crate) async fn until(&self, met: impl Fn(&Seen) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = async {
            while !met(&self.inner.lock().unwrap().seen) {
                changes.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "never came; seen: {:?}", self.inner.lock().unwrap().seen);
    }
}

async fn hello(State(Shared(inner, _)): State<Shared>) -> Response {
    if inner.lock().unwrap().sandbox {
        Json(json!({"sandbox": true})).into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

async fn of_agent(
    State(shared): State<Shared>,
    Path(call): Path<String>,
    request: Request,
) -> Response {
    answer(&shared, &call, request).await
}

async fn of_job(
    State(shared): State<Shared>,
    Path(path): Path<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    answer(&shared, path.get("call").map_or("state", String::as_str), request).await
}

async fn answer(Shared(inner, changed): &Shared, call: &str, request: Request) -> Response {
    let token = request.headers().get("Authorization").and_then(|value| value.to_str().ok());
    let token = token.unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let mut inner = inner.lock().unwrap();
    if let Some((status, times @ 1..)) = inner.failing.get_mut(call) {
        *times -= 1;
        let status = StatusCode::from_u16(*status).unwrap();
        return (status, Json(json!({"message": "told to fail"}))).into_response();
    }
    if !["state", "heartbeat"].contains(&call) {
        inner.seen.calls.push(call.to_owned());
        inner.seen.tokens.insert(call.to_owned(), token);
    }
    let reply = reply(&mut inner, call, &body);
    changed.send_replace(());
    Json(reply).into_response()
}

fn reply(inner: &mut Inner, call: &str, body: &Bytes) -> Value {
    match call {
        "register" => json!({
            "id": "0199c0de-aaaa-7000-8000-000000000001", "name": "n", "access_token": "bkaa_1",
            "ping_interval": 1, "job_status_interval": 1, "heartbeat_interval": 1,
        }),
        "acquire" => json!({
            "id": "0199c0de-1111-7000-8000-000000000001", "token": "bkaj_1", "env": inner.env,
            "chunks_max_size_bytes": 1024, "chunks_interval_seconds": 1,
        }),
        "chunks" => {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
            inner.seen.log += &text;
            json!({})
        }
        "state" => json!({"state": inner.state}),
        "finish" => {
            inner.seen.finish = Some(serde_json::from_slice(body).unwrap());
            json!({})
        }
        _ => json!({}),
    }
}
