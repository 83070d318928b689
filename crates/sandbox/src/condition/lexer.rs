//! A condition's text as words, operators and literals, each with its place. It knows no grammar.

use std::iter::Peekable;
use std::str::Chars;

use super::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    pub(super) fn error(self, words: impl Into<String>) -> Error {
        Error { words: words.into(), line: self.line, column: self.column }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name with its dots, `true`, `includes`.
    Word(String),
    Number(i64),
    Text(String),
    Pattern {
        source: String,
        ignore_case: bool,
    },
    /// `==`, `&&`, `(` and the like.
    Sign(&'static str),
    End,
}

impl Token {
    /// How messages call it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Number(number) => format!("`{number}`"),
            Self::Text(text) => format!("the text {text:?}"),
            Self::Pattern { source, .. } => format!("the regular expression `/{source}/`"),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// All tokens, with `End` as the last.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Place)>, Error> {
    let mut lexer = Lexer { chars: text.chars().peekable(), at: Place { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let at = lexer.at;
        let Some(first) = lexer.next() else {
            tokens.push((Token::End, at));
            return Ok(tokens);
        };
        if first == '/' && lexer.peek() == Some('/') {
            while lexer.peek().is_some_and(|c| c != '\n') {
                lexer.next();
            }
            continue;
        }
        tokens.push((lexer.token(first, at)?, at));
    }
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    at: Place,
}

impl Lexer<'_> {
    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if c == '\n' {
            self.at = Place { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    /// Takes the character if it is the next one.
    fn takes(&mut self, c: char) -> bool {
        self.peek() == Some(c) && self.next().is_some()
    }

    fn take_while(&mut self, mut into: String, fits: impl Fn(char) -> bool) -> String {
        while let Some(c) = self.peek().filter(|c| fits(*c)) {
            into.push(c);
            self.next();
        }
        into
    }

    fn skip_blanks(&mut self) {
        self.take_while(String::new(), char::is_whitespace);
    }

    fn token(&mut self, first: char, at: Place) -> Result<Token, Error> {
        match first {
            '"' | '\'' => self.text(first, at),
            '/' => self.pattern(at),
            '0'..='9' => {
                let digits = self.take_while(first.to_string(), |c| c.is_ascii_digit());
                let number = digits.parse();
                number.map(Token::Number).map_err(|_| at.error(format!("{digits} is too large")))
            }
            'a'..='z' | 'A'..='Z' | '_' => Ok(self.word(first)),
            _ => self.sign(first, at),
        }
    }

    fn word(&mut self, first: char) -> Token {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        Token::Word(self.take_while(first.to_string(), is_part))
    }

    fn sign(&mut self, first: char, at: Place) -> Result<Token, Error> {
        let sign = match first {
            '(' => "(",
            ')' => ")",
            '[' => "[",
            ']' => "]",
            ',' => ",",
            '!' if self.takes('=') => "!=",
            '!' if self.takes('~') => "!~",
            '!' => "!",
            '=' if self.takes('=') => "==",
            '=' if self.takes('~') => "=~",
            '&' if self.takes('&') => "&&",
            '|' if self.takes('|') => "||",
            '=' | '&' | '|' => {
                let double = format!("{first}{first}");
                return Err(at.error(format!("`{first}` means nothing; did you mean `{double}`?")));
            }
            '$' => {
                let words = "a variable is written build.env(\"NAME\"), without `$`";
                return Err(at.error(words));
            }
            _ => return Err(at.error(format!("`{first}` means nothing in a condition"))),
        };
        Ok(Token::Sign(sign))
    }

    fn text(&mut self, quote: char, at: Place) -> Result<Token, Error> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                '\\' => match self.next() {
                    Some('n') if quote == '"' => text.push('\n'),
                    Some('t') if quote == '"' => text.push('\t'),
                    Some(c @ ('\\' | '\'' | '"' | '$')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => break,
                },
                _ if c == quote => return Ok(Token::Text(text)),
                _ => text.push(c),
            }
        }
        Err(at.error(format!("this text has no closing {quote}")))
    }

    fn pattern(&mut self, at: Place) -> Result<Token, Error> {
        let mut source = String::new();
        loop {
            match self.next() {
                Some('\\') if self.takes('/') => source.push('/'),
                Some('\\') => {
                    source.push('\\');
                    source.extend(self.next());
                }
                Some('/') => break,
                Some('\n') | None => {
                    return Err(at.error("this regular expression has no closing /"));
                }
                Some(c) => source.push(c),
            }
        }
        let flags = self.take_while(String::new(), |c| c.is_ascii_alphabetic());
        match flags.as_str() {
            "" | "i" => Ok(Token::Pattern { source, ignore_case: flags == "i" }),
            _ => {
                let words = format!("`{flags}` is no flag of a regular expression, only `i` is");
                Err(at.error(words))
            }
        }
    }
}
