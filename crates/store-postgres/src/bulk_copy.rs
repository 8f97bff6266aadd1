//! All that a database keeps, at one moment; and all that another store kept, written as one change.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::data_types::PgTimestamp;
use diesel::dsl::{count_star, exists, max};
use diesel::prelude::*;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager as _};
use domain::ports::{Contents, Intake, PortError, Records, Snapshot};
use domain::{Kind, Record, UserId};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::error::StoreError;
use crate::pool::Loan;
use crate::schema::{audit_anchor, audit_events, known_networks, sessions, users};
use crate::{Inside, PostgresStore, audit, sessions as session_rows, users as user_rows};

/// How many records are read, and written by one statement, at once. PostgreSQL takes 65535 values in one.
const PAGE: u32 = 1000;

/// How often what was recorded since the last time is sealed before the view of everything is given up.
const TRIES: u32 = 5;

/// How long one step may take: an index may be large, and nobody waits for an answer but an operator.
const PATIENCE: Duration = Duration::from_secs(70);

/// How a view of everything begins. It waits for as long as what was read is compared elsewhere, which nobody can tell:
/// were it ended meanwhile, nobody could tell either whether anything changed.
const BEGIN_VIEW: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL statement_timeout = '60s'; \
     SET LOCAL idle_in_transaction_session_timeout = 0";

/// How a copy begins. It sees what others commit meanwhile, and is found to differ then.
const BEGIN_FILLING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SET LOCAL lock_timeout = '10s'; \
     SET LOCAL statement_timeout = '60s'; \
     SET LOCAL idle_in_transaction_session_timeout = '10min'";

/// What a step of a transaction is, as a task of the store's own runtime does it.
type Step<Input, Outcome> =
    for<'call> fn(&'call mut AsyncPgConnection, Input) -> BoxFuture<'call, Result<Outcome, StoreError>>;

#[async_trait]
impl Contents for PostgresStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, PortError> {
        for _ in 0..TRIES {
            // What has no place in the chain cannot be carried over. Without a server that writes, there is none
            // after this.
            self.seal().await?;
            let mut transaction = self.transaction();
            let begun = transaction
                .on((), |connection, ()| {
                    async move {
                        AnsiTransactionManager::begin_transaction_sql(&mut *connection, BEGIN_VIEW).await?;
                        if audit::bulk_copy::is_any_unsealed(connection).await? {
                            return Ok(None);
                        }
                        Ok(Some(Traces::of(connection).await?))
                    }
                    .boxed()
                })
                .await?;
            if let Some(traces) = begun {
                return Ok(Box::new(View { transaction, traces }));
            }
        }
        Err(StoreError::unavailable("servers go on writing to the database; stop them first").into())
    }

    async fn intake(&self) -> Result<Option<Box<dyn Intake>>, PortError> {
        let mut transaction = self.transaction();
        let is_empty = transaction
            .on((), |connection, ()| {
                async move {
                    AnsiTransactionManager::begin_transaction_sql(&mut *connection, BEGIN_FILLING).await?;
                    // Nobody seals anything meanwhile, so that the chain has one beginning, and nobody signs up.
                    audit::bulk_copy::lock(connection).await?;
                    user_rows::bulk_copy::stop_numbers(connection).await?;
                    is_empty(connection).await
                }
                .boxed()
            })
            .await?;
        Ok(if is_empty { Some(Box::new(Filling { transaction })) } else { None })
    }
}

/// Everything as it was when the transaction began.
struct View {
    transaction: Transaction,
    traces: Traces,
}

/// A transaction that writes everything.
struct Filling {
    transaction: Transaction,
}

/// A connection that is lent for one transaction. What fails ends the transaction, and so does whoever drops this: the
/// connection is closed, and what it did is undone.
struct Transaction {
    state: State,
    inside: Arc<Inside>,
    runtime: Handle,
    tasks: TaskTracker,
}

enum State {
    NotYet,
    Open(Box<Loan>),
    Over,
}

/// What nearly every change leaves different: the number and the newest time of accounts and sessions, and the last event.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    users: (i64, Option<PgTimestamp>),
    sessions: (i64, Option<PgTimestamp>),
    ended_sessions: i64,
    last_event: Option<i64>,
}

