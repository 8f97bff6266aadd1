//! `auth-api migrate`. Needs the database's settings and no secret.

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Failure, output};
use crate::config::{Config, Location};

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Apply every migration that is not applied yet
    Up,
    /// Take back the newest migration, and what it keeps with it: the first one's are all users
    Down,
    /// Show which migrations are applied
    Status {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Take back the newest migration and apply it again
    Redo,
}

impl Command {
    pub(super) fn run(self, config: &Config) -> Result<(), Failure> {
        let database = &config.database.location;
        match self {
            Self::Up => {
                let applied = up(database)?;
                if applied.is_empty() {
                    return output::line("nothing to apply");
                }
                applied.iter().try_for_each(|migration| output::line(format_args!("applied {migration}")))
            }
            Self::Down => match down(database)? {
                Some(migration) => output::line(format_args!("took back {migration}")),
                None => output::line("nothing to take back"),
            },
            Self::Status { json } => {
                let all = status(database)?;
                if json {
                    let mut array = output::JsonArray::begin()?;
                    for Status { version, name, applied } in all {
                        array.push(&json!({"version": version, "name": name, "applied": applied}))?;
                    }
                    return array.end();
                }
                let yes_or_no = |applied| if applied { "yes" } else { "no" }.to_owned();
                let rows = all.into_iter().map(|Status { version, name, applied }| {
                    [format!("{version}_{name}"), yes_or_no(applied)]
                });
                output::table(["MIGRATION", "APPLIED"], rows)
            }
            Self::Redo => match redo(database)? {
                Some(migration) => output::line(format_args!("took back {migration} and applied it again")),
                None => output::line("nothing to take back"),
            },
        }
    }
}

/// A migration, and whether the database has it.
struct Status {
    version: String,
    name: String,
    applied: bool,
}

/// Whether nothing was ever applied to the database, or everything was taken back.
pub(super) fn is_blank(database: &Location) -> Result<bool, Failure> {
    Ok(status(database)?.iter().all(|migration| !migration.applied))
}

fn up(database: &Location) -> Result<Vec<String>, Failure> {
    Ok(match database {
        Location::Sqlite(path) => told(store_sqlite::migrations::up(path)?),
        Location::Postgres(url) => told(store_postgres::migrations::up(url)?),
    })
}

fn down(database: &Location) -> Result<Option<String>, Failure> {
    Ok(match database {
        Location::Sqlite(path) => told(store_sqlite::migrations::down(path)?).pop(),
        Location::Postgres(url) => told(store_postgres::migrations::down(url)?).pop(),
    })
}

fn redo(database: &Location) -> Result<Option<String>, Failure> {
    Ok(match database {
        Location::Sqlite(path) => told(store_sqlite::migrations::redo(path)?).pop(),
        Location::Postgres(url) => told(store_postgres::migrations::redo(url)?).pop(),
    })
}

fn status(database: &Location) -> Result<Vec<Status>, Failure> {
    Ok(match database {
        Location::Sqlite(path) => {
            let of = |store_sqlite::migrations::Status { migration, applied }| Status {
                version: migration.version,
                name: migration.name,
                applied,
            };
            store_sqlite::migrations::status(path)?.into_iter().map(of).collect()
        }
        Location::Postgres(url) => {
            let of = |store_postgres::migrations::Status { migration, applied }| Status {
                version: migration.version,
                name: migration.name,
                applied,
            };
            store_postgres::migrations::status(url)?.into_iter().map(of).collect()
        }
    })
}

fn told<M: ToString>(migrations: impl IntoIterator<Item = M>) -> Vec<String> {
    migrations.into_iter().map(|migration| migration.to_string()).collect()
}

impl From<store_sqlite::OpenError> for Failure {
    fn from(error: store_sqlite::OpenError) -> Self {
        Self::from_error(Exit::Failed, &error)
    }
}

impl From<store_postgres::OpenError> for Failure {
    fn from(error: store_postgres::OpenError) -> Self {
        Self::from_error(Exit::Failed, &error)
    }
}
