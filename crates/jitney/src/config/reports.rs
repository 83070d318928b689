//! What is reckoned and reported: prices, metering, notifications, logs, traces.

use std::path::PathBuf;
use std::time::Duration;

use super::reading::Section;
use super::values::{boolean, currency, duration_above_zero, one_of, path, permille, url};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    pub currency: String,
    /// None: the list that ships with Jitney.
    pub file: Option<PathBuf>,
    pub discount_permille: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    pub sample: Duration,
    pub annotate: Annotate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotate {
    Never,
    OnWaste,
    Always,
}

/// What a waiting job is told beside its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    pub position: bool,
    pub estimate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    pub otlp: Option<String>,
}

impl Prices {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            currency: section.or("currency", "USD", currency),
            file: section.get("file", path),
            discount_permille: section.or("discount", "0%", permille),
        }
    }
}

impl Meter {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let words = [
            ("never", Annotate::Never),
            ("on-waste", Annotate::OnWaste),
            ("always", Annotate::Always),
        ];
        Self {
            sample: section.or("sample", "1s", duration_above_zero),
            annotate: section.or("annotate", "on-waste", one_of(words)),
        }
    }
}

impl Notify {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            position: section.or("position", "true", boolean),
            estimate: section.or("estimate", "true", boolean),
        }
    }
}

impl Log {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let formats =
            [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        Self {
            format: section.or("format", "auto", one_of(formats)),
            level: section.or("level", "info", one_of(levels)),
        }
    }
}

impl LogLevel {
    /// As a log filter spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Traces {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self { otlp: section.get("otlp", url) }
    }
}
