//! Deliveries that are believed, and those that are not.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;

const BODY: &[u8] = br#"{"event":"ping"}"#;
const NOW_S: i64 = 1_790_000_000;

fn secret() -> SecretString {
    SecretString::from("hush")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

/// What comes of a delivery with these headers at [`NOW_S`].
fn check(pairs: &[(&'static str, &str)], body: &[u8], expected: Result<&str, Refused>) {
    let got = receive(&secret(), &headers(pairs), body, at(NOW_S)).map(|hint| hint.event);
    assert_eq!(got, expected.map(str::to_owned), "{pairs:?}");
}

#[test]
fn the_signature_is_hmac_sha256_of_timestamp_and_body() {
    // Computed with another implementation:
    // printf '1790000000.{"event":"ping"}' | openssl dgst -sha256 -hmac hush
    let expected = "timestamp=1790000000,signature=67b3b8bef2e0b5c15f0ecc8848725180889df942814c27eb59d361857e9c9667";
    assert_eq!(sign(&secret(), NOW_S, BODY), expected);
    check(&[(SIGNATURE_HEADER, expected)], BODY, Ok("ping"));
    check(
        &[(
            SIGNATURE_HEADER,
            &expected
                .to_uppercase()
                .replace("TIMESTAMP", "timestamp")
                .replace("SIGNATURE", "signature"),
        )],
        BODY,
        Ok("ping"),
    );
}

#[test]
fn a_delivery_that_is_not_ours_is_refused() {
    let good = sign(&secret(), NOW_S, BODY);
    let wrong = Err(Refused::WrongSignature);
    check(&[(SIGNATURE_HEADER, &good)], br#"{"event":"pong"}"#, wrong.clone());
    check(&[(SIGNATURE_HEADER, &sign(&"other".into(), NOW_S, BODY))], BODY, wrong.clone());
    let moved = good.replace("1790000000", "1790000001");
    check(&[(SIGNATURE_HEADER, &moved)], BODY, wrong.clone());
    check(&[(SIGNATURE_HEADER, &good[..good.len() - 2])], BODY, wrong.clone());
    // A good token does not make up for a bad signature.
    check(&[(SIGNATURE_HEADER, &moved), (TOKEN_HEADER, "hush")], BODY, wrong);
    for malformed in [
        "",
        "timestamp=1",
        "signature=00",
        "timestamp=x,signature=00",
        "timestamp=1,signature=0",
        "timestamp=1,signature=zz",
    ] {
        check(&[(SIGNATURE_HEADER, malformed)], BODY, Err(Refused::MalformedSignature));
    }
    check(&[], BODY, Err(Refused::Unsigned));
}

#[test]
fn five_minutes_are_the_most_either_way() {
    for (sent, expected) in [
        (NOW_S - 300, Ok("ping")),
        (NOW_S - 301, Err(Refused::Stale(301))),
        (NOW_S + 300, Ok("ping")),
        (NOW_S + 301, Err(Refused::Stale(301))),
    ] {
        check(&[(SIGNATURE_HEADER, &sign(&secret(), sent, BODY))], BODY, expected);
    }
    let ancient = sign(&secret(), i64::MIN, BODY);
    let age = at(NOW_S).as_second().abs_diff(i64::MIN);
    check(&[(SIGNATURE_HEADER, &ancient)], BODY, Err(Refused::Stale(age)));
}

#[test]
fn a_plain_token_must_be_the_secret() {
    check(&[(TOKEN_HEADER, "hush")], BODY, Ok("ping"));
    for wrong in ["", "hus", "hush ", "Hush", "hush-hush"] {
        check(&[(TOKEN_HEADER, wrong)], BODY, Err(Refused::WrongToken));
    }
}

#[test]
fn the_job_and_its_queue_are_read() {
    let body = include_bytes!("../../tests/golden/webhook.job.scheduled.json");
    let signature = sign(&secret(), NOW_S, body);
    let pairs = [(SIGNATURE_HEADER, signature.as_str()), (EVENT_HEADER, "job.scheduled")];
    let hint = receive(&secret(), &headers(&pairs), body, at(NOW_S)).unwrap();
    assert_eq!(
        hint,
        Hint {
            event: "job.scheduled".to_owned(),
            job: Some("0199c0de-1111-7000-8000-000000000001".parse().unwrap()),
            queue_key: Some("linux-small".to_owned()),
            cluster_queue: Some("0199c0de-4444-7000-8000-000000000001".parse().unwrap()),
        }
    );
    let ping = include_bytes!("../../tests/golden/webhook.ping.json");
    check(&[(TOKEN_HEADER, "hush"), (EVENT_HEADER, "ping")], ping, Ok("ping"));
    // A build's event has no job; a job of the default queue has no rule for it.
    check(
        &[(TOKEN_HEADER, "hush")],
        br#"{"event":"build.finished","build":{}}"#,
        Ok("build.finished"),
    );
    check(
        &[(TOKEN_HEADER, "hush")],
        br#"{"event":"job.started","job":{"agent_query_rules":null}}"#,
        Ok("job.started"),
    );
    check(&[(TOKEN_HEADER, "hush")], b"{}", Err(Refused::MalformedBody));
    check(&[(TOKEN_HEADER, "hush")], b"<html>", Err(Refused::MalformedBody));
}
