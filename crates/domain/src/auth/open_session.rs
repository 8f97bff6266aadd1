//! The one door to a token. Every way of logging in ends here, and every guard stands here.

use std::time::Duration;

use thiserror::Error;

use super::Auth;
use crate::ports::PortError;
use crate::{AccessToken, Account, Grant};

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
pub(super) enum OpenSessionError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// Issues a token for `account`, as it was read before its password was checked. Checking takes long
    /// enough for an operator to disable the account, so it is looked at once more.
    pub(super) async fn open_session(&self, account: &Account) -> Result<AccessToken, OpenSessionError> {
        let now = self.ports.users.find(account.user.id).await?.ok_or(Refusal::UnknownUser)?;
        if now.disabled_at.is_some() {
            return Err(Refusal::Disabled.into());
        }
        if now.credentials_epoch != account.credentials_epoch {
            return Err(Refusal::CredentialsChanged.into());
        }
        let grant = Grant {
            subject: now.user.id,
            username: now.user.name,
            issued_at: self.ports.clock.now(),
            lifetime: self.access_lifetime(),
        };
        Ok(self.ports.tokens.issue(&grant)?)
    }

    /// The configured lifetime, shortened by up to 5 % at random, so that clients who logged in together do
    /// not come back together.
    fn access_lifetime(&self) -> Duration {
        let [a, b, ..] = self.ports.entropy.draw();
        let chance = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
        let shortened = self.rules.access_ttl.mul_f64(1.0 - 0.05 * chance);
        Duration::from_secs(shortened.as_secs().max(1))
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
    use crate::ports::{MockEntropy, MockTokenIssuer, MockUserRepo, Ports};
    use crate::testing::{ann, auth, noon, ports};

    fn users_who_answer(account: Option<Account>) -> Arc<MockUserRepo> {
        let mut users = MockUserRepo::new();
        users.expect_find().returning(move |_| Ok(account.clone()));
        Arc::new(users)
    }

    async fn refusal(now: Option<Account>) -> Refusal {
        let auth = auth(Ports { users: users_who_answer(now), ..ports() });
        match auth.open_session(&ann()).await {
            Err(OpenSessionError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_account_disabled_changed_or_deleted_while_its_password_was_checked_gets_no_token() {
        let disabled = Account { disabled_at: Some(noon()), ..ann() };
        let changed = Account { credentials_epoch: ann().credentials_epoch + 1, ..ann() };

        assert_eq!(refusal(Some(disabled)).await, Refusal::Disabled);
        assert_eq!(refusal(Some(changed)).await, Refusal::CredentialsChanged);
        assert_eq!(refusal(None).await, Refusal::UnknownUser);
    }

    #[tokio::test]
    async fn a_token_holds_for_95_to_100_percent_of_the_configured_time() {
        for (drawn, seconds) in [(0x00, 900), (0x80, 877), (0xff, 855)] {
            let mut entropy = MockEntropy::new();
            entropy.expect_draw().returning(move || [drawn; 16]);
            let mut tokens = MockTokenIssuer::new();
            tokens.expect_issue().returning(|grant| {
                assert_eq!((grant.subject, grant.issued_at), (ann().user.id, noon()));
                Ok(AccessToken { text: String::new().into(), lifetime: grant.lifetime })
            });
            let auth = auth(Ports {
                users: users_who_answer(Some(ann())),
                tokens: Arc::new(tokens),
                entropy: Arc::new(entropy),
                ..ports()
            });

            let token = auth.open_session(&ann()).await.unwrap();

            assert_eq!(token.lifetime.as_secs(), seconds);
        }
    }
}
