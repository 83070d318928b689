//! Reasons, notices, failures, alarms and verdicts: data in, text out.

use std::sync::Arc;
use std::time::Duration;

use planner::{
    Alarm, Bound, Bytes, CutShort, Failure, FailureClass, Hold, JobId, NotRetried, Notice, Reason,
    Scope, Timestamp,
};
use proptest::prelude::*;
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

pub(crate) fn failure(class: FailureClass, words: &str) -> Failure {
    Failure { class, words: words.into(), retry_after: None, shortage: None }
}

fn here() -> planner::BackendName {
    "here".into()
}

type Row = (Reason, &'static str, &'static str);

/// Reasons before anything was asked for, each with its key and its words.
fn reasons_to_wait() -> Vec<Row> {
    let limit = |scope, limit| Reason::Limit { scope, limit };
    vec![
        (
            limit(Scope::All, Bound::Machines),
            "limit",
            "Waiting for room: this Jitney has reached its limit of machines",
        ),
        (
            limit(Scope::Queue("jit".into()), Bound::Cpu),
            "limit",
            "Waiting for room: queue jit has reached its limit of vCPU",
        ),
        (
            limit(Scope::Policy(0), Bound::Memory),
            "limit",
            "Waiting for room: policy 1 has reached its limit of memory",
        ),
        (
            limit(Scope::Backend(here()), Bound::CostPerHour),
            "limit",
            "Waiting for room: backend here has reached its limit of cost per hour",
        ),
        (
            Reason::CreateRate { backend: here() },
            "create_rate",
            "Waiting for its turn: backend here takes no more new machines just now",
        ),
        (
            Reason::QueuePaused,
            "queue_paused",
            "The queue is paused in Buildkite; jobs start when somebody resumes it",
        ),
        (
            Reason::Draining,
            "draining",
            "Jitney is being drained and starts no new jobs until its operator says `jitney drain --resume`",
        ),
        (
            Reason::JournalFull,
            "journal_full",
            "Jitney cannot write its journal and starts no new jobs; its operator has to make room on the disk",
        ),
        (
            Reason::BuildkiteUnreachable,
            "buildkite_unreachable",
            "Jitney cannot reach Buildkite; jobs start as soon as it answers",
        ),
    ]
}

/// Reasons that come from outside.
fn reasons_of_trouble() -> Vec<Row> {
    vec![
        (
            Reason::BackendUnreachable { backend: here(), words: "connection refused.".into() },
            "backend_unreachable",
            "Backend here cannot be reached; jobs start as soon as it answers: connection refused",
        ),
        (
            Reason::CoolingDown {
                backend: here(),
                failure: failure(FailureClass::Capacity, "no n2 left in europe-west4-a"),
                until: NOW.plus(Duration::from_millis(11_001)),
            },
            "cooling_down",
            "Backend here is tried again in 12s: no capacity: no n2 left in europe-west4-a",
        ),
        (
            Reason::BackingOff {
                failure: failure(FailureClass::StartTimeout, "no agent connected within 5m"),
                until: NOW,
            },
            "backing_off",
            "Another machine is made at once: no agent connected within 5m",
        ),
        (
            Reason::TwoInstallations { instance: "ab12".into() },
            "two_installations",
            "Another Jitney with the same name is at work (instance ab12); the operator has to stop it or rename one of the two",
        ),
    ]
}

