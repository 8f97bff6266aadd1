//! What an operator does with somebody's account.

use std::sync::Arc;

use thiserror::Error;

use super::Auth;
use super::attempt::UnderWay;
use crate::ports::{Change, HasherError, PortError, UserRepo};
use crate::{
    Account, Action, Attempt, Origin, Outcome, Password, PasswordProblem, Tries, UserId, Username,
    UsernameKey, Whence,
};

/// Why an account stayed as it was.
#[derive(Debug, Error)]
pub enum AdministerError {
    /// Nobody has that name.
    #[error("there is no such user")]
    UnknownUser,
    /// The store could not do it.
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
    Account(#[from] AdministerError),
}

impl Auth {
    /// Up to `limit` accounts with numbers above `after`, by number.
    pub async fn list_accounts(&self, after: UserId, limit: u32) -> Result<Vec<Account>, PortError> {
        self.ports.users.list(after, limit).await
    }

    /// The account of this name.
    pub async fn find_account(&self, name: &Username) -> Result<Account, AdministerError> {
        let account = self.ports.users.find_by_name(name.key().clone()).await?;
        account.ok_or(AdministerError::UnknownUser)
    }

    /// Shuts an account: it logs in no more, and its tokens open nothing here from now on.
    pub async fn disable(&self, origin: Origin, name: &Username) -> Result<Account, AdministerError> {
        let attempt = self.attempt(Action::Disable, name, origin);
        self.change(attempt, name, async |users, name, attempt| users.disable(name, attempt).await).await
    }

    /// Opens an account again.
    pub async fn enable(&self, origin: Origin, name: &Username) -> Result<Account, AdministerError> {
        let attempt = self.attempt(Action::Enable, name, origin);
        self.change(attempt, name, async |users, name, attempt| users.enable(name, attempt).await).await
    }

    /// Removes an account and everything of it.
    pub async fn delete(&self, origin: Origin, name: &Username) -> Result<Account, AdministerError> {
        let attempt = self.attempt(Action::Delete, name, origin);
        let delete = async |users: Arc<dyn UserRepo>, name, attempt| users.delete(name, attempt).await;
        let account = self.change(attempt, name, delete).await?;
        // The account is gone. What cannot be blanked now is when a server next looks.
        _ = self.blank_deleted().await;
        Ok(account)
    }

    /// Forgets the wrong passwords that were tried for an account, so that it may be tried again at once.
    pub async fn unlock(&self, origin: Origin, name: &Username) -> Result<Account, AdministerError> {
        let attempt = self.attempt(Action::Unlock, name, origin);
        let (throttle, name) = (self.ports.throttle.clone(), name.key().clone());
        let unlock = async move |attempt| throttle.unlock(name, attempt).await;
        match self.finish(attempt.make(unlock)).await?? {
            Change::Done(account) => Ok(account),
            Change::UnknownUser => Err(AdministerError::UnknownUser),
        }
    }

    /// The wrong passwords that were tried for an account, by where they came from.
    pub async fn tries(&self, name: &Username) -> Result<Vec<(Whence, Tries)>, PortError> {
        self.ports.throttle.tries(name.key().clone()).await
    }

    /// Sets a password without asking for the old one, by the rules of a sign-up.
    pub async fn set_password(
        &self,
        origin: Origin,
        name: &Username,
        password: Password,
    ) -> Result<Account, SetPasswordError> {
        let requester = origin.requester();
        let attempt = self.attempt(Action::SetPassword, name, origin);
        let hash = match self.hash_new::<SetPasswordError>(requester, name, password).await {
            Ok(hash) => hash,
            Err(error) => {
                attempt.fail(error.outcome());
                return Err(error);
            }
        };
        let set = async move |users: Arc<dyn UserRepo>, name, attempt| {
            users.set_password(name, hash, attempt).await
        };
        Ok(self.change(attempt, name, set).await?)
    }

    async fn change<F>(
        &self,
        attempt: UnderWay,
        name: &Username,
        change: impl FnOnce(Arc<dyn UserRepo>, UsernameKey, Attempt) -> F + Send + 'static,
    ) -> Result<Account, AdministerError>
    where
        F: Future<Output = Result<Change, PortError>> + Send + 'static,
    {
        let (users, name) = (self.ports.users.clone(), name.key().clone());
        match self.finish(attempt.make(|attempt| change(users, name, attempt))).await?? {
            Change::Done(account) => Ok(account),
            Change::UnknownUser => Err(AdministerError::UnknownUser),
        }
    }
}

impl SetPasswordError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Password(_) => Outcome::Refused("password_refused"),
            Self::Hasher(error) => error.outcome(),
            Self::Account(AdministerError::UnknownUser) => Outcome::Refused("unknown_user"),
            Self::Account(AdministerError::Port(_)) => Outcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subject;
    use crate::ports::{MockHasher, MockUserRepo, NewHash, Ports};
    use crate::testing::{self, ann, auth, hash, noon, password, ports, username};

    #[tokio::test]
    async fn a_disabled_account_is_answered_and_put_on_record() {
        let mut users = MockUserRepo::new();
        users
            .expect_disable()
            .withf(|name, attempt| name.as_str() == "ann" && attempt.at == noon())
            .returning(|_, Attempt { at, .. }| Ok(Change::Done(Account { disabled_at: Some(at), ..ann() })));
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { users: Arc::new(users), audit_stream, ..ports() });

        let account = auth.disable(Origin::CommandLine, &username("Ann")).await.unwrap();

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
        let auth = auth(Ports { users: Arc::new(users), audit_stream, ..ports() });

        let answers = [
            auth.enable(Origin::CommandLine, &username("ann")).await,
            auth.delete(Origin::CommandLine, &username("ann")).await,
            auth.find_account(&username("ann")).await,
        ];

        assert!(answers.iter().all(|answer| matches!(answer, Err(AdministerError::UnknownUser))));
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
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit_stream, ..ports() });

        let set = |text| auth.set_password(Origin::CommandLine, &ANN, password(text));

        assert!(set("kq7wzmv1").await.is_ok());
        let refused = set("password").await.unwrap_err();
        assert!(matches!(refused, SetPasswordError::Password(PasswordProblem::TooGuessable)));
        let outcomes: Vec<_> = events.taken().into_iter().map(|(_, outcome, _)| outcome).collect();
        assert_eq!(outcomes, [Outcome::Success, Outcome::Refused("password_refused")]);
    }

    static ANN: std::sync::LazyLock<Username> = std::sync::LazyLock::new(|| username("ann"));
}
