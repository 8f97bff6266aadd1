//! Taking another name.

use std::time::Duration;

use thiserror::Error;

use super::reauthenticate::ReauthenticateError;
use super::{Auth, AuthenticatedUser, Refusal};
use crate::ports::{PortError, Renaming};
use crate::{Action, Origin, Outcome, Password, Subject, User, Username};

/// Why a name stayed as it was.
#[derive(Debug, Error)]
pub enum ChangeUsernameError {
    /// Somebody else has that name, in this spelling or another.
    #[error("the username is taken")]
    UsernameTaken,
    /// The account has used up its changes of username.
    #[error("the username was changed too often")]
    TooManyChanges {
        /// When the next change is possible.
        retry_after: Duration,
    },
    /// The password does not open the account, or something failed.
    #[error(transparent)]
    Confirm(#[from] ReauthenticateError),
}

impl Auth {
    /// Gives a holder who knows the password another name, or another spelling of their own. They stay who they are by
    /// number, which is all that their tokens rest on.
    ///
    /// Each try at another name counts towards the account's quota, whether the name was free or taken.
    pub async fn change_username(
        &self,
        origin: Origin,
        holder: &AuthenticatedUser,
        name: Username,
        password: Password,
    ) -> Result<User, ChangeUsernameError> {
        let (id, requester) = (holder.user.id, origin.requester());
        let attempt = self.attempt(Action::Rename, Subject::User(id), origin);
        // An account without a change left costs no hash.
        if let Err(retry_after) = self.username_changes.check(id) {
            attempt.fail(TOO_MANY_CHANGES);
            return Err(ChangeUsernameError::TooManyChanges { retry_after });
        }
        let (account, admitted, attempt) = self.reauthenticate(requester, id, password, attempt).await?;
        if account.user.name == name {
            attempt.end_unrecorded();
            return Ok(account.user);
        }
        // Charged after the check: without the password, a thief of a token uses up nothing.
        if let Err(retry_after) = self.username_changes.charge(id) {
            attempt.fail(TOO_MANY_CHANGES);
            return Err(ChangeUsernameError::TooManyChanges { retry_after });
        }
        let (users, epoch) = (self.ports.users.clone(), account.credentials_epoch);
        let renaming = self.finish(async move {
            // A place that is still held when the name changes counts as a failure under the new name.
            admitted.give_back().await;
            attempt.commit_with(|attempt| users.rename(id, epoch, name, attempt)).await
        });
        match renaming.await?? {
            Renaming::Done { user, .. } => Ok(user),
            Renaming::UsernameTaken => Err(ChangeUsernameError::UsernameTaken),
            Renaming::CredentialsChanged => {
                Err(ReauthenticateError::PasswordWrong(Refusal::CredentialsChanged).into())
            }
            Renaming::NoAccount => Err(ReauthenticateError::NoAccount.into()),
        }
    }
}

const TOO_MANY_CHANGES: Outcome = Outcome::Refused("too_many_changes");

impl From<PortError> for ChangeUsernameError {
    fn from(error: PortError) -> Self {
        Self::Confirm(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockHasher, MockUserRepo, Ports, Verification};
    use crate::testing::{self, Events, ann, auth, broken, noon, origin, password, ports, session, username};
    use crate::{Auth, Rules};

    fn store_that_answers(answer: fn() -> Result<Renaming, PortError>) -> MockUserRepo {
        let mut users = MockUserRepo::new();
        users.expect_find().returning(|_| Ok(Some(ann())));
        users
            .expect_rename()
            .withf(|id, epoch, name, attempt| {
                let account = ann();
                (*id, *epoch, attempt.at) == (account.user.id, account.credentials_epoch, noon())
                    && *name != account.user.name
            })
            .returning(move |_, _, _, _| answer());
        users
    }

    fn done() -> Renaming {
        let user = User { name: username("Mia"), ..ann().user };
        Renaming::Done { user, old_name: ann().user.name }
    }

    fn ports_with(users: MockUserRepo, verification: Verification) -> (Ports, Events) {
        let mut hasher = MockHasher::new();
        hasher.expect_verify().returning(move |_, _, _| Ok(verification));
        let (audit_stream, events) = testing::audit_stream();
        (Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit_stream, ..ports() }, events)
    }

