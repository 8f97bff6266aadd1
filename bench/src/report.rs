//! What was measured, as a table for people and as JSON.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::database::Kind;
use crate::machine::Machine;
use crate::stats::median;

/// Examples that are kept of what was wrong. The thousandth tells no more than the first.
const EXAMPLES: usize = 3;

/// All that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    /// Whether it was cut short, so that its figures mean nothing.
    quick: bool,
    /// What is being measured on.
    #[serde(skip)]
    kind: Kind,
    figures: Vec<Measured>,
    wrong: Vec<Finding>,
}

/// A figure, and what the server had its users in.
#[derive(Debug, Serialize)]
struct Measured {
    database: Kind,
    #[serde(flatten)]
    figure: Figure,
}

/// One line of the table: a value for each round.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    section: &'static str,
    name: String,
    unit: &'static str,
    rounds: Vec<f64>,
    median: f64,
    min: f64,
    max: f64,
    target: Option<Target>,
    met: Option<bool>,
}

/// What the median should be. A machine that others use as well may miss it at any time.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    Between(f64, f64),
}

/// Answers that were not what they should have been.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Wrong {
    count: usize,
    examples: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Finding {
    section: &'static str,
    database: Kind,
    #[serde(flatten)]
    wrong: Wrong,
}

impl Report {
    pub(crate) fn new(machine: Machine, quick: bool) -> Self {
        Self { machine, quick, kind: Kind::Sqlite, figures: Vec::new(), wrong: Vec::new() }
    }

    /// What is added from now on was measured on that.
    pub(crate) fn turn_to(&mut self, kind: Kind) {
        self.kind = kind;
    }

    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(Measured { database: self.kind, figure });
    }

    /// Takes what was wrong, if anything was.
    pub(crate) fn blame(&mut self, section: &'static str, wrong: Wrong) {
        if wrong.count > 0 {
            self.wrong.push(Finding { section, database: self.kind, wrong });
        }
    }

    pub(crate) fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// The machine, the table, and what was wrong below it.
    pub(crate) fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| self.measured_on(*kind)).collect();
        let heads = kinds.iter().flat_map(|kind| [kind.to_string(), "min … max".to_owned(), String::new()]);
        table.set_header(
            ["", "", ""].map(str::to_owned).into_iter().chain(heads).chain(["target".to_owned()]),
        );
        table.add_rows(self.rows(&kinds));
        let numbers = (0..kinds.len()).flat_map(|kind| [3 + 3 * kind, 4 + 3 * kind]);
        for column in numbers {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines = table.lines().map(|line| line.trim_end().to_owned());
        let wrong = self.wrong.iter().flat_map(Finding::lines);
        [self.machine.text()].into_iter().chain(lines).chain(wrong).collect::<Vec<_>>().join("\n")
    }

    fn measured_on(&self, kind: Kind) -> bool {
        self.figures.iter().any(|it| it.database == kind)
    }

    /// A row for each figure, in the order in which they came first.
    fn rows(&self, kinds: &[Kind]) -> Vec<Vec<String>> {
        let mut figures: Vec<&Figure> = Vec::new();
        for Measured { figure, .. } in &self.figures {
            if !figures.iter().any(|other| other.is_the_same_as(figure)) {
                figures.push(figure);
            }
        }
        let on = |figure: &Figure, kind| {
            let is_it = |it: &&Measured| it.database == kind && it.figure.is_the_same_as(figure);
            self.figures.iter().find(is_it).map_or_else(Default::default, |it| it.figure.cells())
        };
        let row = |figure: &&Figure| {
            let target = figure.target.map_or_else(String::new, Target::text);
            let head = [figure.section.to_owned(), figure.name.clone(), figure.unit.to_owned()];
            head.into_iter().chain(kinds.iter().flat_map(|kind| on(figure, *kind))).chain([target]).collect()
        };
        figures.iter().map(row).collect()
    }
}

impl Figure {
    pub(crate) fn new(
        section: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        rounds: Vec<f64>,
    ) -> Self {
        let (median, name) = (median(&rounds), name.into());
        let min = rounds.iter().copied().fold(f64::NAN, f64::min);
        let max = rounds.iter().copied().fold(f64::NAN, f64::max);
        Self { section, name, unit, rounds, median, min, max, target: None, met: None }
    }

    pub(crate) fn with_target(self, target: Target) -> Self {
        Self { met: Some(target.is_met_by(self.median)), target: Some(target), ..self }
    }

