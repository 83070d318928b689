//! Where machines come in: a guest proves who it is by its identity token, gets the token of its own
//! job, and tells of its phases. What it says is believed of its own machine alone.

mod identity;

use std::sync::Arc;
use std::time::Duration;

use guest::report::{Cause, Phase, Report};
use guest::vm::{Asking, Given, Told};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::Inner;
use super::known::{Known, State, Taken};
use super::settings::Delivery;
use crate::contract::{Labels, MachineEnd};

use identity::{Claims, Keys, Wanted};

/// How soon keys are fetched again for a token that none of them has signed.
const KEYS_AGAIN: Duration = Duration::from_secs(30);
/// The longest tail of a log that is kept.
const LONGEST_LOG: usize = 16 << 10;

/// An answer to a guest, in HTTP's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// JSON. It may hold a secret.
    pub body: String,
}

impl Answer {
    /// A machine's own token.
    #[must_use]
    pub fn token(token: &SecretString) -> Self {
        let given = Given { token: token.expose_secret().to_owned() };
        Self { status: 200, body: json!(given).to_string() }
    }
}

/// What a machine that asks for its token is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Answer(Answer),
    /// It may have the token of this job and attempt, which this process has not ordered.
    NoToken {
        job: Uuid,
        attempt: u32,
    },
}

/// The door of one backend.
#[derive(Debug)]
pub struct Door {
    inner: Arc<Inner>,
    http: reqwest::Client,
    /// Google's keys, and when they were fetched.
    keys: Mutex<(Keys, Option<Timestamp>)>,
}

impl Door {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let mut builder = reqwest::Client::builder().timeout(Duration::from_secs(10));
        let loopback = reqwest::Url::parse(&inner.options.keys_url)
            .is_ok_and(|url| crate::http::is_loopback(&url));
        if loopback {
            builder = builder.no_proxy();
        }
        // The same was made with more options before.
        let http = builder.build().expect("a client with a timeout can be made");
        Self { inner, http, keys: Mutex::default() }
    }

    /// `POST …/token`
    pub async fn token(&self, body: &[u8]) -> Reply {
        let asking: Asking = match read(body) {
            Ok(asking) => asking,
            Err(answer) => return Reply::Answer(answer),
        };
        let claims = match self.admit(&asking.identity).await {
            Ok(claims) => claims,
            Err(answer) => return Reply::Answer(answer),
        };
        let machines = self.inner.machines();
        let Some(known) = machines.get(&claims.name) else {
            return Reply::Answer(refused(503, "no such machine is known now"));
        };
        if known.connected_at.is_some() {
            return Reply::Answer(refused(409, "its agent has connected already"));
        }
        let Labels { job, attempt, .. } = known.stamp.labels;
        match &known.token {
            Some(token) => Reply::Answer(Answer::token(token)),
            None => Reply::NoToken { job, attempt },
        }
    }

    /// `POST …/report`
    pub async fn report(&self, body: &[u8]) -> Answer {
        let told: Told = match read(body) {
            Ok(told) => told,
            Err(answer) => return answer,
        };
        let claims = match self.admit(&told.identity).await {
            Ok(claims) => claims,
            Err(answer) => return answer,
        };
        if let Some(known) = self.inner.machines().get_mut(&claims.name) {
            believe(known, &told.report, told.preempted, self.inner.now());
        }
        self.inner.changed();
        Answer { status: 200, body: "{}".to_owned() }
    }

    /// Whose machine it is that holds such a token; refused are all that are not ours.
    async fn admit(&self, identity: &str) -> Result<Claims, Answer> {
        let settings = &self.inner.options.settings;
        let Delivery::Pull { url } = &settings.delivery else {
            return Err(refused(404, "machines of this backend do not come in here"));
        };
        let wanted = Wanted {
            audience: url,
            account: settings.service_account.as_deref(),
            project: &settings.project,
        };
        let claims = self.read(identity, &wanted).await.map_err(|words| {
            tracing::warn!(error = words, "a machine's identity was not believed");
            refused(403, &words)
        })?;
        let machines = self.inner.machines();
        let Some(known) = machines.get(&claims.name) else {
            // It may be older than we are, and is seen in the next list.
            return Err(refused(503, "no such machine is known now"));
        };
        if known.zone != claims.zone {
            return Err(refused(403, "it is another machine of this name"));
        }
        match &known.id {
            Some(id) if *id == claims.id => Ok(claims),
            Some(_) => {
                tracing::warn!(
                    machine = claims.name,
                    id = claims.id,
                    "another machine of the same name asks"
                );
                Err(refused(403, "it is another machine of this name"))
            }
            // Google has not answered our insert yet.
            None => Err(refused(503, "no such machine is known now")),
        }
    }

    async fn read(&self, identity: &str, wanted: &Wanted<'_>) -> Result<Claims, String> {
        let now = self.inner.now();
        let mut keys = self.keys.lock().await;
        let unknown = !keys.0.has_key_of(identity);
        let due = keys.1.is_none_or(|at| at + KEYS_AGAIN <= now);
        if unknown && due {
            keys.0 = self.fetch().await?;
            keys.1 = Some(now);
        }
        keys.0.claims(identity, wanted, now)
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let url = &self.inner.options.keys_url;
        let failed = |error: reqwest::Error| {
            format!("Google's keys cannot be had now: {}", crate::http::chain(&error))
        };
        let response = self.http.get(url).send().await.map_err(failed)?;
        let response = response.error_for_status().map_err(failed)?;
        let text = response.bytes().await.map_err(failed)?;
        Keys::read(&text)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| refused(400, &error.to_string()))
}

fn refused(status: u16, words: &str) -> Answer {
    Answer { status, body: json!({ "error": words }).to_string() }
}

/// What a guest says of its own machine.
fn believe(known: &mut Known, report: &Report, preempted: bool, now: Timestamp) {
    if report.connected_at.is_some() {
        // By our clock: the machine's may be wrong.
        known.connected_at.get_or_insert(now);
        known.token = None;
    }
    if preempted {
        known.taken.get_or_insert((now, Taken::Back));
    }
    let Some(ended) = &report.ended else { return };
    if report.phase != Phase::Ended || matches!(known.state, State::Refused { .. }) {
        return;
    }
    let cause = if preempted {
        format!("{}, and {}", Taken::Back.words(), ended.cause)
    } else {
        ended.cause.to_string()
    };
    let log: String = ended.log_tail.chars().take(LONGEST_LOG).collect();
    known.told = Some(MachineEnd {
        at: now,
        cause,
        log_tail: log,
        cpu_seconds: ended.usage.cpu_seconds,
        peak_memory_bytes: ended.usage.peak_memory_bytes,
        oom_killed: ended.usage.oom_killed,
        ran: None,
        deadline_reached: ended.cause == Cause::Deadline,
        taken: preempted,
        refused: None,
        fields: std::collections::BTreeMap::new(),
    });
}
