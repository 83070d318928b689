//! A job's tags, sorted: words of a shape, the queue's own tags, and those that are not ours.

use crate::shape::{Wish, Word, nearest_tag, shown_pair};
use crate::words::crop;
use crate::{Foreign, Invalid, QueueKey, QueuePolicy, TagError, UnknownTags};

use super::Refusal;

/// What the job says itself or by its class, and how it said so, for errors that point at it.
pub(super) struct Asked<'a> {
    pub(super) rules: &'a [String],
    pub(super) class: Option<&'a str>,
    pub(super) wish: Wish<'a>,
}

impl Asked<'_> {
    /// The tag by which the job asked for this word.
    pub(super) fn tag(&self, word: Word) -> String {
        let own = self.rules.iter().map(|rule| split(rule)).find(|(key, _)| *key == word.name());
        match (own, self.class) {
            (Some((key, value)), _) => shown_pair(key, value),
            (None, Some(class)) => shown_pair("class", class),
            (None, None) => word.name().to_string(),
        }
    }
}

pub(super) fn invalid(tag: String, problem: String, remedy: String) -> Invalid {
    Invalid::Tag(TagError { tag, problem, remedy })
}

/// The job's own words, and the tags that its agent carries beside them. A tag that is not ours
/// outweighs any mistake: the job is somebody else's, and so is the mistake.
pub(super) fn read<'a>(
    rules: &'a [String],
    key: &QueueKey,
    queue: &QueuePolicy,
) -> Result<(Wish<'a>, Vec<String>), Refusal> {
    let mut wish = Wish::default();
    let mut seen: Vec<(Word, &str)> = Vec::new();
    let mut wrong: Option<Invalid> = None;
    for rule in rules {
        let (tag, value) = split(rule);
        if tag == "queue" {
            if !is_any(value) && value != key.as_str() {
                let queue = crop(value, 80);
                return Err(Refusal::Foreign(Foreign::OtherQueue { queue }));
            }
            continue;
        }
        let found = match (queue.tags.get(tag), Word::from_name(tag)) {
            (Some(ours), _) if !is_any(value) && !is_any(ours) && value != ours => {
                other_value(tag, value, ours, queue.unknown_tags)
            }
            (_, Some(word)) => set(&mut wish, &mut seen, word, value).map_err(Refusal::Invalid),
            (Some(_), None) => Ok(()),
            (None, None) => unknown(tag, value, queue),
        };
        match found {
            Ok(()) => {}
            Err(Refusal::Foreign(foreign)) => return Err(Refusal::Foreign(foreign)),
            Err(Refusal::Invalid(invalid)) => wrong = wrong.or(Some(invalid)),
        }
    }
    match wrong {
        Some(invalid) => Err(Refusal::Invalid(invalid)),
        None => Ok((wish, carried(rules, key, queue))),
    }
}

fn set<'a>(
    wish: &mut Wish<'a>,
    seen: &mut Vec<(Word, &'a str)>,
    word: Word,
    value: &'a str,
) -> Result<(), Invalid> {
    if is_any(value) {
        return Ok(());
    }
    if let Some((_, before)) = seen.iter().find(|(other, _)| *other == word) {
        if *before == value {
            return Ok(());
        }
        let name = word.name();
        return Err(invalid(
            shown_pair(name, value),
            format!("{} is asked for as well", shown_pair(name, before)),
            format!("write {name} once"),
        ));
    }
    seen.push((word, value));
    wish.set(word, value).map_err(Invalid::Tag)
}

/// `key=value`; Buildkite reads a tag without a value as `true`.
fn split(rule: &str) -> (&str, &str) {
    rule.split_once('=').unwrap_or((rule, "true"))
}

/// Any value will do: how Buildkite itself reads `*`, and nothing at all.
fn is_any(value: &str) -> bool {
    value.is_empty() || value == "*"
}

fn other_value(tag: &str, value: &str, ours: &str, unknown: UnknownTags) -> Result<(), Refusal> {
    Err(match unknown {
        UnknownTags::Wait => Refusal::Foreign(Foreign::OtherValue {
            tag: shown_pair(tag, value),
            ours: shown_pair(tag, ours),
        }),
        UnknownTags::Fail => Refusal::Invalid(invalid(
            shown_pair(tag, value),
            format!("the agents of this queue carry {}", shown_pair(tag, ours)),
            format!("write {tag}: {ours}, or name another queue"),
        )),
    })
}

fn unknown(tag: &str, value: &str, queue: &QueuePolicy) -> Result<(), Refusal> {
    let nearest = nearest_tag(tag, queue.tags.keys().map(String::as_str)).map(str::to_string);
    let tag = shown_pair(tag, value);
    Err(match queue.unknown_tags {
        UnknownTags::Wait => Refusal::Foreign(Foreign::UnknownTag { tag, nearest }),
        UnknownTags::Fail => Refusal::Invalid(Invalid::UnknownTag { tag, nearest }),
    })
}

/// What the agent registers with: the queue, and the queue's own tags. One that may have any value
/// (`*`) has the job's.
fn carried(rules: &[String], key: &QueueKey, queue: &QueuePolicy) -> Vec<String> {
    let mut tags = Vec::with_capacity(queue.tags.len() + 1);
    tags.push(["queue=", key.as_str()].concat());
    for (tag, ours) in &queue.tags {
        let value = if is_any(ours) {
            let asked = rules.iter().map(|rule| split(rule)).find(|(key, _)| key == tag);
            match asked {
                Some((_, value)) if !is_any(value) => value,
                Some(_) | None => continue,
            }
        } else {
            ours
        };
        tags.push([tag, "=", value].concat());
    }
    tags
}