    /// Whether it says the same, if of another database.
    fn is_the_same_as(&self, other: &Self) -> bool {
        (self.section, &self.name) == (other.section, &other.name)
    }

    /// The median, the spread and the verdict.
    fn cells(&self) -> [String; 3] {
        let spread = format!("{} … {}", digits(self.min), digits(self.max));
        let verdict = self.met.map_or("", |met| if met { "met" } else { "missed" });
        let spread = if self.rounds.len() > 1 { spread } else { String::new() };
        [digits(self.median), spread, verdict.to_owned()]
    }
}

impl Target {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Between(least, most) => (least..=most).contains(&value),
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
            Self::Between(least, most) => format!("{least} … {most}"),
        }
    }
}

impl Wrong {
    pub(crate) fn one(what: String) -> Self {
        Self { count: 1, examples: vec![what] }
    }

    pub(crate) fn add(&mut self, what: String) {
        self.absorb(Self::one(what));
    }

    pub(crate) fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl Finding {
    fn lines(&self) -> Vec<String> {
        let Self { section, database, wrong: Wrong { count, examples } } = self;
        let head = format!("WRONG in {section} on {database} ({count}):");
        [head].into_iter().chain(examples.iter().map(|example| format!("    {example}"))).collect()
    }
}

/// Three digits, as far as there is anything behind the point; what was never measured is a dash.
fn digits(value: f64) -> String {
    match value.abs() {
        none if none.is_nan() => "–".to_owned(),
        large if large >= 100.0 || large.fract() <= 0.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(rounds: &[f64]) -> Figure {
        Figure::new("logins", "logins", "×", rounds.to_vec())
    }

    #[test]
    fn a_target_is_met_by_the_median_alone_and_never_by_nothing() {
        let met = |rounds: &[f64], target| figure(rounds).with_target(target).met;

        assert_eq!(met(&[1.0, 2.5, 9.0], Target::AtLeast(2.5)), Some(true));
        assert_eq!(met(&[1.0, 2.4, 9.0], Target::AtLeast(2.5)), Some(false));
        assert_eq!(met(&[1.0, 2.4, 9.0], Target::AtMost(2.4)), Some(true));
        assert_eq!(met(&[0.39], Target::Between(0.4, 0.6)), Some(false));
        assert_eq!(met(&[0.6], Target::Between(0.4, 0.6)), Some(true));
        for target in [Target::AtLeast(0.0), Target::AtMost(0.0), Target::Between(0.0, 1.0)] {
            assert_eq!(met(&[], target), Some(false));
        }
    }

    #[test]
    fn a_report_is_right_until_somebody_is_to_blame() {
        let mut report = Report::new(Machine::survey(), true);
        report.add(figure(&[1.0]).with_target(Target::AtLeast(2.0)));
        report.blame("logins", Wrong::default());
        assert!(report.is_right());

        let mut wrong = Wrong::default();
        (0..9).for_each(|n| wrong.add(format!("answer {n}")));
        report.blame("logins", wrong);

        assert!(!report.is_right());
        let text = report.text();
        assert!(text.contains("WRONG in logins on SQLite (9):\n    answer 0\n"), "{text}");
        assert!(text.ends_with("answer 2") && text.contains("missed"), "{text}");
    }

    #[test]
    fn what_was_measured_on_both_databases_stands_side_by_side() {
        let mut report = Report::new(Machine::survey(), true);
        let add = |report: &mut Report, name, median| {
            report.add(Figure::new("logins", name, "/s", vec![median]).with_target(Target::AtLeast(2.0)));
        };
        add(&mut report, "of one", 3.25);
        report.turn_to(Kind::Postgres);
        add(&mut report, "of one", 1.75);
        add(&mut report, "of two", 2.25);

        let text = report.text();
        let words: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        let head = ["SQLite", "min", "…", "max", "PostgreSQL", "min", "…", "max", "target"];
        assert_eq!(words[0], head);
        assert_eq!(words[1], ["logins", "of", "one", "/s", "3.25", "met", "1.75", "missed", "≥", "2"]);
        assert_eq!(words[2], ["logins", "of", "two", "/s", "2.25", "met", "≥", "2"]);
    }

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let numbers = [0.0, 3.0, 2.34567, 23.4567, 234.567, f64::NAN];
        assert_eq!(numbers.map(digits), ["0", "3", "2.35", "23.5", "235", "–"]);
    }
}
