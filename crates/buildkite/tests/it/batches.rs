//! More than a thousand at once: cut, joined, and no chunk's loss is another's.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use buildkite::Remedy;
use buildkite::wire::Notification;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::golden::id;
use crate::server::{self, Seen, Server};

fn ids(count: u64) -> Vec<Uuid> {
    (0..count).map(|n| id(0x1111, n)).collect()
}

fn named(seen: &Seen) -> Vec<Value> {
    seen.json()["job_uuids"].as_array().unwrap().clone()
}

/// Grants all but the chunk that begins with job 1000, which is refused.
fn all_but_the_second_chunk(seen: &Seen) -> Response {
    let ids = named(seen);
    assert!(ids.len() <= 1_000, "the server takes a thousand");
    if ids[0] == json!(id(0x1111, 1_000)) {
        return server::json(500, &json!({"message": "oh no"}));
    }
    let path = seen.uri.path();
    if path.ends_with("batch-reserve") {
        return server::json(200, &json!({"reserved": ids, "not_reserved": []}));
    }
    if path.ends_with("get-states") {
        let states: BTreeMap<_, _> =
            ids.iter().map(|id| (id.as_str().unwrap(), "reserved")).collect();
        return server::json(200, &json!({"states": states}));
    }
    let token = |id: &Value| {
        json!({"job_uuid": id, "job_acquisition_token": "bkjat_x",
               "expires_at": "2026-10-02T08:25:00Z"})
    };
    let tokens: Vec<_> = ids.iter().map(token).collect();
    server::json(201, &json!({"job_acquisition_tokens": tokens, "not_issued": []}))
}

fn without_second_chunk(all: &[Uuid]) -> Vec<Uuid> {
    [&all[..1_000], &all[2_000..]].concat()
}

#[tokio::test]
async fn what_the_other_chunks_reserved_is_kept() {
    let server = Server::start(all_but_the_second_chunk).await;
    let all = ids(2_500);
    let batch = server.stack().reserve(&all, Duration::from_secs(60)).await;
    assert_eq!(batch.value.reserved, without_second_chunk(&all));
    assert_eq!(batch.failures.len(), 1);
    assert_eq!(batch.failures[0].items, all[1_000..2_000]);
    // The server may have reserved them before it failed.
    assert_eq!(batch.failures[0].error.remedy, Remedy::Unknown);
    assert!(!batch.is_complete());
    let error = batch.into_result().unwrap_err();
    assert_eq!(error.to_string(), "reserve jobs: oh no (HTTP 500)");
    assert_eq!(server.seen().len(), 3, "and nothing was tried twice");
}

#[tokio::test]
async fn states_and_tokens_are_joined_in_the_same_way() {
    let server = Server::start(all_but_the_second_chunk).await;
    let (stack, all) = (server.stack(), ids(2_500));
    let states = stack.states(&all).await;
    assert_eq!(states.value.len(), 1_500);
    assert_eq!(states.failures[0].error.remedy, Remedy::Retry, "a question changes nothing");
    let tokens = stack.issue_tokens(&all, Duration::from_secs(60)).await;
    let issued: Vec<_> = tokens.value.issued.iter().map(|token| token.job).collect();
    assert_eq!(issued, without_second_chunk(&all));
    assert_eq!(tokens.failures[0].items, all[1_000..2_000]);
}

#[tokio::test]
async fn a_notes_place_is_told_across_chunks() {
    let server = Server::start(|seen: &Seen| {
        let sent = seen.json()["notifications"].as_array().unwrap().clone();
        assert!(sent.len() <= 1_000, "the server takes a thousand");
        if sent[0]["detail"] == "note 2000" {
            return server::json(422, &json!({"message": "no"}));
        }
        let last = sent.len() - 1;
        // An index beyond the request must not be taken for another note's.
        let errors = json!([{"error": "full", "indexes": [0, last, last + 1]}]);
        server::json(200, &json!({"errors": errors}))
    })
    .await;
    let note =
        |n| Notification { job_uuid: id(0x1111, n), detail: format!("note {n}"), timestamp: None };
    let batch = server.stack().notify((0..2_500).map(note).collect()).await;
    let indexes: Vec<_> = batch.value.iter().map(|error| error.indexes.clone()).collect();
    assert_eq!(indexes, [[0, 999], [1_000, 1_999]]);
    assert_eq!(batch.failures[0].items, (2_000..2_500).collect::<Vec<_>>());
    assert_eq!(batch.failures[0].error.remedy, Remedy::Never);
}
