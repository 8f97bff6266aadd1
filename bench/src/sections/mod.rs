//! What is measured, a file each.

mod flood;
mod logins;
mod me;
mod refresh;
mod sign_up;
mod start;
mod storm;
mod timing;
mod users;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::Result;
use crate::callers::{self, LogIn};
use crate::client::Connection;
use crate::database::{Place, name};
use crate::load::Window;
use crate::report::Report;
use crate::server::{Deployment, Server};
use crate::yardstick::hash;

/// What every section is given.
pub(crate) struct Bench {
    pub(crate) auth_api: PathBuf,
    /// Where the databases of the servers are.
    pub(crate) place: Place,
    pub(crate) plan: Plan,
    pub(crate) report: Report,
}

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u16,
    pub(crate) quick: bool,
    pub(crate) full: bool,
}

/// A part of the benchmark that can be run on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Section {
    /// Logins as fast as they are answered, against the bcrypt crate
    Logins,
    /// Sign-ups, against the same
    SignUp,
    /// Questions who one is, against a handler that does nothing
    Me,
    /// Refreshes, against commits one after the other
    Refresh,
    /// How long questions who one is take while many log in
    Storm,
    /// Many more logins than can be served
    Flood,
    /// How soon a server is ready, and how small
    Start,
    /// Logins among a thousand users and among a million
    Users,
    /// Whether the time that a refusal takes tells its cause
    Timing,
}

impl Section {
    pub(crate) const ALL: [Self; 9] = [
        Self::Logins,
        Self::SignUp,
        Self::Me,
        Self::Refresh,
        Self::Storm,
        Self::Flood,
        Self::Start,
        Self::Users,
        Self::Timing,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Logins => logins::NAME,
            Self::SignUp => sign_up::NAME,
            Self::Me => me::NAME,
            Self::Refresh => refresh::NAME,
            Self::Storm => storm::NAME,
            Self::Flood => flood::NAME,
            Self::Start => start::NAME,
            Self::Users => users::NAME,
            Self::Timing => timing::NAME,
        }
    }

    pub(crate) fn measure(self, bench: &mut Bench) -> Result<()> {
        match self {
            Self::Logins => logins::measure(bench),
            Self::SignUp => sign_up::measure(bench),
            Self::Me => me::measure(bench),
            Self::Refresh => refresh::measure(bench),
            Self::Storm => storm::measure(bench),
            Self::Flood => flood::measure(bench),
            Self::Start => start::measure(bench),
            Self::Users => users::measure(bench),
            Self::Timing => timing::measure(bench),
        }
    }
}

impl Bench {
    /// A server at this cost with so many users.
    fn serve(&self, cost: u32, users: usize) -> Result<Server> {
        let deployment = self.deployment(cost)?;
        deployment.migrate()?.populate(users, &hash(cost)?)?;
        deployment.serve()
    }

    /// A folder for a server at this cost, and a database without tables.
    fn deployment(&self, cost: u32) -> Result<Deployment> {
        Deployment::new(&self.auth_api, &self.place, cost)
    }

    /// Says which section is at work, and how far.
    fn progress(&self, section: &str, what: &str, round: u16) {
        let kind = self.place.kind();
        eprintln!("{section}: {what}, on {kind}, round {} of {}", round + 1, self.plan.rounds());
    }
}

impl Plan {
    fn rounds(self) -> u16 {
        if self.quick { 1 } else { self.rounds }
    }

    fn seconds(self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) / if self.quick { 4 } else { 1 }
    }

    fn window(self, warm_up: u64, length: u64) -> Window {
        Window { warm_up: self.seconds(warm_up), length: self.seconds(length) }
    }

    /// How many of something that takes a while each.
    fn many(self, count: usize) -> usize {
        if self.quick { count.div_ceil(10) } else { count }
    }
}

/// So many of the users log in, over and over.
fn everybody(count: usize) -> Vec<LogIn> {
    (1..=count).map(|number| LogIn::new(&name(number))).collect()
}

/// The token that somebody gets, who has everybody's password.
fn token(connection: &mut Connection, name: &str) -> Result<String> {
    let answer = connection.ask(&callers::log_in(name, callers::PASSWORD))?;
    Ok(callers::access_token(&answer, name)?)
}

/// What `/api/me` answers to somebody.
fn profile(connection: &mut Connection, token: &str, name: &str) -> Result<Vec<u8>> {
    Ok(callers::whoever(&connection.ask(&callers::me(token))?, name)?)
}
