//! Webhooks arrive signed, and say what happened.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use buildkite::webhook;
use sandbox::Webhook;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Caller, TOKEN, job, start_with};

/// A receiver of webhooks on loopback, and what it receives.
async fn receiver() -> (String, mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) {
    let (send, receive) = mpsc::unbounded_channel();
    let send = Arc::new(send);
    let app = Router::new().route(
        "/hook",
        post(move |headers: HeaderMap, body: Bytes| async move {
            send.send((headers, body)).unwrap();
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, receive)
}

#[tokio::test]
async fn jobs_and_lost_agents_are_told_of() {
    let (url, mut received) = receiver().await;
    let secret = SecretString::from("hush");
    let hook = Webhook { url, secret: secret.clone() };
    let sandbox = start_with(|options| options.webhook = Some(hook)).await;
    let job = job(&sandbox, "true");
    let agent = Caller::new(&sandbox, TOKEN);
    let session = agent.post("/v3/register", json!({"name": "agent"})).await.body;
    let agent = agent.with(session["access_token"].as_str().unwrap());
    agent.post("/v3/connect", Value::Null).await;
    let given = agent.put(&format!("/v3/jobs/{job}/acquire"), Value::Null).await.body;
    let worker = agent.with(given["token"].as_str().unwrap());
    worker.put(&format!("/v3/jobs/{job}/start"), json!({})).await;
    sandbox.advance(Duration::from_secs(181));

    let mut events = Vec::new();
    for _ in 0..4 {
        let (headers, body) = received.recv().await.unwrap();
        let header = |name: &str| headers[name].to_str().unwrap();
        let signature = header(webhook::SIGNATURE_HEADER);
        let sent_s = signature.strip_prefix("timestamp=").unwrap().split(',').next().unwrap();
        assert_eq!(signature, webhook::sign(&secret, sent_s.parse().unwrap(), &body));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["event"], header(webhook::EVENT_HEADER));
        events.push(body);
    }
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["job.scheduled", "job.started", "agent.lost", "job.finished"]);
    assert_eq!(events[0]["job"]["id"], json!(job));
    assert_eq!(events[0]["job"]["state"], json!("scheduled"));
    assert_eq!(events[0]["pipeline"]["slug"], json!("web"));
    assert_eq!(events[2]["agent"]["id"], session["id"]);
    assert_eq!(events[3]["job"]["exit_status"], json!(-1));
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_refuses_holds_nothing_up() {
    let (url, mut received) = receiver().await;
    let wrong = url.replace("/hook", "/elsewhere");
    let gone = "http://127.0.0.1:1/hook".to_owned();
    for url in [wrong, gone] {
        let secret = SecretString::from("hush");
        let hook = Webhook { url, secret };
        let sandbox = start_with(|options| options.webhook = Some(hook)).await;
        let job = job(&sandbox, "true");
        sandbox.engine(|engine, now| engine.cancel_job(job, now)).unwrap();
        assert_eq!(Caller::new(&sandbox, TOKEN).get("/v3/token").await.status, 200);
    }
    assert!(received.try_recv().is_err());
}
