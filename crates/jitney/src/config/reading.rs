//! The walk from a tree to typed values: one section at a time, one key at a time, and every
//! problem collected instead of the first one thrown.
//!
//! It also remembers three by-products of the walk: which keys there are (for the documentation's
//! test), what each setting came to (for a reload to compare), and which places hold secrets (so
//! that no error shows them). What the keys mean is the business of the modules that call it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;

use secrecy::{ExposeSecret, SecretString};

use super::problem::{Complaint, Problem};
use super::settings::Settings;
use super::tree::{Entry, Node, Place, Scalar, Value};
use super::words::{list_of, nearest};

/// One key that a configuration may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As it is written in the file, where it has one.
    pub default: Option<&'static str>,
    pub needed: bool,
}

/// What the walk gathers.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) problems: RefCell<Vec<Problem>>,
    /// Places whose text no error may show.
    pub(super) masks: RefCell<Vec<Place>>,
    /// By pattern: `queues.*.backends`.
    pub(super) keys: RefCell<BTreeMap<String, Key>>,
    pub(super) settings: RefCell<Settings>,
}

/// One mapping of the file, or an absent one: then every key has its default.
#[derive(Debug)]
pub(super) struct Section<'a> {
    reading: &'a Reading,
    path: String,
    pattern: String,
    /// Where to point when something is missing here.
    place: Option<Place>,
    entries: &'a [Entry],
    known: RefCell<Vec<&'static str>>,
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Reading {
    /// Reads the file's outermost mapping.
    pub(super) fn root<T>(&self, node: Option<&Node>, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let root = Section {
            reading: self,
            path: String::new(),
            pattern: String::new(),
            place: None,
            entries: &[],
            known: RefCell::default(),
        };
        match node {
            Some(node) => root.read_as(node, String::new(), String::new(), None, read),
            None => root.close(read),
        }
    }

    pub(super) fn mask_all(&self, node: &Node) {
        match &node.value {
            Value::Null => {}
            Value::Scalar(_) => self.masks.borrow_mut().push(node.place),
            Value::List(items) => items.iter().for_each(|item| self.mask_all(item)),
            Value::Map(entries) => entries.iter().for_each(|entry| self.mask_all(&entry.node)),
        }
    }
}

