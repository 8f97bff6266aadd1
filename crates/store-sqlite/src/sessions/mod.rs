//! Sessions as rows: what is looked up by a reader, what is changed by the writer, and what a row must be.

pub(crate) mod bulk_copy;
pub(crate) mod commands;
mod queries;
mod rows;

use async_trait::async_trait;
use domain::ports::{
    Ending, EndingAll, KnownNetwork, NewSession, Opening, PortError, Rotation, SessionRepo, Shown,
};
use domain::{Account, Attempt, EndCause, Generation, Session, SessionId, UserId};
use jiff::Timestamp;

use crate::SqliteStore;
use crate::calling_thread::Connection;

#[async_trait]
impl SessionRepo for SqliteStore {
    async fn open(&self, new: NewSession, attempt: Attempt) -> Result<Opening, PortError> {
        let open = async move |connection: &mut Connection| commands::open(connection, &new).await;
        Ok(self.make(attempt, open).await?)
    }

    async fn look_up(&self, id: SessionId) -> Result<Option<(Session, Account)>, PortError> {
        Ok(self.read(async move |reader: &mut Connection| queries::look_up(reader, id).await).await?)
    }

    async fn rotate(&self, shown: Shown, attempt: Attempt) -> Result<Rotation, PortError> {
        let rotate = async move |connection: &mut Connection| commands::rotate(connection, &shown).await;
        Ok(self.make(attempt, rotate).await?)
    }

    async fn mark_seen(&self, id: SessionId, generation: Generation) -> Result<(), PortError> {
        Ok(self
            .write(async move |connection: &mut Connection| {
                commands::mark_seen(connection, id, generation).await
            })
            .await?)
    }

    async fn end(
        &self,
        id: SessionId,
        owner: UserId,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<Ending, PortError> {
        let at = attempt.at;
        let end =
            async move |connection: &mut Connection| commands::end(connection, id, owner, cause, at).await;
        Ok(self.make(attempt, end).await?)
    }

    async fn end_all(
        &self,
        owner: UserId,
        but: Option<SessionId>,
        cause: EndCause,
        attempt: Attempt,
    ) -> Result<EndingAll, PortError> {
        let at = attempt.at;
        let end = async move |connection: &mut Connection| {
            commands::end_all(connection, owner, but, cause, at).await
        };
        Ok(self.make(attempt, end).await?)
    }

    async fn live_sessions(&self, owner: UserId, at: Timestamp) -> Result<Vec<Session>, PortError> {
        Ok(self
            .read(async move |reader: &mut Connection| queries::live_sessions(reader, owner, at).await)
            .await?)
    }

    async fn count_live(&self, at: Timestamp) -> Result<u64, PortError> {
        Ok(self.read(async move |reader: &mut Connection| queries::count_live(reader, at).await).await?)
    }

    async fn known_networks(&self, owner: UserId) -> Result<Vec<KnownNetwork>, PortError> {
        Ok(self
            .read(async move |reader: &mut Connection| queries::known_networks(reader, owner).await)
            .await?)
    }

    async fn remove_over(&self, at: Timestamp, limit: u32) -> Result<usize, PortError> {
        Ok(self
            .write(async move |connection: &mut Connection| {
                commands::remove_over(connection, at, limit).await
            })
            .await?)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use diesel::connection::SimpleConnection;
    use domain::ports::UserRepo;

    use super::*;
    use crate::testing::{Fixture, attempt, login, person};

    async fn with_a_session() -> Fixture {
        let fixture = Fixture::new();
        fixture.store.insert(person("ann"), attempt()).await.unwrap();
        assert!(matches!(fixture.store.open(login(UserId(1)), attempt()).await.unwrap(), Opening::Done(_)));
        fixture
    }

    #[tokio::test]
    async fn a_row_that_no_code_of_ours_wrote_is_named_by_table_column_and_id() {
        for (column, value, found) in [
            ("generation", "0", "0"),
            ("superseded", "x'00'", "1 bytes"),
            ("recoveries", "x'7fffffffffffffff'", "8 bytes"),
            ("nonce", "x'00'", "of another length"),
            ("created_at", "9223372036854775807", "9223372036854775807"),
            ("ended_at", "9223372036854775807", "9223372036854775807"),
            ("address", "'somewhere'", "no address"),
        ] {
            let fixture = with_a_session().await;
            let mut outsider = fixture.outsider();
            outsider.batch_execute("PRAGMA ignore_check_constraints = ON").unwrap();
            outsider.batch_execute(&format!("UPDATE sessions SET {column} = {value}")).unwrap();

            let id = login(UserId(1)).id;
            let error = fixture.store.look_up(id).await.unwrap_err();

            assert_eq!(
                error.source().unwrap().to_string(),
                format!("the row of sessions with id {id} has a {column} that cannot be: {found}")
            );
        }
    }

    #[tokio::test]
    async fn the_table_itself_refuses_what_cannot_be() {
        let fixture = with_a_session().await;
        let mut outsider = fixture.outsider();

        for change in [
            "id = x'00'",
            "nonce = ''",
            "generation = 0",
            "superseded = x'00'",
            "seen = 2",
            "ends_at = expires_at - 1",
            "ended_at = 1",
            "end_cause = 'logged_out'",
            "user_id = 99",
        ] {
            assert!(outsider.batch_execute(&format!("UPDATE sessions SET {change}")).is_err(), "{change}");
        }
    }
}
