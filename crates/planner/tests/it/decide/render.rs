//! A plan as one line of text. Only what the examples speak of is named.
#![expect(clippy::wildcard_enum_match_arm, reason = "what no example speaks of is rendered alike")]

use planner::{Action, CutShort, Event, JobId, Notice, Plan, Reason, Scope};

pub(super) fn render(plan: &Plan) -> String {
    let facts = plan.facts.iter().map(fact);
    let told: Vec<JobId> = plan.steps.iter().filter_map(|step| told(&step.action)).collect();
    let calls = plan.steps.iter().filter_map(|step| call(&step.action));
    let mut text = facts.chain(calls).collect::<Vec<_>>().join(", ");
    for (job, hold) in &plan.holds {
        let Some(mut wait) = reason(&hold.reason) else { continue };
        if let Some(ahead) = hold.ahead {
            wait += &format!(", {ahead} ahead");
        }
        if told.contains(job) {
            wait += ", told";
        }
        text += &format!("; {} waits: {wait}", short(*job));
    }
    if !plan.alarms.is_empty() {
        text += "; alarm";
    }
    text
}

fn short(job: JobId) -> String {
    job.0.as_u128().to_string()
}

fn fact(event: &Event) -> String {
    let job = short(event.job());
    match event {
        Event::Adopted(adoption) => format!("fact {job}/{} adopted", adoption.attempt),
        Event::Forgotten { .. } => format!("fact {job} forgotten"),
        Event::JobEnded { .. } => format!("fact {job} ended"),
        Event::AttemptFailed { attempt, charged, .. } => {
            let charged = if *charged { " charged" } else { "" };
            format!("fact {job}/{attempt} failed{charged}")
        }
        Event::Loss { loss, .. } => format!("fact {job} {loss:?}"),
        other => format!("fact {other:?}"),
    }
}

fn told(action: &Action) -> Option<JobId> {
    match action {
        Action::Notify { job, .. } => Some(*job),
        _ => None,
    }
}

fn call(action: &Action) -> Option<String> {
    let list = |jobs: &[JobId]| jobs.iter().map(|job| short(*job)).collect::<Vec<_>>().join(" ");
    Some(match action {
        Action::Ask { jobs, .. } => format!("ask {}", list(jobs)),
        Action::Look { job, .. } => format!("look {}", short(*job)),
        Action::Reserve { jobs, .. } => format!("reserve {}", list(jobs)),
        Action::Mint { jobs, .. } => {
            let jobs = jobs.iter().map(|(job, attempt)| format!("{}/{attempt}", short(*job)));
            format!("mint {}", jobs.collect::<Vec<_>>().join(" "))
        }
        Action::Create(create) => {
            format!("create {}/{} on {}", short(create.job), create.attempt, create.offer.backend)
        }
        Action::Delete { job, attempt, .. } => format!("delete {}/{attempt}", short(*job)),
        Action::Finish { job, .. } => format!("finish {}", short(*job)),
        Action::Notify { job, notice: Notice::CutShort { why, .. }, .. } => {
            format!("tell {}: {}", short(*job), cut_short(why))
        }
        Action::Notify { job, notice: Notice::Assumed { .. }, .. } => {
            format!("tell {}: assumed", short(*job))
        }
        Action::ReadRecord { job } => format!("record {}", short(*job)),
        Action::Retry { job } => format!("retry {}", short(*job)),
        Action::Notify { job, notice: Notice::Replaced { by }, .. } => {
            format!("tell {}: replaced by {}", short(*job), short(*by))
        }
        Action::Notify { job, notice: Notice::NotRetried { why }, .. } => {
            format!("tell {}: not retried: {why:?}", short(*job))
        }
        Action::Notify { job, notice: Notice::Made { after: Some(before), .. }, .. } => {
            format!("tell {}: made, before: {before}", short(*job))
        }
        Action::Notify { .. } => return None,
    })
}

const fn cut_short(why: &CutShort) -> &'static str {
    match why {
        CutShort::OutOfMemory { .. } => "out of memory",
        CutShort::Deadline => "deadline",
        CutShort::Lost { .. } => "lost",
        CutShort::Taken { .. } => "taken",
        CutShort::Silent { .. } => "silent",
    }
}

/// Waits that say only that a call is under way are left out.
fn reason(reason: &Reason) -> Option<String> {
    Some(match reason {
        Reason::Limit { scope, limit } => match scope {
            Scope::All => format!("limit all {}", format!("{limit:?}").to_lowercase()),
            other => format!("limit {other:?} {limit:?}"),
        },
        Reason::QueuePaused => "queue paused".into(),
        Reason::Draining => "draining".into(),
        Reason::JournalFull => "journal full".into(),
        Reason::BuildkiteUnreachable => "buildkite unreachable".into(),
        Reason::BackendUnreachable { backend, .. } => format!("{backend} unreachable"),
        Reason::CoolingDown { .. } => "cooling down".into(),
        Reason::BackingOff { .. } => "backing off".into(),
        Reason::TwoInstallations { .. } => "two installations".into(),
        Reason::Starting { .. } => "starting".into(),
        Reason::Removing { .. } => "removing".into(),
        Reason::Foreign { tag, nearest: None } => format!("foreign {tag}"),
        Reason::Foreign { tag, nearest: Some(near) } => format!("foreign {tag} ({near}?)"),
        Reason::LookingUp { words: Some(words), .. } => format!("look failed: {words}"),
        Reason::LookingUp { words: None, .. } => "looking up".into(),
        Reason::CreateRate { .. }
        | Reason::Reserving
        | Reason::Creating { .. }
        | Reason::AgentConnected { .. }
        | Reason::LeaseLapsing
        | Reason::Failing => return None,
    })
}
