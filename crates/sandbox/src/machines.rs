//! A service that the `http` backend can ask for machines: list, create, delete, as
//! `backends::http::wire` has them. Its machines are instant, cost nothing and play their agents
//! (see `player`), thousands at a time, with faults on demand. It is made to run in a process of
//! its own, so that a dispatcher can be killed while its machines live. It keeps nothing on disk.
//!
//! Beside the three calls it has controls. They take no token, so they are for loopback only; none
//! is of a kind that a browser would send for another site's page without asking:
//!
//! | call | what |
//! |---|---|
//! | `GET /_machines/faults` | the faults that are still to come |
//! | `PUT /_machines/faults` | replaces them (see [`Faults`]) |
//! | `GET /_machines/counters` | how many machines and calls there were |
//! | `GET /_machines/log` | each create and delete with its times, oldest first |
//! | `DELETE /_machines/log` | empties the log and the counters |
//! | `PUT /_machines/kill/<name>` | the machine dies now, without a word to anybody |

mod faults;
mod fleet;
mod life;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use faults::{Faults, Refusal};
pub use fleet::{Counters, Entry};

use crate::http::wire::{Cut, CuttableListener};
use crate::player::Wire;
use fleet::Fleet;

/// What the service is started with.
#[derive(Debug)]
pub struct Options {
    pub listener: TcpListener,
    /// Asked for as `Authorization: Bearer …` by the three calls.
    pub token: Option<SecretString>,
    pub faults: Faults,
    /// The clock: times are compared with those of other processes.
    pub now: fn() -> Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the address that is listened on is not known: {0}")]
    Address(#[source] io::Error),
    #[error("no HTTP client could be made for the agents: {0}")]
    Client(#[source] reqwest::Error),
}

/// What all requests and machines share.
#[derive(Debug)]
struct Shared {
    fleet: Fleet,
    wire: Wire,
    token: Option<SecretString>,
    lives: TaskTracker,
    now: fn() -> Timestamp,
}

/// The running service.
#[derive(Debug)]
pub struct Machines {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    server: JoinHandle<io::Result<()>>,
}

/// Starts to answer on the listener.
pub fn serve(options: Options) -> Result<Machines, ServeError> {
    let Options { listener, token, faults, now } = options;
    let address = listener.local_addr().map_err(ServeError::Address)?;
    let shared = Arc::new(Shared {
        fleet: Fleet::new(faults, now()),
        wire: Wire::new().map_err(ServeError::Client)?,
        token,
        lives: TaskTracker::new(),
        now,
    });
    let stop = CancellationToken::new();
    let app = routes::router(shared.clone());
    let server =
        axum::serve(CuttableListener(listener), app.into_make_service_with_connect_info::<Cut>())
            .with_graceful_shutdown(stop.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());
    Ok(Machines { address, shared, stop, server })
}

impl Machines {
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the faults that are to come.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.fleet.set_faults(faults, (self.shared.now)());
    }

    /// The machine dies now, without a word to anybody; false if there is none of this name.
    pub fn kill(&self, name: &str) -> bool {
        self.shared.fleet.kill(name)
    }

    /// Stops every machine (their agents report it) and then the service.
    pub async fn stop(self) -> io::Result<()> {
        self.shared.fleet.stop_all();
        self.shared.lives.close();
        self.shared.lives.wait().await;
        self.stop.cancel();
        self.server.await.map_err(io::Error::other)?
    }
}
