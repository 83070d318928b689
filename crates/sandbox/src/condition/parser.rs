//! From tokens to an expression whose kinds fit together. It asks nothing of any build.
//!
//! From loosest to tightest: `||`, `&&`, one comparison, `!`.

use super::kinds::{BUILDKITE_ENV, Kind, VARIABLES};
use super::lexer::{Place, Token, tokens};
use super::{Error, Expression, Value};
use crate::nearest::nearest;
use crate::pattern::Pattern;

/// Parentheses, lists and `!` within each other.
const MAX_DEPTH: usize = 50;

/// An expression, what it will be, and where it begins.
struct Part {
    is: Operand,
    kind: Kind,
    at: Place,
}

/// A regular expression stands by itself only at the right of an operator.
enum Operand {
    Expression(Expression),
    Pattern(Pattern),
}

impl Part {
    fn new(expression: Expression, kind: Kind, at: Place) -> Self {
        Self { is: Operand::Expression(expression), kind, at }
    }

    /// The expression, where the kind is one of these.
    fn of(self, wanted: &[Kind], by: &str, wants: &str) -> Result<Expression, Error> {
        let fits = wanted.contains(&self.kind);
        match self.is {
            Operand::Expression(expression) if fits => Ok(expression),
            Operand::Expression(_) | Operand::Pattern(_) => {
                Err(self.at.error(format!("{by} takes {wants}, and this is {}", self.kind)))
            }
        }
    }

    /// The text of a literal.
    fn literal(&self) -> Option<&str> {
        match &self.is {
            Operand::Expression(Expression::Value(Value::Text(text))) => Some(text),
            Operand::Expression(_) | Operand::Pattern(_) => None,
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Expression, Error> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let (first, place) = parser.peek();
    if *first == Token::End {
        return Err(place.error("the condition is empty"));
    }
    let whole = parser.any()?;
    let (next, at) = parser.next();
    if next != Token::End {
        let words = format!("{} is not expected here; is an operator missing?", next.shown());
        return Err(at.error(words));
    }
    whole.of(&[Kind::Bool], "a condition", "true or false")
}

struct Parser {
    /// Ends with `End`, which is never passed.
    tokens: Vec<(Token, Place)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &(Token, Place) {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> (Token, Place) {
        let next = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        next
    }

    fn takes(&mut self, sign: &'static str) -> bool {
        let is = self.peek().0 == Token::Sign(sign);
        if is {
            self.next();
        }
        is
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Error> {
        let (found, at) = self.peek();
        let words = format!("`{sign}` is missing before {}", found.shown());
        let error = at.error(words);
        if self.takes(sign) { Ok(()) } else { Err(error) }
    }

    fn any(&mut self) -> Result<Part, Error> {
        self.chain("||", Self::all, Expression::Any)
    }

    fn all(&mut self) -> Result<Part, Error> {
        self.chain("&&", Self::comparison, Expression::All)
    }

    fn chain(
        &mut self,
        sign: &'static str,
        part: impl Fn(&mut Self) -> Result<Part, Error>,
        join: impl Fn(Vec<Expression>) -> Expression,
    ) -> Result<Part, Error> {
        let first = part(self)?;
        if self.peek().0 != Token::Sign(sign) {
            return Ok(first);
        }
        let at = first.at;
        let by = format!("`{sign}`");
        let mut parts = vec![first.of(&[Kind::Bool], &by, "true or false")?];
        while self.takes(sign) {
            parts.push(part(self)?.of(&[Kind::Bool], &by, "true or false")?);
        }
        Ok(Part::new(join(parts), Kind::Bool, at))
    }

    fn comparison(&mut self) -> Result<Part, Error> {
        let left = self.unary()?;
        let at = left.at;
        let by = match &self.peek().0 {
            Token::Sign(sign @ ("==" | "!=" | "=~" | "!~")) => *sign,
            Token::Word(word) if word == "includes" => "includes",
            Token::Word(_)
            | Token::Sign(_)
            | Token::Number(_)
            | Token::Text(_)
            | Token::Pattern { .. }
            | Token::End => return Ok(left),
        };
        self.next();
        let right = self.unary()?;
        let expression = match by {
            "==" => equal(left, right, by)?,
            "!=" => not(equal(left, right, by)?),
            "=~" => matches(left, right, by)?,
            "!~" => not(matches(left, right, by)?),
            _ => includes(left, right)?,
        };
        Ok(Part::new(expression, Kind::Bool, at))
    }

    fn unary(&mut self) -> Result<Part, Error> {
        let at = self.peek().1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(at.error(format!("it is nested more than {MAX_DEPTH} deep")));
        }
        let part = if self.takes("!") {
            let inner = self.unary()?.of(&[Kind::Bool, Kind::Null], "`!`", "true or false")?;
            Part::new(not(inner), Kind::Bool, at)
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(part)
    }

    fn primary(&mut self) -> Result<Part, Error> {
        let (token, at) = self.next();
        let value = |value, kind| Ok(Part::new(Expression::Value(value), kind, at));
        match token {
            Token::Number(number) => value(Value::Number(number), Kind::Number),
            Token::Text(text) => value(Value::Text(text), Kind::Text),
            Token::Pattern { source, ignore_case } => {
                let pattern = Pattern::anywhere(&source, ignore_case).map_err(|why| {
                    at.error(format!("the regular expression `/{source}/`: {why}"))
                })?;
                Ok(Part { is: Operand::Pattern(pattern), kind: Kind::Pattern, at })
            }
            Token::Word(word) => match word.as_str() {
                "true" => value(Value::Bool(true), Kind::Bool),
                "false" => value(Value::Bool(false), Kind::Bool),
                "null" => value(Value::Null, Kind::Null),
                "build.env" | "env" => self.env(&word),
                _ => variable(&word, at),
            },
            Token::Sign("(") => {
                let inner = self.any()?;
                self.expect(")")?;
                Ok(Part { at, ..inner })
            }
            Token::Sign("[") => self.list(at),
            other @ (Token::Sign(_) | Token::End) => {
                let words = format!("a value is missing before {}", other.shown());
                Err(at.error(words))
            }
        }
    }

    fn list(&mut self, at: Place) -> Result<Part, Error> {
        let mut items = Vec::new();
        while !self.takes("]") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.unary()?.of(&[Kind::Text], "a list", "texts")?);
        }
        Ok(Part::new(Expression::List(items), Kind::List, at))
    }

    fn env(&mut self, function: &str) -> Result<Part, Error> {
        let form = format!("write {function}(\"NAME\")");
        let (open, at) = self.next();
        if open != Token::Sign("(") {
            return Err(at.error(form));
        }
        let (name, name_at) = self.next();
        let Token::Text(name) = name else { return Err(name_at.error(form)) };
        check_env_name(&name).map_err(|words| name_at.error(words))?;
        self.expect(")")?;
        let expression =
            if function == "env" { Expression::EnvOrEmpty(name) } else { Expression::Env(name) };
        Ok(Part::new(expression, Kind::Text, at))
    }
}

fn not(expression: Expression) -> Expression {
    Expression::Not(Box::new(expression))
}

fn variable(word: &str, at: Place) -> Result<Part, Error> {
    if let Some((name, kind)) = VARIABLES.iter().find(|(name, _)| *name == word) {
        return Ok(Part::new(Expression::Variable(name), *kind, at));
    }
    if word.starts_with("step.") {
        let words =
            format!("`{word}` is for the conditions of notifications, not for those of steps");
        return Err(at.error(words));
    }
    let known: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).chain(["build.env"]).collect();
    let remedy = match nearest(word, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            "texts stand in quotes, and variables begin with build., pipeline. or organization."
                .to_owned()
        }
    };
    Err(at.error(format!("`{word}` is not a variable; {remedy}")))
}

