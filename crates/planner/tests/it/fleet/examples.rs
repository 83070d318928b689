//! Single rounds by example: what is seen goes in as short words, and the plan comes out as a line.

use std::time::Duration;

use planner::Timestamp;
use planner::fleet::{
    Agents, Counts, Dispatch, DispatchId, Event, Ledger, Listing, Outcome, Plan, Policy, Seen,
    Step, decide,
};
use uuid::Uuid;

pub(super) const NOW: u64 = 1_800_000_000_000;

pub(super) fn at(seconds_ago: u64) -> Timestamp {
    Timestamp::from_millis(NOW - 1_000 * seconds_ago)
}

pub(super) fn id(number: u128) -> DispatchId {
    DispatchId(Uuid::from_u128(number))
}

pub(super) struct Case {
    pub(super) policy: Policy,
    pub(super) ledger: Ledger,
    pub(super) seen: Seen,
    number: u128,
}

/// A fleet of up to 50 agents, no jobs, no agents, looked at for an hour.
pub(super) fn fleet() -> Case {
    let at_most = Duration::from_secs(300);
    let policy = Policy { min: 0, max: 50, buffer: 0, ready_permille: 500, at_most };
    let mut case =
        Case { policy, ledger: Ledger::new(at(3_600)), seen: Seen::default(), number: 0 };
    case.seen.listing.saw(Listing { began_at: at(2), ended_at: at(1), dispatches: Vec::new() });
    case.queued(0)
}

impl Case {
    /// Jobs that are scheduled; counted just now.
    pub(super) fn queued(mut self, scheduled: u32) -> Self {
        let (asked_at, lag, agents) = (at(0), Duration::from_secs(1), Agents::default());
        let counts = Counts { asked_at, lag, scheduled, running: 0, waiting: 0, agents };
        self.seen.counts.saw(counts);
        self
    }

    fn agents(mut self, idle: u32, busy: u32) -> Self {
        let counts = self.seen.counts.last.as_mut().expect("counted");
        counts.agents = Agents { total: idle + busy, idle, busy };
        self
    }

    fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    /// A dispatch of so many agents, made so many seconds ago.
    fn dispatched(mut self, wanted: u32, age: u64, change: impl FnOnce(&mut Dispatch)) -> Self {
        self.number += 1;
        let mut dispatch = Dispatch {
            id: id(self.number),
            wanted,
            made_at: at(age),
            online: 0,
            done: 0,
            failed: 0,
            leaving: 0,
            over: false,
            trouble: None,
            sized_on: None,
        };
        change(&mut dispatch);
        self.seen.listing.last.as_mut().expect("listed").dispatches.push(dispatch);
        self
    }

    pub(super) fn plan(&mut self) -> Plan {
        let listing = self.seen.listing.last.clone().expect("listed");
        // The same was seen a while ago already.
        let before = Listing { began_at: at(31), ended_at: at(30), ..listing.clone() };
        self.ledger.record(Event::Listed(&before));
        self.ledger.record(Event::Listed(&listing));
        decide(&self.ledger, &self.seen, &self.policy, id(0xff), at(0))
    }

    #[track_caller]
    fn check(mut self, expected: &str) {
        let plan = self.plan();
        let step = match plan.step {
            Step::Dispatch { id, agents, again } => {
                let again = if again { ", again" } else { "" };
                format!("dispatch {:x}: {agents} agents{again}", id.0.as_u128())
            }
            Step::Hold(hold) => hold.sentence(at(0)),
        };
        let alerts: Vec<String> = plan.alerts.iter().map(|alert| alert.sentence(at(0))).collect();
        let mut lines = vec![step];
        lines.extend(alerts.into_iter().map(|alert| format!("! {alert}")));
        assert_eq!(lines.join("\n"), expected);
    }
}

/// The id of the n-th dispatch, as it is spelt.
fn spelt(number: u128) -> String {
    id(number).to_string()
}

#[test]
fn what_is_queued_gets_agents_and_a_buffer() {
    fleet().check("no jobs are queued");
    fleet().queued(7).check("dispatch ff: 7 agents");
    fleet().queued(7).policy(|p| p.buffer = 3).check("dispatch ff: 10 agents");
    fleet().policy(|p| p.buffer = 3).check("no jobs are queued");
}

#[test]
fn agents_that_are_idle_are_used_first_and_busy_ones_leave() {
    fleet().queued(7).agents(2, 0).check("dispatch ff: 5 agents");
    fleet().queued(7).agents(0, 30).check("dispatch ff: 7 agents");
    fleet().queued(2).agents(2, 9).check(
        "2 jobs are queued and 2 agents idle; where it stays so, the jobs ask for tags that the \
         agents do not carry, or wait for a concurrency group",
    );
}

