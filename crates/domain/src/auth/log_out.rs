//! Logging out.

use thiserror::Error;
use zeroize::Zeroizing;

use super::Auth;
use crate::ports::{Ending, PortError};
use crate::{Action, EndCause, InvalidToken, Origin, SessionId, Subject, UserId};

/// What somebody shows who logs out.
#[derive(Debug)]
pub enum LogoutCredential {
    /// An access token.
    AccessToken(Zeroizing<String>),
    /// A refresh token, of any generation.
    RefreshToken(Zeroizing<String>),
}

/// Why somebody is not known to be logged out.
#[derive(Debug, Error)]
pub enum LogOutError {
    /// The access token says nothing of a session that can be believed.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The session could not be looked up or ended.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// Ends the session that the token belongs to. It is as well if it is over already, and so it is with a
    /// refresh token of none: what cannot be told from a session that was removed opens nothing either way.
    pub async fn log_out(&self, origin: Origin, farewell: LogoutCredential) -> Result<(), LogOutError> {
        let (session, owner) = match farewell {
            LogoutCredential::AccessToken(token) => match self.ports.tokens.verify(&token) {
                Ok(bearer) => (bearer.session, bearer.user),
                Err(error) => {
                    self.attempt(Action::LogOut, Subject::Unknown, origin).fail(error.outcome());
                    return Err(error.into());
                }
            },
            LogoutCredential::RefreshToken(token) => match self.session_of(&token).await? {
                Ok((_, session, user)) => (session.id, user.id),
                Err(stranger) => {
                    stranger.turn_away(self.attempt(Action::LogOut, Subject::Unknown, origin));
                    return Ok(());
                }
            },
        };
        self.end(origin, Action::LogOut, session, owner, EndCause::LoggedOut).await?;
        Ok(())
    }

    /// Ends a session and puts it on record, if there is one to end.
    pub(super) async fn end(
        &self,
        origin: Origin,
        action: Action,
        session: SessionId,
        owner: UserId,
        cause: EndCause,
    ) -> Result<Ending, PortError> {
        let attempt = self.attempt(action, Subject::User(owner), origin);
        let sessions = self.ports.sessions.clone();
        let end = async move |attempt| sessions.end(session, owner, cause, attempt).await;
        self.finish(attempt.commit_with(end)).await?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockRefreshTokens, MockSessionRepo, MockTokenIssuer, Ports};
    use crate::testing::{self, ann, auth, broken, noon, origin, ports, session};
    use crate::{Bearer, Generation, Outcome, RefreshClaim, Session};

    fn sessions_that_end(ending: fn() -> Result<Ending, PortError>) -> MockSessionRepo {
        let mut sessions = MockSessionRepo::new();
        sessions
            .expect_end()
            .withf(|id, owner, cause, attempt| {
                let logged_out = (session().id, ann().user.id, EndCause::LoggedOut, noon());
                (*id, *owner, *cause, attempt.at) == logged_out
            })
            .once()
            .returning(move |_, _, _, _| ending());
        sessions
    }

    fn issuer_who_says(verified: Result<Bearer, InvalidToken>) -> Arc<MockTokenIssuer> {
        let mut tokens = MockTokenIssuer::new();
        tokens.expect_verify().returning(move |_| verified);
        Arc::new(tokens)
    }

    fn bearer() -> Bearer {
        Bearer { user: ann().user.id, session: session().id, generation: Generation::FIRST }
    }

    fn access_token() -> LogoutCredential {
        LogoutCredential::AccessToken("token".to_owned().into())
    }

    #[tokio::test]
    async fn an_access_token_ends_its_session_and_it_may_be_over_already() {
        for (ending, outcome) in [
            ((|| Ok(Ending::Done)) as fn() -> _, Outcome::Success),
            (|| Ok(Ending::Unknown), Outcome::Refused("no_live_session")),
        ] {
            let (audit_stream, events) = testing::audit_stream();
            let sessions = Arc::new(sessions_that_end(ending));
            let auth =
                auth(Ports { sessions, tokens: issuer_who_says(Ok(bearer())), audit_stream, ..ports() });

            auth.log_out(origin(), access_token()).await.unwrap();

            assert_eq!(events.taken(), [(Action::LogOut, outcome, Subject::User(ann().user.id))]);
        }
    }

    #[tokio::test]
    async fn a_bad_access_token_is_refused_and_a_broken_store_is_not_a_logout() {
        let (audit_stream, _) = testing::audit_stream();
        let refused =
            auth(Ports { tokens: issuer_who_says(Err(InvalidToken::Expired)), audit_stream, ..ports() });
        let (audit_stream, _) = testing::audit_stream();
        let sessions = Arc::new(sessions_that_end(|| Err(broken())));
        let broken = auth(Ports { sessions, tokens: issuer_who_says(Ok(bearer())), audit_stream, ..ports() });

        let refused = refused.log_out(origin(), access_token()).await;
        let failed = broken.log_out(origin(), access_token()).await;

        assert!(matches!(refused, Err(LogOutError::Token(InvalidToken::Expired))));
        assert!(matches!(failed, Err(LogOutError::Port(_))));
    }

    #[tokio::test]
    async fn a_genuine_refresh_token_ends_its_session_and_any_other_is_as_good_as_ended() {
        for (text, ended, outcome) in [
            ("good", None, Outcome::Success),
            ("good", Some(noon()), Outcome::Refused("session_over")),
            ("forged", None, Outcome::Refused("forged")),
            ("malformed", None, Outcome::Refused("malformed")),
        ] {
            let (audit_stream, events) = testing::audit_stream();
            let mut refresh_tokens = MockRefreshTokens::new();
            refresh_tokens.expect_read().returning(|text| {
                let claim = RefreshClaim { session: session().id, generation: Generation::FIRST };
                (text != "malformed").then_some(claim)
            });
            refresh_tokens.expect_is_genuine().returning(|text, _| text == "good");
            let mut sessions = match outcome {
                Outcome::Success => sessions_that_end(|| Ok(Ending::Done)),
                _ => MockSessionRepo::new(),
            };
            let found = Session { ended_at: ended, ..session() };
            sessions.expect_look_up().returning(move |_| Ok(Some((found.clone(), ann()))));
            let auth = auth(Ports {
                sessions: Arc::new(sessions),
                refresh_tokens: Arc::new(refresh_tokens),
                audit_stream,
                ..ports()
            });

            auth.log_out(origin(), LogoutCredential::RefreshToken(text.to_owned().into())).await.unwrap();

            assert_eq!(events.taken()[0].1, outcome, "{text}");
        }
    }
}
