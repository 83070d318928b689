//! Machines that delete themselves while nobody watches: the account that lets them, and what keeps
//! one from it. Whatever comes of it, the machine is off.

use std::collections::BTreeSet;
use std::time::Duration;

use backends::conformance::until;
use backends::gce::{Delivery, Options, SelfDelete};
use backends::{Backend, Order};
use sandbox::cloud::compute::{Compute, Grants, Status};

use super::ground::{A, ACCOUNT, Ground, PATIENCE, ended};

const DELETE: &str = "compute.instances.delete";

/// The token is in the metadata, so that nobody has to be there for it.
fn options(ground: &Ground) -> Options {
    let mut options = ground.options("jitney");
    options.settings.delivery = Delivery::Metadata;
    options.settings.self_delete =
        Some(SelfDelete { endpoint: ground.cloud.url().to_owned(), keeps_failed: false });
    options
}

/// What the machines' own account may: this, with machines whose names begin so.
fn let_machines(ground: &Ground, permissions: &[&str], start: &str) {
    let own: BTreeSet<String> = permissions.iter().map(|one| (*one).to_owned()).collect();
    let grants = Grants {
        accounts: [(ACCOUNT.to_owned(), own)].into(),
        only_machines: [(ACCOUNT.to_owned(), start.to_owned())].into(),
        ..Grants::default()
    };
    ground.cloud.compute(|compute, _| compute.grants = grants);
}

/// Makes a machine and forgets about it, as a Jitney does that dies then.
async fn orphan(ground: &Ground, options: Options) -> Order {
    let order = ground.order();
    ground.of(options).create(&order).await.expect("create");
    order
}

/// It is off, its disk rests, and it said this.
async fn rests(ground: &Ground, order: &Order, said: &str) {
    let off = |compute: &Compute| {
        let it = compute.instance(A, &order.name)?;
        (it.status == Status::Terminated).then(|| it.serial_output())
    };
    let serial = tokio::time::timeout(PATIENCE, ground.cloud.until(off)).await;
    let serial = serial.unwrap_or_else(|_| panic!("it is not off: {}", ground.story()));
    assert!(serial.contains(said), "{said}: {serial}");
    assert_eq!(ground.cloud.compute(|compute, _| compute.disks().count()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_agent_has_left_deletes_itself_and_its_disk_with_nobody_there() {
    let ground = Ground::start().await;
    let_machines(&ground, &[DELETE], "jitney-");
    let order = orphan(&ground, options(&ground)).await;
    let lists = ground.count("compute.instances.list");
    ground.end_agent(&order.name).await;
    ground.nothing_is_left().await;
    let deletes = ground
        .cloud
        .compute(|compute, _| compute.log().iter().filter(|entry| entry.what == "delete").count());
    assert_eq!(deletes, 1, "{}", ground.story());
    assert_eq!(ground.count("compute.instances.list"), lists, "nobody has looked");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_agent_never_connected_does_too_unless_it_is_kept_for_a_look() {
    let ground = Ground::start().await;
    let_machines(&ground, &[DELETE], "jitney-");
    let mut options = options(&ground);
    // Nobody is there who would give it a token.
    options.settings.delivery =
        Delivery::Pull { url: format!("{}/guests/nobody", ground.address()) };
    options.settings.connect_within = Duration::from_secs(1);
    orphan(&ground, options.clone()).await;
    ground.nothing_is_left().await;
    options.settings.self_delete =
        Some(SelfDelete { endpoint: ground.cloud.url().to_owned(), keeps_failed: true });
    let order = orphan(&ground, options).await;
    rests(&ground, &order, "no token was to be had in time").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_may_not_and_one_of_other_machines_leave_it_off_with_its_disk() {
    for (permissions, start) in [(&[][..], "jitney-"), (&[DELETE][..], "other-")] {
        let ground = Ground::start().await;
        let_machines(&ground, permissions, start);
        let order = orphan(&ground, options(&ground)).await;
        ground.end_agent(&order.name).await;
        rests(&ground, &order, "the machine does not get itself deleted: 403").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_machine_has_deleted_itself_is_its_end_and_no_loss() {
    let ground = Ground::start().await;
    let_machines(&ground, &[DELETE], "jitney-");
    let gce = ground.of(options(&ground));
    let order = ground.order();
    gce.create(&order).await.expect("create");
    ground.end_agent(&order.name).await;
    let end = ended(&gce, &order).await;
    assert_eq!(end.cause, "the machine has deleted itself");
    gce.delete(&order.name).await.expect("it is gone");
    until(&*gce, &order.name, "forgotten", |machine| machine.is_none()).await;
    ground.nothing_is_left().await;
}