/// Reasons of a job that is on its way, or not ours.
fn reasons_under_way() -> Vec<Row> {
    vec![
        (
            Reason::LookingUp { policies: vec![1], words: None },
            "looking_up",
            "Policy 2 asks where its build comes from, and Buildkite is asked",
        ),
        (
            Reason::LookingUp { policies: vec![0, 1, 3], words: Some("502.".into()) },
            "looking_up",
            "Policies 1, 2 and 4 ask where its build comes from, and Buildkite has not told yet: 502",
        ),
        (Reason::Reserving, "reserving", "Being reserved in Buildkite"),
        (
            Reason::Creating { backend: here() },
            "creating",
            "A machine is asked for on here; the answer is not there yet",
        ),
        (
            Reason::Starting { backend: here(), note: None },
            "starting",
            "Its machine on here is starting",
        ),
        (
            Reason::Starting { backend: here(), note: Some("pulling the image".into()) },
            "starting",
            "Its machine on here is starting: pulling the image",
        ),
        (
            Reason::AgentConnected { backend: here() },
            "agent_connected",
            "Its agent on here has connected and is about to take the job",
        ),
        (
            Reason::Removing { backend: here() },
            "removing",
            "The machine of an earlier attempt on here is being removed; then another is made",
        ),
        (
            Reason::LeaseLapsing,
            "lease_lapsing",
            "Its machine is gone and its reservation was left behind; it starts when the reservation lapses",
        ),
        (Reason::Failing, "failing", "Being failed; the reason follows in a moment"),
        (
            Reason::Foreign { tag: "memroy=4G".into(), nearest: Some("memory".into()) },
            "foreign",
            "Left to other agents: ours do not carry memroy=4G. Did you mean memory?",
        ),
        (
            Reason::Foreign { tag: "docker=true".into(), nearest: None },
            "foreign",
            "Left to other agents: ours do not carry docker=true",
        ),
    ]
}

#[test]
fn every_reason_is_a_line_and_has_the_key_that_it_is_serialized_with() {
    for (reason, key, sentence) in
        [reasons_to_wait(), reasons_of_trouble(), reasons_under_way()].concat()
    {
        assert_eq!(reason.sentence(NOW), sentence);
        assert_eq!(reason.key(), key);
        assert_eq!(serde_json::to_value(&reason).unwrap()["reason"], key);
    }
}

#[test]
fn a_place_in_line_is_told_where_there_is_a_line() {
    let queue = || "jit".into();
    for (reason, ahead, expected) in [
        (
            Reason::QueuePaused,
            None,
            "The queue is paused in Buildkite; jobs start when somebody resumes it",
        ),
        (
            Reason::QueuePaused,
            Some(0),
            "The queue is paused in Buildkite; jobs start when somebody resumes it (next in line)",
        ),
        (
            Reason::QueuePaused,
            Some(1),
            "The queue is paused in Buildkite; jobs start when somebody resumes it (1 job before it)",
        ),
        (
            Reason::CreateRate { backend: here() },
            Some(3),
            "Waiting for its turn: backend here takes no more new machines just now (3 jobs before it)",
        ),
        (Reason::Failing, Some(3), "Being failed; the reason follows in a moment"),
        (
            Reason::Foreign { tag: "a=b".into(), nearest: None },
            Some(3),
            "Left to other agents: ours do not carry a=b",
        ),
    ] {
        let hold = Hold { queue: queue(), reason: reason.clone(), ahead };
        assert_eq!(hold.sentence(NOW), expected);
        assert_eq!(Notice::Waiting { reason, ahead }.sentence(NOW), expected);
    }
}

#[test]
fn a_line_is_cut_only_where_it_is_too_long() {
    let text =
        |note: String| Reason::Starting { backend: here(), note: Some(note.into()) }.sentence(NOW);
    let room = 255 - text("x".into()).len() + 1;
    assert_eq!(text("x".repeat(room)).matches('x').count(), room);
    let cut = text("x".repeat(room + 1));
    assert!(cut.ends_with("x…") && cut.len() == 255, "{cut}");
}

