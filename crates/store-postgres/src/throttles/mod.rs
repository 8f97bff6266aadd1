//! What is counted of names, as rows: what is looked up, what is changed, and what a row must be.

pub(crate) mod commands;
mod queries;
mod rows;

use async_trait::async_trait;
use domain::ports::{Admittance, Change, Compared, Place, PortError, Requester, Throttle};
use domain::{
    Attempt, ClientNetwork, Counter, LoginName, Refusal, ThrottleRules, Tries, UsernameKey, Whence,
};
use futures_util::FutureExt as _;
use jiff::Timestamp;

use crate::PostgresStore;
use crate::transaction::Work;

#[async_trait]
impl Throttle for PostgresStore {
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
        let query = self.read((counted, name, network, at), |connection, (counted, name, network, at)| {
            queries::counter(connection, *counted, name.key(), *network, *at).boxed()
        });
        Ok(query.await?)
    }

    async fn admit(
        &self,
        counter: Counter,
        _: Requester,
        at: Timestamp,
        rules: ThrottleRules,
    ) -> Result<Admittance, PortError> {
        let work = self.write(
            (self.inside.audit_key.clone(), counter, at, rules),
            |connection, (key, counter, at, rules)| {
                commands::admit(connection, key, *counter, *at, *rules).boxed()
            },
        );
        Ok(work.await?)
    }

    async fn fail(
        &self,
        compared: Compared,
        refusal: Refusal,
        attempt: Option<Attempt>,
    ) -> Result<Refusal, PortError> {
        let fail: Work<(Compared, Refusal), Refusal> = |connection, (compared, refusal)| {
            async move {
                commands::fail(connection, compared).await?;
                Ok(*refusal)
            }
            .boxed()
        };
        let input = (compared, refusal);
        Ok(match attempt {
            Some(attempt) => self.make(attempt, input, fail).await?,
            None => self.write(input, fail).await?,
        })
    }

    async fn give_back(&self, place: Place) -> Result<(), PortError> {
        let work = self.write(place, |connection, place| commands::give_back(connection, place).boxed());
        Ok(work.await?)
    }

    async fn unlock(&self, name: UsernameKey, attempt: Attempt) -> Result<Change, PortError> {
        let counted = self.inside.audit_key.counted(&name);
        let work = self.make(attempt, (name, counted), |connection, (name, counted)| {
            commands::unlock(connection, name, *counted).boxed()
        });
        Ok(work.await?)
    }

    async fn tries(&self, name: UsernameKey) -> Result<Vec<(Whence, Tries)>, PortError> {
        let counted = self.inside.audit_key.counted(&name);
        Ok(self.read(counted, |connection, counted| queries::tries(connection, *counted).boxed()).await?)
    }

    async fn newest_strays_end(&self, most: u32) -> Result<Option<Timestamp>, PortError> {
        let query = self.read(most, |connection, most| queries::newest_strays_end(connection, *most).boxed());
        Ok(query.await?)
    }

    async fn remove_strays(&self, at: Timestamp, limit: u32) -> Result<usize, PortError> {
        let work = self.write((at, limit), |connection, (at, limit)| {
            commands::remove_strays(connection, *at, *limit).boxed()
        });
        Ok(work.await?)
    }
}
