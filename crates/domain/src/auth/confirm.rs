//! Knowing the password once more, for what a token alone must not do.

use thiserror::Error;

use super::attempt::UnderWay;
use super::{Auth, Refusal};
use crate::ports::{ConfirmedChange, HasherError, PortError, Requester, Verification};
use crate::{Account, Outcome, Password, User, UserId};

/// Why nothing was changed though the token was good.
#[derive(Debug, Error)]
pub enum ConfirmError {
    /// The password is not the account's, or not any more.
    #[error("the password is wrong")]
    PasswordWrong(#[source] Refusal),
    /// The account has been disabled or deleted since the token was looked at, and so the token is good no more.
    #[error("the account is gone or disabled")]
    NoAccount,
    /// The password could not be checked, or a new one not be hashed.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// The account could not be looked up or changed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// The account of this number as it was when `password` was checked against it. That takes long enough for
    /// somebody else to change it, so what is done with it has to be on condition of its credentials' epoch. Not
    /// of the hash itself: a login may replace that by another one of the same password.
    pub(super) async fn confirm(
        &self,
        requester: Requester,
        id: UserId,
        password: Password,
    ) -> Result<Account, ConfirmError> {
        let account = self.ports.users.find(id).await?.ok_or(ConfirmError::NoAccount)?;
        let hash = Some(account.password_hash.clone());
        match self.ports.hasher.verify(password, hash, requester).await? {
            Verification::Match | Verification::MatchStale => Ok(account),
            Verification::Mismatch => Err(ConfirmError::PasswordWrong(Refusal::WrongPassword)),
            Verification::Unreadable => Err(ConfirmError::PasswordWrong(Refusal::UnreadableHash)),
        }
    }
}

impl ConfirmError {
    /// Ends an attempt by it.
    pub(super) async fn told_of(self, attempt: UnderWay) -> Self {
        match &self {
            Self::PasswordWrong(refusal) => {
                if let Err(error) = attempt.refuse(refusal.as_str()).await {
                    return error.into();
                }
            }
            Self::NoAccount => attempt.fail(Outcome::Refused("no_account")),
            Self::Hasher(error) => attempt.fail(error.outcome()),
            Self::Port(_) => attempt.fail(Outcome::Failed),
        }
        self
    }
}

/// Whoever changed the password meanwhile has made the one that was checked a wrong one.
pub(super) fn done(change: ConfirmedChange) -> Result<User, ConfirmError> {
    match change {
        ConfirmedChange::Done(user) => Ok(user),
        ConfirmedChange::CredentialsChanged => Err(ConfirmError::PasswordWrong(Refusal::CredentialsChanged)),
        ConfirmedChange::NoAccount => Err(ConfirmError::NoAccount),
    }
}
