//! Knowing the password once more, for what a token alone must not do.

use thiserror::Error;

use super::admission::{Admitted, NotAdmitted, Throttled};
use super::{Auth, Refusal, THROTTLED};
use crate::audit::recorder::PendingAuditEvent;
use crate::ports::{ConfirmedChange, HasherError, PortError, Requester, Verification};
use crate::{Account, LoginName, Outcome, Password, User, UserId};

/// Why nothing was changed though the token was good.
#[derive(Debug, Error)]
pub enum ReauthenticateError {
    /// The password is not the account's, or not any more.
    #[error("the password is wrong")]
    PasswordWrong(#[source] Refusal),
    /// The account has been disabled or deleted since the token was looked at, and so the token is good no more.
    #[error("the account is gone or disabled")]
    NoAccount,
    /// Too many wrong passwords were tried of late, and this one was not looked at.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The password could not be checked, or a new one not be hashed.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// The account could not be looked up or changed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// The account of this number as it was when `password` was checked against it, with the attempt, which goes on.
    /// Checking takes long enough for somebody else to change the account, so what is done with it has to be on condition
    /// of its credentials' epoch. Not of the hash itself: a login may replace that by another one of the same password.
    pub(super) async fn reauthenticate(
        &self,
        requester: Requester,
        id: UserId,
        password: Password,
        attempt: PendingAuditEvent,
    ) -> Result<(Account, Admitted, PendingAuditEvent), ReauthenticateError> {
        let (account, admitted) = match self.account_to_confirm(requester, id).await {
            Ok(admitted) => admitted,
            Err(error) => return Err(error.told_of(attempt)),
        };
        let hash = Some(account.password_hash.clone());
        let refusal = match self.ports.hasher.verify(password, hash, requester).await {
            Ok(Verification::Match | Verification::MatchStale) => return Ok((account, admitted, attempt)),
            Ok(Verification::Mismatch) => Refusal::WrongPassword,
            Ok(Verification::Unreadable) => Refusal::UnreadableHash,
            Err(error) => return Err(ReauthenticateError::from(error).told_of(attempt)),
        };
        self.refuse(attempt, admitted, refusal).await?;
        Err(ReauthenticateError::PasswordWrong(refusal))
    }

    async fn account_to_confirm(
        &self,
        requester: Requester,
        id: UserId,
    ) -> Result<(Account, Admitted), ReauthenticateError> {
        let find = async || self.ports.users.find(id).await?.ok_or(ReauthenticateError::NoAccount);
        let once = async || {
            let name = LoginName::Possible(find().await?.user.name);
            let Some(admitted) = self.take_place(name, requester).await? else { return Ok(None) };
            // Waiting takes long enough for somebody to change the password.
            let account = find().await?;
            Ok(admitted.counts_for(Some(&account)).then_some((account, admitted)))
        };
        self.until_nothing_moves(once).await
    }
}

impl ReauthenticateError {
    /// Ends an attempt by it, that was not kept before.
    pub(super) fn told_of(self, attempt: PendingAuditEvent) -> Self {
        match &self {
            Self::PasswordWrong(refusal) => attempt.fail(Outcome::Refused(refusal.as_str())),
            Self::Throttled(_) => attempt.fail(THROTTLED),
            Self::NoAccount => attempt.fail(Outcome::Refused("no_account")),
            Self::Hasher(error) => attempt.fail(error.outcome()),
            Self::Port(_) => attempt.fail(Outcome::Failed),
        }
        self
    }
}

impl From<NotAdmitted> for ReauthenticateError {
    fn from(error: NotAdmitted) -> Self {
        match error {
            NotAdmitted::Throttled(error) => Self::Throttled(error),
            NotAdmitted::Hasher(error) => Self::Hasher(error),
            NotAdmitted::Port(error) => Self::Port(error),
        }
    }
}

/// Whether nothing is counted of the account any more.
pub(super) fn is_done(change: &ConfirmedChange) -> bool {
    matches!(change, ConfirmedChange::Done(_))
}

/// Whoever changed the password meanwhile has made the one that was checked a wrong one.
pub(super) fn done(change: ConfirmedChange) -> Result<User, ReauthenticateError> {
    match change {
        ConfirmedChange::Done(user) => Ok(user),
        ConfirmedChange::CredentialsChanged => {
            Err(ReauthenticateError::PasswordWrong(Refusal::CredentialsChanged))
        }
        ConfirmedChange::NoAccount => Err(ReauthenticateError::NoAccount),
    }
}
