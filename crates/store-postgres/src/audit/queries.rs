//! What is only looked up, of what is sealed.

use diesel::prelude::*;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager as _};
use domain::ports::{AuditQuery, ListedEvent};
use domain::{Anchor, AuditKey, Inspection, Link, Seal, SealedEntry, Subject, Tampering, Username};

use super::rows::{Row, bytes};
use crate::Inside;
use crate::error::{BrokenRow, StoreError};
use crate::schema::{audit_anchor, audit_events, users};

/// How many events are looked at between two looks into the database.
const PAGE: i64 = 1000;

/// How an inspection begins: with one view of everything, so that what is removed or blanked meanwhile is not missed.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL statement_timeout = '3s'; \
     SET LOCAL idle_in_transaction_session_timeout = '4s'";

pub(super) async fn list(
    connection: &mut AsyncPgConnection,
    key: &AuditKey,
    query: &AuditQuery,
    after: i64,
    limit: u32,
) -> Result<Vec<ListedEvent>, StoreError> {
    let mut events = audit_events::table
        .left_join(users::table.on(users::id.nullable().eq(audit_events::user_id)))
        .filter(audit_events::number.gt(after))
        .order(audit_events::number)
        .limit(limit.into())
        .select((Row::as_select(), (users::username, users::username_key).nullable()))
        .into_boxed();
    if let Some(since) = query.since {
        events = events.filter(audit_events::at.ge(crate::sql_types::timestamptz(since)));
    }
    if let Some(name) = &query.name {
        // Two look-ups and not one by a join, so that both indexes serve.
        let owner: Option<i64> = users::table
            .filter(users::username_key.eq(name.as_str()))
            .select(users::id)
            .get_result(connection)
            .await
            .optional()?;
        let (_, digest) = key.subject(&Subject::Name(name.clone()));
        // Nobody has a number below 1.
        let by_number = audit_events::user_id.eq(owner.unwrap_or(0)).assume_not_null();
        events = events.filter(by_number.or(audit_events::name_digest.eq(digest).assume_not_null()));
    }
    let rows: Vec<(Row, Option<(String, String)>)> = events.load(connection).await?;
    let listed = |(row, name): (Row, Option<(String, String)>)| {
        let SealedEntry { entry, link } = row.try_into()?;
        let username = name.map(|(typed, key)| Username::from_stored(typed, key));
        Ok(ListedEvent { number: link.number, entry, username })
    };
    Ok(rows.into_iter().map(listed).collect::<Result<_, BrokenRow>>()?)
}

impl Inside {
    pub(super) async fn inspect(
        &self,
        expected: Option<Link>,
    ) -> Result<Result<Link, Tampering>, StoreError> {
        let mut connection = self.pool.lend().await?;
        self.in_time(async {
            Ok(AnsiTransactionManager::begin_transaction_sql(&mut *connection, BEGIN).await?)
        })
        .await?;
        let seen = self.look_through(&mut connection, expected).await;
        // Each look has its time, not all of them together. What went wrong closes the connection.
        let seen = seen?;
        self.in_time(async { Ok(AnsiTransactionManager::rollback_transaction(&mut *connection).await?) })
            .await?;
        connection.give_back();
        Ok(seen)
    }

    async fn look_through(
        &self,
        connection: &mut AsyncPgConnection,
        expected: Option<Link>,
    ) -> Result<Result<Link, Tampering>, StoreError> {
        let anchor = self.in_time(anchor(connection)).await?;
        let mut inspection = match Inspection::begin(&self.audit_key, anchor, expected) {
            Ok(inspection) => inspection,
            Err(tampering) => return Ok(Err(tampering)),
        };
        let mut after = 0;
        loop {
            let page = self.in_time(page(connection, after)).await?;
            if page.is_empty() {
                return Ok(inspection.end());
            }
            for row in page {
                match row.inspected(&mut inspection) {
                    Ok(link) => after = link.number,
                    Err(tampering) => return Ok(Err(tampering)),
                }
            }
        }
    }
}

async fn page(connection: &mut AsyncPgConnection, after: i64) -> Result<Vec<Row>, StoreError> {
    Ok(audit_events::table
        .filter(audit_events::number.gt(after))
        .order(audit_events::number)
        .limit(PAGE)
        .select(Row::as_select())
        .load(connection)
        .await?)
}

pub(super) async fn head(connection: &mut AsyncPgConnection) -> Result<Link, StoreError> {
    let last: Option<(Option<i64>, Option<Vec<u8>>)> = audit_events::table
        .filter(audit_events::number.is_not_null())
        .order(audit_events::number.desc())
        .select((audit_events::number, audit_events::seal))
        .first(connection)
        .await
        .optional()?;
    match last {
        Some((number, seal)) => Ok(link("audit_events", number, seal.as_deref())?),
        None => Ok(anchor(connection).await?.map_or(Link::NONE, |anchor| anchor.link)),
    }
}

pub(super) async fn anchor(connection: &mut AsyncPgConnection) -> Result<Option<Anchor>, StoreError> {
    let row: (Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>) = audit_anchor::table
        .select((audit_anchor::number, audit_anchor::seal, audit_anchor::proof))
        .first(connection)
        .await
        .optional()?
        .ok_or_else(|| StoreError::unavailable("the table audit_anchor has lost its row"))?;
    let (Some(number), seal, proof) = row else { return Ok(None) };
    let proof = proof.as_deref().and_then(bytes).ok_or_else(|| broken("audit_anchor", number, "proof"))?;
    Ok(Some(Anchor { link: link("audit_anchor", Some(number), seal.as_deref())?, proof: Seal(proof) }))
}

fn link(table: &'static str, number: Option<i64>, seal: Option<&[u8]>) -> Result<Link, BrokenRow> {
    let number = number.unwrap_or(0);
    let seal = seal.and_then(bytes).ok_or_else(|| broken(table, number, "seal"))?;
    Ok(Link { number, seal: Seal(seal) })
}

fn broken(table: &'static str, number: i64, column: &'static str) -> BrokenRow {
    BrokenRow { table, column, id: number.to_string(), found: "of another length".to_owned() }
}
