//! Where an answer is shown: how wide it is and whether it has colours. Scripts get neither
//! colours nor line drawing that depends on a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use comfy_table::{ContentArrangement, Table};
use owo_colors::{OwoColorize, Style};

use super::Environment;

/// For what is no terminal, and for terminals that do not say.
const USUAL_WIDTH: usize = 100;
const LEAST_WIDTH: usize = 40;

/// What stands in a table where there is nothing to say.
pub(crate) const NOTHING: &str = "-";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// A person reads along.
    pub(crate) terminal: bool,
    pub(crate) colour: bool,
    pub(crate) width: usize,
}

impl Screen {
    pub(super) fn stdout(environment: &Environment) -> Self {
        Self::of(&io::stdout(), environment)
    }

    pub(super) fn stderr(environment: &Environment) -> Self {
        Self::of(&io::stderr(), environment)
    }

    fn of(stream: &(impl IsTerminal + AsFd), environment: &Environment) -> Self {
        let terminal = stream.is_terminal();
        let said = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let plain = said("NO_COLOR").is_some() || said("TERM").is_some_and(|term| term == "dumb");
        let measured = rustix::termios::tcgetwinsize(stream).ok().map(|size| size.ws_col.into());
        let told = said("COLUMNS").and_then(|columns| columns.parse().ok());
        let width = measured.filter(|width| *width > 0).or(told).unwrap_or(USUAL_WIDTH);
        Self { terminal, colour: terminal && !plain, width: width.max(LEAST_WIDTH) }
    }

    fn paint(self, text: impl Display, style: Style) -> String {
        if self.colour { text.style(style).to_string() } else { text.to_string() }
    }

    pub(crate) fn good(self, text: impl Display) -> String {
        self.paint(text, Style::new().green())
    }

    pub(crate) fn bad(self, text: impl Display) -> String {
        self.paint(text, Style::new().red().bold())
    }

    pub(crate) fn warn(self, text: impl Display) -> String {
        self.paint(text, Style::new().yellow())
    }

    pub(crate) fn strong(self, text: impl Display) -> String {
        self.paint(text, Style::new().bold())
    }

    pub(crate) fn faint(self, text: impl Display) -> String {
        self.paint(text, Style::new().dimmed())
    }

    /// Columns without lines around them, as wide as the screen allows. A column in which no row
    /// says anything is left out.
    pub(crate) fn table<const N: usize>(
        self,
        heads: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> String {
        let rows: Vec<[String; N]> = rows.into_iter().collect();
        let says =
            |column: &usize| rows.is_empty() || rows.iter().any(|row| row[*column] != NOTHING);
        let columns: Vec<usize> = (0..N).filter(says).collect();
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(self.width).unwrap_or(u16::MAX));
        table.set_header(columns.iter().map(|column| heads[*column].to_uppercase()));
        for row in &rows {
            table.add_row(columns.iter().map(|column| row[*column].as_str()));
        }
        if let Some(first) = table.column_mut(0) {
            first.set_padding((0, 1));
        }
        let lines: Vec<String> =
            table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        let (head, rest) = lines.split_first().expect("a table has a head");
        self.faint(head.trim_end()) + "\n" + &rest.concat()
    }
}