    async fn rename_to(auth: &Auth, name: &str) -> Result<User, ChangeUsernameError> {
        let holder = AuthenticatedUser { user: ann().user, session: session().id };
        auth.change_username(origin(), &holder, username(name), password("tried")).await
    }

    async fn rename_to_mia(
        verification: Verification,
        answer: fn() -> Result<Renaming, PortError>,
    ) -> (Result<User, ChangeUsernameError>, Events) {
        let (ports, events) = ports_with(store_that_answers(answer), verification);
        (rename_to(&auth(ports), "Mia").await, events)
    }

    #[tokio::test]
    async fn a_holder_gets_another_name_and_it_is_on_record() {
        let (renamed, events) = rename_to_mia(Verification::Match, || Ok(done())).await;

        assert_eq!(renamed.unwrap().name, username("Mia"));
        assert_eq!(events.taken(), [(Action::Rename, Outcome::Success, Subject::User(ann().user.id))]);
    }

    #[tokio::test]
    async fn wrong_password_changes_no_username() {
        for (verification, reason) in
            [(Verification::Mismatch, "wrong_password"), (Verification::Unreadable, "unreadable_hash")]
        {
            let (renamed, events) = rename_to_mia(verification, || panic!("the store is not asked")).await;

            assert!(matches!(
                renamed,
                Err(ChangeUsernameError::Confirm(ReauthenticateError::PasswordWrong(_)))
            ));
            assert_eq!(events.taken()[0].1, Outcome::Refused(reason));
        }
    }

    #[tokio::test]
    async fn whatever_keeps_a_name_as_it_was_is_told_apart() {
        let (taken, events) = rename_to_mia(Verification::Match, || Ok(Renaming::UsernameTaken)).await;
        assert!(matches!(taken, Err(ChangeUsernameError::UsernameTaken)));
        assert_eq!(events.taken()[0].1, Outcome::Refused("username_taken"));

        let (changed, events) = rename_to_mia(Verification::Match, || Ok(Renaming::CredentialsChanged)).await;
        assert!(matches!(changed, Err(ChangeUsernameError::Confirm(ReauthenticateError::PasswordWrong(_)))));
        assert_eq!(events.taken()[0].1, Outcome::Refused("credentials_changed"));

        let (gone, events) = rename_to_mia(Verification::Match, || Ok(Renaming::NoAccount)).await;
        assert!(matches!(gone, Err(ChangeUsernameError::Confirm(ReauthenticateError::NoAccount))));
        assert_eq!(events.taken()[0].1, Outcome::Refused("no_account"));

        let (failed, events) = rename_to_mia(Verification::Match, || Err(broken())).await;
        assert!(matches!(failed, Err(ChangeUsernameError::Confirm(ReauthenticateError::Port(_)))));
        assert_eq!(events.taken()[0].1, Outcome::Failed);
    }

    #[tokio::test]
    async fn unchanged_username_writes_and_records_nothing() {
        for (verification, is_right) in [(Verification::Match, true), (Verification::Mismatch, false)] {
            let mut users = MockUserRepo::new();
            users.expect_find().returning(|_| Ok(Some(ann())));
            let (ports, events) = ports_with(users, verification);

            let renamed = rename_to(&auth(ports), "Ann").await;

            assert_eq!(renamed.is_ok(), is_right, "the password is checked all the same");
            assert_eq!(events.taken().is_empty(), is_right);
        }
    }

    #[tokio::test]
    async fn username_changes_are_bounded_whether_taken_or_not() {
        let answers: [fn() -> _; 2] = [|| Ok(done()), || Ok(Renaming::UsernameTaken)];
        for answer in answers {
            let (ports, events) = ports_with(store_that_answers(answer), Verification::Match);
            let quota = NonZeroU32::new(3);
            let auth = Auth::new(ports, Rules { username_changes: quota, ..testing::rules() });

            for name in ["mia", "Mia", "zoe"] {
                _ = rename_to(&auth, name).await;
            }
            // The same name is no change and costs nothing, but an empty quota ends all tries.
            for name in ["eve", "Ann"] {
                let refused = rename_to(&auth, name).await.unwrap_err();
                let ChangeUsernameError::TooManyChanges { retry_after } = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!(retry_after, Duration::from_mins(20));
            }
            assert_eq!(events.taken()[3].1, Outcome::Refused("too_many_changes"));
        }
    }
}
