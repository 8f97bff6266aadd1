//! Repositories that invalidate the session cache: each change bumps an epoch after the store answered and before its caller
//! is answered.
//!
//! An error and a caller who leaves bump too, since the change may be on disk. Use cases make their changes in tasks that
//! nobody cancels, so the store has answered by then.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::cache_epochs::Epochs;
use crate::ports::{
    Change, ConfirmedChange, Ending, EndingAll, Insertion, KnownNetwork, NewSession, NewUser, Opening,
    PortError, Renaming, Rotation, SessionRepo, Shown, UserRepo,
};
use crate::{
    Account, Attempt, EndCause, Generation, Importation, ImportedUser, PasswordHash, Session, SessionId,
    UserId, Username, UsernameKey,
};

/// A session repository whose changes invalidate the cache.
pub(super) struct InvalidatingSessions {
    inner: Arc<dyn SessionRepo>,
    epochs: Arc<Epochs>,
}

/// A user repository whose changes invalidate the cache.
pub(super) struct InvalidatingUsers {
    inner: Arc<dyn UserRepo>,
    epochs: Arc<Epochs>,
}

/// Bumps an epoch when it is dropped.
struct Bump<'a> {
    epochs: &'a Epochs,
    concerned: Concerned,
}

/// Whose entries a change may concern.
enum Concerned {
    Session(SessionId),
    User(UserId),
    All,
}

impl Drop for Bump<'_> {
    fn drop(&mut self) {
        match self.concerned {
            Concerned::Session(session) => self.epochs.bump_session(session),
            Concerned::User(user) => self.epochs.bump_user(user),
            Concerned::All => self.epochs.bump_all(),
        }
    }
}

impl InvalidatingSessions {
    pub(super) fn new(inner: Arc<dyn SessionRepo>, epochs: Arc<Epochs>) -> Self {
        Self { inner, epochs }
    }

    fn bump(&self, concerned: Concerned) -> Bump<'_> {
        Bump { epochs: &self.epochs, concerned }
    }
}

impl InvalidatingUsers {
    pub(super) fn new(inner: Arc<dyn UserRepo>, epochs: Arc<Epochs>) -> Self {
        Self { inner, epochs }
    }

    fn bump(&self, concerned: Concerned) -> Bump<'_> {
        Bump { epochs: &self.epochs, concerned }
    }
}

#[async_trait]
impl SessionRepo for InvalidatingSessions {
    async fn open(&self, new: NewSession, attempt: Attempt) -> Result<Opening, PortError> {
        // It may end the user's oldest session.
        let _bump = self.bump(Concerned::User(new.user));
        self.inner.open(new, attempt).await
    }

    async fn look_up(&self, id: SessionId) -> Result<Option<(Session, Account)>, PortError> {
        self.inner.look_up(id).await
    }

    async fn rotate(&self, shown: Shown, attempt: Attempt) -> Result<Rotation, PortError> {
        // A revoking one ends this session alone.
        let _bump = self.bump(Concerned::Session(shown.session));
        self.inner.rotate(shown, attempt).await
    }

    async fn mark_seen(&self, id: SessionId, generation: Generation) -> Result<(), PortError> {
        let _bump = self.bump(Concerned::Session(id));
        self.inner.mark_seen(id, generation).await
    }