#[test]
fn notices() {
    let made = |machine: &str, attempt| Notice::Made {
        name: "jitney-7-1".into(),
        backend: here(),
        machine: machine.into(),
        attempt,
        after: None,
    };
    let elsewhere = Notice::Made {
        name: "jitney-7-1".into(),
        backend: here(),
        machine: "e2-standard-4".into(),
        attempt: 1,
        after: Some(failure(FailureClass::Quota, "the quota N2_CPUS is used up")),
    };
    let retrying = Notice::Retrying {
        attempt: 1,
        of: 3,
        failure: failure(
            FailureClass::EndedEarly,
            "the machine ended before its agent had the job: the agent exited with 1",
        ),
    };
    for (notice, key, expected) in [
        (
            made("2 vCPU, 4 GiB", 1),
            "made",
            "Machine jitney-7-1 (2 vCPU, 4 GiB) is made on here; its agent is starting",
        ),
        (
            made("", 2),
            "made",
            "Machine jitney-7-1 is made on here, attempt 2; its agent is starting",
        ),
        (
            elsewhere,
            "made",
            "Machine jitney-7-1 (e2-standard-4) is made on here; its agent is starting. Before: a quota is used up: the quota N2_CPUS is used up",
        ),
        (
            Notice::Replaced { by: JobId(Uuid::from_u128(7)) },
            "replaced",
            "It was lost with its machine: job 00000000-0000-0000-0000-000000000007 takes its place",
        ),
        (
            Notice::NotRetried { why: NotRetried::Budget { per_build: 5 } },
            "not_retried",
            "It was lost with its machine and is not retried: the build has had all of its 5 retries of lost jobs (buildkite.retry_lost.per_build). Retry it by hand",
        ),
        (
            Notice::Assumed { why: "403.".into() },
            "assumed",
            "Where its build comes from is not known, so that policies on it count as if they matched: 403",
        ),
        (
            retrying,
            "retrying",
            "Attempt 1 of 3 came to nothing, another machine is made: the machine ended before its agent had the job: the agent exited with 1",
        ),
        (
            Notice::Waiting { reason: Reason::Reserving, ahead: None },
            "waiting",
            "Being reserved in Buildkite",
        ),
    ] {
        assert_eq!(notice.sentence(NOW), expected);
        assert_eq!(notice.key(), key);
        assert_eq!(serde_json::to_value(&notice).unwrap()["notice"], key);
    }
}

#[test]
fn machines_that_ended_under_a_job() {
    let memory = Bytes::gib(4);
    let hungry = |ran: Option<&str>| CutShort::OutOfMemory { memory, ran: ran.map(Into::into) };
    for (why, expected) in [
        (
            hungry(None),
            "The kernel killed something of this job for want of memory: its machine has 4 GiB. Ask for more with the tag memory",
        ),
        (
            hungry(Some("3 × rustc (2.1 GiB) and ld (1.2 GiB)")),
            "The kernel killed something of this job for want of memory: its machine has 4 GiB, and ran 3 × rustc (2.1 GiB) and ld (1.2 GiB). Ask for more with the tag memory",
        ),
        (
            CutShort::Lost { cause: "the guest was killed".into() },
            "Its machine ended under it: the guest was killed. Buildkite ends the job when it misses the agent",
        ),
        (
            CutShort::Silent { cause: "its node `n1` does not answer any more".into() },
            "Its machine may be lost: its node `n1` does not answer any more. The job goes on if the machine comes back; else Buildkite ends it when it misses the agent",
        ),
    ] {
        let notice = Notice::CutShort { attempt: 1, why };
        assert_eq!((notice.sentence(NOW).as_str(), notice.key()), (expected, "cut_short"));
    }
}

#[test]
fn failures_say_their_class_where_the_words_do_not() {
    for (class, key, bare, with_words) in [
        (FailureClass::Capacity, "capacity", "no capacity", "no capacity: x"),
        (FailureClass::Quota, "quota", "a quota is used up", "a quota is used up: x"),
        (FailureClass::Rate, "rate", "too many calls", "too many calls: x"),
        (FailureClass::Ambiguous, "ambiguous", "no clear answer", "no clear answer: x"),
        (FailureClass::Rejected, "rejected", "refused", "refused: x"),
        (
            FailureClass::Denied,
            "denied",
            "not set up or not permitted",
            "not set up or not permitted: x",
        ),
        (
            FailureClass::EndedEarly,
            "ended_early",
            "the machine ended before its agent had the job",
            "x",
        ),
        (FailureClass::StartTimeout, "start_timeout", "no agent had the job in time", "x"),
        (FailureClass::Lost, "lost", "the machine vanished", "x"),
    ] {
        assert_eq!(failure(class, " ").to_string(), bare);
        assert_eq!(failure(class, "x.").to_string(), with_words);
        assert_eq!(class.key(), key);
        assert_eq!(serde_json::to_value(class).unwrap(), key);
        assert!(class.remedy().len() > 10);
    }
}

