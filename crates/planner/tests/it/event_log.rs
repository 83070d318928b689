//! The event log's changes: whatever two observations and two plans are, the one and the change
//! give the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use planner::{
    Answer, BackendSeen, Bytes, Candidate, Cpu, Foreign, Hold, JobId, JobRow, JobState, Ledger,
    LogLine, MachineName, MachineSeen, Observation, Phase, Plan, Player, Policy, QueueKey,
    QueueSeen, Reason, Recorder, Timestamp, TokenSeen, Verdict,
};
use proptest::prelude::*;
use uuid::Uuid;

const QUEUES: [&str; 2] = ["one", "two"];

fn policy() -> Arc<Policy> {
    Arc::new(Policy {
        name: "jitney".into(),
        queues: BTreeMap::new(),
        classes: BTreeMap::new(),
        rules: Vec::new(),
        retry_lost: None,
        limits: planner::Limits::default(),
        backends: BTreeMap::new(),
        margins: planner::Margins::default(),
    })
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn job() -> impl Strategy<Value = JobId> {
    (0_u128..8).prop_map(|number| JobId(Uuid::from_u128(number)))
}

/// Of few jobs with few contents, so that the same, changed and doubled ones all happen.
fn candidate() -> impl Strategy<Value = Arc<Candidate>> {
    (job(), 0_i64..2).prop_map(|(id, priority)| {
        let row = JobRow {
            id,
            queue: "one".into(),
            priority,
            rules: Vec::new(),
            scheduled_at: at(1),
            runnable_at: None,
            pipeline: "web".into(),
            branch: "main".into(),
            build: 1,
            step: None,
        };
        let verdict = Verdict::Foreign(Foreign::OtherQueue { queue: "other".into() });
        Arc::new(Candidate { row: Arc::new(row), verdict })
    })
}

fn queue() -> impl Strategy<Value = QueueSeen> {
    (0_u64..2, any::<bool>(), prop::collection::vec(candidate(), 0..6)).prop_map(
        |(listed, paused, candidates)| QueueSeen {
            listed_at: Some(at(listed)),
            paused,
            candidates: candidates.into(),
            ..QueueSeen::default()
        },
    )
}

fn machine(job: JobId, attempt: u32, phase: Phase) -> Arc<MachineSeen> {
    Arc::new(MachineSeen {
        job,
        attempt,
        name: MachineName::of("jitney", job, attempt),
        instance: "one".into(),
        queue: "one".into(),
        dispatch: "0".into(),
        cpu: Cpu::from_millis(1000),
        memory: Bytes::gib(1),
        phase,
        created_at: at(1),
        connected_at: None,
        deadline_at: at(2),
        ended: None,
        note: None,
        silent: None,
        leaving: None,
    })
}

fn backend() -> impl Strategy<Value = BackendSeen> {
    let phase = prop_oneof![Just(Phase::Booting), Just(Phase::Connected)];
    let machines = prop::collection::btree_map((job(), 1_u32..3), phase, 0..5);
    (machines, prop::option::of(0_u32..2)).prop_map(|(machines, creates_left)| BackendSeen {
        machines: machines
            .into_iter()
            .map(|((job, attempt), phase)| ((job, attempt), machine(job, attempt, phase)))
            .collect(),
        creates_left,
        ..BackendSeen::default()
    })
}

fn observation() -> impl Strategy<Value = Observation> {
    let queues = prop::collection::btree_map(prop::sample::select(&QUEUES[..]), queue(), 0..3);
    let backends = prop::collection::btree_map(prop::sample::select(&QUEUES[..]), backend(), 0..3);
    let answers = prop::collection::btree_map(job(), 0_u64..2, 0..6);
    let tokens = prop::collection::btree_map(job(), 0_u32..2, 0..6);
    (queues, backends, answers, tokens, any::<bool>()).prop_map(
        |(queues, backends, answers, tokens, draining)| Observation {
            queues: queues.into_iter().map(|(key, seen)| (key.into(), seen)).collect(),
            backends: backends.into_iter().map(|(name, seen)| (name.into(), seen)).collect(),
            answers: answers
                .into_iter()
                .map(|(job, asked)| (job, Answer { state: JobState::Running, asked_at: at(asked) }))
                .collect(),
            tokens: tokens
                .into_iter()
                .map(|(job, attempt)| {
                    (job, TokenSeen { attempt, issued_at: at(1), expires_at: at(2) })
                })
                .collect(),
            draining,
            ..Observation::default()
        },
    )
}

fn holds() -> impl Strategy<Value = BTreeMap<JobId, Hold>> {
    let reason = prop_oneof![Just(Reason::Draining), Just(Reason::QueuePaused)];
    let hold = (prop::sample::select(&QUEUES[..]), reason, prop::option::of(0_u32..6))
        .prop_map(|(queue, reason, ahead)| Hold { queue: queue.into(), reason, ahead });
    prop::collection::btree_map(job(), hold, 0..8)
}

fn check(rounds: &[(Observation, BTreeMap<JobId, Hold>)]) {
    let (mut recorder, mut player) = (Recorder::new("test"), Player::default());
    let (ledger, policy) = (Ledger::default(), policy());
    for (seen, holds) in rounds {
        let plan = Plan { holds: holds.clone(), ..Plan::default() };
        recorder.decided(&ledger, seen, &policy, at(5), &plan);
        let mut recorded = None;
        for line in recorder.take() {
            let text = serde_json::to_string(&line).expect("lines have a JSON form");
            let line: LogLine = serde_json::from_str(&text).expect("it can be read");
            recorded = player.take(line).expect("the lines are in order");
        }
        assert_eq!(player.seen, *seen);
        assert_eq!(recorded.expect("a round").plan, plan);
    }
}

proptest! {
    #[test]
    fn a_change_and_what_was_give_what_is(
        rounds in prop::collection::vec((observation(), holds()), 1..5),
    ) {
        check(&rounds);
    }
}

fn waiting(jobs: std::ops::Range<u128>, first: u32) -> BTreeMap<JobId, Hold> {
    let holds = jobs.zip(first..).map(|(number, ahead)| {
        let hold =
            Hold { queue: QueueKey::new("one"), reason: Reason::Draining, ahead: Some(ahead) };
        (JobId(Uuid::from_u128(number)), hold)
    });
    holds.collect()
}

/// A thousand jobs wait, ten are taken from the head: the line says ten things and not a thousand.
#[test]
fn those_that_move_up_together_are_one_change() {
    let (mut recorder, ledger, policy) = (Recorder::new("test"), Ledger::default(), policy());
    let mut line = |holds| {
        let plan = Plan { holds, ..Plan::default() };
        recorder.decided(&ledger, &Observation::default(), &policy, at(1), &plan);
        let lines = recorder.take();
        serde_json::to_string(lines.last().expect("a round")).expect("lines have a JSON form")
    };
    let (all, rest) = (line(waiting(0..1000, 0)), line(waiting(10..1000, 0)));
    assert!(all.len() > 100_000, "{}", all.len());
    assert!(rest.len() < 1_000 && rest.contains(r#""ahead":{"one":-10}"#), "{rest}");
}

#[test]
fn a_round_without_news_is_a_short_line() {
    let (mut recorder, ledger, policy) = (Recorder::new("test"), Ledger::default(), policy());
    let (seen, plan) = (Observation::default(), Plan::default());
    recorder.decided(&ledger, &seen, &policy, at(1), &plan);
    assert_eq!(recorder.take().len(), 4, "start, policy, ledger, round");
    recorder.decided(&ledger, &seen, &policy, at(2), &plan);
    let lines = recorder.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let text = serde_json::to_string(&lines[0]).expect("lines have a JSON form");
    assert!(text.len() < 400, "{text}");
}

#[test]
fn what_was_lost_is_said_and_all_is_said_anew() {
    let (mut recorder, ledger, policy) = (Recorder::new("test"), Ledger::default(), policy());
    let (seen, plan) = (Observation::default(), Plan::default());
    recorder.decided(&ledger, &seen, &policy, at(1), &plan);
    recorder.take();
    recorder.lost();
    recorder.lost();
    recorder.decided(&ledger, &seen, &policy, at(2), &plan);
    let lines = recorder.take();
    let LogLine::Start(start) = &lines[0] else { panic!("{lines:?}") };
    assert_eq!((start.missed, lines.len()), (2, 4));
    // A new policy is a line; the same one is none.
    let other = Arc::new(Policy { name: "other".into(), ..(*policy).clone() });
    recorder.decided(&ledger, &seen, &other, at(3), &plan);
    assert!(matches!(recorder.take()[..], [LogLine::Policy(_), LogLine::Decided(_)]));
}

#[test]
fn an_end_is_said_of_what_was_begun_only() {
    let (mut recorder, ledger, policy) = (Recorder::new("test"), Ledger::default(), policy());
    recorder.end(at(1));
    assert_eq!(recorder.take(), []);
    recorder.decided(&ledger, &Observation::default(), &policy, at(1), &Plan::default());
    recorder.end(at(2));
    recorder.end(at(3));
    assert_eq!(recorder.take().pop(), Some(LogLine::End(at(2))));
}

#[test]
fn lines_out_of_their_order_are_no_round() {
    let (mut recorder, ledger, policy) = (Recorder::new("test"), Ledger::default(), policy());
    recorder.decided(&ledger, &Observation::default(), &policy, at(1), &Plan::default());
    let mut lines = recorder.take();
    let last = lines.pop().expect("a round");
    let mut player = Player::default();
    assert!(player.take(last.clone()).is_err());
    for line in lines {
        assert_eq!(player.take(line), Ok(None));
    }
    assert!(player.take(last).is_ok_and(|round| round.is_some()));
}
