//! Users as rows: what is looked up by a reader, what is changed by the writer, and what a row must be.

mod changes;
mod lookups;

use async_trait::async_trait;
use diesel::{Queryable, Selectable};
use domain::ports::{Change, Insertion, NewUser, PortError, UserRepo};
use domain::{Account, PasswordHash, User, UserId, Username, UsernameKey};
use jiff::Timestamp;

use crate::SqliteStore;
use crate::error::BrokenRow;
use crate::schema::users;

#[async_trait]
impl UserRepo for SqliteStore {
    async fn insert(&self, user: NewUser) -> Result<Insertion, PortError> {
        Ok(self.write(move |connection| changes::insert(connection, &user)).await?)
    }

    async fn find(&self, id: UserId) -> Result<Option<Account>, PortError> {
        Ok(self.read(async move |mut reader| lookups::find(&mut reader, id).await).await?)
    }

    async fn find_by_name(&self, name: UsernameKey) -> Result<Option<Account>, PortError> {
        Ok(self.read(async move |mut reader| lookups::find_by_name(&mut reader, &name).await).await?)
    }

    async fn list(&self, after: UserId, limit: u32) -> Result<Vec<Account>, PortError> {
        Ok(self.read(async move |mut reader| lookups::list(&mut reader, after, limit).await).await?)
    }

    async fn rehash(&self, id: UserId, old: PasswordHash, new: PasswordHash) -> Result<(), PortError> {
        Ok(self.write(move |connection| changes::rehash(connection, id, &old, &new)).await?)
    }

    async fn set_password(
        &self,
        name: UsernameKey,
        hash: PasswordHash,
        at: Timestamp,
    ) -> Result<Change, PortError> {
        Ok(self.write(move |connection| changes::set_password(connection, &name, &hash, at)).await?)
    }

    async fn disable(&self, name: UsernameKey, at: Timestamp) -> Result<Change, PortError> {
        Ok(self.write(move |connection| changes::disable(connection, &name, at)).await?)
    }

    async fn enable(&self, name: UsernameKey, at: Timestamp) -> Result<Change, PortError> {
        Ok(self.write(move |connection| changes::enable(connection, &name, at)).await?)
    }

    async fn delete(&self, name: UsernameKey) -> Result<Change, PortError> {
        Ok(self.write(move |connection| changes::delete(connection, &name)).await?)
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
struct Row {
    id: i64,
    username: String,
    username_key: String,
    password_hash: String,
    credentials_epoch: i64,
    disabled_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
}

impl TryFrom<Row> for Account {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let broken = |column, found| BrokenRow { table: "users", column, id: row.id, found };
        let time = |column, found| Timestamp::from_microsecond(found).map_err(|_| broken(column, found));
        if row.id <= 0 {
            return Err(broken("id", row.id));
        }
        if row.credentials_epoch < 0 {
            return Err(broken("credentials_epoch", row.credentials_epoch));
        }
        Ok(Account {
            disabled_at: row.disabled_at.map(|at| time("disabled_at", at)).transpose()?,
            user: User {
                id: UserId(row.id),
                created_at: time("created_at", row.created_at)?,
                updated_at: time("updated_at", row.updated_at)?,
                name: Username::from_stored(row.username, row.username_key),
            },
            password_hash: PasswordHash::new(row.password_hash),
            credentials_epoch: row.credentials_epoch,
        })
    }
}
