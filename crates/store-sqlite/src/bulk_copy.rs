//! All that a file keeps, at one moment; and all that another store kept, written as one change.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection as _};
use domain::ports::{Contents, Intake, PortError, Records, Snapshot};
use domain::{Kind, Record, UserId};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::calling_thread::{Connection, complete, in_place};
use crate::connection::{self, Role};
use crate::database_file::OpenFile;
use crate::error::StoreError;
use crate::schema::pragma_data_version::dsl::{data_version, pragma_data_version};
use crate::schema::{audit_anchor, audit_events, known_networks, sessions, users};
use crate::{SqliteStore, audit, sessions as session_rows, users as user_rows};

/// How many records are read, and written by one statement, at once. SQLite takes 32766 values in one.
const PAGE: u32 = 1000;

#[async_trait]
impl Contents for SqliteStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, PortError> {
        let mut connection = self.own_connection(Role::Reader);
        let seen = connection
            .on(async |connection: &mut Connection| {
                connection.batch_execute("BEGIN").await?;
                // The transaction sees what there is at its first look.
                users::table.select(users::id).first::<i64>(connection).await.optional()?;
                Ok(pragma_data_version.select(data_version).get_result(connection).await?)
            })
            .await?;
        Ok(Box::new(View { connection, seen }))
    }

    async fn intake(&self) -> Result<Option<Box<dyn Intake>>, PortError> {
        let mut connection = self.own_connection(Role::Writer);
        let is_empty = connection
            .on(async |connection: &mut Connection| {
                connection.batch_execute("BEGIN IMMEDIATE").await?;
                is_empty(connection).await
            })
            .await?;
        Ok(if is_empty { Some(Box::new(Filling { connection })) } else { None })
    }
}

/// Everything as it was when the transaction on this connection began.
struct View {
    connection: OwnConnection,
    /// What the connection then said of the commits of others.
    seen: i64,
}

/// A transaction that writes everything.
struct Filling {
    connection: OwnConnection,
}

/// A connection that is open for one transaction, and what goes on with it on the blocking side. What fails ends the
/// transaction, and so does whoever drops this: the connection is closed, and what it did is undone.
struct OwnConnection {
    state: State,
    file: Arc<OpenFile>,
    runtime: Handle,
    tasks: TaskTracker,
}

enum State {
    ToBeOpened(Role, Duration),
    Open(Connection),
    Closed,
}

impl SqliteStore {
    fn own_connection(&self, role: Role) -> OwnConnection {
        OwnConnection {
            state: State::ToBeOpened(role, self.inside.busy_timeout),
            file: self.inside.file.clone(),
            runtime: self.runtime.clone(),
            tasks: self.tasks.clone(),
        }
    }
}

impl OwnConnection {
    async fn on<T: Send + 'static>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let file = self.file.clone();
        let working = move || {
            file.still_there()?;
            let mut connection = match state {
                State::ToBeOpened(role, busy_timeout) => {
                    let opened = connection::connect(file.url(), role, busy_timeout);
                    in_place(opened.map_err(StoreError::unavailable)?)
                }
                State::Open(connection) => connection,
                State::Closed => return Err(StoreError::unavailable("it failed before, and was undone")),
            };
            file.still_there()?;
            let done = complete(work(&mut connection))?;
            Ok((connection, done))
        };
        let worked = self.tasks.spawn_blocking_on(working, &self.runtime).await;
        let (connection, done) = worked.unwrap_or_else(|ended| {
            Err(if ended.is_panic() { StoreError::failed(ended) } else { StoreError::unavailable(ended) })
        })?;
        self.state = State::Open(connection);
        Ok(done)
    }

    async fn count(&mut self, kind: Kind) -> Result<u64, PortError> {
        Ok(self.on(async move |connection: &mut Connection| count(connection, kind).await).await?)
    }

    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError> {
        Ok(self.on(async move |connection: &mut Connection| page(connection, kind, after).await).await?)
    }
}

#[async_trait]
impl Records for View {
    async fn count(&mut self, kind: Kind) -> Result<u64, PortError> {
        self.connection.count(kind).await
    }

    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError> {
        self.connection.page(kind, after).await
    }
}

