//! The `gce` backend against the sandbox's Google: the conformance suite with guests that are
//! processes, and what goes wrong in a cloud.

mod ground;
mod probe;
mod self_delete;
mod startup;
mod trouble;
mod way_in;

use std::sync::Arc;
use std::time::Duration;

use backends::conformance::{self, Subject};
use backends::{Backend, Class, Future, Order, Vm};
use sandbox::Fault;

use ground::{A, Ground};

impl Subject for Ground {
    fn backend(&self, mark: &str) -> Arc<dyn Backend> {
        self.gce(mark)
    }

    fn end<'a>(&'a self, name: &'a str) -> Future<'a, ()> {
        Box::pin(self.end_agent(name))
    }

    /// The guest writes its report, tells of it by `curl`, and is heard.
    fn leaves_within(&self) -> Duration {
        Duration::from_secs(4)
    }

    /// Each starts five programs.
    fn at_once(&self) -> usize {
        6
    }

    fn adjust(&self, order: &mut Order) {
        order.place = A.to_owned();
        order.machine_type = "n2-custom-2-4096".to_owned();
        order.vm = Some(Vm {
            disk_type: "pd-balanced".to_owned(),
            disk_gib: 20,
            attached_ssds: 0,
            gvnic: false,
        });
    }

    fn lose_next_reply(&self) -> bool {
        self.fault(Fault { lose_reply: true, ..Fault::default() });
        true
    }

    fn faults(&self) -> Vec<Class> {
        vec![Class::Rate, Class::Ambiguous, Class::Rejected, Class::Denied, Class::Quota]
    }

    fn fail_next_create(&self, class: Class) {
        let status = match class {
            Class::Rate => 429,
            Class::Ambiguous => 503,
            Class::Rejected => 400,
            Class::Denied => 403,
            Class::Quota => return self.use_up_next_quota(),
            Class::Capacity => panic!("that comes with the operation"),
        };
        self.fault(Fault { status: Some(status), ..Fault::default() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let ground = Ground::start().await;
    conformance::run(&ground).await;
    ground.nothing_is_left().await;
}
