//! Exchanging a refresh token.

use thiserror::Error;
use zeroize::Zeroizing;

use super::Auth;
use crate::audit::recorder::PendingAuditEvent;
use crate::ports::{PortError, Reuse, Rotation, Shown};
use crate::{Action, Origin, Outcome, RefreshClaim, Session, Subject, Tokens, User, UserId};

/// What a refresh hands out.
#[derive(Debug)]
pub struct Refreshed {
    /// The tokens. If it was a reuse, the refresh token is the one that was handed out before.
    pub tokens: Tokens,
    /// Why a token that was exchanged before was good all the same, if it was such a one.
    pub reuse: Option<Reuse>,
}

/// Why nothing is handed out.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// The token opens nothing. Whoever answers the client must not tell why.
    #[error("the refresh token is not valid")]
    InvalidToken,
    /// The session could not be looked up or changed, or the tokens not be made.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// Exchanges a refresh token for the next tokens of its session. One that was exchanged before gets the
    /// newest ones again, or ends the session, as [`crate::Lineage`] decides.
    pub async fn refresh(&self, origin: Origin, token: Zeroizing<String>) -> Result<Refreshed, RefreshError> {
        let (claim, session, user) = match self.session_of(&token).await? {
            Ok(found) => found,
            Err(stranger) => {
                stranger.turn_away(self.attempt(Action::Refresh, Subject::Unknown, origin));
                return Err(RefreshError::InvalidToken);
            }
        };
        self.rotate(origin, claim, &session, &user).await
    }

    /// The token to go by where a browser sent several, of which others may be of another program or out of date: the
    /// newest generation of the last session that lives. If none is good for anything, the last one, which is refused
    /// like any other.
    pub async fn choose_refresh_token(
        &self,
        mut tokens: Vec<Zeroizing<String>>,
    ) -> Result<Option<Zeroizing<String>>, PortError> {
        let mut chosen: Option<(usize, RefreshClaim)> = None;
        if tokens.len() > 1 {
            for (index, token) in tokens.iter().enumerate() {
                let Ok((claim, ..)) = self.session_of(token).await? else { continue };
                let is_older = |chosen: &RefreshClaim| {
                    chosen.session == claim.session && chosen.generation > claim.generation
                };
                if !chosen.as_ref().is_some_and(|(_, chosen)| is_older(chosen)) {
                    chosen = Some((index, claim));
                }
            }
        }
        Ok(match chosen {
            Some((index, _)) => Some(tokens.swap_remove(index)),
            None => tokens.pop(),
        })
    }

    /// The live session that a genuine refresh token belongs to. What is forged never comes to the writer.
    pub(super) async fn session_of(
        &self,
        token: &str,
    ) -> Result<Result<(RefreshClaim, Session, User), RejectedRefreshToken>, PortError> {
        let unknown = |reason| Ok(Err(RejectedRefreshToken { owner: None, reason }));
        let Some(claim) = self.ports.refresh_tokens.read(token) else { return unknown("malformed") };
        let Some((session, account)) = self.ports.sessions.look_up(claim.session).await? else {
            return unknown("unknown_session");
        };
        if !self.ports.refresh_tokens.is_genuine(token, &session.nonce) {
            return unknown("forged");
        }
        // Whatever disables an account ends its sessions. Looked at all the same: no way to a token is without
        // this guard.
        if !session.is_live(self.ports.clock.now()) || account.disabled_at.is_some() {
            return Ok(Err(RejectedRefreshToken { owner: Some(session.user), reason: "session_over" }));
        }
        Ok(Ok((claim, session, account.user)))
    }

    async fn rotate(
        &self,
        origin: Origin,
        claim: RefreshClaim,
        session: &Session,
        user: &User,
    ) -> Result<Refreshed, RefreshError> {
        let attempt = self.attempt(Action::Refresh, Subject::User(user.id), origin);
        let at = self.ports.clock.now();
        let RefreshClaim { session: id, generation } = claim;
        let shown = Shown { session: id, generation, at, rules: self.rules.sessions };
        let sessions = self.ports.sessions.clone();
        let rotate = async move |attempt| sessions.rotate(shown, attempt).await;
        let (now, reuse) = match self.finish(attempt.commit_with(rotate)).await?? {
            Rotation::Rotated(now) => (now, None),
            Rotation::Again(now, reuse) => (now, Some(reuse)),
            Rotation::Ended(_) | Rotation::Over => return Err(RefreshError::InvalidToken),
        };
        let claim = RefreshClaim { session: id, generation: now.lineage.generation };
        let tokens = self.issue(user, claim, &session.nonce, at, now.expires_at)?;
        Ok(Refreshed { tokens, reuse })
    }
}

