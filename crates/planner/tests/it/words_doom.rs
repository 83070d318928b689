//! The text of a job that we failed: the whole story, and never more than Buildkite takes.

use std::sync::Arc;
use std::time::Duration;

use planner::{
    Bytes, Cpu, CreateOutcome, Doom, EndSeen, Event, FailureClass, Invalid, JobId, Ledger, Offer,
    TagError, Timestamp, Verdict, assess,
};
use proptest::prelude::*;

use crate::assess::{edit, row};
use crate::words::failure;

const START: Timestamp = Timestamp::from_millis(1_000_000);

/// What became of one machine.
#[derive(Clone, Default)]
struct Tried {
    failed: Option<(FailureClass, String, u64)>,
    ended: Option<EndSeen>,
}

fn failed(class: FailureClass, words: &str, after: u64) -> Tried {
    Tried { failed: Some((class, words.into(), after)), ended: None }
}

fn ended(before: Tried, cause: &str, log: &str, oom_killed: bool) -> Tried {
    let end = EndSeen {
        at: START.plus(Duration::from_secs(90)),
        deadline_reached: false,
        taken: false,
        refused: None,
        shortage: None,
        cause: cause.into(),
        log_tail: log.into(),
        cpu_millis_used: None,
        peak_memory: None,
        oom_killed,
        ran: None,
    };
    Tried { ended: Some(end), ..before }
}

/// A ledger with one job in it, and these machines after one another.
fn ledger(tried: Vec<Tried>) -> (Ledger, JobId) {
    let mut ledger = Ledger::default();
    let row = row("", "web", "main");
    let job = row.id;
    ledger.record(Event::Taken { job, row, request: None, doom: None, at: START });
    for (attempt, tried) in (1..).zip(tried) {
        let offer = Offer {
            backend: "here".into(),
            place: Arc::default(),
            machine_type: Arc::default(),
            spot: false,
            cpu: Cpu::from_millis(1000),
            memory: Bytes::gib(2),
            price_micros_per_hour: 0,
            vm: None,
        };
        let name = format!("jitney-7-{attempt}").as_str().into();
        let dispatch = "d".into();
        let (lifetime, at) = (None, START);
        ledger.record(Event::CreateIntended { job, attempt, name, offer, lifetime, dispatch, at });
        let outcome = CreateOutcome::Made;
        ledger.record(Event::CreateEnded { job, attempt, outcome, at: START });
        if let Some(end) = tried.ended {
            let at = end.at;
            ledger.record(Event::MachineEnded { job, attempt, end: Arc::new(end), at });
        }
        if let Some((class, words, after)) = tried.failed {
            let at = START.plus(Duration::from_secs(after));
            let failure = failure(class, &words);
            ledger.record(Event::AttemptFailed { job, attempt, failure, charged: true, at });
        }
    }
    (ledger, job)
}

fn detail(doom: &Doom, tried: Vec<Tried>) -> String {
    let (ledger, job) = ledger(tried);
    doom.detail(ledger.entry(job).expect("it was taken"))
}

fn check(doom: &Doom, tried: Vec<Tried>, key: &str, expected: &str) {
    assert_eq!(detail(doom, tried), expected);
    assert_eq!(doom.key(), key);
    assert_eq!(serde_json::to_value(doom).expect("it is plain")["doom"], key);
}

#[test]
fn a_tag_that_is_wrong() {
    let invalid = Invalid::Tag(TagError {
        tag: "memory=64GB!".into(),
        problem: "\"GB!\" is not a unit of size".into(),
        remedy: "write memory: 64G (or K, M, T)".into(),
    });
    check(
        &Doom::Invalid { invalid },
        Vec::new(),
        "invalid",
        "No machine can be made for this job: memory=64GB!: \"GB!\" is not a unit of size\n\
         \n\
         Write memory: 64G (or K, M, T)",
    );
}

#[test]
fn a_shape_that_nothing_makes_as_the_verdict_says_it() {
    let policy = edit(|queue| queue.backends = vec!["here".into()]);
    let Verdict::Invalid(invalid) = assess(&row("cpu=64 memory=64G", "web", "main"), &policy)
    else {
        panic!("here has 8 vCPU")
    };
    check(
        &Doom::Invalid { invalid },
        Vec::new(),
        "invalid",
        "No machine can be made for this job: nothing here makes a machine of 64 vCPU, 64 GiB\n\
         \n\
         here has 8 vCPU and 32 GiB; you asked for 64 vCPU and 64 GiB. Ask for at most cpu: 8 and memory: 32G.",
    );
}

