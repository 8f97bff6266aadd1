//! Ending a session for a backend that has a token of it.

use super::{Auth, Client};
use crate::ports::PortError;
use crate::{Action, EndCause, Origin, Subject};

impl Auth {
    /// Ends the session that this token belongs to, whichever of its tokens it is. One that belongs to no live
    /// session is as good as revoked (RFC 7009, section 2.2), and nothing changes.
    pub async fn revoke(&self, _: &Client, origin: Origin, token: &str) -> Result<(), PortError> {
        let (session, owner) = match self.ports.tokens.verify(token) {
            Ok(bearer) => (bearer.session, bearer.user),
            Err(_) => match self.session_of(token).await? {
                Ok((_, session, user)) => (session.id, user.id),
                Err(stranger) => {
                    stranger.turn_away(self.attempt(Action::RevokeToken, Subject::Unknown, origin));
                    return Ok(());
                }
            },
        };
        self.end(origin, Action::RevokeToken, session, owner, EndCause::RevokedByClient).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{Ending, MockRefreshTokens, MockSessionRepo, MockTokenIssuer, Ports};
    use crate::testing::{self, Events, ann, auth, broken, noon, origin, ports, session};
    use crate::{Bearer, Generation, InvalidToken, Outcome, RefreshClaim, Session, Subject};

    /// Knows an access token and an older refresh token of the session.
    fn one_who_revokes(sessions: MockSessionRepo) -> (Auth, Events) {
        let (audit_stream, events) = testing::audit_stream();
        let generation = Generation::FIRST;
        let mut tokens = MockTokenIssuer::new();
        tokens.expect_verify().returning(move |token| match token {
            "access" => Ok(Bearer { user: ann().user.id, session: session().id, generation }),
            "expired" => Err(InvalidToken::Expired),
            _ => Err(InvalidToken::Invalid),
        });
        let mut refresh_tokens = MockRefreshTokens::new();
        refresh_tokens.expect_read().returning(move |token| {
            ["refresh", "forged"]
                .contains(&token)
                .then_some(RefreshClaim { session: session().id, generation })
        });
        refresh_tokens.expect_is_genuine().returning(|token, _| token == "refresh");
        let (tokens, refresh_tokens) = (Arc::new(tokens), Arc::new(refresh_tokens));
        let sessions = Arc::new(sessions);
        (auth(Ports { sessions, tokens, refresh_tokens, audit_stream, ..ports() }), events)
    }

    fn sessions_with(session: Session) -> MockSessionRepo {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().returning(move |_| Ok(Some((session.clone(), ann()))));
        sessions
    }

    fn expect_end(sessions: &mut MockSessionRepo, ending: fn() -> Result<Ending, PortError>) {
        sessions
            .expect_end()
            .withf(|id, owner, cause, attempt| {
                let revoked = (session().id, ann().user.id, EndCause::RevokedByClient, noon());
                (*id, *owner, *cause, attempt.at) == revoked
            })
            .once()
            .returning(move |_, _, _, _| ending());
    }

    #[tokio::test]
    async fn either_token_ends_its_session_and_is_put_on_record() {
        for token in ["access", "refresh"] {
            let mut sessions = sessions_with(session());
            expect_end(&mut sessions, || Ok(Ending::Done));
            let (auth, events) = one_who_revokes(sessions);

            auth.revoke(&Client::authenticated(), origin(), token).await.unwrap();

            let subject = Subject::User(ann().user.id);
            assert_eq!(events.taken(), [(Action::RevokeToken, Outcome::Success, subject)], "{token}");
        }
    }

    #[tokio::test]
    async fn a_token_of_no_live_session_changes_nothing_and_is_as_good_as_revoked() {
        let ended = Session { ended_at: Some(noon()), ..session() };
        for (token, session, reason) in [
            ("", session(), "malformed"),
            ("expired", session(), "malformed"),
            ("forged", session(), "forged"),
            ("refresh", ended, "session_over"),
        ] {
            let (auth, events) = one_who_revokes(sessions_with(session));

            auth.revoke(&Client::authenticated(), origin(), token).await.unwrap();

            assert_eq!(events.taken()[0].1, Outcome::Refused(reason), "{token}");
        }

        let mut sessions = MockSessionRepo::new();
        expect_end(&mut sessions, || Ok(Ending::Unknown));
        let (auth, _) = one_who_revokes(sessions);
        auth.revoke(&Client::authenticated(), origin(), "access").await.unwrap();
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_asked_has_revoked_nothing() {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().returning(|_| Err(broken()));
        expect_end(&mut sessions, || Err(broken()));
        let (auth, _) = one_who_revokes(sessions);

        for token in ["access", "refresh"] {
            assert!(auth.revoke(&Client::authenticated(), origin(), token).await.is_err(), "{token}");
        }
    }
}
