//! How quick the controller manager may be. Its other flags are where it is started.

/// The pace of the controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controllers {
    /// Nothing waits for them, and nodes are given up soon: what tests want.
    Quick,
    /// As Kubernetes ships them: 20 calls a second to the API server for each controller.
    AsShipped,
}

/// A node that has not been heard of for so long is unreachable. Kubernetes' own default is 50 s.
const NODE_GRACE: &str = "--node-monitor-grace-period=10s";

const QUICK: [&str; 11] = [
    "--kube-api-qps=2000",
    "--kube-api-burst=4000",
    "--concurrent-job-syncs=50",
    "--concurrent-gc-syncs=50",
    "--concurrent-ttl-after-finished-syncs=20",
    "--concurrent-resource-quota-syncs=10",
    "--node-monitor-period=1s",
    NODE_GRACE,
    // Kubernetes is slow to give up nodes, and slower where many are gone, as they are here when
    // one test after the other has ended.
    "--node-eviction-rate=100",
    "--secondary-node-eviction-rate=100",
    "--large-cluster-size-threshold=0",
];

impl Controllers {
    /// What the controller manager is started with, beside what it needs to work at all.
    #[must_use]
    pub const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Quick => &QUICK,
            Self::AsShipped => &[],
        }
    }
}
