//! Buildkite's webhooks (D.4): proves who sent one, and reads the little that a wake-up needs.
//! It serves no HTTP, and what a webhook says is a hint to look, never a fact to act on.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

pub const EVENT_HEADER: &str = "x-buildkite-event";
pub const TOKEN_HEADER: &str = "x-buildkite-token";
pub const SIGNATURE_HEADER: &str = "x-buildkite-signature";

/// How far a signature's time may be from ours, either way: a replay is older, a clock may be off.
const OLDEST_S: u64 = 300;

/// What a delivery says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// `job.scheduled`, `ping`, …; Buildkite may add others.
    pub event: String,
    pub job: Option<Uuid>,
    /// The `queue=` of the job's rules; none for the default queue.
    pub queue_key: Option<String>,
    pub cluster_queue: Option<Uuid>,
}

/// Why a delivery is not believed. Says nothing about the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the delivery carries neither X-Buildkite-Signature nor X-Buildkite-Token")]
    Unsigned,
    #[error("the delivery's token is not ours")]
    WrongToken,
    #[error("the delivery's signature is not made with our secret")]
    WrongSignature,
    #[error("the signature header is not of the form timestamp=…,signature=…")]
    MalformedSignature,
    #[error("the delivery is {0} s away from our clock, more than {OLDEST_S} s")]
    Stale(u64),
    #[error("the delivery's body is not JSON of the expected form")]
    MalformedBody,
}

/// Verifies a delivery and reads it. A signature counts before a token when both are there.
///
/// # Errors
/// A [`Refused`]; answer all but the malformed body with 401.
pub fn receive(
    secret: &SecretString,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Hint, Refused> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(SIGNATURE_HEADER), text(TOKEN_HEADER)) {
        (Some(signature), _) => verify_signature(secret, signature, body, now)?,
        (None, Some(token)) => verify_token(secret, token)?,
        (None, None) => return Err(Refused::Unsigned),
    }
    read(text(EVENT_HEADER), body)
}

/// Whether a plain token is the secret; takes as long whatever it is.
///
/// # Errors
/// [`Refused::WrongToken`].
pub fn verify_token(secret: &SecretString, token: &str) -> Result<(), Refused> {
    // Digests have one length, so that not even the secret's length shows in the time.
    let ours = Sha256::digest(secret.expose_secret().as_bytes());
    let theirs = Sha256::digest(token.as_bytes());
    let same = bool::from(ours.as_slice().ct_eq(theirs.as_slice()));
    if same { Ok(()) } else { Err(Refused::WrongToken) }
}

/// Whether `timestamp=<unix>,signature=<hex>` was made with the secret over this body, lately.
///
/// # Errors
/// A [`Refused`]; the age is only looked at when the signature is right.
pub fn verify_signature(
    secret: &SecretString,
    header: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Refused> {
    let (timestamp, signature) = split_header(header).ok_or(Refused::MalformedSignature)?;
    let sent: i64 = timestamp.parse().map_err(|_| Refused::MalformedSignature)?;
    let signature = from_hex(signature).ok_or(Refused::MalformedSignature)?;
    mac(secret, timestamp, body).verify_slice(&signature).map_err(|_| Refused::WrongSignature)?;
    let age = now.as_second().abs_diff(sent);
    if age > OLDEST_S { Err(Refused::Stale(age)) } else { Ok(()) }
}

/// The value of `X-Buildkite-Signature` for a body that is sent at `unix_s`.
#[must_use]
pub fn sign(secret: &SecretString, unix_s: i64, body: &[u8]) -> String {
    let digest = mac(secret, &unix_s.to_string(), body).finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("timestamp={unix_s},signature={hex}")
}

fn mac(secret: &SecretString, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

fn split_header(header: &str) -> Option<(&str, &str)> {
    let (mut timestamp, mut signature) = (None, None);
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            ("timestamp", value) => timestamp = Some(value),
            ("signature", value) => signature = Some(value),
            // Buildkite may add a part; what is signed are these two.
            _ => {}
        }
    }
    Some((timestamp?, signature?))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[derive(Deserialize)]
struct Body {
    event: Option<String>,
    job: Option<Job>,
}

#[derive(Deserialize)]
struct Job {
    id: Option<Uuid>,
    #[serde(default)]
    agent_query_rules: Option<Vec<String>>,
    cluster_queue_id: Option<Uuid>,
}

fn read(event: Option<&str>, body: &[u8]) -> Result<Hint, Refused> {
    let body: Body = serde_json::from_slice(body).map_err(|_| Refused::MalformedBody)?;
    let event = event.filter(|event| !event.is_empty()).map(str::to_owned).or(body.event);
    let rules = body.job.as_ref().and_then(|job| job.agent_query_rules.as_deref());
    let queue = rules.unwrap_or_default().iter().find_map(|rule| rule.strip_prefix("queue="));
    Ok(Hint {
        event: event.ok_or(Refused::MalformedBody)?,
        queue_key: queue.map(str::to_owned),
        job: body.job.as_ref().and_then(|job| job.id),
        cluster_queue: body.job.as_ref().and_then(|job| job.cluster_queue_id),
    })
}

#[cfg(test)]
mod tests;
