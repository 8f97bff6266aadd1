//! Taking another name.

use thiserror::Error;

use super::{Auth, Holder};
use crate::ports::{PortError, Renaming};
use crate::{Action, Origin, Subject, User, Username};

/// Why a name stayed as it was.
#[derive(Debug, Error)]
pub enum RenameError {
    /// Somebody else has that name, in this spelling or another.
    #[error("the username is taken")]
    UsernameTaken,
    /// The account has been disabled or deleted since the token was looked at, and so the token is good no more.
    #[error("the account is gone or disabled")]
    NoAccount,
    /// The name could not be kept.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// Gives the holder another name, or another spelling of their own. They stay who they are by number, which
    /// is all that their tokens rest on.
    pub async fn rename(&self, origin: Origin, holder: &Holder, name: Username) -> Result<User, RenameError> {
        let id = holder.user.id;
        let attempt = self.attempt(Action::Rename, Subject::User(id), origin);
        let users = self.ports.users.clone();
        let rename = async move |attempt| users.rename(id, name, attempt).await;
        match self.finish(attempt.make(rename)).await?? {
            Renaming::Done(user) => Ok(user),
            Renaming::UsernameTaken => Err(RenameError::UsernameTaken),
            Renaming::NoAccount => Err(RenameError::NoAccount),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Outcome;
    use crate::ports::{MockUserRepo, Ports};
    use crate::testing::{self, Events, ann, auth, broken, noon, origin, ports, session, username};

    async fn rename_to_mia(
        answer: fn() -> Result<Renaming, PortError>,
    ) -> (Result<User, RenameError>, Events) {
        let mut users = MockUserRepo::new();
        users
            .expect_rename()
            .withf(|id, name, attempt| (*id, name, attempt.at) == (ann().user.id, &username("Mia"), noon()))
            .once()
            .returning(move |_, _, _| answer());
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { users: Arc::new(users), audit_stream, ..ports() });
        let holder = Holder { user: ann().user, session: session().id };
        (auth.rename(origin(), &holder, username("Mia")).await, events)
    }

    #[tokio::test]
    async fn a_holder_gets_another_name_and_it_is_on_record() {
        let (renamed, events) =
            rename_to_mia(|| Ok(Renaming::Done(User { name: username("Mia"), ..ann().user }))).await;

        assert_eq!(renamed.unwrap().name, username("Mia"));
        assert_eq!(events.taken(), [(Action::Rename, Outcome::Success, Subject::User(ann().user.id))]);
    }

    #[tokio::test]
    async fn whatever_keeps_a_name_as_it_was_is_told_apart() {
        let (taken, events) = rename_to_mia(|| Ok(Renaming::UsernameTaken)).await;
        assert!(matches!(taken, Err(RenameError::UsernameTaken)));
        assert_eq!(events.taken()[0].1, Outcome::Refused("username_taken"));

        let (gone, events) = rename_to_mia(|| Ok(Renaming::NoAccount)).await;
        assert!(matches!(gone, Err(RenameError::NoAccount)));
        assert_eq!(events.taken()[0].1, Outcome::Refused("no_account"));

        let (failed, events) = rename_to_mia(|| Err(broken())).await;
        assert!(matches!(failed, Err(RenameError::Port(_))));
        assert_eq!(events.taken()[0].1, Outcome::Failed);
    }
}
