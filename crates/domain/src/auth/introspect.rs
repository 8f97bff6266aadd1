//! Telling a backend what a token is good for.

use jiff::Timestamp;

use super::{Auth, Client};
use crate::ports::PortError;
use crate::{AccessClaims, SessionId, User};

/// Which tokens a backend wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedAbout {
    /// What it lets people in by.
    AccessTokens,
    /// Refresh tokens as well, which it said by name.
    RefreshTokensToo,
}

/// A token that is good for something now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Introspected {
    /// An access token.
    Access {
        /// Whose it is, by the name they have now.
        user: User,
        /// All that it says.
        claims: AccessClaims,
    },
    /// The newest refresh token of a session.
    Refresh {
        /// Whose it is.
        user: User,
        /// Of which session.
        session: SessionId,
        /// When it was handed out first.
        issued_at: Timestamp,
        /// Until when it holds if nobody uses it.
        expires_at: Timestamp,
    },
}

impl Auth {
    /// What this token is good for now; why it is good for nothing, nobody is told. An access token that holds was
    /// shown to somebody, which is noted as [`Auth::authenticate`] notes it. Nothing else changes, and nothing is put on
    /// record, since it is the backend that asks and not the holder.
    pub async fn introspect(
        &self,
        _: &Client,
        asked: AskedAbout,
        token: &str,
    ) -> Result<Option<Introspected>, PortError> {
        if let Ok(claims) = self.ports.tokens.inspect(token) {
            return self.introspect_access_token(claims).await;
        }
        // Most backends look at nothing but whether a token is active. If that were said of refresh tokens unasked,
        // these would be taken for access tokens there: a stolen one could be used for weeks without ever being
        // exchanged, which is how a theft is found.
        match asked {
            AskedAbout::AccessTokens => Ok(None),
            AskedAbout::RefreshTokensToo => self.introspect_refresh_token(token).await,
        }
    }

    async fn introspect_access_token(&self, claims: AccessClaims) -> Result<Option<Introspected>, PortError> {
        let Some(session) = self.live_session_of(&claims.bearer).await? else { return Ok(None) };
        if session.first_sees(&claims.bearer) {
            self.mark_seen(claims.bearer);
        }
        Ok(Some(Introspected::Access { user: session.user.clone(), claims }))
    }

