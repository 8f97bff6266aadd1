//! What is counted of names, as rows: what is looked up by a reader, what is changed by the writer, and what a row must be.

pub(crate) mod commands;
mod queries;

use async_trait::async_trait;
use diesel::prelude::*;
use domain::ports::{Admittance, Change, Compared, Place, PortError, Requester, Throttle};
use domain::{
    Attempt, ClientNetwork, Counter, LoginName, Refusal, ThrottleRules, Tries, UsernameKey, Whence,
};
use jiff::Timestamp;

use crate::SqliteStore;
use crate::calling_thread::Connection;
use crate::error::BrokenRow;
use crate::schema::throttles;
use crate::sql_types::{packed, unpacked};

#[async_trait]
impl Throttle for SqliteStore {
    async fn counter(
        &self,
        name: LoginName,
        network: Option<ClientNetwork>,
        at: Timestamp,
    ) -> Result<Counter, PortError> {
        let counted = self.inside.audit_key.counted_as_typed(&name);
        let LoginName::Possible(name) = name else {
            return Ok(Counter { name: counted, whence: Whence::Elsewhere, owner: None });
        };
        Ok(self
            .read(async move |reader: &mut Connection| {
                queries::counter(reader, counted, name.key(), network, at).await
            })
            .await?)
    }

    async fn admit(
        &self,
        counter: Counter,
        requester: Requester,
        at: Timestamp,
        rules: ThrottleRules,
    ) -> Result<Admittance, PortError> {
        let key = self.inside.audit_key.clone();
        let admit = async move |connection: &mut Connection| {
            commands::admit(connection, &key, counter, at, rules).await
        };
        Ok(self.write_for(requester, admit).await?)
    }

    async fn fail(
        &self,
        compared: Compared,
        refusal: Refusal,
        attempt: Option<Attempt>,
    ) -> Result<Refusal, PortError> {
        let fail = async move |connection: &mut Connection| {
            commands::fail(connection, &compared).await?;
            Ok(refusal)
        };
        Ok(match attempt {
            Some(attempt) => self.make(attempt, fail).await?,
            None => self.write(fail).await?,
        })
    }

    async fn give_back(&self, place: Place) -> Result<(), PortError> {
        Ok(self
            .write(async move |connection: &mut Connection| commands::give_back(connection, &place).await)
            .await?)
    }

    async fn unlock(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let counted = self.inside.audit_key.counted(&name);
        let unlock =
            async move |connection: &mut Connection| commands::unlock(connection, &name, counted).await;
        Ok(self.make(attempt, unlock).await?)
    }

    async fn tries(&self, name: UsernameKey) -> Result<Vec<(Whence, Tries)>, PortError> {
        let counted = self.inside.audit_key.counted(&name);
        Ok(self.read(async move |reader: &mut Connection| queries::tries(reader, counted).await).await?)
    }

    async fn newest_strays_end(&self, most: u32) -> Result<Option<Timestamp>, PortError> {
        Ok(self
            .read(async move |reader: &mut Connection| queries::newest_strays_end(reader, most).await)
            .await?)
    }

    async fn remove_strays(&self, at: Timestamp, limit: u32) -> Result<usize, PortError> {
        let remove =
            async move |connection: &mut Connection| commands::remove_strays(connection, at, limit).await;
        Ok(self.write(remove).await?)
    }
}

#[derive(AsChangeset, Insertable, Queryable, Selectable)]
#[diesel(table_name = throttles, primary_key(name, whence))]
struct Row {
    name: Vec<u8>,
    whence: Vec<u8>,
    failures: i64,
    failed_at: i64,
    undecided: Vec<u8>,
    is_stray: bool,
}

impl Row {
    fn new(counter: &Counter, tries: &Tries, is_stray: bool) -> Self {
        Self {
            name: counter.name.0.to_vec(),
            whence: counter.whence.to_bytes(),
            failures: tries.failures.into(),
            failed_at: tries.failed_at.as_microsecond(),
            undecided: packed(&tries.undecided),
            is_stray,
        }
    }
}

/// Whether a counter still says something of its name: not if it is of a network that was forgotten.
#[diesel::dsl::auto_type(no_type_alias)]
fn is_remembered() -> _ {
    let elsewhere: &'static [u8] = &[];
    throttles::is_stray.eq(false).or(throttles::whence.eq(elsewhere))
}

impl TryFrom<Row> for (Whence, Tries) {
    type Error = BrokenRow;

    fn try_from(row: Row) -> Result<Self, BrokenRow> {
        let broken = |column, found: String| BrokenRow {
            table: "throttles",
            column,
            id: format!("({:02x?}, {:02x?})", row.name, row.whence),
            found,
        };
        let whence = Whence::from_bytes(&row.whence)
            .ok_or_else(|| broken("whence", format!("{} bytes", row.whence.len())))?;
        let tries = Tries {
            failures: u32::try_from(row.failures)
                .map_err(|_| broken("failures", row.failures.to_string()))?,
            failed_at: Timestamp::from_microsecond(row.failed_at)
                .map_err(|_| broken("failed_at", row.failed_at.to_string()))?,
            undecided: unpacked(&row.undecided)
                .ok_or_else(|| broken("undecided", format!("{} bytes", row.undecided.len())))?,
        };
        Ok((whence, tries))
    }
}
