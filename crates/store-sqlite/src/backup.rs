//! Backups: a file with all that the database had at one moment, and the way back.
//!
//! Everything here blocks, and needs no key. A backup is made by `VACUUM INTO`, which reads in one transaction, so that
//! a server may go on writing, and leaves out what was deleted. SQLite's other way, `sqlite3_backup`, copies the file
//! page by page, deleted rows included, begins again whenever another process writes, and takes unsafe code.
//!
//! A file gets its name when it is whole, checked and on disk. Until then it is beside that, with `.partial` after the
//! name; what a kill leaves there is removed by whoever writes the same file next.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use thiserror::Error;

use crate::PATIENCE;
use crate::atomic_file::{Draft, beside, is_there};
use crate::connection::{self, Role};
use crate::database_file::Location;
use crate::error::OpenProblem;
use crate::migrations;
use crate::private_files;
use crate::schema::pragma_data_version::dsl::{data_version, pragma_data_version};
use crate::schema::{
    audit_anchor, audit_events, known_networks, pragma_foreign_key_check, pragma_integrity_check, sessions,
    sqlite_master, sqlite_sequence, users,
};

/// What a database has, by table.
pub type Counts = BTreeMap<&'static str, i64>;

/// Why there is no backup, or why nothing was restored. Nothing was changed.
#[derive(Debug)]
pub struct BackupError {
    /// Which file it is about.
    pub path: PathBuf,
    /// What is the matter with it.
    pub problem: BackupProblem,
}

/// What is the matter with a file, and what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupProblem {
    /// It cannot be opened, or is not ours.
    #[error(transparent)]
    Database(#[from] OpenProblem),
    /// Nobody has made the file yet.
    #[error("there is no database yet, and nothing to back up")]
    Missing,
    /// Nothing that could be kept.
    #[error("there is nothing in it: no migration was ever applied")]
    Blank,
    /// There is a file of this name.
    #[error("the file is there already, and nothing is overwritten; choose another name")]
    Exists,
    /// Somebody else is writing it.
    #[error("another process is writing it just now")]
    Busy,
    /// A database may be in use there.
    #[error(
        "there is {} already; stop every server that uses the database, move these files away together, and try again",
        .0.join(" and ")
    )]
    InTheWay(Vec<String>),
    /// It is half a database.
    #[error(
        "there is {0} beside it, so it is a database in use and not a backup; make a backup of it with `auth-api \
         database backup`"
    )]
    InUse(String),
    /// SQLite finds it damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It was written, and reads otherwise.
    #[error("what was written is not what was read: {0}; is the disk all right?")]
    Differs(&'static str),
    /// The operating system says no.
    #[error("it cannot be read or written")]
    Io(#[from] io::Error),
}

/// Writes all that the database has now into a new file, which only its owner may read, and tells what that is.
pub fn write(database: &Path, file: &Path) -> Result<Counts, BackupError> {
    let draft = Draft::begin(file).map_err(|error| BackupProblem::from_draft(error).at(file))?;
    let source = Source::open(database).map_err(|problem| problem.at(database))?;
    let (before, is_unchanged) = source.pour_into(&draft.partial).map_err(|problem| match problem {
        BackupProblem::Database(OpenProblem::Damaged(_)) => problem.at(database),
        problem => problem.at(file),
    })?;
    let keep = || {
        let mut backup = open_unchanging(&draft.partial)?;
        let after = check(&mut backup)?;
        if is_unchanged && after != before {
            return Err(BackupProblem::Differs("other rows"));
        }
        after.is_later_than(&before, &mut backup)?;
        draft.keep().map_err(BackupProblem::from_draft)?;
        Ok(after.counts)
    };
    keep().map_err(|problem: BackupProblem| problem.at(file))
}

/// Puts a backup where a database is to be, and tells what it has. There must be nothing yet. An older schema stays as
/// it is; the next `migrate up` brings it up to date.
pub fn restore(file: &Path, database: &Path) -> Result<Counts, BackupError> {
    let look = || {
        if let Some(name) = beside(file).into_iter().find(|beside| is_there(beside)) {
            return Err(BackupProblem::InUse(name.display().to_string()));
        }
        let source = File::open(file)?;
        Ok((source, check(&mut open_unchanging(file)?)?))
    };
    let (mut source, wanted) = look().map_err(|problem| problem.at(file))?;
    let mut put = || {
        refuse_what_is_in_the_way(database)?;
        if let Some(folder) = std::path::absolute(database)?.parent() {
            private_files::create_folder(folder)?;
        }
        let mut draft = Draft::begin(database).map_err(BackupProblem::from_draft)?;
        io::copy(&mut source, &mut draft.file)?;
        let restored = check(&mut open_unchanging(&draft.partial)?)?;
        if restored != wanted || !is_same(&mut File::open(file)?, &mut File::open(&draft.partial)?)? {
            return Err(BackupProblem::Differs("another file"));
        }
        // Somebody may have begun with an empty one meanwhile.
        refuse_what_is_in_the_way(database)?;
        draft.keep().map_err(BackupProblem::from_draft)?;
        Ok(restored.counts)
    };
    put().map_err(|problem: BackupProblem| problem.at(database))
}

/// What shows that two files have the same in them.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    migrations: Vec<String>,
    counts: Counts,
    last_number: Option<i64>,
    /// The number and the seal of the last event.
    head: Option<(i64, Vec<u8>)>,
}

