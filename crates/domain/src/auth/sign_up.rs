//! Making an account.

use thiserror::Error;

use super::Auth;
use crate::ports::{Hasher, HasherError, Insertion, NewHash, NewUser, PortError, Requester};
use crate::{
    Action, NewPassword, Origin, Outcome, Password, PasswordHash, PasswordPolicy, PasswordProblem, User,
    Username,
};

/// Why there is no new account.
#[derive(Debug, Error)]
pub enum SignUpError {
    /// Only operators make accounts.
    #[error("nobody can sign up")]
    Closed,
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
        let requester = origin.requester();
        let attempt = self.attempt(Action::SignUp, &name, origin);
        if !self.rules.open_to_sign_up {
            attempt.fail(SignUpError::Closed.outcome());
            return Err(SignUpError::Closed);
        }
        let password_hash = match hash_new::<SignUpError>(
            &*self.ports.hasher,
            self.rules.passwords,
            requester,
            &name,
            password,
        )
        .await
        {
            Ok(hash) => hash,
            Err(error) => {
                attempt.fail(error.outcome());
                return Err(error);
            }
        };
        let new = NewUser { name, password_hash, at: self.ports.clock.now() };
        let users = self.ports.users.clone();
        self.finish(async move {
            match attempt.commit_with(|attempt| users.insert(new, attempt)).await? {
                Insertion::Done(user) => Ok(user),
                Insertion::UsernameTaken => Err(SignUpError::UsernameTaken),
            }
        })
        .await?
    }

    /// What else is wrong with a password that somebody chooses in a request that is refused anyway, so that all of it can
    /// be told at once. `None` also where nobody has the time to judge it.
    pub async fn judge_password(
        &self,
        origin: &Origin,
        password: Password,
        name: Option<Username>,
    ) -> Option<PasswordProblem> {
        let passwords = self.rules.passwords;
        let admitted = match name {
            Some(name) => passwords.admit(password, name),
            None => passwords.admit_nameless(password),
        };
        // Rules that show at first sight have been told already.
        self.ports.hasher.judge(admitted.ok()?, origin.requester()).await.ok().flatten()
    }
}

/// Hashes the password unless it cannot be chosen.
pub(crate) async fn hash_new<E>(
    hasher: &dyn Hasher,
    rules: PasswordPolicy,
    requester: Requester,
    name: &Username,
    password: Password,
) -> Result<PasswordHash, E>
where
    E: From<PasswordProblem> + From<HasherError>,
{
    let password = rules.admit(password, name.clone())?;
    hash_admitted(hasher, requester, password).await
}

/// Hashes the password unless it is too easy to guess.
pub(crate) async fn hash_admitted<E>(
    hasher: &dyn Hasher,
    requester: Requester,
    password: NewPassword,
) -> Result<PasswordHash, E>
where
    E: From<PasswordProblem> + From<HasherError>,
{
    match hasher.hash_new(password, requester).await? {
        NewHash::Done(hash) => Ok(hash),
        NewHash::Refused(problem) => Err(problem.into()),
    }
}

