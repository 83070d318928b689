//! A real Kubernetes control plane on this computer, whose nodes run the containers of their pods
//! as local processes. For tests and measurements; it knows nothing of what they are about.
//!
//! [`ControlPlane`] starts etcd and the real API server, controllers and scheduler.
//! [`ControlPlane::join`] adds a [`Node`]: a stand-in for a kubelet, which writes the same
//! statuses and events, and on demand those of bad luck. It needs Linux, root and util-linux.

mod clock;
mod error;
mod node;
mod parts;
mod plane;

pub use error::{Error, Result};
pub use node::{Images, Node, NodeOptions, Outcome, Played, PullFailure};
pub use plane::{Call, ControlPlane, Controllers, Tail, connect};
