//! Proof that the simulation can fail: deciders that do one wrong thing each, on top of the real
//! one, and the promise that catches each of them.

use planner::{
    Action, BackendName, Create, Entry, Event, JobId, Ledger, Limits, MachineName, Observation,
    Outcome, Plan, Policy, Step, Timestamp, decide,
};

use super::faults::{Faults, Kind};
use super::invariants::Promise;
use super::run::{Setting, run};
use super::scene::Scene;
use super::world::Sim;

/// Runs a few seeds with these faults until the decider is caught, and says by which promise.
fn caught(
    kinds: &[Kind],
    mut wrong: impl FnMut(&Ledger, &Observation, &Policy, Timestamp) -> Plan,
) -> Promise {
    for seed in 0..12 {
        let setting = Setting::with(seed, Faults::only(kinds));
        if let Some(broken) = run(setting, false, &mut wrong).broken {
            return broken.promise;
        }
    }
    panic!("twelve seeds, and nobody noticed");
}

fn delete(entry: &Entry) -> Option<Step> {
    let attempt = entry.current()?;
    let action = Action::Delete {
        backend: attempt.backend.clone(),
        name: attempt.name.clone(),
        job: entry.job,
        attempt: attempt.number,
    };
    Some(Step { intents: Vec::new(), action })
}

fn is_about(step: &Step, job: JobId) -> bool {
    match &step.action {
        Action::Ask { jobs, .. } | Action::Reserve { jobs, .. } => jobs.contains(&job),
        Action::Mint { jobs, .. } => jobs.iter().any(|(id, _)| *id == job),
        Action::Create(create) => create.job == job,
        Action::Delete { job: id, .. }
        | Action::Finish { job: id, .. }
        | Action::Notify { job: id, .. } => *id == job,
    }
}

fn creates(plan: &mut Plan) -> impl Iterator<Item = &mut Create> {
    plan.steps.iter_mut().filter_map(|step| {
        if let Action::Create(create) = &mut step.action { Some(&mut **create) } else { None }
    })
}

#[test]
fn the_real_decider_is_not_caught() {
    for kinds in [&[][..], &[Kind::DiesBefore], &[Kind::LostAfter], &[Kind::JournalFull]] {
        for seed in 0..12 {
            let ran = run(Setting::with(seed, Faults::only(kinds)), false, &mut decide);
            assert!(ran.broken.is_none(), "seed {seed}, {kinds:?}: {}", ran.broken.unwrap());
        }
    }
}

#[test]
fn deleting_a_machine_whose_agent_runs_a_job_breaks_g5() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        let running = ledger.entries().filter(|e| e.acquired_at.is_some() && e.ended.is_none());
        plan.steps.extend(running.filter_map(delete));
        plan
    });
    assert_eq!(promise, Promise::G5);
}

#[test]
fn deleting_a_machine_without_a_word_breaks_g5() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        let made = |entry: &&Entry| {
            let outcome = entry.current().map(|attempt| &attempt.outcome);
            matches!(outcome, Some(Outcome::Made { .. })) && !seen.answers.contains_key(&entry.job)
        };
        plan.steps.extend(ledger.entries().filter(made).filter_map(delete));
        plan
    });
    assert_eq!(promise, Promise::G5);
}

#[test]
fn the_name_of_a_machine_that_ended_breaks_g2() {
    let promise = caught(&[Kind::DiesBefore], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        for create in creates(&mut plan) {
            create.name = MachineName::of(&policy.name, create.job, 1);
        }
        plan
    });
    assert_eq!(promise, Promise::G2);
}

#[test]
fn another_place_before_the_first_is_known_breaks_g2() {
    let mut turn = false;
    let promise = caught(&[Kind::LostAfter], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        for create in creates(&mut plan) {
            turn = !turn;
            create.offer.backend = BackendName::new(if turn { "pods" } else { "vms" });
        }
        plan
    });
    assert_eq!(promise, Promise::G2);
}

#[test]
fn a_machine_for_a_job_that_an_agent_has_breaks_g1() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        for entry in ledger.entries().filter(|entry| entry.acquired_at.is_some()) {
            plan.steps.extend(second_machine(entry));
        }
        plan
    });
    assert_eq!(promise, Promise::G1);
}

fn second_machine(entry: &Entry) -> Option<Step> {
    let (attempt, request) = (entry.current()?, entry.request.as_ref()?);
    let create = Create {
        job: entry.job,
        attempt: attempt.number,
        name: MachineName::of("jitney", entry.job, attempt.number + 7),
        queue: entry.queue.clone(),
        offer: attempt.offer.clone()?,
        shape: request.shape.clone(),
        tags: Vec::new(),
        deadline: request.shape.time,
    };
    Some(Step { intents: Vec::new(), action: Action::Create(Box::new(create)) })
}

#[test]
fn a_second_acquire_breaks_g1() {
    let mut decide = decide;
    let Setting { dice, faults, .. } = Setting::with(1, Faults::none(None));
    let mut sim = Sim::new(dice, Scene::small(), faults, false, &mut decide);
    sim.set_the_scene();
    // As if Buildkite had given each job to somebody before.
    for job in sim.buildkite.jobs.values_mut() {
        job.acquires = 1;
    }
    while sim.broken.is_none() && sim.step() {}
    assert_eq!(sim.broken.map(|broken| broken.promise), Some(Promise::G1));
}

