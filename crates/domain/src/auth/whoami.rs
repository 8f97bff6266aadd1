//! Recognising the holder of a token.

use thiserror::Error;

use super::Auth;
use crate::ports::PortError;
use crate::{Action, InvalidToken, Origin, Outcome, Subject, User};

/// Why the holder is not recognised.
#[derive(Debug, Error)]
pub enum WhoamiError {
    /// The token is refused, or its account is gone or disabled.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The user could not be looked up.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// The user whose token this is.
    pub async fn whoami(&self, origin: Origin, token: &str) -> Result<User, WhoamiError> {
        let id = match self.ports.tokens.verify(token) {
            Ok(id) => id,
            Err(error) => {
                let reason = match error {
                    InvalidToken::Expired => "expired",
                    InvalidToken::Invalid => "invalid",
                };
                self.attempt(Action::ShowToken, Subject::Unknown, origin).fail(Outcome::Refused(reason));
                return Err(error.into());
            }
        };
        let account = self.ports.users.find(id).await?;
        if let Some(account) = account.filter(|account| account.disabled_at.is_none()) {
            return Ok(account.user);
        }
        let attempt = self.attempt(Action::ShowToken, Subject::User(id), origin);
        attempt.fail(Outcome::Refused("gone_or_disabled"));
        Err(InvalidToken::Invalid.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Account;
    use crate::ports::{MockTokenIssuer, MockUserRepo, Ports};
    use crate::testing::{self, ann, auth, broken, noon, origin, ports};

    fn ports_where(verified: Result<crate::UserId, InvalidToken>, account: Option<Account>) -> Ports {
        let mut tokens = MockTokenIssuer::new();
        tokens.expect_verify().returning(move |_| verified);
        let mut users = MockUserRepo::new();
        users.expect_find().returning(move |_| Ok(account.clone()));
        Ports { users: Arc::new(users), tokens: Arc::new(tokens), ..ports() }
    }

    #[tokio::test]
    async fn a_good_token_names_its_user() {
        let auth = auth(ports_where(Ok(ann().user.id), Some(ann())));

        assert_eq!(auth.whoami(origin(), "token").await.unwrap(), ann().user);
    }

    #[tokio::test]
    async fn a_refused_token_is_refused_without_asking_the_store_and_put_on_record() {
        for (error, reason) in [(InvalidToken::Expired, "expired"), (InvalidToken::Invalid, "invalid")] {
            let (audit, events) = testing::audit();
            let mut tokens = MockTokenIssuer::new();
            tokens.expect_verify().returning(move |_| Err(error));
            let auth = auth(Ports { tokens: Arc::new(tokens), audit, ..ports() });

            let refused = auth.whoami(origin(), "token").await.unwrap_err();

            assert!(matches!(refused, WhoamiError::Token(why) if why == error));
            assert_eq!(events.taken(), [(Action::ShowToken, Outcome::Refused(reason), Subject::Unknown)]);
        }
    }

    #[tokio::test]
    async fn a_token_dies_with_its_account_and_sleeps_while_it_is_disabled() {
        let disabled = Account { disabled_at: Some(noon()), ..ann() };
        for account in [None, Some(disabled)] {
            let (audit, _) = testing::audit();
            let auth = auth(Ports { audit, ..ports_where(Ok(ann().user.id), account) });

            let refused = auth.whoami(origin(), "token").await.unwrap_err();

            assert!(matches!(refused, WhoamiError::Token(InvalidToken::Invalid)));
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_asked_is_not_a_bad_token() {
        let mut users = MockUserRepo::new();
        users.expect_find().returning(|_| Err(broken()));
        let auth = auth(Ports { users: Arc::new(users), ..ports_where(Ok(ann().user.id), None) });

        assert!(matches!(auth.whoami(origin(), "token").await, Err(WhoamiError::Port(_))));
    }
}
