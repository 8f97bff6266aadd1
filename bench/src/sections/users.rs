//! Whether a login takes longer among a million users than among a thousand.

use crate::Result;
use crate::ambient::{now, shuffle};
use crate::callers;
use crate::client::Connection;
use crate::database::name;
use crate::report::{Figure, Target};
use crate::sections::{Bench, token};
use crate::server::Server;
use crate::stats::{median, milliseconds};

pub(super) const NAME: &str = "users";

const COST: u32 = 10;
const POPULATIONS: [(usize, &str); 3] =
    [(1000, "a thousand"), (1_000_000, "a million"), (10_000_000, "ten million")];

/// Users who log in in each round, spread over all there are.
const LOGINS: usize = 60;

/// How often each of them then asks who they are.
const QUESTIONS: usize = 5;

/// A server among so many users.
struct Town {
    users: usize,
    label: &'static str,
    server: Server,
    connection: Connection,
    visit: Visit,
    /// The median of each round.
    logins: Vec<f64>,
    questions: Vec<f64>,
}

/// One round in a town: how many milliseconds everything took, and the tokens of those who are logged in.
#[derive(Default)]
struct Visit {
    logins: Vec<f64>,
    questions: Vec<f64>,
    tokens: Vec<(String, String)>,
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let populations = if bench.plan.full { &POPULATIONS[..] } else { &POPULATIONS[..2] };
    let towns: Result<Vec<Town>> =
        populations.iter().map(|(users, label)| Town::found(bench, *users, label)).collect();
    let mut towns = towns?;
    for round in 0..bench.plan.rounds() {
        bench.progress(NAME, "logins one at a time, in turn", round);
        visit(&mut towns, bench.plan.many(LOGINS))?;
    }
    report(bench, &towns);
    towns.into_iter().try_for_each(|town| town.server.stop())
}

/// Does everything in every town before the next thing, so that what disturbs the machine disturbs all.
fn visit(towns: &mut [Town], logins: usize) -> Result<()> {
    let mut turns: Vec<usize> = (0..logins).collect();
    shuffle(&mut turns)?;
    for turn in turns {
        towns.iter_mut().try_for_each(|town| town.log_in(1 + turn * town.users / logins))?;
    }
    for turn in 0..logins * QUESTIONS {
        towns.iter_mut().try_for_each(|town| town.ask(turn % logins))?;
    }
    towns.iter_mut().for_each(Town::leave);
    Ok(())
}

fn report(bench: &mut Bench, towns: &[Town]) {
    for Town { label, logins, questions, .. } in towns {
        bench.report.add(Figure::new(NAME, format!("{label}: login p50"), "ms", logins.clone()));
        bench.report.add(Figure::new(NAME, format!("{label}: me p50"), "ms", questions.clone()));
    }
    let Some((village, cities)) = towns.split_first() else { return };
    for city in cities {
        let against = format!("{} ÷ {}", city.label, village.label);
        let logins = ratios(&city.logins, &village.logins);
        let logins = Figure::new(NAME, format!("{against}: login p50"), "×", logins);
        bench.report.add(logins.with_target(Target::AtMost(1.1)));
        let questions = ratios(&city.questions, &village.questions);
        bench.report.add(Figure::new(NAME, format!("{against}: me p50"), "×", questions));
    }
}

impl Town {
    fn found(bench: &Bench, users: usize, label: &'static str) -> Result<Self> {
        eprintln!("{NAME}: {label} move in");
        let server = bench.serve(COST, users)?;
        let mut connection = Connection::open(server.address)?;
        // The first of anything is slower.
        for number in 1..=3 {
            token(&mut connection, &name(number))?;
        }
        let visit = Visit::default();
        Ok(Self { users, label, server, connection, visit, logins: Vec::new(), questions: Vec::new() })
    }

    fn log_in(&mut self, number: usize) -> Result<()> {
        let name = name(number);
        let begun = now();
        let token = token(&mut self.connection, &name)?;
        self.visit.logins.push(milliseconds(begun.elapsed()));
        self.visit.tokens.push((name, token));
        Ok(())
    }

    /// The one who was the n-th to log in asks.
    fn ask(&mut self, turn: usize) -> Result<()> {
        let (name, token) = &self.visit.tokens[turn];
        let request = callers::me(token);
        let begun = now();
        let answer = self.connection.ask(&request)?;
        self.visit.questions.push(milliseconds(begun.elapsed()));
        callers::whoever(&answer, name)?;
        Ok(())
    }

    fn leave(&mut self) {
        let Visit { logins, questions, .. } = std::mem::take(&mut self.visit);
        self.logins.push(median(&logins));
        self.questions.push(median(&questions));
    }
}

fn ratios(these: &[f64], others: &[f64]) -> Vec<f64> {
    these.iter().zip(others).map(|(this, other)| this / other).collect()
}
