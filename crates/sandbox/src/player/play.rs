//! The life of one agent that plays its job. What the machine around it does (boots, dies, is
//! deleted) is its owner's: it hears of each milestone and may end the life there.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::{CallError, Session, Wire, patiently};
use super::wire::{Finish, Job};

/// Tries of each call that may succeed later.
pub(super) const TRIES: u32 = 12;
/// A job that ends has to tell it, whatever it takes.
pub(super) const TRIES_TO_FINISH: u32 = 60;

/// Which job, for whom, and where.
#[derive(Clone, Debug)]
pub struct Orders {
    pub endpoint: String,
    pub token: SecretString,
    pub job: Uuid,
    pub name: String,
    pub tags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    Connected,
    Acquired,
    Started,
}

/// How a life ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The job has ended and the server knows.
    Finished,
    /// The job was not this agent's to have: it is taken, cancelled or gone.
    NotAcquired(CallError),
    /// A call failed for good; what became of the job is the server's to find out.
    Failed(CallError),
    /// It was told to stop before it had a job.
    Stopped,
    /// Whoever heard of a milestone ended the life there: no word to the server.
    Died,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("the agent exited with 0"),
            Self::NotAcquired(error) => write!(f, "the agent exited with 27 ({error})"),
            Self::Failed(error) => write!(f, "the agent exited with 1 ({error})"),
            Self::Stopped => f.write_str("the agent was stopped"),
            Self::Died => f.write_str("the machine died"),
        }
    }
}

/// Registers, acquires the job, plays it, reports and leaves. `stop` ends it early, as a signal
/// would a real agent: the job that it has is reported as stopped.
pub async fn play(
    wire: &Wire,
    orders: &Orders,
    now: fn() -> Timestamp,
    stop: &CancellationToken,
    mut on: impl FnMut(Milestone) -> ControlFlow<()>,
) -> Outcome {
    let register =
        async || wire.register(&orders.endpoint, &orders.token, &orders.name, &orders.tags).await;
    let connected = async {
        let session = patiently(TRIES, register).await?;
        patiently(TRIES, || session.connect()).await.map(|()| session)
    };
    let mut session = match stop.run_until_cancelled(connected).await {
        None => return Outcome::Stopped,
        Some(Err(error)) => return Outcome::Failed(error),
        Some(Ok(session)) => session,
    };
    if on(Milestone::Connected).is_break() {
        return Outcome::Died;
    }
    let outcome = with_session(&mut session, orders.job, now, stop, &mut on).await;
    if !matches!(outcome, Outcome::Died)
        && let Err(error) = patiently(2, || session.disconnect()).await
    {
        tracing::debug!(agent = orders.name, %error, "the agent left without a word");
    }
    outcome
}

async fn with_session(
    session: &mut Session,
    job: Uuid,
    now: fn() -> Timestamp,
    stop: &CancellationToken,
    on: &mut impl FnMut(Milestone) -> ControlFlow<()>,
) -> Outcome {
    let acquire = patiently(TRIES, || session.acquire(job));
    let taken = match stop.run_until_cancelled(acquire).await {
        None => return Outcome::Stopped,
        Some(Err(error)) if error.status().is_some_and(|status| status < 500) => {
            return Outcome::NotAcquired(error);
        }
        Some(Err(error)) => return Outcome::Failed(error),
        Some(Ok(taken)) => taken,
    };
    session.hold(&taken);
    if on(Milestone::Acquired).is_break() {
        return Outcome::Died;
    }
    // A job whose start is refused is not run, and no end is reported: as a real agent does.
    if let Err(error) = patiently(TRIES, || session.start(job, now())).await {
        return Outcome::Failed(error);
    }
    if on(Milestone::Started).is_break() {
        return Outcome::Died;
    }
    let script = Script::of(&taken);
    let failed = log(session, job, &script.log).await;
    let end = tokio::select! {
        why = watch(session, job, now) => End::Stopped(why, "SIGTERM"),
        () = stop.cancelled() => End::Stopped(Why::AgentStop, "SIGTERM"),
        () = tokio::time::sleep(script.takes) => End::Exit(script.exit),
    };
    let finish = end.finish(now(), failed);
    match patiently(TRIES_TO_FINISH, || session.finish(job, &finish)).await {
        Ok(()) => Outcome::Finished,
        Err(error) => Outcome::Failed(error),
    }
}

