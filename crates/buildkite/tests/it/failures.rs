//! What each failure leaves the caller to do: for a call that changes something (`reserve`) and
//! for one that only asks (`states`).

use std::io::Write;
use std::time::Duration;

use buildkite::{Client, ConfigError, Error, Options, Remedy, StackClient};
use tokio::net::TcpListener;

use crate::golden::id;
use crate::server::{self, Seen, Server, fixed, golden, options, raw, reply};

async fn reserve(stack: &StackClient) -> Error {
    let batch = stack.reserve(&[id(0x1111, 1)], Duration::from_secs(60)).await;
    batch.into_result().expect_err("nothing here answers well")
}

async fn states(stack: &StackClient) -> Error {
    let batch = stack.states(&[id(0x1111, 1)]).await;
    batch.into_result().expect_err("nothing here answers well")
}

/// The remedies of a write and of a read against a server that always replies so.
async fn check(status: u16, body: &str, write: Remedy, read: Remedy, words: &str) {
    let body = body.to_owned();
    let server = Server::start(move |_: &Seen| reply(status, &[], body.clone())).await;
    let error = reserve(&server.client().stack("one")).await;
    assert_eq!((error.remedy, error.status), (write, Some(status)), "{error}");
    assert!(error.message.contains(words), "{error}");
    let error = states(&server.client().stack("two")).await;
    assert_eq!((error.remedy, error.status), (read, Some(status)), "{error}");
    assert_eq!(server.seen().len(), 2, "the client does not try again by itself");
}

#[tokio::test]
async fn the_apis_own_words_reach_people() {
    use Remedy::{Forbidden, Gone, Never, Retry, Unauthorized};
    for (status, remedy, words) in [
        (400, Never, "limit must be a positive integer of at most 1000"),
        (401, Unauthorized, "Invalid access token"),
        (403, Forbidden, "Your organization has reached its limit of 30 active stacks"),
        (404, Gone, "Stack not found"),
        (422, Never, "Validation failed: key is invalid"),
        (429, Retry, "Rate limit exceeded, retry in 1 second."),
        (503, Retry, "The organization is temporarily unavailable"),
    ] {
        let body = golden(&format!("error.{status}.json"));
        check(status, &body, remedy, remedy, words).await;
    }
}

#[tokio::test]
async fn what_is_not_the_apis_word_is_not_taken_for_it() {
    use Remedy::{Forbidden, Never, Retry, Unknown};
    let html = "<html>\n<head><title>502 Bad Gateway</title></head>\n</html>";
    let words = "not a reply of the API: <html> <head><title>502 Bad Gateway</title>";
    check(502, html, Unknown, Retry, words).await;
    check(503, html, Unknown, Retry, "502 Bad Gateway").await;
    check(500, r#"{"message":"oh no"}"#, Unknown, Retry, "oh no").await;
    check(504, "", Unknown, Retry, "empty reply").await;
    // A proxy's or a wrong endpoint's 404 does not say that the job is gone.
    check(404, html, Never, Never, "not a reply of the API").await;
    check(404, r#"{"error":"no route"}"#, Never, Never, "no route").await;
    check(403, html, Forbidden, Forbidden, "not a reply of the API").await;
    check(408, "", Retry, Retry, "empty reply").await;
    check(429, html, Retry, Retry, "not a reply of the API").await;
    let long = format!("<p>{}</p>", "x".repeat(100_000));
    check(502, &long, Unknown, Retry, "xxx").await;
}

#[tokio::test]
async fn a_success_that_cannot_be_read_is_no_success() {
    use Remedy::{Retry, Unknown};
    for body in ["", "<html>login</html>", "{}", r#"{"reserved":["not-an-id"],"not_reserved":[]}"#]
    {
        check(200, body, Unknown, Retry, "cannot understand the reply").await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start(|_: &Seen| {
        reply(302, &[("location", "https://login.corp/")], "<html>moved</html>")
    })
    .await;
    let error = reserve(&server.stack()).await;
    assert_eq!(error.remedy, Remedy::Never);
    let words = "redirected to https://login.corp/: is the endpoint right?";
    assert_eq!(error.to_string(), format!("reserve jobs: {words} (HTTP 302)"));
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let stack = server::client(&format!("http://{address}/v3")).stack("jit");
    let error = reserve(&stack).await;
    assert_eq!((error.remedy, error.status), (Remedy::Retry, None));
    assert!(error.message.contains("refused"), "{error}");

    // A label of 64 letters is no name: the resolver says so without asking anybody.
    let stack = server::client(&format!("http://{}.test/v3", "x".repeat(64))).stack("jit");
    let error = reserve(&stack).await;
    assert_eq!((error.remedy, error.status), (Remedy::Retry, None), "{error}");
}

#[tokio::test]
async fn a_lost_reply_may_hide_a_success() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"reserved\":[",
        b"not http at all\r\n\r\n",
    ] {
        let (endpoint, requests, task) = raw(bytes).await;
        let client = server::client(&endpoint);
        let error = reserve(&client.stack("one")).await;
        assert_eq!(error.remedy, Remedy::Unknown, "{error}");
        let error = states(&client.stack("two")).await;
        assert_eq!(error.remedy, Remedy::Retry, "{error}");
        assert_eq!(requests.lock().unwrap().len(), 2, "sent once each");
        task.abort();
    }
}

#[tokio::test]
async fn where_only_the_status_counts_a_torn_body_is_no_failure() {
    let torn = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
    let (endpoint, requests, task) = raw(torn).await;
    let client = server::client(&endpoint);
    client.stack("jit").finish(id(0x1111, 1), -1, "x").await.unwrap();
    client.deregister("jit").await.unwrap();
    assert_eq!(requests.lock().unwrap().len(), 2);
    task.abort();
}

#[tokio::test]
async fn a_slow_reply_is_an_unknown_outcome() {
    // Accepts and reads, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v3", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            server::read_request(&mut stream).await;
            open.push(stream);
        }
    });
    let mut options = options(&endpoint);
    options.timeouts.request = Duration::from_millis(100);
    let stack = Client::new(options).unwrap().stack("jit");
    let error = reserve(&stack).await;
    assert_eq!((error.remedy, error.status), (Remedy::Unknown, None));
    assert!(error.message.contains("timed out"), "{error}");
    assert_eq!(states(&stack).await.remedy, Remedy::Retry);
    task.abort();
}