#[test]
fn what_is_not_retried_says_why() {
    let words = || "canceled build.".into();
    for (why, expected) in [
        (NotRetried::NotLost, "Buildkite says that it ended otherwise"),
        (
            NotRetried::Denied { words: words() },
            "Buildkite's REST API refuses Jitney's token: canceled build. Retry it by hand",
        ),
        (NotRetried::Refused { words: words() }, "Buildkite refuses: canceled build"),
        (NotRetried::NoBuild, "it is not known which build it is of. Retry it by hand"),
        (NotRetried::NoAnswer, "Buildkite's REST API gave no clear answer. Retry it by hand"),
    ] {
        assert_eq!(why.to_string(), expected);
    }
}

#[test]
fn alarms_tell_the_operator_what_to_do() {
    let two = Alarm::TwoInstallations { instance: "ab12".into(), machine: "jitney-7-1".into() };
    let denied = Alarm::Denied { backend: here(), words: "403: no such key".into() };
    let api = Alarm::ApiDenied { words: "no write_builds.".into() };
    for (alarm, key, expected) in [
        (
            api,
            "api_denied",
            "Buildkite's REST API refuses buildkite.api_token, and lost jobs are not retried: no write_builds. Give it a token with the scopes read_builds and write_builds, and start Jitney again",
        ),
        (
            two,
            "two_installations",
            "Another installation with our name (instance ab12) made jitney-7-1 while we were running: \
             stop it, or give one of the two another name in its configuration",
        ),
        (
            denied,
            "denied",
            "Backend here denies us machines until its setup, credentials or permissions are put \
             right: 403: no such key",
        ),
    ] {
        assert_eq!(alarm.to_string(), expected);
        assert_eq!(alarm.key(), key);
        assert_eq!(serde_json::to_value(&alarm).unwrap()["alarm"], key);
    }
}

#[test]
fn scopes_have_keys() {
    let scopes = [Scope::All, Scope::Queue("a".into()), Scope::Policy(1), Scope::Backend(here())];
    for scope in scopes {
        assert_eq!(serde_json::to_value(&scope).unwrap()["scope"], scope.key());
    }
}

fn is_a_line(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control)
}

proptest! {
    #[test]
    fn whatever_a_backend_says_fits_one_line(words in "\\PC{0,300}|(.|\n|\u{1b}){0,300}", ahead in proptest::option::of(any::<u32>())) {
        let words: Arc<str> = words.into();
        let failure = failure(FailureClass::Capacity, &words);
        let reasons = [
            Reason::BackendUnreachable { backend: here(), words: words.clone() },
            Reason::CoolingDown { backend: here(), failure: failure.clone(), until: Timestamp::from_millis(u64::MAX) },
            Reason::Starting { backend: here(), note: Some(words.clone()) },
            Reason::Foreign { tag: words.clone(), nearest: Some(words.clone()) },
        ];
        for reason in reasons {
            prop_assert!(is_a_line(&reason.sentence(NOW)));
            let notice = Notice::Waiting { reason: reason.clone(), ahead };
            let text = notice.sentence(NOW);
            prop_assert!(is_a_line(&text));
            if let (Some(ahead @ 2..), Reason::CoolingDown { .. }) = (ahead, &reason) {
                let place = format!(" ({ahead} jobs before it)");
                prop_assert!(text.ends_with(&place), "the place is never cut off");
            }
        }
        let retrying = Notice::Retrying { attempt: 1, of: 3, failure };
        prop_assert!(is_a_line(&retrying.sentence(NOW)));
        let alarm = Alarm::Denied { backend: here(), words };
        prop_assert!(is_a_line(&alarm.to_string()));
    }
}
