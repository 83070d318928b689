//! Walks over many pages: to the end, each job once, and no half of a walk taken for the whole.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use buildkite::{Paging, Remedy};
use serde_json::{Value, json};

use crate::golden::id;
use crate::server::{self, Seen, Server, golden_json, reply};

fn job(n: usize, rule: &str) -> Value {
    let mut job = golden_json("list.200.json")["jobs"][0].clone();
    job["id"] = json!(id(0x1111, u64::try_from(n).unwrap()));
    job["agent_query_rules"] = json!([rule]);
    job
}

fn page(jobs: Vec<Value>, next: Option<String>) -> Value {
    let mut page = golden_json("list.200.json");
    page["jobs"] = jobs.into();
    page["page_info"] = json!({"has_next_page": next.is_some(), "end_cursor": next});
    page
}

/// A queue of `jobs` that is read by offsets. Each page begins `overlap` jobs before the end of
/// the one before it, as when jobs at the head were taken while we read.
fn queue(jobs: Vec<Value>, overlap: usize) -> impl Fn(&Seen) -> Response {
    move |seen| {
        let number = |name| seen.query(name).map(|text| text.parse::<usize>().unwrap());
        let (start, limit) = (number("after").unwrap_or(0), number("limit").unwrap());
        let end = (start + limit).min(jobs.len());
        let next = (end < jobs.len()).then(|| (end - overlap).to_string());
        server::json(200, &page(jobs[start..end].to_vec(), next))
    }
}

#[tokio::test]
async fn our_job_is_found_behind_2500_foreign_ones() {
    let mut jobs: Vec<Value> = (0..2_500).map(|n| job(n, "os=foreign")).collect();
    jobs.push(job(9_999, "os=ours"));
    let server = Server::start(queue(jobs, 0)).await;
    let listing = server.stack().list_all("q", Paging::default()).await.unwrap();
    assert_eq!((listing.jobs.len(), listing.pages, listing.complete), (2_501, 3, true));
    let ours = listing.jobs.last().unwrap();
    assert_eq!((ours.id, &ours.agent_query_rules[0][..]), (id(0x1111, 9_999), "os=ours"));
    let asked: Vec<_> = server.seen().iter().map(|seen| seen.query("after")).collect();
    assert_eq!(asked, [None, Some("1000".to_owned()), Some("2000".to_owned())]);
}

#[tokio::test]
async fn a_job_on_two_pages_is_reported_once() {
    let jobs = (0..50).map(|n| job(n, "os=any")).collect();
    let server = Server::start(queue(jobs, 3)).await;
    let paging = Paging { page_limit: 10, max_pages: 20 };
    let listing = server.stack().list_all("q", paging).await.unwrap();
    let ids: Vec<_> = listing.jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids, (0..50).map(|n| id(0x1111, n)).collect::<Vec<_>>());
    assert_eq!(listing.pages, 7);

    // And one that stands twice on the first page.
    let twice = page(vec![job(1, "os=any"), job(1, "os=any")], None);
    let server = Server::start(move |_: &Seen| server::json(200, &twice)).await;
    assert_eq!(server.stack().list_all("q", paging).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
async fn a_walk_that_stops_early_says_so() {
    let jobs = (0..50).map(|n| job(n, "os=any")).collect();
    let server = Server::start(queue(jobs, 0)).await;
    let paging = Paging { page_limit: 10, max_pages: 2 };
    let listing = server.stack().list_all("q", paging).await.unwrap();
    assert_eq!((listing.jobs.len(), listing.pages, listing.complete), (20, 2, false));
}

#[tokio::test]
async fn a_pause_and_a_wait_on_any_page_count() {
    let pages = AtomicUsize::new(0);
    let server = Server::start(move |_: &Seen| {
        let n = pages.fetch_add(1, Ordering::Relaxed);
        let mut page = page(vec![], (n < 2).then(|| n.to_string()));
        page["cluster_queue"]["paused"] = json!(n == 1);
        reply(200, &[("Retry-After", ["0.01", "0.05", "0.001"][n])], page.to_string())
    })
    .await;
    let listing = server.stack().list_all("q", Paging::default()).await.unwrap();
    assert!(listing.paused);
    assert_eq!(listing.retry_after, Some(Duration::from_millis(50)));
}

#[tokio::test]
async fn half_a_walk_is_an_error() {
    let jobs: Vec<Value> = (0..20).map(|n| job(n, "os=any")).collect();
    let whole = queue(jobs, 0);
    let server = Server::start(move |seen: &Seen| match seen.query("after") {
        None => whole(seen),
        Some(_) => server::json(500, &json!({"message": "oh no"})),
    })
    .await;
    let paging = Paging { page_limit: 10, max_pages: 20 };
    let error = server.stack().list_all("q", paging).await.unwrap_err();
    assert_eq!((error.remedy, error.status), (Remedy::Retry, Some(500)));
    assert_eq!(error.to_string(), "list jobs: oh no (HTTP 500)");
}

#[tokio::test]
async fn a_listing_that_cannot_end_is_an_error() {
    for (cursor, words) in [(json!(null), "no cursor"), (json!("same"), "back to itself")] {
        let mut answer = page(vec![job(1, "os=any")], None);
        answer["page_info"] = json!({"has_next_page": true, "end_cursor": cursor});
        let server = Server::start(move |_: &Seen| server::json(200, &answer)).await;
        let error = server.stack().list_all("q", Paging::default()).await.unwrap_err();
        assert_eq!(error.remedy, Remedy::Retry);
        assert!(error.message.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_cursor_goes_back_as_it_came() {
    let cursor = "b3BhcXVl==&x=%2F+ ü";
    let server = Server::start(move |seen: &Seen| {
        let next = seen.query("after").is_none().then(|| cursor.to_owned());
        server::json(200, &page(vec![], next))
    })
    .await;
    server.stack().list_all("q", Paging::default()).await.unwrap();
    assert_eq!(server.seen()[1].query("after").as_deref(), Some(cursor));
}
