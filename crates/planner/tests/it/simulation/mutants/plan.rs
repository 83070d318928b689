//! Planted bugs in what the core decides: steps that are missing, that come too early or twice, and
//! intents that are not written down.

use planner::{
    Action, BackendName, BuildKey, Create, Entry, Event, JobId, LossStep, MachineName, Notice,
    Outcome, Plan, Step,
};

use super::super::faults::Kind;
use super::super::invariants::Promise;
use super::{Corrupts, Given, Mutant};

pub(super) const ALL: &[Mutant] = &[
    Mutant {
        name: "the sweep does not wait for the answer",
        rule: Some(3),
        corrupts: Corrupts::Plan(sweep_before_the_answer),
        faults: &[],
        by: &[Promise::G5],
    },
    Mutant {
        name: "a machine is deleted while its agent runs the job",
        rule: None,
        corrupts: Corrupts::Plan(delete_running),
        faults: &[],
        by: &[Promise::G5],
    },
    Mutant {
        name: "an adopted machine is deleted",
        rule: Some(4),
        corrupts: Corrupts::Plan(delete_adopted),
        faults: &[Kind::LostJournal, Kind::CrashLoop],
        by: &[Promise::G5],
    },
    Mutant {
        name: "strays are not adopted",
        rule: Some(4),
        corrupts: Corrupts::Plan(|plan, _| {
            plan.facts.retain(|fact| !matches!(fact, Event::Adopted(_)));
        }),
        faults: &[Kind::LostJournal, Kind::CrashLoop],
        by: &[Promise::G2, Promise::G3, Promise::G4, Promise::G8],
    },
    Mutant {
        name: "nothing is deleted",
        rule: None,
        corrupts: Corrupts::Plan(|plan, _| {
            plan.steps.retain(|step| !matches!(step.action, Action::Delete { .. }));
        }),
        faults: &[],
        by: &[Promise::G3],
    },
    Mutant {
        name: "a name is used again",
        rule: Some(9),
        corrupts: Corrupts::Plan(name_again),
        faults: &[Kind::DiesBefore],
        by: &[Promise::G2],
    },
    Mutant {
        name: "after a lost journal, numbers begin at one again",
        rule: Some(9),
        corrupts: Corrupts::Plan(number_again),
        faults: &[Kind::LostJournal, Kind::CrashLoop, Kind::DiesBefore],
        by: &[Promise::G2],
    },
    Mutant {
        name: "another place is tried before the first is known",
        rule: Some(2),
        corrupts: Corrupts::Plan(elsewhere),
        faults: &[Kind::LostAfter],
        by: &[Promise::G2],
    },
    Mutant {
        name: "a second machine for a job that an agent has",
        rule: None,
        corrupts: Corrupts::Plan(|plan, given| {
            let acquired = given.ledger.entries().filter(|entry| entry.acquired_at.is_some());
            plan.steps.extend(acquired.filter_map(second_machine));
        }),
        faults: &[],
        by: &[Promise::G1],
    },
    Mutant {
        name: "a create is not written down before it is sent",
        rule: Some(5),
        corrupts: Corrupts::Plan(|plan, _| {
            unwritten(plan, |event| matches!(event, Event::CreateIntended { .. }));
        }),
        faults: &[Kind::Crash, Kind::CrashLoop],
        by: &[Promise::G2, Promise::G8, Promise::Bounded],
    },
    Mutant {
        name: "a finish is not written down before it is sent",
        rule: Some(5),
        corrupts: Corrupts::Plan(|plan, _| {
            unwritten(plan, |event| matches!(event, Event::FinishIntended { .. }));
        }),
        faults: &[],
        by: &[Promise::Bounded],
    },
    Mutant {
        name: "a job is failed twice",
        rule: None,
        corrupts: Corrupts::Plan(finish_twice),
        faults: &[],
        by: &[Promise::Bounded],
    },
    Mutant {
        name: "a job that was not lost is retried",
        rule: None,
        corrupts: Corrupts::Plan(retry_what_ended),
        faults: &[],
        by: &[Promise::Retries],
    },
    Mutant {
        name: "a job that cannot work is never failed",
        rule: None,
        corrupts: Corrupts::Plan(|plan, _| {
            plan.steps.retain(|step| !matches!(step.action, Action::Finish { .. }));
        }),
        faults: &[],
        by: &[Promise::End],
    },
    Mutant {
        name: "leases are not renewed",
        rule: None,
        corrupts: Corrupts::Plan(no_renewal),
        faults: &[Kind::DiesBefore, Kind::NeverStarts],
        by: &[Promise::End, Promise::G6],
    },
    Mutant {
        name: "what an agent was given in vain counts as its own for ever",
        rule: None,
        corrupts: Corrupts::Plan(|plan, _| {
            plan.facts.retain(|fact| !matches!(fact, Event::Released { .. }));
        }),
        faults: &[Kind::TakenBack],
        by: &[Promise::G6],
    },
    Mutant {
        name: "a job is forgotten",
        rule: None,
        corrupts: Corrupts::Plan(forget_some),
        faults: &[],
        by: &[Promise::G6],
    },
    Mutant {
        name: "a machine has no deadline",
        rule: None,
        corrupts: Corrupts::Plan(|plan, _| {
            creates(plan).for_each(|create| create.deadline *= 10);
        }),
        faults: &[],
        by: &[Promise::G3],
    },
    Mutant {
        name: "Buildkite is asked without a pause",
        rule: None,
        corrupts: Corrupts::Plan(ask_always),
        faults: &[],
        by: &[Promise::Bounded],
    },
    Mutant {
        name: "a round wakes itself for nothing",
        rule: None,
        corrupts: Corrupts::Plan(|plan, given| plan.wake_at = Some(given.now)),
        faults: &[],
        by: &[Promise::Bounded],
    },
    Mutant {
        name: "the developer is told again and again",
        rule: None,
        corrupts: Corrupts::Plan(tell_always),
        faults: &[],
        by: &[Promise::G7],
    },
];

