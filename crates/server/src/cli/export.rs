//! `auth-api users export`: all accounts, with the hashes of their passwords.

use std::io::{self, BufWriter, IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use domain::{Account, Admin};
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;
use store_sqlite::atomic_file::Draft;

use super::accounts::{for_each_page, not_reached};
use super::{Exit, Failure, output};
use crate::signals;

#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Into FILE, which must not be there yet, and which only you may read; without it, to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A line of it. What `users import` reads has the same names.
#[derive(Serialize)]
struct Line<'account> {
    id: i64,
    username: &'account str,
    password_hash: &'account str,
    created_at: String,
    updated_at: String,
    disabled_at: Option<String>,
}

impl Arguments {
    pub(super) async fn perform(self, admin: &Admin) -> Result<(), Failure> {
        if let Some(path) = &self.output {
            super::database::named("--output", path)?;
        }
        let Some(path) = self.output else {
            // Lines of both on one screen would tear each other apart.
            let bar = if io::stdout().is_terminal() { ProgressBar::hidden() } else { bar(admin).await? };
            let written = write_all(admin, &bar, |lines| output::line(lines.trim_end())).await;
            return written.map(drop).map_err(broken_off);
        };
        let failed = |error: io::Error| not_written(&path, &error);
        let draft = Draft::begin(&path).map_err(failed)?;
        let count = tokio::select! {
            written = write_to(&draft, &path, admin) => written?,
            () = signals::interrupted() => return Err(Failure::new(Exit::Failed, "interrupted; nothing was exported")),
        };
        draft.keep().map_err(failed)?;
        output::line(format_args!("exported {count} users to {}", path.display()))
    }
}

async fn write_to(draft: &Draft, path: &Path, admin: &Admin) -> Result<u64, Failure> {
    let failed = |error: io::Error| not_written(path, &error);
    let mut file = BufWriter::new(&draft.file);
    let write = |lines: &str| file.write_all(lines.as_bytes()).map_err(failed);
    let count = write_all(admin, &bar(admin).await?, write).await?;
    file.flush().map_err(failed)?;
    Ok(count)
}

/// Writes a page at a time, and tells how many users there were.
async fn write_all(
    admin: &Admin,
    bar: &ProgressBar,
    mut write: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    admin.begin_export().await.map_err(|error| not_reached(&error))?;
    let mut count = 0;
    for_each_page(admin, u64::MAX, |page| {
        let lines: String = page.iter().map(line).collect::<Result<_, _>>()?;
        if let Some(last) = page.last() {
            bar.set_position(last.user.id.0.unsigned_abs());
            write(&lines)?;
        }
        count += page.len() as u64;
        Ok(())
    })
    .await?;
    bar.finish_and_clear();
    Ok(count)
}

async fn bar(admin: &Admin) -> Result<ProgressBar, Failure> {
    let last = admin.last_number().await.map_err(|error| not_reached(&error))?;
    Ok(output::progress(last.0.unsigned_abs(), "exporting"))
}

fn line(account: &Account) -> Result<String, Failure> {
    let time = |at: Timestamp| format!("{at:.6}");
    let Account { user, password_hash, disabled_at, .. } = account;
    let line = Line {
        id: user.id.0,
        username: user.name.as_typed(),
        password_hash: password_hash.as_str(),
        created_at: time(user.created_at),
        updated_at: time(user.updated_at),
        disabled_at: disabled_at.map(time),
    };
    Ok(serde_json::to_string(&line)? + "\n")
}

/// Whoever reads an export wants all of it, so that to go away before its end is no way to end it.
fn broken_off(mut failure: Failure) -> Failure {
    if failure.exit == Exit::Unread {
        failure = Failure::new(Exit::Failed, "cannot write the answer: nobody reads it any more");
    }
    failure.lines.push("the export is not whole; do not import it".to_owned());
    failure
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format_args!("cannot write {}: {error}", path.display()))
}
