//! Where every change passes: a transaction, done anew when it failed for a reason of the moment.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager as _};
use futures_util::future::BoxFuture;

use crate::Inside;
use crate::error::StoreError;

/// How long a caller waits for an answer, whatever happens. A login asks twice and hashes a password for up to five
/// seconds in between, and has ten.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);

/// How often something is tried that fails for a reason of the moment.
const TRIES: u32 = 5;

/// How each transaction begins: in one message, so that it costs no round trip of its own.
///
/// The limits end with the transaction. Set for the session, they would hold for whoever is next given that session by
/// a PgBouncer in transaction mode, and as `options` of the connection it would not let them in. They are shorter
/// than our deadline, for a server must not go on with what we have given up. READ COMMITTED is said because a database
/// may have another default; every decision here rests on a row that is locked, or on one statement.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SET LOCAL lock_timeout = '2s'; \
     SET LOCAL statement_timeout = '3s'; \
     SET LOCAL idle_in_transaction_session_timeout = '4s'";

/// What is done with a connection, and what it needs for that. It may be done several times.
pub(crate) type Work<Input, Outcome> = for<'call> fn(
    &'call mut AsyncPgConnection,
    &'call Input,
) -> BoxFuture<'call, Result<Outcome, StoreError>>;

/// Why a transaction did not end well.
enum Failure {
    /// It was not committed, for a reason of the moment.
    Anew(StoreError),
    /// There is no use in trying again, or nobody knows whether it was committed.
    ForGood(StoreError),
}

impl Inside {
    /// Does `work` in a transaction, and answers when it is committed.
    pub(crate) async fn write<Input: Sync, Outcome: Send>(
        &self,
        input: &Input,
        work: Work<Input, Outcome>,
    ) -> Result<Outcome, StoreError> {
        let mut tries = 1;
        loop {
            match self.transact(input, work).await {
                Ok(outcome) => return Ok(outcome),
                Err(Failure::Anew(_)) if tries < TRIES => {
                    self.pool.doubt();
                    tries += 1;
                }
                Err(Failure::Anew(error) | Failure::ForGood(error)) => return Err(error),
            }
        }
    }

    /// Has a query answered, which is one statement and needs no transaction of its own.
    pub(crate) async fn read<Input: Sync, Outcome: Send>(
        &self,
        input: &Input,
        query: Work<Input, Outcome>,
    ) -> Result<Outcome, StoreError> {
        let mut tries = 1;
        loop {
            let mut connection = self.pool.lend().await?;
            let answer = query(&mut connection, input).await;
            connection.give_back();
            match answer {
                Err(error) if error.is_passing() && tries < TRIES => {
                    self.pool.doubt();
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn transact<Input: Sync, Outcome: Send>(
        &self,
        input: &Input,
        work: Work<Input, Outcome>,
    ) -> Result<Outcome, Failure> {
        let mut connection = self.pool.lend().await.map_err(Failure::ForGood)?;
        AnsiTransactionManager::begin_transaction_sql(&mut *connection, BEGIN).await?;
        let outcome = match work(&mut connection, input).await {
            Ok(outcome) => outcome,
            Err(error) => {
                if AnsiTransactionManager::rollback_transaction(&mut *connection).await.is_ok() {
                    connection.give_back();
                }
                return Err(error.into());
            }
        };
        match AnsiTransactionManager::commit_transaction(&mut *connection).await {
            Ok(()) => {
                connection.give_back();
                Ok(outcome)
            }
            // The one error that says that it was not.
            Err(error @ Error::DatabaseError(DatabaseErrorKind::SerializationFailure, _)) => {
                Err(Failure::Anew(error.into()))
            }
            // It may have been on disk before it failed.
            Err(error) => Err(Failure::ForGood(StoreError::unavailable(error))),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_passing() { Self::Anew(error) } else { Self::ForGood(error) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        StoreError::from(error).into()
    }
}