fn creates(plan: &mut Plan) -> impl Iterator<Item = &mut Create> {
    plan.steps.iter_mut().filter_map(|step| {
        if let Action::Create(create) = &mut step.action { Some(&mut **create) } else { None }
    })
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

fn sweep_before_the_answer(plan: &mut Plan, given: &Given) {
    let made = |entry: &&Entry| {
        let outcome = entry.current().map(|attempt| &attempt.outcome);
        let answered = given.seen.answers.contains_key(&entry.job);
        matches!(outcome, Some(Outcome::Made { .. })) && !answered
    };
    plan.steps.extend(given.ledger.entries().filter(made).filter_map(delete));
}

fn retry_what_ended(plan: &mut Plan, given: &Given) {
    let ended = given.ledger.entries().filter(|entry| entry.ended.is_some());
    plan.steps.extend(ended.filter_map(|entry| {
        let row = entry.row.as_ref()?;
        let build = BuildKey { pipeline: row.pipeline.clone(), number: row.build };
        let (job, loss, at) = (entry.job, LossStep::RetryIntended { build }, given.now);
        Some(Step { intents: vec![Event::Loss { job, loss, at }], action: Action::Retry { job } })
    }));
}

fn delete_running(plan: &mut Plan, given: &Given) {
    let running = |entry: &&Entry| entry.acquired_at.is_some() && entry.ended.is_none();
    plan.steps.extend(given.ledger.entries().filter(running).filter_map(delete));
}

fn delete_adopted(plan: &mut Plan, _: &Given) {
    for fact in &plan.facts {
        if let Event::Adopted(adoption) = fact {
            let action = Action::Delete {
                backend: adoption.backend.clone(),
                name: adoption.name.clone(),
                job: adoption.job,
                attempt: adoption.attempt,
            };
            plan.steps.push(Step { intents: Vec::new(), action });
        }
    }
}

fn name_again(plan: &mut Plan, given: &Given) {
    for create in creates(plan) {
        create.name = MachineName::of(&given.policy.name, create.job, 1);
    }
}

/// As if what the labels say did not count.
fn number_again(plan: &mut Plan, given: &Given) {
    for create in creates(plan) {
        let attempts = given.ledger.entry(create.job).map_or(&[][..], |entry| &entry.attempts);
        let adopted = attempts.iter().filter(|attempt| attempt.offer.is_none()).count();
        let adopted = u32::try_from(adopted).expect("few machines");
        create.name = MachineName::of(&given.policy.name, create.job, create.attempt - adopted);
    }
}

fn elsewhere(plan: &mut Plan, given: &Given) {
    for create in creates(plan) {
        let attempts = given.ledger.entry(create.job).map_or(&[][..], |entry| &entry.attempts);
        let again = attempts.iter().any(|attempt| attempt.number == create.attempt);
        if again {
            let other = if create.offer.backend.as_str() == "pods" { "vms" } else { "pods" };
            create.offer.backend = BackendName::new(other);
        }
    }
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

fn unwritten(plan: &mut Plan, which: impl Fn(&Event) -> bool) {
    for step in &mut plan.steps {
        step.intents.retain(|event| !which(event));
    }
}

fn finish_twice(plan: &mut Plan, given: &Given) {
    let doomed = given.ledger.entries().filter(|entry| entry.doom.is_some());
    for entry in doomed.filter(|entry| entry.lease.is_some()) {
        let (queue, job) = (entry.queue.clone(), entry.job);
        let action = Action::Finish { queue, job, detail: "it failed".into() };
        plan.steps
            .push(Step { intents: vec![Event::FinishIntended { job, at: given.now }], action });
    }
}

fn no_renewal(plan: &mut Plan, given: &Given) {
    for step in &mut plan.steps {
        if let Action::Reserve { jobs, .. } = &mut step.action {
            jobs.retain(|job| given.ledger.entry(*job).is_none_or(|entry| entry.lease.is_none()));
        }
    }
}

fn is_about(step: &Step, job: JobId) -> bool {
    match &step.action {
        Action::Ask { jobs, .. } | Action::Reserve { jobs, .. } => jobs.contains(&job),
        Action::Mint { jobs, .. } => jobs.iter().any(|(id, _)| *id == job),
        Action::Create(create) => create.job == job,
        Action::Delete { job: id, .. }
        | Action::Look { job: id, .. }
        | Action::ReadRecord { job: id }
        | Action::Retry { job: id }
        | Action::Finish { job: id, .. }
        | Action::Notify { job: id, .. } => *id == job,
    }
}

fn forget_some(plan: &mut Plan, _: &Given) {
    let unlucky = |job: &JobId| job.0.as_bytes()[1].is_multiple_of(4);
    let unlucky: Vec<JobId> = plan.holds.keys().copied().filter(unlucky).collect();
    for job in unlucky {
        plan.holds.remove(&job);
        plan.steps.retain(|step| !is_about(step, job));
    }
}

fn ask_always(plan: &mut Plan, given: &Given) {
    for entry in given.ledger.entries() {
        let action = Action::Ask { queue: entry.queue.clone(), jobs: vec![entry.job] };
        plan.steps.push(Step { intents: Vec::new(), action });
    }
}

fn tell_always(plan: &mut Plan, given: &Given) {
    for (job, hold) in &plan.holds {
        let notice = Notice::Waiting { reason: hold.reason.clone(), ahead: hold.ahead };
        let (job, at) = (*job, given.now);
        let intents = vec![Event::Told { job, notice: notice.clone(), at }];
        let action = Action::Notify { queue: hold.queue.clone(), job, notice, at };
        plan.steps.push(Step { intents, action });
    }
}
