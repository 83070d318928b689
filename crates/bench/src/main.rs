//! Measures `jitney run` against a sandbox and machines that are played, keeps the figures, and
//! renders `docs/performance.md` from them. Times are taken in those two and not in the program.
//!
//! `cargo run --release -p bench -- T1 T4` measures some, without names all but the long
//! ones. `… -- gate` compares processor time with what was recorded.

mod bare;
mod bare_jobs;
mod cores;
#[path = "../../planner/tests/it/crowd.rs"]
mod crowd;
mod figures;
mod gate;
mod host;
mod page;
mod plot;
mod pods;
mod process;
mod record;
mod stage;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use cluster::ControlPlane;

use cores::Cores;
use figures::{Figure, Measured};
use host::Setting;
use record::{Book, Record};

pub(crate) type Done<T> = Result<T, Box<dyn Error>>;

/// Measures Jitney against a sandbox, and keeps the figures in docs/performance.json
#[derive(Parser, Debug)]
#[command(args_conflicts_with_subcommands = true)]
struct Asked {
    /// Which figures; all but the long ones if none is named
    figures: Vec<Figure>,
    /// All long ones
    #[arg(long, conflicts_with = "figures")]
    long: bool,
    /// Runs of each, but for the long ones
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Only print them
    #[arg(long)]
    print: bool,
    /// The program that was built last, whatever is in the tree
    #[arg(long, requires = "print")]
    as_built: bool,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Fail where something takes more processor time than was recorded
    Gate(gate::Gate),
    /// Draw docs/performance.md anew from what is recorded
    Render,
    /// The loop that shows the floor of T2 and T3
    #[command(hide = true)]
    Bare(bare::Bare),
    /// The loop that shows the floor of K1
    #[command(hide = true)]
    BareJobs(bare_jobs::BareJobs),
}

fn main() -> ExitCode {
    buildkite::install_crypto_provider();
    let asked = Asked::parse();
    let done = match asked.other {
        Some(Other::Gate(asked)) => gate::gate(&asked),
        Some(Other::Render) => render(&Pages::of_repository()),
        Some(Other::Bare(asked)) => {
            runtime().and_then(|runtime| runtime.block_on(bare::run(asked)))
        }
        Some(Other::BareJobs(asked)) => {
            runtime().and_then(|runtime| runtime.block_on(bare_jobs::run(asked)))
        }
        None => measure(&asked),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Where figures are kept and shown.
#[derive(Debug)]
struct Pages {
    book: PathBuf,
    page: PathBuf,
    plot: PathBuf,
}

impl Pages {
    fn of_repository() -> Self {
        let docs = repository().join("docs");
        Self {
            book: docs.join("performance.json"),
            page: docs.join("performance.md"),
            plot: docs.join("performance.svg"),
        }
    }
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn measure(asked: &Asked) -> Done<()> {
    let figures = match asked.figures.as_slice() {
        [] if asked.long => &Figure::LONG[..],
        [] => &Figure::SHORT[..],
        named => named,
    };
    // A round is measured in this process.
    if !asked.as_built && figures.iter().any(|figure| *figure != Figure::Round) {
        build()?;
    }
    let cores = Cores::choose()?;
    let pages = Pages::of_repository();
    for figure in figures {
        if figure.is_of_pods()
            && let Err(absent) = ControlPlane::find()
        {
            let words = format!("{figure:?} is NOT MEASURED: {absent}");
            if !asked.figures.is_empty() {
                return Err(words.into());
            }
            println!("{words}");
            continue;
        }
        let setting = Setting::read(cores.apart() && !figure.is_of_pods())?;
        println!("{figure:?} {}: {}", figure.title(), setting.line());
        let measured = measure_one(*figure, cores, asked.runs.into())?;
        print!("{}", page::lines(&measured.lines));
        let record = Record { setting, lines: measured.lines, curves: measured.curves };
        if !asked.print {
            let mut book = Book::read(&pages.book)?;
            book.0.insert(*figure, record);
            record::write(&book, &pages.book)?;
            render(&pages)?;
        }
    }
    Ok(())
}

fn measure_one(figure: Figure, cores: Cores, runs: usize) -> Done<Measured> {
    let measure = || -> Result<Measured, String> {
        let runtime = runtime().map_err(|error| error.to_string())?;
        runtime.block_on(figure.measure(cores, runs)).map_err(|error| error.to_string())
    };
    let measured = if figure.is_of_pods() { measure() } else { cores.in_world(measure)? };
    Ok(measured?)
}

fn render(pages: &Pages) -> Done<()> {
    let book = Book::read(&pages.book)?;
    let shown = pages.page.display();
    let text = std::fs::read_to_string(&pages.page).map_err(|error| format!("{shown}: {error}"))?;
    std::fs::write(&pages.page, page::with_figures(&text, &book)?)?;
    if let Some(drawing) = plot::draw(&book) {
        std::fs::write(&pages.plot, drawing)?;
    }
    Ok(())
}

fn runtime() -> Done<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// The program as it is in the tree and as it is shipped, so that no figure is of another one.
pub(crate) fn build() -> Done<()> {
    if cfg!(debug_assertions) {
        return Err("figures of an unoptimised build say nothing: run it with --release".into());
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--profile", "dist", "--package", "jitney", "--bin", "jitney"]);
    let status = cargo.current_dir(repository()).status()?;
    if status.success() { Ok(()) } else { Err("the program could not be built".into()) }
}