impl Facts {
    fn of(connection: &mut SqliteConnection) -> Result<Self, BackupProblem> {
        let migrations: Vec<String> =
            migrations::applied(connection, &migrations::known()?)?.into_iter().collect();
        if migrations.is_empty() {
            return Err(BackupProblem::Blank);
        }
        Ok(Self::at_once(connection, migrations)?)
    }

    fn at_once(connection: &mut SqliteConnection, migrations: Vec<String>) -> QueryResult<Self> {
        // An older schema has fewer tables.
        let tables: Vec<String> = sqlite_master::table.select(sqlite_master::name).load(connection)?;
        let has = |name: &str| tables.iter().any(|table| table == name);
        let mut counts = Counts::new();
        if has("users") {
            counts.insert("users", users::table.count().get_result(connection)?);
        }
        if has("sessions") {
            counts.insert("sessions", sessions::table.count().get_result(connection)?);
        }
        if has("known_networks") {
            counts.insert("known networks", known_networks::table.count().get_result(connection)?);
        }
        let mut head = None;
        if has("audit_events") {
            counts.insert("audit events", audit_events::table.count().get_result(connection)?);
            let last = audit_events::table.order(audit_events::number.desc());
            head = last.select((audit_events::number, audit_events::seal)).first(connection).optional()?;
        }
        let numbers = sqlite_sequence::table.find("users").select(sqlite_sequence::seq);
        let last_number = numbers.first(connection).optional()?;
        Ok(Self { migrations, counts, last_number, head })
    }

    /// Succeeds if nothing is missing that there was `before`. What was deleted since cannot be told from what got lost,
    /// but whatever is done is on record, and that only grows.
    fn is_later_than(&self, before: &Self, connection: &mut SqliteConnection) -> Result<(), BackupProblem> {
        if self.migrations != before.migrations {
            return Err(BackupProblem::Differs("its schema is another one"));
        }
        if self.last_number < before.last_number {
            return Err(BackupProblem::Differs("it lacks the last users"));
        }
        let Some((number, seal)) = &before.head else { return Ok(()) };
        let there: Option<Vec<u8>> =
            audit_events::table.find(number).select(audit_events::seal).first(connection).optional()?;
        let removed_up_to: Option<i64> =
            audit_anchor::table.select(audit_anchor::number).first(connection).optional()?;
        match there {
            Some(there) if there == *seal => Ok(()),
            None if removed_up_to >= Some(*number) => Ok(()),
            _ => Err(BackupProblem::Differs("it lacks the last events")),
        }
    }
}

/// A database that may be in use.
struct Source(SqliteConnection);

impl Source {
    fn open(database: &Path) -> Result<Self, BackupProblem> {
        let location = Location::new(database)?;
        if !location.exists()? {
            return Err(BackupProblem::Missing);
        }
        let mut connection = migrations::connect(&location, Role::Reader, PATIENCE)?;
        // To SQLite the backup is a write, though not to this file.
        connection.batch_execute("PRAGMA query_only = OFF")?;
        Facts::of(&mut connection)?;
        Ok(Self(connection))
    }

    /// Writes everything into an empty file. Tells what there was before, and whether that is what was written.
    fn pour_into(mut self, file: &Path) -> Result<(Facts, bool), BackupProblem> {
        let connection = &mut self.0;
        // The address has no quotes in it.
        let vacuum = format!("VACUUM INTO '{}'", Location::new(file)?.url());
        let version = |connection: &mut SqliteConnection| -> QueryResult<i64> {
            pragma_data_version.select(data_version).get_result(connection)
        };
        let seen = version(connection)?;
        let before = connection.transaction(Facts::of)?;
        connection.batch_execute(&vacuum)?;
        Ok((before, version(connection)? == seen))
    }
}

