//! The database of the Python service that came before this one: read, and never written.
//!
//! Its tables were made by `SQLAlchemy`, which keeps times as text, and its hashes by passlib. What stands in its rows
//! is anybody's guess, so that each is read for itself.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, Text};
use domain::{Candidate, PasswordHash};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::PATIENCE;
use crate::connection::{self, Role};
use crate::database_file::Location;
use crate::error::OpenProblem;
use crate::migrations;

/// What every SQLite database begins with (<https://www.sqlite.org/fileformat2.html#the_database_header>).
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Where a database says how it is to be read, and what it says there if it has a write-ahead log.
const READ_VERSION: usize = 19;
const WRITE_AHEAD_LOG: u8 = 2;

/// The users of a Python service.
pub struct PythonService {
    connection: SqliteConnection,
    page: String,
    after: i64,
}

/// A row of its table of users.
#[derive(Debug)]
pub struct PythonUser {
    /// Its number.
    pub id: i64,
    /// What stands in it.
    pub user: Result<Candidate, UnreadableRow>,
}

/// What is the matter with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnreadableRow {
    /// Nothing in it, or bytes that are no text.
    #[error("{0} is no text")]
    Text(&'static str),
    /// No time that `SQLAlchemy` writes.
    #[error("{0} is no time such as 2024-01-31 12:00:00.000000")]
    Time(&'static str),
}

/// Why its users cannot be read.
#[derive(Debug, Error)]
pub enum PythonServiceError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(OpenProblem),
    /// It cannot be looked at.
    #[error("the file cannot be read")]
    File(#[from] io::Error),
    /// A crash left something that only who may write can undo.
    #[error(
        "a change was left half done in it; start the Python service once more and stop it, which undoes that"
    )]
    HalfDone,
    /// It was made by this program.
    #[error("this is a database of auth-api itself; `auth-api users export` takes the users out of it")]
    Ours,
    /// There are no users, or not as the Python service keeps them.
    #[error(
        "this SQLite database is not the Python service's, which has a table `users` with the columns id, username, \
         created_at, and hashed_password or password_hash"
    )]
    OtherTables,
    /// It cannot be told which hash is in force.
    #[error("the table `users` has a hashed_password and a password_hash; drop the one that is not in use")]
    TwoHashes,
    /// SQLite's other encoding.
    #[error("the texts of this SQLite database are in {0}; only UTF-8 can be read")]
    Encoding(String),
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Integer)]
    key: i32,
}

#[derive(QueryableByName)]
struct Encoding {
    #[diesel(sql_type = Text)]
    encoding: String,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Bytes, because what is no UTF-8 would be made into some.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Nullable<Binary>)]
    username: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    hash: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    created_at: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    updated_at: Option<Vec<u8>>,
}

impl PythonService {
    /// Opens the database at `path`, if it is one.
    pub fn open(path: &Path) -> Result<Self, PythonServiceError> {
        let mut header = Vec::with_capacity(READ_VERSION + 1);
        File::open(path)?.take(header.capacity() as u64).read_to_end(&mut header)?;
        let location = Location::new(path)?;
        // With a log that is not there nobody has the file open, and all there is stands in it. SQLite would make the
        // log, which whoever only reads does not take away again.
        let has_log = location.log()?.exists();
        let is_at_rest = header.get(READ_VERSION) == Some(&WRITE_AHEAD_LOG) && !has_log;
        let url = if is_at_rest { location.unchanging_url() } else { location.reading_url() };
        let mut connection = connection::connect(&url, Role::Reader, PATIENCE)?;
        if migrations::is_marked(&mut connection)? {
            return Err(PythonServiceError::Ours);
        }
        let Encoding { encoding } = ask(&mut connection, "SELECT encoding FROM pragma_encoding")?.remove(0);
        if encoding != "UTF-8" {
            return Err(PythonServiceError::Encoding(encoding));
        }
        let page = page(&ask(
            &mut connection,
            "SELECT name, type AS kind, pk AS key FROM pragma_table_info('users')",
        )?)?;
        Ok(Self { connection, page, after: i64::MIN })
    }

    /// How many users there are.
    pub fn count(&mut self) -> Result<u64, PythonServiceError> {
        let count: Vec<Count> = ask(&mut self.connection, "SELECT count(*) AS count FROM users")?;
        Ok(count.iter().map(|it| it.count.unsigned_abs()).sum())
    }

    /// Begins again with the first user.
    pub fn rewind(&mut self) {
        self.after = i64::MIN;
    }

    /// The next users, by number; none at the end.
    pub fn next_page(&mut self, limit: u32) -> Result<Vec<PythonUser>, PythonServiceError> {
        #[expect(clippy::disallowed_methods, reason = "its columns have one name or another")]
        let page = diesel::sql_query(&self.page);
        let page = page.bind::<BigInt, _>(self.after).bind::<BigInt, _>(i64::from(limit));
        let rows: Vec<Row> = page.load(&mut self.connection)?;
        self.after = rows.last().map_or(self.after, |row| row.id);
        Ok(rows.into_iter().map(|row| PythonUser { id: row.id, user: row.try_into() }).collect())
    }
}

