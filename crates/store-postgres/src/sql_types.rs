//! Values of the domain in PostgreSQL's own types, and back.

use std::io::Write as _;
use std::net::IpAddr;

use diesel::data_types::PgTimestamp;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Uuid;
use domain::SessionId;
use ipnet::IpNet;
use jiff::Timestamp;

/// The year 2000, from which PostgreSQL counts, in microseconds of 1970.
const EPOCH: i64 = 946_684_800_000_000;

/// An identifier as a `uuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Uuid)]
pub(crate) struct Id(pub(crate) [u8; 16]);

impl From<SessionId> for Id {
    fn from(id: SessionId) -> Self {
        Self(*id.as_bytes())
    }
}

impl From<Id> for SessionId {
    fn from(id: Id) -> Self {
        Self::from_bytes(id.0)
    }
}

impl ToSql<Uuid, Pg> for Id {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&self.0)?;
        Ok(IsNull::No)
    }
}

impl FromSql<Uuid, Pg> for Id {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(value.as_bytes().try_into()?))
    }
}

/// A time as a `timestamptz`, which holds every one that there is.
pub(crate) fn timestamptz(time: Timestamp) -> PgTimestamp {
    PgTimestamp(time.as_microsecond() - EPOCH)
}

/// The time that a `timestamptz` is. PostgreSQL knows some that nobody else does, infinity among them.
pub(crate) fn time(stored: PgTimestamp) -> Option<Timestamp> {
    Timestamp::from_microsecond(stored.0.checked_add(EPOCH)?).ok()
}

/// An address as an `inet`, which is a network of one.
pub(crate) fn inet(address: IpAddr) -> IpNet {
    address.into()
}

/// How a time is written that cannot be one of ours.
pub(crate) fn shown(stored: PgTimestamp) -> String {
    match stored.0 {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        other => format!("{other} microseconds from the year 2000"),
    }
}
