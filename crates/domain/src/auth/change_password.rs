//! Changing one's own password.

use thiserror::Error;

use super::reauthenticate::{ReauthenticateError, done, is_done};
use super::sign_up::hash_admitted;
use super::{Auth, AuthenticatedUser, LoggedIn};
use crate::audit::recorder::PendingAuditEvent;
use crate::ports::{HasherError, PortError};
use crate::{Action, Origin, Outcome, Password, PasswordProblem, Subject};

/// Why a password stayed as it was.
#[derive(Debug, Error)]
pub enum ChangePasswordError {
    /// The new one cannot be chosen.
    #[error(transparent)]
    NewPassword(#[from] PasswordProblem),
    /// The current one does not open the account, or something failed.
    #[error(transparent)]
    Confirm(#[from] ReauthenticateError),
}

impl Auth {
    /// Takes a new password from a holder who knows the current one, by the rules of a sign-up. Every session of
    /// theirs ends, and they go on in a new one: a thief may have the refresh token of the one that they speak in,
    /// and refreshing that would leave its older access tokens good.
    pub async fn change_password(
        &self,
        origin: Origin,
        holder: &AuthenticatedUser,
        current: Password,
        new: Password,
    ) -> Result<LoggedIn, ChangePasswordError> {
        let subject = Subject::User(holder.user.id);
        let attempt = self.attempt(Action::ChangePassword, subject, origin.clone());
        // What can be seen at a glance is seen before any work.
        let new = match self.rules.passwords.admit(new, holder.user.name.clone()) {
            Ok(new) => new,
            Err(problem) => return Err(ChangePasswordError::from(problem).told_of(attempt)),
        };
        let requester = origin.requester();
        let (account, admitted, attempt) =
            self.reauthenticate(requester, holder.user.id, current, attempt).await?;
        let hash = match hash_admitted::<ChangePasswordError>(&*self.ports.hasher, requester, new).await {
            Ok(hash) => hash,
            Err(error) => return Err(error.told_of(attempt)),
        };
        let session = self.new_session(&origin, &account);
        // Made ahead: once the password is changed, nothing that could fail is left to do.
        let tokens = match self.first_tokens(&account.user, &session) {
            Ok(tokens) => tokens,
            Err(error) => return Err(ChangePasswordError::from(error).told_of(attempt)),
        };
        let users = self.ports.users.clone();
        let change = async move |attempt| {
            let changed = users.change_password(hash, session, attempt).await;
            admitted.settle_if(&changed, is_done);
            changed
        };
        let user = done(self.finish(attempt.commit_with(change)).await??)?;
        Ok(LoggedIn { user, tokens })
    }
}

impl From<HasherError> for ChangePasswordError {
    fn from(error: HasherError) -> Self {
        Self::Confirm(error.into())
    }
}

impl From<PortError> for ChangePasswordError {
    fn from(error: PortError) -> Self {
        Self::Confirm(error.into())
    }
}

impl ChangePasswordError {
    /// Ends an attempt by it.
    fn told_of(self, attempt: PendingAuditEvent) -> Self {
        match self {
            Self::NewPassword(_) => {
                attempt.fail(Outcome::Refused("password_refused"));
                self
            }
            Self::Confirm(error) => Self::Confirm(error.told_of(attempt)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::ports::{
        ConfirmedChange, MockHasher, MockTokenIssuer, MockUserRepo, NewHash, Ports, Verification,
    };
    use crate::testing::{
        self, Events, ann, auth, broken, hash, origin, password, ports, session, token_ports,
    };
    use crate::{Refusal, SessionId};

    fn holder() -> AuthenticatedUser {
        AuthenticatedUser { user: ann().user, session: session().id }
    }

    fn hasher_who_says(verification: Verification) -> MockHasher {
        let mut hasher = MockHasher::new();
        hasher
            .expect_verify()
            .withf(|current, hash, requester| {
                (current.expose(), hash.as_ref(), *requester)
                    == ("current", Some(&ann().password_hash), origin().requester())
            })
            .returning(move |_, _, _| Ok(verification));
        hasher.expect_hash_new().withf(|_, requester| *requester == origin().requester()).returning(
            |new, _| Ok(new.judge().map_or_else(NewHash::Refused, |()| NewHash::Done(hash("new")))),
        );
        hasher
    }

    fn store_that_answers(change: ConfirmedChange) -> MockUserRepo {
        let mut users = MockUserRepo::new();
        users.expect_find().withf(|id| *id == ann().user.id).returning(|_| Ok(Some(ann())));
        users
            .expect_change_password()
            .withf(|new, session, _| {
                *new == hash("new")
                    && (session.user, session.credentials_epoch) == (ann().user.id, ann().credentials_epoch)
            })
            .returning(move |_, _, _| Ok(change.clone()));
        users
    }

    fn one_who_changes(users: MockUserRepo, hasher: MockHasher) -> (Auth, Events) {
        let (tokens, refresh_tokens) = token_ports();
        let (audit_stream, events) = testing::audit_stream();
        let (users, hasher) = (Arc::new(users), Arc::new(hasher));
        (auth(Ports { users, hasher, tokens, refresh_tokens, audit_stream, ..ports() }), events)
    }

    async fn change(auth: &Auth, new: &str) -> Result<LoggedIn, ChangePasswordError> {
        auth.change_password(origin(), &holder(), password("current"), password(new)).await
    }

    #[tokio::test]
    async fn who_knows_the_current_password_gets_another_and_goes_on_in_a_new_session() {
        for verification in [Verification::Match, Verification::MatchStale] {
            let users = store_that_answers(ConfirmedChange::Done(ann().user));
            let (auth, events) = one_who_changes(users, hasher_who_says(verification));

            let LoggedIn { user, tokens } = change(&auth, "kq7wzmv1").await.unwrap();

            assert_eq!(user, ann().user);
            assert_eq!((&**tokens.access.text, &**tokens.refresh.text), ("access 1", "refresh 1"));
            assert_ne!(tokens.session, holder().session);
            assert_eq!(tokens.session, SessionId::new(testing::noon(), [0; 16]));
            let subject = Subject::User(ann().user.id);
            assert_eq!(events.taken(), [(Action::ChangePassword, Outcome::Success, subject)]);
        }
    }

    #[tokio::test]
    async fn a_wrong_current_password_changes_nothing_and_a_new_one_is_not_even_hashed() {
        for (verification, refusal) in [
            (Verification::Mismatch, Refusal::WrongPassword),
            (Verification::Unreadable, Refusal::UnreadableHash),
        ] {
            let mut users = MockUserRepo::new();
            users.expect_find().returning(|_| Ok(Some(ann())));
            let mut hasher = MockHasher::new();
            hasher.expect_verify().once().returning(move |_, _, _| Ok(verification));
            let (auth, events) = one_who_changes(users, hasher);

            let error = change(&auth, "kq7wzmv1").await.unwrap_err();

            let ChangePasswordError::Confirm(ReauthenticateError::PasswordWrong(why)) = error else {
                panic!("{error:?}")
            };
            assert_eq!(why, refusal);
            assert_eq!(events.taken()[0].1, Outcome::Refused(refusal.as_str()));
        }
    }

    #[tokio::test]
    async fn a_change_that_came_between_makes_the_checked_password_a_wrong_one() {
        let users = store_that_answers(ConfirmedChange::CredentialsChanged);
        let (auth, events) = one_who_changes(users, hasher_who_says(Verification::Match));

        let error = change(&auth, "kq7wzmv1").await.unwrap_err();

        assert!(matches!(error, ChangePasswordError::Confirm(ReauthenticateError::PasswordWrong(_))));
        assert_eq!(events.taken()[0].1, Outcome::Refused("credentials_changed"));
    }

    #[tokio::test]
    async fn an_account_that_is_gone_before_or_after_the_check_has_no_password() {
        let mut nobody = MockUserRepo::new();
        nobody.expect_find().returning(|_| Ok(None));
        for users in [nobody, store_that_answers(ConfirmedChange::NoAccount)] {
            let (auth, events) = one_who_changes(users, hasher_who_says(Verification::Match));

            let error = change(&auth, "kq7wzmv1").await.unwrap_err();

            assert!(matches!(error, ChangePasswordError::Confirm(ReauthenticateError::NoAccount)));
            assert_eq!(events.taken()[0].1, Outcome::Refused("no_account"));
        }
    }

    #[tokio::test]
    async fn a_short_password_is_refused_before_any_work_and_a_guessable_one_after_the_check() {
        let (auth, events) = one_who_changes(MockUserRepo::new(), MockHasher::new());
        let short = change(&auth, "short").await.unwrap_err();
        assert!(matches!(short, ChangePasswordError::NewPassword(PasswordProblem::TooShort { at_least: 8 })));
        assert_eq!(events.taken()[0].1, Outcome::Refused("password_refused"));

        let mut users = MockUserRepo::new();
        users.expect_find().returning(|_| Ok(Some(ann())));
        let (auth, _) = one_who_changes(users, hasher_who_says(Verification::Match));
        let guessable = change(&auth, "password").await.unwrap_err();
        assert!(matches!(guessable, ChangePasswordError::NewPassword(PasswordProblem::TooGuessable)));
    }

    #[tokio::test]
    async fn without_tokens_to_hand_out_nothing_is_changed() {
        let mut users = MockUserRepo::new();
        users.expect_find().returning(|_| Ok(Some(ann())));
        let mut tokens = MockTokenIssuer::new();
        tokens.expect_issue().returning(|_| Err(broken()));
        let (audit_stream, events) = testing::audit_stream();
        let hasher = Arc::new(hasher_who_says(Verification::Match));
        let tokens = Arc::new(tokens);
        let auth = auth(Ports { users: Arc::new(users), hasher, tokens, audit_stream, ..ports() });

        let error = change(&auth, "kq7wzmv1").await.unwrap_err();

        assert!(matches!(error, ChangePasswordError::Confirm(ReauthenticateError::Port(_))));
        assert_eq!(events.taken()[0].1, Outcome::Failed);
    }

    #[tokio::test]
    async fn a_change_that_nobody_waits_for_is_made_and_on_record() {
        let users = store_that_answers(ConfirmedChange::Done(ann().user));
        let (auth, events) = one_who_changes(users, hasher_who_says(Verification::Match));

        // The work is handed over and not begun yet when the caller leaves.
        assert!(change(&auth, "kq7wzmv1").now_or_never().is_none());
        tokio::task::yield_now().await;

        assert_eq!(events.taken()[0].1, Outcome::Success);
    }
}
