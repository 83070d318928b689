//! The event log: everything that decisions are made of, in order, and what was decided, so that
//! the same decisions can be made again. `Recorder` turns the rounds into lines, `Player` turns the
//! lines into rounds. How a line looks in a file, and the file, are no concern of this.
//!
//! What a round sees is written down as what has changed since the round before: with thousands of
//! jobs the whole of it, many times a second, would be far too much. So lines can only be read from
//! a `Start` on, and a line that is lost makes all up to the next `Start` worthless.

mod change;
mod player;
mod recorder;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::change::{BackendChange, HoldsChange, MapChange, ObservationChange, QueueChange};
pub use self::player::{Player, Recorded, Unready};
pub use self::recorder::Recorder;
use crate::{Event, Ledger, Plan, Policy, Timestamp};

/// The form of the lines. It grows when lines of an older form can no longer be read: where a field
/// is added without a default, or one is taken away or gets another meaning.
pub const LOG_VERSION: u32 = 1;

/// One line. A log is `Start`, `Policy`, `Ledger`, then `Recorded`, `Decided` and, after a reload,
/// `Policy`, in the order in which they happened; and the same again after the next `Start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLine {
    /// What was before counts no more.
    Start(LogStart),
    /// The operator's wishes from here on.
    Policy(Arc<Policy>),
    /// What was in our hands at the start.
    Ledger(Box<Ledger>),
    /// What the ledger was told since the line before.
    Recorded(Event),
    /// A round.
    Decided(Box<Decided>),
    /// The writer left in good order.
    End(Timestamp),
}

/// Who wrote what follows, and in which form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStart {
    /// The form of the lines: see [`LOG_VERSION`].
    pub version: u32,
    /// Which version of the program wrote them.
    pub program: Arc<str>,
    pub instance: Arc<str>,
    pub at: Timestamp,
    /// How many rounds before this were lost, because they came faster than they could be written.
    pub missed: u64,
}

/// A round: when it was, what was seen, and what was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    pub now: Timestamp,
    pub seen: ObservationChange,
    /// Without its holds.
    pub plan: Plan,
    #[serde(default, skip_serializing_if = "HoldsChange::is_empty")]
    pub holds: HoldsChange,
}
