//! A session as a row, and what a row must be.

use std::fmt::Display;

use diesel::data_types::PgTimestamp;
use diesel::{Insertable, Queryable, Selectable};
use domain::ports::NewSession;
use domain::{Generation, Lineage, Nonce, Session, SessionId, UserAgent, UserId};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::error::BrokenRow;
use crate::schema::sessions;
use crate::sql_types::{self, Id, inet, timestamptz};

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = sessions)]
pub(super) struct Row {
    pub(super) id: Id,
    pub(super) user_id: i64,
    pub(super) nonce: Vec<u8>,
    pub(super) generation: i64,
    pub(super) superseded: Vec<PgTimestamp>,
    pub(super) seen: bool,
    pub(super) recoveries: Vec<PgTimestamp>,
    pub(super) created_at: PgTimestamp,
    pub(super) last_used_at: PgTimestamp,
    pub(super) expires_at: PgTimestamp,
    pub(super) ends_at: PgTimestamp,
    pub(super) ended_at: Option<PgTimestamp>,
    pub(super) address: Option<IpNet>,
    pub(super) user_agent: Option<String>,
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

pub(super) fn broken(id: &impl Display, column: &'static str, found: &impl Display) -> BrokenRow {
    BrokenRow { table: "sessions", column, id: id.to_string(), found: found.to_string() }
}
