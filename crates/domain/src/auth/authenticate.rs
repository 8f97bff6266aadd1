//! Recognising the holder of a token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;

use super::Auth;
use crate::ports::{Clock, PortError};
use crate::session::cache::LiveSession;
use crate::{Action, Bearer, InvalidToken, Origin, Outcome, SessionId, Subject, User};

/// An access token of ours that has not expired, of a session that may be over.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedToken(Bearer);

/// Whoever shows a good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticatedUser {
    /// Who they are.
    pub user: User,
    /// The session that they speak in.
    pub session: SessionId,
}

/// Why the holder is not recognised.
#[derive(Debug, Error)]
pub enum AuthenticateError {
    /// The token is refused, or its session is over.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The session could not be looked up.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// The sessions whose newest generation is being marked as seen, or could not be marked a moment ago, and since when.
/// Whoever sends many requests at once causes one write.
#[derive(Clone)]
pub(super) struct SeenDebounce {
    begun: Arc<Mutex<HashMap<SessionId, Duration>>>,
    clock: Arc<dyn Clock>,
}

/// How long a mark that failed is not tried again.
const MARK_RETRY: Duration = Duration::from_secs(1);

/// How many entries there may be before those of failed marks are removed.
const MARKS: usize = 1000;

impl SeenDebounce {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { begun: Arc::default(), clock }
    }

    /// Whether nobody marks this session now, or tried to within the last second.
    fn begin(&self, session: SessionId) -> bool {
        let now = self.clock.monotonic();
        let is_over = |begun: &Duration| now.saturating_sub(*begun) >= MARK_RETRY;
        let mut begun = self.begun.lock();
        if begun.get(&session).is_some_and(|begun| !is_over(begun)) {
            return false;
        }
        if begun.len() >= MARKS {
            begun.retain(|_, begun| !is_over(begun));
        }
        begun.insert(session, now);
        true
    }

    fn succeeded(&self, session: SessionId) {
        self.begun.lock().remove(&session);
    }
}

impl VerifiedToken {
    /// The session that it belongs to.
    pub fn session(self) -> SessionId {
        self.0.session
    }
}

impl Auth {
    /// What an access token says, if it is one of ours that has not expired. Asks nobody, so that whose it is can be
    /// known before anything is done for them.
    pub fn read_token(&self, origin: Origin, token: &str) -> Result<VerifiedToken, InvalidToken> {
        self.ports.tokens.verify(token).map(VerifiedToken).inspect_err(|error| {
            self.attempt(Action::ShowToken, Subject::Unknown, origin).fail(error.outcome());
        })
    }

    /// The holder of this access token, while its session lives.
    pub async fn authenticate(
        &self,
        origin: Origin,
        VerifiedToken(bearer): VerifiedToken,
    ) -> Result<AuthenticatedUser, AuthenticateError> {
        let Some(session) = self.live_session_of(&bearer).await? else {
            let attempt = self.attempt(Action::ShowToken, Subject::User(bearer.user), origin);
            attempt.fail(Outcome::Refused("session_over"));
            return Err(InvalidToken::Invalid.into());
        };
        if session.first_sees(&bearer) {
            self.mark_seen(bearer);
        }
        Ok(AuthenticatedUser { user: session.user.clone(), session: bearer.session })
    }

    /// The one place where a request asks whether its session is live.
    pub(super) async fn live_session_of(
        &self,
        bearer: &Bearer,
    ) -> Result<Option<Arc<LiveSession>>, PortError> {
        let now = self.ports.clock.now();
        // Another process may have handed out a newer token than the cache knows of: what it does not admit is looked up.
        if let Some(cached) = self.session_cache.get(bearer).filter(|live| live.admits(bearer, now)) {
            return Ok(Some(cached));
        }
        let lookup = self.session_cache.begin(bearer);
        let found = self.ports.sessions.look_up(bearer.session).await?;
        let live = found.and_then(|(session, account)| LiveSession::of(session, account)).map(Arc::new);
        if let Some(live) = &live {
            self.session_cache.insert(lookup, live.clone());
        }
        Ok(live.filter(|live| live.admits(bearer, now)))
    }

    /// Notes that the answer with this generation has arrived. Nobody waits for it. If it fails, a later request tries again,
    /// at most once a second.
    pub(super) fn mark_seen(&self, Bearer { session, generation, .. }: Bearer) {
        if !self.marks.begin(session) {
            return;
        }
        let (marks, sessions) = (self.marks.clone(), self.ports.sessions.clone());
        self.ports.finisher.finish(Box::pin(async move {
            if sessions.mark_seen(session, generation).await.is_ok() {
                marks.succeeded(session);
            }
        }));
    }
}

