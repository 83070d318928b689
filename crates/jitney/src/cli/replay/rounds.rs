//! What was told, seen and decided in a round, piece by piece: all of it, or what is about one job.

use planner::{
    BackendChange, Decided, Event, MapChange, Observation, Plan, QueueChange, Recorded, Timestamp,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::differences::raw;

/// A round of the log, and whether it is decided again as it was.
#[derive(Debug)]
pub(super) struct Round {
    /// Its place in the log, from 1 on.
    pub(super) number: u64,
    pub(super) same: bool,
    pub(super) told: Vec<Event>,
    pub(super) decided: Decided,
    pub(super) recorded: Recorded,
}

/// What somebody asked for of a round.
#[derive(Debug, Serialize)]
pub(super) struct Looked {
    pub(super) round: u64,
    pub(super) at: Timestamp,
    pub(super) dispatch: String,
    /// Whether it is decided again as it was.
    pub(super) same: bool,
    pub(super) pieces: Vec<Piece>,
    /// All that was seen and decided, where the round is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) whole: Option<Whole>,
}

#[derive(Debug, Serialize)]
pub(super) struct Whole {
    seen: Observation,
    plan: Plan,
}

/// One thing that was told, seen or decided.
#[derive(Debug, Serialize)]
pub(super) struct Piece {
    /// `told`, `seen` or `decided`.
    pub(super) when: &'static str,
    /// Of what is seen: what has changed since the round before.
    pub(super) what: &'static str,
    pub(super) value: Box<RawValue>,
}

impl Round {
    pub(super) fn whole(&self, seen: &Observation) -> Looked {
        let whole = Whole { seen: seen.clone(), plan: self.recorded.plan.clone() };
        Looked { whole: Some(whole), ..self.looked(self.pieces()) }
    }

    /// What names a job whose id begins so.
    pub(super) fn about(&self, begins: &str) -> Option<Looked> {
        // Ids stand alone between quotes; in a machine's name one stands behind the mark.
        let wanted = format!("\"{begins}");
        let mut pieces = self.pieces();
        pieces.retain(|piece| piece.value.get().contains(&wanted));
        for piece in pieces.iter_mut().filter(|piece| piece.what == "step") {
            leave_others_out(&mut piece.value, &wanted);
        }
        (!pieces.is_empty()).then(|| self.looked(pieces))
    }

    fn looked(&self, pieces: Vec<Piece>) -> Looked {
        Looked {
            round: self.number,
            at: self.recorded.now,
            dispatch: self.decided.seen.now.dispatch.to_string(),
            same: self.same,
            pieces,
            whole: None,
        }
    }

    fn pieces(&self) -> Vec<Piece> {
        let mut all = Vec::new();
        pieces(&mut all, "told", "event", &self.told);
        let seen = &self.decided.seen;
        for (key, queue) in &seen.queues.set {
            of_queue(&mut all, key.as_str(), queue);
        }
        pieces(&mut all, "seen", "queue gone", &seen.queues.gone);
        of_map(&mut all, "seen", ["answer", "answer gone"], &seen.answers);
        for (name, backend) in &seen.backends.set {
            of_backend(&mut all, name.as_str(), backend);
        }
        pieces(&mut all, "seen", "backend gone", &seen.backends.gone);
        of_map(&mut all, "seen", ["token", "token gone"], &seen.tokens);
        let plan = &self.decided.plan;
        pieces(&mut all, "decided", "fact", &plan.facts);
        pieces(&mut all, "decided", "step", &plan.steps);
        of_map(&mut all, "decided", ["hold", "hold gone"], &self.decided.holds.holds);
        pieces(&mut all, "decided", "alarm", &plan.alarms);
        pieces(&mut all, "decided", "wake_at", plan.wake_at.as_slice());
        all
    }
}

fn pieces<T: Serialize>(all: &mut Vec<Piece>, when: &'static str, what: &'static str, of: &[T]) {
    all.extend(of.iter().map(|one| piece(when, what, one)));
}

fn piece(when: &'static str, what: &'static str, of: &impl Serialize) -> Piece {
    Piece { when, what, value: raw(of) }
}

fn of_map<K: Serialize, V: Serialize>(
    all: &mut Vec<Piece>,
    when: &'static str,
    [set, gone]: [&'static str; 2],
    change: &MapChange<K, V>,
) {
    pieces(all, when, set, &change.set);
    pieces(all, when, gone, &change.gone);
}

fn of_queue(all: &mut Vec<Piece>, key: &str, change: &QueueChange) {
    all.push(piece("seen", "queue", &(key, &change.now)));
    pieces(all, "seen", "not listed any more", &change.left);
    for (place, candidate) in &change.came {
        all.push(piece("seen", "listed", &(key, place, candidate)));
    }
}

fn of_backend(all: &mut Vec<Piece>, name: &str, change: &BackendChange) {
    all.push(piece("seen", "backend", &(name, &change.now)));
    for (_, machine) in &change.machines.set {
        all.push(piece("seen", "machine", &(name, machine)));
    }
    for (job, attempt) in &change.machines.gone {
        all.push(piece("seen", "machine gone", &(name, job, attempt)));
    }
}

/// A call for a thousand jobs is told for one of them.
fn leave_others_out(step: &mut Box<RawValue>, wanted: &str) {
    let mut value: Value = serde_json::from_str(step.get()).expect("it is JSON of ours");
    let mut others = 0;
    for list in ["/action/jobs", "/intents"] {
        if let Some(all) = value.pointer_mut(list).and_then(Value::as_array_mut) {
            let before = all.len();
            all.retain(|one| one.to_string().contains(wanted));
            others += before - all.len();
        }
    }
    if others > 0 {
        *step = raw(&value);
    }
}
