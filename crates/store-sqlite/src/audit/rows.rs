//! An event as a row, and what a row must be.

use std::fmt::Display;

use diesel::{Insertable, Queryable, Selectable};
use domain::{
    AuditEntry, AuditedClient, Inspection, Link, RenamedDigests, Seal, SealedEntry, Tampering, UserAgent,
    UserId,
};
use jiff::Timestamp;

use crate::error::BrokenRow;
use crate::schema::audit_events;

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = audit_events, treat_none_as_default_value = false)]
pub(super) struct Row {
    pub(super) number: i64,
    pub(super) at: i64,
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
    pub(super) seal: Vec<u8>,
}

impl From<SealedEntry> for Row {
    fn from(SealedEntry { entry, link }: SealedEntry) -> Self {
        let (salt, address, user_agent) = match entry.client {
            Some(AuditedClient { salt, address, user_agent }) => {
                let user_agent = user_agent.map(|it| it.as_str().to_owned());
                (Some(salt.to_vec()), Some(address.to_string()), user_agent)
            }
            None => (None, None, None),
        };
        let name_digest = entry.renamed.as_ref().map(RenamedDigests::to_stored).or(entry.name_digest);
        Self {
            number: link.number,
            at: entry.at.as_microsecond(),
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
            seal: link.seal.0.to_vec(),
        }
    }
}

impl Row {
    /// The place of this event, if nothing is wrong with it. What cannot be read is not what was written.
    pub(super) fn inspected(self, inspection: &mut Inspection<'_>) -> Result<Link, Tampering> {
        let number = self.number;
        let sealed = SealedEntry::try_from(self).map_err(|_| Tampering::Altered(number))?;
        inspection.look_at(&sealed)?;
        Ok(sealed.link)
    }
}

impl TryFrom<Row> for SealedEntry {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let broken = |column, found: &dyn Display| broken(row.number, column, found);
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
        let entry = AuditEntry {
            at: Timestamp::from_microsecond(row.at).map_err(|_| broken("at", &row.at))?,
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
        };
        let seal = bytes(&row.seal).ok_or_else(|| broken("seal", &"of another length"))?;
        Ok(Self { entry, link: Link { number: row.number, seal: Seal(seal) } })
    }
}

pub(super) fn bytes<const LENGTH: usize>(found: &[u8]) -> Option<[u8; LENGTH]> {
    found.try_into().ok()
}

pub(super) fn broken(number: i64, column: &'static str, found: &dyn Display) -> BrokenRow {
    BrokenRow { table: "audit_events", column, id: number.to_string(), found: found.to_string() }
}