#[async_trait]
impl Snapshot for View {
    async fn end(mut self: Box<Self>) -> Result<bool, PortError> {
        let seen = self.seen;
        let changed = self.connection.on(async move |connection: &mut Connection| {
            connection.batch_execute("ROLLBACK").await?;
            let version: i64 = pragma_data_version.select(data_version).get_result(connection).await?;
            Ok(version != seen)
        });
        Ok(changed.await?)
    }
}

#[async_trait]
impl Records for Filling {
    async fn count(&mut self, kind: Kind) -> Result<u64, PortError> {
        self.connection.count(kind).await
    }

    async fn page(&mut self, kind: Kind, after: Option<Record>) -> Result<Vec<Record>, PortError> {
        self.connection.page(kind, after).await
    }
}

#[async_trait]
impl Intake for Filling {
    async fn write(&mut self, records: Vec<Record>) -> Result<(), PortError> {
        Ok(self
            .connection
            .on(async move |connection: &mut Connection| fill(connection, records).await)
            .await?)
    }

    async fn commit(mut self: Box<Self>) -> Result<(), PortError> {
        Ok(self
            .connection
            .on(async move |connection: &mut Connection| Ok(connection.batch_execute("COMMIT").await?))
            .await?)
    }
}

async fn is_empty(connection: &mut Connection) -> Result<bool, StoreError> {
    let is_any: bool = diesel::select(
        exists(users::table.select(users::id))
            .or(exists(sessions::table.select(sessions::id)))
            .or(exists(known_networks::table.select(known_networks::user_id)))
            .or(exists(audit_events::table.select(audit_events::number)))
            .or(exists(audit_anchor::table.select(audit_anchor::number))),
    )
    .get_result(connection)
    .await?;
    Ok(!is_any)
}

async fn count(connection: &mut Connection, kind: Kind) -> Result<u64, StoreError> {
    let count: i64 = match kind {
        Kind::Users => users::table.count().get_result(connection).await,
        Kind::Sessions => sessions::table.count().get_result(connection).await,
        Kind::KnownNetworks => known_networks::table.count().get_result(connection).await,
        Kind::AuditEvents => audit_events::table.count().get_result(connection).await,
        Kind::AuditAnchor => audit_anchor::table.count().get_result(connection).await,
        Kind::LastNumber => Ok(user_rows::bulk_copy::last_number(connection).await?.map_or(0, |_| 1)),
    }?;
    Ok(count.unsigned_abs())
}

async fn page(
    connection: &mut Connection,
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
            audit::bulk_copy::anchor(connection).await?.map(Record::AuditAnchor).into_iter().collect()
        }
        Kind::LastNumber => {
            user_rows::bulk_copy::last_number(connection).await?.map(Record::LastNumber).into_iter().collect()
        }
    })
}

async fn fill(connection: &mut Connection, records: Vec<Record>) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests {
    use std::error::Error;

    use diesel::connection::SimpleConnection as _;
    use domain::ports::{SessionRepo as _, UserRepo as _};

    use super::*;
    use crate::testing::{Fixture, attempt, login, person};

    #[tokio::test]
    async fn a_row_that_no_code_of_ours_wrote_stops_a_copy_and_is_named() {
        for (kind, change, named) in [
            (Kind::Users, "users SET created_at = 9223372036854775807", "users with id 1 has a created_at"),
            (Kind::Sessions, "sessions SET address = 'somewhere'", "sessions with id 07070707-"),
            (
                Kind::KnownNetworks,
                "known_networks SET network = '::ffff:7f00:1'",
                "(1, ::ffff:7f00:1) has a network",
            ),
            (Kind::AuditEvents, "audit_events SET seal = x'00'", "audit_events with id 1 has a seal"),
        ] {
            let fixture = Fixture::new();
            fixture.store.insert(person("ann"), attempt()).await.unwrap();
            fixture.store.open(login(UserId(1)), attempt()).await.unwrap();
            let mut outsider = fixture.outsider();
            outsider.batch_execute("PRAGMA ignore_check_constraints = ON").unwrap();
            outsider.batch_execute(&format!("UPDATE {change}")).unwrap();

            let mut view = fixture.store.snapshot().await.unwrap();
            let error = view.page(kind, None).await.unwrap_err();

            let told = error.source().unwrap().to_string();
            assert!(told.contains(named), "{told}");
        }
    }
}
