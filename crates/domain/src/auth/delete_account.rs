//! Deleting one's own account.

use super::reauthenticate::{ReauthenticateError, done, is_done};
use super::{Auth, AuthenticatedUser};
use crate::{Action, Origin, Password, Subject};

impl Auth {
    /// Removes the account of a holder who knows its password, and everything of it.
    pub async fn delete_account(
        &self,
        origin: Origin,
        holder: &AuthenticatedUser,
        password: Password,
    ) -> Result<(), ReauthenticateError> {
        let (id, requester) = (holder.user.id, origin.requester());
        let attempt = self.attempt(Action::CloseAccount, Subject::User(id), origin);
        let (account, admitted, attempt) = self.reauthenticate(requester, id, password, attempt).await?;
        let (users, epoch) = (self.ports.users.clone(), account.credentials_epoch);
        let close = async move |attempt| {
            let closed = users.close_account(id, epoch, attempt).await;
            admitted.settle_if(&closed, is_done);
            closed
        };
        let closed = self.finish(attempt.commit_with(close)).await??;
        done(closed).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Outcome;
    use crate::ports::{ConfirmedChange, MockHasher, MockUserRepo, Ports, Verification};
    use crate::testing::{self, Events, ann, auth, origin, password, ports, session};

    async fn close(
        verification: Verification,
        change: Option<ConfirmedChange>,
    ) -> (Result<(), ReauthenticateError>, Events) {
        let mut hasher = MockHasher::new();
        hasher
            .expect_verify()
            .withf(|_, hash, requester| {
                (hash.as_ref(), *requester) == (Some(&ann().password_hash), origin().requester())
            })
            .once()
            .returning(move |_, _, _| Ok(verification));
        let mut users = MockUserRepo::new();
        users.expect_find().returning(|_| Ok(Some(ann())));
        if let Some(change) = change {
            users
                .expect_close_account()
                .withf(|id, epoch, _| (*id, *epoch) == (ann().user.id, ann().credentials_epoch))
                .once()
                .returning(move |_, _, _| Ok(change.clone()));
        }
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit_stream, ..ports() });
        let holder = AuthenticatedUser { user: ann().user, session: session().id };
        (auth.delete_account(origin(), &holder, password("tried")).await, events)
    }

    #[tokio::test]
    async fn who_knows_the_password_may_go() {
        let (closed, events) = close(Verification::Match, Some(ConfirmedChange::Done(ann().user))).await;

        assert!(closed.is_ok());
        let subject = Subject::User(ann().user.id);
        assert_eq!(events.taken(), [(Action::CloseAccount, Outcome::Success, subject)]);
    }

    #[tokio::test]
    async fn a_wrong_password_removes_nothing() {
        for (verification, reason) in
            [(Verification::Mismatch, "wrong_password"), (Verification::Unreadable, "unreadable_hash")]
        {
            let (closed, events) = close(verification, None).await;

            assert!(matches!(closed, Err(ReauthenticateError::PasswordWrong(_))));
            assert_eq!(events.taken()[0].1, Outcome::Refused(reason));
        }
    }

    #[tokio::test]
    async fn what_came_between_the_check_and_the_removal_is_told() {
        let (closed, events) = close(Verification::Match, Some(ConfirmedChange::CredentialsChanged)).await;
        assert!(matches!(closed, Err(ReauthenticateError::PasswordWrong(_))));
        assert_eq!(events.taken()[0].1, Outcome::Refused("credentials_changed"));

        let (closed, events) = close(Verification::Match, Some(ConfirmedChange::NoAccount)).await;
        assert!(matches!(closed, Err(ReauthenticateError::NoAccount)));
        assert_eq!(events.taken()[0].1, Outcome::Refused("no_account"));
    }
}
