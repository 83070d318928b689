//! What may stand within a line of an annotation: `code`, **bold**, [links](https://…).

use maud::{Markup, html};

pub(super) fn draw(line: &str) -> Markup {
    html! { @for piece in pieces(line) { (of_piece(&piece)) } }
}

enum Piece<'a> {
    Text(&'a str),
    Code(&'a str),
    Bold(&'a str),
    Link { text: &'a str, to: &'a str },
}

fn of_piece(piece: &Piece<'_>) -> Markup {
    html! {
        @match piece {
            Piece::Text(text) => { (text) },
            Piece::Code(text) => { code { (text) } },
            Piece::Bold(text) => { b { (text) } },
            Piece::Link { text, to } => { a href=(to) rel="noreferrer" { (text) } },
        }
    }
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = line;
    let mut plain = 0;
    while let Some(at) = rest[plain..].find(['`', '*', '[']).map(|at| plain + at) {
        match special(&rest[at..]) {
            Some((piece, length)) => {
                pieces.push(Piece::Text(&rest[..at]));
                pieces.push(piece);
                rest = &rest[at + length..];
                plain = 0;
            }
            // Only a character: all of them are one byte long.
            None => plain = at + 1,
        }
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// What begins here, and how many bytes it takes.
fn special(text: &str) -> Option<(Piece<'_>, usize)> {
    if let Some(rest) = text.strip_prefix('`') {
        let end = rest.find('`').filter(|end| *end > 0)?;
        return Some((Piece::Code(&rest[..end]), end + 2));
    }
    if let Some(rest) = text.strip_prefix("**") {
        let end = rest.find("**").filter(|end| *end > 0)?;
        return Some((Piece::Bold(&rest[..end]), end + 4));
    }
    let rest = text.strip_prefix('[')?;
    let (words, rest) = rest.split_once("](")?;
    let (to, _) = rest.split_once(')')?;
    // Nothing that could run (`javascript:`) and nothing that changes with the page.
    let safe = ["https://", "http://", "/"].iter().any(|start| to.starts_with(start));
    safe.then_some((Piece::Link { text: words, to }, words.len() + to.len() + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(draw(line).into_string(), expected);
    }

    #[test]
    fn pieces_of_a_line() {
        check("plain", "plain");
        check("a `b<c>` d", "a <code>b&lt;c&gt;</code> d");
        check("a **b** c*d", "a <b>b</b> c*d");
        check("`open **and [not](closed", "`open **and [not](closed");
        check(
            "see [x](https://e.org/?a=1&b=2)!",
            "see <a href=\"https://e.org/?a=1&amp;b=2\" rel=\"noreferrer\">x</a>!",
        );
        check("[x](javascript:alert(1))", "[x](javascript:alert(1))");
        check(
            "[\"><img>](/\"onclick=\"x)",
            "<a href=\"/&quot;onclick=&quot;x\" rel=\"noreferrer\">&quot;&gt;&lt;img&gt;</a>",
        );
        check("ümläut `ß` ☃*", "ümläut <code>ß</code> ☃*");
    }
}
