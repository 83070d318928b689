//! A token in a file: rotated under a running client, and clear words when it cannot be read.

use std::fs;
use std::path::Path;

use buildkite::{Client, ConfigError, Options, Remedy, TokenSource};
use secrecy::ExposeSecret;

use crate::server::{Seen, Server, golden, options, reply};

fn from_file(server: &Server, path: &Path) -> Result<Client, ConfigError> {
    let token = TokenSource::File(path.to_owned());
    Client::new(Options { token, ..options(&server.endpoint) })
}

/// Accepts `accepted` only.
async fn accepting(accepted: &'static str) -> Server {
    Server::start(move |seen: &Seen| match seen.header("authorization").strip_prefix("Token ") {
        Some(token) if token == accepted => reply(200, &[], golden("token.200.json")),
        _ => reply(401, &[], golden("error.401.json")),
    })
    .await
}

#[tokio::test]
async fn a_rotated_token_is_used_by_the_next_call() {
    let (server, folder) = (accepting("bkct_new-and-longer").await, tempfile::tempdir().unwrap());
    let path = folder.path().join("token");
    fs::write(&path, "bkct_old\n").unwrap();
    let client = from_file(&server, &path).unwrap();
    let error = client.token_identity().await.unwrap_err();
    assert_eq!((error.remedy, error.status), (Remedy::Unauthorized, Some(401)));
    fs::write(&path, "  bkct_new-and-longer\r\n").unwrap();
    assert_eq!(client.token_identity().await.unwrap().organization_slug, "demo");
    let token = client.stack("any").agent_token().await.unwrap();
    assert_eq!(token.expose_secret(), "bkct_new-and-longer");
    fs::remove_file(&path).unwrap();
    let error = client.stack("any").agent_token().await.unwrap_err();
    assert!(error.message.contains(&path.display().to_string()), "{error}");
}

#[tokio::test]
async fn a_token_that_was_replaced_by_a_rename_is_seen() {
    // As Kubernetes does it: a symbolic link that moves, to a file of the same length and time.
    let (server, folder) = (accepting("bkct_2").await, tempfile::tempdir().unwrap());
    let place = |name: &str| folder.path().join(name);
    for name in ["bkct_1", "bkct_2"] {
        fs::write(place(name), name).unwrap();
    }
    let time = fs::metadata(place("bkct_1")).unwrap().modified().unwrap();
    fs::File::options().write(true).open(place("bkct_2")).unwrap().set_modified(time).unwrap();
    std::os::unix::fs::symlink(place("bkct_1"), place("token")).unwrap();
    let client = from_file(&server, &place("token")).unwrap();
    // Not by way of a 401, which would make it read again anyhow.
    std::os::unix::fs::symlink(place("bkct_2"), place("next")).unwrap();
    fs::rename(place("next"), place("token")).unwrap();
    client.token_identity().await.unwrap();
}

#[tokio::test]
async fn after_a_401_the_file_is_read_again_in_any_case() {
    let (server, folder) = (accepting("bkct_2").await, tempfile::tempdir().unwrap());
    let path = folder.path().join("token");
    fs::write(&path, "bkct_1").unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let client = from_file(&server, &path).unwrap();
    // Same inode, length and time: nothing tells that it changed.
    fs::write(&path, "bkct_2").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(client.token_identity().await.unwrap_err().remedy, Remedy::Unauthorized);
    client.token_identity().await.unwrap();
}

#[tokio::test]
async fn a_token_file_that_cannot_be_used_is_named() {
    let (server, folder) = (accepting("bkct_1").await, tempfile::tempdir().unwrap());
    let path = folder.path().join("token");
    let refused = |words: &str| {
        let error = from_file(&server, &path).unwrap_err().to_string();
        let start = format!("token: token file {}", path.display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("bkct_"), "{error}");
    };
    refused("No such file");
    fs::write(&path, "\n").unwrap();
    refused("is empty");
    fs::write(&path, "bkct_a\nbkct_b\n").unwrap();
    refused("holds characters that no token has");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    refused("UTF-8");
    fs::write(&path, "x".repeat(20_000)).unwrap();
    refused("is too long to be a token");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("is a directory");
}

#[tokio::test]
async fn a_token_file_that_vanishes_stops_calls_until_it_is_back() {
    let (server, folder) = (accepting("bkct_1").await, tempfile::tempdir().unwrap());
    let path = folder.path().join("token");
    fs::write(&path, "bkct_1").unwrap();
    let client = from_file(&server, &path).unwrap();
    fs::remove_file(&path).unwrap();
    let error = client.token_identity().await.unwrap_err();
    assert_eq!((error.remedy, error.status), (Remedy::Retry, None));
    assert!(error.message.contains("No such file"), "{error}");
    assert!(server.seen().is_empty());
    fs::write(&path, "bkct_1").unwrap();
    client.token_identity().await.unwrap();
}

#[tokio::test]
async fn a_token_file_that_does_not_answer_holds_nothing_else_up() {
    let (server, folder) = (accepting("bkct_1").await, tempfile::tempdir().unwrap());
    let path = folder.path().join("token");
    fs::write(&path, "bkct_1").unwrap();
    let client = from_file(&server, &path).unwrap();
    // Who reads from a pipe that nobody writes to waits for ever.
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let (first, second) = tokio::join!(client.token_identity(), client.token_identity());
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!((error.remedy, error.status), (Remedy::Retry, None));
        assert!(error.message.contains("no answer within 5 s"), "{error}");
    }
    // The thread that waits gets its answer, and the next call a file that answers.
    fs::write(&path, "bkct_1").unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "bkct_1").unwrap();
    client.token_identity().await.unwrap();
}
