//! `route`: reads a pipeline from standard input, and writes it with its jobs in another queue where
//! the build is one that moves. Nothing is read but the pipeline and two variables.

use std::io::Read;

use super::arguments::Route;
use super::{Answer, Context, Exit, Failure};
use crate::route::route as reroute;
use crate::route::share::{BUILD, Choice, OVERRULE};

/// A longer text is no pipeline: Buildkite takes far less.
const LARGEST: u64 = 16 << 20;

pub(super) fn route(asked: &Route, context: &Context<'_>) -> Result<Answer, Failure> {
    let refuse = |words: String| Failure::new(Exit::Refused, words);
    let variable = |name: &str| context.environment.get(name).map(String::as_str);
    let choice = asked.to.choose(variable(BUILD), variable(OVERRULE)).map_err(refuse)?;
    let text = standard_input()?;
    // What cannot be moved is said for every build, so that nobody finds out at the next one.
    let routed = reroute(&text, &asked.from, &asked.to.queue)
        .map_err(|trouble| refuse(format!("standard input: {trouble}")))?;
    let from = routed.from.join(", ");
    let queue = &asked.to.queue;
    let (steps, verb) = match routed.steps {
        1 => ("1 step".to_owned(), "s"),
        steps => (format!("{steps} steps"), ""),
    };
    let why = match &choice {
        Choice::Moves(at) | Choice::Stays(at) => format!("the build is at {at} % of the whole"),
        Choice::Told { .. } => format!("{OVERRULE} says so"),
    };
    if choice.moves() {
        say(&format!("{steps} move{verb} from {from} to {queue}; {why}"));
        return Ok(Answer::ok(routed.text));
    }
    say(&format!("{steps} stay{verb} in {from}; {why}"));
    Ok(Answer::ok(text))
}

/// In one piece: whoever reads the pipeline at the same time writes into the same log.
fn say(words: &str) {
    let line = format!("jitney route: {words}\n");
    eprint!("{line}");
}

fn standard_input() -> Result<String, Failure> {
    let refuse = |words: String| Failure::new(Exit::Refused, words);
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| refuse(format!("failed to read standard input: {error}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(refuse(format!("standard input has more than {LARGEST} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| refuse("standard input is no UTF-8 text".into()))
}
