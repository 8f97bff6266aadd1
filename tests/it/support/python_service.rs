//! A database as the Python service left it.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

/// Passwords, and what passlib 1.7.4 made of them with bcrypt 4.0.1, at cost 10. The last one is what was left of
/// [`LONG`].
pub(crate) const PASSWORDS: [(&str, &str); 4] = [
    ("seven brown otters sing", "$2b$10$iJoYuIVFsKYKVMAk03iAh.TQURpVpiVKLzYwCu5Z.I7LPMYLYy26O"),
    ("correct horse battery staple", "$2b$10$Cy0rdt08XgdAcPG9ica9Yews5xFP.UdDa1E7M2QvRpGtXhw0p.j5a"),
    ("пароль, который знаю я", "$2b$10$eja/FuxuK3PfWL1EWQRK5uXoGXryjNwkLhEyDlI3EWkQSazuysux2"),
    (
        "seventy-two bytes are as many as bcrypt reads, and what follows is cut! ",
        "$2b$10$mPE9/8GDleNtneZnf9GMceUGCKL4/c/NWMhbN6YMpBeMnjtCcnoT6",
    ),
];

/// What the owner of the last one had typed.
pub(crate) const LONG: &str =
    "seventy-two bytes are as many as bcrypt reads, and what follows is cut! and this makes no difference";

/// The tables that `alembic upgrade head` made.
const TABLES: &str = "
    CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
    CREATE TABLE users (
        id INTEGER NOT NULL,
        username VARCHAR NOT NULL,
        hashed_password VARCHAR NOT NULL,
        created_at DATETIME DEFAULT (CURRENT_TIMESTAMP),
        updated_at DATETIME,
        PRIMARY KEY (id)
    );
    CREATE UNIQUE INDEX ix_users_username ON users (username);";

/// Makes one in `folder`, with these users, each a list of values in SQL.
pub(crate) fn database(folder: &Path, users: impl IntoIterator<Item = String>) -> PathBuf {
    let path = folder.join("app.db");
    let mut connection = connect(&path);
    let users: Vec<_> = users.into_iter().collect();
    connection.batch_execute(TABLES).unwrap();
    if !users.is_empty() {
        connection.batch_execute(&format!("INSERT INTO users VALUES {}", users.join(","))).unwrap();
    }
    path
}

/// A connection like that of the service itself.
pub(crate) fn connect(path: &Path) -> SqliteConnection {
    SqliteConnection::establish(path.to_str().unwrap()).unwrap()
}

/// A user whose password is one of [`PASSWORDS`].
pub(crate) fn user(id: usize, name: &str) -> String {
    let hash = PASSWORDS[id % PASSWORDS.len()].1;
    format!("({id}, '{name}', '{hash}', '2023-05-06 07:08:09.{id:06}', '2024-05-06 07:08:09.000000')")
}
