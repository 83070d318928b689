//! The frame of every page: head, style, the row of links, and the few lines of script that fetch
//! a page anew while something on it still moves.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::wording::Tone;

const STYLE: &str = include_str!("pages.css");
const SCRIPT: &str = include_str!("pages.js");

/// Whether a page is fetched anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    Yes,
    No,
}

pub(super) fn page(title: &str, live: Live, main: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · sandbox" }
                style { (PreEscaped(STYLE)) }
                @if live == Live::Yes {
                    noscript { meta http-equiv="refresh" content="3"; }
                }
            }
            body {
                header {
                    a.home href="/" { "sandbox" }
                    nav {
                        a href="/" { "Builds" }
                        a href="/queues" { "Queues" }
                    }
                }
                main data-live[live == Live::Yes] { (main) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

/// A page that has nothing but a sentence.
pub(super) fn message(words: &str) -> Markup {
    page("Sorry", Live::No, html! { p.lead { (words) } p { a href="/" { "To the builds" } } })
}

pub(super) fn badge((tone, words): (Tone, &str)) -> Markup {
    html! { span.badge.(tone.class()) { (words) } }
}

/// A button that posts to the path.
pub(super) fn button(path: &str, words: &str) -> Markup {
    html! {
        form method="post" action=(path) { button type="submit" { (words) } }
    }
}
