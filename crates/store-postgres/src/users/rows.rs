//! An account as a row, and what a row must be.

use diesel::data_types::PgTimestamp;
use diesel::{Insertable, Queryable, Selectable};
use domain::{Account, PasswordHash, User, UserId, Username};

use crate::error::BrokenRow;
use crate::schema::users;
use crate::sql_types::{self, timestamptz};

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = users)]
pub(crate) struct Row {
    pub(super) id: i64,
    pub(super) username: String,
    pub(super) username_key: String,
    pub(super) password_hash: String,
    pub(super) credentials_epoch: i64,
    pub(super) disabled_at: Option<PgTimestamp>,
    pub(super) created_at: PgTimestamp,
    pub(super) updated_at: PgTimestamp,
}

impl Row {
    pub(super) fn is_of(&self, id: UserId) -> bool {
        self.id == id.0
    }
}

impl From<Account> for Row {
    fn from(Account { user, password_hash, credentials_epoch, disabled_at }: Account) -> Self {
        Self {
            id: user.id.0,
            username: user.name.as_typed().to_owned(),
            username_key: user.name.key().as_str().to_owned(),
            password_hash: password_hash.as_str().to_owned(),
            credentials_epoch,
            disabled_at: disabled_at.map(timestamptz),
            created_at: timestamptz(user.created_at),
            updated_at: timestamptz(user.updated_at),
        }
    }
}

impl TryFrom<Row> for Account {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let broken =
            |column, found: String| BrokenRow { table: "users", column, id: row.id.to_string(), found };
        let time =
            |column, stored| sql_types::time(stored).ok_or_else(|| broken(column, sql_types::shown(stored)));
        if row.id <= 0 {
            return Err(broken("id", row.id.to_string()));
        }
        if row.credentials_epoch < 0 {
            return Err(broken("credentials_epoch", row.credentials_epoch.to_string()));
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
