//! What an operator does with somebody's account.

use thiserror::Error;

use super::Auth;
use crate::ports::{Change, HasherError, PortError};
use crate::{Account, Action, Origin, Outcome, Password, PasswordProblem, Subject, UserId, Username};

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
        let change = self.ports.users.disable(name.key().clone(), self.ports.clock.now()).await;
        self.administered(Action::Disable, origin, name, change)
    }

    /// Opens an account again.
    pub async fn enable(&self, origin: Origin, name: &Username) -> Result<Account, AdministerError> {
        let change = self.ports.users.enable(name.key().clone(), self.ports.clock.now()).await;
        self.administered(Action::Enable, origin, name, change)
    }

    /// Removes an account and everything of it.
    pub async fn delete(&self, origin: Origin, name: &Username) -> Result<Account, AdministerError> {
        let change = self.ports.users.delete(name.key().clone()).await;
        self.administered(Action::Delete, origin, name, change)
    }

    /// Sets a password without asking for the old one, by the rules of a sign-up.
    pub async fn set_password(
        &self,
        origin: Origin,
        name: &Username,
        password: Password,
    ) -> Result<Account, SetPasswordError> {
        self.rules.passwords.judge(&password, name)?;
        let hash = self.ports.hasher.hash(password).await?;
        let at = self.ports.clock.now();
        let change = self.ports.users.set_password(name.key().clone(), hash, at).await;
        Ok(self.administered(Action::SetPassword, origin, name, change)?)
    }

    fn administered(
        &self,
        action: Action,
        origin: Origin,
        name: &Username,
        change: Result<Change, PortError>,
    ) -> Result<Account, AdministerError> {
        let (outcome, subject, result) = match change {
            Ok(Change::Done(account)) => (Outcome::Success, Subject::User(account.user.id), Ok(account)),
            Ok(Change::UnknownUser) => {
                (Outcome::Refused("unknown_user"), name.into(), Err(AdministerError::UnknownUser))
            }
            Err(error) => (Outcome::Failed, name.into(), Err(error.into())),
        };
        self.record(action, outcome, subject, origin);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockHasher, MockUserRepo, Ports};
    use crate::testing::{self, ann, auth, hash, noon, password, ports, username};

    #[tokio::test]
    async fn a_disabled_account_is_answered_and_put_on_record() {
        let mut users = MockUserRepo::new();
        users
            .expect_disable()
            .withf(|name, at| name.as_str() == "ann" && *at == noon())
            .returning(|_, at| Ok(Change::Done(Account { disabled_at: Some(at), ..ann() })));
        let (audit, events) = testing::audit();
        let auth = auth(Ports { users: Arc::new(users), audit, ..ports() });

        let account = auth.disable(Origin::CommandLine, &username("Ann")).await.unwrap();

        assert_eq!(account.disabled_at, Some(noon()));
        assert_eq!(events.taken(), [(Action::Disable, Outcome::Success, Subject::User(ann().user.id))]);
    }

    #[tokio::test]
    async fn nobody_is_told_from_somebody() {
        let mut users = MockUserRepo::new();
        users.expect_enable().returning(|_, _| Ok(Change::UnknownUser));
        users.expect_delete().returning(|_| Ok(Change::UnknownUser));
        users.expect_find_by_name().returning(|_| Ok(None));
        let (audit, _) = testing::audit();
        let auth = auth(Ports { users: Arc::new(users), audit, ..ports() });

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
        hasher.expect_hash().once().returning(|_| Ok(hash("set")));
        let mut users = MockUserRepo::new();
        users
            .expect_set_password()
            .withf(|_, new, _| *new == hash("set"))
            .once()
            .returning(|_, _, _| Ok(Change::Done(ann())));
        let (audit, _) = testing::audit();
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit, ..ports() });

        let set = |text| auth.set_password(Origin::CommandLine, &ANN, password(text));

        assert!(set("kq7wzmv1").await.is_ok());
        let refused = set("password").await.unwrap_err();
        assert!(matches!(refused, SetPasswordError::Password(PasswordProblem::TooGuessable)));
    }

    static ANN: std::sync::LazyLock<Username> = std::sync::LazyLock::new(|| username("ann"));
}
