//! What is counted of names, as rows: what is looked up by a reader, what is changed by the writer, and what a row must be.

pub(crate) mod commands;
mod queries;
mod rows;

use async_trait::async_trait;
use domain::ports::{Admittance, Change, Compared, Place, PortError, Requester, Throttle};
use domain::{
    Attempt, ClientNetwork, Counter, LoginName, Refusal, ThrottleRules, Tries, UsernameKey, Whence,
};
use jiff::Timestamp;

use crate::SqliteStore;
use crate::calling_thread::Connection;

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
