//! The format of a day: one job a line, as JSON. Bad lines are named with what would be good.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Of one day; the sandbox keeps every job in memory.
const MAX_ARRIVALS: usize = 1_000_000;
/// No time in a day is longer.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// One job: when it comes, what it asks for, and how it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// From the day's start.
    pub at: Duration,
    pub queue: String,
    /// Its agent tags besides the queue.
    pub agents: BTreeMap<String, String>,
    pub priority: i64,
    pub runs_for: Duration,
    pub pipeline: String,
    pub branch: String,
    pub exit_status: i32,
    /// It is cancelled so long after it came, unless it has ended by then.
    pub cancel_after: Option<Duration>,
}

/// Why a text is no day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDay {
    #[error("line {line}: {words}")]
    Line { line: usize, words: String },
    #[error(
        "it has no arrival: write one JSON object a line, such as {{\"at\": 0, \"queue\": \"default\", \"runs_for\": 60}}"
    )]
    Empty,
    #[error("it has more than {most} arrivals: split it")]
    TooLong { most: usize },
}

/// A line as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: Value,
    #[serde(default = "default_queue")]
    queue: String,
    #[serde(default)]
    agents: BTreeMap<String, Value>,
    #[serde(default)]
    priority: i64,
    #[serde(default)]
    runs_for: f64,
    #[serde(default = "replay")]
    pipeline: String,
    #[serde(default = "main")]
    branch: String,
    #[serde(default)]
    exit_status: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel_after: Option<f64>,
}

fn default_queue() -> String {
    "default".to_owned()
}

fn replay() -> String {
    "replay".to_owned()
}

fn main() -> String {
    "main".to_owned()
}

/// When a job comes: seconds from the start, or the time of a clock.
#[derive(Clone, Copy)]
enum At {
    Seconds(Duration),
    Clock(Timestamp),
}

/// Reads a day; the arrivals come out in the order of their times. Empty lines and lines that
/// begin with `#` say nothing. Times of a clock count from the earliest of them.
pub fn read(text: &str) -> Result<Vec<Arrival>, BadDay> {
    read_at_most(text, MAX_ARRIVALS)
}

fn read_at_most(text: &str, most: usize) -> Result<Vec<Arrival>, BadDay> {
    let mut found: Vec<(usize, At, Arrival)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        if found.len() == most {
            return Err(BadDay::TooLong { most });
        }
        let bad = |words| BadDay::Line { line: index + 1, words };
        let (at, arrival) = read_line(line).map_err(bad)?;
        if found.first().is_some_and(|(_, first, _)| first.is_clock() != at.is_clock()) {
            let words = "at is written in another way than in the lines above: \
                         take seconds everywhere, or times everywhere";
            return Err(bad(words.to_owned()));
        }
        found.push((index + 1, at, arrival));
    }
    let start = found.iter().filter_map(|(_, at, _)| at.clock()).min();
    let mut day = Vec::with_capacity(found.len());
    for (line, at, mut arrival) in found {
        arrival.at = match (at, start) {
            (At::Clock(time), Some(start)) => {
                Duration::try_from(time.duration_since(start)).unwrap_or_default()
            }
            (At::Seconds(seconds), _) => seconds,
            (At::Clock(_), None) => Duration::ZERO,
        };
        if arrival.at > LONGEST {
            let days = LONGEST.as_secs() / 86_400;
            let words = format!("at is more than {days} days after the earliest");
            return Err(BadDay::Line { line, words });
        }
        day.push(arrival);
    }
    if day.is_empty() {
        return Err(BadDay::Empty);
    }
    day.sort_by_key(|arrival| arrival.at);
    Ok(day)
}

impl At {
    fn clock(self) -> Option<Timestamp> {
        match self {
            Self::Clock(time) => Some(time),
            Self::Seconds(_) => None,
        }
    }

    fn is_clock(self) -> bool {
        self.clock().is_some()
    }
}

fn read_line(line: &str) -> Result<(At, Arrival), String> {
    if !line.trim_start().starts_with('{') {
        return Err("it is no JSON object: write one on each line, {\"at\": 0, …}".to_owned());
    }
    let line: Line = serde_json::from_str(line).map_err(|error| {
        let words = error.to_string();
        // It counts lines from the text that it was given, which is always the first.
        let words = words.rsplit_once(" at line ").map_or(&*words, |(words, _)| words);
        format!("{words} (column {})", error.column())
    })?;
    let at = match &line.at {
        Value::Number(number) => At::Seconds(seconds("at", number.as_f64().unwrap_or(f64::NAN))?),
        Value::String(text) => At::Clock(text.parse().map_err(|_| not_a_time(&line.at))?),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(not_a_time(&line.at));
        }
    };
    if line.queue.is_empty() || line.pipeline.is_empty() {
        return Err("queue and pipeline must not be empty: leave them out".to_owned());
    }
    if !(-1..=255).contains(&line.exit_status) {
        return Err(format!("exit_status is {}: it must be -1 to 255", line.exit_status));
    }
    let arrival = Arrival {
        at: Duration::ZERO,
        queue: line.queue,
        agents: line.agents.into_iter().map(tag).collect::<Result<_, _>>()?,
        priority: line.priority,
        runs_for: seconds("runs_for", line.runs_for)?,
        pipeline: line.pipeline,
        branch: line.branch,
        exit_status: line.exit_status,
        cancel_after: line.cancel_after.map(|after| seconds("cancel_after", after)).transpose()?,
    };
    Ok((at, arrival))
}