impl InvalidToken {
    pub(super) fn outcome(self) -> Outcome {
        Outcome::Refused(match self {
            Self::Expired => "expired",
            Self::Invalid => "invalid",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use crate::ports::{Ending, MockClock, MockSessionRepo, MockTokenIssuer, Ports};
    use crate::testing::{self, ann, auth, broken, noon, origin, ports, session};
    use crate::{Account, EndCause, Generation, Lineage, Session, UserId};

    fn bearer() -> Bearer {
        Bearer { user: ann().user.id, session: session().id, generation: session().lineage.generation }
    }

    fn issuer_of(bearer: Bearer) -> Arc<MockTokenIssuer> {
        let mut tokens = MockTokenIssuer::new();
        tokens.expect_verify().returning(move |_| Ok(bearer));
        Arc::new(tokens)
    }

    fn sessions_with(session: Session, account: Account) -> MockSessionRepo {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().returning(move |_| Ok(Some((session.clone(), account.clone()))));
        sessions
    }

    fn seen() -> Session {
        Session { lineage: Lineage { seen: true, ..session().lineage }, ..session() }
    }

    async fn authenticate(auth: &Auth, token: &str) -> Result<AuthenticatedUser, AuthenticateError> {
        auth.authenticate(origin(), auth.read_token(origin(), token)?).await
    }

    #[tokio::test]
    async fn a_good_token_names_its_user_and_session() {
        let sessions = Arc::new(sessions_with(seen(), ann()));
        let auth = auth(Ports { tokens: issuer_of(bearer()), sessions, ..ports() });

        let holder = authenticate(&auth, "token").await.unwrap();

        assert_eq!(holder, AuthenticatedUser { user: ann().user, session: session().id });
    }

    #[tokio::test]
    async fn a_refused_token_is_refused_without_asking_the_store_and_put_on_record() {
        for (error, reason) in [(InvalidToken::Expired, "expired"), (InvalidToken::Invalid, "invalid")] {
            let (audit_stream, events) = testing::audit_stream();
            let mut tokens = MockTokenIssuer::new();
            tokens.expect_verify().returning(move |_| Err(error));
            let auth = auth(Ports { tokens: Arc::new(tokens), audit_stream, ..ports() });

            let refused = authenticate(&auth, "token").await.unwrap_err();

            assert!(matches!(refused, AuthenticateError::Token(why) if why == error));
            assert_eq!(events.taken(), [(Action::ShowToken, Outcome::Refused(reason), Subject::Unknown)]);
        }
    }

    #[tokio::test]
    async fn a_token_dies_with_its_session_and_its_account() {
        let ended = Session { ended_at: Some(noon()), ..seen() };
        let expired = Session { expires_at: noon(), ..seen() };
        let disabled = Account { disabled_at: Some(noon()), ..ann() };
        let stranger = Bearer { user: UserId(8), ..bearer() };
        let ahead = Bearer { generation: Generation::new(3).unwrap(), ..bearer() };
        let mut gone = MockSessionRepo::new();
        gone.expect_look_up().returning(|_| Ok(None));
        for (sessions, bearer) in [
            (gone, bearer()),
            (sessions_with(ended, ann()), bearer()),
            (sessions_with(expired, ann()), bearer()),
            (sessions_with(seen(), disabled), bearer()),
            (sessions_with(seen(), ann()), stranger),
            (sessions_with(seen(), ann()), ahead),
        ] {
            let (audit_stream, events) = testing::audit_stream();
            let sessions = Arc::new(sessions);
            let auth = auth(Ports { tokens: issuer_of(bearer), sessions, audit_stream, ..ports() });

            let refused = authenticate(&auth, "token").await.unwrap_err();

            assert!(matches!(refused, AuthenticateError::Token(InvalidToken::Invalid)));
            assert_eq!(events.taken()[0].1, Outcome::Refused("session_over"));
        }
    }

    #[tokio::test]
    async fn newest_generation_is_marked_as_seen_once() {
        let mut sessions = sessions_with(session(), ann());
        sessions
            .expect_mark_seen()
            .withf(|id, generation| (*id, *generation) == (session().id, bearer().generation))
            .once()
            .returning(|_, _| Ok(()));
        let auth = auth(Ports { tokens: issuer_of(bearer()), sessions: Arc::new(sessions), ..ports() });

        for _ in 0..3 {
            assert!(authenticate(&auth, "token").await.is_ok());
        }
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn mark_that_fails_fails_nobody_and_is_tried_again_after_a_second() {
        let mut sessions = sessions_with(session(), ann());
        sessions.expect_mark_seen().times(2).returning(|_, _| Err(broken()));
        let passed = Arc::new(AtomicU64::new(0));
        let mut clock = MockClock::new();
        clock.expect_now().returning(noon);
        let told = passed.clone();
        clock.expect_monotonic().returning(move || Duration::from_millis(told.load(Ordering::SeqCst)));
        let clock = Arc::new(clock);
        let auth =
            auth(Ports { tokens: issuer_of(bearer()), sessions: Arc::new(sessions), clock, ..ports() });

        for milliseconds in [0, 1, 999, 1000, 1001, 1999] {
            passed.store(milliseconds, Ordering::SeqCst);
            assert!(authenticate(&auth, "token").await.is_ok());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_older_generation_is_good_and_marks_nothing() {
        let sessions = Arc::new(sessions_with(session(), ann()));
        let older = Bearer { generation: Generation::FIRST, ..bearer() };
        let auth = auth(Ports { tokens: issuer_of(older), sessions, ..ports() });

        assert!(authenticate(&auth, "token").await.is_ok());
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_asked_is_not_a_bad_token() {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().returning(|_| Err(broken()));
        let auth = auth(Ports { tokens: issuer_of(bearer()), sessions: Arc::new(sessions), ..ports() });

        assert!(matches!(authenticate(&auth, "token").await, Err(AuthenticateError::Port(_))));
    }
    #[tokio::test]
    async fn a_session_is_looked_up_once_while_it_stays_the_same() {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().once().returning(|_| Ok(Some((seen(), ann()))));
        let auth = auth(Ports { tokens: issuer_of(bearer()), sessions: Arc::new(sessions), ..ports() });

        for _ in 0..3 {
            let holder = authenticate(&auth, "token").await.unwrap();
            assert_eq!(holder, AuthenticatedUser { user: ann().user, session: session().id });
        }
    }

    #[tokio::test]
    async fn change_is_seen_at_once_even_if_a_look_up_was_under_way() {
        // At first the session ends while it is looked up, then after it was cached.
        for shown_before in [1, 3] {
            let is_over = Arc::new(AtomicBool::new(false));
            let mut sessions = MockSessionRepo::new();
            let found = is_over.clone();
            sessions.expect_look_up().times(2).returning(move |_| {
                let ended_at = found.load(Ordering::SeqCst).then(noon);
                Ok(Some((Session { ended_at, ..seen() }, ann())))
            });
            sessions.expect_end().once().returning(move |_, _, _, _| {
                is_over.store(true, Ordering::SeqCst);
                Ok(Ending::Done)
            });
            let (audit_stream, _) = testing::audit_stream();
            let sessions = Arc::new(sessions);
            let auth = auth(Ports { tokens: issuer_of(bearer()), sessions, audit_stream, ..ports() });
            let end = async || {
                let (id, owner) = (session().id, ann().user.id);
                auth.ports.sessions.end(id, owner, EndCause::LoggedOut, testing::attempt()).await.unwrap();
            };

            let lookup = auth.session_cache.begin(&bearer());
            for _ in 0..shown_before {
                assert!(authenticate(&auth, "token").await.is_ok());
            }
            end().await;
            if shown_before == 1 {
                let live = Arc::new(LiveSession::of(seen(), ann()).unwrap());
                auth.session_cache.insert(lookup, live);
            }

            let refused = authenticate(&auth, "token").await.unwrap_err();
            assert!(matches!(refused, AuthenticateError::Token(InvalidToken::Invalid)), "{shown_before}");
        }
    }

    #[tokio::test]
    async fn a_session_that_stays_the_same_is_held_against_every_token_and_the_time() {
        let stranger = Bearer { user: UserId(8), ..bearer() };
        let ahead = Bearer { generation: Generation::new(3).unwrap(), ..bearer() };
        for (shown, now) in [(stranger, noon()), (ahead, noon()), (bearer(), session().expires_at)] {
            let mut tokens = MockTokenIssuer::new();
            tokens.expect_verify().returning(move |text| Ok(if text == "good" { bearer() } else { shown }));
            let mut clock = MockClock::new();
            clock.expect_now().once().returning(noon);
            clock.expect_now().returning(move || now);
            clock.expect_monotonic().returning(|| Duration::ZERO);
            let mut sessions = MockSessionRepo::new();
            // Once to remember it, and once because what is remembered does not admit the token.
            sessions.expect_look_up().times(2).returning(|_| Ok(Some((seen(), ann()))));
            let (audit_stream, _) = testing::audit_stream();
            let auth = auth(Ports {
                tokens: Arc::new(tokens),
                clock: Arc::new(clock),
                sessions: Arc::new(sessions),
                audit_stream,
                ..ports()
            });

            assert!(authenticate(&auth, "good").await.is_ok());
            let refused = authenticate(&auth, "shown").await;
            assert!(matches!(refused, Err(AuthenticateError::Token(InvalidToken::Invalid))));
        }
    }

    #[tokio::test]
    async fn a_token_that_another_process_has_just_handed_out_is_good_before_its_refresh_is_noticed() {
        let next = session().lineage.generation.next();
        let refreshed = Session { lineage: Lineage { generation: next, ..seen().lineage }, ..seen() };
        let mut tokens = MockTokenIssuer::new();
        tokens.expect_verify().returning(move |text| {
            let generation = if text == "new" { next } else { session().lineage.generation };
            Ok(Bearer { generation, ..bearer() })
        });
        let mut sessions = MockSessionRepo::new();
        sessions.expect_look_up().once().returning(|_| Ok(Some((seen(), ann()))));
        sessions.expect_look_up().once().returning(move |_| Ok(Some((refreshed.clone(), ann()))));
        let auth = auth(Ports { tokens: Arc::new(tokens), sessions: Arc::new(sessions), ..ports() });

        for token in ["old", "new", "new", "old"] {
            assert!(authenticate(&auth, token).await.is_ok(), "{token}");
        }
    }
}
