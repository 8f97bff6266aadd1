//! `auth-api migrate`. Needs the database's settings and no secret.

use clap::Subcommand;
use serde_json::json;
use store_sqlite::{OpenError, migrations};

use super::{Exit, Failure, output};
use crate::config::Config;

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
        let path = &config.database.path;
        match self {
            Self::Up => {
                let applied = migrations::up(path)?;
                if applied.is_empty() {
                    return output::line("nothing to apply");
                }
                applied.iter().try_for_each(|migration| output::line(format_args!("applied {migration}")))
            }
            Self::Down => match migrations::down(path)? {
                Some(migration) => output::line(format_args!("took back {migration}")),
                None => output::line("nothing to take back"),
            },
            Self::Status { json } => {
                let all = migrations::status(path)?;
                if json {
                    let mut array = output::JsonArray::begin()?;
                    for migrations::Status { migration, applied } in all {
                        let (version, name) = (migration.version, migration.name);
                        array.push(&json!({"version": version, "name": name, "applied": applied}))?;
                    }
                    return array.end();
                }
                let yes_or_no = |applied| if applied { "yes" } else { "no" }.to_owned();
                let rows =
                    all.into_iter().map(|status| [status.migration.to_string(), yes_or_no(status.applied)]);
                output::table(["MIGRATION", "APPLIED"], rows)
            }
            Self::Redo => match migrations::redo(path)? {
                Some(migration) => output::line(format_args!("took back {migration} and applied it again")),
                None => output::line("nothing to take back"),
            },
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::from_error(Exit::Failed, &error)
    }
}
