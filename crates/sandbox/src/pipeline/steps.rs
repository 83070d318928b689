//! From the document's tree to steps: the list, its groups, the kinds of step. What a command step
//! and a form hold is in `command` and `form`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::command::command_steps;
use super::node::{Entry, Node, Place, Value};
use super::read::{self, Fields};
use super::{Error, filter, form, keys};
use crate::engine::{Dependency, NewGroup, NewStep, StepKind};
use crate::nearest::nearest;

/// Keys that say what kind a step is.
const COMMAND: [&str; 3] = ["command", "commands", "plugins"];
const WAIT: [&str; 2] = ["wait", "waiter"];
const BLOCK: [&str; 2] = ["block", "manual"];
const INPUT: [&str; 1] = ["input"];
const GROUP: &str = "group";
const TRIGGER: &str = "trigger";

const KEY: [&str; 3] = ["key", "id", "identifier"];
pub(super) const LABEL: [&str; 2] = ["label", "name"];

/// Where the pipeline comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// It is whole: what a step depends on is in it.
    File,
    /// It joins steps that the build has already.
    Upload,
}

/// What a pipeline says for all of its commands.
#[derive(Default)]
pub(super) struct Defaults {
    pub(super) env: Arc<BTreeMap<String, String>>,
    pub(super) agents: Vec<(String, String)>,
}

pub(super) fn pipeline(root: &Node, source: Source) -> Result<Vec<NewStep>, Error> {
    let Value::Map(entries) = &root.value else {
        // Buildkite also takes a pipeline that is nothing but the list of steps.
        return steps(root, &Defaults::default(), source);
    };
    let fields = Fields(entries);
    keys::check_top(fields)?;
    let Some(list) = fields.get("steps") else {
        return Err(Error::at(root.at, "the pipeline has no `steps`"));
    };
    let agents = fields.get("agents").map(read::agents).transpose()?.unwrap_or_default();
    let env = Arc::new(read::env(fields.get("env"))?);
    steps(list, &Defaults { env, agents }, source)
}

fn steps(list: &Node, defaults: &Defaults, source: Source) -> Result<Vec<NewStep>, Error> {
    let mut reading = Reading::new(defaults);
    for (index, item) in items(list)?.iter().enumerate() {
        let name = name(item, &(index + 1).to_string());
        match group_of(item) {
            Some(fields) => reading.group(item, fields, &name, index + 1)?,
            None => reading.step(item, None, &name)?,
        }
    }
    match source {
        Source::File => reading.all_there()?,
        Source::Upload => {}
    }
    Ok(reading.steps)
}

fn items(list: &Node) -> Result<&[Node], Error> {
    match &list.value {
        Value::List(items) => Ok(items),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
            Err(read::wrong(list, "steps", "a list"))
        }
    }
}

/// A dependency, and who has it.
struct Needed {
    by: String,
    at: Place,
    key: String,
}

/// What has been read so far.
struct Reading<'a> {
    defaults: &'a Defaults,
    steps: Vec<NewStep>,
    keys: BTreeSet<String>,
    needed: Vec<Needed>,
}

impl<'a> Reading<'a> {
    fn new(defaults: &'a Defaults) -> Self {
        Self { defaults, steps: Vec::new(), keys: BTreeSet::new(), needed: Vec::new() }
    }

