//! An event as a row, and what a row must be.

use std::fmt::Display;

use diesel::data_types::PgTimestamp;
use diesel::{Insertable, Queryable, Selectable};
use domain::{
    AuditEntry, AuditKey, AuditedClient, Inspection, Link, RenamedDigests, Seal, SealedEntry, Tampering,
    UserAgent, UserId,
};

use crate::error::BrokenRow;
use crate::schema::audit_events;
use crate::sql_types::{self, timestamptz};

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = audit_events)]
pub(super) struct Row {
    #[diesel(skip_insertion)]
    pub(super) id: i64,
    pub(super) number: Option<i64>,
    pub(super) at: PgTimestamp,
    pub(super) event: String,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    pub(super) count: i64,
    pub(super) user_id: Option<i64>,
    pub(super) name_digest: Option<String>,
    pub(super) request_id: Option<String>,
    pub(super) salt: Option<Vec<u8>>,
    pub(super) address: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) client_digest: Option<Vec<u8>>,
    pub(super) mark: Option<Vec<u8>>,
    pub(super) seal: Option<Vec<u8>>,
}

impl Row {
    /// An event that has no place yet.
    pub(super) fn unsealed(key: &AuditKey, entry: AuditEntry) -> Self {
        let mark = key.mark(&entry).0.to_vec();
        Self { mark: Some(mark), ..Self::of(entry) }
    }

    pub(super) fn of(entry: AuditEntry) -> Self {
        let (salt, address, user_agent) = match entry.client {
            Some(AuditedClient { salt, address, user_agent }) => {
                let user_agent = user_agent.map(|it| it.as_str().to_owned());
                (Some(salt.to_vec()), Some(address.to_string()), user_agent)
            }
            None => (None, None, None),
        };
        let name_digest = entry.renamed.as_ref().map(RenamedDigests::to_stored).or(entry.name_digest);
        Self {
            id: 0,
            number: None,
            at: timestamptz(entry.at),
            event: entry.event,
            outcome: entry.outcome,
            reason: entry.reason,
            count: entry.count,
            user_id: entry.user.map(|id| id.0),
            name_digest,
            request_id: entry.request_id,
            salt,
            address,
            user_agent,
            client_digest: entry.client_digest.map(Vec::from),
            mark: None,
            seal: None,
        }
    }

    /// The entry of a row without a place, if it was written here as it is. What was blanked since makes no difference.
    pub(super) fn genuine(self, key: &AuditKey) -> Option<AuditEntry> {
        let mark = self.mark.as_deref().and_then(bytes).map(Seal)?;
        let entry = AuditEntry::try_from(self).ok()?;
        (key.mark(&entry) == mark).then_some(entry)
    }

    /// The place of this event, if nothing is wrong with it. What cannot be read is not what was written.
    pub(super) fn inspected(self, inspection: &mut Inspection<'_>) -> Result<Link, Tampering> {
        let number = self.number.unwrap_or(0);
        let sealed = SealedEntry::try_from(self).map_err(|_| Tampering::Altered(number))?;
        inspection.look_at(&sealed)?;
        Ok(sealed.link)
    }
}

impl From<SealedEntry> for Row {
    fn from(SealedEntry { entry, link }: SealedEntry) -> Self {
        Self { number: Some(link.number), seal: Some(link.seal.0.to_vec()), ..Self::of(entry) }
    }
}

impl TryFrom<Row> for SealedEntry {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let number = row.number.ok_or_else(|| broken(row.id, "number", &"none"))?;
        let seal = row.seal.as_deref().and_then(bytes);
        let seal = seal.ok_or_else(|| broken(row.id, "seal", &"of another length"))?;
        Ok(Self { entry: row.try_into()?, link: Link { number, seal: Seal(seal) } })
    }
}

impl TryFrom<Row> for AuditEntry {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let broken = |column, found: &dyn Display| broken(row.id, column, found);
        let client = match (row.salt, row.address) {
            (Some(salt), Some(address)) => Some(AuditedClient {
                salt: bytes(&salt).ok_or_else(|| broken("salt", &"of another length"))?,
                address: address.parse().map_err(|_| broken("address", &"no address"))?,
                user_agent: row.user_agent.map(UserAgent::from_stored),
            }),
            (None, None) if row.user_agent.is_none() => None,
            _ => return Err(broken("address", &"half blanked")),
        };
        let digest =
            |digest: Vec<u8>| bytes(&digest).ok_or_else(|| broken("client_digest", &"of another length"));
        let renamed = row.name_digest.as_deref().and_then(RenamedDigests::from_stored);
        Ok(Self {
            at: sql_types::time(row.at).ok_or_else(|| broken("at", &sql_types::shown(row.at)))?,
            event: row.event,
            outcome: row.outcome,
            reason: row.reason,
            count: row.count,
            user: row.user_id.map(UserId),
            name_digest: row.name_digest.filter(|_| renamed.is_none()),
            request_id: row.request_id,
            client,
            client_digest: row.client_digest.map(digest).transpose()?,
            renamed,
        })
    }
}

pub(super) fn bytes<const LENGTH: usize>(found: &[u8]) -> Option<[u8; LENGTH]> {
    found.try_into().ok()
}

pub(super) fn broken(id: i64, column: &'static str, found: &dyn Display) -> BrokenRow {
    BrokenRow { table: "audit_events", column, id: id.to_string(), found: found.to_string() }
}
