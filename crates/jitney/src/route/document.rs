//! A pipeline as far as queues are concerned: its command steps, the queue of each, where in the
//! text that is said or would be, and everything else as it was.

use super::{DEFAULT, Trouble};
use crate::config::tree::{Entry, Node, Place, Value};

pub(super) struct Document {
    pub(super) steps: Vec<Step>,
    /// Everything but the agents of steps and pipeline, without its places.
    pub(super) rest: String,
}

/// One command step.
pub(super) struct Step {
    pub(super) place: Place,
    pub(super) queue: String,
    pub(super) home: Home,
    /// What its agents must carry beside a queue.
    pub(super) tags: Vec<(String, String)>,
}

/// Where the queue of a step is said.
#[derive(Clone)]
pub(super) enum Home {
    Written(Written),
    /// These agents name no queue.
    Agents(Agents),
    /// There are no agents: they would be in this map.
    Nowhere(Container),
}

/// A queue in the text.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) place: Place,
    /// `queue=` stands before it.
    pub(super) in_rule: bool,
}

#[derive(Clone)]
pub(super) struct Agents {
    pub(super) container: Container,
    /// A list of `key=value`, and no map.
    pub(super) rules: bool,
}

/// Where something can be put in, before what is there.
#[derive(Clone, Copy)]
pub(super) struct Container {
    pub(super) place: Place,
    /// Its first key or item; none where it is empty.
    pub(super) first: Option<Place>,
}

/// What steps without agents of their own have.
struct Inherited {
    queue: String,
    tags: Vec<(String, String)>,
    /// None: the pipeline is a bare list, and each step has its own.
    home: Option<Home>,
}

impl Document {
    pub(super) fn of(tree: Node, text: &str) -> Result<Self, Trouble> {
        let mut rest = String::new();
        let mut steps = Vec::new();
        match &tree.value {
            Value::List(items) => {
                let (queue, tags) = (DEFAULT.to_owned(), Vec::new());
                let inherited = Inherited { queue, tags, home: None };
                collect(items, &inherited, text, &mut steps)?;
                remainder(&tree, 1, &mut rest);
            }
            Value::Map(entries) => {
                let Some(list) = field(entries, "steps") else {
                    return Err(Trouble::at(tree.place, "the pipeline has no steps"));
                };
                let (queue, tags, home) =
                    told(entries, text)?.unwrap_or_else(|| absent(entries, tree.place));
                let inherited = Inherited { queue, tags, home: Some(home) };
                collect(items(&list.node)?, &inherited, text, &mut steps)?;
                remainder(&tree, 0, &mut rest);
            }
            Value::Null | Value::Scalar(_) => {
                return Err(Trouble::at(tree.place, "a pipeline is a map with steps, or a list"));
            }
        }
        Ok(Self { steps, rest })
    }
}

type Told = (String, Vec<(String, String)>, Home);

fn absent(entries: &[Entry], place: Place) -> Told {
    let first = entries.first().map(|entry| entry.place);
    (DEFAULT.to_owned(), Vec::new(), Home::Nowhere(Container { place, first }))
}

fn field<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.key == key)
}

fn items(node: &Node) -> Result<&[Node], Trouble> {
    match &node.value {
        Value::List(items) => Ok(items),
        Value::Null | Value::Scalar(_) | Value::Map(_) => {
            Err(Trouble::at(node.place, "steps must be a list"))
        }
    }
}

fn collect(
    list: &[Node],
    inherited: &Inherited,
    text: &str,
    steps: &mut Vec<Step>,
) -> Result<(), Trouble> {
    for item in list {
        let Value::Map(entries) = &item.value else { continue };
        if let Some(inner) = field(entries, "steps") {
            collect(items(&inner.node)?, inherited, text, steps)?;
        } else if ["command", "commands", "plugins"].iter().any(|key| field(entries, key).is_some())
        {
            steps.push(step(item, entries, inherited, text)?);
        }
    }
    Ok(())
}

fn step(
    item: &Node,
    entries: &[Entry],
    inherited: &Inherited,
    text: &str,
) -> Result<Step, Trouble> {
    let place = item.place;
    if let Some((queue, tags, home)) = told(entries, text)? {
        return Ok(Step { place, queue, home, tags });
    }
    let own = || absent(entries, place).2;
    Ok(Step {
        place,
        queue: inherited.queue.clone(),
        tags: inherited.tags.clone(),
        home: inherited.home.clone().unwrap_or_else(own),
    })
}

