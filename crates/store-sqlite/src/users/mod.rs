//! Users as rows: what is looked up by a reader, what is changed by the writer, and what a row must be.

pub(crate) mod bulk_copy;
mod commands;
pub(crate) mod queries;
pub(crate) mod rows;

use async_trait::async_trait;
use domain::ports::{Change, ConfirmedChange, Insertion, NewSession, NewUser, PortError, Renaming, UserRepo};
use domain::{
    Account, Attempt, AuditKey, Importation, ImportedUser, PasswordHash, UserId, Username, UsernameKey,
};

use crate::SqliteStore;
use crate::audit;
use crate::calling_thread::Connection;
use crate::error::StoreError;
use crate::throttles::commands as throttles;

#[async_trait]
impl UserRepo for SqliteStore {
    async fn insert(&self, user: NewUser, attempt: Attempt) -> Result<Insertion, PortError> {
        let counted = self.inside.audit_key.counted(user.name.key());
        let insert = async move |connection: &mut Connection| {
            let insertion = commands::insert(connection, &user).await?;
            if let Insertion::Done(_) = insertion {
                throttles::forget(connection, counted).await?;
            }
            Ok(insertion)
        };
        Ok(self.make(attempt, insert).await?)
    }

    async fn find(&self, id: UserId) -> Result<Option<Account>, PortError> {
        Ok(self.read(async move |reader: &mut Connection| queries::find(reader, id).await).await?)
    }

    async fn find_by_name(&self, name: UsernameKey) -> Result<Option<Account>, PortError> {
        Ok(self.read(async move |reader: &mut Connection| queries::find_by_name(reader, &name).await).await?)
    }

    async fn find_by_names(&self, names: Vec<UsernameKey>) -> Result<Vec<Account>, PortError> {
        Ok(self
            .read(async move |reader: &mut Connection| queries::find_by_names(reader, &names).await)
            .await?)
    }

    async fn last_number(&self) -> Result<UserId, PortError> {
        Ok(self.read(queries::last_number).await?)
    }

    async fn list(&self, after: UserId, limit: u32) -> Result<Vec<Account>, PortError> {
        Ok(self.read(async move |reader: &mut Connection| queries::list(reader, after, limit).await).await?)
    }

    async fn import(
        &self,
        users: Vec<ImportedUser>,
        attempt: Attempt,
    ) -> Result<Vec<Importation>, PortError> {
        let key = self.inside.audit_key.clone();
        let import = async move |connection: &mut Connection| {
            let mut outcomes = Vec::with_capacity(users.len());
            for user in &users {
                let done = commands::import(connection, user).await?;
                if let Importation::Done(_) = done {
                    throttles::forget(connection, key.counted(user.name.key())).await?;
                }
                audit::record(connection, &key, user.part_of(&attempt), &done).await?;
                outcomes.push(done);
            }
            Ok(outcomes)
        };
        Ok(self.write(import).await?)
    }

    async fn rehash(&self, id: UserId, old: PasswordHash, new: PasswordHash) -> Result<(), PortError> {
        Ok(self
            .write(async move |connection: &mut Connection| {
                commands::rehash(connection, id, &old, &new).await
            })
            .await?)
    }

    async fn set_password(
        &self,
        name: UsernameKey,
        hash: PasswordHash,
        attempt: Attempt,
    ) -> Result<Change, PortError> {
        let (at, counted) = (attempt.at, self.inside.audit_key.counted(&name));
        let set = async move |connection: &mut Connection| {
            let change = commands::set_password(connection, &name, &hash, at).await?;
            if let Change::Done(_) = change {
                throttles::forget(connection, counted).await?;
            }
            Ok(change)
        };
        Ok(self.make(attempt, set).await?)
    }

