//! Changes to a text, by place. Several steps may have their queue from one place, which is changed
//! once.

use std::collections::BTreeMap;

use super::Trouble;
use super::document::{Agents, Container, Written, cut};
use crate::config::tree::Place;

pub(super) struct Edits<'a> {
    text: &'a str,
    to: &'a str,
    /// By where it begins: how many bytes go, and what comes.
    edits: BTreeMap<usize, (usize, String)>,
}

impl<'a> Edits<'a> {
    pub(super) const fn new(text: &'a str, to: &'a str) -> Self {
        Self { text, to, edits: BTreeMap::new() }
    }

    pub(super) fn rewrite(&mut self, written: &Written) -> Result<(), Trouble> {
        let rule = if written.in_rule { "queue=" } else { "" };
        let before = cut(self.text, written.place);
        let after = match before.chars().next() {
            Some(quote @ ('"' | '\'')) => format!("{quote}{rule}{}{quote}", self.to),
            Some(_) if !before.contains('\n') => plain(rule, self.to),
            Some(_) | None => {
                let words = "this queue is not on one line; write it plainly or in quotes";
                return Err(Trouble::at(written.place, words));
            }
        };
        self.edits.insert(written.place.offset, (written.place.len, after));
        Ok(())
    }

    /// Agents that name no queue get one.
    pub(super) fn add_queue(&mut self, agents: &Agents) -> Result<(), Trouble> {
        let Container { place, first } = agents.container;
        let item = match (agents.rules, self.is_json()) {
            (false, false) => format!("queue: {}", plain("", self.to)),
            (false, true) => format!("\"queue\": \"{}\"", self.to),
            (true, false) => plain("queue=", self.to),
            (true, true) => format!("\"queue={}\"", self.to),
        };
        let in_brackets = cut(self.text, place).starts_with(['{', '[']);
        match (in_brackets, first) {
            (true, None) => self.insert(place.offset + 1, item),
            (true, Some(first)) => self.insert(first.offset, format!("{item}, ")),
            (false, Some(first)) => {
                let lead = self.lead(first);
                self.insert(first.offset, format!("{item}\n{lead}"));
            }
            (false, None) => {
                return Err(Trouble::at(place, "there is no place for a queue here"));
            }
        }
        Ok(())
    }

    /// A step or a pipeline without agents gets some.
    pub(super) fn add_agents(&mut self, map: &Container) -> Result<(), Trouble> {
        let Some(first) = map.first else {
            return Err(Trouble::at(map.place, "there is no place for agents here"));
        };
        if cut(self.text, map.place).starts_with('{') {
            let text = format!("\"agents\": {{\"queue\": \"{}\"}}, ", self.to);
            self.insert(first.offset, text);
            return Ok(());
        }
        let lead = " ".repeat(first.column.saturating_sub(1));
        let text = format!("agents:\n{lead}  queue: {}\n{lead}", plain("", self.to));
        self.insert(first.offset, text);
        Ok(())
    }

    pub(super) fn done(self) -> String {
        let mut done = String::with_capacity(self.text.len() + 64);
        let mut at = 0;
        for (offset, (len, text)) in &self.edits {
            done.push_str(self.text.get(at..*offset).unwrap_or_default());
            done.push_str(text);
            at = offset + len;
        }
        done.push_str(self.text.get(at..).unwrap_or_default());
        done
    }

    fn insert(&mut self, offset: usize, text: String) {
        self.edits.insert(offset, (0, text));
    }

    fn is_json(&self) -> bool {
        self.text.trim_start().starts_with(['{', '[']) && self.text.contains('"')
    }

    /// What stands before a key or an item on a line of its own: blanks, or `- `.
    fn lead(&self, first: Place) -> String {
        let line = self.text.get(..first.offset).and_then(|before| before.rsplit('\n').next());
        line.unwrap_or_default().to_owned()
    }
}

/// A queue that YAML would take for a number or the like is put into quotes.
fn plain(rule: &str, queue: &str) -> String {
    let is_word = queue.starts_with(|c: char| c.is_ascii_alphabetic())
        && queue.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&queue.to_ascii_lowercase().as_str());
    if !rule.is_empty() || is_word { format!("{rule}{queue}") } else { format!("\"{queue}\"") }
}