#[test]
fn forgetting_limits_breaks_g8() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut policy = policy.clone();
        policy.limits = Limits::default();
        decide(ledger, seen, &policy, now)
    });
    assert_eq!(promise, Promise::G8);
}

#[test]
fn forgetting_what_a_backend_has_breaks_g8() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut policy = policy.clone();
        for backend in policy.backends.values_mut() {
            backend.capacity = Limits::default();
        }
        decide(ledger, seen, &policy, now)
    });
    assert_eq!(promise, Promise::G8);
}

#[test]
fn forgetting_a_job_breaks_g6() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        let unlucky: Vec<JobId> =
            plan.holds.keys().copied().filter(|job| job.0.as_bytes()[1] % 4 == 0).collect();
        for job in unlucky {
            plan.holds.remove(&job);
            plan.steps.retain(|step| !is_about(step, job));
        }
        plan
    });
    assert_eq!(promise, Promise::G6);
}

#[test]
fn never_deleting_breaks_g3() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        plan.steps.retain(|step| !matches!(step.action, Action::Delete { .. }));
        plan
    });
    assert_eq!(promise, Promise::G3);
}

#[test]
fn asking_without_a_pause_is_caught() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        for entry in ledger.entries() {
            let action = Action::Ask { queue: entry.queue.clone(), jobs: vec![entry.job] };
            plan.steps.push(Step { intents: Vec::new(), action });
        }
        plan
    });
    assert_eq!(promise, Promise::Bounded);
}

#[test]
fn a_round_that_wakes_itself_for_nothing_is_caught() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        plan.wake_at = Some(now);
        plan
    });
    assert_eq!(promise, Promise::Bounded);
}

#[test]
fn beginning_something_while_the_journal_is_full_is_caught() {
    let promise = caught(&[Kind::JournalFull], |ledger, seen, policy, now| {
        let seen = Observation { journal_full: false, ..seen.clone() };
        decide(ledger, &seen, policy, now)
    });
    assert_eq!(promise, Promise::Standstill);
}

#[test]
fn starting_in_a_paused_queue_is_caught() {
    let promise = caught(&[Kind::Pauses], |ledger, seen, policy, now| {
        let mut seen = seen.clone();
        for queue in seen.queues.values_mut() {
            queue.paused = false;
        }
        decide(ledger, &seen, policy, now)
    });
    assert_eq!(promise, Promise::Standstill);
}

#[test]
fn taking_jobs_while_all_is_drained_is_caught() {
    let promise = caught(&[Kind::Drained], |ledger, seen, policy, now| {
        let seen = Observation { draining: false, ..seen.clone() };
        decide(ledger, &seen, policy, now)
    });
    assert_eq!(promise, Promise::Standstill);
}

#[test]
fn creating_faster_than_the_backend_takes_it_is_caught() {
    let promise = caught(&[Kind::Capacity, Kind::Quota], |ledger, seen, policy, now| {
        let mut seen = seen.clone();
        for backend in seen.backends.values_mut() {
            backend.creates_left = None;
        }
        let mut plan = decide(ledger, &seen, policy, now);
        for create in creates(&mut plan) {
            create.offer.backend = BackendName::new("vms");
        }
        plan
    });
    assert_eq!(promise, Promise::Bounded);
}

#[test]
fn creating_on_a_backend_that_was_never_listed_is_caught() {
    let promise = caught(&[Kind::LostJournal, Kind::CrashLoop], |ledger, seen, policy, now| {
        let mut blind = seen.clone();
        for name in policy.backends.keys() {
            let backend = blind.backends.entry(name.clone()).or_default();
            backend.listed_at = backend.listed_at.or(Some(now));
        }
        decide(ledger, &blind, policy, now)
    });
    assert!(matches!(promise, Promise::Standstill | Promise::G4 | Promise::G8), "{promise:?}");
}

#[test]
fn giving_a_machine_up_on_an_old_word_breaks_g5() {
    let promise = caught(&[Kind::NeverStarts], |ledger, seen, policy, now| {
        let mut hasty = policy.clone();
        for queue in hasty.queues.values_mut() {
            queue.start_timeout /= 2;
        }
        decide(ledger, seen, &hasty, now)
    });
    assert_eq!(promise, Promise::G5);
}

#[test]
fn a_job_that_never_comes_to_its_end_is_caught() {
    let promise = caught(&[], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        plan.steps.retain(|step| !matches!(step.action, Action::Finish { .. }));
        plan
    });
    assert_eq!(promise, Promise::End);
}

#[test]
fn an_intent_that_is_not_written_down_is_caught_by_a_crash() {
    let promise = caught(&[Kind::Crash, Kind::CrashLoop], |ledger, seen, policy, now| {
        let mut plan = decide(ledger, seen, policy, now);
        for step in &mut plan.steps {
            step.intents.retain(|event| !matches!(event, Event::CreateIntended { .. }));
        }
        plan
    });
    let caught = [Promise::G2, Promise::G4, Promise::G8, Promise::Bounded];
    assert!(caught.contains(&promise), "{promise:?}");
}
