//! The one door to a token. Every way of logging in ends here, and every guard stands here.

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::admission::Admitted;
use super::{Auth, LoggedIn};
use crate::audit::recorder::PendingAuditEvent;
use crate::ports::{NewSession, Opening, PortError, Ports};
use crate::{
    Account, Generation, Grant, Nonce, Origin, Outcome, RefreshClaim, RefreshToken, SessionId, Tokens, User,
};

/// Why somebody is not let in. Only the audit log may tell these apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nobody has that name, or nobody has it any more.
    #[error("there is no such user")]
    UnknownUser,
    /// The password is another one.
    #[error("the password is wrong")]
    WrongPassword,
    /// The stored hash is of no format or cost that can be verified.
    #[error("the stored hash cannot be read")]
    UnreadableHash,
    /// The account is disabled.
    #[error("the account is disabled")]
    Disabled,
    /// The password was changed while the old one was being checked.
    #[error("the credentials have changed meanwhile")]
    CredentialsChanged,
}

#[derive(Debug, Error)]
pub(super) enum CreateSessionError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// Opens a session for `account`, as it was read before its password was checked. Checking takes long enough
    /// for an operator to disable the account, so the store looks at it once more, in the transaction that opens
    /// the session.
    pub(super) async fn create_session(
        &self,
        origin: &Origin,
        account: &Account,
        admitted: Admitted,
        attempt: PendingAuditEvent,
    ) -> Result<LoggedIn, CreateSessionError> {
        let new = NewSession { compared: admitted.compared(), ..self.new_session(origin, account) };
        // Made ahead: once the session is open, nothing that could fail is left to do.
        let tokens = match self.first_tokens(&account.user, &new) {
            Ok(tokens) => tokens,
            Err(error) => {
                attempt.fail(Outcome::Failed);
                return Err(error.into());
            }
        };
        let sessions = self.ports.sessions.clone();
        let open = async move |attempt| {
            let opened = sessions.open(new, attempt).await;
            admitted.settle(&opened);
            opened
        };
        let user = match self.finish(attempt.commit_with(open)).await?? {
            Opening::Done(user) => user,
            Opening::UnknownUser => return Err(Refusal::UnknownUser.into()),
            Opening::Disabled => return Err(Refusal::Disabled.into()),
            Opening::CredentialsChanged => return Err(Refusal::CredentialsChanged.into()),
        };
        Ok(LoggedIn { user, tokens })
    }

    /// A session that `account` may have once the store has looked at it.
    pub(super) fn new_session(&self, origin: &Origin, account: &Account) -> NewSession {
        let Ports { clock, entropy, .. } = &self.ports;
        let at = clock.now();
        let ends_at = self.rules.sessions.end(at);
        let (address, user_agent) = origin.client();
        NewSession {
            id: SessionId::new(at, entropy.draw()),
            user: account.user.id,
            credentials_epoch: account.credentials_epoch,
            nonce: Nonce(entropy.draw()),
            at,
            expires_at: self.rules.sessions.expiry(at, ends_at),
            ends_at,
            address,
            user_agent,
            compared: None,
        }
    }

    /// The tokens that a session begins with.
    pub(super) fn first_tokens(&self, user: &User, new: &NewSession) -> Result<Tokens, PortError> {
        let claim = RefreshClaim { session: new.id, generation: Generation::FIRST };
        self.issue(user, claim, &new.nonce, new.at, new.expires_at)
    }

    /// The tokens of a session that expires at `expires_at`.
    pub(super) fn issue(
        &self,
        user: &User,
        claim: RefreshClaim,
        nonce: &Nonce,
        at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Tokens, PortError> {
        let left = Duration::try_from(expires_at.duration_since(at)).unwrap_or_default();
        let grant = Grant {
            subject: user.id,
            username: user.name.clone(),
            session: claim.session,
            generation: claim.generation,
            issued_at: at,
            lifetime: self.access_lifetime(left),
        };
        Ok(Tokens {
            access: self.ports.tokens.issue(&grant)?,
            refresh: RefreshToken {
                text: self.ports.refresh_tokens.write(&claim, nonce),
                lifetime: Duration::from_secs(left.as_secs()),
            },
            session: claim.session,
        })
    }

    /// The configured lifetime, shortened by up to 5 % at random, so that clients who logged in together do
    /// not come back together; and no longer than the session has, since others look at the token alone.
    fn access_lifetime(&self, left: Duration) -> Duration {
        let [a, b, ..] = self.ports.entropy.draw();
        let chance = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
        let shortened = self.rules.access_ttl.mul_f64(1.0 - 0.05 * chance);
        Duration::from_secs(shortened.min(left).as_secs().max(1))
    }
}

