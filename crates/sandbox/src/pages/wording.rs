//! How states, times and durations are said on the pages, and which colour a state has.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::{Build, BuildState, EventKind, Group, Job, State, StepState};

/// The classes that the stylesheet colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Busy,
    Waiting,
    Quiet,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Quiet => "quiet",
        }
    }
}

pub(super) fn of_build(build: &Build) -> (Tone, &'static str) {
    match build.state {
        BuildState::Scheduled => (Tone::Waiting, "scheduled"),
        BuildState::Running => (Tone::Busy, "running"),
        BuildState::Blocked => (Tone::Waiting, "blocked"),
        BuildState::Passed => (Tone::Good, "passed"),
        BuildState::Failed => (Tone::Bad, "failed"),
        BuildState::Canceling => (Tone::Busy, "canceling"),
        BuildState::Canceled => (Tone::Quiet, "canceled"),
    }
}

pub(super) fn of_step(state: StepState) -> (Tone, &'static str) {
    match state {
        StepState::Waiting => (Tone::Quiet, "waiting"),
        StepState::Blocked => (Tone::Waiting, "blocked"),
        StepState::Started => (Tone::Busy, "running"),
        StepState::Passed => (Tone::Good, "passed"),
        StepState::SoftFailed => (Tone::Waiting, "soft failed"),
        StepState::Failed => (Tone::Bad, "failed"),
        StepState::Canceled => (Tone::Quiet, "canceled"),
        StepState::Broken => (Tone::Quiet, "broken"),
        StepState::Omitted => (Tone::Quiet, "left out"),
    }
}

pub(super) fn name_of_group(group: &Group) -> &str {
    if group.label.is_empty() { group.key.as_deref().unwrap_or("Group") } else { &group.label }
}

/// A group is as far as its steps are, and as bad as the worst of them.
pub(super) fn of_group(steps: impl Iterator<Item = StepState>) -> (Tone, &'static str) {
    let mut states: Vec<StepState> = steps.collect();
    states.retain(|state| *state != StepState::Omitted);
    let has = |state| states.contains(&state);
    let open = [StepState::Started, StepState::Blocked, StepState::Waiting];
    let done = states.iter().any(|state| !open.contains(state));
    let worst = [
        StepState::Failed,
        StepState::Canceled,
        StepState::Broken,
        StepState::SoftFailed,
        StepState::Passed,
    ];
    if has(StepState::Started) || (done && has(StepState::Waiting)) {
        return (Tone::Busy, "under way");
    }
    let mut first = [StepState::Blocked, StepState::Waiting].into_iter().chain(worst);
    of_step(first.find(|state| has(*state)).unwrap_or(StepState::Omitted))
}

pub(super) fn of_job(job: &Job) -> (Tone, &'static str) {
    match job.state {
        State::Waiting => (Tone::Quiet, "waiting"),
        State::Limited => (Tone::Quiet, "limited"),
        State::Scheduled => (Tone::Waiting, "scheduled"),
        State::Reserved => (Tone::Waiting, "reserved"),
        State::Accepted => (Tone::Busy, "accepted"),
        State::Running => (Tone::Busy, "running"),
        State::Canceling => (Tone::Busy, "canceling"),
        State::TimingOut => (Tone::Busy, "timing out"),
        State::Canceled => (Tone::Quiet, "canceled"),
        State::TimedOut => (Tone::Bad, "timed out"),
        State::Expired => (Tone::Bad, "expired"),
        State::WaitingFailed | State::Broken => (Tone::Quiet, "broken"),
        State::Skipped => (Tone::Quiet, "skipped"),
        State::Finished if job.outcome.is_success() => (Tone::Good, "passed"),
        State::Finished if job.soft_failed => (Tone::Waiting, "soft failed"),
        State::Finished => (Tone::Bad, "failed"),
    }
}

