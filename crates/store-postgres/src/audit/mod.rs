//! Events as rows: what is written in the transaction of a change, what is sealed a moment later, what is read, and what
//! a row must be.
//!
//! A seal covers the one before it. Were each change to seal its own event, all of them would queue for the end of the
//! chain, from there to their commits. So a row is written without a place in the chain, and whoever is first gives one
//! to all that are there: a task of every instance that writes, twice a second, and everybody who is about to read.
//! Order among rows is that of their numbers, not of their commits, and only sealed ones are read.
//!
//! Until then, whoever can write to the database can remove such a row without a trace, or add it once more. They can
//! neither change it nor make one up, at that time or later: it carries a mark, a MAC over itself, which goes when it is
//! sealed. A row without the mark that it should have gets a place where no seal holds, so that an inspection names it.
//! A process with another key than the log's would take every row for such a one; it seals nothing.

pub(crate) mod bulk_copy;
mod chain;
mod commands;
mod queries;

use std::fmt::Display;

use async_trait::async_trait;
use diesel::data_types::PgTimestamp;
use diesel::{Insertable, Queryable, Selectable};
use domain::ports::{AuditLog, AuditQuery, ListedEvent, PortError};
use domain::{
    AuditEntry, AuditKey, AuditedClient, Event, Inspection, Link, RenamedDigests, Seal, SealedEntry,
    Tampering, UserAgent, UserId,
};
use futures_util::FutureExt as _;
use jiff::Timestamp;

pub(crate) use self::chain::OtherKey;
pub(crate) use self::commands::{record, record_all};
use crate::PostgresStore;
use crate::error::{BrokenRow, StoreError};
use crate::schema::audit_events;
use crate::sql_types::{self, timestamptz};

#[async_trait]
impl AuditLog for PostgresStore {
    async fn append(&self, events: Vec<Event>) -> Result<(), PortError> {
        let work = self.write((self.inside.audit_key.clone(), events), |connection, (key, events)| {
            commands::append(connection, key, events).boxed()
        });
        Ok(work.await?)
    }

    async fn list_events(
        &self,
        query: AuditQuery,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ListedEvent>, PortError> {
        self.seal().await?;
        let asked = (self.inside.audit_key.clone(), query, after, limit);
        Ok(self
            .read(asked, |connection, (key, query, after, limit)| {
                queries::list(connection, key, query, *after, *limit).boxed()
            })
            .await?)
    }

    async fn inspect(&self, expected: Option<Link>) -> Result<Result<Link, Tampering>, PortError> {
        let sealing = self.try_to_seal().await?;
        let inside = self.inside.clone();
        // Not within the time of other questions: a log may be long, and this is asked by a command.
        let inspected = self.spawn(async move { inside.inspect(expected).await }).await?;
        // What was tampered with is named, whatever else is the matter; but what waits was not looked at.
        Ok(match (inspected, sealing) {
            (Ok(_), Err(other_key)) => return Err(StoreError::failed(other_key).into()),
            (inspected, _) => inspected,
        })
    }

    async fn head(&self) -> Result<Link, PortError> {
        self.seal().await?;
        Ok(self.read((), |connection, ()| queries::head(connection).boxed()).await?)
    }

    async fn blank_deleted(&self, limit: u32) -> Result<bool, PortError> {
        let work = self.write(limit, |connection, limit| commands::blank_deleted(connection, *limit).boxed());
        Ok(work.await?)
    }

    async fn remove_before(&self, at: Timestamp, limit: u32) -> Result<Result<usize, Tampering>, PortError> {
        // What is removed is looked at, so that another key removes nothing.
        _ = self.try_to_seal().await?;
        let work = self.write((self.inside.audit_key.clone(), at, limit), |connection, (key, at, limit)| {
            commands::remove_before(connection, key, *at, *limit).boxed()
        });
        Ok(work.await?)
    }
}

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = audit_events)]
struct Row {
    #[diesel(skip_insertion)]
    id: i64,
    number: Option<i64>,
    at: PgTimestamp,
    event: String,
    outcome: String,
    reason: Option<String>,
    count: i64,
    user_id: Option<i64>,
    name_digest: Option<String>,
    request_id: Option<String>,
    salt: Option<Vec<u8>>,
    address: Option<String>,
    user_agent: Option<String>,
    client_digest: Option<Vec<u8>>,
    mark: Option<Vec<u8>>,
    seal: Option<Vec<u8>>,
}

impl Row {
    /// An event that has no place yet.
    fn unsealed(key: &AuditKey, entry: AuditEntry) -> Self {
        let mark = key.mark(&entry).0.to_vec();
        Self { mark: Some(mark), ..Self::of(entry) }
    }

    fn of(entry: AuditEntry) -> Self {
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
    fn genuine(self, key: &AuditKey) -> Option<AuditEntry> {
        let mark = self.mark.as_deref().and_then(bytes).map(Seal)?;
        let entry = AuditEntry::try_from(self).ok()?;
        (key.mark(&entry) == mark).then_some(entry)
    }

    /// The place of this event, if nothing is wrong with it. What cannot be read is not what was written.
    fn inspected(self, inspection: &mut Inspection<'_>) -> Result<Link, Tampering> {
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

fn bytes<const LENGTH: usize>(found: &[u8]) -> Option<[u8; LENGTH]> {
    found.try_into().ok()
}

fn broken(id: i64, column: &'static str, found: &dyn Display) -> BrokenRow {
    BrokenRow { table: "audit_events", column, id: id.to_string(), found: found.to_string() }
}
