//! A job's log as a page shows it: colours as classes, carriage returns as a terminal would show
//! them, and sections (`--- `, `+++ `, `~~~ `; `^^^ +++` opens the one before) that fold.

use maud::{Markup, html};

use super::layout::Live;

/// What is drawn of a long log: its end is what people look for.
const SHOWN_BYTES: usize = 1 << 20;

pub(super) fn draw(text: &str, live: Live) -> Markup {
    let (text, cut) = tail(text);
    let sections = sections(text);
    html! {
        div.log {
            @if sections.is_empty() {
                div.empty { (match live { Live::Yes => "Nothing yet.", Live::No => "There is none." }) }
            }
            @if cut > 0 { div.empty { "The first " (cut) " bytes are not shown." } }
            @for (n, section) in sections.iter().enumerate() { (of_section(section, n)) }
        }
    }
}

fn tail(text: &str) -> (&str, usize) {
    let Some(least) = text.len().checked_sub(SHOWN_BYTES) else { return (text, 0) };
    let from = text.as_bytes()[least..].iter().position(|byte| *byte == b'\n');
    let cut = from.map_or(0, |at| least + at + 1);
    (&text[cut..], cut)
}

#[derive(Debug, Default, PartialEq)]
struct Section<'a> {
    /// `None`: what stands before the first section.
    title: Option<&'a str>,
    open: bool,
    muted: bool,
    lines: Vec<&'a str>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines() {
        let line = shown(line);
        let bare = line.trim_start_matches('\u{1b}');
        let marked = |mark: &str| bare.strip_prefix(mark);
        if bare.starts_with("^^^ +++") {
            if let Some(section) = sections.last_mut() {
                section.open = true;
            }
        } else if let Some(title) = marked("--- ") {
            sections.push(Section { title: Some(title), ..Section::default() });
        } else if let Some(title) = marked("+++ ") {
            sections.push(Section { title: Some(title), open: true, ..Section::default() });
        } else if let Some(title) = marked("~~~ ") {
            sections.push(Section { title: Some(title), muted: true, ..Section::default() });
        } else {
            if sections.is_empty() {
                sections.push(Section { open: true, ..Section::default() });
            }
            if let Some(section) = sections.last_mut() {
                section.lines.push(line);
            }
        }
    }
    // A log with nothing open says nothing: its last section is the one to look at.
    if let Some(last) = sections.last_mut() {
        last.open = true;
    }
    sections
}

/// A line as it stands after its carriage returns: only what was written last.
fn shown(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    line.rsplit('\r').next().unwrap_or(line)
}

fn of_section(section: &Section<'_>, number: usize) -> Markup {
    let body = html! {
        @if !section.lines.is_empty() {
            pre { @for line in &section.lines { (of_line(line)) "\n" } }
        }
    };
    html! {
        @match section.title {
            None => { (body) },
            Some(title) => {
                details.muted[section.muted] id={ "log-" (number) } open[section.open] {
                    summary { (of_line(title)) }
                    (body)
                }
            },
        }
    }
}

/// How the next characters look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    ink: Option<u8>,
    ground: Option<u8>,
}

impl Look {
    fn classes(self) -> String {
        let mut classes: Vec<String> = Vec::new();
        let flags = [(self.bold, "b"), (self.dim, "d"), (self.italic, "i"), (self.underline, "u")];
        classes.extend(flags.iter().filter(|(on, _)| *on).map(|(_, class)| (*class).to_owned()));
        classes.extend(self.ink.map(|n| format!("c{n}")));
        classes.extend(self.ground.map(|n| format!("g{n}")));
        classes.join(" ")
    }

    /// Takes in one `ESC [ … m`.
    fn set(&mut self, codes: &str) {
        let mut codes = codes.split([';', ':']).map(|code| code.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                30..=37 => self.ink = digit(code - 30),
                90..=97 => self.ink = digit(code - 90),
                40..=47 => self.ground = digit(code - 40),
                100..=107 => self.ground = digit(code - 100),
                39 => self.ink = None,
                49 => self.ground = None,
                38 => self.ink = wide(&mut codes),
                48 => self.ground = wide(&mut codes),
                _ => {}
            }
        }
    }
}

fn digit(code: u16) -> Option<u8> {
    u8::try_from(code).ok()
}

/// `5;n` or `2;r;g;b`: the nearest of the eight, where one of the first sixteen is meant.
fn wide(codes: &mut impl Iterator<Item = u16>) -> Option<u8> {
    match codes.next()? {
        5 => codes.next().filter(|n| *n < 16).and_then(|n| digit(n % 8)),
        2 => {
            let mut bit = || codes.next().map_or(0, |part| u8::from(part >= 128));
            let (red, green, blue) = (bit(), bit(), bit());
            Some(red | green << 1 | blue << 2)
        }
        _ => None,
    }
}

fn of_line(line: &str) -> Markup {
    html! {
        @for (look, text) in runs(line) {
            @if look == Look::default() { (text) } @else { span class=(look.classes()) { (text) } }
        }
    }
}

/// The line cut where its look changes; other control sequences are dropped.
fn runs(line: &str) -> Vec<(Look, &str)> {
    let mut runs = Vec::new();
    let mut look = Look::default();
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        if at > 0 {
            runs.push((look, &rest[..at]));
        }
        let (codes, after) = sequence(&rest[at + 1..]);
        if let Some(codes) = codes {
            look.set(codes);
        }
        rest = after;
    }
    if !rest.is_empty() {
        runs.push((look, rest));
    }
    runs
}

/// What follows an ESC: the codes of `[ … m`, and where the text goes on.
fn sequence(text: &str) -> (Option<&str>, &str) {
    if let Some(rest) = text.strip_prefix('[') {
        let Some(end) = rest.find(|c: char| ('\u{40}'..='\u{7e}').contains(&c)) else {
            return (None, "");
        };
        let after = &rest[end + 1..];
        return (rest[end..].starts_with('m').then_some(&rest[..end]), after);
    }
    if text.starts_with([']', '_', 'P', '^']) {
        let after = text.find('\u{7}').map_or("", |end| &text[end + 1..]);
        return (None, after);
    }
    let mut chars = text.chars();
    chars.next();
    (None, chars.as_str())
}

#[cfg(test)]
mod tests;