impl Refusal {
    /// Its name in a log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
            Self::UnreadableHash => "unreadable_hash",
            Self::Disabled => "disabled",
            Self::CredentialsChanged => "credentials_changed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ports::{MockEntropy, MockSessionRepo};
    use crate::testing::{self, SESSION_RULES, ann, auth, noon, origin, ports, token_ports};
    use crate::{Action, Subject};

    fn sessions_who_answer(opening: Opening) -> Arc<MockSessionRepo> {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_open().returning(move |_, _| Ok(opening.clone()));
        Arc::new(sessions)
    }

    #[tokio::test]
    async fn an_account_disabled_changed_or_deleted_while_its_password_was_checked_gets_no_token() {
        for (opening, expected) in [
            (Opening::Disabled, Refusal::Disabled),
            (Opening::CredentialsChanged, Refusal::CredentialsChanged),
            (Opening::UnknownUser, Refusal::UnknownUser),
        ] {
            let audit_stream = testing::audit_stream().0;
            let (sessions, (tokens, refresh_tokens)) = (sessions_who_answer(opening), token_ports());
            let auth = auth(Ports { sessions, tokens, refresh_tokens, audit_stream, ..ports() });
            let attempt = auth.attempt(Action::LogIn, Subject::Unknown, origin());

            let refused =
                auth.create_session(&origin(), &ann(), Admitted::uncounted(), attempt).await.unwrap_err();

            assert!(matches!(refused, CreateSessionError::Refused(refusal) if refusal == expected));
        }
    }

    #[tokio::test]
    async fn a_session_is_opened_for_the_credentials_that_were_checked_and_its_tokens_are_handed_out() {
        let mut sessions = MockSessionRepo::new();
        sessions
            .expect_open()
            .withf(|new, _| {
                (new.user, new.credentials_epoch) == (ann().user.id, ann().credentials_epoch)
                    && (new.at, new.ends_at) == (noon(), SESSION_RULES.end(noon()))
                    && (new.address, &new.user_agent) == (origin().client().0, &None)
            })
            .returning(|_, _| Ok(Opening::Done(ann().user)));
        let (tokens, refresh_tokens) = token_ports();
        let sessions = Arc::new(sessions);
        let audit_stream = testing::audit_stream().0;
        let auth = auth(Ports { sessions, tokens, refresh_tokens, audit_stream, ..ports() });
        let attempt = auth.attempt(Action::LogIn, Subject::Unknown, origin());

        let LoggedIn { user, tokens } =
            auth.create_session(&origin(), &ann(), Admitted::uncounted(), attempt).await.unwrap();

        assert_eq!(user, ann().user);
        assert_eq!((&**tokens.access.text, &**tokens.refresh.text), ("access 1", "refresh 1"));
        assert_eq!(tokens.refresh.lifetime, SESSION_RULES.idle_ttl);
        assert_eq!(tokens.session, SessionId::new(noon(), [0; 16]));
    }

    #[tokio::test]
    async fn a_token_holds_for_95_to_100_percent_of_the_configured_time_and_no_longer_than_its_session() {
        let lifetime = |drawn, left| {
            let mut entropy = MockEntropy::new();
            entropy.expect_draw().returning(move || [drawn; 16]);
            let auth = auth(Ports { entropy: Arc::new(entropy), ..ports() });
            auth.access_lifetime(Duration::from_secs(left)).as_secs()
        };

        for (drawn, seconds) in [(0x00, 900), (0x80, 877), (0xff, 855)] {
            assert_eq!(lifetime(drawn, 100_000), seconds);
        }
        assert_eq!(lifetime(0, 60), 60);
    }
}
