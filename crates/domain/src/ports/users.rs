//! Where users are kept.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{NewSession, PortError};
use crate::{Account, Attempt, Importation, ImportedUser, PasswordHash, User, UserId, Username, UsernameKey};

/// Keeps users. Every method is one transaction: it happened whole, or not at all, even when nobody waits for
/// the answer any more, and what it answers is on disk. So is, by the same commit, what the attempt came to, as
/// [`crate::Conclusion`] tells it of the answer; the attempt's time is the time of the change.
///
/// What was counted of a name is of its owner's making, or of somebody's who took it for theirs: whoever takes the name,
/// gives it up or has a new password begins with nothing counted, and whoever takes another name has the same counted.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait UserRepo: Send + Sync {
    /// Takes the name for a new user, unless somebody has it. Of many who ask at once, one gets it.
    async fn insert(&self, user: NewUser, attempt: Attempt) -> Result<Insertion, PortError>;

    /// The account of this number.
    async fn find(&self, id: UserId) -> Result<Option<Account>, PortError>;

    /// The account of this name.
    async fn find_by_name(&self, name: UsernameKey) -> Result<Option<Account>, PortError>;

    /// The accounts of these names, in any order.
    async fn find_by_names(&self, names: Vec<UsernameKey>) -> Result<Vec<Account>, PortError>;

    /// The highest number that was ever given, or skipped; 0 before the first.
    async fn last_number(&self) -> Result<UserId, PortError>;

    /// Up to `limit` accounts with numbers above `after`, by number.
    async fn list(&self, after: UserId, limit: u32) -> Result<Vec<Account>, PortError>;

    /// Takes users in as they are, with fresh credentials' epochs, and tells in the same order what each came to: one
    /// whose name somebody has is [compared](ImportedUser::compared_with) and changes nothing, and a number that is to
    /// be kept is one that comes [after](ImportedUser::after) all that were given. Whoever signs up later gets a greater
    /// one. A few hundred at once are a transaction that lets others write in time.
    async fn import(&self, users: Vec<ImportedUser>, attempt: Attempt)
    -> Result<Vec<Importation>, PortError>;

    /// Keeps `new` for `old`, another encoding of the same password; does nothing when `old` is not there any
    /// more, since whoever changed it knew better.
    async fn rehash(&self, id: UserId, old: PasswordHash, new: PasswordHash) -> Result<(), PortError>;

    /// Keeps another password, raises the credentials' epoch, and ends the account's sessions.
    async fn set_password(
        &self,
        name: UsernameKey,
        hash: PasswordHash,
        attempt: Attempt,
    ) -> Result<Change, PortError>;

    /// Disables an account and ends its sessions; one that is disabled stays so since it first was.
    async fn disable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError>;

    /// Enables an account; one that is enabled stays so.
    async fn enable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError>;

    /// Removes an account and everything of it; from what is on record of it goes what could point to a person, at once
    /// or, if there is much, by [`AuditLog::blank_deleted`](super::AuditLog::blank_deleted). Its number is never given again.
    async fn delete(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError>;

    /// Gives an enabled account another name, or another spelling of its own, unless somebody else has it, if its
    /// credentials are still those of this epoch. Of many who ask for one name at once, one gets it; the old one is free
    /// when this is done.
    async fn rename(
        &self,
        id: UserId,
        credentials_epoch: i64,
        name: Username,
        attempt: Attempt,
    ) -> Result<Renaming, PortError>;

    /// Keeps another password for the user of `session`, raises the credentials' epoch, ends the account's sessions
    /// and opens this one, if the account is enabled and its credentials are still those of the session's epoch. Of
    /// many changes that rest on one password, one is made.
    async fn change_password(
        &self,
        hash: PasswordHash,
        session: NewSession,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError>;

    /// Removes an enabled account as [`UserRepo::delete`] does, if its credentials are still those of this epoch.
    async fn close_account(
        &self,
        id: UserId,
        credentials_epoch: i64,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError>;
}

/// A user who is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// The name to take.
    pub name: Username,
    /// What to keep of the password.
    pub password_hash: PasswordHash,
    /// When.
    pub at: Timestamp,
}

/// How taking a name ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// The user exists.
    Done(User),
    /// Somebody has that name, in this spelling or another.
    UsernameTaken,
}

/// How a change to an account ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This is the account after it; after a deletion, the account as it last was.
    Done(Account),
    /// Nobody has that name.
    UnknownUser,
}

/// How taking another name ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// The name was changed.
    Done {
        /// The user after it.
        user: User,
        /// The name before it.
        old_name: Username,
    },
    /// Somebody else has that name, in this spelling or another.
    UsernameTaken,
    /// The password was changed since it was checked.
    CredentialsChanged,
    /// The account is gone, or disabled.
    NoAccount,
}

/// How a change ends that rests on a password which was checked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfirmedChange {
    /// This is the user after it; after a removal, the user as they last were.
    Done(User),
    /// The password was changed since it was checked.
    CredentialsChanged,
    /// The account is gone, or disabled.
    NoAccount,
}