    fn group(
        &mut self,
        item: &Node,
        fields: Fields<'_>,
        name: &str,
        number: usize,
    ) -> Result<(), Error> {
        let read = || {
            keys::check_group(fields)?;
            let list = fields.get("steps").map(items).transpose()?.unwrap_or_default();
            if list.is_empty() {
                return Err(Error::at(item.at, "it is a group, which needs at least one step"));
            }
            Ok((group(fields, self.defaults)?, list))
        };
        let (group, list) = read().map_err(|error: Error| error.in_step(name))?;
        self.take(name, item.at, group.key.clone(), group.depends_on.iter().flatten())?;
        let group = Arc::new(group);
        for (index, item) in list.iter().enumerate() {
            let name = self::name(item, &format!("{number}.{}", index + 1));
            if group_of(item).is_some() {
                let words = "it is a group in a group; groups hold no others";
                return Err(Error::at(item.at, words).in_step(&name));
            }
            self.step(item, Some(&group), &name)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        item: &Node,
        group: Option<&Arc<NewGroup>>,
        name: &str,
    ) -> Result<(), Error> {
        let read = step(item, self.defaults).map_err(|error| error.in_step(name))?;
        // All that one entry makes have its key and its dependencies.
        if let Some(first) = read.first() {
            self.take(name, item.at, first.key.clone(), first.depends_on.iter().flatten())?;
        }
        self.steps.extend(read.into_iter().map(|step| NewStep { group: group.cloned(), ..step }));
        Ok(())
    }

    /// Takes note of a key, which nobody else may have, and of what it depends on.
    fn take<'d>(
        &mut self,
        name: &str,
        at: Place,
        key: Option<String>,
        needs: impl Iterator<Item = &'d Dependency>,
    ) -> Result<(), Error> {
        if let Some(key) = key
            && let Some(key) = self.keys.replace(key)
        {
            let words = format!("{name}: an earlier step has the key `{key}` already");
            return Err(Error::at(at, words));
        }
        let needs = needs.map(|to| Needed { by: name.to_owned(), at, key: to.step.clone() });
        self.needed.extend(needs);
        Ok(())
    }

    fn all_there(&self) -> Result<(), Error> {
        let Some(missing) = self.needed.iter().find(|needed| !self.keys.contains(&needed.key))
        else {
            return Ok(());
        };
        let Needed { by, at, key } = missing;
        let known: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        let near = nearest(key, &known).map(|near| format!("; did you mean `{near}`?"));
        let words =
            format!("{by}: no step of this pipeline has the key `{key}` that it depends on");
        Err(Error::at(*at, words + &near.unwrap_or_default()))
    }
}

