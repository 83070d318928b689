//! A YAML text as a tree in which every key and value knows its place.
//!
//! It knows nothing of what a configuration or a pipeline may say: that is for its readers. Scalars
//! stay the texts that they are in the file, whatever YAML would make of them, so that `${NAME}`
//! can stand for a number and `007` stays what was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// Where a key or a value stands; bytes for slicing, line and column (from 1) for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    /// Where its text is: another place for what an alias stands for.
    pub(crate) defined: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Whether a part of the text came from the environment: then it is not repeated in errors.
    pub(crate) from_environment: bool,
    /// Whether it is a text whatever it looks like.
    pub(crate) quoted: bool,
    /// Whether a reference in it could not be replaced: that was said already.
    pub(crate) broken: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

/// A text that is not YAML.
#[derive(Debug)]
pub(crate) struct SyntaxError {
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// The tree of a text; nothing where the text says nothing.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let raw: Option<Spanned<Raw>> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| SyntaxError::of(&error, text))?;
    Ok(raw.map(|raw| raw.settle(text)))
}

impl SyntaxError {
    pub(crate) fn of(error: &serde_saphyr::Error, text: &str) -> Self {
        let mut place = error.location().map(|at| Place::of(&at, text)).unwrap_or_default();
        // The parser counts lines and columns here, and no bytes.
        place.offset = place.offset_in(text);
        let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        // The place is shown beside the message, so the message need not begin or end with it.
        let message = message.lines().next().unwrap_or_default();
        let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
        Self { place, message: message.trim_start_matches("error: ").to_owned() }
    }
}

impl Place {
    fn of(at: &Location, text: &str) -> Self {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let offset = number(at.span().byte_offset().unwrap_or(0)).min(text.len());
        let len = number(at.span().byte_len().unwrap_or(0)).min(text.len() - offset);
        Self { offset, len, line: number(at.line()), column: number(at.column()) }
    }

    /// Where its line and column are in the text.
    fn offset_in(self, text: &str) -> usize {
        let before = text.split_inclusive('\n').take(self.line.saturating_sub(1));
        let start: usize = before.map(str::len).sum();
        let line = text.get(start..).unwrap_or_default();
        let column = line.char_indices().nth(self.column.saturating_sub(1));
        start + column.map_or(line.len(), |(at, _)| at)
    }
}

/// What the deserializer hands over, before places and texts are settled.
enum Raw {
    Null,
    /// Quoted, or a text that is nothing else: as the parser unescaped it.
    Text(String),
    /// A number or a boolean: the text is the slice of the file.
    Plain,
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

trait Settle {
    fn settle(self, text: &str) -> Node;
}

impl Settle for Spanned<Raw> {
    fn settle(self, text: &str) -> Node {
        let place = Place::of(&self.referenced, text);
        let scalar = |text: String, quoted: bool| {
            Value::Scalar(Scalar { text, from_environment: false, quoted, broken: false })
        };
        let value = match self.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => scalar(text, true),
            Raw::Plain => {
                let defined = Place::of(&self.defined, text);
                let slice = text.get(defined.offset..defined.offset + defined.len);
                scalar(slice.unwrap_or_default().trim().to_owned(), false)
            }
            Raw::List(items) => {
                Value::List(items.into_iter().map(|item| item.settle(text)).collect())
            }
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| Entry {
                        place: Place::of(&key.referenced, text),
                        key: key.value,
                        node: node.settle(text),
                    })
                    .collect(),
            ),
        };
        Node { place, defined: Place::of(&self.defined, text), value }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every scalar and key as `line:column text`, the text cut out of the file by its place.
    fn show(node: &Node, file: &str, out: &mut Vec<String>) {
        let cut = |place: Place| file[place.offset..place.offset + place.len].to_owned();
        let at = |place: Place| format!("{}:{}", place.line, place.column);
        match &node.value {
            Value::Null => out.push(format!("{} null", at(node.place))),
            Value::Scalar(scalar) => {
                out.push(format!("{} {} = {}", at(node.place), cut(node.place), scalar.text));
            }
            Value::List(items) => items.iter().for_each(|item| show(item, file, out)),
            Value::Map(entries) => {
                for entry in entries {
                    out.push(format!("{} {}:", at(entry.place), cut(entry.place)));
                    assert_eq!(cut(entry.place).trim_matches('"'), entry.key);
                    show(&entry.node, file, out);
                }
            }
        }
    }

    fn check(file: &str, expected: &str) {
        let mut out = Vec::new();
        if let Some(node) = parse(file).unwrap() {
            show(&node, file, &mut out);
        }
        assert_eq!(out.join(" | "), expected, "of {file:?}");
    }

    #[test]
    fn what_an_alias_stands_for_is_defined_elsewhere() {
        let file = "a: &x {q: 5}\nb: *x\nc: {<<: *x}\n";
        let Value::Map(root) = parse(file).unwrap().unwrap().value else { panic!("a map") };
        for entry in &root {
            let Value::Map(inner) = &entry.node.value else { panic!("a map") };
            let defined = inner[0].node.defined;
            assert_eq!(&file[defined.offset..defined.offset + defined.len], "5", "{}", entry.key);
        }
    }

    #[test]
    fn places_and_texts() {
        check("", "");
        check("a: 1\n", "1:1 a: | 1:4 1 = 1");
        check("a: 007\nb: 1_0\n", "1:1 a: | 1:4 007 = 007 | 2:1 b: | 2:4 1_0 = 1_0");
        check("a: yes # no\n", "1:1 a: | 1:4 yes = yes");
        check(
            "é: {b: [64G, \"x\\ty\"]}\n",
            "1:1 é: | 1:5 b: | 1:9 64G = 64G | 1:14 \"x\\ty\" = x\ty",
        );
        check("a:\n  b: null\n", "1:1 a: | 2:3 b: | 2:6 null");
        check("a: 1\na: 2\n", "1:1 a: | 1:4 1 = 1 | 2:1 a: | 2:4 2 = 2");
        check("a: ${X:-}\n", "1:1 a: | 1:4 ${X:-} = ${X:-}");
        check("a: &x 5\nb: *x\n", "1:1 a: | 1:7 5 = 5 | 2:1 b: | 2:4 *x = 5");
    }
}
