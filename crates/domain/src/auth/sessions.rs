//! Looking at one's sessions, and ending them.

use super::{Auth, AuthenticatedUser};
use crate::ports::{Ending, EndingAll, PortError};
use crate::{Action, EndCause, Origin, Session, SessionId, Subject, UserId};

impl Auth {
    /// The holder's live sessions, the newest first.
    pub async fn list_sessions(&self, holder: &AuthenticatedUser) -> Result<Vec<Session>, PortError> {
        self.ports.sessions.live_sessions(holder.user.id, self.ports.clock.now()).await
    }

    /// Ends one of the holder's sessions, which may be the one they speak in. Somebody else's is none of theirs.
    pub async fn end_session(
        &self,
        origin: Origin,
        holder: &AuthenticatedUser,
        session: SessionId,
    ) -> Result<Ending, PortError> {
        self.end(origin, Action::EndSession, session, holder.user.id, EndCause::Revoked).await
    }

    /// Ends the holder's sessions but the one they speak in.
    pub async fn end_other_sessions(
        &self,
        origin: Origin,
        holder: &AuthenticatedUser,
    ) -> Result<usize, PortError> {
        self.end_all(origin, holder.user.id, Some(holder.session), EndCause::Revoked).await
    }

    async fn end_all(
        &self,
        origin: Origin,
        owner: UserId,
        but: Option<SessionId>,
        cause: EndCause,
    ) -> Result<usize, PortError> {
        let attempt = self.attempt(Action::EndSessions, Subject::User(owner), origin);
        let sessions = self.ports.sessions.clone();
        let end = async move |attempt| sessions.end_all(owner, but, cause, attempt).await;
        let EndingAll(count) = self.finish(attempt.commit_with(end)).await??;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Outcome;
    use crate::ports::{MockSessionRepo, Ports};
    use crate::testing::{self, ann, auth, noon, origin, ports, session};

    fn holder() -> AuthenticatedUser {
        AuthenticatedUser { user: ann().user, session: session().id }
    }

    #[tokio::test]
    async fn only_the_holders_own_session_is_ended_and_either_way_put_on_record() {
        for (ending, outcome) in
            [(Ending::Done, Outcome::Success), (Ending::Unknown, Outcome::Refused("no_live_session"))]
        {
            let mut sessions = MockSessionRepo::new();
            sessions
                .expect_end()
                .withf(|_, owner, cause, attempt| {
                    (*owner, *cause, attempt.at) == (ann().user.id, EndCause::Revoked, noon())
                })
                .returning(move |_, _, _, _| Ok(ending));
            let (audit_stream, events) = testing::audit_stream();
            let auth = auth(Ports { sessions: Arc::new(sessions), audit_stream, ..ports() });

            assert_eq!(auth.end_session(origin(), &holder(), session().id).await.unwrap(), ending);

            assert_eq!(events.taken(), [(Action::EndSession, outcome, Subject::User(ann().user.id))]);
        }
    }

    #[tokio::test]
    async fn the_session_that_somebody_speaks_in_is_not_among_the_others() {
        let mut sessions = MockSessionRepo::new();
        sessions
            .expect_end_all()
            .withf(|owner, but, _, _| (*owner, *but) == (ann().user.id, Some(session().id)))
            .returning(|_, _, _, _| Ok(EndingAll(3)));
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { sessions: Arc::new(sessions), audit_stream, ..ports() });

        assert_eq!(auth.end_other_sessions(origin(), &holder()).await.unwrap(), 3);

        assert_eq!(events.taken()[0].0, Action::EndSessions);
    }
}