#[test]
fn attempts_that_came_to_nothing_are_listed_with_the_agents_last_words() {
    let first = failed(FailureClass::StartTimeout, "no agent connected within 5m", 300);
    let second =
        failed(FailureClass::EndedEarly, "the machine ended before its agent had the job", 61);
    let second = ended(
        second,
        "the agent exited with 1",
        "\u{1b}[31mfatal:\u{1b}[0m invalid\tconfig\r\nbye\u{7}\n",
        true,
    );
    let doom = Doom::AttemptsUsedUp {
        attempts: 2,
        last: failure(
            FailureClass::EndedEarly,
            "the machine ended before its agent had the job: the agent exited with 1",
        ),
    };
    check(
        &doom,
        vec![first, second],
        "attempts_used_up",
        "2 machines made for this job came to nothing, the last: the machine ended before its agent had the job: the agent exited with 1\n\
         \n\
         Read the agent's last lines; its configuration, hooks and image are the usual causes\n\
         \n\
         What was tried:\n\
         1. jitney-7-1 on here, after 5m: no agent connected within 5m\n\
         2. jitney-7-2 on here, after 1m1s: the machine ended before its agent had the job (it ran out of memory)\n\
         \n\
         The last lines of attempt 2's agent:\n\
         fatal: invalid config\n\
         bye",
    );
}

#[test]
fn one_attempt_and_one_that_nobody_knows_the_end_of() {
    let doom = Doom::AttemptsUsedUp { attempts: 1, last: failure(FailureClass::Lost, "") };
    check(
        &doom,
        vec![ended(Tried::default(), "killed by signal 9", "", false), Tried::default()],
        "attempts_used_up",
        "The one machine made for this job came to nothing: the machine vanished\n\
         \n\
         Run it again; the operator should see what removes machines\n\
         \n\
         What was tried:\n\
         1. jitney-7-1 on here, after 1m30s: killed by signal 9\n\
         2. jitney-7-2 on here: nothing is known of its end",
    );
}

#[test]
fn a_refusal_has_the_backends_own_words() {
    let rejected = |words| Doom::Rejected {
        backend: "vms".into(),
        failure: failure(FailureClass::Rejected, words),
    };
    check(
        &rejected("image ci-old does not exist."),
        Vec::new(),
        "rejected",
        "Backend vms does not make such a machine: image ci-old does not exist\n\
         \n\
         Correct what the backend refuses, in the step's agents or in Jitney's configuration, and run it again",
    );
    assert_eq!(rejected("").sentence(), "Backend vms does not make such a machine: refused");
}

#[test]
fn of_many_attempts_the_newest_are_told_and_of_a_long_log_the_end() {
    let log: String = (0..2000).map(|line| format!("line {line}\n")).collect();
    let mut attempts: Vec<Tried> =
        (1..=30).map(|_| failed(FailureClass::Lost, "it vanished", 1)).collect();
    attempts.push(ended(Tried::default(), "the agent exited with 1", &log, false));
    let doom =
        Doom::AttemptsUsedUp { attempts: 31, last: failure(FailureClass::Lost, "it vanished") };
    let text = detail(&doom, attempts);
    assert!(text.len() <= 4096 && text.len() > 4000, "{} bytes", text.len());
    assert!(!text.contains("\n21. ") && text.contains("\n22. ") && text.contains("\n31. "));
    assert!(text.ends_with("\nline 1999"));
    let (_, tail) = text.split_once("agent:\n").unwrap();
    assert!(tail.starts_with("line "), "whole lines: {}", &tail[..20]);
}

proptest! {
    #[test]
    fn it_always_fits_and_begins_with_what_happened(
        log in "(.|\n|\u{1b}|\u{1b}\\[3){0,60}",
        words in "(.|\n){0,60}",
        times in 1_usize..100,
        lines in 0_usize..40,
    ) {
        let (log, words) = (log.repeat(times), words.repeat(times));
        let attempts: Vec<Tried> = (1..=12)
            .map(|_| ended(failed(FailureClass::Rejected, &words, 5), &words, &log, false))
            .collect();
        let invalid = Invalid::NoOffer { shape: words.clone(), why: vec![words.clone(); lines] };
        for doom in [
            Doom::Invalid { invalid },
            Doom::AttemptsUsedUp { attempts: 12, last: failure(FailureClass::Rejected, &words) },
            Doom::Rejected { backend: "here".into(), failure: failure(FailureClass::Rejected, &words) },
        ] {
            let text = detail(&doom, attempts.clone());
            prop_assert!(text.len() <= 4096 && text.starts_with(&doom.sentence()));
            prop_assert!(doom.sentence().len() <= 255);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "only plain text");
        }
    }
}

#[test]
fn a_story_says_that_memory_was_wanting() {
    let told = |oom_killed| {
        let tried = ended(
            failed(FailureClass::EndedEarly, "", 0),
            "the agent exited with 0",
            "",
            oom_killed,
        );
        let end = tried.ended.expect("it has ended").into();
        let event =
            Event::MachineEnded { job: row("", "web", "main").id, attempt: 1, end, at: START };
        event.moment().expect("an end is told").what.to_string()
    };
    let plain = "attempt 1: machine ended: the agent exited with 0";
    assert_eq!(told(false), plain);
    assert_eq!(told(true), format!("{plain}; something was killed for want of memory"));
}