    async fn introspect_refresh_token(&self, token: &str) -> Result<Option<Introspected>, PortError> {
        let Ok((claim, session, user)) = self.session_of(token).await? else { return Ok(None) };
        // An older one may still get the newest for a while. It is not good for anything by itself any more.
        let is_newest = claim.generation == session.lineage.generation;
        Ok(is_newest.then_some(Introspected::Refresh {
            user,
            session: session.id,
            issued_at: session.last_used_at,
            expires_at: session.expires_at,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockRefreshTokens, MockSessionRepo, MockTokenIssuer, Ports};
    use crate::testing::{ann, auth, broken, noon, ports, session};
    use crate::{Account, Bearer, Generation, InvalidToken, Lineage, RefreshClaim, Session, UserId};

    fn claims() -> AccessClaims {
        let generation = session().lineage.generation;
        AccessClaims {
            bearer: Bearer { user: ann().user.id, session: session().id, generation },
            id: "2.random".to_owned(),
            issuer: "https://auth.example".to_owned(),
            audience: None,
            client_id: "web".to_owned(),
            issued_at: noon(),
            expires_at: session().expires_at,
        }
    }

    /// Takes one token for an access token.
    fn issuer() -> MockTokenIssuer {
        let mut tokens = MockTokenIssuer::new();
        tokens.expect_inspect().returning(|token| match token {
            "access" => Ok(claims()),
            "expired" => Err(InvalidToken::Expired),
            _ => Err(InvalidToken::Invalid),
        });
        tokens
    }

    /// Takes two tokens for refresh tokens: the newest, and the one before.
    fn refresh_tokens() -> MockRefreshTokens {
        let mut tokens = MockRefreshTokens::new();
        tokens.expect_read().returning(|text| {
            let generation = match text {
                "refresh" | "forged" => session().lineage.generation,
                "older" => Generation::FIRST,
                _ => return None,
            };
            Some(RefreshClaim { session: session().id, generation })
        });
        tokens.expect_is_genuine().returning(|text, _| text != "forged");
        tokens
    }

    fn seen() -> Session {
        Session { lineage: Lineage { seen: true, ..session().lineage }, ..session() }
    }

    fn sessions_with(session: Session, account: Account) -> MockSessionRepo {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().returning(move |_| Ok(Some((session.clone(), account.clone()))));
        sessions
    }

    fn one_who_asks(sessions: MockSessionRepo) -> Auth {
        auth(Ports {
            sessions: Arc::new(sessions),
            tokens: Arc::new(issuer()),
            refresh_tokens: Arc::new(refresh_tokens()),
            ..ports()
        })
    }

    async fn ask(auth: &Auth, asked: AskedAbout, token: &str) -> Option<Introspected> {
        auth.introspect(&Client::authenticated(), asked, token).await.unwrap()
    }

    #[tokio::test]
    async fn an_access_token_that_holds_is_told_of_without_a_record_and_looked_up_once() {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().once().returning(|_| Ok(Some((seen(), ann()))));
        let auth = one_who_asks(sessions);

        for asked in [AskedAbout::AccessTokens, AskedAbout::RefreshTokensToo] {
            let told = ask(&auth, asked, "access").await;
            assert_eq!(told, Some(Introspected::Access { user: ann().user, claims: claims() }));
        }
    }

    #[tokio::test]
    async fn the_newest_generation_is_marked_as_seen_once() {
        let mut sessions = sessions_with(session(), ann());
        sessions
            .expect_mark_seen()
            .withf(|id, generation| (*id, *generation) == (session().id, session().lineage.generation))
            .once()
            .returning(|_, _| Ok(()));
        let auth = one_who_asks(sessions);

        for _ in 0..3 {
            assert!(ask(&auth, AskedAbout::AccessTokens, "access").await.is_some());
        }
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn nothing_is_told_of_a_token_that_holds_no_more_or_never_did() {
        let ended = Session { ended_at: Some(noon()), ..seen() };
        let expired = Session { expires_at: noon(), ..seen() };
        let others = Session { user: UserId(8), ..seen() };
        let disabled = Account { disabled_at: Some(noon()), ..ann() };
        for (token, session, account) in [
            ("access", ended.clone(), ann()),
            ("access", expired.clone(), ann()),
            ("access", others, ann()),
            ("access", seen(), disabled.clone()),
            ("expired", seen(), ann()),
            ("", seen(), ann()),
            ("forged", seen(), ann()),
            ("older", seen(), ann()),
            ("refresh", ended, ann()),
            ("refresh", expired, ann()),
            ("refresh", seen(), disabled),
        ] {
            let auth = one_who_asks(sessions_with(session, account));

            for asked in [AskedAbout::AccessTokens, AskedAbout::RefreshTokensToo] {
                assert_eq!(ask(&auth, asked, token).await, None, "{token} {asked:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_newest_refresh_token_is_told_of_only_to_who_asks_by_name_and_marks_nothing() {
        let auth = one_who_asks(sessions_with(session(), ann()));

        let told = ask(&auth, AskedAbout::RefreshTokensToo, "refresh").await;

        let Session { id, last_used_at, expires_at, .. } = session();
        let expected =
            Introspected::Refresh { user: ann().user, session: id, issued_at: last_used_at, expires_at };
        assert_eq!(told, Some(expected));
        assert_eq!(ask(&auth, AskedAbout::AccessTokens, "refresh").await, None);
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_asked_is_no_answer() {
        for token in ["access", "refresh"] {
            let mut sessions = MockSessionRepo::new();
            sessions.expect_look_up().returning(|_| Err(broken()));
            let auth = one_who_asks(sessions);

            let asked = AskedAbout::RefreshTokensToo;
            assert!(auth.introspect(&Client::authenticated(), asked, token).await.is_err(), "{token}");
        }
    }
}
