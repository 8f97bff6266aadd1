//! Looking at the sessions of an account, and ending them.

use super::{Admin, AdminError};
use crate::ports::EndingAll;
use crate::{Action, EndCause, Session, Subject, Username};

impl Admin {
    /// The live sessions of an account, the newest first.
    pub async fn list_sessions(&self, name: &Username) -> Result<Vec<Session>, AdminError> {
        let account = self.find_account(name).await?;
        Ok(self.ports.sessions.live_sessions(account.user.id, self.ports.clock.now()).await?)
    }

    /// Ends all sessions of an account, and tells how many.
    pub async fn revoke_sessions(&self, name: &Username) -> Result<usize, AdminError> {
        let owner = self.find_account(name).await?.user.id;
        let event = self.begin(Action::EndSessions, Subject::User(owner));
        let sessions = self.ports.sessions.clone();
        let end =
            async move |attempt| sessions.end_all(owner, None, EndCause::RevokedByOperator, attempt).await;
        let EndingAll(count) = self.recorder.finish(event.commit_with(end)).await??;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockSessionRepo, MockUserRepo, Ports};
    use crate::testing::{self, admin, ann, ports, username};
    use crate::{Outcome, Subject};

    #[tokio::test]
    async fn operator_ends_all_sessions_of_an_account() {
        let mut users = MockUserRepo::new();
        users.expect_find_by_name().returning(|_| Ok(Some(ann())));
        let mut sessions = MockSessionRepo::new();
        sessions
            .expect_end_all()
            .withf(|owner, but, cause, _| {
                (*owner, *but, *cause) == (ann().user.id, None, EndCause::RevokedByOperator)
            })
            .returning(|_, _, _, _| Ok(EndingAll(2)));
        let (audit_stream, events) = testing::audit_stream();
        let (users, sessions) = (Arc::new(users), Arc::new(sessions));
        let admin = admin(Ports { users, sessions, audit_stream, ..ports() });

        assert_eq!(admin.revoke_sessions(&username("ann")).await.unwrap(), 2);

        assert_eq!(events.taken(), [(Action::EndSessions, Outcome::Success, Subject::User(ann().user.id))]);
    }
}