/// People's own variables may have any name, Buildkite's only those that it lets conditions see.
fn check_env_name(name: &str) -> Result<(), String> {
    if let Some(bare) = name.strip_prefix('$') {
        return Err(format!("name the variable without `$`: \"{bare}\""));
    }
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.starts_with(|c: char| !c.is_ascii_digit());
    if !is_name {
        return Err(format!("{name:?} is not the name of a variable"));
    }
    if !name.starts_with("BUILDKITE_") || BUILDKITE_ENV.contains(&name) {
        return Ok(());
    }
    let near = nearest(name, &BUILDKITE_ENV).map(|near| format!("; did you mean `{near}`?"));
    Err(format!("conditions cannot see `{name}`{}", near.unwrap_or_default()))
}

fn equal(left: Part, right: Part, by: &str) -> Result<Expression, Error> {
    for (this, other) in [(&left, &right), (&right, &left)] {
        if matches!(this.kind, Kind::List | Kind::Pattern) {
            let remedy = if this.kind == Kind::List { "includes" } else { "=~" };
            let words = format!("`{by}` does not take {}; use `{remedy}`", this.kind);
            return Err(this.at.error(words));
        }
        if let (Kind::OneOf(words), Some(text)) = (this.kind, other.literal())
            && !words.contains(&text)
        {
            let words = format!("it is never {text:?}, only {}", words.join(", "));
            return Err(other.at.error(words));
        }
    }
    let plain = |kind| if matches!(kind, Kind::OneOf(_)) { Kind::Text } else { kind };
    let (ours, theirs) = (plain(left.kind), plain(right.kind));
    if ours != theirs && ours != Kind::Null && theirs != Kind::Null {
        let words = format!("`{by}` compares {ours} with {theirs}, which are never equal");
        return Err(right.at.error(words));
    }
    match (left.is, right.is) {
        (Operand::Expression(left), Operand::Expression(right)) => {
            Ok(Expression::Equal(Box::new([left, right])))
        }
        (Operand::Pattern(_), _) | (_, Operand::Pattern(_)) => {
            Err(left.at.error(format!("`{by}` does not take a regular expression; use `=~`")))
        }
    }
}

fn matches(left: Part, right: Part, by: &str) -> Result<Expression, Error> {
    let text = left.of(&[Kind::Text, Kind::Null], &format!("`{by}`"), "a text at its left")?;
    match right.is {
        Operand::Pattern(pattern) => Ok(Expression::Matches(Box::new(text), pattern)),
        Operand::Expression(_) => {
            let words =
                format!("`{by}` takes a regular expression at its right, such as /^v[0-9]/");
            Err(right.at.error(words))
        }
    }
}

fn includes(left: Part, right: Part) -> Result<Expression, Error> {
    let list = left.of(&[Kind::List, Kind::Null], "`includes`", "a list at its left")?;
    if let Operand::Pattern(pattern) = right.is {
        return Ok(Expression::IncludesMatch(Box::new(list), pattern));
    }
    let item = right.of(&[Kind::Text, Kind::Null], "`includes`", "a text at its right")?;
    Ok(Expression::Includes(Box::new([list, item])))
}
