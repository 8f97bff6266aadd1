//! Users as rows: what is looked up, what is changed, and what a row must be.

pub(crate) mod bulk_copy;
mod commands;
mod import;
pub(crate) mod queries;
pub(crate) mod rows;

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;
use domain::ports::{Change, ConfirmedChange, Insertion, NewSession, NewUser, PortError, Renaming, UserRepo};
use domain::{
    Account, Attempt, AuditKey, Importation, ImportedUser, PasswordHash, UserId, Username, UsernameKey,
};
use futures_util::FutureExt as _;

use crate::PostgresStore;
use crate::audit;
use crate::error::StoreError;
use crate::throttles::commands as throttles;

#[async_trait]
impl UserRepo for PostgresStore {
    async fn insert(&self, user: NewUser, attempt: Attempt) -> Result<Insertion, PortError> {
        let work = self.make(attempt, (user, self.inside.audit_key.clone()), |connection, (user, key)| {
            async move {
                let insertion = commands::insert(connection, user).await?;
                if let Insertion::Done(user) = &insertion {
                    throttles::forget(connection, &[key.counted(user.name.key())]).await?;
                }
                Ok(insertion)
            }
            .boxed()
        });
        Ok(work.await?)
    }

    async fn find(&self, id: UserId) -> Result<Option<Account>, PortError> {
        Ok(self.read(id, |connection, id| queries::find(connection, *id).boxed()).await?)
    }

    async fn find_by_name(&self, name: UsernameKey) -> Result<Option<Account>, PortError> {
        Ok(self.read(name, |connection, name| queries::find_by_name(connection, name).boxed()).await?)
    }

    async fn find_by_names(&self, names: Vec<UsernameKey>) -> Result<Vec<Account>, PortError> {
        let query = self.read(names, |connection, names| queries::find_by_names(connection, names).boxed());
        Ok(query.await?)
    }

    async fn last_number(&self) -> Result<UserId, PortError> {
        Ok(self.read((), |connection, ()| queries::last_number(connection).boxed()).await?)
    }

    async fn list(&self, after: UserId, limit: u32) -> Result<Vec<Account>, PortError> {
        let page = (after, limit);
        Ok(self.read(page, |connection, page| queries::list(connection, page.0, page.1).boxed()).await?)
    }

    async fn import(
        &self,
        users: Vec<ImportedUser>,
        attempt: Attempt,
    ) -> Result<Vec<Importation>, PortError> {
        let work = self.write(
            (users, attempt, self.inside.audit_key.clone()),
            |connection, (users, attempt, key)| {
                async move {
                    let done = import::import(connection, users).await?;
                    let new =
                        users.iter().zip(&done).filter(|(_, done)| matches!(done, Importation::Done(_)));
                    let counted: Vec<_> = new.map(|(user, _)| key.counted(user.name.key())).collect();
                    throttles::forget(connection, &counted).await?;
                    let parts = users.iter().map(|user| user.part_of(attempt)).zip(&done);
                    audit::record_all(connection, key, parts).await?;
                    Ok(done)
                }
                .boxed()
            },
        );
        Ok(work.await?)
    }

    async fn rehash(&self, id: UserId, old: PasswordHash, new: PasswordHash) -> Result<(), PortError> {
        let work = self.write((id, old, new), |connection, (id, old, new)| {
            commands::rehash(connection, *id, old, new).boxed()
        });
        Ok(work.await?)
    }

    async fn set_password(
        &self,
        name: UsernameKey,
        hash: PasswordHash,
        attempt: Attempt,
    ) -> Result<Change, PortError> {
        let at = attempt.at;
        let work = self.make(
            attempt,
            (name, hash, at, self.inside.audit_key.clone()),
            |connection, (name, hash, at, key)| {
                async move {
                    let change = commands::set_password(connection, name, hash, *at).await?;
                    forget_if_changed(connection, key, &change).await?;
                    Ok(change)
                }
                .boxed()
            },
        );
        Ok(work.await?)
    }

    async fn disable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let at = attempt.at;
        let work = self.make(attempt, (name, at), |connection, (name, at)| {
            commands::disable(connection, name, *at).boxed()
        });
        Ok(work.await?)
    }

    async fn enable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let at = attempt.at;
        let work = self.make(attempt, (name, at), |connection, (name, at)| {
            commands::enable(connection, name, *at).boxed()
        });
        Ok(work.await?)
    }

    async fn delete(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let work = self.make(attempt, (name, self.inside.audit_key.clone()), |connection, (name, key)| {
            async move {
                let change = commands::delete(connection, name).await?;
                forget_if_changed(connection, key, &change).await?;
                Ok(change)
            }
            .boxed()
        });
        Ok(work.await?)
    }

    async fn rename(
        &self,
        id: UserId,
        credentials_epoch: i64,
        name: Username,
        attempt: Attempt,
    ) -> Result<Renaming, PortError> {
        let at = attempt.at;
        let work = self.make(
            attempt,
            (id, credentials_epoch, name, at, self.inside.audit_key.clone()),
            |connection, (id, epoch, name, at, key)| {
                async move {
                    let renaming = commands::rename(connection, *id, *epoch, name, *at).await?;
                    if let Renaming::Done { user, old_name } = &renaming {
                        let [old, new] = [old_name, &user.name].map(|name| key.counted(name.key()));
                        throttles::pass_on(connection, old, new).await?;
                    }
                    Ok(renaming)
                }
                .boxed()
            },
        );
        Ok(work.await?)
    }

    async fn change_password(
        &self,
        hash: PasswordHash,
        session: NewSession,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError> {
        let work = self.make(
            attempt,
            (hash, session, self.inside.audit_key.clone()),
            |connection, (hash, session, key)| {
                async move {
                    let change = commands::change_password(connection, hash, session).await?;
                    forget_if_confirmed(connection, key, &change).await?;
                    Ok(change)
                }
                .boxed()
            },
        );
        Ok(work.await?)
    }

    async fn close_account(
        &self,
        id: UserId,
        credentials_epoch: i64,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError> {
        let work = self.make(
            attempt,
            (id, credentials_epoch, self.inside.audit_key.clone()),
            |connection, (id, epoch, key)| {
                async move {
                    let change = commands::close_account(connection, *id, *epoch).await?;
                    forget_if_confirmed(connection, key, &change).await?;
                    Ok(change)
                }
                .boxed()
            },
        );
        Ok(work.await?)
    }
}

async fn forget_if_changed(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    change: &Change,
) -> Result<(), StoreError> {
    match change {
        Change::Done(account) => throttles::forget(connection, &[key.counted(account.user.name.key())]).await,
        Change::UnknownUser => Ok(()),
    }
}

async fn forget_if_confirmed(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    change: &ConfirmedChange,
) -> Result<(), StoreError> {
    match change {
        ConfirmedChange::Done(user) => throttles::forget(connection, &[key.counted(user.name.key())]).await,
        ConfirmedChange::CredentialsChanged | ConfirmedChange::NoAccount => Ok(()),
    }
}
