//! `replay`: takes the decisions of an event log again, with this version of the program or under
//! another configuration, and says whether they are the same. It reaches nothing but the files.

mod differences;
mod rounds;
mod show;
mod summary;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use planner::{Decided, Event, LogLine, Player, Unready};

use super::arguments::Replay;
use super::{Answer, Context, Exit, Failure, configuration, explain};
use crate::event_log::reading::Reading;
use differences::Differing;
use rounds::{Looked, Round};
use summary::Summary;

/// What somebody wants to see of a log beside whether all is the same.
#[derive(Debug)]
enum View {
    Nothing,
    /// A round, by its place in the log; or all rounds of a dispatch, by its id's beginning.
    Number(u64),
    Dispatch(String),
    /// All about one job, by its id's beginning.
    Job(String),
}

/// One way through a log.
struct Pass {
    player: Player,
    /// Under another policy what follows the first difference never happened.
    ends_at_difference: bool,
    view: View,
    summary: Summary,
    /// What the ledger was told since the last round; kept where somebody wants to see it.
    told: Vec<Event>,
    looked: Vec<Looked>,
    first: Option<Differing>,
    differing: u64,
}

pub(super) fn replay(asked: &Replay, context: &Context<'_>) -> Result<Answer, Failure> {
    let (player, ends_at_difference) = match context.config {
        Some(file) => {
            let policy = configuration::load(file, context)?.policy(&configuration::host()?);
            (Player::under(Arc::new(policy)), true)
        }
        None => (Player::default(), false),
    };
    let pass = Pass {
        player,
        ends_at_difference,
        view: view(asked)?,
        summary: Summary::default(),
        told: Vec::new(),
        looked: Vec::new(),
        first: None,
        differing: 0,
    };
    let pass = pass.through(&asked.log)?;
    let good = match &pass.view {
        View::Nothing => pass.first.is_none(),
        View::Number(_) | View::Dispatch(_) => !pass.looked.is_empty(),
        View::Job(_) => !pass.looked.is_empty() && pass.several().is_empty(),
    };
    let exit = if good { Exit::Ok } else { Exit::NotGood };
    if asked.json {
        return Ok(Answer::json(&show::json(&pass), exit));
    }
    let under = context.config.map(|file| file.display().to_string());
    Ok(Answer { text: show::text(&pass, under.as_deref(), context.screen), exit })
}

fn view(asked: &Replay) -> Result<View, Failure> {
    if let Some(job) = &asked.job {
        return Ok(View::Job(explain::wanted(job)?));
    }
    let Some(round) = &asked.round else { return Ok(View::Nothing) };
    if let Ok(number) = round.parse() {
        return Ok(View::Number(number));
    }
    if round.len() >= explain::LEAST_PREFIX && round.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(View::Dispatch(round.to_ascii_lowercase()));
    }
    let words = format!(
        "{round:?} names no round: give its number, counted from 1, or a dispatch id as in the log"
    );
    Err(Failure::new(Exit::Refused, words))
}

impl Pass {
    fn through(mut self, log: &Path) -> Result<Self, Failure> {
        let refused =
            |words: String| Failure::new(Exit::Refused, format!("{}: {words}", log.display()));
        let file = File::open(log).map_err(|error| refused(error.to_string()))?;
        let mut reading =
            Reading::new(BufReader::new(file)).map_err(|error| refused(error.to_string()))?;
        while let Some(numbered) =
            reading.next_line().map_err(|error| refused(error.to_string()))?
        {
            let number = numbered.number;
            let taken = self.take(numbered.line);
            taken.map_err(|error| refused(format!("line {number}: {error}")))?;
            if self.ends_at_difference && self.first.is_some() {
                break;
            }
        }
        self.summary.breaks_off = reading.broken().to_vec();
        Ok(self)
    }

    fn take(&mut self, line: LogLine) -> Result<(), Unready> {
        self.summary.take(&line);
        match line {
            LogLine::Decided(decided) => self.round(decided),
            LogLine::Recorded(event) => {
                if !matches!(self.view, View::Nothing) {
                    self.told.push(event.clone());
                }
                self.player.take(LogLine::Recorded(event)).map(|_| ())
            }
            line @ (LogLine::Start(_)
            | LogLine::Policy(_)
            | LogLine::Ledger(_)
            | LogLine::End(_)) => self.player.take(line).map(|_| ()),
        }
    }

    fn round(&mut self, decided: Box<Decided>) -> Result<(), Unready> {
        let told = std::mem::take(&mut self.told);
        let kept = (!matches!(self.view, View::Nothing)).then(|| decided.clone());
        let Some(recorded) = self.player.take(LogLine::Decided(decided))? else { return Ok(()) };
        let again = self.player.decide(recorded.now);
        let number = self.summary.rounds;
        let same = again == recorded.plan;
        if !same {
            self.differing += 1;
            let dispatch = &self.player.seen.dispatch;
            self.first
                .get_or_insert_with(|| Differing::between(number, dispatch, &recorded, &again));
        }
        if let Some(decided) = kept {
            self.look(&Round { number, same, told, decided: *decided, recorded });
        }
        Ok(())
    }

    /// The jobs that are meant, where it is not one.
    fn several(&self) -> Vec<String> {
        let View::Job(begins) = &self.view else { return Vec::new() };
        let ids = self.summary.beginning(begins);
        if ids.len() > 1 { ids } else { Vec::new() }
    }

    fn look(&mut self, round: &Round) {
        let dispatch = &round.decided.seen.now.dispatch;
        match &self.view {
            View::Nothing => {}
            View::Number(number) if *number != round.number => {}
            View::Dispatch(begins) if !dispatch.starts_with(begins.as_str()) => {}
            View::Number(_) | View::Dispatch(_) => {
                self.looked.push(round.whole(&self.player.seen));
            }
            View::Job(begins) => self.looked.extend(round.about(begins)),
        }
    }
}