impl Traces {
    async fn of(connection: &mut AsyncPgConnection) -> Result<Self, StoreError> {
        let ended = sessions::table.filter(sessions::ended_at.is_not_null());
        Ok(Self {
            users: users::table.select((count_star(), max(users::updated_at))).first(connection).await?,
            sessions: sessions::table
                .select((count_star(), max(sessions::last_used_at)))
                .first(connection)
                .await?,
            ended_sessions: ended.count().get_result(connection).await?,
            last_event: audit_events::table.select(max(audit_events::id)).get_result(connection).await?,
        })
    }
}

impl PostgresStore {
    fn transaction(&self) -> Transaction {
        Transaction {
            state: State::NotYet,
            inside: self.inside.clone(),
            runtime: self.runtime.clone(),
            tasks: self.tasks.clone(),
        }
    }
}

impl Transaction {
    async fn on<Input: Send + 'static, Outcome: Send + 'static>(
        &mut self,
        input: Input,
        step: Step<Input, Outcome>,
    ) -> Result<Outcome, StoreError> {
        let state = mem::replace(&mut self.state, State::Over);
        let inside = self.inside.clone();
        let working = async move {
            let mut loan = match state {
                State::NotYet => Box::new(inside.pool.lend().await?),
                State::Open(loan) => loan,
                State::Over => return Err(StoreError::unavailable("it failed before, and was undone")),
            };
            let late = |_| StoreError::unavailable("the database did not answer in time");
            let done = timeout(PATIENCE, step(&mut loan, input)).await.map_err(late)??;
            Ok((loan, done))
        };
        let worked = self.tasks.spawn_on(working, &self.runtime).await;
        let (loan, done) = worked.unwrap_or_else(|ended| {
            Err(if ended.is_panic() { StoreError::failed(ended) } else { StoreError::unavailable(ended) })
        })?;
        self.state = State::Open(loan);
        Ok(done)
    }

    async fn count(&mut self, kind: Kind) -> Result<u64, PortError> {
        Ok(self.on(kind, |connection, kind| count(connection, kind).boxed()).await?)
    }

    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError> {
        let place = (kind, after);
        Ok(self.on(place, |connection, (kind, after)| page(connection, kind, after).boxed()).await?)
    }

    /// Returns the connection: the transaction is over.
    fn give_back(&mut self) {
        if let State::Open(loan) = mem::replace(&mut self.state, State::Over) {
            loan.give_back();
        }
    }
}

#[async_trait]
impl Records for View {
    async fn count(&mut self, kind: Kind) -> Result<u64, PortError> {
        self.transaction.count(kind).await
    }

    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError> {
        self.transaction.page(kind, after).await
    }
}

#[async_trait]
impl Snapshot for View {
    async fn end(mut self: Box<Self>) -> Result<bool, PortError> {
        let now = self.transaction.on((), |connection, ()| {
            async move {
                AnsiTransactionManager::rollback_transaction(&mut *connection).await?;
                Traces::of(connection).await
            }
            .boxed()
        });
        let changed = now.await? != self.traces;
        self.transaction.give_back();
        Ok(changed)
    }
}

#[async_trait]
impl Records for Filling {
    async fn count(&mut self, kind: Kind) -> Result<u64, PortError> {
        self.transaction.count(kind).await
    }

    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError> {
        self.transaction.page(kind, after).await
    }
}

#[async_trait]
impl Intake for Filling {
    async fn write(&mut self, records: Vec<Record>) -> Result<(), PortError> {
        Ok(self.transaction.on(records, |connection, records| fill(connection, records).boxed()).await?)
    }

    async fn commit(mut self: Box<Self>) -> Result<(), PortError> {
        let committing = self.transaction.on((), |connection, ()| {
            async move { Ok(AnsiTransactionManager::commit_transaction(&mut *connection).await?) }.boxed()
        });
        committing.await?;
        self.transaction.give_back();
        Ok(())
    }
}

