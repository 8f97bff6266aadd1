//! Logging in with a password.

use thiserror::Error;

use super::admission::{Admitted, NotAdmitted, Throttled};
use super::create_session::{CreateSessionError, Refusal};
use super::{Auth, THROTTLED};
use crate::audit::recorder::PendingAuditEvent;
use crate::ports::{HasherError, PortError, Ports, Requester, Verification};
use crate::{Account, Action, LoginName, Origin, Outcome, Password, Tokens, User};

/// What a login hands out.
#[derive(Debug)]
pub struct LoggedIn {
    /// Who logged in.
    pub user: User,
    /// What they show from now on.
    pub tokens: Tokens,
}

/// Why nobody is logged in.
#[derive(Debug, Error)]
pub enum LogInError {
    /// The credentials open nothing. Whoever answers the client must not tell why.
    #[error("the credentials are not valid")]
    InvalidCredentials(#[source] Refusal),
    /// Too many wrong passwords were tried of late, and this one was not looked at.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The password could not be checked.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// The user could not be looked up, or the token not issued.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// Lets somebody in who knows the password of an enabled account. Whatever is wrong, the same work is
    /// done, so that the time taken tells nothing.
    pub async fn log_in(
        &self,
        origin: Origin,
        name: LoginName,
        password: Password,
    ) -> Result<LoggedIn, LogInError> {
        let mut attempt = self.attempt(Action::LogIn, &name, origin.clone());
        let (admitted, account) = match self.account_to_try(&name, origin.requester()).await {
            Ok(tried) => tried,
            Err(error) => return Err(error.told_of(attempt)),
        };
        if let Some(account) = &account {
            attempt.is_about(account.user.id);
        }
        let authenticated = self.verify_password(origin.requester(), account, password.clone()).await;
        let (account, stale) = match authenticated {
            Ok(authenticated) => authenticated,
            Err(LogInError::InvalidCredentials(refusal)) => {
                self.refuse(attempt, admitted, refusal).await?;
                return Err(refusal.into());
            }
            Err(error) => return Err(error.told_of(attempt)),
        };
        let logged_in = self.create_session(&origin, &account, admitted, attempt).await?;
        if stale {
            self.rehash(&account, password);
        }
        Ok(logged_in)
    }

    /// The account of this name, if there is one, once a password may be compared with its own.
    async fn account_to_try(
        &self,
        name: &LoginName,
        requester: Requester,
    ) -> Result<(Admitted, Option<Account>), LogInError> {
        let once = async || {
            let Some(admitted) = self.take_place(name.clone(), requester).await? else { return Ok(None) };
            let account = match name {
                LoginName::Possible(name) => self.ports.users.find_by_name(name.key().clone()).await?,
                LoginName::Impossible(_) => None,
            };
            Ok(admitted.counts_for(account.as_ref()).then_some((admitted, account)))
        };
        self.until_nothing_moves(once).await
    }

    /// The account, if there is one and this is its password, and whether its hash is stale.
    async fn verify_password(
        &self,
        requester: Requester,
        account: Option<Account>,
        password: Password,
    ) -> Result<(Account, bool), LogInError> {
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        let verification = self.ports.hasher.verify(password, hash, requester).await?;

        let account = account.ok_or(Refusal::UnknownUser)?;
        match verification {
            Verification::Mismatch => Err(Refusal::WrongPassword.into()),
            Verification::Unreadable => Err(Refusal::UnreadableHash.into()),
            Verification::Match => Ok((account, false)),
            Verification::MatchStale => Ok((account, true)),
        }
    }

    /// Replaces an old hash in its own time: nobody waits for it, and if it fails the old one serves until the
    /// next login.
    fn rehash(&self, account: &Account, password: Password) {
        let Ports { hasher, users, .. } = self.ports.clone();
        let (id, old) = (account.user.id, account.password_hash.clone());
        self.ports.finisher.finish(Box::pin(async move {
            if let Ok(new) = hasher.hash(password).await {
                let _ = users.rehash(id, old, new).await;
            }
        }));
    }
}

impl LogInError {
    /// Ends an attempt by it, that was not kept before.
    fn told_of(self, attempt: PendingAuditEvent) -> Self {
        match &self {
            Self::InvalidCredentials(refusal) => attempt.fail(Outcome::Refused(refusal.as_str())),
            Self::Throttled(_) => attempt.fail(THROTTLED),
            Self::Hasher(error) => attempt.fail(error.outcome()),
            Self::Port(_) => attempt.fail(Outcome::Failed),
        }
        self
    }
}

impl From<Refusal> for LogInError {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCredentials(refusal)
    }
}

