//! Sessions as rows: what is looked up, what is changed, and what a row must be.

pub(crate) mod bulk_copy;
pub(crate) mod commands;
mod queries;

use std::fmt::Display;

use async_trait::async_trait;
use diesel::data_types::PgTimestamp;
use diesel::{Insertable, Queryable, Selectable};
use domain::ports::{
    Ending, EndingAll, KnownNetwork, NewSession, Opening, PortError, Rotation, SessionRepo, Shown,
};
use domain::{Account, Attempt, EndCause, Generation, Lineage, Nonce, Session, SessionId, UserAgent, UserId};
use futures_util::FutureExt as _;
use ipnet::IpNet;
use jiff::Timestamp;

use crate::PostgresStore;
use crate::error::BrokenRow;
use crate::schema::sessions;
use crate::sql_types::{self, Id, inet, timestamptz};

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

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = sessions)]
struct Row {
    id: Id,
    user_id: i64,
    nonce: Vec<u8>,
    generation: i64,
    superseded: Vec<PgTimestamp>,
    seen: bool,
    recoveries: Vec<PgTimestamp>,
    created_at: PgTimestamp,
    last_used_at: PgTimestamp,
    expires_at: PgTimestamp,
    ends_at: PgTimestamp,
    ended_at: Option<PgTimestamp>,
    address: Option<IpNet>,
    user_agent: Option<String>,
}

impl From<&NewSession> for Row {
    fn from(new: &NewSession) -> Self {
        Self {
            id: new.id.into(),
            user_id: new.user.0,
            nonce: new.nonce.0.to_vec(),
            generation: Generation::FIRST.number(),
            superseded: Vec::new(),
            seen: false,
            recoveries: Vec::new(),
            created_at: timestamptz(new.at),
            last_used_at: timestamptz(new.at),
            expires_at: timestamptz(new.expires_at),
            ends_at: timestamptz(new.ends_at),
            ended_at: None,
            address: new.address.map(inet),
            user_agent: new.user_agent.as_ref().map(|it| it.as_str().to_owned()),
        }
    }
}

impl From<Session> for Row {
    fn from(session: Session) -> Self {
        let times = |times: Vec<Timestamp>| times.into_iter().map(timestamptz).collect();
        Self {
            id: session.id.into(),
            user_id: session.user.0,
            nonce: session.nonce.0.to_vec(),
            generation: session.lineage.generation.number(),
            superseded: times(session.lineage.superseded),
            seen: session.lineage.seen,
            recoveries: times(session.lineage.recoveries),
            created_at: timestamptz(session.created_at),
            last_used_at: timestamptz(session.last_used_at),
            expires_at: timestamptz(session.expires_at),
            ends_at: timestamptz(session.ends_at),
            ended_at: session.ended_at.map(timestamptz),
            address: session.address.map(inet),
            user_agent: session.user_agent.map(|it| it.as_str().to_owned()),
        }
    }
}

impl TryFrom<Row> for Session {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let id = SessionId::from(row.id);
        let time = |column, stored| {
            sql_types::time(stored).ok_or_else(|| broken(&id, column, &sql_types::shown(stored)))
        };
        let times = |column, stored: Vec<PgTimestamp>| {
            stored.into_iter().map(|stored| time(column, stored)).collect::<Result<Vec<_>, _>>()
        };
        let nonce = <[u8; 16]>::try_from(&*row.nonce);
        let lineage = Lineage {
            generation: Generation::new(row.generation)
                .ok_or_else(|| broken(&id, "generation", &row.generation))?,
            superseded: times("superseded", row.superseded)?,
            seen: row.seen,
            recoveries: times("recoveries", row.recoveries)?,
        };
        Ok(Self {
            user: UserId(row.user_id),
            nonce: Nonce(nonce.map_err(|_| broken(&id, "nonce", &"of another length"))?),
            lineage,
            created_at: time("created_at", row.created_at)?,
            last_used_at: time("last_used_at", row.last_used_at)?,
            expires_at: time("expires_at", row.expires_at)?,
            ends_at: time("ends_at", row.ends_at)?,
            ended_at: row.ended_at.map(|at| time("ended_at", at)).transpose()?,
            address: row.address.map(|network| network.addr()),
            user_agent: row.user_agent.map(UserAgent::from_stored),
            id,
        })
    }
}

fn broken(id: &impl Display, column: &'static str, found: &impl Display) -> BrokenRow {
    BrokenRow { table: "sessions", column, id: id.to_string(), found: found.to_string() }
}
