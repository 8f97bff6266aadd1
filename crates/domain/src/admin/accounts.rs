//! Creating, listing, changing and deleting accounts.

use std::sync::Arc;

use thiserror::Error;

use super::Admin;
use crate::audit::recorder::PendingAuditEvent;
use crate::auth::sign_up::hash_new;
use crate::maintenance::purge::blank_deleted;
use crate::ports::{Change, Hasher, HasherError, Insertion, NewUser, PortError, UserRepo};
use crate::{
    Account, Action, Attempt, Origin, Outcome, Password, PasswordProblem, Tries, User, UserId, Username,
    UsernameKey, Whence,
};

/// Why an account stayed as it was.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Nobody has that name.
    #[error("there is no such user")]
    UnknownUser,
    /// The store could not do it.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Why there is no new account.
#[derive(Debug, Error)]
pub enum CreateAccountError {
    /// Somebody has that name, in this spelling or another.
    #[error("the username is taken")]
    UsernameTaken,
    /// The password cannot be chosen.
    #[error(transparent)]
    Password(#[from] PasswordProblem),
    /// The password could not be hashed.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// The user could not be kept.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Why a password stayed as it was.
#[derive(Debug, Error)]
pub enum SetPasswordError {
    /// The new one cannot be chosen.
    #[error(transparent)]
    Password(#[from] PasswordProblem),
    /// The new one could not be hashed.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// The account could not be changed.
    #[error(transparent)]
    Account(#[from] AdminError),
}

impl Admin {
    /// Up to `limit` accounts with numbers above `after`, by number.
    pub async fn list_accounts(&self, after: UserId, limit: u32) -> Result<Vec<Account>, PortError> {
        self.ports.users.list(after, limit).await
    }

    /// The account of this name.
    pub async fn find_account(&self, name: &Username) -> Result<Account, AdminError> {
        let account = self.ports.users.find_by_name(name.key().clone()).await?;
        account.ok_or(AdminError::UnknownUser)
    }

    /// Shuts an account: it logs in no more, and its tokens open nothing here from now on.
    pub async fn disable(&self, name: &Username) -> Result<Account, AdminError> {
        let attempt = self.begin(Action::Disable, name);
        self.change(attempt, name, async |users, name, attempt| users.disable(name, attempt).await).await
    }

    /// Opens an account again.
    pub async fn enable(&self, name: &Username) -> Result<Account, AdminError> {
        let attempt = self.begin(Action::Enable, name);
        self.change(attempt, name, async |users, name, attempt| users.enable(name, attempt).await).await
    }

    /// Removes an account and everything of it.
    pub async fn delete(&self, name: &Username) -> Result<Account, AdminError> {
        let attempt = self.begin(Action::Delete, name);
        let delete = async |users: Arc<dyn UserRepo>, name, attempt| users.delete(name, attempt).await;
        let account = self.change(attempt, name, delete).await?;
        // The account is gone. What cannot be blanked now is when a server next looks.
        _ = blank_deleted(&*self.ports.audit_log).await;
        Ok(account)
    }

    /// Forgets the wrong passwords that were tried for an account, so that it may be tried again at once.
    pub async fn unlock(&self, name: &Username) -> Result<Account, AdminError> {
        let attempt = self.begin(Action::Unlock, name);
        let (throttle, name) = (self.ports.throttle.clone(), name.key().clone());
        let unlock = async move |attempt| throttle.unlock(name, attempt).await;
        match self.recorder.finish(attempt.commit_with(unlock)).await?? {
            Change::Done(account) => Ok(account),
            Change::UnknownUser => Err(AdminError::UnknownUser),
        }
    }

    /// The wrong passwords that were tried for an account, by where they came from.
    pub async fn tries(&self, name: &Username) -> Result<Vec<(Whence, Tries)>, PortError> {
        self.ports.throttle.tries(name.key().clone()).await
    }

    /// Makes an account, also where nobody may sign up.
    pub async fn create_account(
        &self,
        hasher: &dyn Hasher,
        name: Username,
        password: Password,
    ) -> Result<User, CreateAccountError> {
        let event = self.begin(Action::SignUp, &name);
        let requester = Origin::CommandLine.requester();
        let hashing = hash_new::<CreateAccountError>(hasher, self.passwords, requester, &name, password);
        let password_hash = match hashing.await {
            Ok(hash) => hash,
            Err(error) => {
                event.fail(error.outcome());
                return Err(error);
            }
        };
        let new = NewUser { name, password_hash, at: self.ports.clock.now() };
        let users = self.ports.users.clone();
        let insert = async move |attempt| users.insert(new, attempt).await;
        match self.recorder.finish(event.commit_with(insert)).await?? {
            Insertion::Done(user) => Ok(user),
            Insertion::UsernameTaken => Err(CreateAccountError::UsernameTaken),
        }
    }

    /// Sets a password without asking for the old one, by the rules of a sign-up.
    pub async fn set_password(
        &self,
        hasher: &dyn Hasher,
        name: &Username,
        password: Password,
    ) -> Result<Account, SetPasswordError> {
        let event = self.begin(Action::SetPassword, name);
        let requester = Origin::CommandLine.requester();
        let hash = match hash_new::<SetPasswordError>(hasher, self.passwords, requester, name, password).await
        {
            Ok(hash) => hash,
            Err(error) => {
                event.fail(error.outcome());
                return Err(error);
            }
        };
        let set = async move |users: Arc<dyn UserRepo>, name, attempt| {
            users.set_password(name, hash, attempt).await
        };
        Ok(self.change(event, name, set).await?)
    }

    async fn change<F>(
        &self,
        attempt: PendingAuditEvent,
        name: &Username,
        change: impl FnOnce(Arc<dyn UserRepo>, UsernameKey, Attempt) -> F + Send + 'static,
    ) -> Result<Account, AdminError>
    where
        F: Future<Output = Result<Change, PortError>> + Send + 'static,
    {
        let (users, name) = (self.ports.users.clone(), name.key().clone());
        match self.recorder.finish(attempt.commit_with(|attempt| change(users, name, attempt))).await?? {
            Change::Done(account) => Ok(account),
            Change::UnknownUser => Err(AdminError::UnknownUser),
        }
    }
}

impl CreateAccountError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::UsernameTaken => Outcome::Refused("username_taken"),
            Self::Password(_) => Outcome::Refused("password_refused"),
            Self::Hasher(error) => error.outcome(),
            Self::Port(_) => Outcome::Failed,
        }
    }
}

impl SetPasswordError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Password(_) => Outcome::Refused("password_refused"),
            Self::Hasher(error) => error.outcome(),
            Self::Account(AdminError::UnknownUser) => Outcome::Refused("unknown_user"),
            Self::Account(AdminError::Port(_)) => Outcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subject;
    use crate::ports::{MockHasher, MockUserRepo, NewHash, Ports};
    use crate::testing::{self, admin, ann, hash, noon, password, ports, username};

