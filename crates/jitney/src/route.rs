//! Moving the jobs of a pipeline from one queue to another, in its text: what is not a queue stays
//! as it is, to the last blank. It says where a text cannot be moved, and decides nothing about
//! which builds are; that is `share`'s.

mod document;
mod edits;
pub(crate) mod share;

use std::collections::BTreeMap;
use std::fmt;

use crate::config::tree::{self, Place};
use document::{Document, Home};
use edits::Edits;

/// Where Buildkite puts a step that names no queue.
const DEFAULT: &str = "default";

/// Why a pipeline cannot be moved, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Line and column, from 1.
    at: Option<(usize, usize)>,
    words: String,
}

impl Trouble {
    fn at(place: Place, words: impl Into<String>) -> Self {
        Self { at: Some((place.line, place.column)), words: words.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.words),
            None => f.write_str(&self.words),
        }
    }
}

/// A pipeline with its jobs elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) text: String,
    /// Steps that were moved.
    pub(crate) steps: usize,
    /// Where they were.
    pub(crate) from: Vec<String>,
}

/// Moves the command steps of the queues `from` to the queue `to`. Where none is named, the steps
/// have to be in one queue, so that nothing is moved that only another queue's agents can run.
pub(crate) fn route(text: &str, from: &[String], to: &str) -> Result<Routed, Trouble> {
    let document = read(text)?;
    let from = match from {
        [] => the_only_queue(&document, to)?,
        named => named.to_vec(),
    };
    let moved = |queue: &str| queue != to && from.iter().any(|from| from == queue);
    let mut edits = Edits::new(text, to);
    let mut steps = 0;
    for step in document.steps.iter().filter(|step| moved(&step.queue)) {
        steps += 1;
        match &step.home {
            Home::Written(written) => edits.rewrite(written)?,
            Home::Agents(agents) => edits.add_queue(agents)?,
            Home::Nowhere(map) => edits.add_agents(map)?,
        }
    }
    let routed = edits.done();
    let after = read(&routed).map_err(|trouble| {
        let words = format!("the queues cannot be changed in place ({trouble}); write them out");
        Trouble { at: None, words }
    })?;
    check(&document, &after, to, moved)?;
    Ok(Routed { text: routed, steps, from })
}

fn read(text: &str) -> Result<Document, Trouble> {
    let tree = tree::parse(text).map_err(|error| Trouble::at(error.place, error.message))?;
    match tree {
        Some(tree) => Document::of(tree, text),
        None => Err(Trouble { at: None, words: "there is no pipeline".into() }),
    }
}

fn the_only_queue(document: &Document, to: &str) -> Result<Vec<String>, Trouble> {
    let mut queues: BTreeMap<&str, Place> = BTreeMap::new();
    for step in document.steps.iter().filter(|step| step.queue != to) {
        queues.entry(&step.queue).or_insert(step.place);
    }
    if queues.len() < 2 {
        return Ok(queues.into_keys().map(str::to_owned).collect());
    }
    let shown = |(queue, place): (&&str, &Place)| format!("{queue} (line {})", place.line);
    let shown: Vec<String> = queues.iter().map(shown).collect();
    let words = format!(
        "the steps are in several queues: {}; say which of them move with --from",
        shown.join(", ")
    );
    Err(Trouble { at: None, words })
}

