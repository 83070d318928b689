//! What a log holds, in numbers.

use std::collections::{BTreeMap, BTreeSet};

use planner::{Action, Event, JobId, LogLine, Timestamp};
use serde::Serialize;

/// Everything about a log as far as it has been read.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    /// The versions of the program that wrote it.
    pub(super) programs: BTreeSet<String>,
    pub(super) name: String,
    pub(super) instances: BTreeSet<String>,
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    pub(super) rounds: u64,
    /// Rounds that were not written down, because the disk was too slow.
    pub(super) rounds_missed: u64,
    /// How often it begins anew: with a process, a file, or after a gap.
    pub(super) starts: u64,
    pub(super) reloads: u64,
    /// In our hands, or in the queues.
    pub(super) jobs: usize,
    /// Events by kind: what came of what was planned.
    pub(super) events: BTreeMap<String, u64>,
    /// Actions by kind, as planned: one is planned again until its effect is seen.
    pub(super) planned: BTreeMap<&'static str, u64>,
    /// The numbers of the lines at which it breaks off.
    pub(super) breaks_off: Vec<u64>,
    /// Whether the process that wrote its end left in good order.
    pub(super) stopped: bool,
    #[serde(skip)]
    ids: BTreeSet<JobId>,
    #[serde(skip)]
    has_policy: bool,
}

impl Summary {
    pub(super) fn take(&mut self, line: &LogLine) {
        self.stopped = false;
        match line {
            LogLine::Start(start) => {
                self.programs.insert(start.program.to_string());
                self.instances.insert(start.instance.to_string());
                self.starts += 1;
                self.rounds_missed += start.missed;
                self.from = self.from.or(Some(start.at));
                self.has_policy = false;
            }
            LogLine::Policy(policy) => {
                self.name = policy.name.to_string();
                self.reloads += u64::from(std::mem::replace(&mut self.has_policy, true));
            }
            LogLine::Ledger(ledger) => self.ids.extend(ledger.entries().map(|entry| entry.job)),
            LogLine::Recorded(event) => self.event(event),
            LogLine::Decided(decided) => {
                let listed = decided.seen.queues.set.iter().flat_map(|(_, queue)| &queue.came);
                self.ids.extend(listed.map(|(_, candidate)| candidate.row.id));
                self.rounds += 1;
                self.to = Some(decided.now);
                for step in &decided.plan.steps {
                    *self.planned.entry(kind(&step.action)).or_default() += 1;
                }
            }
            LogLine::End(at) => {
                self.to = Some(*at);
                self.stopped = true;
            }
        }
        self.jobs = self.ids.len();
    }

    /// The jobs whose ids begin so.
    pub(super) fn beginning(&self, with: &str) -> Vec<String> {
        let ids = self.ids.iter().map(ToString::to_string);
        ids.filter(|id| id.starts_with(with)).collect()
    }

    fn event(&mut self, event: &Event) {
        self.ids.insert(event.job());
        let value = serde_json::to_value(event).expect("events have a JSON form");
        let kind = value["event"].as_str().unwrap_or_default().to_owned();
        *self.events.entry(kind).or_default() += 1;
    }
}

const fn kind(action: &Action) -> &'static str {
    match action {
        Action::Ask { .. } => "ask",
        Action::Look { .. } => "look",
        Action::Reserve { .. } => "reserve",
        Action::Mint { .. } => "mint",
        Action::Create(_) => "create",
        Action::Delete { .. } => "delete",
        Action::Finish { .. } => "finish",
        Action::Notify { .. } => "notify",
    }
}