    #[tokio::test]
    async fn a_disabled_account_is_answered_and_put_on_record() {
        let mut users = MockUserRepo::new();
        users
            .expect_disable()
            .withf(|name, attempt| name.as_str() == "ann" && attempt.at == noon())
            .returning(|_, Attempt { at, .. }| Ok(Change::Done(Account { disabled_at: Some(at), ..ann() })));
        let (audit_stream, events) = testing::audit_stream();
        let admin = admin(Ports { users: Arc::new(users), audit_stream, ..ports() });

        let account = admin.disable(&username("Ann")).await.unwrap();

        assert_eq!(account.disabled_at, Some(noon()));
        assert_eq!(events.taken(), [(Action::Disable, Outcome::Success, Subject::User(ann().user.id))]);
    }

    #[tokio::test]
    async fn nobody_is_told_from_somebody() {
        let mut users = MockUserRepo::new();
        users.expect_enable().returning(|_, _| Ok(Change::UnknownUser));
        users.expect_delete().returning(|_, _| Ok(Change::UnknownUser));
        users.expect_find_by_name().returning(|_| Ok(None));
        let (audit_stream, _) = testing::audit_stream();
        let admin = admin(Ports { users: Arc::new(users), audit_stream, ..ports() });

        let answers = [
            admin.enable(&username("ann")).await,
            admin.delete(&username("ann")).await,
            admin.find_account(&username("ann")).await,
        ];

        assert!(answers.iter().all(|answer| matches!(answer, Err(AdminError::UnknownUser))));
    }

    #[tokio::test]
    async fn operator_makes_an_account_by_the_rules_of_a_sign_up() {
        let mut hasher = MockHasher::new();
        hasher.expect_hash_new().returning(|new, _| {
            Ok(new.judge().map_or_else(NewHash::Refused, |()| NewHash::Done(hash("new"))))
        });
        let mut users = MockUserRepo::new();
        users.expect_insert().once().returning(|_, _| Ok(Insertion::Done(ann().user)));
        users.expect_insert().returning(|_, _| Ok(Insertion::UsernameTaken));
        let (audit_stream, events) = testing::audit_stream();
        let admin = admin(Ports { users: Arc::new(users), audit_stream, ..ports() });

        let create = |text| admin.create_account(&hasher, username("ann"), password(text));

        assert_eq!(create("kq7wzmv1").await.unwrap(), ann().user);
        assert!(matches!(create("kq7wzmv1").await, Err(CreateAccountError::UsernameTaken)));
        let refused = create("password").await;
        assert!(matches!(refused, Err(CreateAccountError::Password(PasswordProblem::TooGuessable))));
        let outcomes: Vec<_> = events.taken().into_iter().map(|(_, outcome, _)| outcome).collect();
        let refusals = ["username_taken", "password_refused"].map(Outcome::Refused);
        assert_eq!(outcomes, [&[Outcome::Success][..], &refusals].concat());
    }

    #[tokio::test]
    async fn an_operator_sets_passwords_by_the_rules_of_a_sign_up() {
        let mut hasher = MockHasher::new();
        hasher.expect_hash_new().returning(|new, _| {
            Ok(new.judge().map_or_else(NewHash::Refused, |()| NewHash::Done(hash("set"))))
        });
        let mut users = MockUserRepo::new();
        users
            .expect_set_password()
            .withf(|_, new, _| *new == hash("set"))
            .once()
            .returning(|_, _, _| Ok(Change::Done(ann())));
        let (audit_stream, events) = testing::audit_stream();
        let admin = admin(Ports { users: Arc::new(users), audit_stream, ..ports() });

        let set = |text| admin.set_password(&hasher, &ANN, password(text));

        assert!(set("kq7wzmv1").await.is_ok());
        let refused = set("password").await.unwrap_err();
        assert!(matches!(refused, SetPasswordError::Password(PasswordProblem::TooGuessable)));
        let outcomes: Vec<_> = events.taken().into_iter().map(|(_, outcome, _)| outcome).collect();
        assert_eq!(outcomes, [Outcome::Success, Outcome::Refused("password_refused")]);
    }

    static ANN: std::sync::LazyLock<Username> = std::sync::LazyLock::new(|| username("ann"));
}