/// Asks for a page of users after a number. Nothing longer is read than can be of use.
fn page(columns: &[Column]) -> Result<String, PythonServiceError> {
    let has = |name: &str| columns.iter().any(|column| column.name == name);
    // Only then it is the number that SQLite gives, an integer in every row.
    let numbers =
        columns.iter().any(|it| it.name == "id" && it.key == 1 && it.kind.eq_ignore_ascii_case("INTEGER"));
    let other_key = columns.iter().any(|it| it.key > 1);
    if !numbers || other_key || !has("username") || !has("created_at") {
        return Err(PythonServiceError::OtherTables);
    }
    let hash = match (has("hashed_password"), has("password_hash")) {
        (true, true) => return Err(PythonServiceError::TwoHashes),
        (true, false) => "hashed_password",
        (false, true) => "password_hash",
        (false, false) => return Err(PythonServiceError::OtherTables),
    };
    let updated = if has("updated_at") { "updated_at" } else { "NULL" };
    Ok(format!(
        "SELECT id, substr(username, 1, 2048) AS username, substr({hash}, 1, 256) AS hash, \
         substr(created_at, 1, 64) AS created_at, substr({updated}, 1, 64) AS updated_at \
         FROM users WHERE id > ? ORDER BY id LIMIT ?"
    ))
}

fn ask<T: QueryableByName<diesel::sqlite::Sqlite> + 'static>(
    connection: &mut SqliteConnection,
    question: &str,
) -> QueryResult<Vec<T>> {
    #[expect(clippy::disallowed_methods, reason = "the DSL knows no pragma that takes an argument")]
    diesel::sql_query(question).load(connection)
}

impl TryFrom<Row> for Candidate {
    type Error = UnreadableRow;

    fn try_from(row: Row) -> Result<Self, UnreadableRow> {
        let text = |name, bytes: Option<Vec<u8>>| {
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(UnreadableRow::Text(name))
        };
        let created_at = row.created_at.as_deref().and_then(time).ok_or(UnreadableRow::Time("created_at"))?;
        let updated_at = match row.updated_at.as_deref() {
            Some(bytes) => time(bytes).ok_or(UnreadableRow::Time("updated_at"))?,
            // SQLAlchemy's `onupdate` leaves it empty until something changes.
            None => created_at,
        };
        Ok(Self {
            id: Some(row.id),
            username: text("username", row.username)?,
            password_hash: PasswordHash::new(text("the hash", row.hash)?),
            created_at,
            updated_at,
            disabled_at: None,
        })
    }
}