/// An anchor may be used for more than queues, and YAML has more ways to write a thing than are
/// thought of here: what comes out is read again, and has to differ in its queues alone.
fn check(
    before: &Document,
    after: &Document,
    to: &str,
    moved: impl Fn(&str) -> bool,
) -> Result<(), Trouble> {
    let same_rest = before.rest == after.rest && before.steps.len() == after.steps.len();
    let steps = before.steps.iter().zip(&after.steps);
    let wrong = steps.clone().find(|(old, new)| {
        let wanted = if moved(&old.queue) { to } else { &old.queue };
        new.queue != wanted || new.tags != old.tags
    });
    match wrong {
        None if same_rest => Ok(()),
        None => Err(Trouble {
            at: None,
            words: "a queue cannot be changed without something else, since they share an anchor; \
                    write the queue out where it is used"
                .into(),
        }),
        Some((old, _)) => Err(Trouble::at(
            old.place,
            "the queue of this step cannot be changed without another's; write it out",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, from: &[&str], expected: &str) {
        let from: Vec<String> = from.iter().map(|from| (*from).to_owned()).collect();
        match route(text, &from, "new") {
            Ok(routed) => assert_eq!(routed.text, expected),
            Err(trouble) => panic!("{trouble}, of\n{text}"),
        }
    }

    #[track_caller]
    fn check_refused(text: &str, from: &[&str], expected: &str) {
        let from: Vec<String> = from.iter().map(|from| (*from).to_owned()).collect();
        let trouble = route(text, &from, "new").expect_err("it is refused");
        assert_eq!(trouble.to_string(), expected);
    }

    #[test]
    fn a_queue_is_rewritten_and_all_else_stays() {
        check(
            "# ours\nsteps:\n  - command: a   # first\n    agents: { queue: old, os: linux }\n\n  - wait\n  - label: \"b\"\n    command: b\n    agents:\n      queue:   'old'\n",
            &[],
            "# ours\nsteps:\n  - command: a   # first\n    agents: { queue: new, os: linux }\n\n  - wait\n  - label: \"b\"\n    command: b\n    agents:\n      queue:   'new'\n",
        );
        check(
            "steps:\n- command: a\n  agents:\n  - os=linux\n  - queue=old\n  - \"x=y\"\n",
            &[],
            "steps:\n- command: a\n  agents:\n  - os=linux\n  - queue=new\n  - \"x=y\"\n",
        );
    }

    #[test]
    fn json_stays_json() {
        check(
            "{\"steps\": [{\"command\": \"a\", \"agents\": {\"queue\": \"old\"}}, \"wait\",\n {\"command\": \"b\", \"agents\": [\"queue=old\"]}]}",
            &[],
            "{\"steps\": [{\"command\": \"a\", \"agents\": {\"queue\": \"new\"}}, \"wait\",\n {\"command\": \"b\", \"agents\": [\"queue=new\"]}]}",
        );
        check(
            "{\"steps\":[{\"command\":\"a\"}]}",
            &[],
            "{\"agents\": {\"queue\": \"new\"}, \"steps\":[{\"command\":\"a\"}]}",
        );
    }

    #[test]
    fn steps_without_a_queue_move_by_the_pipelines_own_agents() {
        check(
            "# ours\nsteps:\n  - command: a\n  - command: b\n",
            &[],
            "# ours\nagents:\n  queue: new\nsteps:\n  - command: a\n  - command: b\n",
        );
        check(
            "agents:\n  queue: old\nsteps:\n  - command: a\n",
            &[],
            "agents:\n  queue: new\nsteps:\n  - command: a\n",
        );
        check(
            "agents:\n  os: linux\nsteps:\n  - command: a\n",
            &[],
            "agents:\n  queue: new\n  os: linux\nsteps:\n  - command: a\n",
        );
        check(
            "agents:\n  - os=linux\nsteps:\n  - command: a\n",
            &[],
            "agents:\n  - queue=new\n  - os=linux\nsteps:\n  - command: a\n",
        );
    }

    #[test]
    fn a_step_with_agents_and_no_queue_is_in_the_default_queue() {
        check(
            "steps:\n  - command: a\n    agents: { os: linux }\n  - command: b\n    agents: {}\n",
            &["default"],
            "steps:\n  - command: a\n    agents: { queue: new, os: linux }\n  - command: b\n    agents: {queue: new}\n",
        );
        check(
            "steps:\n  - command: a\n    agents: [os=linux]\n",
            &[],
            "steps:\n  - command: a\n    agents: [queue=new, os=linux]\n",
        );
    }

    #[test]
    fn a_pipeline_may_be_a_bare_list() {
        check(
            "- command: a\n- wait\n-   label: b\n    command: b\n",
            &[],
            "- agents:\n    queue: new\n  command: a\n- wait\n-   agents:\n      queue: new\n    label: b\n    command: b\n",
        );
        check("[{command: a}]", &[], "[{\"agents\": {\"queue\": \"new\"}, command: a}]");
    }

    #[test]
    fn only_the_queues_that_are_named_move() {
        let text = "steps:\n  - command: a\n  - command: m\n    agents: { queue: mac }\n  - group: g\n    steps:\n      - command: i\n        agents: { queue: mac }\n";
        check(text, &["mac"], &text.replace("queue: mac", "queue: new"));
        check(text, &["windows"], text);
        check_refused(
            text,
            &[],
            "the steps are in several queues: default (line 2), mac (line 3); say which of them move with --from",
        );
    }

    #[test]
    fn what_has_moved_already_stays() {
        let text = "steps:\n  - command: a\n    agents: { queue: new }\n  - trigger: other\n";
        check(text, &[], text);
    }

    #[test]
    fn anchors_are_followed() {
        check(
            "common: &common\n  agents: { queue: old }\nsteps:\n  - <<: *common\n    command: a\n  - command: b\n    <<: *common\n",
            &[],
            "common: &common\n  agents: { queue: new }\nsteps:\n  - <<: *common\n    command: a\n  - command: b\n    <<: *common\n",
        );
        check(
            "env: { Q: &q old }\nsteps:\n  - command: a\n    agents: { queue: *q }\n",
            &[],
            "env: { Q: &q old }\nsteps:\n  - command: a\n    agents: { queue: new }\n",
        );
        check_refused(
            "env: &tags { queue: old }\nsteps:\n  - command: a\n    agents: *tags\n",
            &[],
            "a queue cannot be changed without something else, since they share an anchor; write the queue out where it is used",
        );
    }

    #[test]
    fn a_queue_that_yaml_takes_for_something_else_is_quoted() {
        for (to, written) in [("7", "\"7\""), ("no", "\"no\""), ("a:b", "\"a:b\""), ("a-7", "a-7")]
        {
            let routed = route("steps:\n  - command: a\n", &[], to).unwrap();
            assert!(routed.text.contains(&format!("queue: {written}\n")), "{}", routed.text);
        }
    }

    #[test]
    fn what_cannot_be_moved_is_named_with_its_place() {
        check_refused("", &[], "there is no pipeline");
        check_refused(
            "- &b { command: a }\n- <<: *b\n",
            &[],
            "the queues cannot be changed in place (line 2, column 7: YAML merge value must be mapping or sequence of mappings); write them out",
        );
        check_refused("steps: 5\n", &[], "line 1, column 8: steps must be a list");
        check_refused("a: [\n", &[], "line 1, column 4: unclosed bracket '['");
        check_refused("env: {}\n", &[], "line 1, column 1: the pipeline has no steps");
        check_refused(
            "steps:\n  - command: a\n    agents: queue\n",
            &[],
            "line 3, column 13: agents must be a map, or a list of key=value",
        );
        check_refused(
            "steps:\n  - command: a\n    agents:\n      queue: |\n        old\n",
            &["old\n"],
            "line 5, column 9: this queue is not on one line; write it plainly or in quotes",
        );
        check_refused(
            "steps:\n  - command: a\n    agents:\n",
            &[],
            "line 3, column 5: agents is empty; write agents: {} or leave it out",
        );
    }
}
