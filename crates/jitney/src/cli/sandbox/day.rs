//! A day of arrivals: read from a file or made up, played into the sandbox, and summed up for a
//! person.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use ::sandbox::Sandbox;
use ::sandbox::rehearsal::{self, Arrival, Recipe, Replay, Summary, Waits};

use super::{Answer, tell};
use crate::cli::{Exit, Failure, Interrupt, Screen};

pub(super) fn generate(recipe: &Recipe) -> String {
    rehearsal::write(&rehearsal::generate(recipe))
}

pub(super) fn read(file: &Path) -> Result<Vec<Arrival>, Failure> {
    let refuse = |words: String| Failure::new(Exit::Refused, words);
    let text = std::fs::read_to_string(file)
        .map_err(|error| refuse(format!("failed to read {}: {error}", file.display())))?;
    rehearsal::read(&text).map_err(|error| refuse(format!("{}: {error}", file.display())))
}

pub(super) fn announcement(day: &[Arrival], speed: f64) -> String {
    let plural = if day.len() == 1 { "" } else { "s" };
    let last = day.last().map_or(Duration::ZERO, |arrival| arrival.at);
    format!(
        "  a day     {} job{plural}, the last after {}; it begins when a stack registers\n",
        day.len(),
        length(last.div_f64(speed))
    )
}

/// Plays the day, says what came of it, and serves on until it is told to stop. Told before the
/// end, it says what came so far.
pub(super) async fn play(
    sandbox: &Sandbox,
    mut replay: Replay,
    interrupt: &mut Interrupt,
    screen: Screen,
) -> Result<Answer, Failure> {
    let whole = tokio::select! {
        played = replay.run(sandbox) => {
            played.map_err(|refusal| Failure::new(Exit::Failed, refusal.to_string()))?;
            true
        }
        () = interrupt.came() => false,
    };
    let summary = sandbox.engine(|engine, _| replay.summary(engine));
    tell(&render(&summary, screen))?;
    if whole {
        tell("The sandbox serves on. Ctrl-C ends it.\n")?;
        interrupt.came().await;
    }
    let exit = if summary.is_as_planned() { Exit::Ok } else { Exit::NotGood };
    Ok(Answer { text: String::new(), exit })
}

fn render(summary: &Summary, screen: Screen) -> String {
    let title = screen.strong("What came of the day");
    let mut text = format!("\n{title}\n  jobs      {} of {}", summary.came, summary.arrivals);
    for (count, words) in [
        (summary.passed, "passed"),
        (summary.failed, "failed as the day says"),
        (summary.cancelled, "cancelled as the day says"),
        (summary.otherwise, "ended otherwise"),
        (summary.open, "had not ended"),
        (summary.retried, "retries"),
    ] {
        if count > 0 {
            line(&mut text, format_args!(", {count} {words}"));
        }
    }
    let (running, waiting) = (summary.most_running, summary.most_waiting);
    line(
        &mut text,
        format_args!("\n  at most   {running} with an agent at once, {waiting} waiting\n"),
    );
    line(&mut text, format_args!("  waits     {}\n", waits(&summary.waits)));
    if summary.queues.len() > 1 {
        for (key, queue) in &summary.queues {
            let waits = waits(&queue.waits);
            line(&mut text, format_args!("            {waits} in {key} ({} jobs)\n", queue.jobs));
        }
    }
    for odd in &summary.odd {
        let status = odd.exit_status.map_or_else(String::new, |status| format!(" with {status}"));
        let detail = odd.detail.as_deref().and_then(|detail| detail.lines().next());
        let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
        let state = odd.state.name();
        line(&mut text, format_args!("  otherwise {} is {state}{status}{detail}\n", odd.job));
    }
    let more = summary.otherwise.saturating_sub(summary.odd.len());
    if more > 0 {
        line(&mut text, format_args!("  otherwise {more} more\n"));
    }
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a text takes what is written to it");
}

fn waits(waits: &Waits) -> String {
    let [p50, p95, max] = [waits.p50, waits.p95, waits.max].map(length);
    format!("p50 {p50}, p95 {p95}, max {max}, of {} that started", waits.started)
}

/// As a person says it: milliseconds matter below a second, and seconds no more beyond an hour.
fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_said_as_people_say_them() {
        for (millis, words) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_234, "1.2 s"),
            (61_000, "1 min 1 s"),
            (36_061_000, "10 h 1 min"),
        ] {
            assert_eq!(length(Duration::from_millis(millis)), words);
        }
    }
}