/// A refresh token that belongs to no live session, as the audit log is told of it.
pub(super) struct RejectedRefreshToken {
    /// Whose session it was of, if that is known.
    owner: Option<UserId>,
    reason: &'static str,
}

impl RejectedRefreshToken {
    /// Ends an attempt by it.
    pub(super) fn turn_away(self, mut attempt: PendingAuditEvent) {
        if let Some(owner) = self.owner {
            attempt.is_about(owner);
        }
        attempt.fail(Outcome::Refused(self.reason));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockRefreshTokens, MockSessionRepo, Ports};
    use crate::testing::{self, Events, ann, auth, broken, noon, origin, ports, session, token_ports};
    use crate::{Account, Generation, Misuse};

    fn refresh_tokens(genuine: bool) -> MockRefreshTokens {
        let mut tokens = MockRefreshTokens::new();
        tokens.expect_read().returning(|text| {
            let claim = RefreshClaim { session: session().id, generation: session().lineage.generation };
            (text != "malformed").then_some(claim)
        });
        tokens.expect_is_genuine().withf(|_, nonce| *nonce == session().nonce).return_const(genuine);
        tokens.expect_write().returning(|claim, _| format!("refresh {}", claim.generation).into());
        tokens
    }

    fn sessions_with(found: Option<(Session, Account)>) -> MockSessionRepo {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().returning(move |_| Ok(found.clone()));
        sessions
    }

    fn one_who_refreshes(sessions: MockSessionRepo, genuine: bool) -> (Auth, Events) {
        let (audit_stream, events) = testing::audit_stream();
        let ports = Ports {
            sessions: Arc::new(sessions),
            tokens: token_ports().0,
            refresh_tokens: Arc::new(refresh_tokens(genuine)),
            audit_stream,
            ..ports()
        };
        (auth(ports), events)
    }

    fn one_whose_store_says(rotation: Rotation) -> (Auth, Events) {
        let mut sessions = sessions_with(Some((session(), ann())));
        sessions
            .expect_rotate()
            .withf(|shown, _| (shown.generation, shown.at) == (session().lineage.generation, noon()))
            .once()
            .returning(move |_, _| Ok(rotation.clone()));
        one_who_refreshes(sessions, true)
    }

    async fn refresh(auth: &Auth, token: &str) -> Result<Refreshed, RefreshError> {
        auth.refresh(origin(), token.to_owned().into()).await
    }

    #[tokio::test]
    async fn a_good_token_gets_the_next_ones_and_is_not_put_on_record() {
        let (auth, events) = one_whose_store_says(Rotation::Rotated(session()));

        let Refreshed { tokens, reuse } = refresh(&auth, "good").await.unwrap();

        assert_eq!((&**tokens.access.text, &**tokens.refresh.text, reuse), ("access 2", "refresh 2", None));
        assert_eq!((tokens.session, tokens.refresh.lifetime), (session().id, session().time_left(noon())));
        assert_eq!(events.taken(), []);
    }