#[test]
fn agents_that_earlier_dispatches_will_bring_are_not_dispatched_again() {
    fleet()
        .queued(7)
        .dispatched(10, 60, |d| d.online = 5)
        .agents(0, 5)
        .check("dispatch ff: 2 agents");
    fleet()
        .queued(5)
        .dispatched(10, 60, |d| d.online = 5)
        .agents(0, 5)
        .check("5 jobs are queued, 0 agents idle and 5 on their way");
}

#[test]
fn a_round_says_what_it_was_sized_on() {
    let sized = |mut fleet: Case| fleet.plan().sizing.map(|sizing| sizing.sentence());
    let fleet = fleet().queued(7).dispatched(10, 60, |d| d.online = 5).agents(1, 5);
    assert_eq!(
        sized(fleet.policy(|p| p.buffer = 3)).as_deref(),
        Some(
            "7 jobs queued; agents: 1 idle, 5 on their way; 10 pods of at most 50; buffer 3, min 0"
        )
    );
}

#[test]
fn a_pod_that_runs_and_has_not_registered_is_on_its_way() {
    fleet()
        .queued(5)
        .dispatched(5, 20, |d| d.online = 5)
        .check("5 jobs are queued, 0 agents idle and 5 on their way");
    // An agent that never registers is given up a minute after its dispatch is.
    fleet()
        .queued(5)
        .dispatched(5, 359, |d| d.online = 5)
        .check("5 jobs are queued, 0 agents idle and 5 on their way");
    fleet().queued(5).dispatched(5, 360, |d| d.online = 5).check("dispatch ff: 5 agents");
}

#[test]
fn the_next_dispatch_waits_until_a_share_of_the_last_has_arrived() {
    let held = format!(
        "cooldown: 4 of 10 agents of dispatch {} are online or done; not waited for longer than \
         3m20s: Insufficient cpu",
        spelt(1)
    );
    let some = |d: &mut Dispatch| {
        (d.online, d.done) = (3, 1);
        d.trouble = Some("Insufficient cpu".into());
    };
    fleet().queued(40).dispatched(10, 100, some).agents(0, 3).check(&held);
    let enough = |d: &mut Dispatch| (d.online, d.done) = (4, 1);
    fleet().queued(40).dispatched(10, 100, enough).agents(0, 4).check("dispatch ff: 35 agents");
}

#[test]
fn a_dispatch_that_does_not_come_is_given_up_told_of_and_counted_below_max() {
    let stuck = |d: &mut Dispatch| d.trouble = Some("no node has room".into());
    let told = format!(
        "! dispatch {} does not roll out: of 10 agents 0 are online or done and 0 failed: no node \
         has room",
        spelt(1)
    );
    fleet().queued(8).dispatched(10, 300, stuck).check(&format!("dispatch ff: 8 agents\n{told}"));
    fleet()
        .queued(8)
        .policy(|p| p.max = 15)
        .dispatched(10, 300, stuck)
        .check(&format!("dispatch ff: 5 agents\n{told}"));
    fleet()
        .queued(8)
        .policy(|p| p.max = 10)
        .dispatched(10, 300, stuck)
        .check(&format!("8 agents are missing, and there are 10 pods of at most 10\n{told}"));
}

#[test]
fn agents_that_die_as_they_start_are_told_of_at_once_and_do_not_call_for_more() {
    fleet().queued(10).dispatched(10, 100, |d| d.failed = 10).check(&format!(
        "cooldown: 0 of 10 agents of dispatch {0} are online or done; not waited for longer than \
         3m20s\n! dispatch {0} does not roll out: of 10 agents 0 are online or done and 10 failed",
        spelt(1)
    ));
}

#[test]
fn idle_agents_below_a_full_max_are_told_of() {
    let idle = |d: &mut Dispatch| d.online = 10;
    fleet().queued(60).policy(|p| p.max = 10).dispatched(10, 100, idle).agents(10, 0).check(
        "50 agents are missing, and there are 10 pods of at most 10; 10 agents are idle, and where \
         it stays so, the jobs ask for tags that the agents do not carry, or wait for a concurrency \
         group",
    );
}

#[test]
fn pods_on_a_lost_node_are_replaced_and_take_their_place_below_max() {
    let lost = |d: &mut Dispatch| (d.online, d.failed, d.leaving) = (6, 4, 4);
    let one = || fleet().queued(4).dispatched(10, 100, lost).agents(0, 6);
    one().check("dispatch ff: 4 agents");
    one().policy(|p| p.max = 10).check("4 agents are missing, and there are 10 pods of at most 10");
}

#[test]
fn some_are_kept_warm() {
    let warm = || fleet().policy(|p| p.min = 3);
    warm().check("dispatch ff: 3 agents");
    warm().dispatched(2, 100, |d| d.online = 2).agents(2, 0).check("dispatch ff: 1 agents");
    warm().dispatched(3, 100, |d| d.online = 3).agents(3, 0).check("no jobs are queued");
    warm().queued(9).check("dispatch ff: 9 agents");
}

