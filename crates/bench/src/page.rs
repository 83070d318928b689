//! The figures as people read them: lines on a terminal, a table between two marks of
//! `docs/performance.md`. Everything that it writes comes from a record.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Done;
use crate::figures::Figure;
use crate::record::{Book, Bound, Line, Record, Side, Statistic};

const BEGIN: &str = "<!-- figures: made by `make bench` -->";
const END: &str = "<!-- end of figures -->";

/// The page with what stands between the marks replaced.
///
/// # Errors
/// A page that lacks one of the marks.
pub(crate) fn with_figures(page: &str, book: &Book) -> Done<String> {
    let missing = |mark| format!("the page has no `{mark}`: put it back");
    let (before, rest) = page.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    let (table, settings) = (table(book), settings(book));
    Ok(format!("{before}{BEGIN}\n{table}\n{settings}{END}{after}"))
}

/// For a terminal.
pub(crate) fn lines(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let all = &line.all;
        let [p50, p90, p99, least, most] =
            [all.p50, all.p90, all.p99, all.least, all.most].map(number);
        let (what, unit) = (&line.what, line.unit.word());
        let _ = writeln!(
            text,
            "  {what}: p50 {p50} {unit}, p90 {p90}, p99 {p99}, {least} to {most} in {} samples of \
             {} runs{}",
            all.count,
            line.runs.len(),
            match line.reached() {
                Some(true) => format!("; reached: {}", reach(line)),
                Some(false) => format!("; NOT reached: {}", reach(line)),
                None => String::new(),
            }
        );
    }
    text
}

fn table(book: &Book) -> String {
    let mut text = "| | | p50 | p90 | p99 | worst | of | to reach | | agent-stack-k8s 0.47 |\n\
                    |---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (figure, Record { lines, .. }) in &book.0 {
        let (mut first, mut title) = (format!("**{figure:?}**"), format!("{}: ", figure.title()));
        for line in lines {
            row(&mut text, &first, &title, line, peer(*figure, &line.what));
            first.clear();
            title.clear();
        }
    }
    text
}

fn row(text: &mut String, first: &str, title: &str, line: &Line, peer: &str) {
    let (all, unit) = (&line.all, line.unit.word());
    let at_least = line.reach.iter().any(|bound| bound.side == Side::AtLeast);
    let worst = number(if at_least { all.least } else { all.most });
    let [p50, p90, p99] = [all.p50, all.p90, all.p99].map(number);
    // A handful of samples has no tail beyond its worst.
    let (p90, p99) = if all.count < 20 { ("".into(), "".into()) } else { (p90, p99) };
    let verdict = match line.reached() {
        Some(true) => "reached",
        Some(false) => "**not reached**",
        None => "",
    };
    let of = match line.runs.as_slice() {
        [_] if all.count == 1 => "1 run".to_owned(),
        runs if all.count == runs.len() => format!("{} runs", runs.len()),
        runs => format!("{} in {} runs", all.count, runs.len()),
    };
    let (what, reach) = (&line.what, reach(line));
    let _ = writeln!(
        text,
        "| {first} | {title}{what} | {p50} {unit} | {p90} | {p99} | {worst} | {of} | {reach} | \
         {verdict} | {peer} |"
    );
}

/// What was measured of the peer with the same delays, as `docs/performance.md` says how.
fn peer(figure: Figure, what: &str) -> &'static str {
    match (figure, what) {
        (Figure::T2, "1000 jobs: the last create") => "98.9 s as shipped, 2.3 s tuned",
        (Figure::T2, "5000 jobs: the last create") => "9.4 s tuned",
        (Figure::K1, "controllers as shipped: the last Job") => "3.4 s tuned",
        (Figure::T9, "memory, idle") => "67 MB",
        (Figure::T9, "peak memory, 5000 in flight") => "226 to 352 MB",
        (
            Figure::T1
            | Figure::T2
            | Figure::T3
            | Figure::T4
            | Figure::T5
            | Figure::T9
            | Figure::T10
            | Figure::T12
            | Figure::K1
            | Figure::K2
            | Figure::K3
            | Figure::K4
            | Figure::K5
            | Figure::V1
            | Figure::V2
            | Figure::Round
            | Figure::Idle
            | Figure::Steady
            | Figure::Row,
            _,
        ) => "",
    }
}

