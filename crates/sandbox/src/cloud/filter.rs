//! Compute Engine's list filters: AIP-160 (`labels.a = b AND name != c`, `labels.a:*`, parentheses,
//! `OR`, `NOT`) and the older regular expressions (`name eq a.*`), which may not be mixed.

use jiff::Timestamp;
use regex::Regex;
use serde_json::Value;

/// How long a filter may be, and how deep its parentheses.
const LONGEST: usize = 4096;
const DEEPEST: usize = 20;
/// Of one compiled expression.
const MAX_COMPILED_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(super) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Compare { field: Vec<String>, by: By, value: String },
    Matches { field: Vec<String>, regex: Regex, wanted: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Equal,
    Unequal,
    Has,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    By(By),
    Minus,
    Word(String),
    Quoted(String),
}

impl Filter {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err("the filter is too long".to_owned());
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, aip: false, regex: false };
        let filter = parser.any(0)?;
        if parser.at < parser.tokens.len() {
            return Err("there is something after its end".to_owned());
        }
        if parser.aip && parser.regex {
            return Err("regular expressions and AIP-160 cannot be mixed".to_owned());
        }
        Ok(filter)
    }

    /// The first part of each field that it asks for.
    pub(super) fn fields(&self) -> Vec<&str> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::fields).collect(),
            Self::Not(inner) => inner.fields(),
            Self::Compare { field, .. } | Self::Matches { field, .. } => {
                field.first().map(String::as_str).into_iter().collect()
            }
        }
    }

    pub(super) fn takes(&self, resource: &Value) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.takes(resource)),
            Self::Any(parts) => parts.iter().any(|part| part.takes(resource)),
            Self::Not(inner) => !inner.takes(resource),
            Self::Compare { field, by, value } => compare(&found(resource, field), *by, value),
            Self::Matches { field, regex, wanted } => {
                let matches =
                    found(resource, field).iter().any(|value| regex.is_match(&text(value)));
                matches == *wanted
            }
        }
    }
}

/// The values at a path; what is in an array counts one by one.
fn found<'a>(value: &'a Value, field: &[String]) -> Vec<&'a Value> {
    if let Value::Array(items) = value {
        return items.iter().flat_map(|item| found(item, field)).collect();
    }
    match field.split_first() {
        None => vec![value],
        Some((first, rest)) => value.get(first).map_or_else(Vec::new, |inner| found(inner, rest)),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn compare(values: &[&Value], by: By, wanted: &str) -> bool {
    let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|value| test(&text(value)));
    match by {
        By::Equal => any(&|is| equal(is, wanted)),
        By::Unequal => !any(&|is| equal(is, wanted)),
        By::Has if wanted == "*" => !values.is_empty(),
        By::Has => any(&|is| is.to_lowercase().contains(&wanted.to_lowercase())),
        By::Less => any(&|is| order(is, wanted).is_lt()),
        By::LessOrEqual => any(&|is| order(is, wanted).is_le()),
        By::Greater => any(&|is| order(is, wanted).is_gt()),
        By::GreaterOrEqual => any(&|is| order(is, wanted).is_ge()),
    }
}

/// A star at either end of what is wanted stands for anything.
fn equal(is: &str, wanted: &str) -> bool {
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(_), Some(_)) => is.contains(wanted.trim_matches('*')),
        (Some(end), None) => is.ends_with(end),
        (None, Some(start)) => is.starts_with(start),
        (None, None) => is == wanted,
    }
}

