//! One suite that every backend has to pass, run from the tests of whoever has a backend and a
//! place to try it on. It looks through the trait alone; what differs between places (how an agent
//! is made to leave, which errors can be provoked) is asked of the `Subject`. It panics with the
//! name of the case and what was expected.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::contract::{
    Backend, Class, Future, Hardware, Labels, Listing, Machine, Order, Phase, Resources,
};

/// The mark that machines of the suite bear, and one that begins with it.
pub const MARK: &str = "jitney";
pub const OTHER_MARK: &str = "jitney-2";

/// For anything to happen on a busy computer. Only failures take this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon the end of a machine is to be heard of.
const SOON: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 50;

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// A place to try a backend on. It has no machines of the two marks at first.
pub trait Subject: Send + Sync {
    /// A backend of this mark, each time another one over the same place: as after a restart.
    fn backend(&self, mark: &str) -> Arc<dyn Backend>;

    /// Makes the agent of this machine leave by itself.
    fn end<'a>(&'a self, name: &'a str) -> Future<'a, ()>;

    /// How long an agent may take to leave after `end`, which nobody can hear of any sooner.
    fn leaves_within(&self) -> Duration {
        Duration::ZERO
    }

    /// How many machines the place can be asked for at once.
    fn at_once(&self) -> usize {
        AT_ONCE
    }

    /// Changes what the place needs otherwise: endpoint, token, image.
    fn adjust(&self, _order: &mut Order) {}

    /// Loses the reply of the next create after it was carried out; false where it cannot be lost.
    fn lose_next_reply(&self) -> bool {
        false
    }

    /// The classes that `fail_next_create` can provoke.
    fn faults(&self) -> Vec<Class> {
        Vec::new()
    }

    /// Makes the next create fail with this class, and leave nothing behind.
    fn fail_next_create(&self, class: Class) {
        panic!("{class:?} is not among `faults`");
    }
}

/// Runs all cases, one after the other.
pub async fn run(subject: &dyn Subject) {
    create_twice_makes_one(subject).await;
    a_lost_reply_is_mended_by_a_repeat(subject).await;
    delete_twice_and_of_the_unknown_succeeds(subject).await;
    concurrent_deletes_all_succeed(subject).await;
    labels_round_trip(subject).await;
    other_marks_are_never_listed_nor_deleted(subject).await;
    the_end_is_heard_of_soon(subject).await;
    the_deadline_is_enforced(subject).await;
    failures_are_classified_and_leave_nothing(subject).await;
    many_at_once(subject).await;
    bad_names_are_refused(subject).await;
}

/// An order for an agent that stays until it is told to leave.
pub fn order(subject: &dyn Subject, mark: &str) -> Order {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let job = Uuid::from_u128((0x0199_a3c0_5c39_7d13_u128 << 64) | u128::from(number));
    let name = format!("{mark}-{}-1", job.as_simple());
    let (cpu_millis, memory_bytes) = (500, 512 << 20);
    let mut order = Order {
        name: name.clone(),
        request_id: Uuid::from_u128(u128::from(number)),
        labels: Labels {
            mark: mark.into(),
            instance: "conformance-1".into(),
            job,
            attempt: 1,
            queue: "jit".into(),
            dispatch_id: job.as_simple().to_string().into(),
            cpu_millis,
            memory_bytes,
        },
        resources: Resources { cpu_millis, memory_bytes, disk_bytes: None, local_ssds: 0 },
        place: String::new(),
        machine_type: String::new(),
        spot: false,
        vm: None,
        hardware: Hardware::default(),
        deadline: Duration::from_secs(120),
        endpoint: "http://127.0.0.1:1/v3".to_owned(),
        token: SecretString::from("bkjat_conformance"),
        agent_name: name,
        agent_tags: vec!["queue=jit".to_owned()],
        image: None,
        no_rights: false,
    };
    subject.adjust(&mut order);
    order
}

/// Waits until a machine of this name is as wanted, looking whenever there is a change.
pub async fn until(
    backend: &dyn Backend,
    name: &str,
    what: &str,
    wanted: impl Fn(Option<&Machine>) -> bool,
) -> Option<Machine> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let listing = backend.list().await.expect("a listing while waiting");
        let found = listing.machines.iter().find(|machine| machine.name == name);
        if wanted(found) {
            return found.cloned();
        }
        assert!(Instant::now() < give_up, "{name} is not {what}: {found:?}");
        // The pause of the backend's own is an upper bound, as it is in production.
        let _ = timeout(backend.list_every(), backend.changed()).await;
    }
}

