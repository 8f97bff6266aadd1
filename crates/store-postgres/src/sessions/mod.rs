//! Sessions as rows: what is looked up, what is changed, and what a row must be.

pub(crate) mod bulk_copy;
pub(crate) mod commands;
mod queries;
mod rows;

use async_trait::async_trait;
use domain::ports::{
    Ending, EndingAll, KnownNetwork, NewSession, Opening, PortError, Rotation, SessionRepo, Shown,
};
use domain::{Account, Attempt, EndCause, Generation, Session, SessionId, UserId};
use futures_util::FutureExt as _;
use jiff::Timestamp;

use crate::PostgresStore;

#[async_trait]
impl SessionRepo for PostgresStore {
    async fn open(&self, new: NewSession, attempt: Attempt) -> Result<Opening, PortError> {
        let work = self.make(attempt, new, |connection, new| commands::open(connection, new).boxed());
        Ok(work.await?)
    }

    async fn look_up(&self, id: SessionId) -> Result<Option<(Session, Account)>, PortError> {
        Ok(self.read(id, |connection, id| queries::look_up(connection, *id).boxed()).await?)
    }

    async fn rotate(&self, shown: Shown, attempt: Attempt) -> Result<Rotation, PortError> {
        let work = self.make(attempt, shown, |connection, shown| commands::rotate(connection, shown).boxed());
        Ok(work.await?)
    }

    async fn mark_seen(&self, id: SessionId, generation: Generation) -> Result<(), PortError> {
        let work = self.write((id, generation), |connection, (id, generation)| {
            commands::mark_seen(connection, *id, *generation).boxed()
        });
        work.await?;
        Ok(())
    }

    async fn end(
        &self,
        id: SessionId,
        owner: UserId,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<Ending, PortError> {
        let at = attempt.at;
        let work = self.make(attempt, (id, owner, cause, at), |connection, (id, owner, cause, at)| {
            commands::end(connection, *id, *owner, *cause, *at).boxed()
        });
        Ok(work.await?)
    }

    async fn end_all(
        &self,
        owner: UserId,
        but: Option<SessionId>,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<EndingAll, PortError> {
        let at = attempt.at;
        let work = self.make(attempt, (owner, but, cause, at), |connection, (owner, but, cause, at)| {
            commands::end_all(connection, *owner, *but, *cause, *at).boxed()
        });
        Ok(work.await?)
    }

    async fn live_sessions(&self, owner: UserId, at: Timestamp) -> Result<Vec<Session>, PortError> {
        let asked = (owner, at);
        Ok(self
            .read(asked, |connection, asked| queries::live_sessions(connection, asked.0, asked.1).boxed())
            .await?)
    }

    async fn count_live(&self, at: Timestamp) -> Result<u64, PortError> {
        Ok(self.read(at, |connection, at| queries::count_live(connection, *at).boxed()).await?)
    }

    async fn known_networks(&self, owner: UserId) -> Result<Vec<KnownNetwork>, PortError> {
        Ok(self.read(owner, |connection, owner| queries::known_networks(connection, *owner).boxed()).await?)
    }

    async fn remove_over(&self, at: Timestamp, limit: u32) -> Result<usize, PortError> {
        let work = self.write((at, limit), |connection, (at, limit)| {
            commands::remove_over(connection, *at, *limit).boxed()
        });
        Ok(work.await?)
    }
}