/// A file that nobody else writes, nor this connection.
fn open_unchanging(file: &Path) -> Result<SqliteConnection, BackupProblem> {
    Ok(connection::connect(&Location::new(file)?.unchanging_url(), Role::Reader, PATIENCE)?)
}

/// What is in a file, if it is ours, not newer than this release, and nothing is wrong with it.
fn check(connection: &mut SqliteConnection) -> Result<Facts, BackupProblem> {
    let facts = Facts::of(connection)?;
    let found: Vec<String> =
        pragma_integrity_check::table.select(pragma_integrity_check::integrity_check).load(connection)?;
    if found != ["ok"] {
        return Err(BackupProblem::Damaged(found.into_iter().next().unwrap_or_default()));
    }
    let strays: Vec<String> =
        pragma_foreign_key_check::table.select(pragma_foreign_key_check::child).limit(1).load(connection)?;
    match strays.first() {
        Some(table) => {
            Err(BackupProblem::Damaged(format!("a row of {table} refers to one that is not there")))
        }
        None => Ok(facts),
    }
}

fn refuse_what_is_in_the_way(database: &Path) -> Result<(), BackupProblem> {
    let all = std::iter::once(database.to_owned()).chain(beside(database));
    let there: Vec<String> =
        all.filter(|path| is_there(path)).map(|path| path.display().to_string()).collect();
    if there.is_empty() { Ok(()) } else { Err(BackupProblem::InTheWay(there)) }
}

fn is_same(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    const PIECE: u64 = 1 << 16;
    loop {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        one.by_ref().take(PIECE).read_to_end(&mut left)?;
        other.by_ref().take(PIECE).read_to_end(&mut right)?;
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
    }
}

impl BackupProblem {
    fn from_draft(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::AlreadyExists => Self::Exists,
            ErrorKind::ResourceBusy => Self::Busy,
            _ => Self::Io(error),
        }
    }

    fn at(self, path: &Path) -> BackupError {
        BackupError { path: path.to_owned(), problem: self }
    }
}

impl From<diesel::result::Error> for BackupProblem {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for BackupError {
    /// What caused the problem: the problem itself is told already.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use domain::ports::UserRepo as _;

    use super::*;
    use crate::testing::{Fixture, attempt, key, person};

    fn facts(fixture: &Fixture) -> Facts {
        let mut source = Source::open(&fixture.path()).unwrap();
        Facts::of(&mut source.0).unwrap()
    }

    #[tokio::test]
    async fn a_backup_has_what_is_only_in_the_log_and_none_of_what_was_deleted() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        fixture.store.insert(person("somebody-who-goes"), attempt()).await.unwrap();
        fixture.store.delete(key("somebody-who-goes"), attempt()).await.unwrap();
        let has = |file: &Path, text: &str| {
            fs::read(file).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
        };
        assert!(!has(&fixture.path(), "ann") && has(&fixture.log_path(), "ann"));

        let backup = fixture.folder.join("backup");
        let counts = write(&fixture.path(), &backup).unwrap();

        assert_eq!((counts["users"], counts["audit events"]), (1, 3));
        assert!(has(&backup, "ann") && !has(&backup, "somebody-who-goes"));
        assert_eq!(Facts::of(&mut open_unchanging(&backup).unwrap()).unwrap(), facts(&fixture));
    }

    #[tokio::test]
    async fn a_backup_that_lacks_what_there_was_before_is_found_out() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        let (first, backup) = (facts(&fixture), fixture.folder.join("backup"));
        write(&fixture.path(), &backup).unwrap();
        fixture.store.insert(person("Ann"), attempt()).await.unwrap();
        let with_one_more_event = facts(&fixture);
        fixture.store.insert(person("bob"), attempt()).await.unwrap();
        let with_one_more_user = facts(&fixture);

        let mut backup = open_unchanging(&backup).unwrap();
        let there = check(&mut backup).unwrap();

        assert!(there.is_later_than(&first, &mut backup).is_ok());
        for before in [with_one_more_event, with_one_more_user] {
            let refused = there.is_later_than(&before, &mut backup);
            assert!(matches!(refused, Err(BackupProblem::Differs(_))), "{refused:?}");
        }
        let rewritten = Facts { head: Some((1, vec![0; 32])), ..first };
        assert!(there.is_later_than(&rewritten, &mut backup).is_err());
    }
}
