//! As much of Buildkite's agent API as one job of a real agent needs, on a loopback port, with a
//! log of the calls. The sandbox is the whole of it; this is here so that backends need it not.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What happened, and what the job is.
#[derive(Debug)]
struct Job {
    command: String,
    /// `PUT jobs/…/finish`'s body, once it came.
    finish: watch::Sender<Option<Value>>,
    calls: Mutex<Vec<String>>,
    started: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) endpoint: String,
    job: Arc<Job>,
}

impl Api {
    /// Serves one job with this command until the runtime ends.
    pub(crate) async fn serve(command: &str) -> Self {
        let job = Arc::new(Job {
            command: command.to_owned(),
            finish: watch::Sender::new(None),
            calls: Mutex::default(),
            started: watch::Sender::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&job));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint: format!("http://{address}/v3"), job }
    }

    pub(crate) async fn started(&self) {
        self.job.started.subscribe().wait_for(|started| *started).await.expect("it is served");
    }

    pub(crate) fn finish(&self) -> Option<Value> {
        self.job.finish.borrow().clone()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.job.calls.lock().expect("calls").clone()
    }
}

async fn answer(State(job): State<Arc<Job>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path().trim_start_matches("/v3/").to_owned();
    job.calls.lock().expect("calls").push(format!("{method} {path}"));
    let mut parts = path.split('/');
    let reply = match (parts.next().unwrap_or_default(), parts.nth(1)) {
        ("register", None) => json!({
            "id": "0199a3c0-0000-7000-8000-000000000001",
            "name": serde_json::from_slice::<Value>(&body).expect("JSON")["name"],
            "access_token": "bkaa_play", "meta_data": [],
            "ping_interval": 10, "job_status_interval": 1, "heartbeat_interval": 5,
        }),
        ("jobs", Some("acquire")) => acquired(&job, path.split('/').nth(1).unwrap_or_default()),
        ("jobs", Some("start")) => {
            job.started.send_replace(true);
            json!({})
        }
        ("jobs", Some("finish")) => {
            job.finish.send_replace(Some(serde_json::from_slice(&body).expect("JSON")));
            json!({})
        }
        ("jobs", None) => json!({ "state": "running" }),
        ("ping" | "connect" | "disconnect" | "heartbeat", None) | ("jobs", Some(_)) => json!({}),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    Json(reply).into_response()
}

fn acquired(job: &Job, id: &str) -> Value {
    json!({
        "id": id, "state": "accepted", "chunks_max_size_bytes": 102_400, "token": "bkaj_play",
        "env": {
            "BUILDKITE_JOB_ID": id, "BUILDKITE_REPO": "file:///nowhere", "BUILDKITE_COMMIT": "HEAD",
            "BUILDKITE_BRANCH": "main", "BUILDKITE_AGENT_NAME": "play",
            "BUILDKITE_ORGANIZATION_SLUG": "acme", "BUILDKITE_PIPELINE_SLUG": "play",
            "BUILDKITE_PIPELINE_PROVIDER": "git", "BUILDKITE_SKIP_CHECKOUT": "true",
            "BUILDKITE_BUILD_ID": "0199a3c0-0000-7000-8000-000000000002",
            "BUILDKITE_COMMAND": job.command,
        },
    })
}