fn is_ended(machine: Option<&Machine>) -> bool {
    machine.is_none_or(|machine| machine.phase == Phase::Ended)
}

fn is_up(machine: Option<&Machine>) -> bool {
    machine.is_some_and(|machine| machine.phase >= Phase::Connected)
}

async fn complete(backend: &dyn Backend) -> Listing {
    let listing = backend.list().await.expect("a listing");
    assert!(listing.complete, "nothing is wrong here, so a listing is complete");
    let names: BTreeSet<_> = listing.machines.iter().map(|machine| &machine.name).collect();
    assert_eq!(names.len(), listing.machines.len(), "a machine is listed once");
    listing
}

async fn delete(backend: &dyn Backend, name: &str) {
    backend.delete(name).await.expect("delete");
    until(backend, name, "gone", |machine| machine.is_none()).await;
}

async fn create_twice_makes_one(subject: &dyn Subject) {
    let backend = subject.backend(MARK);
    let order = order(subject, MARK);
    backend.create(&order).await.expect("create");
    backend.create(&order).await.expect("the same create again");
    // As after a restart: nothing that is kept in memory makes the difference.
    subject.backend(MARK).create(&order).await.expect("the same create from another process");
    let listing = complete(&*backend).await;
    assert_eq!(listing.machines.len(), 1, "create twice = one machine: {listing:?}");
    until(&*backend, &order.name, "connected", is_up).await;
    backend.create(&order).await.expect("the same create once it is up");
    subject.end(&order.name).await;
    until(&*backend, &order.name, "ended", is_ended).await;
    backend.create(&order).await.expect("the same create once it has ended");
    let listing = complete(&*backend).await;
    assert!(
        listing.machines.iter().all(|machine| machine.phase == Phase::Ended),
        "what has ended is not started again by a repeat: {listing:?}"
    );
    delete(&*backend, &order.name).await;
}

async fn a_lost_reply_is_mended_by_a_repeat(subject: &dyn Subject) {
    if !subject.lose_next_reply() {
        return;
    }
    let backend = subject.backend(MARK);
    let order = order(subject, MARK);
    let error = backend.create(&order).await.expect_err("the reply was lost");
    assert_eq!(error.class, Class::Ambiguous, "nobody knows: {error}");
    until(&*backend, &order.name, "listed although the reply was lost", |m| m.is_some()).await;
    backend.create(&order).await.expect("the repeat");
    let listing = complete(&*backend).await;
    assert_eq!(listing.machines.len(), 1, "lost reply and repeat = one machine: {listing:?}");
    delete(&*backend, &order.name).await;
}

async fn delete_twice_and_of_the_unknown_succeeds(subject: &dyn Subject) {
    let backend = subject.backend(MARK);
    let order = order(subject, MARK);
    backend.delete(&order.name).await.expect("delete of what never was");
    backend.create(&order).await.expect("create");
    delete(&*backend, &order.name).await;
    backend.delete(&order.name).await.expect("the second delete");
    let listing = complete(&*backend).await;
    assert!(listing.machines.is_empty(), "{listing:?}");
}

async fn concurrent_deletes_all_succeed(subject: &dyn Subject) {
    let backend = subject.backend(MARK);
    let order = order(subject, MARK);
    backend.create(&order).await.expect("create");
    let all = join_all((0..5).map(|_| backend.delete(&order.name))).await;
    for outcome in all {
        outcome.expect("each of the deletes");
    }
    until(&*backend, &order.name, "gone", |machine| machine.is_none()).await;
}

async fn labels_round_trip(subject: &dyn Subject) {
    let backend = subject.backend(MARK);
    let mut order = order(subject, MARK);
    order.labels.queue = "a queue with \"quotes\", ümläuts = and, commas".into();
    order.labels.attempt = 7;
    order.labels.instance = "host.example/1".into();
    backend.create(&order).await.expect("create");
    let listing = complete(&*subject.backend(MARK)).await;
    let machine = listing.machines.first().expect("the machine");
    assert_eq!(machine.name, order.name);
    assert_eq!(machine.labels, order.labels, "labels come back as they were given");
    let life = machine.deadline_at.duration_since(machine.created_at);
    let meant = i64::try_from(order.deadline.as_secs()).expect("a short time");
    assert!((life.as_secs() - meant).abs() <= 1, "the deadline is set: {life:?}");
    delete(&*backend, &order.name).await;
}

