//! `auth-api migrate`. Needs the database's settings and no secret.

use std::fmt;
use std::io::{self, IsTerminal};

use clap::{Args, Subcommand};
use serde_json::json;
use settings::{Config, Environment, Location};

use super::{Exit, Failure, output};

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Apply every migration that is not applied yet
    Up,
    /// Take back the newest migration and delete its tables; the first one's hold all users
    Down(Consent),
    /// Show which migrations are applied
    Status {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Take back the newest migration, delete its tables, and apply it again
    Redo(Consent),
}

/// What the operator agreed to on the command line.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Consent {
    /// Do not ask first
    #[arg(long)]
    yes: bool,
    /// Do not ask first, and delete the data in production too
    #[arg(long)]
    yes_delete_data: bool,
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
            Self::Down(consent) => consent.revert(config, down, "took back"),
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
            Self::Redo(consent) => consent.revert(config, redo, "took back and applied again"),
        }
    }
}

impl Consent {
    /// Shows what reverting the newest migration deletes, and has `revert` do it once the operator agrees.
    fn revert(
        self,
        config: &Config,
        revert: fn(&Location, &Migration) -> Result<bool, Failure>,
        done: &str,
    ) -> Result<(), Failure> {
        let database = &config.database.location;
        let Some(Reversal { migration, losses }) = preview_down(database)? else {
            return output::line("nothing to take back");
        };
        let name = migration.to_string();
        let lost = if losses.is_empty() { "no data".to_owned() } else { losses.join(", ") };
        self.check(config.environment, &format!("taking back {name} deletes {lost}"))?;
        if revert(database, &migration)? {
            return output::line(format_args!("{done} {name}; deleted {lost}"));
        }
        Err(Failure::new(
            Exit::Refused,
            format_args!(
                "{name} is not the newest migration any more; nothing was deleted; run the command again"
            ),
        ))
    }

    fn check(self, environment: Environment, deletes: &str) -> Result<(), Failure> {
        if self.yes_delete_data {
            return Ok(());
        }
        if environment == Environment::Production {
            return Err(Failure::new(
                Exit::Refused,
                format_args!(
                    "{deletes}, and AUTH_ENV is production; make a backup first, then say --yes-delete-data"
                ),
            ));
        }
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new(
                Exit::Refused,
                format_args!("{deletes}; standard input is no terminal to ask on, so say --yes to do it"),
            ));
        }
        match output::ask(&format!("{deletes}. Go on? [y/N]"))?.to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::new(Exit::Refused, "not confirmed; nothing was deleted")),
        }
    }
}

/// A migration of either database.
enum Migration {
    Sqlite(store_sqlite::migrations::Migration),
    Postgres(store_postgres::migrations::Migration),
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(migration) => migration.fmt(f),
            Self::Postgres(migration) => migration.fmt(f),
        }
    }
}

/// What reverting a migration deletes.
struct Reversal {
    migration: Migration,
    losses: Vec<String>,
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

fn preview_down(database: &Location) -> Result<Option<Reversal>, Failure> {
    let shown = |table: String, column: Option<String>, rows: u64| {
        let (what, of) =
            column.map_or(("rows", table.clone()), |column| ("values", format!("{table}.{column}")));
        format!("{of} ({rows} {})", if rows == 1 { &what[..what.len() - 1] } else { what })
    };
    Ok(match database {
        Location::Sqlite(path) => store_sqlite::migrations::preview_down(path)?.map(|reversal| Reversal {
            migration: Migration::Sqlite(reversal.migration),
            losses: reversal
                .losses
                .into_iter()
                .map(|loss| shown(loss.table, loss.column, loss.rows))
                .collect(),
        }),
        Location::Postgres(url) => store_postgres::migrations::preview_down(url)?.map(|reversal| Reversal {
            migration: Migration::Postgres(reversal.migration),
            losses: reversal
                .losses
                .into_iter()
                .map(|loss| shown(loss.table, loss.column, loss.rows))
                .collect(),
        }),
    })
}

/// Whether the migration was still the newest one and is reverted.
fn down(database: &Location, expected: &Migration) -> Result<bool, Failure> {
    Ok(match (database, expected) {
        (Location::Sqlite(path), Migration::Sqlite(it)) => {
            store_sqlite::migrations::down(path, Some(it))?.is_some()
        }
        (Location::Postgres(url), Migration::Postgres(it)) => {
            store_postgres::migrations::down(url, Some(it))?.is_some()
        }
        _ => false,
    })
}

/// Whether the migration was still the newest one and is reverted and applied again.
fn redo(database: &Location, expected: &Migration) -> Result<bool, Failure> {
    Ok(match (database, expected) {
        (Location::Sqlite(path), Migration::Sqlite(it)) => {
            store_sqlite::migrations::redo(path, Some(it))?.is_some()
        }
        (Location::Postgres(url), Migration::Postgres(it)) => {
            store_postgres::migrations::redo(url, Some(it))?.is_some()
        }
        _ => false,
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
