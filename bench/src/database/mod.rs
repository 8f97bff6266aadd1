//! Accounts that were there before the server: a million sign-ups would take longer than anybody waits.

mod postgres;
mod sqlite;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;
use test_postgres::{Cluster, Durability, NotStarted};

use crate::Result;

/// What a server keeps its users in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub(crate) enum Kind {
    /// A file, on the disk of temporary files
    Sqlite,
    /// A throw-away server on the same disk
    Postgres,
}

/// Where databases of one kind can be made.
#[derive(Clone)]
pub(crate) enum Place {
    Sqlite,
    Postgres(Arc<Cluster>),
}

/// A database for one server.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    /// Its URL.
    Postgres(String),
}

/// Somebody who is in the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    pub(crate) name: &'a str,
    pub(crate) hash: &'a str,
    pub(crate) is_disabled: bool,
}

/// Sessions that are changed as a refresh changes them, by a connection that does nothing else.
pub(crate) trait Sessions {
    /// Adds one of the first user.
    fn open(&mut self, id: &[u8; 16]) -> Result<()>;

    /// Changes one, in a transaction of its own.
    fn change(&mut self, id: &[u8; 16], number: i64) -> Result<()>;
}

/// The name of one of the users that [`Database::populate`] makes, counted from one.
pub(crate) fn name(number: usize) -> String {
    format!("user{number:08}")
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    /// Begins with what has to be there before there can be databases.
    pub(crate) fn start(self) -> std::result::Result<Place, NotStarted> {
        Ok(match self {
            Self::Sqlite => Place::Sqlite,
            // With the options that it has by itself.
            Self::Postgres => Place::Postgres(Arc::new(Cluster::start(Durability::Full, "")?)),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

impl Place {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Sqlite => Kind::Sqlite,
            Self::Postgres(_) => Kind::Postgres,
        }
    }
}

impl Database {
    /// Adds so many users with one hash, while no server uses it.
    pub(crate) fn populate(&self, users: usize, hash: &str) -> Result<()> {
        match self {
            Self::Sqlite(path) => sqlite::populate(path, users, hash),
            Self::Postgres(url) => postgres::populate(url, users, hash),
        }
    }

    /// Adds one user.
    pub(crate) fn add(&self, account: Account<'_>) -> Result<()> {
        match self {
            Self::Sqlite(path) => sqlite::add(path, account),
            Self::Postgres(url) => postgres::add(url, account),
        }
    }

    /// A connection for changing sessions, as durably as the server does.
    pub(crate) fn sessions(&self) -> Result<Box<dyn Sessions>> {
        Ok(match self {
            Self::Sqlite(path) => Box::new(sqlite::Changer::open(path)?),
            Self::Postgres(url) => Box::new(postgres::Changer::open(url)?),
        })
    }
}

/// An empty database in a server, and its URL.
pub(crate) fn create(cluster: &Cluster) -> Result<(Database, String)> {
    let url = postgres::create(cluster)?;
    Ok((Database::Postgres(url.clone()), url))
}

/// A user, as both databases take one.
fn values(account: Account<'_>) -> String {
    let Account { name, hash, .. } = account;
    format!("'{name}', '{name}', '{hash}'")
}

#[cfg(test)]
pub(crate) use sqlite::{connect, newest_generation};
