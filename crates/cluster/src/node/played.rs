//! Containers that are no processes: a function of the test's plays each. For crowds of pods, of
//! which this computer could not run as many.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::process::Exit;

/// What a player knows of the container that it plays.
#[derive(Clone, Debug)]
pub struct Played {
    pub namespace: String,
    pub pod: String,
    pub environment: BTreeMap<String, String>,
    /// Cancelled once the container is asked to end.
    pub stop: CancellationToken,
    ready: CancellationToken,
}

impl Played {
    /// What a readiness probe would find out.
    pub fn tell_ready(&self) {
        self.ready.cancel();
    }
}

/// How a played container ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    /// What stands in its status.
    pub message: String,
}

type Outcomes = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Plays all containers of an image.
#[derive(Clone)]
pub(super) struct Player(Arc<dyn Fn(Played) -> Outcomes + Send + Sync>);

/// One container that is played.
pub(super) struct Act {
    outcome: Outcomes,
    message: PathBuf,
    stop: CancellationToken,
    kill: CancellationToken,
    ready: CancellationToken,
}

impl Player {
    pub(super) fn new<F>(play: impl Fn(Played) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        Self(Arc::new(move |played| Box::pin(play(played))))
    }

    /// Begins; the outcome's message goes to the file.
    pub(super) fn start(
        &self,
        namespace: &str,
        pod: &str,
        environment: &BTreeMap<String, String>,
        message: PathBuf,
    ) -> Act {
        let (stop, ready) = (CancellationToken::new(), CancellationToken::new());
        let played = Played {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            environment: environment.clone(),
            stop: stop.clone(),
            ready: ready.clone(),
        };
        let outcome = (self.0)(played);
        Act { outcome, message, stop, kill: CancellationToken::new(), ready }
    }
}

impl Act {
    /// May be dropped and called again.
    pub(super) async fn wait(&mut self) -> Exit {
        let outcome = tokio::select! {
            outcome = &mut self.outcome => outcome,
            () = self.kill.cancelled() => Outcome { code: 137, message: String::new() },
        };
        if let Err(error) = std::fs::write(&self.message, &outcome.message) {
            eprintln!("failed to keep the message of a played container: {error}");
        }
        Exit { code: outcome.code, out_of_memory: false, not_started: None }
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.stop.cancel();
        if signal == Signal::KILL {
            self.kill.cancel();
        }
    }

    /// A token that is cancelled once it has told that it is ready.
    pub(super) fn ready(&self) -> CancellationToken {
        self.ready.clone()
    }
}

impl fmt::Debug for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Player")
    }
}
