//! The snapshot as Prometheus text: few families, and never a label per job.

mod fleets;

use std::fmt::Write;

use crate::api::Snapshot;

pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    let counts = &snapshot.counts;
    text.gauge("jitney_jobs", "Jobs in our hands, by phase.");
    for (phase, jobs) in &counts.by_phase {
        text.sample("jitney_jobs", &[("phase", phase)], jobs);
    }
    text.gauge("jitney_holds", "Jobs that do not move, by reason.");
    for (reason, jobs) in &counts.holds {
        text.sample("jitney_holds", &[("reason", reason)], jobs);
    }
    text.gauge("jitney_machines", "Machines in the last listing, by backend.");
    for (backend, machines) in &counts.machines {
        text.sample("jitney_machines", &[("backend", backend)], machines);
    }
    text.gauge("jitney_queue_scheduled", "Jobs in the queue's listing, by queue and kind.");
    for queue in &snapshot.queues {
        let ours = queue.scheduled - queue.foreign.min(queue.scheduled);
        text.sample("jitney_queue_scheduled", &[("queue", &queue.key), ("kind", "ours")], ours);
        let foreign = [("queue", queue.key.as_str()), ("kind", "foreign")];
        text.sample("jitney_queue_scheduled", &foreign, queue.foreign);
    }
    text.counter("jitney_jobs_taken_total", "Jobs taken on.");
    text.sample("jitney_jobs_taken_total", &[], counts.taken);
    text.counter("jitney_jobs_done_total", "Jobs with nothing left to do.");
    text.sample("jitney_jobs_done_total", &[], counts.forgotten);
    text.counter("jitney_calls_total", "Calls to Buildkite and to backends, by call.");
    for (call, number) in &counts.calls {
        text.sample("jitney_calls_total", &[("call", call)], number);
    }
    text.counter("jitney_calls_failed_total", "Those of them that failed.");
    for (call, number) in &counts.calls_failed {
        text.sample("jitney_calls_failed_total", &[("call", call)], number);
    }
    text.counter("jitney_rounds_total", "Rounds of decisions.");
    text.sample("jitney_rounds_total", &[], counts.rounds);
    text.gauge("jitney_worst_cost", "What a crash costs at most.");
    let cost = format!(
        "{}.{:06}",
        counts.worst_cost_micros / 1_000_000,
        counts.worst_cost_micros % 1_000_000
    );
    text.sample("jitney_worst_cost", &[], cost);
    text.gauge("jitney_unpriced_machines", "Machines that are not in the worst cost.");
    text.sample("jitney_unpriced_machines", &[], counts.unpriced_machines);
    text.gauge("jitney_alarms", "What an operator has to look at.");
    text.sample("jitney_alarms", &[], snapshot.alarms.len());
    for (name, help, state) in [
        ("jitney_ready", "Whether everything can be served.", snapshot.missing.is_empty()),
        ("jitney_draining", "Whether nothing new is taken.", snapshot.draining),
        ("jitney_journal_full", "Whether the journal takes no writes.", snapshot.journal_full),
        (
            "jitney_buildkite_reachable",
            "Whether calls to Buildkite go through.",
            snapshot.buildkite_failing_since.is_none(),
        ),
    ] {
        text.gauge(name, help);
        text.sample(name, &[], u8::from(state));
    }
    fleets::write(snapshot, &mut text);
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, help, "gauge");
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.head(name, help, "counter");
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let mut shown = String::new();
        for (label, of) in labels {
            let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let comma = if shown.is_empty() { "" } else { "," };
            shown.push_str(&format!("{comma}{label}=\"{of}\""));
        }
        if shown.is_empty() {
            self.line(format_args!("{name} {value}\n"));
        } else {
            self.line(format_args!("{name}{{{shown}}} {value}\n"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.0.write_fmt(line).expect("a text takes any writing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_samples_follow_their_head() {
        let mut text = Text::default();
        text.gauge("a", "Help.");
        text.sample("a", &[("x", "1\"2"), ("y", "z")], 3);
        text.sample("a", &[], 4);
        assert_eq!(text.0, "# HELP a Help.\n# TYPE a gauge\na{x=\"1\\\"2\",y=\"z\"} 3\na 4\n");
    }
}