async fn other_marks_are_never_listed_nor_deleted(subject: &dyn Subject) {
    let (ours, theirs) = (subject.backend(MARK), subject.backend(OTHER_MARK));
    let (our_order, their_order) = (order(subject, MARK), order(subject, OTHER_MARK));
    ours.create(&our_order).await.expect("create ours");
    theirs.create(&their_order).await.expect("create theirs");
    for (backend, expected) in [(&ours, &our_order), (&theirs, &their_order)] {
        let names: Vec<_> =
            complete(&**backend).await.machines.into_iter().map(|machine| machine.name).collect();
        assert_eq!(names, [expected.name.as_str()], "exactly the machines of one's own mark");
    }
    delete(&*ours, &our_order.name).await;
    assert_eq!(complete(&*theirs).await.machines.len(), 1, "theirs is still there");
    delete(&*theirs, &their_order.name).await;
}

async fn the_end_is_heard_of_soon(subject: &dyn Subject) {
    let backend = subject.backend(MARK);
    let order = order(subject, MARK);
    backend.create(&order).await.expect("create");
    let up = until(&*backend, &order.name, "connected", is_up).await.expect("a machine");
    assert!(up.ended.is_none(), "{up:?}");
    subject.end(&order.name).await;
    let heard = timeout(subject.leaves_within() + SOON, async {
        loop {
            backend.changed().await;
            let listing = backend.list().await.expect("a listing");
            if let Some(end) = listing.machines.into_iter().find_map(|machine| machine.ended) {
                return end;
            }
        }
    });
    let end = heard.await.expect("`changed` tells of an end within a second");
    assert!(!end.cause.is_empty(), "an end has a cause: {end:?}");
    assert!(end.at >= up.created_at, "{end:?} against {up:?}");
    delete(&*backend, &order.name).await;
}

async fn the_deadline_is_enforced(subject: &dyn Subject) {
    let backend = subject.backend(MARK);
    let mut order = order(subject, MARK);
    order.deadline = Duration::from_secs(1);
    let began = Instant::now();
    backend.create(&order).await.expect("create");
    // Nobody asks for it to end.
    until(&*backend, &order.name, "ended at its deadline", is_ended).await;
    // The place's clock and ours are read at different moments, hence not quite a second.
    assert!(began.elapsed() > Duration::from_millis(700), "it ended before its deadline");
    delete(&*backend, &order.name).await;
}

async fn failures_are_classified_and_leave_nothing(subject: &dyn Subject) {
    for class in subject.faults() {
        let backend = subject.backend(MARK);
        let order = order(subject, MARK);
        subject.fail_next_create(class);
        let error = backend.create(&order).await.expect_err("a provoked failure");
        assert_eq!(error.class, class, "{error}");
        assert!(!error.words.is_empty(), "a failure has words");
        let said = format!("{error:?}");
        assert!(!said.contains("bkjat_"), "no secret stands in an error");
        let listing = complete(&*backend).await;
        assert!(listing.machines.is_empty(), "{class:?} left {listing:?}");
    }
}

async fn many_at_once(subject: &dyn Subject) {
    let backend = subject.backend(MARK);
    let orders: Vec<_> = (0..subject.at_once()).map(|_| order(subject, MARK)).collect();
    // Each twice, at the same time.
    let creates = orders.iter().chain(&orders).map(|order| backend.create(order));
    for outcome in join_all(creates).await {
        outcome.expect("create among many");
    }
    let listing = complete(&*backend).await;
    let listed: BTreeSet<_> = listing.machines.iter().map(|machine| machine.name.clone()).collect();
    let wanted: BTreeSet<_> = orders.iter().map(|order| order.name.clone()).collect();
    assert_eq!(listed, wanted);
    for outcome in join_all(orders.iter().map(|order| backend.delete(&order.name))).await {
        outcome.expect("delete among many");
    }
    for order in &orders {
        until(&*backend, &order.name, "gone", |machine| machine.is_none()).await;
    }
}

async fn bad_names_are_refused(subject: &dyn Subject) {
    let backend = subject.backend(MARK);
    let long = "a".repeat(64);
    for name in ["", "../jitney", "a/b", "Jitney", "-a", "a-", "a b", "a?x=y", &long] {
        let mut order = order(subject, MARK);
        order.name = name.to_owned();
        let error = backend.create(&order).await.expect_err("a bad name");
        assert_eq!(error.class, Class::Rejected, "create of `{name}`: {error}");
        let error = backend.delete(name).await.expect_err("a bad name");
        assert_eq!(error.class, Class::Rejected, "delete of `{name}`: {error}");
    }
    assert!(complete(&*backend).await.machines.is_empty());
}
