//! The rules of `retry` and `soft_fail`: what they say, and whether an end matches. Counting the
//! tries is the engine's.

/// Retries that a rule without a `limit` allows.
pub(super) const DEFAULT_LIMIT: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// In order; the first rule that matches decides.
    pub automatic: Vec<AutomaticRetry>,
    /// Whether a person may retry the job.
    pub manual: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self { automatic: Vec::new(), manual: true }
    }
}

/// All of its fields must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutomaticRetry {
    /// `None`: any status but 0.
    pub exit_status: Option<ExitStatuses>,
    /// The signal's name with or without `SIG`; `*` is any signal. `None`: with or without one.
    pub signal: Option<String>,
    pub signal_reason: Option<SignalReason>,
    /// 0 forbids the retry.
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitStatuses {
    /// `"*"`: 1 to 255. A lost agent's −1 is not among them.
    Any,
    OneOf(Vec<i32>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalReason {
    /// `"*"`: any reason, but there must be one.
    Any,
    /// `none`: there must be none.
    Absent,
    Is(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SoftFail {
    #[default]
    Never,
    Always,
    On(ExitStatuses),
}

impl ExitStatuses {
    #[must_use]
    pub fn contains(&self, status: i32) -> bool {
        match self {
            Self::Any => (1..=255).contains(&status),
            Self::OneOf(statuses) => statuses.contains(&status),
        }
    }
}

impl SignalReason {
    fn matches(&self, reason: Option<&str>) -> bool {
        match self {
            Self::Any => reason.is_some(),
            Self::Absent => reason.is_none(),
            Self::Is(wanted) => reason == Some(wanted),
        }
    }
}

impl AutomaticRetry {
    fn matches(&self, status: i32, signal: Option<&str>, reason: Option<&str>) -> bool {
        let bare = |name: &str| name.trim_start_matches("SIG").to_ascii_uppercase();
        status != 0
            && self.exit_status.as_ref().is_none_or(|wanted| wanted.contains(status))
            && self.signal.as_ref().is_none_or(|wanted| {
                signal.is_some_and(|signal| wanted == "*" || bare(wanted) == bare(signal))
            })
            && self.signal_reason.as_ref().is_none_or(|wanted| wanted.matches(reason))
    }
}

impl Retry {
    /// How often a job that ended like this may be retried by itself; 0 where no rule matches.
    #[must_use]
    pub fn limit(&self, status: i32, signal: Option<&str>, reason: Option<&str>) -> u32 {
        let rule = self.automatic.iter().find(|rule| rule.matches(status, signal, reason));
        rule.map_or(0, |rule| rule.limit)
    }
}

impl SoftFail {
    /// Whether this failure leaves the build green.
    #[must_use]
    pub fn forgives(&self, status: i32) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::On(statuses) => statuses.contains(status),
        }
    }
}