fn reach(line: &Line) -> String {
    let one = |bound: &Bound| {
        let of = match bound.of {
            Statistic::Median => "p50",
            Statistic::P99 => "p99",
            Statistic::Worst => "each",
        };
        let side = match bound.side {
            Side::AtMost => "≤",
            Side::AtLeast => "≥",
        };
        format!("{of} {side} {}", number(bound.limit))
    };
    line.reach.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Which figures were measured where and when.
fn settings(book: &Book) -> String {
    let mut sittings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (figure, record) in &book.0 {
        sittings.entry(record.setting.line()).or_default().push(format!("{figure:?}"));
    }
    sittings.iter().fold(String::new(), |mut text, (setting, figures)| {
        let _ = writeln!(text, "- {}: {setting}.", figures.join(", "));
        text
    })
}

/// Three digits say all that such a measurement can.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Setting;
    use crate::record::Unit;

    fn book() -> Book {
        let reach = [Bound::at_most(Statistic::Median, 1_000.0)];
        let runs = [vec![900.0], vec![1_234.5], vec![1_500.0]];
        let what = "1000 jobs: the last create";
        let line = Line::new(what, Unit::Millis, &reach, &runs).unwrap();
        let setting = Setting {
            at: "2026-11-27 05:00".into(),
            commit: "abc".into(),
            processor: "Some Processor".into(),
            cores: 2,
            apart: true,
            kernel: "6.1".into(),
            memory: "8.0 GiB".into(),
            load: "0.10".into(),
        };
        Book([(Figure::T2, Record { setting, lines: vec![line], curves: vec![] })].into())
    }

    #[test]
    fn a_page_keeps_its_words_and_gets_the_figures() {
        let page = format!("# Words\n{BEGIN}\nold\n{END}\nmore\n");
        let expected = format!(
            "# Words\n{BEGIN}\n\
             | | | p50 | p90 | p99 | worst | of | to reach | | agent-stack-k8s 0.47 |\n\
             |---|---|---|---|---|---|---|---|---|---|\n\
             | **T2** | many jobs at once → creates: 1000 jobs: the last create | 1234 ms |  |  | \
             1500 | 3 runs | p50 ≤ 1000 | **not reached** | 98.9 s as shipped, 2.3 s tuned |\n\n\
             - T2: 2026-11-27 05:00 UTC, commit abc; 2 cores of Some Processor, 8.0 GiB, \
             Linux 6.1, load average 0.10 at the start.\n{END}\nmore\n"
        );
        assert_eq!(with_figures(&page, &book()).unwrap(), expected);
        assert_eq!(with_figures(&expected, &book()).unwrap(), expected, "once more");
        let error = with_figures("# No marks\n", &book()).unwrap_err().to_string();
        assert!(error.contains(BEGIN), "{error}");
    }

    #[test]
    fn what_is_kept_reads_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("performance.json");
        assert_eq!(Book::read(&path).unwrap(), Book::default());
        crate::record::write(&book(), &path).unwrap();
        assert_eq!(Book::read(&path).unwrap(), book());
        std::fs::write(&path, "{").unwrap();
        let error = Book::read(&path).unwrap_err().to_string();
        assert!(error.contains("performance.json: EOF"), "{error}");
    }

    /// The page of the repository is what its record renders to.
    #[test]
    fn the_page_shows_what_is_kept() {
        let docs = crate::repository().join("docs");
        let page = std::fs::read_to_string(docs.join("performance.md")).unwrap();
        let book = Book::read(&docs.join("performance.json")).unwrap();
        let words = "`cargo run --release -p bench -- render` draws it anew";
        assert_eq!(with_figures(&page, &book).unwrap(), page, "{words}");
        let plot = std::fs::read_to_string(docs.join("performance.svg")).unwrap();
        assert_eq!(crate::plot::draw(&book).unwrap(), plot, "{words}");
    }
}
