//! A session as a row, and what a row must be.

use std::fmt::Display;

use diesel::{Insertable, Queryable, Selectable};
use domain::ports::NewSession;
use domain::{Generation, Lineage, Nonce, Session, SessionId, UserAgent, UserId};
use jiff::Timestamp;

use crate::error::BrokenRow;
use crate::schema::sessions;
use crate::sql_types::{packed, unpacked};

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
pub(super) struct Row {
    pub(super) id: Vec<u8>,
    pub(super) user_id: i64,
    pub(super) nonce: Vec<u8>,
    pub(super) generation: i64,
    pub(super) superseded: Vec<u8>,
    pub(super) seen: bool,
    pub(super) recoveries: Vec<u8>,
    pub(super) created_at: i64,
    pub(super) last_used_at: i64,
    pub(super) expires_at: i64,
    pub(super) ends_at: i64,
    pub(super) ended_at: Option<i64>,
    pub(super) address: Option<String>,
    pub(super) user_agent: Option<String>,
}

impl From<&NewSession> for Row {
    fn from(new: &NewSession) -> Self {
        Self {
            id: new.id.as_bytes().to_vec(),
            user_id: new.user.0,
            nonce: new.nonce.0.to_vec(),
            generation: Generation::FIRST.number(),
            superseded: Vec::new(),
            seen: false,
            recoveries: Vec::new(),
            created_at: new.at.as_microsecond(),
            last_used_at: new.at.as_microsecond(),
            expires_at: new.expires_at.as_microsecond(),
            ends_at: new.ends_at.as_microsecond(),
            ended_at: None,
            address: new.address.map(|address| address.to_string()),
            user_agent: new.user_agent.as_ref().map(|it| it.as_str().to_owned()),
        }
    }
}

impl From<Session> for Row {
    fn from(session: Session) -> Self {
        Self {
            id: session.id.as_bytes().to_vec(),
            user_id: session.user.0,
            nonce: session.nonce.0.to_vec(),
            generation: session.lineage.generation.number(),
            superseded: packed(&session.lineage.superseded),
            seen: session.lineage.seen,
            recoveries: packed(&session.lineage.recoveries),
            created_at: session.created_at.as_microsecond(),
            last_used_at: session.last_used_at.as_microsecond(),
            expires_at: session.expires_at.as_microsecond(),
            ends_at: session.ends_at.as_microsecond(),
            ended_at: session.ended_at.map(Timestamp::as_microsecond),
            address: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent.map(|it| it.as_str().to_owned()),
        }
    }
}

impl TryFrom<Row> for Session {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let id = <[u8; 16]>::try_from(&*row.id).map(SessionId::from_bytes);
        let id = id.map_err(|_| broken(&row.id.len(), "id", &"of another length"))?;
        let time =
            |column, found| Timestamp::from_microsecond(found).map_err(|_| broken(&id, column, &found));
        let times = |column, packed: &[u8]| {
            unpacked(packed).ok_or_else(|| broken(&id, column, &format_args!("{} bytes", packed.len())))
        };
        let nonce = <[u8; 16]>::try_from(&*row.nonce);
        let lineage = Lineage {
            generation: Generation::new(row.generation)
                .ok_or_else(|| broken(&id, "generation", &row.generation))?,
            superseded: times("superseded", &row.superseded)?,
            seen: row.seen,
            recoveries: times("recoveries", &row.recoveries)?,
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
            address: row
                .address
                .map(|text| text.parse().map_err(|_| broken(&id, "address", &"no address")))
                .transpose()?,
            user_agent: row.user_agent.map(UserAgent::from_stored),
            id,
        })
    }
}

pub(super) fn broken(id: &impl Display, column: &'static str, found: &impl Display) -> BrokenRow {
    BrokenRow { table: "sessions", column, id: id.to_string(), found: found.to_string() }
}
