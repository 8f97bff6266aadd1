//! An account as a row, and what a row must be.

use diesel::{Insertable, Queryable, Selectable};
use domain::{Account, PasswordHash, User, UserId, Username};
use jiff::Timestamp;

use crate::error::BrokenRow;
use crate::schema::users;

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = users, treat_none_as_default_value = false)]
pub(crate) struct Row {
    pub(super) id: i64,
    pub(super) username: String,
    pub(super) username_key: String,
    pub(super) password_hash: String,
    pub(super) credentials_epoch: i64,
    pub(super) disabled_at: Option<i64>,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
}

impl From<Account> for Row {
    fn from(Account { user, password_hash, credentials_epoch, disabled_at }: Account) -> Self {
        Self {
            id: user.id.0,
            username: user.name.as_typed().to_owned(),
            username_key: user.name.key().as_str().to_owned(),
            password_hash: password_hash.as_str().to_owned(),
            credentials_epoch,
            disabled_at: disabled_at.map(Timestamp::as_microsecond),
            created_at: user.created_at.as_microsecond(),
            updated_at: user.updated_at.as_microsecond(),
        }
    }
}

impl TryFrom<Row> for Account {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let broken = |column, found: i64| BrokenRow {
            table: "users",
            column,
            id: row.id.to_string(),
            found: found.to_string(),
        };
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
