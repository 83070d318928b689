//! `plan`: what would be made where, for some tags or for each command step of a pipeline; and why
//! not, and what would fit. The planner says it; nothing is asked of any network.

mod manifest;
mod show;
mod vms;

use std::path::Path;

use planner::{Explained, Foreign, Origin, OriginSeen, Policy, QueueKey, Refusal, Subject};
use sandbox::pipeline;

use super::arguments::Plan;
use super::{Answer, Context, Exit, Failure, configuration};
use crate::config::Config;

/// Where Buildkite puts a job that names no queue.
const DEFAULT_QUEUE: &str = "default";

/// One set of tags, and all that is to be said about it.
#[derive(Debug)]
struct Case {
    /// Of a pipeline's step; empty for tags of the command line.
    label: String,
    jobs: u32,
    queue: QueueKey,
    tags: Vec<String>,
    explained: Explained,
}

/// What becomes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Made,
    /// Somebody else's, as far as one can tell.
    Foreign,
    /// Ours, or meant to be, and nothing can be made.
    Wrong,
}

impl Case {
    fn new((label, jobs): (String, u32), tags: Vec<String>, asked: &Plan, policy: &Policy) -> Self {
        let named = tags.iter().find_map(|tag| tag.strip_prefix("queue="));
        // Tags that somebody types are for us; a step without a queue goes where Buildkite puts it.
        let only = policy.queues.keys().next().filter(|_| policy.queues.len() == 1);
        let queue = match (named, only) {
            (Some(named), _) => QueueKey::new(named),
            (None, Some(only)) if asked.pipeline.is_none() => only.clone(),
            (None, _) => QueueKey::new(DEFAULT_QUEUE),
        };
        let origin = origin(asked);
        let (pipeline, branch) = (&*asked.slug, &*asked.branch);
        let subject = Subject { queue: &queue, pipeline, branch, origin: &origin };
        let explained = planner::explain_offers(&tags, &subject, policy);
        Self { label, jobs, queue, tags, explained }
    }

    fn fate(&self) -> Fate {
        match &self.explained.shape {
            Ok(_) if self.explained.offers.is_empty() => Fate::Wrong,
            Ok(_) => Fate::Made,
            Err(Refusal::Invalid(_)) => Fate::Wrong,
            // A near miss is most often a slip.
            Err(Refusal::Foreign(Foreign::UnknownTag { nearest: Some(_), .. })) => Fate::Wrong,
            Err(Refusal::Foreign(
                Foreign::UnknownTag { nearest: None, .. }
                | Foreign::OtherValue { .. }
                | Foreign::OtherQueue { .. },
            )) => Fate::Foreign,
        }
    }
}

pub(super) fn plan(asked: &Plan, context: &Context<'_>) -> Result<Answer, Failure> {
    let (_, config) = configuration::config(context)?;
    let policy = config.policy(&configuration::host()?);
    let cases = match &asked.pipeline {
        Some(file) => of_pipeline(file, asked, &policy)?,
        None => {
            let tags = asked.tags.iter().map(|tag| checked(tag)).collect::<Result<_, _>>()?;
            vec![Case::new((String::new(), 1), tags, asked, &policy)]
        }
    };
    let good = |case: &Case| match case.fate() {
        Fate::Made => true,
        // Of a pipeline some steps may well be for others; tags that somebody types are for us.
        Fate::Foreign => asked.pipeline.is_some(),
        Fate::Wrong => false,
    };
    let exit = if cases.iter().all(good) { Exit::Ok } else { Exit::NotGood };
    if asked.manifest {
        let text = manifest::of(&cases[0], &config, &policy)?;
        return Ok(Answer { text, exit });
    }
    let vms = vms::Vms::of(&config);
    if asked.json {
        return Ok(Answer::json(&show::json(&cases, &vms), exit));
    }
    let currency = &config.prices.currency;
    let text = match asked.pipeline {
        Some(_) => show::steps(&cases, currency, context.screen),
        None => {
            let text = show::tags(&cases[0], currency, &vms, context.screen);
            text + &which_queue(&cases[0], &config)
        }
    };
    Ok(Answer { text, exit })
}

/// What the command line says of the build. A fork's build is of a pull request, and what is of
/// none comes from no fork.
fn origin(asked: &Plan) -> OriginSeen {
    let Plan { pull_request, fork, author, .. } = asked;
    if pull_request.is_none() && fork.is_none() && author.is_none() {
        return OriginSeen::default();
    }
    OriginSeen::Known(Origin {
        pull_request: pull_request.or(fork.filter(|fork| *fork)),
        fork: fork.or(pull_request.filter(|pull_request| !pull_request)),
        authors: author.iter().map(|author| author.as_str().into()).collect(),
    })
}

/// Who names no queue most often forgot it, and who names another one often mistyped it, or means
/// a fleet's.
fn which_queue(case: &Case, config: &Config) -> String {
    if config.queues.contains_key(&case.queue) {
        return String::new();
    }
    let named = case.tags.iter().any(|tag| tag.starts_with("queue="));
    let mut fleets = config.fleets.iter();
    if let Some((fleet, _)) = fleets.find(|(_, fleet)| fleet.queue == case.queue.as_str()) {
        return format!(
            "Its jobs get no machines of their own: the fleet {fleet} serves it with agents that are all \
             alike, whatever the tags say.\n"
        );
    }
    let ours: Vec<String> = config.queues.keys().map(|key| format!("queue={key}")).collect();
    let ours = ours.join(", ");
    match (ours.as_str(), named) {
        ("", _) => "The configuration has no queues, only fleets.\n".to_owned(),
        (_, true) => format!("The queues of the configuration are: {ours}\n"),
        (_, false) => format!("The tags name no queue. Add one of ours: {ours}\n"),
    }
}

fn checked(tag: &str) -> Result<String, Failure> {
    match tag.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(tag.to_owned()),
        Some(_) | None => {
            let words = format!("{tag:?} is no tag: write KEY=VALUE, such as cpu=16");
            Err(Failure::new(Exit::Refused, words))
        }
    }
}

fn of_pipeline(file: &Path, asked: &Plan, policy: &Policy) -> Result<Vec<Case>, Failure> {
    let shown = file.display();
    let refuse = |words: String| Failure::new(Exit::Refused, words);
    let text = std::fs::read_to_string(file)
        .map_err(|error| refuse(format!("failed to read {shown}: {error}")))?;
    let steps =
        pipeline::command_steps(&text).map_err(|error| refuse(format!("{shown}: {error}")))?;
    if steps.is_empty() {
        return Err(refuse(format!("{shown} has no command steps, so no machine is made for it")));
    }
    let case = |step: pipeline::CommandOutline| {
        Case::new((step.label, step.parallelism), step.agents, asked, policy)
    };
    Ok(steps.into_iter().map(case).collect())
}
