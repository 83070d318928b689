//! A server that answers as a test says and remembers what it was asked. It judges nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use buildkite::{Client, Options, Proxies, StackClient, Timeouts, TokenSource};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) from: SocketAddr,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://x{}", self.uri)).expect("a path");
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

type Answer = dyn Fn(&Seen) -> Response + Send + Sync;
type Journal = Arc<Mutex<Vec<Seen>>>;

pub(crate) struct Server {
    pub(crate) endpoint: String,
    journal: Journal,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let journal = Arc::new(Mutex::new(Vec::new()));
        let state: (Arc<Answer>, Journal) = (Arc::new(answer), journal.clone());
        let app = axum::Router::new().fallback(take).with_state(state);
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("serving does not end");
        });
        Self { endpoint: format!("http://{address}/v3"), journal, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.journal.lock().expect("no test panics while it writes").clone()
    }

    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    /// How many connections the requests came over.
    pub(crate) fn connections(&self) -> usize {
        self.seen().iter().map(|seen| seen.from).collect::<BTreeSet<_>>().len()
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.endpoint)
    }

    pub(crate) fn stack(&self) -> StackClient {
        self.client().stack("jit-linux-3f9c")
    }
}

async fn take(
    State((answer, journal)): State<(Arc<Answer>, Journal)>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let seen = Seen { method, uri, headers, body, from };
    let response = answer(&seen);
    journal.lock().expect("no test panics while it reads").push(seen);
    response
}

pub(crate) const TOKEN: &str = "bkct_a-token-for-tests";

pub(crate) fn fixed(token: &str) -> TokenSource {
    TokenSource::Fixed(token.to_owned().into())
}

pub(crate) fn options(endpoint: &str) -> Options {
    buildkite::install_crypto_provider();
    Options {
        endpoint: endpoint.to_owned(),
        token: fixed(TOKEN),
        user_agent: "jitney/0.1.0".to_owned(),
        extra_ca: None,
        proxies: Proxies::none(),
        timeouts: Timeouts::default(),
    }
}

pub(crate) fn client(endpoint: &str) -> Client {
    Client::new(options(endpoint)).expect("plain options")
}

/// A reply with this status, these headers and this body.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).expect("a fit reply")
}

pub(crate) fn json(status: u16, body: &Value) -> Response {
    reply(status, &[("content-type", "application/json")], body.to_string())
}

/// A golden file's text.
pub(crate) fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A golden file's JSON.
pub(crate) fn golden_json(name: &str) -> Value {
    serde_json::from_str(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A server below HTTP: reads each request to its end, sends `bytes` as they are and closes.
/// The counter says how many requests came.
pub(crate) async fn raw(bytes: &'static [u8]) -> (String, Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}/v3", listener.local_addr().expect("a bound socket"));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let journal = Arc::clone(&requests);
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let request = read_request(&mut stream).await;
            journal.lock().expect("no test panics here").push(request);
            answer_raw(&mut stream, bytes).await;
        }
    });
    (endpoint, requests, task)
}

async fn answer_raw(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("the client listens");
    stream.shutdown().await.expect("the client listens");
}

/// One HTTP/1.1 request: its head, and its body where it announces a length.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let read = stream.read(&mut chunk).await.expect("a request");
        text.extend_from_slice(&chunk[..read]);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = so_far.split_once("\r\n\r\n") else {
            if read == 0 {
                return so_far;
            }
            continue;
        };
        let length: usize = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.trim().parse().expect("a length"));
        if body.len() >= length || read == 0 {
            return so_far;
        }
    }
}