#[test]
fn nothing_is_done_where_something_is_not_known() {
    let mut blind = fleet().queued(5);
    blind.seen.counts = Default::default();
    blind.seen.counts.failed(at(70), "401 Unauthorized");
    blind.check(
        "the queue's counts are not known: 401 Unauthorized\n\
         ! Buildkite does not tell the queue's counts for 1m10s: 401 Unauthorized",
    );
    // An old word is none.
    let mut old = fleet().queued(5);
    let listing = old.seen.listing.last.as_mut().expect("listed");
    (listing.began_at, listing.ended_at) = (at(65), at(61));
    old.seen.listing.failed(at(30), "connection refused");
    old.check("the cluster has not been seen: connection refused");
    // One word that fails is no reason to forget the one before.
    let mut shaky = fleet().queued(5);
    shaky.seen.listing.failed(at(0), "connection refused");
    shaky.check("dispatch ff: 5 agents");
}

#[test]
fn a_process_that_has_just_started_looks_first() {
    let mut young = fleet().queued(5);
    young.ledger = Ledger::new(at(12));
    young.check("just started: what was asked for before has 8s to be seen");
}

#[test]
fn nothing_is_dispatched_while_jitney_is_drained() {
    let mut drained = fleet().queued(5).policy(|p| p.min = 2);
    drained.seen.draining = true;
    drained.check("Jitney is being drained, and dispatches nothing");
}

#[test]
fn what_ended_after_buildkite_counted_is_not_missed() {
    // Three agents took three jobs after the counts, and left before the listing.
    let mut case = fleet().queued(3).dispatched(3, 60, |d| d.online = 3);
    case.plan();
    let listing = case.seen.listing.last.as_mut().expect("listed");
    (listing.dispatches[0].online, listing.dispatches[0].done) = (0, 3);
    listing.dispatches[0].over = true;
    listing.ended_at = at(0);
    case.ledger.record(Event::Listed(&listing.clone()));
    let plan = decide(&case.ledger, &case.seen, &case.policy, id(0xff), at(0));
    assert!(matches!(plan.step, Step::Hold(_)), "{plan:?}");
}

fn asked(mut case: Case, agents: u32, ago: u64, outcome: Outcome) -> Case {
    case.ledger.record(Event::Asks { id: id(7), agents });
    case.ledger.record(Event::Answered { at: at(ago), outcome });
    case
}

#[test]
fn a_request_without_an_answer_is_sent_again_under_its_name() {
    let unanswered = || Outcome::Unanswered { words: "timed out".into() };
    asked(fleet().queued(5), 5, 5, unanswered()).check("dispatch 7: 5 agents, again");
    asked(fleet().queued(9), 5, 5, unanswered()).check("dispatch 7: 5 agents, again");
    // Fewer are needed now: it is waited for, since the same name means the same number.
    let held = format!(
        "whether dispatch {} was made is not known; looked at again in 15s: timed out",
        spelt(7)
    );
    asked(fleet().queued(4), 5, 5, unanswered()).check(&held);
    // It has not arrived, and does not arrive any more.
    asked(fleet().queued(4), 5, 30, unanswered()).check("dispatch ff: 4 agents");
}

#[test]
fn a_dispatch_that_was_made_is_waited_for_until_it_is_seen() {
    let made = |ago| asked(fleet().queued(5), 5, ago, Outcome::Made);
    made(1).check(&format!(
        "cooldown: 0 of 5 agents of dispatch {} are online or done; not waited for longer than \
         4m59s",
        spelt(7)
    ));
    // The listing began after it was made, and does not have it: somebody has deleted it.
    made(5).check("dispatch ff: 5 agents");
}

#[test]
fn a_refusal_is_told_of_and_tried_again_more_and_more_rarely() {
    let refused = || Outcome::Refused { words: "exceeded quota: pods".into(), after: None };
    let case = asked(fleet().queued(5), 5, 3, refused());
    case.check(
        "the cluster refused the last dispatch; again in 7s: exceeded quota: pods\n\
         ! the cluster refuses dispatches: exceeded quota: pods",
    );
    let again = asked(asked(fleet().queued(5), 5, 30, refused()), 5, 3, refused());
    again.check(
        "the cluster refused the last dispatch; again in 17s: exceeded quota: pods\n\
         ! the cluster refuses dispatches: exceeded quota: pods",
    );
}

#[test]
fn figures_say_what_is_known() {
    let mut case =
        fleet().queued(7).dispatched(10, 100, |d| (d.online, d.done) = (3, 1)).agents(1, 2);
    let figures = case.plan().figures;
    assert_eq!((figures.queued, figures.agents_total), (Some(7), Some(3)));
    assert_eq!((figures.agents_free, figures.pods_online), (Some(1), Some(3)));
    assert_eq!(figures.pods_pending, Some(6));
    assert_eq!(figures.waiting_for_dispatch, Duration::from_secs(100));
}