/// As times or as numbers where both are, else as texts.
fn order(is: &str, wanted: &str) -> std::cmp::Ordering {
    if let (Ok(is), Ok(wanted)) = (is.parse::<Timestamp>(), wanted.parse::<Timestamp>()) {
        return is.cmp(&wanted);
    }
    if let (Ok(is), Ok(wanted)) = (is.parse::<f64>(), wanted.parse::<f64>()) {
        return is.total_cmp(&wanted);
    }
    is.cmp(wanted)
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let two = [("!=", By::Unequal), ("<=", By::LessOrEqual), (">=", By::GreaterOrEqual)];
        let one = [("=", By::Equal), (":", By::Has), ("<", By::Less), (">", By::Greater)];
        let by =
            two.iter().chain(&one).find_map(|(sign, by)| Some((rest.strip_prefix(sign)?, *by)));
        if let Some((after, by)) = by {
            tokens.push(Token::By(by));
            rest = after;
        } else if first == '(' || first == ')' {
            tokens.push(if first == '(' { Token::Open } else { Token::Close });
            rest = &rest[1..];
        } else if first == '"' || first == '\'' {
            let inner = &rest[1..];
            let end = inner.find(first).ok_or("a quotation mark is not closed")?;
            tokens.push(Token::Quoted(inner[..end].to_owned()));
            rest = &inner[end + 1..];
        } else if first == '-' && rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '(') {
            tokens.push(Token::Minus);
            rest = &rest[1..];
        } else {
            // A colon ends a field's name and is part of a time, which follows a sign.
            let value = matches!(tokens.last(), Some(Token::By(_)));
            let ends =
                |c: char| c.is_whitespace() || "()".contains(c) || !value && "=!<>:\"'".contains(c);
            let end = rest.find(ends).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("'{first}' does not belong there"));
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    aip: bool,
    regex: bool,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.at += usize::from(is);
        is
    }

    /// Terms joined by AND or by nothing, of alternatives: OR binds closer, as AIP-160 has it.
    fn any(&mut self, depth: usize) -> Result<Filter, String> {
        if depth > DEEPEST {
            return Err("its parentheses are too deep".to_owned());
        }
        let mut all = vec![self.alternatives(depth)?];
        while self.takes_word("AND") || !matches!(self.peek(), None | Some(Token::Close)) {
            all.push(self.alternatives(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Filter::All(all) })
    }

    fn alternatives(&mut self, depth: usize) -> Result<Filter, String> {
        let mut any = vec![self.term(depth)?];
        while self.takes_word("OR") {
            any.push(self.term(depth)?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Filter::Any(any) })
    }

    fn term(&mut self, depth: usize) -> Result<Filter, String> {
        if depth > DEEPEST {
            return Err("its parentheses are too deep".to_owned());
        }
        if self.takes_word("NOT") || self.peek() == Some(&Token::Minus) {
            self.at += usize::from(self.peek() == Some(&Token::Minus));
            self.aip = true;
            return Ok(Filter::Not(Box::new(self.term(depth + 1)?)));
        }
        match self.take() {
            Some(Token::Open) => {
                let inner = self.any(depth + 1)?;
                match self.take() {
                    Some(Token::Close) => Ok(inner),
                    _ => Err("a parenthesis is not closed".to_owned()),
                }
            }
            Some(Token::Word(field)) => self.comparison(&field),
            Some(Token::Quoted(_) | Token::By(_) | Token::Close | Token::Minus) | None => {
                Err("a field's name is missing".to_owned())
            }
        }
    }

    fn comparison(&mut self, field: &str) -> Result<Filter, String> {
        let path: Vec<String> = field.split('.').map(str::to_owned).collect();
        let sign = self.take();
        let value = match self.take() {
            Some(Token::Word(value) | Token::Quoted(value)) => value,
            Some(Token::Open | Token::Close | Token::By(_) | Token::Minus) | None => {
                return Err(format!("a value is missing after '{field}'"));
            }
        };
        match sign {
            Some(Token::By(by)) => {
                self.aip = true;
                Ok(Filter::Compare { field: path, by, value })
            }
            Some(Token::Word(word)) if word == "eq" || word == "ne" => {
                self.regex = true;
                let regex = regex::RegexBuilder::new(&format!("^(?:{value})$"))
                    .size_limit(MAX_COMPILED_BYTES)
                    .build()
                    .map_err(|_| format!("'{value}' is no regular expression"))?;
                Ok(Filter::Matches { field: path, regex, wanted: word == "eq" })
            }
            Some(Token::Word(_) | Token::Quoted(_) | Token::Open | Token::Close | Token::Minus)
            | None => Err(format!("an operator is missing after '{field}'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instance() -> Value {
        json!({
            "name": "m-1", "id": "42", "status": "RUNNING",
            "labels": {"managed-by": "jitney", "job": "a"},
            "creationTimestamp": "2026-11-27T10:00:00Z",
            "scheduling": {"automaticRestart": false},
            "tags": {"items": ["ci", "agent"]},
        })
    }

    #[test]
    fn filters_take_what_they_say() {
        let check = |filter: &str, expected: bool| {
            let read = Filter::read(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
            assert_eq!(read.takes(&instance()), expected, "{filter}");
        };
        check("name = m-1", true);
        check("name=\"m-1\"", true);
        check("name = m-2", false);
        check("name != m-2", true);
        check("name = m-*", true);
        check("labels.managed-by = jitney AND labels.job = a", true);
        check("labels.managed-by=jitney labels.job=b", false);
        check("(labels.managed-by = jitney) (labels.job = a)", true);
        check("labels.job = b OR labels.job = a", true);
        check("labels.job = a OR labels.job = b AND name = x", false);
        check("labels.job:*", true);
        check("labels.none:*", false);
        check("labels.none != x", true);
        check("NOT labels.job = a", false);
        check("-labels.job:*", false);
        check("scheduling.automaticRestart = false", true);
        check("tags.items = agent", true);
        check("creationTimestamp > \"2026-11-27T09:59:00Z\"", true);
        check("creationTimestamp > 2026-11-27T10:00:00Z", false);
        check("id >= 5", true);
        check("status:run", true);
        check("name eq m-.*", true);
        check("name eq m", false);
        check("name ne 'm-.*'", false);
        check("(name eq m-1) (status eq RUN.*)", true);
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |filter: &str, expected: &str| {
            assert_eq!(Filter::read(filter).unwrap_err(), expected, "{filter}");
        };
        check("name", "a value is missing after 'name'");
        check("name =", "a value is missing after 'name'");
        check("name like x", "an operator is missing after 'name'");
        check("(name = a", "a parenthesis is not closed");
        check("name = a)", "there is something after its end");
        check("name = \"a", "a quotation mark is not closed");
        check("name = a status eq b", "regular expressions and AIP-160 cannot be mixed");
        check("name eq (", "a value is missing after 'name'");
        check("name eq '('", "'(' is no regular expression");
        check(&"(".repeat(3000), "its parentheses are too deep");
    }
}
