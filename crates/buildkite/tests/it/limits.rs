//! The limits as they show over HTTP: kept before the server refuses, obeyed when it says more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::Response;
use buildkite::wire::Scope;
use buildkite::{Paging, Remedy};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::golden::id;
use crate::server::{Seen, Server, golden, reply};

/// Answers as Buildkite does: a sliding second per path, 429 beyond ten.
fn ten_a_second() -> impl Fn(&Seen) -> Response {
    let arrivals = Mutex::new(VecDeque::<Instant>::new());
    move |_: &Seen| {
        let now = Instant::now();
        let mut arrivals = arrivals.lock().unwrap();
        arrivals.retain(|&at| at + Duration::from_secs(1) > now);
        if arrivals.len() >= 10 {
            return reply(429, &[("Retry-After", "1")], golden("error.429.json"));
        }
        arrivals.push_back(now);
        let remaining = (10 - arrivals.len()).to_string();
        let headers = [
            ("RateLimit-Scope", "batch-reserve"),
            ("RateLimit-Limit", "10"),
            ("RateLimit-Remaining", remaining.as_str()),
            ("RateLimit-Reset", "1"),
        ];
        reply(200, &headers, golden("reserve.200.json"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_never_refused() {
    let server = Server::start(ten_a_second()).await;
    let stack = server.stack();
    let started = Instant::now();
    let ids = [id(0x1111, 1)];
    let calls = (0..45).map(|_| stack.reserve(&ids, Duration::from_secs(60)));
    for batch in join_all(calls).await {
        batch.into_result().expect("the server has nothing to refuse");
    }
    assert_eq!(server.seen().len(), 45);
    assert!(started.elapsed() >= Duration::from_secs(4));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_429_holds_its_scope_and_no_other() {
    for (header, waits) in [("2.5", 2.5), ("30", 30.0), ("soon", 1.0), ("-3", 1.0)] {
        let server = Server::start(move |_: &Seen| {
            reply(429, &[("Retry-After", header)], golden("error.429.json"))
        })
        .await;
        let (client, stack) = (server.client(), "jit");
        let batch = client.stack(stack).reserve(&[id(0x1111, 1)], Duration::from_secs(60)).await;
        let error = batch.into_result().unwrap_err();
        assert_eq!(error.remedy, Remedy::Retry);
        assert_eq!(error.retry_after, Some(Duration::from_secs_f64(waits)), "{header}");
        assert_eq!(error.scope, Some(Scope::BatchReserve));
        let left = client.stack(stack).not_before(Scope::BatchReserve).as_secs_f64();
        assert!(left > waits - 0.5 && left <= waits, "{header}: {left}");
        assert_eq!(client.stack(stack).not_before(Scope::FinishJob), Duration::ZERO);
        assert_eq!(client.stack("other").not_before(Scope::BatchReserve), Duration::ZERO);
    }
}

#[tokio::test]
async fn a_429_without_retry_after_holds_as_its_window_says_or_a_second() {
    let body = r#"{"message":"slow down"}"#;
    for (headers, waits) in [(&[][..], 1), (&[("RateLimit-Reset", "4")][..], 4)] {
        let server = Server::start(move |_: &Seen| reply(429, headers, body)).await;
        let error = server.stack().job(id(0x1111, 1)).await.unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(waits)));
    }
}

#[tokio::test]
async fn a_list_that_asks_to_wait_is_obeyed_although_it_succeeded() {
    let server =
        Server::start(|_: &Seen| reply(200, &[("Retry-After", "7.5")], golden("list.200.json")))
            .await;
    let stack = server.stack();
    let listing = stack.list_all("q", Paging::default()).await.unwrap();
    assert_eq!(listing.retry_after, Some(Duration::from_millis(7_500)));
    assert_eq!(listing.jobs.len(), 1);
    let left = stack.not_before(Scope::ListScheduledJobs);
    assert!(left > Duration::from_secs(7), "{left:?}");
}

#[tokio::test]
async fn what_another_process_used_of_our_key_is_seen_in_the_headers() {
    let server = Server::start(|_: &Seen| {
        let headers = [
            ("RateLimit-Scope", "list-scheduled-jobs"),
            ("RateLimit-Limit", "10"),
            ("RateLimit-Remaining", "0"),
            ("RateLimit-Reset", "20"),
        ];
        reply(200, &headers, golden("list.200.json"))
    })
    .await;
    let stack = server.stack();
    assert_eq!(stack.not_before(Scope::ListScheduledJobs), Duration::ZERO);
    stack.list_page("q", 10, None).await.unwrap();
    // Nine of the ten were not ours; ours is free again in a second, theirs when they say.
    let soon = stack.not_before(Scope::ListScheduledJobs);
    assert!(soon > Duration::from_millis(500) && soon < Duration::from_millis(1_500), "{soon:?}");
    assert_eq!(stack.not_before(Scope::BatchReserve), Duration::ZERO);
}

#[tokio::test]
async fn handles_of_one_key_share_a_window() {
    let server = Server::start(|_: &Seen| reply(200, &[], golden("reserve.200.json"))).await;
    let client = server.client();
    let calls = (0..10).map(|_| {
        let stack = client.stack("shared");
        async move { stack.reserve(&[id(0x1111, 1)], Duration::from_secs(60)).await }
    });
    join_all(calls).await;
    assert!(client.clone().stack("shared").not_before(Scope::BatchReserve) > Duration::ZERO);
    assert_eq!(Arc::new(client).stack("another").not_before(Scope::BatchReserve), Duration::ZERO);
}
