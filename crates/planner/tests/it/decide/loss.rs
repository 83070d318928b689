//! Jobs whose machines were lost under them.

use std::time::Duration;

use planner::JobState::{Finished, Running};
use planner::{BuildKey, Event, LossStep, NotRetried, Notice, Record, RecordedEnd, RetryOutcome};

use super::check;
use super::job::job;
use super::scene::Scene;

fn record(end: RecordedEnd) -> Record {
    Record { end, successor: None, build: Some(build()) }
}

fn build() -> BuildKey {
    BuildKey { pipeline: "web".into(), number: 1 }
}

/// Two retries for a build; the machine of a running job has ended.
fn machine_ended() -> Scene {
    Scene::new().retry_lost(2).running(job(1), 1).after(1).ended_machine(1, 1)
}

/// And Buildkite has ended its job, a while ago; its machine is gone.
fn lost() -> Scene {
    lost_as(1)
}

fn lost_as(number: u128) -> Scene {
    Scene::new().retry_lost(2).and_lost(number)
}

impl Scene {
    /// So many lost jobs of a build are retried.
    fn retry_lost(&self, per_build: u32) -> Self {
        self.change(|scene| scene.policy.retry_lost = Some(per_build))
    }

    fn loses(&self, number: u128, loss: LossStep) -> Self {
        self.record(Event::Loss { job: Scene::id(number), loss, at: self.now })
    }

    fn told_replaced(&self, number: u128, by: u128) -> Self {
        let notice = Notice::Replaced { by: Scene::id(by) };
        self.record(Event::Told { job: Scene::id(number), notice, at: self.now })
    }

    fn rest_not_before(&self, seconds: u64) -> Self {
        self.change(|scene| {
            scene.seen.rest.not_before = scene.now.plus(Duration::from_secs(seconds))
        })
    }

    fn rest_denied(&self, words: &str) -> Self {
        self.change(|scene| scene.seen.rest.denied = Some(words.into()))
    }

    fn and_lost(self, number: u128) -> Self {
        self.running(job(number), 1)
            .after(1)
            .ended_machine(number, 1)
            .loses(number, LossStep::Noticed { attempt: 1 })
            .deleted(number, 1)
            .after(200)
            .said(number, Finished)
            .settled()
            .after(6)
            .listed_now()
    }
}

#[test]
fn a_machine_that_ended_under_its_job_is_a_loss_when_buildkite_says_so_after_its_end() {
    check(&machine_ended(), "ask 1");
    let missed = machine_ended().said(1, Running);
    check(&missed, "fact 1 Noticed { attempt: 1 }");
    check(&machine_ended().said(1, Finished).settled(), "delete 1/1");
}

#[test]
fn nothing_is_asked_where_nobody_wants_retries() {
    let scene = Scene::new().running(job(1), 1).after(1).ended_machine(1, 1).said(1, Running);
    check(&scene, "fact 1 Noticed { attempt: 1 }");
    let noticed = scene.loses(1, LossStep::Noticed { attempt: 1 });
    check(&noticed, "tell 1: lost, delete 1/1");
    let ended = noticed.deleted(1, 1).after(200).said(1, Finished).settled();
    check(&ended.after(6).listed_now(), "fact 1 forgotten");
}

#[test]
fn hunger_and_deadline_are_no_losses() {
    let running = Scene::new().retry_lost(2).running(job(1), 1).after(1);
    let hungry = running.ended_with(1, 1, |end| end.oom_killed = true).said(1, Running);
    check(&hungry, "tell 1: out of memory, delete 1/1");
    let late = running.ended_with(1, 1, |end| end.deadline_reached = true).said(1, Running);
    check(&late, "tell 1: deadline, delete 1/1");
}

#[test]
fn a_vanished_machine_is_a_loss_when_buildkite_still_counts_on_its_agent() {
    let gone = Scene::new().retry_lost(2).running(job(1), 1).after(1).deleted(1, 1).settled();
    check(&gone.after(6).said(1, Running), "fact 1 Noticed { attempt: 1 }");
}

#[test]
fn what_was_taken_away_is_a_loss_though_its_agent_gave_the_job_up_in_time() {
    let running = Scene::new().retry_lost(2).running(job(1), 1).after(1);
    let taken = running.ended_with(1, 1, |end| end.taken = true).said(1, Finished);
    check(&taken, "fact 1 ended, fact 1 Noticed { attempt: 1 }");
    let noticed = taken.settled().loses(1, LossStep::Noticed { attempt: 1 });
    check(&noticed, "tell 1: taken, delete 1/1");
    let long_ago = running.said(1, Finished).settled().after(60).listed_now();
    let long_ago = long_ago.ended_with(1, 1, |end| end.taken = true);
    let long_ago = long_ago.loses(1, LossStep::Noticed { attempt: 1 });
    check(&long_ago, "delete 1/1, record 1");
    let over = noticed.deleted(1, 1).after(6).listed_now().settled();
    check(&over, "record 1");
    let other = over.loses(1, LossStep::Read { record: record(RecordedEnd::Other) });
    check(&other, "fact 1 Left { why: NotLost }");
    let lost = over.loses(1, LossStep::Read { record: record(RecordedEnd::Lost) });
    check(&lost, "retry 1");
}

