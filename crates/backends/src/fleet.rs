//! Fleets on Kubernetes: a Job for each dispatch, made from a template that the cluster has, and
//! what has become of the earlier ones. It counts and translates; how many agents are dispatched,
//! and when, is decided elsewhere.

mod cluster;
mod doubts;
mod job;
mod probe;
mod seen;
mod template;
mod trouble;

pub use crate::kubernetes::{Access, AccessError};
pub use cluster::Cluster;
pub use doubts::Doubt;
pub use job::{Order, job, name};
pub use probe::{OLDEST_MINOR, Probe, Quota, RIGHTS};
pub use seen::{Dispatched, dispatched};
pub use template::{From, Template, TemplateError};
pub use trouble::trouble;

/// On Jobs and pods: the installation's mark, the fleet, and the dispatch. The mark of machines is
/// another label, so that neither takes the other's for its own.
const MARK: &str = "jitney.dev/fleet-mark";
const FLEET: &str = "jitney.dev/fleet";
const DISPATCH: &str = "jitney.dev/dispatch";
/// On Jobs: the queues that its agents serve, and when it was decided, by our clock.
const QUEUES: &str = "jitney.dev/queues";
const DISPATCHED_AT: &str = "jitney.dev/dispatched-at";
/// And what it was reckoned from, for people.
const SIZED_ON: &str = "jitney.dev/sized-on";