impl<'a> Section<'a> {
    /// A value that may be left out. `null` and an empty text are the same as leaving it out.
    pub(super) fn get<T: Debug>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        let node = self.find(key, None, false);
        let value = node.and_then(|node| self.parsed(&join(&self.path, key), node, parse));
        self.settle(key, &format!("{value:?}"));
        value
    }

    /// A value that has a default, which is written as it would be in the file.
    pub(super) fn or<T: Debug>(
        &self,
        key: &'static str,
        default: &'static str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> T {
        let node = self.find(key, Some(default), false);
        let value = node
            .and_then(|node| self.parsed(&join(&self.path, key), node, &parse))
            .unwrap_or_else(|| {
                parse(default).unwrap_or_else(|complaint| {
                    unreachable!("the default of {key} is valid: {complaint:?}")
                })
            });
        self.settle(key, &format!("{value:?}"));
        value
    }

    /// A value that must be there. The stand-in never gets out: without the value there is a problem.
    pub(super) fn needed<T: Debug>(
        &self,
        key: &'static str,
        remedy: &str,
        stand_in: T,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> T {
        let Some(node) = self.find(key, None, true) else {
            self.missing(key, remedy);
            return stand_in;
        };
        let value = self.parsed(&join(&self.path, key), node, parse).unwrap_or(stand_in);
        self.settle(key, &format!("{value:?}"));
        value
    }

    /// Whether the key is there with nothing after it, as when a variable is not set.
    pub(super) fn is_blank(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && says_nothing(&entry.node.value))
    }

    pub(super) fn missing(&self, key: &str, remedy: &str) {
        let path = join(&self.path, key);
        self.report(self.place, &path, Complaint::new("is needed and missing", remedy));
    }

    /// A value that nobody may see.
    pub(super) fn secret(&self, key: &'static str) -> Option<SecretString> {
        let node = self.find(key, None, false);
        if let Some(node) = node {
            self.reading.mask_all(node);
        }
        let value = node.and_then(|node| {
            self.parsed(&join(&self.path, key), node, |text| Ok(SecretString::from(text)))
        });
        self.settle(key, value.as_ref().map_or("", |value| value.expose_secret()));
        value
    }

    /// A list of values.
    pub(super) fn list<T: Debug>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<Vec<T>> {
        let path = join(&self.path, key);
        let values = self.find(key, None, false).and_then(|node| match &node.value {
            Value::List(items) => {
                let item = |(at, item): (usize, &Node)| {
                    self.parsed(&format!("{path}[{at}]"), item, &parse)
                };
                Some(items.iter().enumerate().filter_map(item).collect::<Vec<_>>())
            }
            Value::Null | Value::Scalar(_) | Value::Map(_) => {
                self.wrong_type(node, &path, "a list", "write [one, two]");
                None
            }
        });
        self.settle(key, &format!("{values:?}"));
        values
    }

    /// A mapping of free names to values.
    pub(super) fn texts<T: Debug>(
        &self,
        key: &'static str,
        parse: impl Fn(&str, &str) -> Result<T, Complaint>,
    ) -> BTreeMap<String, T> {
        let path = join(&self.path, key);
        let mut texts = BTreeMap::new();
        for entry in self.entries_of(key) {
            let at = join(&path, &entry.key);
            if let Some(value) = self.parsed(&at, &entry.node, |text| parse(&entry.key, text)) {
                texts.insert(entry.key.clone(), value);
            }
        }
        self.settle(key, &format!("{texts:?}"));
        texts
    }

    /// A section that may be left out: then all of its keys have their defaults.
    pub(super) fn within<T>(&self, key: &'static str, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let (path, pattern) = (join(&self.path, key), join(&self.pattern, key));
        match self.find(key, None, false) {
            Some(node) => self.read_as(node, path, pattern, self.key_place(key), read),
            None => self.empty(path, pattern, self.key_place(key).or(self.place)).close(read),
        }
    }

    /// A section that means something by being there, even when it is empty.
    pub(super) fn maybe<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Section<'_>) -> T,
    ) -> Option<T> {
        let there = self.entries.iter().any(|entry| entry.key == key);
        let value = if there {
            Some(self.within(key, read))
        } else {
            // Even an absent section is known.
            self.find(key, None, false);
            None
        };
        self.settle(key, if there { "there" } else { "" });
        value
    }

    /// A mapping of free names to sections.
    pub(super) fn each<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&str, &Section<'_>) -> T,
    ) -> BTreeMap<String, T> {
        let (path, pattern) = (join(&self.path, key), join(&self.pattern, key));
        let mut sections = BTreeMap::new();
        for entry in self.entries_of(key) {
            let at = join(&path, &entry.key);
            self.reading.settings.borrow_mut().record(&at, "there");
            let value =
                self.read_as(&entry.node, at, join(&pattern, "*"), Some(entry.place), |section| {
                    read(&entry.key, section)
                });
            sections.insert(entry.key.clone(), value);
        }
        sections
    }

    /// A list of sections.
    pub(super) fn items<T>(
        &self,
        key: &'static str,
        mut read: impl FnMut(&Section<'_>) -> T,
    ) -> Vec<T> {
        let (path, pattern) = (join(&self.path, key), join(&self.pattern, key));
        let Some(node) = self.find(key, None, false) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.wrong_type(node, &path, "a list", "begin each item with \"- \"");
            return Vec::new();
        };
        self.settle(key, &items.len().to_string());
        let item = |(at, item): (usize, &Node)| {
            let place = Some(item.place);
            self.read_as(item, format!("{path}[{at}]"), format!("{pattern}[]"), place, &mut read)
        };
        items.iter().enumerate().map(item).collect()
    }

    /// A value of any form, for others to understand.
    pub(super) fn any(&self, key: &'static str) -> Option<serde_json::Value> {
        let value = self.find(key, None, false).map(to_json);
        self.settle(key, &format!("{value:?}"));
        value
    }

    /// The names of a mapping's entries, without reading them.
    pub(super) fn names(&self, key: &str) -> Vec<String> {
        let node = self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node);
        match node.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.clone()).collect(),
            Some(Value::Null | Value::Scalar(_) | Value::List(_)) | None => Vec::new(),
        }
    }

    /// Whether a key is absent, or there with nothing in it.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.is_none_or(|entry| match &entry.node.value {
            Value::Null => true,
            Value::Scalar(scalar) => scalar.text.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        })
    }

    /// Points at the key's value, or at the section where the key is not there.
    pub(super) fn complain(&self, key: &str, complaint: Complaint) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let place = entry
            .map(|entry| if entry.node.place.len == 0 { entry.place } else { entry.node.place });
        self.report(place.or(self.place), &join(&self.path, key), complaint);
    }

    /// Points at the section's own key.
    pub(super) fn complain_here(&self, complaint: Complaint) {
        self.report(self.place, &self.path, complaint);
    }

    fn report(&self, place: Option<Place>, path: &str, complaint: Complaint) {
        self.reading.problems.borrow_mut().push(Problem::new(place, path, complaint));
    }

    fn settle(&self, key: &str, value: &str) {
        self.reading.settings.borrow_mut().record(&join(&self.path, key), value);
    }

    fn key_place(&self, key: &str) -> Option<Place> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.place)
    }

    /// The node of a key that says something; the key is known from now on.
    fn find(
        &self,
        key: &'static str,
        default: Option<&'static str>,
        needed: bool,
    ) -> Option<&'a Node> {
        self.known.borrow_mut().push(key);
        let pattern = join(&self.pattern, key);
        self.reading.keys.borrow_mut().insert(pattern, Key { default, needed });
        let node = &self.entries.iter().find(|entry| entry.key == key)?.node;
        (!says_nothing(&node.value)).then_some(node)
    }

    fn entries_of(&self, key: &'static str) -> &'a [Entry] {
        let Some(node) = self.find(key, None, false) else { return &[] };
        match &node.value {
            Value::Map(entries) => {
                self.twice(entries, &join(&self.path, key));
                entries
            }
            Value::Null | Value::Scalar(_) | Value::List(_) => {
                self.wrong_type(
                    node,
                    &join(&self.path, key),
                    "a section",
                    "write \"name: value\" below it",
                );
                &[]
            }
        }
    }

    fn parsed<T>(
        &self,
        path: &str,
        node: &Node,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        let Value::Scalar(scalar) = &node.value else {
            self.wrong_type(node, path, "a single value", "write one value after the colon");
            return None;
        };
        if scalar.broken {
            return None;
        }
        match parse(&scalar.text) {
            Ok(value) => Some(value),
            Err(complaint) => {
                if complaint.hide {
                    self.reading.mask_all(node);
                }
                self.report(Some(node.place), path, without_value(scalar, complaint));
                None
            }
        }
    }

    fn wrong_type(&self, node: &Node, path: &str, wanted: &str, remedy: &str) {
        let found = match &node.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a section",
        };
        let complaint = Complaint::new(format!("{wanted} is expected here, not {found}"), remedy);
        let place = Place { len: first_line(node.place.len, node), ..node.place };
        self.report(Some(place), path, complaint);
    }

    fn empty(&self, path: String, pattern: String, place: Option<Place>) -> Section<'a> {
        let (reading, entries): (&'a Reading, &'a [Entry]) = (self.reading, &[]);
        Section { reading, path, pattern, place, entries, known: RefCell::default() }
    }

    fn read_as<T>(
        &self,
        node: &Node,
        path: String,
        pattern: String,
        place: Option<Place>,
        read: impl FnOnce(&Section<'_>) -> T,
    ) -> T {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Scalar(_) | Value::List(_) => {
                // What stands here may well be a secret that is one level too high.
                self.reading.mask_all(node);
                self.wrong_type(node, &path, "a section", "write \"key: value\" below it");
                // Its keys are not missing besides: one error for one mistake.
                let before = self.reading.problems.borrow().len();
                let value = self.empty(path, pattern, place).close(read);
                self.reading.problems.borrow_mut().truncate(before);
                return value;
            }
        };
        self.twice(entries, &path);
        let reading = self.reading;
        Section { reading, path, pattern, place, entries, known: RefCell::default() }.close(read)
    }

    fn twice(&self, entries: &[Entry], path: &str) {
        for (at, entry) in entries.iter().enumerate() {
            if let Some(first) = entries[..at].iter().find(|first| first.key == entry.key) {
                let complaint = Complaint::new(
                    format!("is given twice, first in line {}", first.place.line),
                    "keep one of the two",
                );
                self.reading.mask_all(&entry.node);
                self.report(Some(entry.place), &join(path, &entry.key), complaint);
            }
        }
    }

    /// Reads, then complains of every key that nobody asked for.
    fn close<T>(self, read: impl FnOnce(&Section<'_>) -> T) -> T {
        let value = read(&self);
        let known = self.known.borrow();
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            self.reading.mask_all(&entry.node);
            let remedy = match nearest(&entry.key, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here: {}", list_of(known.iter().copied())),
            };
            let complaint = Complaint::new("is not a key that is known here", remedy);
            self.report(Some(entry.place), &join(&self.path, &entry.key), complaint);
        }
        value
    }
}

/// Values from the environment are not repeated: they may be the wrong variable's.
fn without_value(scalar: &Scalar, complaint: Complaint) -> Complaint {
    if !scalar.from_environment {
        return complaint;
    }
    Complaint { message: "the value from the environment does not fit here".into(), ..complaint }
}

/// `null` or an empty text, as a variable that is not set leaves it.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Scalar(scalar) => scalar.text.is_empty(),
        Value::List(_) | Value::Map(_) => false,
    }
}

/// Only single values are underlined as a whole; of sections and lists the beginning is enough.
fn first_line(len: usize, node: &Node) -> usize {
    if matches!(node.value, Value::Scalar(_)) { len } else { 1 }
}

fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Scalar(scalar) => scalar_to_json(scalar),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.node))).collect()
        }
    }
}

fn scalar_to_json(scalar: &Scalar) -> serde_json::Value {
    if scalar.quoted {
        return scalar.text.clone().into();
    }
    match scalar.text.as_str() {
        "true" => true.into(),
        "false" => false.into(),
        text => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => text.parse::<serde_json::Number>().map_or_else(|_| text.into(), Into::into),
        },
    }
}
