//! The command steps of a pipeline that is only to be looked at: what would ask for which agents.
//! It reads any pipeline that Buildkite would, triggers included, and judges nothing but `agents`,
//! `parallelism` and `matrix`.

use super::node::{self, Node, Value};
use super::read::{self, Fields};
use super::{Error, matrix};

/// One command step, as far as its machines are concerned. A step whose matrix makes jobs with
/// different labels or agents is several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutline {
    /// The step's label, else its key, else the first line of its command.
    pub label: String,
    /// `key=value`, as the job will ask for them.
    pub agents: Vec<String>,
    /// How many such jobs the step makes.
    pub parallelism: u32,
}

/// The command steps of a pipeline file, in its order, those in groups included.
pub fn command_steps(text: &str) -> Result<Vec<CommandOutline>, Error> {
    let root = node::from_yaml(text)?;
    let mut outlines = Vec::new();
    match &root.value {
        Value::Map(entries) => {
            let fields = Fields(entries);
            let agents = fields.get("agents").map(read::agents).transpose()?.unwrap_or_default();
            let Some(list) = fields.get("steps") else {
                return Err(Error::at(root.at, "the pipeline has no `steps`"));
            };
            collect(list, &agents, &mut outlines)?;
        }
        Value::List(_) => collect(&root, &[], &mut outlines)?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            return Err(Error::at(root.at, "the pipeline has no `steps`"));
        }
    }
    Ok(outlines)
}

fn collect(
    list: &Node,
    agents: &[(String, String)],
    into: &mut Vec<CommandOutline>,
) -> Result<(), Error> {
    let Value::List(items) = &list.value else {
        return Err(read::wrong(list, "steps", "a list"));
    };
    for item in items {
        let Value::Map(entries) = &item.value else { continue };
        let fields = Fields(entries);
        if let Some(inner) = fields.get("steps") {
            collect(inner, agents, into)?;
        } else if fields.any(&["command", "commands", "plugins"]).is_some() {
            let number = into.len() + 1;
            into.extend(outlines(fields, agents, number)?);
        }
    }
    Ok(())
}

/// One for each set of jobs that are alike.
fn outlines(
    fields: Fields<'_>,
    defaults: &[(String, String)],
    number: usize,
) -> Result<Vec<CommandOutline>, Error> {
    let Some(matrix) = fields.get("matrix").filter(|node| node.value != Value::Null) else {
        return Ok(vec![outline(fields, defaults, number)?]);
    };
    let mut outlines: Vec<CommandOutline> = Vec::new();
    for permutation in matrix::permutations(matrix)? {
        if permutation.skip.is_some() {
            continue;
        }
        let entries = matrix::interpolate(fields, &permutation.values)?;
        let more = outline(Fields(&entries), defaults, number)?;
        let alike =
            |other: &&mut CommandOutline| other.label == more.label && other.agents == more.agents;
        match outlines.iter_mut().find(alike) {
            Some(same) => same.parallelism += 1,
            None => outlines.push(more),
        }
    }
    Ok(outlines)
}

fn outline(
    fields: Fields<'_>,
    defaults: &[(String, String)],
    number: usize,
) -> Result<CommandOutline, Error> {
    let own = fields.get("agents").map(read::agents).transpose()?;
    let agents = own.as_deref().unwrap_or(defaults);
    Ok(CommandOutline {
        label: label(fields, number)?,
        agents: agents.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        parallelism: read::number(fields.get("parallelism"), "parallelism", 1, u32::MAX)?
            .unwrap_or(1),
    })
}

fn label(fields: Fields<'_>, number: usize) -> Result<String, Error> {
    if let Some(label) =
        read::optional_text(fields.any(&["label", "name", "key", "id", "identifier"]), "label")?
    {
        return Ok(label);
    }
    let commands = read::texts(fields.any(&["command", "commands"]), "command")?;
    let first = commands.iter().flat_map(|command| command.lines()).find(|line| !line.is_empty());
    Ok(first.map_or_else(|| format!("step {number}"), str::to_owned))
}
