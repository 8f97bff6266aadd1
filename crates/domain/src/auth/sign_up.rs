//! Making an account.

use futures_util::future::{Either, select};
use thiserror::Error;

use super::Auth;
use crate::ports::{HasherError, Insertion, NewUser, PortError};
use crate::{Action, Origin, Outcome, Password, PasswordProblem, Subject, User, Username};

/// Why there is no new account.
#[derive(Debug, Error)]
pub enum SignUpError {
    /// Somebody has that name, in this spelling or another.
    #[error("the username is taken")]
    UsernameTaken,
    /// The password cannot be chosen.
    #[error(transparent)]
    Password(#[from] PasswordProblem),
    /// The password could not be hashed.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// The user could not be kept.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Auth {
    /// Makes an account of a name nobody has and a password that may be chosen.
    pub async fn sign_up(
        &self,
        origin: Origin,
        name: Username,
        password: Password,
    ) -> Result<User, SignUpError> {
        let named = Subject::from(&name);
        let result = self.create(name, password).await;
        let (outcome, subject) = match &result {
            Ok(user) => (Outcome::Success, Subject::User(user.id)),
            Err(error) => (error.outcome(), named),
        };
        self.record(Action::SignUp, outcome, subject, origin);
        result
    }

    async fn create(&self, name: Username, password: Password) -> Result<User, SignUpError> {
        self.rules.passwords.judge(&password, &name)?;
        let race = self.races.enter(name.key());
        let password_hash = match select(self.ports.hasher.hash(password), race.lost()).await {
            Either::Left((hash, _)) => hash?,
            Either::Right(_) => return Err(SignUpError::UsernameTaken),
        };
        let at = self.ports.clock.now();
        match self.ports.users.insert(NewUser { name, password_hash, at }).await? {
            Insertion::Done(user) => {
                race.win();
                Ok(user)
            }
            Insertion::UsernameTaken => Err(SignUpError::UsernameTaken),
        }
    }
}

impl SignUpError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::UsernameTaken => Outcome::Refused("username_taken"),
            Self::Password(_) => Outcome::Refused("password_refused"),
            Self::Hasher(HasherError::Overloaded { .. }) => Outcome::Refused("overloaded"),
            Self::Hasher(HasherError::Port(_)) | Self::Port(_) => Outcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use futures_util::future::join;

    use super::*;
    use crate::PasswordHash;
    use crate::ports::{Hasher, MockHasher, MockUserRepo, Ports, Verification};
    use crate::testing::{self, ann, auth, broken, hash, noon, origin, password, ports, username};

    #[tokio::test]
    async fn a_new_name_and_a_good_password_make_a_user() {
        let mut hasher = MockHasher::new();
        hasher.expect_hash().returning(|_| Ok(hash("new")));
        let mut users = MockUserRepo::new();
        users
            .expect_insert()
            .withf(|new| *new == NewUser { name: username("ann"), password_hash: hash("new"), at: noon() })
            .returning(|_| Ok(Insertion::Done(ann().user)));
        let (audit, events) = testing::audit();
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit, ..ports() });

        let user = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).await.unwrap();

        assert_eq!(user, ann().user);
        assert_eq!(events.taken(), [(Action::SignUp, Outcome::Success, Subject::User(ann().user.id))]);
    }

    #[tokio::test]
    async fn a_taken_name_is_said_to_be_taken() {
        let mut hasher = MockHasher::new();
        hasher.expect_hash().returning(|_| Ok(hash("new")));
        let mut users = MockUserRepo::new();
        users.expect_insert().returning(|_| Ok(Insertion::UsernameTaken));
        let (audit, events) = testing::audit();
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit, ..ports() });

        let error = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).await.unwrap_err();

        assert!(matches!(error, SignUpError::UsernameTaken));
        let subject = Subject::Name(username("ann").key().clone());
        assert_eq!(events.taken(), [(Action::SignUp, Outcome::Refused("username_taken"), subject)]);
    }

    /// Hashes the first password while others arrive, and never comes to those.
    struct BusyHasher(AtomicBool);

    #[async_trait]
    impl Hasher for BusyHasher {
        async fn hash(&self, _: Password) -> Result<PasswordHash, HasherError> {
            if self.0.swap(true, Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            Ok(hash("new"))
        }

        async fn verify(&self, _: Password, _: Option<PasswordHash>) -> Result<Verification, HasherError> {
            unreachable!("nobody logs in")
        }
    }

    #[tokio::test]
    async fn who_waits_for_the_hasher_while_a_rival_gets_the_name_waits_no_longer() {
        let mut users = MockUserRepo::new();
        users.expect_insert().once().returning(|_| Ok(Insertion::Done(ann().user)));
        let (audit, _) = testing::audit();
        let hasher = Arc::new(BusyHasher(AtomicBool::new(false)));
        let auth = auth(Ports { users: Arc::new(users), hasher, audit, ..ports() });

        let sign_up = |name| auth.sign_up(origin(), username(name), password("kq7wzmv1"));
        // Without the race this would wait for ever.
        let both = tokio::time::timeout(Duration::from_secs(5), join(sign_up("ann"), sign_up("ANN")));
        let (first, rival) = both.await.unwrap();

        assert_eq!(first.unwrap(), ann().user);
        assert!(matches!(rival, Err(SignUpError::UsernameTaken)));
    }

    #[tokio::test]
    async fn a_guessable_password_is_refused_before_any_work() {
        let (audit, _) = testing::audit();
        let auth = auth(Ports { audit, ..ports() });

        let error = auth.sign_up(origin(), username("annabelle"), password("annabelle")).await.unwrap_err();

        assert!(matches!(error, SignUpError::Password(PasswordProblem::TooGuessable)));
    }

    #[tokio::test]
    async fn an_overloaded_hasher_and_a_broken_store_are_told_apart() {
        let (audit, events) = testing::audit();
        let mut hasher = MockHasher::new();
        let retry_after = Duration::from_secs(3);
        hasher.expect_hash().once().returning(move |_| Err(HasherError::Overloaded { retry_after }));
        hasher.expect_hash().returning(|_| Ok(hash("new")));
        let mut users = MockUserRepo::new();
        users.expect_insert().returning(|_| Err(broken()));
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit, ..ports() });

        let late = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).await.unwrap_err();
        let lost = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).await.unwrap_err();

        assert!(
            matches!(late, SignUpError::Hasher(HasherError::Overloaded { retry_after }) if retry_after.as_secs() == 3)
        );
        assert!(matches!(lost, SignUpError::Port(PortError::Failed(_))));
        let outcomes: Vec<_> = events.taken().into_iter().map(|(_, outcome, _)| outcome).collect();
        assert_eq!(outcomes, [Outcome::Refused("overloaded"), Outcome::Failed]);
    }
}