#[test]
fn its_record_is_read_after_the_pipelines_own_rules_had_their_time() {
    check(&lost(), "record 1");
    check(&lost().rest_not_before(3), "");
    let other = lost().loses(1, LossStep::Read { record: record(RecordedEnd::Other) });
    check(&other, "fact 1 Left { why: NotLost }");
    check(&other.settled(), "fact 1 forgotten");
    let none = lost().loses(1, LossStep::Read { record: record(RecordedEnd::None) });
    check(&none, "");
    check(&none.after(5).listed_now(), "record 1");
}

#[test]
fn a_lost_job_is_retried_and_its_developer_told_which_job_takes_its_place() {
    let known = lost().loses(1, LossStep::Read { record: record(RecordedEnd::Lost) });
    check(&known, "retry 1");
    let intended = known.loses(1, LossStep::RetryIntended { build: build() });
    check(&intended, "");
    let made = RetryOutcome::Made { by: Scene::id(9) };
    let made = intended.loses(1, LossStep::RetryEnded { outcome: made });
    check(&made.settled(), "tell 1: replaced by 9");
    check(&made.settled().told_replaced(1, 9), "fact 1 forgotten");
}

#[test]
fn a_retry_by_rule_is_linked_and_not_repeated() {
    let successor = Some(Scene::id(9));
    let record = Record { successor, ..record(RecordedEnd::Lost) };
    let known = lost().loses(1, LossStep::Read { record });
    check(&known.settled(), "tell 1: replaced by 9");
}

#[test]
fn without_an_answer_the_record_is_read_before_the_retry_is_repeated() {
    let unknown = lost()
        .loses(1, LossStep::Read { record: record(RecordedEnd::Lost) })
        .loses(1, LossStep::RetryIntended { build: build() })
        .after(1)
        .loses(1, LossStep::RetryEnded { outcome: RetryOutcome::Unknown });
    let later = unknown.after(3).listed_now();
    check(&later, "record 1");
    let again = later.loses(1, LossStep::Read { record: record(RecordedEnd::Lost) });
    check(&again, "retry 1");
    let successor = Some(Scene::id(9));
    let done = Record { successor, ..record(RecordedEnd::Lost) };
    let done = later.loses(1, LossStep::Read { record: done });
    check(&done.settled(), "tell 1: replaced by 9");
}

#[test]
fn no_more_of_a_build_are_retried_than_may_be() {
    let spent = [7, 8].into_iter().fold(lost(), |scene, other| {
        scene.loses(other, LossStep::RetryIntended { build: build() })
    });
    let lost = |scene: Scene, number| {
        scene.loses(number, LossStep::Read { record: record(RecordedEnd::Lost) })
    };
    check(&lost(spent.clone(), 1).settled(), "tell 1: not retried: Budget { per_build: 2 }");
    let elsewhere = BuildKey { number: 2, ..build() };
    let other = Record { build: Some(elsewhere), ..record(RecordedEnd::Lost) };
    check(&spent.loses(1, LossStep::Read { record: other }), "retry 1");
    let three = lost_as(1).and_lost(2).and_lost(3);
    let three = lost(lost(lost(three, 1), 2), 3);
    check(&three, "fact 3 Left { why: Budget { per_build: 2 } }, retry 1, retry 2");
}

#[test]
fn what_was_asked_for_again_counts_once() {
    let asked = |scene: Scene| scene.loses(1, LossStep::RetryIntended { build: build() });
    let again = asked(asked(lost())).loses(7, LossStep::RetryIntended { build: build() });
    let again = again
        .loses(1, LossStep::RetryEnded { outcome: RetryOutcome::Unknown })
        .after(60)
        .loses(1, LossStep::Read { record: record(RecordedEnd::Lost) })
        .listed_now();
    check(&again, "retry 1");
}

#[test]
fn what_buildkite_refuses_is_told() {
    let refused = RetryOutcome::Refused { words: "canceled build".into() };
    let refused = lost()
        .loses(1, LossStep::Read { record: record(RecordedEnd::Lost) })
        .loses(1, LossStep::RetryIntended { build: build() })
        .loses(1, LossStep::RetryEnded { outcome: refused })
        .after(1)
        .loses(1, LossStep::Read { record: record(RecordedEnd::Lost) });
    check(&refused.settled(), "tell 1: not retried: Refused { words: \"canceled build\" }");
}

#[test]
fn a_refused_token_is_an_alarm_and_nothing_is_tried_any_more() {
    let denied = lost().rest_denied("403");
    check(&denied, "fact 1 Left { why: Denied { words: \"403\" } }; alarm");
    let told = "tell 1: not retried: Denied { words: \"403\" }; alarm";
    check(&denied.settled(), told);
}

#[test]
fn nobody_waits_for_ever() {
    let left = NotRetried::NoAnswer;
    check(&lost().after(3600).listed_now(), &format!("fact 1 Left {{ why: {left:?} }}"));
}

#[test]
fn nothing_is_asked_for_that_cannot_be_written_down() {
    let known = lost().loses(1, LossStep::Read { record: record(RecordedEnd::Lost) });
    check(&known.journal_full(), "");
}