/// What a map says of its agents; nothing where it says nothing.
fn told(entries: &[Entry], text: &str) -> Result<Option<Told>, Trouble> {
    let Some(agents) = field(entries, "agents") else { return Ok(None) };
    let place = agents.node.defined;
    match &agents.node.value {
        Value::Map(inner) => of_map(inner, place, text).map(Some),
        Value::List(rules) => of_rules(rules, place).map(Some),
        Value::Null => {
            let words = "agents is empty; write agents: {} or leave it out";
            Err(Trouble::at(agents.place, words))
        }
        Value::Scalar(_) => {
            let words = "agents must be a map, or a list of key=value";
            Err(Trouble::at(agents.node.place, words))
        }
    }
}

fn of_map(inner: &[Entry], place: Place, text: &str) -> Result<Told, Trouble> {
    let mut tags = Vec::new();
    let mut told = None;
    for entry in inner {
        let Value::Scalar(scalar) = &entry.node.value else {
            return Err(Trouble::at(entry.node.place, "an agent's tag must have a plain value"));
        };
        if entry.key != "queue" {
            tags.push((entry.key.clone(), scalar.text.clone()));
            continue;
        }
        // An alias that stands for just this queue is replaced where it is used. What an alias
        // further out brings along is changed where it is written.
        let alias = cut(text, entry.node.place).starts_with('*');
        let own_key = !cut(text, entry.place).starts_with('*');
        let place = if alias && own_key { entry.node.place } else { entry.node.defined };
        let written = Written { place, in_rule: false };
        told = Some((scalar.text.clone(), Home::Written(written)));
    }
    let first = inner.first().map(|entry| entry.place);
    let none = Agents { container: Container { place, first }, rules: false };
    let (queue, home) = told.unwrap_or_else(|| (DEFAULT.to_owned(), Home::Agents(none)));
    Ok((queue, tags, home))
}

fn of_rules(rules: &[Node], place: Place) -> Result<Told, Trouble> {
    let mut tags = Vec::new();
    let mut told = None;
    for rule in rules {
        let pair = match &rule.value {
            Value::Scalar(scalar) => scalar.text.split_once('='),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        };
        let Some((key, value)) = pair else {
            return Err(Trouble::at(rule.place, "an item of agents must be key=value"));
        };
        let (key, value) = (key.trim(), value.trim());
        if key == "queue" {
            let written = Written { place: rule.defined, in_rule: true };
            told = Some((value.to_owned(), Home::Written(written)));
        } else {
            tags.push((key.to_owned(), value.to_owned()));
        }
    }
    let first = rules.first().map(|rule| rule.place);
    let none = Agents { container: Container { place, first }, rules: true };
    let (queue, home) = told.unwrap_or_else(|| (DEFAULT.to_owned(), Home::Agents(none)));
    Ok((queue, tags, home))
}

pub(super) fn cut(text: &str, place: Place) -> &str {
    text.get(place.offset..place.offset + place.len).unwrap_or_default()
}

/// What a pipeline may have beside its agents. Other keys are there for their anchors, and nobody
/// reads them.
const MEANT: [&str; 7] = ["steps", "env", "notify", "image", "secrets", "cache", "priority"];

/// All but the agents of pipeline and steps, where steps may be two levels deep.
fn remainder(node: &Node, level: usize, out: &mut String) {
    match &node.value {
        Value::Null => out.push('~'),
        Value::Scalar(scalar) => out.push_str(&format!("{:?}{:?}", scalar.quoted, scalar.text)),
        Value::List(items) => {
            out.push('[');
            for item in items {
                remainder(item, level, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            let meant = |entry: &&Entry| match level {
                0 => MEANT.contains(&entry.key.as_str()),
                1 | 2 => entry.key != "agents",
                _ => true,
            };
            for entry in entries.iter().filter(meant) {
                out.push_str(&format!("{:?}:", entry.key));
                // Agents are the pipeline's, or a step's, or a step's of a group.
                let inner = if entry.key == "steps" { level + 1 } else { 3 };
                remainder(&entry.node, inner, out);
                out.push(',');
            }
            out.push('}');
        }
    }
}