/// What a played job does.
struct Script {
    takes: Duration,
    exit: i32,
    log: String,
}

impl Script {
    fn of(job: &Job) -> Self {
        let read = |name: &str| job.env.get(name).map(String::as_str);
        let takes = read("PLAY_SECONDS").map_or(Ok(Duration::ZERO), seconds);
        let exit = read("PLAY_EXIT").map_or(Ok(0), |text| {
            text.parse::<i32>().map_err(|_| format!("PLAY_EXIT is no exit status: {text}"))
        });
        let command = read("BUILDKITE_COMMAND").unwrap_or("(no command)");
        let log = read("PLAY_LOG").map_or_else(|| format!("(played) {command}\n"), str::to_owned);
        match (takes, exit) {
            (Ok(takes), Ok(exit)) => Self { takes, exit, log },
            (Err(why), _) | (_, Err(why)) => {
                Self { takes: Duration::ZERO, exit: 1, log: format!("{why}\n") }
            }
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<f64>().ok().and_then(|n| Duration::try_from_secs_f64(n).ok());
    parsed.ok_or_else(|| format!("PLAY_SECONDS is no number of seconds: {text}"))
}

/// Sends the log; returns how many pieces the server has not got.
async fn log(session: &Session, job: Uuid, text: &str) -> u64 {
    let sent = patiently(TRIES, || session.chunk(job, 1, 0, text.as_bytes())).await;
    match sent {
        Ok(()) => 0,
        Err(error) => {
            tracing::warn!(%job, %error, "a piece of a played log is lost");
            1
        }
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exit(i32),
    /// It was ended by this signal, for this reason.
    Stopped(Why, &'static str),
    /// The command could not be started.
    NotRun,
}

/// Why a job has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The server wants it.
    Cancel,
    /// The agent itself has to.
    AgentStop,
}

impl End {
    pub(super) fn finish(self, finished_at: Timestamp, chunks_failed_count: u64) -> Finish {
        let (status, signal, reason) = match self {
            Self::Exit(status) => (status, None, None),
            Self::Stopped(Why::Cancel, signal) => (-1, Some(signal), Some("cancel")),
            Self::Stopped(Why::AgentStop, signal) => (-1, Some(signal), Some("agent_stop")),
            Self::NotRun => (-1, None, Some("process_run_error")),
        };
        Finish {
            exit_status: status.to_string(),
            signal: signal.map(str::to_owned),
            signal_reason: reason.map(str::to_owned),
            finished_at,
            chunks_failed_count,
        }
    }
}

/// Beats the heart and asks for the job's state; resolves when the job has to stop.
pub(super) async fn watch(session: &Session, job: Uuid, now: fn() -> Timestamp) -> Why {
    let every = |seconds: u64| {
        let period = Duration::from_secs(seconds.max(1));
        tokio::time::interval_at(tokio::time::Instant::now() + period, period)
    };
    let mut states = every(session.registered.job_status_interval);
    let mut beats = every(session.registered.heartbeat_interval);
    loop {
        tokio::select! {
            _ = states.tick() => match session.state(job).await {
                Ok(now) if now.wants_stop() => return Why::Cancel,
                Ok(_) => {}
                // A job whose token is dead is over.
                Err(error) if error.status() == Some(401) => return Why::Cancel,
                Err(error) => tracing::debug!(%job, %error, "the job's state is not known"),
            },
            _ = beats.tick() => match session.heartbeat(now()).await {
                Ok(()) => {}
                Err(CallError::Refused { status, .. }) if (400..500).contains(&status) && status != 429 => {
                    return Why::AgentStop;
                }
                Err(error) => tracing::debug!(%job, %error, "a heartbeat got lost"),
            },
        }
    }
}