    async fn disable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let at = attempt.at;
        let disable = async move |connection: &mut Connection| commands::disable(connection, &name, at).await;
        Ok(self.make(attempt, disable).await?)
    }

    async fn enable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let at = attempt.at;
        let enable = async move |connection: &mut Connection| commands::enable(connection, &name, at).await;
        Ok(self.make(attempt, enable).await?)
    }

    async fn delete(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let counted = self.inside.audit_key.counted(&name);
        let delete = async move |connection: &mut Connection| {
            let change = commands::delete(connection, &name).await?;
            if let Change::Done(_) = change {
                throttles::forget(connection, counted).await?;
            }
            Ok(change)
        };
        Ok(self.make(attempt, delete).await?)
    }

    async fn rename(
        &self,
        id: UserId,
        credentials_epoch: i64,
        name: Username,
        attempt: Attempt,
    ) -> Result<Renaming, PortError> {
        let (at, key) = (attempt.at, self.inside.audit_key.clone());
        let rename = async move |connection: &mut Connection| {
            let renaming = commands::rename(connection, id, credentials_epoch, &name, at).await?;
            if let Renaming::Done { user, old_name } = &renaming {
                let [old, new] = [old_name, &user.name].map(|name| key.counted(name.key()));
                throttles::pass_on(connection, old, new).await?;
            }
            Ok(renaming)
        };
        Ok(self.make(attempt, rename).await?)
    }

    async fn change_password(
        &self,
        hash: PasswordHash,
        session: NewSession,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError> {
        let key = self.inside.audit_key.clone();
        let change = async move |connection: &mut Connection| {
            let change = commands::change_password(connection, &hash, &session).await?;
            forget_if_done(connection, &key, &change).await?;
            Ok(change)
        };
        Ok(self.make(attempt, change).await?)
    }

    async fn close_account(
        &self,
        id: UserId,
        credentials_epoch: i64,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError> {
        let key = self.inside.audit_key.clone();
        let close = async move |connection: &mut Connection| {
            let change = commands::close_account(connection, id, credentials_epoch).await?;
            forget_if_done(connection, &key, &change).await?;
            Ok(change)
        };
        Ok(self.make(attempt, close).await?)
    }
}

async fn forget_if_done(
    connection: &mut Connection,
    key: &AuditKey,
    change: &ConfirmedChange,
) -> Result<(), StoreError> {
    match change {
        ConfirmedChange::Done(user) => throttles::forget(connection, key.counted(user.name.key())).await,
        ConfirmedChange::CredentialsChanged | ConfirmedChange::NoAccount => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use diesel::connection::SimpleConnection;

    use super::*;
    use crate::testing::{Fixture, attempt, key, person};

    #[tokio::test]
    async fn a_row_that_no_code_of_ours_wrote_is_named_by_table_column_and_id() {
        for (column, value) in [
            ("credentials_epoch", "-5"),
            ("disabled_at", "9223372036854775807"),
            ("created_at", "-9223372036854775808"),
            ("updated_at", "999999999999999999"),
        ] {
            let fixture = Fixture::new();
            fixture.store.insert(person("ann"), attempt()).await.unwrap();
            let mut outsider = fixture.outsider();
            outsider.batch_execute("PRAGMA ignore_check_constraints = ON").unwrap();
            outsider.batch_execute(&format!("UPDATE users SET {column} = {value}")).unwrap();

            for error in [
                fixture.store.find(UserId(1)).await.unwrap_err(),
                fixture.store.find_by_name(key("ann")).await.unwrap_err(),
                fixture.store.list(UserId(0), 9).await.unwrap_err(),
            ] {
                let PortError::Failed(source) = &error else { panic!("{error:?}") };
                assert_eq!(
                    source.to_string(),
                    format!("the row of users with id 1 has a {column} that cannot be: {value}")
                );
            }
        }
    }

    #[tokio::test]
    async fn a_number_below_one_is_nobodys() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        let mut outsider = fixture.outsider();
        assert!(outsider.batch_execute("UPDATE users SET id = 0").is_err());
        outsider.batch_execute("PRAGMA ignore_check_constraints = ON; UPDATE users SET id = -3").unwrap();

        let error = fixture.store.find_by_name(key("ann")).await.unwrap_err();

        assert!(error.source().unwrap().to_string().contains("users with id -3"), "{error:?}");
    }

    #[tokio::test]
    async fn bytes_that_are_not_text_cannot_get_into_a_text_column() {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        let mut outsider = fixture.outsider();

        for column in ["username", "username_key", "password_hash"] {
            let refused = outsider.batch_execute(&format!("UPDATE users SET {column} = x'ff'"));
            assert!(refused.unwrap_err().to_string().contains("cannot store BLOB"), "{column}");
        }
        let refused = outsider.batch_execute("UPDATE users SET created_at = 'noon'");
        assert!(refused.unwrap_err().to_string().contains("cannot store TEXT"));
    }
}