async fn is_empty(connection: &mut AsyncPgConnection) -> Result<bool, StoreError> {
    let anchored = audit_anchor::table.filter(audit_anchor::number.is_not_null());
    let is_any: bool = diesel::select(
        exists(users::table.select(users::id))
            .or(exists(sessions::table.select(sessions::id)))
            .or(exists(known_networks::table.select(known_networks::user_id)))
            .or(exists(audit_events::table.select(audit_events::number)))
            .or(exists(anchored.select(audit_anchor::number))),
    )
    .get_result(connection)
    .await?;
    Ok(!is_any)
}

async fn count(connection: &mut AsyncPgConnection, kind: Kind) -> Result<u64, StoreError> {
    let count: i64 = match kind {
        Kind::Users => users::table.count().get_result(connection).await?,
        Kind::Sessions => sessions::table.count().get_result(connection).await?,
        Kind::KnownNetworks => known_networks::table.count().get_result(connection).await?,
        Kind::AuditEvents => audit_events::table.count().get_result(connection).await?,
        Kind::AuditAnchor => audit::bulk_copy::anchor(connection).await?.map_or(0, |_| 1),
        Kind::LastNumber => user_rows::bulk_copy::last_number(connection).await?.map_or(0, |_| 1),
    };
    Ok(count.unsigned_abs())
}

async fn page(
    connection: &mut AsyncPgConnection,
    kind: Kind,
    after: Option<Record>,
) -> Result<Vec<Record>, StoreError> {
    // Whatever comes first in its table is above it.
    let number = |after: Option<Record>| match after {
        Some(Record::User(account)) => account.user.id.0,
        Some(Record::AuditEvent(event)) => event.link.number,
        _ => i64::MIN,
    };
    Ok(match kind {
        Kind::Users => {
            let page = user_rows::bulk_copy::page(connection, UserId(number(after)), PAGE).await?;
            page.into_iter().map(Record::User).collect()
        }
        Kind::Sessions => {
            let after = match after {
                Some(Record::Session(kept)) => Some(kept.session.id),
                _ => None,
            };
            let page = session_rows::bulk_copy::page(connection, after, PAGE).await?;
            page.into_iter().map(Record::Session).collect()
        }
        Kind::KnownNetworks => {
            let after = match after {
                Some(Record::KnownNetwork(owner, known)) => Some((owner, known.network)),
                _ => None,
            };
            let page = session_rows::bulk_copy::page_of_networks(connection, after, PAGE).await?;
            page.into_iter().map(|(owner, known)| Record::KnownNetwork(owner, known)).collect()
        }
        Kind::AuditEvents => {
            let page = audit::bulk_copy::page(connection, number(after), PAGE).await?;
            page.into_iter().map(Record::AuditEvent).collect()
        }
        Kind::AuditAnchor | Kind::LastNumber if after.is_some() => Vec::new(),
        Kind::AuditAnchor => {
            let anchor = audit::bulk_copy::anchor(connection).await?;
            anchor.map(Record::AuditAnchor).into_iter().collect()
        }
        Kind::LastNumber => {
            let last = user_rows::bulk_copy::last_number(connection).await?;
            last.map(Record::LastNumber).into_iter().collect()
        }
    })
}

async fn fill(connection: &mut AsyncPgConnection, records: Vec<Record>) -> Result<(), StoreError> {
    let (mut users, mut sessions, mut networks, mut events) = (vec![], vec![], vec![], vec![]);
    let (mut anchor, mut last_number) = (None, None);
    for record in records {
        match record {
            Record::User(account) => users.push(account),
            Record::Session(kept) => sessions.push(kept),
            Record::KnownNetwork(owner, known) => networks.push((owner, known)),
            Record::AuditEvent(event) => events.push(event),
            Record::AuditAnchor(it) => anchor = Some(it),
            Record::LastNumber(it) => last_number = Some(it),
        }
    }
    user_rows::bulk_copy::fill(connection, users).await?;
    session_rows::bulk_copy::fill(connection, sessions).await?;
    session_rows::bulk_copy::fill_networks(connection, networks).await?;
    audit::bulk_copy::fill(connection, events).await?;
    if let Some(anchor) = anchor {
        audit::bulk_copy::set_anchor(connection, anchor).await?;
    }
    if let Some(last) = last_number {
        user_rows::bulk_copy::set_last_number(connection, last).await?;
    }
    Ok(())
}
