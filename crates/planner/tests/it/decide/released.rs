//! A job that Buildkite gave to an agent and took back, because the agent never took it up.

use planner::JobState::{Assigned, Reserved, Scheduled};

use super::check;
use super::job::job;
use super::scene::Scene;

impl Scene {
    /// Buildkite says that an agent has the job, and that is in the ledger.
    fn given_away(&self, number: u128) -> Self {
        self.said(number, Assigned).settled()
    }

    /// A second later Buildkite says that nobody has it.
    fn open_again(&self, number: u128) -> Self {
        self.after(1).said(number, Scheduled).listed_now()
    }
}

#[test]
fn what_is_taken_back_from_an_agent_is_reserved_again() {
    let scene = Scene::new().taken(job(1)).given_away(1);
    check(&scene, "");
    let released = scene.open_again(1);
    assert!(released.plan().starts_with("fact Released"), "{}", released.plan());
    check(&released.settled(), "reserve 1");
}

#[test]
fn a_word_from_before_the_agent_takes_nothing_back() {
    let before = Scene::new().taken(job(1)).after(1).listed_now();
    let scene = before.given_away(1).change(|scene| {
        let answer = scene.seen.answers.get_mut(&Scene::id(1)).expect("it was asked about");
        answer.state = Scheduled;
        answer.asked_at = before.now.minus(std::time::Duration::from_millis(1));
    });
    assert!(!scene.plan().contains("Released"), "{}", scene.plan());
}

#[test]
fn nothing_is_taken_back_while_a_machine_of_ours_is_there() {
    let scene = Scene::new().made(job(1), 1).given_away(1).open_again(1);
    assert!(!scene.plan().contains("Released"), "{}", scene.plan());
    let ended = scene.ended_machine(1, 1).said(1, Scheduled);
    assert!(!ended.plan().contains("Released"), "{}", ended.plan());
    // It counts against nobody that its agent did not get what another was said to have.
    assert!(ended.plan().starts_with("fact 1/1 failed, "), "{}", ended.plan());
    let gone = ended.settled().after(1).deleted(1, 1).settled();
    assert!(!gone.plan().contains("Released"), "a word from before its end: {}", gone.plan());
    assert!(gone.open_again(1).plan().starts_with("fact Released"));
}

#[test]
fn a_machine_that_may_have_been_made_is_asked_for_again_under_its_name() {
    let asked = Scene::new().taken(job(1)).reserved(1).token(1, 1).unanswered(1, 1);
    let scene = asked.given_away(1).open_again(1).settled();
    check(&scene, "reserve 1; 1 waits: cooling down, told");
    check(&scene.reserved(1).said(1, Reserved), "create 1/1 on here; 1 waits: cooling down, told");
}