#[tokio::test]
async fn a_reply_that_swells_beyond_reason_is_cut_off() {
    // 32 KiB on the wire, 33 MiB unpacked.
    let bomb = gzip(&vec![b' '; 33 * 1024 * 1024]);
    let server =
        Server::start(move |_: &Seen| reply(200, &[("content-encoding", "gzip")], bomb.clone()))
            .await;
    let error = reserve(&server.stack()).await;
    assert_eq!(error.remedy, Remedy::Unknown);
    assert!(error.message.contains("longer than 33554432 bytes"), "{error}");
}

#[tokio::test]
async fn a_compressed_reply_is_read() {
    let body = gzip(golden("reserve.200.json").as_bytes());
    let server = Server::start(move |seen: &Seen| {
        assert!(seen.header("accept-encoding").contains("gzip"));
        reply(200, &[("content-encoding", "gzip")], body.clone())
    })
    .await;
    let batch = server.stack().reserve(&[id(0x1111, 1)], Duration::from_secs(60)).await;
    assert_eq!(batch.into_result().unwrap().reserved, [id(0x1111, 1)]);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn odd_fields_beside_the_message_do_not_cost_it() {
    let body = r#"{"message":"slow down","reset":2.5,"limit":"ten","scope":7}"#;
    let server = Server::start(move |_: &Seen| reply(429, &[], body)).await;
    let error = reserve(&server.stack()).await;
    assert_eq!(error.message, "slow down");
    assert_eq!(error.retry_after, Some(Duration::from_millis(2_500)));
}

#[test]
fn a_bad_option_is_named() {
    let refused = |options: Options| Client::new(options).expect_err("a bad option").to_string();
    for (endpoint, words) in [
        ("agent.buildkite.com/v3", "endpoint \"agent.buildkite.com/v3\""),
        ("ftp://agent.buildkite.com/v3", "is neither https:// nor http://"),
        ("https://me:pa55@agent.buildkite.com/v3", "holds a user name or password"),
        ("https://agent.buildkite.com/v3?x=1", "holds a query"),
    ] {
        let error = refused(options(endpoint));
        assert!(error.contains(words) && !error.contains("pa55"), "{error}");
    }
    for (token, words) in [
        ("", "the token is empty"),
        (" \n", "the token is empty"),
        ("bkct_a b", "holds characters that no token has"),
        ("bkct_ä", "holds characters that no token has"),
    ] {
        let error = refused(Options { token: fixed(token), ..options("http://127.0.0.1:1/v3") });
        assert!(error.contains(words) && !error.contains("bkct_"), "{error}");
    }
    let agent = Options { user_agent: "a\nb".to_owned(), ..options("http://127.0.0.1:1/v3") };
    assert!(matches!(Client::new(agent), Err(ConfigError::UserAgent(_))));
}