fn not_a_time(value: &Value) -> String {
    format!(
        "at is {value}: it must be seconds from the start, such as 12.5, or a time, such as \
         \"2026-10-02T08:15:00Z\""
    )
}

fn seconds(name: &str, number: f64) -> Result<Duration, String> {
    let read = Duration::try_from_secs_f64(number).ok().filter(|read| *read <= LONGEST);
    read.ok_or_else(|| {
        let most = LONGEST.as_secs();
        format!("{name} is {number}: it must be a number of seconds from 0 to {most}")
    })
}

/// Tags are texts to Buildkite, however they were written.
fn tag((key, value): (String, Value)) -> Result<(String, String), String> {
    if key == "queue" {
        return Err("agents.queue: write \"queue\" beside \"agents\", not in it".to_owned());
    }
    match value {
        Value::String(text) => Ok((key, text)),
        Value::Number(number) => Ok((key, number.to_string())),
        Value::Bool(flag) => Ok((key, flag.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("agents.{key} is {value}: a tag is a text or a number"))
        }
    }
}

/// The text that `read` reads as this day.
#[must_use]
pub fn write(day: &[Arrival]) -> String {
    let mut text = String::new();
    for arrival in day {
        let line = Line {
            at: json!(arrival.at.as_secs_f64()),
            queue: arrival.queue.clone(),
            agents: arrival.agents.iter().map(|(k, v)| (k.clone(), json!(v))).collect(),
            priority: arrival.priority,
            runs_for: arrival.runs_for.as_secs_f64(),
            pipeline: arrival.pipeline.clone(),
            branch: arrival.branch.clone(),
            exit_status: arrival.exit_status,
            cancel_after: arrival.cancel_after.map(|after| after.as_secs_f64()),
        };
        text.push_str(&serde_json::to_string(&line).expect("plain values have a JSON form"));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let told = match read(text) {
            Err(error) => error.to_string(),
            Ok(day) => {
                let line = |arrival: &Arrival| format!("{:?} {}", arrival.at, arrival.queue);
                day.iter().map(line).collect::<Vec<_>>().join(", ")
            }
        };
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn arrivals_are_read_in_the_order_of_their_times() {
        check("{\"at\": 2, \"queue\": \"b\"}\n\n# noon\n{\"at\": 0.5}", "500ms default, 2s b");
        check(
            "{\"at\":\"2026-10-02T08:15:01Z\"}\n{\"at\":\"2026-10-02T10:15:00+02:00\",\"queue\":\"a\"}",
            "0ns a, 1s default",
        );
    }

    #[test]
    fn a_bad_line_is_named_with_its_remedy() {
        check("", "it has no arrival: write one JSON object a line");
        check("{\"at\": 1}\n{\"at\": 1,", "line 2: EOF while parsing a value (column 9)");
        check("[1]", "line 1: it is no JSON object");
        check("{}", "line 1: missing field `at`");
        check("{\"at\": -1}", "line 1: at is -1: it must be a number of seconds from 0 to 2678400");
        check("{\"at\": \"noon\"}", "such as \"2026-10-02T08:15:00Z\"");
        check("{\"at\": true}", "at is true: it must be seconds");
        check("{\"at\": 1, \"runs_fro\": 2}", "unknown field `runs_fro`, expected one of");
        check("{\"at\": 1, \"runs_for\": \"2\"}", "invalid type: string \"2\", expected f64");
        check("{\"at\": 1, \"runs_for\": 1e9}", "runs_for is 1000000000");
        check("{\"at\": 1, \"cancel_after\": -2}", "cancel_after is -2");
        check("{\"at\": 1, \"exit_status\": 256}", "exit_status is 256: it must be -1 to 255");
        check("{\"at\": 1, \"queue\": \"\"}", "must not be empty: leave them out");
        check("{\"at\": 1, \"agents\": {\"queue\": \"a\"}}", "beside \"agents\", not in it");
        check("{\"at\": 1, \"agents\": {\"cpu\": [1]}}", "agents.cpu is [1]: a tag is a text");
        check(
            "{\"at\": 1}\n{\"at\": \"2026-10-02T08:15:00Z\"}",
            "line 2: at is written in another",
        );
        check(
            "{\"at\":\"2026-10-02T08:15:00Z\"}\n{\"at\":\"2027-10-02T08:15:00Z\"}",
            "line 2: at is more than 31 days after the earliest",
        );
    }

    #[test]
    fn a_day_that_is_too_long_is_refused() {
        let text = "{\"at\": 1}\n# noon\n{\"at\": 2}\n";
        assert_eq!(read_at_most(text, 2).map(|day| day.len()), Ok(2));
        let error = read_at_most(text, 1).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 1 arrivals: split it");
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let text = "{\"at\":1.5,\"agents\":{\"cpu\":16,\"spot\":true,\"memory\":\"64G\"},\
                    \"priority\":-2,\"runs_for\":3.25,\"pipeline\":\"web\",\"branch\":\"x\",\
                    \"exit_status\":7,\"cancel_after\":2}";
        let day = read(text).unwrap();
        assert_eq!(day[0].agents["cpu"], "16");
        assert_eq!(day[0].agents["spot"], "true");
        assert_eq!(day[0].cancel_after, Some(Duration::from_secs(2)));
        assert_eq!(read(&write(&day)).unwrap(), day);
    }
}