impl SignUpError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Closed => Outcome::Refused("closed"),
            Self::UsernameTaken => Outcome::Refused("username_taken"),
            Self::Password(_) => Outcome::Refused("password_refused"),
            Self::Hasher(error) => error.outcome(),
            Self::Port(_) => Outcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use futures_util::FutureExt;

    use super::*;
    use crate::ports::{MockHasher, MockUserRepo, Ports, UnusableHash, Verification};
    use crate::testing::{self, ann, auth, broken, hash, noon, origin, password, ports, username};
    use crate::{Rules, Subject};

    #[tokio::test]
    async fn a_new_name_and_a_good_password_make_a_user() {
        let mut hasher = MockHasher::new();
        hasher.expect_hash_new().returning(|_, _| Ok(NewHash::Done(hash("new"))));
        let mut users = MockUserRepo::new();
        users
            .expect_insert()
            .withf(|new, _| *new == NewUser { name: username("ann"), password_hash: hash("new"), at: noon() })
            .returning(|_, _| Ok(Insertion::Done(ann().user)));
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit_stream, ..ports() });

        let user = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).await.unwrap();

        assert_eq!(user, ann().user);
        assert_eq!(events.taken(), [(Action::SignUp, Outcome::Success, Subject::User(ann().user.id))]);
    }

    #[tokio::test]
    async fn a_taken_name_is_said_to_be_taken() {
        let mut hasher = MockHasher::new();
        hasher.expect_hash_new().returning(|_, _| Ok(NewHash::Done(hash("new"))));
        let mut users = MockUserRepo::new();
        users.expect_insert().returning(|_, _| Ok(Insertion::UsernameTaken));
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit_stream, ..ports() });

        let error = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).await.unwrap_err();

        assert!(matches!(error, SignUpError::UsernameTaken));
        let subject = Subject::Name(username("ann").key().clone());
        assert_eq!(events.taken(), [(Action::SignUp, Outcome::Refused("username_taken"), subject)]);
    }

    #[tokio::test]
    async fn password_is_judged_where_the_name_is_not_valid() {
        let mut hasher = MockHasher::new();
        hasher.expect_judge().times(2).returning(|password, _| Ok(password.judge().err()));
        let auth = auth(Ports { hasher: Arc::new(hasher), ..ports() });

        let judged = auth.judge_password(&origin(), password("password"), None).await;
        let named = auth.judge_password(&origin(), password("annabelle"), Some(username("annabelle"))).await;
        let short = auth.judge_password(&origin(), password("short"), None).await;

        let guessable = Some(PasswordProblem::TooGuessable);
        assert_eq!([judged, named, short], [guessable, guessable, None]);
    }

    #[tokio::test]
    async fn sign_up_is_refused_where_it_is_closed() {
        let (audit_stream, events) = testing::audit_stream();
        let ports = Ports { audit_stream, ..ports() };
        let auth = Auth::new(ports, Rules { open_to_sign_up: false, ..testing::rules() });

        let refused = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).await;

        assert!(matches!(refused, Err(SignUpError::Closed)));
        assert_eq!(events.taken()[0].1, Outcome::Refused("closed"));
    }

    /// Never comes to its end.
    struct BusyHasher;

    #[async_trait]
    impl Hasher for BusyHasher {
        async fn hash_new(&self, _: NewPassword, _: Requester) -> Result<NewHash, HasherError> {
            std::future::pending().await
        }

        async fn judge(&self, _: NewPassword, _: Requester) -> Result<Option<PasswordProblem>, HasherError> {
            unreachable!("every request is valid")
        }

        async fn hash(&self, _: Password) -> Result<PasswordHash, HasherError> {
            unreachable!("nobody logs in")
        }

        async fn verify(
            &self,
            _: Password,
            _: Option<PasswordHash>,
            _: Requester,
        ) -> Result<Verification, HasherError> {
            unreachable!("nobody logs in")
        }

        fn inspect(&self, _: &PasswordHash) -> Result<(), UnusableHash> {
            unreachable!("nobody is imported")
        }

        fn may_be_truncated(&self, _: &PasswordHash) -> bool {
            unreachable!("nobody is imported")
        }
    }

    #[tokio::test]
    async fn a_short_password_is_refused_before_any_work_and_a_guessable_one_by_the_hasher() {
        let (audit_stream, events) = testing::audit_stream();
        let mut hasher = MockHasher::new();
        hasher.expect_hash_new().once().returning(|new, _| Ok(NewHash::Refused(new.judge().unwrap_err())));
        let auth = auth(Ports { hasher: Arc::new(hasher), audit_stream, ..ports() });

        let sign_up = |text| auth.sign_up(origin(), username("annabelle"), password(text));

        let problem = |result: Result<User, SignUpError>| match result {
            Err(SignUpError::Password(problem)) => problem,
            other => panic!("{other:?}"),
        };
        assert_eq!(problem(sign_up("annabel").await), PasswordProblem::TooShort { at_least: 8 });
        assert_eq!(problem(sign_up("annabelle").await), PasswordProblem::TooGuessable);
        assert!(events.taken().iter().all(|event| event.1 == Outcome::Refused("password_refused")));
    }

    #[tokio::test]
    async fn whoever_goes_away_before_the_store_is_asked_is_recorded_as_gone() {
        let (audit_stream, events) = testing::audit_stream();
        let hasher = Arc::new(BusyHasher);
        let auth = auth(Ports { hasher, audit_stream, ..ports() });

        let gone = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).now_or_never();

        assert!(gone.is_none());
        assert_eq!(events.taken()[0].1, Outcome::Abandoned);
    }

    #[tokio::test]
    async fn whoever_goes_away_after_that_has_an_account_and_it_is_on_record() {
        let mut hasher = MockHasher::new();
        hasher.expect_hash_new().returning(|_, _| Ok(NewHash::Done(hash("new"))));
        let mut users = MockUserRepo::new();
        users.expect_insert().once().returning(|_, _| Ok(Insertion::Done(ann().user)));
        let (audit_stream, events) = testing::audit_stream();
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit_stream, ..ports() });

        // The work is handed over and not begun yet when the caller leaves.
        let gone = auth.sign_up(origin(), username("ann"), password("kq7wzmv1")).now_or_never();
        assert!(gone.is_none());
        tokio::task::yield_now().await;

        assert_eq!(events.taken(), [(Action::SignUp, Outcome::Success, Subject::User(ann().user.id))]);
    }

    #[tokio::test]
    async fn an_overloaded_hasher_and_a_broken_store_are_told_apart() {
        let (audit_stream, events) = testing::audit_stream();
        let mut hasher = MockHasher::new();
        let retry_after = Duration::from_secs(3);
        hasher.expect_hash_new().once().returning(move |_, _| Err(HasherError::Overloaded { retry_after }));
        hasher.expect_hash_new().returning(|_, _| Ok(NewHash::Done(hash("new"))));
        let mut users = MockUserRepo::new();
        users.expect_insert().returning(|_, _| Err(broken()));
        let auth = auth(Ports { users: Arc::new(users), hasher: Arc::new(hasher), audit_stream, ..ports() });

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
