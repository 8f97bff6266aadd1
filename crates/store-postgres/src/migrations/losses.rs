//! What reverting a migration would delete.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_migrations::MigrationHarness as _;

use super::{Blocking, Loss, Step};
use crate::error::OpenProblem;

/// Reverts the newest migration in a savepoint to see what it takes along, and counts that once it is back.
pub(super) fn losses(connection: &mut Blocking, newest: &Step) -> Result<Vec<Loss>, OpenProblem> {
    let mut gone = None;
    let tried = connection.transaction(|connection| {
        let before = columns(connection)?;
        connection.revert_migration(&**newest).map_err(OpenProblem::Migration)?;
        let after = columns(connection)?;
        gone = Some((&before - &after, after));
        Err::<(), OpenProblem>(diesel::result::Error::RollbackTransaction.into())
    });
    let Some((gone, after)) = gone else { return tried.map(|()| Vec::new()) };
    let stays = |table: &str| after.iter().any(|(other, _)| other == table);
    let place = |(table, column): (String, String)| {
        let column = stays(&table).then_some(column);
        (table, column)
    };
    let mut places: Vec<_> = gone.into_iter().map(place).collect();
    places.dedup();
    places
        .into_iter()
        .map(|(table, column)| {
            #[expect(clippy::disallowed_methods, reason = "the DSL knows only tables of the newest schema")]
            let count_rows = |sql: String| diesel::sql_query(sql);
            let counted = column.as_deref().map_or_else(|| "*".to_owned(), quoted);
            let count = count_rows(format!("SELECT count({counted}) AS number FROM {}", quoted(&table)));
            let Count { number } = count.get_result(connection)?;
            Ok(Loss { table, column, rows: number.try_into().unwrap_or_default() })
        })
        .collect()
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

/// A column of a table.
#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = diesel::sql_types::Text)]
    of_table: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    named: String,
}

fn columns(connection: &mut Blocking) -> QueryResult<BTreeSet<(String, String)>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the DSL has no table-valued functions and no joined catalogs"
    )]
    let columns: Vec<Column> = diesel::sql_query(
        "SELECT table_name::text AS of_table, column_name::text AS named \
         FROM information_schema.columns WHERE table_schema = current_schema()",
    )
    .load(connection)?;
    Ok(columns.into_iter().map(|Column { of_table, named }| (of_table, named)).collect())
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