/// How messages call a step: its number, and its label or key where it has one.
fn name(item: &Node, number: &str) -> String {
    let Value::Map(entries) = &item.value else { return format!("step {number}") };
    let named = [GROUP, "label", "name", "block", "input", "key", "id", "identifier"];
    let mut texts = named.iter().filter_map(|key| match &Fields(entries).get(key)?.value {
        Value::Text(text) if !text.is_empty() => Some(text),
        Value::Text(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::List(_)
        | Value::Map(_) => None,
    });
    match texts.next() {
        Some(text) => format!("step {number} (\"{text}\")"),
        None => format!("step {number}"),
    }
}

fn group_of(item: &Node) -> Option<Fields<'_>> {
    match &item.value {
        Value::Map(entries) if Fields(entries).get(GROUP).is_some() => Some(Fields(entries)),
        Value::Map(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::List(_) => None,
    }
}

fn group(fields: Fields<'_>, defaults: &Defaults) -> Result<NewGroup, Error> {
    let allow = "allow_dependency_failure";
    Ok(NewGroup {
        key: key(fields)?,
        label: called(fields, &[GROUP])?.unwrap_or_default(),
        depends_on: read::depends_on(fields.get("depends_on"))?,
        allow_dependency_failure: read::flag(fields.get(allow), allow)?,
        filter: filter::filter(fields, &defaults.env)?,
    })
}

/// What the key that makes a step's kind calls it, else its label.
fn called(fields: Fields<'_>, by: &[&str]) -> Result<Option<String>, Error> {
    match read::optional_text(fields.any(by), by[0])? {
        Some(label) => Ok(Some(label)),
        None => read::optional_text(fields.any(&LABEL), "label"),
    }
}

fn key(fields: Fields<'_>) -> Result<Option<String>, Error> {
    let key = read::optional_text(fields.any(&KEY), "key")?;
    if let Some(key) = &key
        && key.parse::<Uuid>().is_ok()
    {
        let at = fields.any(&KEY).map(|node| node.at).unwrap_or_default();
        return Err(Error::at(at, format!("`key` must not look like a UUID, and is `{key}`")));
    }
    Ok(key)
}

fn step(item: &Node, defaults: &Defaults) -> Result<Vec<NewStep>, Error> {
    match &item.value {
        Value::Text(word) => bare(item, word, defaults).map(|step| vec![step]),
        Value::Map(entries) => mapped(item, Fields(entries), defaults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => Err(Error::at(
            item.at,
            format!("a step must be a map or `wait`, and is {}", item.kind()),
        )),
    }
}

fn bare(item: &Node, word: &str, defaults: &Defaults) -> Result<NewStep, Error> {
    if WAIT.contains(&word) {
        return Ok(NewStep::wait());
    }
    if BLOCK.contains(&word) {
        return block(Fields(&[]), defaults);
    }
    if INPUT.contains(&word) {
        return input(Fields(&[]), defaults);
    }
    if [GROUP, TRIGGER].contains(&word) {
        return Err(Error::at(item.at, keys::unsupported("it", word)));
    }
    let words =
        format!("a step that is only a word must be `wait`, `block` or `input`, and is `{word}`");
    Err(Error::at(item.at, words))
}

fn mapped(item: &Node, fields: Fields<'_>, defaults: &Defaults) -> Result<Vec<NewStep>, Error> {
    if let Some(entry) = find(fields, &[TRIGGER]) {
        return Err(Error::at(entry.at, keys::unsupported("it", TRIGGER)));
    }
    let kind = fields.get("type").and_then(|node| match &node.value {
        Value::Text(kind) => Some(kind.as_str()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => None,
    });
    if kind == Some(TRIGGER) {
        return Err(Error::at(item.at, keys::unsupported("it", TRIGGER)));
    }
    let is = |keys: &[&str], types: &[&str]| {
        find(fields, keys).is_some() || kind.is_some_and(|kind| types.contains(&kind))
    };
    if is(&COMMAND, &["command", "commands", "script"]) {
        keys::check_step(fields, &keys::COMMAND)?;
        return command_steps(item, fields, defaults);
    }
    if is(&WAIT, &WAIT) {
        keys::check_step(fields, &keys::WAIT)?;
        return wait(fields, defaults).map(|step| vec![step]);
    }
    if is(&BLOCK, &BLOCK) {
        keys::check_step(fields, &keys::BLOCK)?;
        return block(fields, defaults).map(|step| vec![step]);
    }
    if is(&INPUT, &INPUT) {
        keys::check_step(fields, &keys::INPUT)?;
        return input(fields, defaults).map(|step| vec![step]);
    }
    keys::check_step(fields, &keys::COMMAND)?;
    let words =
        "it has no `command`, `wait`, `block`, `input` or `group`, so nothing says what it does";
    Err(Error::at(item.at, words))
}

fn find<'a>(fields: Fields<'a>, keys: &[&str]) -> Option<&'a Entry> {
    fields.0.iter().find(|entry| keys.contains(&entry.key.as_str()))
}

/// What all kinds of step have.
pub(super) fn new_step(
    fields: Fields<'_>,
    label: String,
    kind: StepKind,
    defaults: &Defaults,
) -> Result<NewStep, Error> {
    let allow = "allow_dependency_failure";
    Ok(NewStep {
        key: key(fields)?,
        label,
        kind,
        depends_on: read::depends_on(fields.get("depends_on"))?,
        allow_dependency_failure: read::flag(fields.get(allow), allow)?,
        group: None,
        filter: filter::filter(fields, &defaults.env)?,
    })
}

fn wait(fields: Fields<'_>, defaults: &Defaults) -> Result<NewStep, Error> {
    let on = "continue_on_failure";
    let kind = StepKind::Wait { continue_on_failure: read::flag(fields.get(on), on)? };
    new_step(fields, String::new(), kind, defaults)
}

fn block(fields: Fields<'_>, defaults: &Defaults) -> Result<NewStep, Error> {
    let label = called(fields, &BLOCK)?.unwrap_or_default();
    new_step(fields, label, StepKind::Block(form::form(fields)?), defaults)
}

fn input(fields: Fields<'_>, defaults: &Defaults) -> Result<NewStep, Error> {
    let label = called(fields, &INPUT)?.unwrap_or_default();
    new_step(fields, label, StepKind::Input(form::form(fields)?), defaults)
}