impl From<NotAdmitted> for LogInError {
    fn from(error: NotAdmitted) -> Self {
        match error {
            NotAdmitted::Throttled(error) => Self::Throttled(error),
            NotAdmitted::Hasher(error) => Self::Hasher(error),
            NotAdmitted::Port(error) => Self::Port(error),
        }
    }
}

impl From<CreateSessionError> for LogInError {
    fn from(error: CreateSessionError) -> Self {
        match error {
            CreateSessionError::Refused(refusal) => Self::InvalidCredentials(refusal),
            CreateSessionError::Port(error) => Self::Port(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::ports::{MockAuditLog, MockHasher, MockSessionRepo, MockUserRepo, NewSession, Opening};
    use crate::testing::{self, Events, ann, auth, broken, hash, origin, password, ports, token_ports};
    use crate::{Attempt, Subject};

    fn typed(name: &str) -> LoginName {
        LoginName::from_typed(name)
    }

    fn hasher_who_says(verification: Verification) -> MockHasher {
        let mut hasher = MockHasher::new();
        hasher
            .expect_verify()
            .withf(|_, _, requester| *requester == origin().requester())
            .once()
            .returning(move |_, _, _| Ok(verification));
        hasher
    }

    fn store_with(account: Option<Account>) -> MockUserRepo {
        let mut users = MockUserRepo::new();
        users.expect_find_by_name().returning(move |_| Ok(account.clone()));
        users
    }

    fn one_who_logs_in(users: MockUserRepo, hasher: MockHasher) -> (Auth, Events) {
        one_with_a_door_that(|_, _| Ok(Opening::Done(ann().user)), users, hasher)
    }

    fn one_with_a_door_that(
        opens: fn(NewSession, Attempt) -> Result<Opening, PortError>,
        users: MockUserRepo,
        hasher: MockHasher,
    ) -> (Auth, Events) {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_open().returning(opens);
        let (tokens, refresh_tokens) = token_ports();
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports {
            users: Arc::new(users),
            hasher: Arc::new(hasher),
            sessions: Arc::new(sessions),
            tokens,
            refresh_tokens,
            audit_stream,
            ..ports()
        });
        (auth, events)
    }

    #[tokio::test]
    async fn the_right_password_opens_a_session() {
        let (auth, events) = one_who_logs_in(store_with(Some(ann())), hasher_who_says(Verification::Match));

        let logged_in = auth.log_in(origin(), typed("Ann"), password("right")).await.unwrap();

        assert_eq!(logged_in.user, ann().user);
        assert_eq!(&**logged_in.tokens.access.text, "access 1");
        assert_eq!(events.taken(), [(Action::LogIn, Outcome::Success, Subject::User(ann().user.id))]);
    }

    #[tokio::test]
    async fn whatever_is_wrong_one_password_is_verified_and_the_answer_is_the_same() {
        let cases = [
            ("nobody", None, Verification::Mismatch, "unknown_user"),
            // A decoy that happened to match would still open nothing.
            ("nobody", None, Verification::Match, "unknown_user"),
            ("\0 no name", None, Verification::Mismatch, "unknown_user"),
            ("ann", Some(ann()), Verification::Mismatch, "wrong_password"),
            ("ann", Some(ann()), Verification::Unreadable, "unreadable_hash"),
            ("eve", Some(ann()), Verification::Match, "disabled"),
            ("eve", Some(ann()), Verification::MatchStale, "disabled"),
        ];
        for (name, account, verification, reason) in cases {
            let (auth, events) = one_with_a_door_that(
                |_, _| Ok(Opening::Disabled),
                store_with(account),
                hasher_who_says(verification),
            );

            let error = auth.log_in(origin(), typed(name), password("tried")).await.unwrap_err();

            assert!(matches!(error, LogInError::InvalidCredentials(_)), "{name}: {error:?}");
            assert_eq!(events.taken()[0].1, Outcome::Refused(reason));
        }
    }

    #[tokio::test]
    async fn a_stale_hash_is_replaced_by_one_of_the_password_that_was_just_verified() {
        let mut hasher = hasher_who_says(Verification::MatchStale);
        hasher.expect_hash().once().returning(|_| Ok(hash("fresh")));
        let mut users = store_with(Some(ann()));
        users
            .expect_rehash()
            .withf(|id, old, new| (*id, old, new) == (ann().user.id, &ann().password_hash, &hash("fresh")))
            .once()
            .returning(|_, _, _| Ok(()));
        let (auth, _) = one_who_logs_in(users, hasher);

        assert!(auth.log_in(origin(), typed("ann"), password("right")).await.is_ok());
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn a_rehash_that_fails_is_put_off_and_the_login_succeeds() {
        let retry_after = Duration::from_secs(1);
        for overloaded in [true, false] {
            let mut hasher = hasher_who_says(Verification::MatchStale);
            hasher.expect_hash().once().returning(move |_| {
                if overloaded { Err(HasherError::Overloaded { retry_after }) } else { Ok(hash("fresh")) }
            });
            let mut users = store_with(Some(ann()));
            users.expect_rehash().returning(|_, _, _| Err(broken()));
            let (auth, _) = one_who_logs_in(users, hasher);

            assert!(auth.log_in(origin(), typed("ann"), password("right")).await.is_ok());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_refusal_is_kept_before_it_is_answered_and_says_whose_account_was_tried() {
        for (account, subject) in [
            (Some(ann()), Subject::User(ann().user.id)),
            (None, Subject::from(&LoginName::from_typed("Ann"))),
        ] {
            let mut audit_log = MockAuditLog::new();
            audit_log
                .expect_append()
                .withf(move |events| matches!(&**events, [one] if one.attempt.subject == subject))
                .once()
                .returning(|_| Err(broken()));
            let (audit_stream, events) = testing::audit_stream();
            let auth = auth(Ports {
                users: Arc::new(store_with(account)),
                hasher: Arc::new(hasher_who_says(Verification::Mismatch)),
                audit_log: Arc::new(audit_log),
                audit_stream,
                ..ports()
            });

            let error = auth.log_in(origin(), typed("Ann"), password("tried")).await.unwrap_err();

            assert!(matches!(error, LogInError::Port(_)), "{error:?}");
            assert_eq!(events.taken().len(), 1);
        }
    }

    #[tokio::test]
    async fn logins_that_nobody_had_time_for_are_counted_and_kept_together() {
        let mut hasher = MockHasher::new();
        let retry_after = Duration::from_secs(1);
        hasher.expect_verify().returning(move |_, _, _| Err(HasherError::Overloaded { retry_after }));
        let mut audit_log = MockAuditLog::new();
        let overloaded = Outcome::Refused("overloaded");
        audit_log.expect_append().once().returning(|_| Err(broken()));
        audit_log
            .expect_append()
            .withf(move |events| matches!(&**events, [one] if (one.outcome, one.count) == (overloaded, 5)))
            .once()
            .returning(|_| Ok(()));
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports {
            users: Arc::new(store_with(Some(ann()))),
            hasher: Arc::new(hasher),
            audit_log: Arc::new(audit_log),
            audit_stream,
            ..ports()
        });

        for _ in 0..5 {
            auth.log_in(origin(), typed("ann"), password("tried")).await.unwrap_err();
        }

        assert_eq!(events.taken().len(), 5);
        // What could not be kept is kept the next time, once.
        assert!(auth.maintenance().flush_audit_aggregates().await.is_err());
        assert!(auth.maintenance().flush_audit_aggregates().await.is_ok());
        assert!(auth.maintenance().flush_audit_aggregates().await.is_ok());
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_asked_is_not_a_wrong_password() {
        let mut users = MockUserRepo::new();
        users.expect_find_by_name().returning(|_| Err(broken()));
        let (auth, events) = one_who_logs_in(users, MockHasher::new());

        let error = auth.log_in(origin(), typed("ann"), password("right")).await.unwrap_err();

        assert!(matches!(error, LogInError::Port(_)));
        assert_eq!(events.taken()[0].1, Outcome::Failed);
    }
}
