//! The pure core: what jobs ask for, what may be made where, what was taken on, and the one
//! function that decides what to do next. Nothing here does I/O, reads a clock or an environment,
//! draws a random number or can fail; everything that could is outside and hands its facts in.

mod assess;
mod decide;
mod event;
mod event_log;
pub mod fleet;
mod ids;
mod job;
mod ledger;
mod loss;
mod observe;
mod offer;
mod origin;
mod pairs;
mod plan;
mod policy;
mod shape;
mod time;
mod words;
mod worst_cost;

pub use assess::{Explained, Refusal, Subject, assess, assess_with, explain_offers};
pub use decide::decide;
pub use event::{Adoption, CreateOutcome, Event, Failure, FailureClass, FinishOutcome, Shortage};
pub use event_log::{
    BackendChange, Decided, HoldsChange, LOG_VERSION, LogLine, LogStart, MapChange,
    ObservationChange, Player, QueueChange, Recorded, Recorder, Unready,
};
pub use ids::{BackendName, JobId, MachineName, QueueKey};
pub use job::{Candidate, Foreign, Invalid, JobRow, JobState, Request, Verdict};
pub use ledger::{
    Attempt, Delete, Doom, Entry, Failed, Finish, Lease, Ledger, Moment, Outcome, Told,
};
pub use loss::{
    BuildKey, Loss, LossStep, LostOn, NotRetried, RETRIES_REMEMBERED, Record, RecordedEnd, Retry,
    RetryOutcome,
};
pub use observe::{
    Answer, BackendSeen, BuildkiteSeen, EndSeen, MachineSeen, Observation, Phase, QueueSeen,
    RestSeen, TokenSeen,
};
pub use offer::{
    BOOT_DISK, Custom, FAMILIES, Families, Family, FamilyPrices, Machine, MachineKind, Nanos, Need,
    Nic, Offer, OwnTables, PRICES, Prices, RegionPrices, Share, Size, Spot, SsdCounts, SsdPrices,
    Stakes, Steps, Tables, Tariff, Types, Vm, Vms,
};
pub use origin::{LookFailure, Origin, OriginSeen};
pub use plan::{Action, Alarm, Bound, Create, CutShort, Hold, Notice, Plan, Reason, Scope, Step};
pub use policy::{
    Arch, BackendKind, BackendPolicy, Glob, Limits, Margins, Policy, QueuePolicy, Rule, Shapes,
    SpotPolicy, UnknownTags,
};
pub use shape::{
    Bytes, Cpu, LOCAL_SSD_GIB, Rate, Shape, SizeError, TagError, check_tag, parse_count, parse_cpu,
    parse_duration, parse_rate, parse_size, spell_duration, spell_size,
};
pub use time::Timestamp;
pub use worst_cost::{WorstCost, worst_cost};
