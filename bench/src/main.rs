//! What the server does in a second, as ratios to yardsticks of the same run.
//!
//! A figure of its own tells more of the machine and of what else runs on it than of the server. So each is
//! taken in turn with that of a yardstick, the `bcrypt` crate or a handler that does nothing, and what counts
//! is the ratio. The server is the real one, in a process of its own, and every answer is looked at: a server
//! is not fast that answers the wrong thing.
//!
//! Start reading at a section, `sections/logins.rs` for one; `load` makes the requests, `callers` judges the
//! answers, `yardstick` is what they are held against.

mod ambient;
mod callers;
mod client;
mod database;
mod load;
mod machine;
mod report;
mod sections;
mod server;
mod stats;
mod traces;
mod yardstick;

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::database::{Kind, Place};
use crate::machine::{Machine, Work};
use crate::report::{Figure, Report, Wrong};
use crate::sections::{Bench, Plan, Section};
use crate::yardstick::BareHandler;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Measures the server against yardsticks of the same run, and prints the ratios.
///
/// Each line is the median of some rounds, with the smallest and the greatest. Beside it stands its target, if
/// it has one, and whether it was met.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    after_help = "The exit code is 1 when an answer was wrong or could not be had, and 0 otherwise. A target \
                  that was missed does not count: a machine that others use as well misses some."
)]
struct Options {
    /// Also measure with ten million users, which takes 2 GB of disk
    #[arg(long)]
    full: bool,
    /// Measure this and nothing else; may be said several times
    #[arg(long, value_name = "SECTION")]
    only: Vec<Section>,
    /// Measure on this database and on no other; by default on SQLite, and on PostgreSQL if it is installed
    #[arg(long, value_name = "DATABASE")]
    database: Option<Kind>,
    /// How often each figure is taken
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Take one short round, to see whether it works; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// The server; by default the `auth-api` beside this program
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Where to write the figures as JSON
    #[arg(long, value_name = "PATH", default_value = "target/bench.json")]
    json: PathBuf,
    #[command(subcommand)]
    yardstick: Option<Yardstick>,
}

#[derive(Debug, Subcommand)]
enum Yardstick {
    #[command(name = BareHandler::COMMAND, hide = true)]
    BareHandler { body: String },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let right = match options.yardstick {
        Some(Yardstick::BareHandler { body }) => {
            yardstick::serve_bare(body).map(|()| true).map_err(Into::into)
        }
        None => run(&options),
    };
    match right {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every answer was right.
fn run(options: &Options) -> Result<bool> {
    let auth_api = match &options.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("auth-api"),
    };
    if !auth_api.is_file() {
        return Err(format!("there is no {}; build it, or say --server PATH", auth_api.display()).into());
    }
    // Before ten minutes are spent on what could not be written then.
    let json = create(&options.json)?;
    traces::wipe_when_interrupted()?;
    let machine = Machine::survey();
    let plan = Plan { rounds: options.rounds, quick: options.quick, full: options.full };
    let places = places(options.database)?;
    let mut report = Report::new(machine, options.quick);
    let begun = ambient::now();
    for section in Section::ALL {
        if !options.only.is_empty() && !options.only.contains(&section) {
            continue;
        }
        // One after the other in each section, so that both have the same weather.
        for place in &places {
            report.turn_to(place.kind());
            let mut bench = Bench { auth_api: auth_api.clone(), place: place.clone(), plan, report };
            measure(section, &mut bench);
            report = bench.report;
        }
    }
    eprintln!("measured in {} s", begun.elapsed().as_secs());

    print(&report);
    serde_json::to_writer_pretty(json, &report)?;
    eprintln!("written to {}", options.json.display());
    Ok(report.is_right())
}

/// Where there can be databases.
fn places(wanted: Option<Kind>) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| wanted.is_none_or(|wanted| wanted == *kind)) {
        match kind.start() {
            Ok(place) => places.push(place),
            Err(error) if wanted.is_some() => return Err(error.into()),
            Err(error) => eprintln!("nothing is measured on {kind}: {error}"),
        }
    }
    Ok(places)
}

fn create(path: &Path) -> Result<File> {
    let fail = |error| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    Ok(File::create(path).map_err(fail)?)
}

fn measure(section: Section, bench: &mut Bench) {
    let before = Work::so_far();
    // The other sections may still be measured, and what was measured is not lost.
    if let Err(error) = section.measure(bench) {
        bench.report.blame(section.name(), Wrong::one(error.to_string()));
    }
    // Where this is much, the figures above are worth little: the server's hashing threads give way to others.
    if let (Some(before), Some(after)) = (before, Work::so_far()) {
        let taken = vec![after.percent_of_others(before)];
        let others = match bench.place.kind() {
            Kind::Sqlite => "what others took of the cores meanwhile",
            Kind::Postgres => "what others and the database took of the cores meanwhile",
        };
        bench.report.add(Figure::new(section.name(), others, "%", taken));
    }
}

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn print(report: &Report) {
    println!("{}", report.text());
}
