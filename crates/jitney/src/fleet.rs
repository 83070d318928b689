//! Fleet mode: looks at a queue's counts and at the dispatches that the cluster has, asks the
//! planner, and makes the Job that it asks for. One task for each fleet; it makes no choice, and
//! what it knows can be lost at any time.

mod look;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use backends::Class;
use backends::fleet::{self, Cluster, From, Order, Template};
use backends::kubernetes::Access;
use planner::Timestamp;
use planner::fleet::{DispatchId, Event, Ledger, Outcome, Policy, Seen, Step, decide};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::api;
use crate::clock::{Clock, to_jiff};
use tell::Teller;

/// Buildkite is not asked more often, unless it says that we may.
const ASKED_AT_MOST: Duration = Duration::from_secs(1);

/// What an operator wants of one fleet, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub name: String,
    /// The installation's.
    pub mark: String,
    pub queue: String,
    /// The backend's name in the configuration, for people.
    pub backend: String,
    pub access: Access,
    pub from: From,
    pub tags: Vec<String>,
    pub policy: Policy,
    pub poll: Duration,
    pub idle_timeout: Duration,
    pub active_deadline: Duration,
    pub ttl: Duration,
}

impl Options {
    /// The dispatch that is asked for.
    #[must_use]
    pub fn order(&self, id: DispatchId, agents: u32, at: Timestamp, sized_on: String) -> Order {
        Order {
            mark: self.mark.clone(),
            fleet: self.name.clone(),
            queue: self.queue.clone(),
            dispatch_id: id.to_string(),
            agents,
            decided_at: to_jiff(at),
            sized_on,
            tags: self.tags.clone(),
            idle_timeout: self.idle_timeout,
            active_deadline: self.active_deadline,
            ttl: self.ttl,
        }
    }
}

/// One fleet at work.
pub(crate) struct Fleet {
    options: Options,
    client: buildkite::Client,
    clock: Clock,
    draining: watch::Receiver<bool>,
    /// A webhook says that something may be new.
    wake: Arc<Notify>,
    cluster: Option<Cluster>,
    ledger: Ledger,
    seen: Seen,
    teller: Teller,
    /// How long Buildkite wants not to be asked again.
    poll_after: Duration,
}

impl Fleet {
    pub(crate) fn new(
        options: Options,
        client: buildkite::Client,
        clock: Clock,
        draining: watch::Receiver<bool>,
        wake: Arc<Notify>,
    ) -> (Self, watch::Receiver<api::Fleet>) {
        let (teller, status) = Teller::new(&options);
        let fleet = Self {
            ledger: Ledger::new(clock.now()),
            seen: Seen::default(),
            cluster: None,
            poll_after: ASKED_AT_MOST,
            options,
            client,
            clock,
            draining,
            wake,
            teller,
        };
        (fleet, status)
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let begun = Instant::now();
            let wake_at = self.round().await;
            let wait = wake_at.map_or(self.options.poll, |at| self.clock.until(at));
            let earliest = begun + self.poll_after;
            let latest = begun + self.options.poll.min(wait).max(self.poll_after);
            tokio::select! {
                () = sleep_until(latest) => {}
                () = self.wake.notified() => sleep_until(earliest).await,
                // The loop that says so ends with us.
                _ = self.draining.changed() => sleep_until(earliest).await,
            }
        }
    }

    /// One look at both sides, and what follows; when to look again at the latest.
    async fn round(&mut self) -> Option<Timestamp> {
        let round = DispatchId(Uuid::now_v7());
        self.seen.draining = *self.draining.borrow_and_update();
        // First the dispatches, then the jobs: an agent that comes between the two is counted as
        // coming still, and not as missing.
        self.look_at_the_cluster(round).await;
        self.count(round).await;
        let now = self.clock.now();
        let plan = decide(&self.ledger, &self.seen, &self.options.policy, round, now);
        self.teller.round(round, &plan, &self.seen, now);
        if let Step::Dispatch { id, agents, again } = plan.step {
            let sized_on = plan.sizing.map(|sizing| sizing.sentence()).unwrap_or_default();
            let order = self.options.order(id, agents, self.clock.now(), sized_on);
            self.dispatch(round, id, &order, again).await;
        }
        plan.wake_at
    }

    /// Written down, done, and written down again.
    async fn dispatch(&mut self, round: DispatchId, id: DispatchId, order: &Order, again: bool) {
        let agents = order.agents;
        self.ledger.record(Event::Asks { id, agents });
        let outcome = match self.template(id).await {
            Ok(template) => self.create(&template, order).await,
            // Nothing was sent, so nothing can have been made.
            Err(error) => Err(backends::Error { class: Class::Rejected, ..error }),
        };
        let outcome = match outcome {
            Ok(()) => Outcome::Made,
            Err(error) => self.outcome_of(error),
        };
        let at = self.clock.now();
        self.teller.answered(round, id, agents, again, &outcome);
        self.ledger.record(Event::Answered { at, outcome });
    }

    async fn template(&mut self, id: DispatchId) -> Result<Template, backends::Error> {
        let Some(cluster) = &self.cluster else {
            return Err(backends::Error::new(Class::Denied, "there is no way to the cluster"));
        };
        let template = cluster.template(&self.options.from).await?;
        self.teller.template(id, &template);
        Ok(template)
    }

    async fn create(&self, template: &Template, order: &Order) -> Result<(), backends::Error> {
        let Some(cluster) = &self.cluster else {
            return Err(backends::Error::new(Class::Denied, "there is no way to the cluster"));
        };
        cluster.create(&fleet::job(template, order)).await
    }

    fn outcome_of(&self, error: backends::Error) -> Outcome {
        let words = error.words.as_str().into();
        match error.class {
            Class::Ambiguous => Outcome::Unanswered { words },
            Class::Rate | Class::Capacity | Class::Quota | Class::Rejected | Class::Denied => {
                Outcome::Refused { words, after: error.retry_after }
            }
        }
    }
}
