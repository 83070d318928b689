//! Buildkite's language of conditions, as a step's `if` speaks it: `build.branch == "main" &&
//! build.message !~ /skip ci/i`. A condition is parsed and checked once, and asked about each build
//! with what is known of it. It knows neither pipelines nor the engine.
//!
//! What the documentation lists is there: `== != =~ !~`, `includes`, `&& || !`, parentheses, texts,
//! whole numbers, `true false null`, lists, regular expressions with the flag `i`, comments, the
//! variables and `build.env()`. Kinds are checked when it is parsed, so a condition that Buildkite
//! would refuse is refused even where this build would never come to the wrong part. A variable of
//! which nothing is known is `null`.

mod branches;
mod kinds;
mod lexer;
mod parser;

use std::collections::BTreeMap;

use crate::pattern::Pattern;

pub use branches::Branches;

/// A condition that can be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    written: String,
    expression: Expression,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {words}")]
pub struct Error {
    /// What is wrong, and what would be right.
    pub words: String,
    /// In the condition's own text, counted from 1.
    pub line: u64,
    pub column: u64,
}

/// What is known of a build.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// By the variable's name; those that are left out are null.
    pub variables: BTreeMap<&'static str, Value>,
    pub env: BTreeMap<String, String>,
}

/// What a variable is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<String>),
}

/// A condition's parts. `All` and `Any` are lists rather than trees, so that no length of them can
/// exhaust the stack.
#[derive(Clone, Debug, PartialEq)]
enum Expression {
    Value(Value),
    Variable(&'static str),
    /// `build.env("NAME")`: null where it is not set.
    Env(String),
    /// `env("NAME")`: empty where it is not set.
    EnvOrEmpty(String),
    List(Vec<Expression>),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Equal(Box<[Expression; 2]>),
    Matches(Box<Expression>, Pattern),
    Includes(Box<[Expression; 2]>),
    IncludesMatch(Box<Expression>, Pattern),
}

impl Condition {
    /// Parses and checks a condition.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let expression = parser::parse(text)?;
        Ok(Self { written: text.trim().to_owned(), expression })
    }

    /// Whether it is true of a build.
    #[must_use]
    pub fn holds(&self, facts: &Facts) -> bool {
        self.expression.is_true(facts)
    }

    /// As it was written.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }
}

impl Expression {
    /// Null is false, as for the server.
    fn is_true(&self, facts: &Facts) -> bool {
        self.value(facts) == Value::Bool(true)
    }

    fn value(&self, facts: &Facts) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Variable(name) => facts.variables.get(name).cloned().unwrap_or(Value::Null),
            Self::Env(name) => facts.env.get(name).cloned().map_or(Value::Null, Value::Text),
            Self::EnvOrEmpty(name) => Value::Text(facts.env.get(name).cloned().unwrap_or_default()),
            Self::List(items) => {
                Value::List(items.iter().filter_map(|item| item.value(facts).into_text()).collect())
            }
            Self::Not(inner) => Value::Bool(!inner.is_true(facts)),
            Self::All(parts) => Value::Bool(parts.iter().all(|part| part.is_true(facts))),
            Self::Any(parts) => Value::Bool(parts.iter().any(|part| part.is_true(facts))),
            Self::Equal(sides) => Value::Bool(sides[0].value(facts) == sides[1].value(facts)),
            Self::Matches(text, pattern) => {
                let text = text.value(facts).into_text();
                Value::Bool(text.is_some_and(|text| pattern.matches(&text)))
            }
            Self::Includes(sides) => {
                let wanted = sides[1].value(facts).into_text();
                let list = sides[0].value(facts).into_list();
                Value::Bool(wanted.is_some_and(|wanted| list.contains(&wanted)))
            }
            Self::IncludesMatch(list, pattern) => {
                let list = list.value(facts).into_list();
                Value::Bool(list.iter().any(|item| pattern.matches(item)))
            }
        }
    }
}

impl Value {
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) => None,
        }
    }

    fn into_list(self) -> Vec<String> {
        match self {
            Self::List(list) => list,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
