//! `auth-api users export`: all accounts, with the hashes of their passwords.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use domain::{Account, Auth, Origin};
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;

use super::import::interrupt;
use super::users::{for_each_page, not_reached};
use super::{Exit, Failure, output};

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
    pub(super) async fn perform(self, auth: &Auth) -> Result<(), Failure> {
        let Some(path) = self.output else {
            // Lines of both on one screen would tear each other apart.
            let bar = if io::stdout().is_terminal() { ProgressBar::hidden() } else { bar(auth).await? };
            return write_all(auth, &bar, |lines| output::line(lines.trim_end())).await.map(drop);
        };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| not_written(&path, &error))?;
        let written = tokio::select! {
            written = write_to(file, &path, auth) => written,
            () = interrupt() => Err(Failure::new(Exit::Failed, "interrupted")),
        };
        match written {
            Ok(count) => output::line(format_args!("exported {count} users to {}", path.display())),
            Err(failure) => {
                // Half of it would be taken for all.
                _ = fs::remove_file(&path);
                Err(failure)
            }
        }
    }
}

async fn write_to(file: File, path: &Path, auth: &Auth) -> Result<u64, Failure> {
    let failed = |error: io::Error| not_written(path, &error);
    let mut file = BufWriter::new(file);
    let write = |lines: &str| file.write_all(lines.as_bytes()).map_err(failed);
    let count = write_all(auth, &bar(auth).await?, write).await?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(failed)?;
    Ok(count)
}

/// Writes a page at a time, and tells how many users there were.
async fn write_all(
    auth: &Auth,
    bar: &ProgressBar,
    mut write: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    auth.begin_export(Origin::CommandLine).await.map_err(|error| not_reached(&error))?;
    let mut count = 0;
    for_each_page(auth, u64::MAX, |page| {
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

async fn bar(auth: &Auth) -> Result<ProgressBar, Failure> {
    let last = auth.last_number().await.map_err(|error| not_reached(&error))?;
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

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format_args!("cannot write {}: {error}", path.display()))
}
