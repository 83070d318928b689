//! A person's or a service manager's wish that the command should end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, Failure};

/// Ctrl-C or SIGTERM, from the moment when this is made.
#[derive(Debug)]
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed =
            |error| Failure::new(Exit::Failed, format!("failed to catch signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    pub(crate) async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
