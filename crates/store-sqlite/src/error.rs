//! What goes wrong while opening, which an operator reads, and while serving, which becomes a [`PortError`].

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diesel::result::ConnectionError;
use domain::ports::PortError;
use thiserror::Error;

/// Why a database file was not opened, or its migrations were not run. What was not done whole was not done.
#[derive(Debug)]
pub struct OpenError {
    /// The file.
    pub path: PathBuf,
    /// What is the matter with it.
    pub problem: OpenProblem,
}

/// What is the matter with a database file, and what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenProblem {
    /// A path that SQLite cannot be given.
    #[error("the path is not UTF-8, or has a NUL in it; choose another")]
    Path,
    /// The file or its folder could not be made or looked at.
    #[error("the file or its folder cannot be made or looked at; check that the folder is writable")]
    Folder(#[source] io::Error),
    /// Nobody has made the file yet.
    #[error("there is no database yet; `auth-api serve` and `auth-api migrate up` make one")]
    Missing,
    /// Some other kind of file. It was left as it is.
    #[error("this file is not a SQLite database; choose another path, or move the file away")]
    NotADatabase,
    /// Somebody else's database. It was left as it is.
    #[error("this SQLite database belongs to another application; choose another path")]
    Foreign,
    /// Migrated by a later release. It was left as it is.
    #[error("the schema was made by a newer release (it has {}); upgrade this program", .versions.join(", "))]
    Newer {
        /// The versions that this release does not know.
        versions: Vec<String>,
    },
    /// Migrations wait, and nobody allowed to run them.
    #[error("migrations are pending ({}); run `auth-api migrate up`", .migrations.join(", "))]
    Pending {
        /// Their names, oldest first.
        migrations: Vec<String>,
    },
    /// Another process holds the lock for longer than our patience.
    #[error("another process keeps the database locked; stop it, or try again")]
    Locked,
    /// The file or its folder may only be read.
    #[error("the file or its folder is read-only; make both writable for this user")]
    ReadOnly,
    /// No room.
    #[error("the disk is full; make room")]
    Full,
    /// Deleted, moved or replaced while it was being opened.
    #[error("the file was replaced while it was being opened; start again")]
    Replaced,
    /// The threads for it could not be started.
    #[error("cannot start the threads that read the file")]
    Threads(#[source] io::Error),
    /// Write-ahead logging does not work there.
    #[error("write-ahead logging is not possible here (the journal mode stays {mode}); use a local disk")]
    NoWriteAheadLog {
        /// The journal mode that SQLite insists on.
        mode: String,
    },
    /// Linked with a SQLite that can lose commits.
    #[error("SQLite {version} can lose commits; link 3.51.3 or later, as the bundled one is")]
    UnsafeSqlite {
        /// The version that is linked.
        version: String,
    },
    /// A migration failed, and was rolled back.
    #[error("a migration failed and was rolled back")]
    Migration(#[source] Box<dyn Error + Send + Sync>),
    /// SQLite gave no connection.
    #[error(
        "SQLite cannot open the file; check that it is a file which this user may read, and that this process may \
         open more files (`ulimit -n`)"
    )]
    Connection(#[source] ConnectionError),
    /// The disk, or the operating system, does not do what SQLite asks of it.
    #[error(
        "the file or those beside it (-wal, -shm) cannot be made, read or written: the disk is read-only, full or \
         gone, or this process has too many files open; make the folder writable for this user, make room, or \
         raise `ulimit -n`"
    )]
    Disk(#[source] diesel::result::Error),
    /// Not what SQLite once wrote.
    #[error("the file is damaged; restore a backup")]
    Damaged(#[source] diesel::result::Error),
    /// Anything else that SQLite says.
    #[error("SQLite failed")]
    Database(#[source] diesel::result::Error),
}

/// What goes wrong while serving. Cheap to clone, because one failed commit answers many callers.
#[derive(Clone, Debug)]
pub(crate) struct StoreError {
    unavailable: bool,
    source: Arc<dyn Error + Send + Sync>,
}

/// A row that no code of ours wrote.
#[derive(Debug, Error)]
#[error("the row of {table} with id {id} has a {column} that cannot be: {found}")]
pub(crate) struct BrokenRow {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    pub(crate) id: String,
    pub(crate) found: String,
}

/// The conditions of a database that have an answer of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Locked,
    Full,
    ReadOnly,
    Disk,
    Damaged,
    NotADatabase,
    SchemaTakenBack,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database {}: {}", self.path.display(), self.problem)
    }
}

