//! A planted secret shows nowhere: not in what is printed, not in what fails.

use std::fmt::Debug;
use std::time::Duration;

use buildkite::{Client, Options, Proxies, TokenSource};

use crate::golden::{id, registration};
use crate::server::{Seen, Server, fixed, options, reply};

const PLANTED: &str = "bkct_PLANTED-0123456789";

fn hides(what: &(impl Debug + ?Sized)) {
    for text in [format!("{what:?}"), format!("{what:#?}")] {
        assert!(!text.contains("PLANTED"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_echoes_the_token_does_not_leak_it() {
    let server = Server::start(|seen: &Seen| {
        let echo = seen.header("authorization");
        match seen.uri.path() {
            path if path.ends_with("register") => {
                reply(422, &[], format!(r#"{{"message":"bad: {echo}"}}"#))
            }
            path if path.ends_with("finish") => {
                reply(302, &[("location", &format!("http://x/?t={echo}"))], "")
            }
            path if path.ends_with("token") => reply(200, &[], format!(r#"{{"uuid":"{echo}","#)),
            _ => reply(502, &[], format!("<html>{echo}</html>")),
        }
    })
    .await;
    let options = Options { token: fixed(PLANTED), ..options(&server.endpoint) };
    hides(&options);
    let client = Client::new(options).unwrap();
    let stack = client.stack("jit");
    hides(&client);
    hides(&stack);
    let errors = [
        client.register(&registration()).await.unwrap_err(),
        client.token_identity().await.unwrap_err(),
        stack.finish(id(0x1111, 1), 1, "x").await.unwrap_err(),
        stack.job(id(0x1111, 1)).await.unwrap_err(),
    ];
    for error in &errors {
        hides(error);
        hides(error.to_string().as_str());
    }
    assert_eq!(errors[0].message, "bad: Token [redacted]");
    assert_eq!(server.seen()[0].header("authorization"), format!("Token {PLANTED}"));
}

#[tokio::test]
async fn job_tokens_and_environments_are_not_printed() {
    let server = Server::start(|seen: &Seen| {
        if seen.method == "GET" {
            let job = serde_json::json!({"id": id(0x1111, 1), "env": {"KEY": PLANTED},
                                         "command": format!("echo {PLANTED}")});
            return reply(200, &[], job.to_string());
        }
        let token = serde_json::json!({"job_uuid": id(0x1111, 1),
            "job_acquisition_token": PLANTED, "expires_at": "2026-10-02T08:25:00Z"});
        let body = serde_json::json!({"job_acquisition_tokens": [token], "not_issued": []});
        reply(201, &[], body.to_string())
    })
    .await;
    let stack = server.stack();
    hides(&stack.job(id(0x1111, 1)).await.unwrap());
    let batch = stack.issue_tokens(&[id(0x1111, 1)], Duration::from_secs(60)).await;
    hides(&batch);
    assert_eq!(batch.value.issued.len(), 1);
}

#[tokio::test]
async fn no_half_of_a_token_is_left_where_a_message_is_cut() {
    for before in 170..200 {
        let server = Server::start(move |seen: &Seen| {
            let echo = seen.header("authorization");
            reply(502, &[], format!("{}{echo}{}", "x".repeat(before), "y".repeat(300)))
        })
        .await;
        let options = Options { token: fixed(PLANTED), ..options(&server.endpoint) };
        let error = Client::new(options).unwrap().token_identity().await.unwrap_err();
        assert!(!error.message.contains("bkct"), "{error}");
    }
}

#[tokio::test]
async fn a_reply_that_cannot_be_read_is_not_repeated() {
    // serde would say: invalid type: string "bkjat_PLANTED", expected …
    let body = r#"{"job_acquisition_tokens":"bkjat_PLANTED","not_issued":[]}"#;
    let server = Server::start(move |_: &Seen| reply(201, &[], body)).await;
    let batch = server.stack().issue_tokens(&[id(0x1111, 1)], Duration::from_secs(60)).await;
    let error = batch.into_result().unwrap_err();
    hides(&error);
    assert!(error.message.contains("line 1, column"), "{error}");
}

#[test]
fn sources_and_proxies_print_without_their_secrets() {
    hides(&fixed(PLANTED));
    let file = TokenSource::File("/etc/buildkite/token".into());
    assert!(format!("{file:?}").contains("/etc/buildkite/token"));
    let proxies = Proxies::from_vars(|name| {
        (name == "HTTPS_PROXY").then(|| "http://me:PLANTED@gateway.corp:3128".to_owned())
    });
    hides(&proxies.unwrap());
}