/// A time as `SQLAlchemy` writes it, or `CURRENT_TIMESTAMP`: of no zone, and of UTC.
fn time(bytes: &[u8]) -> Option<Timestamp> {
    // A day alone is none.
    const SHORTEST: usize = "2024-01-31 12:00:00".len();
    let text = str::from_utf8(bytes).ok().filter(|text| text.len() >= SHORTEST)?;
    if let Ok(moment) = text.parse() {
        return Some(moment);
    }
    let time: DateTime = text.parse().ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

impl From<OpenProblem> for PythonServiceError {
    fn from(problem: OpenProblem) -> Self {
        match problem {
            // SQLite undoes what a crash left half done before anything is read, and may not here.
            OpenProblem::ReadOnly => Self::HalfDone,
            other => Self::Open(other),
        }
    }
}

impl From<diesel::result::Error> for PythonServiceError {
    fn from(error: diesel::result::Error) -> Self {
        OpenProblem::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use diesel::connection::SimpleConnection as _;
    use tempfile::TempDir;

    use super::*;

    const TABLE: &str = "CREATE TABLE users (
        id INTEGER NOT NULL, username VARCHAR NOT NULL, hashed_password VARCHAR NOT NULL,
        created_at DATETIME, updated_at DATETIME, PRIMARY KEY (id)
    );";

    const ANN: &str = "INSERT INTO users VALUES
        (3, 'Ann', '$2b$12$x', '2024-01-31 12:00:00.000001', '2024-02-01 00:00:00');";

    /// A database that these statements made, and the folder that it is alone in.
    fn made(statements: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        connection.batch_execute(statements).unwrap();
        (folder, path)
    }

    fn users(path: &Path) -> Vec<PythonUser> {
        PythonService::open(path).unwrap().next_page(100).unwrap()
    }

    fn refusal(statements: &str) -> PythonServiceError {
        PythonService::open(&made(statements).1).err().unwrap()
    }

    fn files(folder: &TempDir) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    #[test]
    fn users_are_read_whatever_the_hash_is_called() {
        let renamed = format!("{TABLE}{ANN} ALTER TABLE users RENAME hashed_password TO password_hash;");
        for statements in [&format!("{TABLE}{ANN}"), &renamed] {
            let (_folder, path) = made(statements);

            let users = users(&path);

            let ann = Candidate {
                id: Some(3),
                username: "Ann".to_owned(),
                password_hash: PasswordHash::new("$2b$12$x".to_owned()),
                created_at: "2024-01-31T12:00:00.000001Z".parse().unwrap(),
                updated_at: "2024-02-01T00:00:00Z".parse().unwrap(),
                disabled_at: None,
            };
            assert_eq!((users[0].id, users[0].user.clone()), (3, Ok(ann)));
            assert_eq!(users.len(), 1);
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_leaves_its_neighbours_alone() {
        let (_folder, path) = made(&format!(
            "{TABLE}{ANN} INSERT INTO users VALUES
            (4, x'ff', '', '2024-01-31 12:00:00', NULL), (5, 'bob', x'ff', '2024-01-31 12:00:00', NULL),
            (6, 'bob', '', NULL, NULL), (7, 'bob', '', '31.1.2024', NULL), (8, 'bob', '', '2024-01-31', NULL),
            (9, 'bob', '', 1706702400, NULL), (10, 'bob', '', '2024-02-30 12:00:00', NULL),
            (11, 'bob', '', '2024-01-31 12:00:00', 'never'), (12, 7, 8, '2024-01-31 13:00:00+01:00', NULL)"
        ));

        let users = users(&path);

        let problems: Vec<_> = users.iter().map(|it| it.user.as_ref().err().copied()).collect();
        let (text, time) = (|it| Some(UnreadableRow::Text(it)), |it| Some(UnreadableRow::Time(it)));
        let created = time("created_at");
        assert_eq!(
            problems,
            [
                None,
                text("username"),
                text("the hash"),
                created,
                created,
                created,
                created,
                created,
                time("updated_at"),
                None
            ]
        );
        let last = users.last().unwrap().user.clone().unwrap();
        let noon: Timestamp = "2024-01-31T12:00:00Z".parse().unwrap();
        assert_eq!((&*last.username, last.created_at, last.updated_at), ("7", noon, noon));
    }

    #[test]
    fn pages_follow_each_other_by_number_and_begin_again() {
        let rows: Vec<_> =
            (-5..20).map(|id| format!("({id}, 'user{id}', '', '2024-01-31 12:00:00', NULL)")).collect();
        let (_folder, path) = made(&format!("{TABLE} INSERT INTO users VALUES {}", rows.join(",")));
        let mut service = PythonService::open(&path).unwrap();

        for _ in 0..2 {
            let mut ids = Vec::new();
            loop {
                let page = service.next_page(10).unwrap();
                if page.is_empty() {
                    break;
                }
                ids.extend(page.iter().map(|user| user.id));
            }
            assert_eq!(ids, (-5..20).collect::<Vec<_>>());
            service.rewind();
        }
        assert_eq!(service.count().unwrap(), 25);
    }

    #[test]
    fn a_database_that_is_not_the_python_services_is_told_from_one_that_is() {
        use PythonServiceError as E;
        let both = format!("{TABLE} ALTER TABLE users ADD COLUMN password_hash");
        let texts = TABLE.replace("id INTEGER", "id TEXT");
        let no_hash = TABLE.replace("hashed_password", "salt");

        assert!(matches!(refusal("CREATE TABLE people (id)"), E::OtherTables));
        assert!(matches!(refusal("CREATE VIEW users AS SELECT 1 AS id"), E::OtherTables));
        assert!(matches!(refusal(&texts), E::OtherTables));
        assert!(matches!(refusal(&no_hash), E::OtherTables));
        assert!(matches!(refusal(&both), E::TwoHashes));
        assert!(matches!(refusal(&format!("PRAGMA encoding = 'UTF-16'; {TABLE}")), E::Encoding(_)));
        assert!(matches!(refusal(&format!("PRAGMA application_id = 1635087464; {TABLE}")), E::Ours));
    }

    #[test]
    fn what_is_in_a_write_ahead_log_is_read_as_well() {
        let (folder, path) = made(&format!("PRAGMA journal_mode = WAL; {TABLE}{ANN}"));
        let mut running = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        running.batch_execute("INSERT INTO users SELECT 4, 'bob', '', created_at, NULL FROM users").unwrap();
        assert!(folder.path().join("app.db-wal").metadata().unwrap().len() > 0);

        assert_eq!(users(&path).iter().map(|user| user.id).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn reading_leaves_the_folder_as_it_was() {
        for mode in ["DELETE", "WAL"] {
            let (folder, path) = made(&format!("PRAGMA journal_mode = {mode}; {TABLE}{ANN}"));
            let before = files(&folder);

            assert_eq!(users(&path).len(), 1);

            assert_eq!(files(&folder), before, "{mode}");
        }
    }

    #[test]
    fn nobody_can_write_through_it() {
        let (_folder, path) = made(&format!("{TABLE}{ANN}"));
        let mut service = PythonService::open(&path).unwrap();

        service.connection.batch_execute("PRAGMA query_only = OFF").unwrap();

        assert!(service.connection.batch_execute("DELETE FROM users").is_err());
    }

    #[test]
    fn a_damaged_file_and_one_that_is_missing_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let open = || PythonService::open(&path).err().unwrap();

        assert!(matches!(open(), PythonServiceError::File(_)));
        fs::write(&path, [MAGIC.as_slice(), &[7; 1000]].concat()).unwrap();
        assert!(matches!(open(), PythonServiceError::Open(OpenProblem::NotADatabase)));
    }
}