    #[tokio::test]
    async fn a_token_that_may_be_used_again_gets_the_newest_and_a_lost_answer_is_put_on_record() {
        let recovered = (Action::RecoverRefresh, Outcome::Success, Subject::User(ann().user.id));
        for (reuse, expected) in [(Reuse::Concurrent, vec![]), (Reuse::Recovered, vec![recovered])] {
            let (auth, events) = one_whose_store_says(Rotation::Again(session(), reuse));

            let refreshed = refresh(&auth, "good").await.unwrap();

            assert_eq!((&**refreshed.tokens.refresh.text, refreshed.reuse), ("refresh 2", Some(reuse)));
            assert_eq!(events.taken(), expected);
        }
    }

    #[tokio::test]
    async fn a_misuse_is_refused_and_put_on_record_by_its_name() {
        let misuse = Misuse::SuccessorSeen;
        for (rotation, reason) in
            [(Rotation::Ended(misuse), misuse.as_str()), (Rotation::Over, "session_over")]
        {
            let (auth, events) = one_whose_store_says(rotation);

            let refused = refresh(&auth, "good").await.unwrap_err();

            assert!(matches!(refused, RefreshError::InvalidToken));
            let expected = (Action::Refresh, Outcome::Refused(reason), Subject::User(ann().user.id));
            assert_eq!(events.taken(), [expected]);
        }
    }

    #[tokio::test]
    async fn a_token_of_no_live_session_is_refused_without_a_write() {
        let ended = Session { ended_at: Some(noon()), ..session() };
        let expired = Session { expires_at: noon(), ..session() };
        let disabled = Account { disabled_at: Some(noon()), ..ann() };
        for (token, found, genuine, reason) in [
            ("malformed", None, true, "malformed"),
            ("good", None, true, "unknown_session"),
            ("forged", Some((session(), ann())), false, "forged"),
            ("good", Some((ended, ann())), true, "session_over"),
            ("good", Some((expired, ann())), true, "session_over"),
            ("good", Some((session(), disabled)), true, "session_over"),
        ] {
            let (auth, events) = one_who_refreshes(sessions_with(found), genuine);

            let refused = refresh(&auth, token).await.unwrap_err();

            assert!(matches!(refused, RefreshError::InvalidToken), "{reason}");
            assert_eq!(events.taken()[0].1, Outcome::Refused(reason));
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_asked_is_not_a_bad_token() {
        let mut sessions = sessions_with(Some((session(), ann())));
        sessions.expect_rotate().returning(|_, _| Err(broken()));
        let (auth, _) = one_who_refreshes(sessions, true);

        assert!(matches!(refresh(&auth, "good").await, Err(RefreshError::Port(_))));
    }
    #[tokio::test]
    async fn newest_genuine_token_of_a_live_session_is_chosen() {
        let generation = |number| Generation::new(number).unwrap();
        let mut tokens = MockRefreshTokens::new();
        tokens.expect_read().returning(move |text| {
            let number = text.strip_prefix("genuine ").or(text.strip_prefix("forged "))?.parse().ok()?;
            Some(RefreshClaim { session: session().id, generation: generation(number) })
        });
        tokens.expect_is_genuine().returning(|text, _| text.starts_with("genuine"));
        let ports = Ports {
            sessions: Arc::new(sessions_with(Some((session(), ann())))),
            refresh_tokens: Arc::new(tokens),
            ..ports()
        };
        let auth = auth(ports);

        for (sent, chosen) in [
            (&[][..], None),
            (&["anything"], Some("anything")),
            (&["genuine 2", "of another program"], Some("genuine 2")),
            (&["of another program", "genuine 2"], Some("genuine 2")),
            (&["genuine 1", "genuine 2"], Some("genuine 2")),
            (&["genuine 2", "genuine 1"], Some("genuine 2")),
            (&["forged 9", "genuine 2", ""], Some("genuine 2")),
            (&["forged 1", "forged 2"], Some("forged 2")),
        ] {
            let sent = sent.iter().map(|token| (*token).to_owned().into()).collect();
            let found = auth.choose_refresh_token(sent).await.unwrap();
            assert_eq!(found.as_ref().map(|token| token.as_str()), chosen);
        }
    }
}