impl Error for OpenError {
    /// What caused the problem: the problem itself is told already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

impl OpenProblem {
    pub(crate) fn at(self, path: &Path) -> OpenError {
        OpenError { path: path.to_owned(), problem: self }
    }
}

impl From<diesel::result::Error> for OpenProblem {
    fn from(error: diesel::result::Error) -> Self {
        match Condition::of(&error.to_string()) {
            Some(Condition::Locked) => Self::Locked,
            Some(Condition::Full) => Self::Full,
            Some(Condition::ReadOnly) => Self::ReadOnly,
            Some(Condition::NotADatabase) => Self::NotADatabase,
            Some(Condition::Disk) => Self::Disk(error),
            Some(Condition::Damaged) => Self::Damaged(error),
            Some(Condition::SchemaTakenBack) | None => Self::Database(error),
        }
    }
}

impl From<ConnectionError> for OpenProblem {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::InvalidCString(_) => Self::Path,
            other => Self::Connection(other),
        }
    }
}

impl StoreError {
    pub(crate) fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { unavailable: true, source: Arc::from(source.into()) }
    }

    pub(crate) fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { unavailable: false, source: Arc::from(source.into()) }
    }

    /// The same, for a commit: whatever broke it, it may work in a moment.
    pub(crate) fn into_unavailable(self) -> Self {
        Self { unavailable: true, ..self }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for StoreError {
    /// What caused the cause: the cause itself is told already.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        let unavailable = Condition::of(&error.to_string()).is_some();
        Self { unavailable, source: Arc::new(error) }
    }
}

impl From<BrokenRow> for StoreError {
    fn from(error: BrokenRow) -> Self {
        Self::failed(error)
    }
}

impl From<StoreError> for PortError {
    fn from(error: StoreError) -> Self {
        let source = Box::new(error.source);
        if error.unavailable { Self::Unavailable(source) } else { Self::Failed(source) }
    }
}

impl Condition {
    /// Reads SQLite's message. diesel keeps no result code, and asking SQLite for it takes unsafe code; the
    /// texts are those of `sqlite3_errstr`, which have not changed in twenty years and are bundled with us.
    fn of(message: &str) -> Option<Self> {
        Some(match message {
            "database is locked" | "database table is locked" | "locking protocol" => Self::Locked,
            "database or disk is full" => Self::Full,
            "attempt to write a readonly database" => Self::ReadOnly,
            "disk I/O error" | "unable to open database file" => Self::Disk,
            "database disk image is malformed" => Self::Damaged,
            "file is not a database" => Self::NotADatabase,
            // Ours are all there at the start; `auth-api migrate down` takes them away from whoever is running.
            other if other.starts_with("no such table: ") => Self::SchemaTakenBack,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind;

    use super::*;

    #[test]
    fn what_the_world_does_to_a_file_is_unavailable_and_what_we_do_is_failed() {
        let answer = |message: &str| {
            let error = diesel::result::Error::DatabaseError(
                DatabaseErrorKind::Unknown,
                Box::new(message.to_owned()),
            );
            PortError::from(StoreError::from(error))
        };

        for message in [
            "database is locked",
            "database table is locked",
            "locking protocol",
            "database or disk is full",
            "attempt to write a readonly database",
            "disk I/O error",
            "unable to open database file",
            "database disk image is malformed",
            "file is not a database",
            "no such table: users",
        ] {
            assert!(matches!(answer(message), PortError::Unavailable(_)), "{message}");
        }
        for message in ["near \"SELCT\": syntax error", "UNIQUE constraint failed: users.username_key"] {
            assert!(matches!(answer(message), PortError::Failed(_)), "{message}");
        }
    }

    #[test]
    fn an_open_error_tells_each_cause_once() {
        let error = OpenProblem::Folder(io::Error::other("no such folder")).at(Path::new("auth.db"));

        assert!(error.to_string().starts_with("the database auth.db: the file or its folder cannot"));
        assert_eq!(error.source().unwrap().to_string(), "no such folder");
    }

    #[test]
    fn a_store_error_tells_each_cause_once() {
        let error = StoreError::unavailable(OpenProblem::Folder(io::Error::other("no such folder")));

        assert!(error.to_string().starts_with("the file or its folder cannot"));
        assert_eq!(error.source().unwrap().to_string(), "no such folder");
        assert!(StoreError::unavailable("gone").source().is_none());
    }
}