/// `exit 3`, `exit -1, SIGTERM, agent_stop`; nothing for a job that has not ended or just passed.
pub(super) fn ending(job: &Job) -> Option<String> {
    let status = job.outcome.exit_status.filter(|status| *status != 0)?;
    let mut words = vec![format!("exit {status}")];
    words.extend(job.outcome.signal.clone());
    words.extend(job.outcome.signal_reason.clone());
    Some(words.join(", "))
}

/// What a job is called where it has no label.
pub(super) fn title(job: &Job) -> String {
    if !job.label.is_empty() {
        return job.label.clone();
    }
    let command = job.command.command.lines().find(|line| !line.trim().is_empty());
    command.or(job.step_key.as_deref()).unwrap_or("(plugins)").to_owned()
}

/// The job's values in its step's matrix: `os=linux`, or only the value where there is one
/// dimension without a name.
pub(super) fn matrix(job: &Job) -> Vec<String> {
    let values = job.command.matrix.iter().flatten();
    values
        .map(
            |(name, value)| if name.is_empty() { value.clone() } else { format!("{name}={value}") },
        )
        .collect()
}

pub(super) fn of_event(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Accepted => "accepted by an agent",
        EventKind::AcceptedExpired => "not started in time",
        EventKind::AgentDisconnected => "the agent disconnected",
        EventKind::AgentLost => "the agent was lost",
        EventKind::AgentStopped => "the agent was stopped",
        EventKind::BuildStepUploadCreated => "steps were uploaded",
        EventKind::Cancelation => "somebody wants it cancelled",
        EventKind::Canceled => "cancelled",
        EventKind::Expired => "expired",
        EventKind::Finished => "finished",
        EventKind::Limited => "held by its concurrency group",
        EventKind::LogSizeLimitExceeded => "the log is too long",
        EventKind::Reprioritized => "given another priority",
        EventKind::Reserved => "reserved by a stack",
        EventKind::ReservedExpired => "the reservation lapsed",
        EventKind::Retried => "retried",
        EventKind::Scheduled => "scheduled",
        EventKind::StackErrored => "failed by the stack",
        EventKind::StackFinished => "finished by the stack",
        EventKind::StackNotification => "notification",
        EventKind::Started => "started",
        EventKind::TimedOut => "timed out",
    }
}

/// `14:03:07.250`, in UTC.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

/// From one moment to the other: `240 ms`, `3.2 s`, `1 min 05 s`, `2 h 03 min`.
pub(super) fn span(from: Timestamp, to: Timestamp) -> String {
    said(Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

fn said(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match seconds {
        0 => format!("{millis} ms"),
        1..10 => format!("{seconds}.{} s", millis / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `12 bytes`, `3.4 KiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut tenths = bytes * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_summed_up() {
        use StepState::{Blocked, Canceled, Failed, Omitted, Passed, SoftFailed, Started, Waiting};
        let check = |states: &[StepState], expected: &str| {
            assert_eq!(of_group(states.iter().copied()).1, expected, "{states:?}");
        };
        check(&[Waiting, Waiting], "waiting");
        check(&[Passed, Waiting], "under way");
        check(&[Failed, Started], "under way");
        check(&[Passed, Blocked], "blocked");
        check(&[Passed, Omitted], "passed");
        check(&[Passed, SoftFailed], "soft failed");
        check(&[Canceled, Failed, Passed], "failed");
        check(&[Omitted], "left out");
    }

    #[test]
    fn durations() {
        let check = |millis: u64, expected: &str| {
            assert_eq!(said(Duration::from_millis(millis)), expected);
        };
        check(0, "0 ms");
        check(240, "240 ms");
        check(3_290, "3.2 s");
        check(59_900, "59 s");
        check(65_000, "1 min 05 s");
        check(7_380_000, "2 h 03 min");
    }

    #[test]
    fn a_clock_that_went_back_is_no_negative_duration() {
        let later = Timestamp::from_second(10).unwrap();
        assert_eq!(span(later, Timestamp::UNIX_EPOCH), "0 ms");
    }

    #[test]
    fn sizes() {
        for (bytes, expected) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
