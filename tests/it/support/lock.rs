//! Somebody else who writes to the database, and takes their time.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

/// Holds the database's write lock until it is dropped.
pub(crate) struct Lock {
    connection: SqliteConnection,
}

impl Lock {
    pub(crate) fn take(database: &Path) -> Self {
        let mut connection = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
        connection.batch_execute("BEGIN IMMEDIATE").unwrap();
        Self { connection }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.connection.batch_execute("ROLLBACK").unwrap();
    }
}