    async fn end(
        &self,
        id: SessionId,
        owner: UserId,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<Ending, PortError> {
        let _bump = self.bump(Concerned::Session(id));
        self.inner.end(id, owner, cause, attempt).await
    }

    async fn end_all(
        &self,
        owner: UserId,
        but: Option<SessionId>,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<EndingAll, PortError> {
        let _bump = self.bump(Concerned::User(owner));
        self.inner.end_all(owner, but, cause, attempt).await
    }

    async fn live_sessions(&self, owner: UserId, at: Timestamp) -> Result<Vec<Session>, PortError> {
        self.inner.live_sessions(owner, at).await
    }

    async fn count_live(&self, at: Timestamp) -> Result<u64, PortError> {
        self.inner.count_live(at).await
    }

    async fn known_networks(&self, owner: UserId) -> Result<Vec<KnownNetwork>, PortError> {
        self.inner.known_networks(owner).await
    }

    async fn remove_over(&self, at: Timestamp, limit: u32) -> Result<usize, PortError> {
        let _bump = self.bump(Concerned::All);
        self.inner.remove_over(at, limit).await
    }
}

#[async_trait]
impl UserRepo for InvalidatingUsers {
    async fn insert(&self, user: NewUser, attempt: Attempt) -> Result<Insertion, PortError> {
        // Nobody has a session of an account that is new.
        self.inner.insert(user, attempt).await
    }

    async fn find(&self, id: UserId) -> Result<Option<Account>, PortError> {
        self.inner.find(id).await
    }

    async fn find_by_name(&self, name: UsernameKey) -> Result<Option<Account>, PortError> {
        self.inner.find_by_name(name).await
    }

    async fn find_by_names(&self, names: Vec<UsernameKey>) -> Result<Vec<Account>, PortError> {
        self.inner.find_by_names(names).await
    }

    async fn last_number(&self) -> Result<UserId, PortError> {
        self.inner.last_number().await
    }

    async fn list(&self, after: UserId, limit: u32) -> Result<Vec<Account>, PortError> {
        self.inner.list(after, limit).await
    }

    async fn import(
        &self,
        users: Vec<ImportedUser>,
        attempt: Attempt,
    ) -> Result<Vec<Importation>, PortError> {
        let _bump = self.bump(Concerned::All);
        self.inner.import(users, attempt).await
    }

    async fn rehash(&self, id: UserId, old: PasswordHash, new: PasswordHash) -> Result<(), PortError> {
        // No entry has a hash.
        self.inner.rehash(id, old, new).await
    }

    async fn set_password(
        &self,
        name: UsernameKey,
        hash: PasswordHash,
        attempt: Attempt,
    ) -> Result<Change, PortError> {
        let _bump = self.bump(Concerned::All);
        self.inner.set_password(name, hash, attempt).await
    }

    async fn disable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let _bump = self.bump(Concerned::All);
        self.inner.disable(name, attempt).await
    }

    async fn enable(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let _bump = self.bump(Concerned::All);
        self.inner.enable(name, attempt).await
    }

    async fn delete(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let _bump = self.bump(Concerned::All);
        self.inner.delete(name, attempt).await
    }

    async fn rename(
        &self,
        id: UserId,
        credentials_epoch: i64,
        name: Username,
        attempt: Attempt,
    ) -> Result<Renaming, PortError> {
        let _bump = self.bump(Concerned::User(id));
        self.inner.rename(id, credentials_epoch, name, attempt).await
    }

    async fn change_password(
        &self,
        hash: PasswordHash,
        session: NewSession,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError> {
        let _bump = self.bump(Concerned::User(session.user));
        self.inner.change_password(hash, session, attempt).await
    }

    async fn close_account(
        &self,
        id: UserId,
        credentials_epoch: i64,
        attempt: Attempt,
    ) -> Result<ConfirmedChange, PortError> {
        let _bump = self.bump(Concerned::User(id));
        self.inner.close_account(id, credentials_epoch, attempt).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bearer;
    use crate::ports::{MockSessionRepo, MockUserRepo, Ports};
    use crate::session::cache::{LiveSession, SessionCache};
    use crate::testing::{ann, attempt, broken, hash, noon, ports, session, username};

    fn bearer() -> Bearer {
        Bearer { user: ann().user.id, session: session().id, generation: session().lineage.generation }
    }

    /// Repositories whose changes fail.
    fn failing() -> Ports {
        let mut sessions = MockSessionRepo::new();
        sessions.expect_open().returning(|_, _| Err(broken()));
        sessions.expect_rotate().returning(|_, _| Err(broken()));
        sessions.expect_mark_seen().returning(|_, _| Err(broken()));
        sessions.expect_end().returning(|_, _, _, _| Err(broken()));
        sessions.expect_end_all().returning(|_, _, _, _| Err(broken()));
        sessions.expect_remove_over().returning(|_, _| Err(broken()));
        sessions.expect_look_up().returning(|_| Err(broken()));
        let mut users = MockUserRepo::new();
        users.expect_import().returning(|_, _| Err(broken()));
        users.expect_set_password().returning(|_, _, _| Err(broken()));
        users.expect_disable().returning(|_, _| Err(broken()));
        users.expect_enable().returning(|_, _| Err(broken()));
        users.expect_delete().returning(|_, _| Err(broken()));
        users.expect_rename().returning(|_, _, _, _| Err(broken()));
        users.expect_change_password().returning(|_, _, _| Err(broken()));
        users.expect_close_account().returning(|_, _, _| Err(broken()));
        users.expect_rehash().returning(|_, _, _| Err(broken()));
        Ports { sessions: Arc::new(sessions), users: Arc::new(users), ..ports() }
    }

    fn new_session() -> NewSession {
        let Session { id, user, nonce, expires_at, ends_at, .. } = session();
        let (address, user_agent, compared) = (None, None, None);
        NewSession {
            id,
            user,
            credentials_epoch: 3,
            nonce,
            at: noon(),
            expires_at,
            ends_at,
            address,
            user_agent,
            compared,
        }
    }

    fn shown() -> Shown {
        let (session, generation) = (session().id, session().lineage.generation);
        Shown { session, generation, at: noon(), rules: crate::testing::SESSION_RULES }
    }

    /// Whether an entry is still used after `change`, which fails.
    async fn stays(change: impl AsyncFnOnce(&Ports)) -> bool {
        let mut ports = failing();
        let cache = SessionCache::in_front_of(&mut ports);
        let live = Arc::new(LiveSession::of(session(), ann()).unwrap());
        cache.insert(cache.begin(&bearer()), live);
        change(&ports).await;
        cache.get(&bearer()).is_some()
    }

    #[tokio::test]
    async fn every_change_of_a_session_invalidates_it_even_if_it_fails() {
        let (id, owner, cause) = (session().id, ann().user.id, EndCause::LoggedOut);
        assert!(!stays(async |ports| _ = ports.sessions.open(new_session(), attempt()).await).await);
        assert!(!stays(async |ports| _ = ports.sessions.rotate(shown(), attempt()).await).await);
        assert!(!stays(async |ports| _ = ports.sessions.mark_seen(id, bearer().generation).await).await);
        assert!(!stays(async |ports| _ = ports.sessions.end(id, owner, cause, attempt()).await).await);
        assert!(!stays(async |ports| _ = ports.sessions.end_all(owner, None, cause, attempt()).await).await);
        assert!(!stays(async |ports| _ = ports.sessions.remove_over(noon(), 1).await).await);
        assert!(stays(async |ports| _ = ports.sessions.look_up(id).await).await);
    }

    #[tokio::test]
    async fn every_change_of_an_account_invalidates_its_sessions_even_if_it_fails() {
        let (id, name, key) = (ann().user.id, username("ann"), username("ann").key().clone());
        assert!(!stays(async |ports| _ = ports.users.import(Vec::new(), attempt()).await).await);
        assert!(
            !stays(async |ports| _ = ports.users.set_password(key.clone(), hash("new"), attempt()).await)
                .await
        );
        assert!(!stays(async |ports| _ = ports.users.disable(key.clone(), attempt()).await).await);
        assert!(!stays(async |ports| _ = ports.users.enable(key.clone(), attempt()).await).await);
        assert!(!stays(async |ports| _ = ports.users.delete(key.clone(), attempt()).await).await);
        assert!(!stays(async |ports| _ = ports.users.rename(id, 3, name.clone(), attempt()).await).await);
        assert!(
            !stays(async |ports| {
                _ = ports.users.change_password(hash("new"), new_session(), attempt()).await;
            })
            .await
        );
        assert!(!stays(async |ports| _ = ports.users.close_account(id, 3, attempt()).await).await);
        assert!(stays(async |ports| _ = ports.users.rehash(id, hash("old"), hash("new")).await).await);
    }
}
