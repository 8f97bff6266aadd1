//! What a database must be and allow before it is migrated or served.

use diesel::dsl::not;
use diesel::prelude::*;

use super::Blocking;
use crate::error::OpenProblem;
use crate::schema::{
    current_schema, current_setting, has_schema_privilege, has_table_privilege, pg_tables, quote_ident,
};

/// Names are in every script, and what the server cannot convert it refuses with each sign-up anew.
pub(super) fn refuse_other_encodings(connection: &mut Blocking) -> Result<(), OpenProblem> {
    for (which, setting) in [("server's", "server_encoding"), ("client's", "client_encoding")] {
        let found: Option<String> = diesel::select(current_setting(setting, true)).get_result(connection)?;
        if let Some(found) =
            found.filter(|found| !matches!(found.as_str(), "UTF8" | "UTF-8" | "utf8" | "UNICODE"))
        {
            return Err(OpenProblem::Encoding { which, found });
        }
    }
    Ok(())
}

/// What was answered must be on disk, and a server can be told to answer before it is.
pub(super) fn refuse_asynchronous_commits(connection: &mut Blocking) -> Result<(), OpenProblem> {
    let setting = diesel::select(current_setting("synchronous_commit", true));
    let setting: Option<String> = setting.get_result(connection)?;
    if setting.as_deref() == Some("off") { Err(OpenProblem::AsynchronousCommit) } else { Ok(()) }
}

/// Migrations create tables, in the first schema of `search_path` that exists.
pub(super) fn refuse_missing_schema_rights(connection: &mut Blocking) -> Result<(), OpenProblem> {
    let rights = diesel::select((current_schema(), has_schema_privilege(current_schema(), "CREATE")));
    match rights.get_result(connection)? {
        (Some(_), Some(true)) => Ok(()),
        (Some(schema), _) => Err(OpenProblem::NoCreate(schema)),
        (None, _) => Err(OpenProblem::NoSchema),
    }
}

/// The tables that a server inserts into, updates and deletes from.
const WRITTEN: [&str; 6] =
    ["audit_erasures", "audit_events", "known_networks", "sessions", "throttles", "users"];

/// The tables may belong to another role. Those of other applications in the same schema do not matter, and neither does the
/// right to change the record of migrations.
pub(super) fn refuse_missing_table_rights(
    connection: &mut Blocking,
    rights: &[&str],
) -> Result<(), OpenProblem> {
    for right in rights {
        let name = quote_ident(pg_tables::schemaname).concat(".").concat(quote_ident(pg_tables::tablename));
        let ours = pg_tables::table
            .filter(pg_tables::schemaname.nullable().eq(current_schema()))
            .filter(pg_tables::tablename.eq_any(WRITTEN));
        let refused = ours.filter(not(has_table_privilege(name, *right)));
        let refused: Option<String> = refused.select(pg_tables::tablename).first(connection).optional()?;
        if let Some(table) = refused {
            return Err(OpenProblem::NoTableRights(table));
        }
    }
    Ok(())
}
